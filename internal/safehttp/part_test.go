package safehttp_test

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"bollard/internal/safehttp"
)

// A download goes on where it broke off only with the rest of the same file; a
// server without ranges, or with another file, begins anew, and whoever writes is
// told; a part that wasn't asked for is nobody's.
func TestGetOn(t *testing.T) {
	t.Parallel()
	image := strings.Repeat("firmware", 1000)
	const etag = `"v1"`
	honest := func(tag string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", tag)
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(image))
		}
	}
	part := func(status int, ranged, tag, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "bytes=3000-" || r.Header.Get("If-Range") != etag {
				status = http.StatusTeapot
			}
			w.Header().Set("ETag", tag)
			w.Header().Set("Content-Range", ranged)
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
			w.WriteHeader(status)
			io.WriteString(w, body)
		}
	}
	rest := image[3000:]
	for name, tt := range map[string]struct {
		answer http.HandlerFunc
		from   safehttp.Mark
		want   safehttp.Rule
		at     int64
	}{
		"the rest":             {honest(etag), safehttp.Mark{At: 3000, ETag: etag}, "", 3000},
		"another file":         {honest(`"v2"`), safehttp.Mark{At: 3000, ETag: etag}, "", 0},
		"no ranges":            {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, image) }, safehttp.Mark{At: 3000, ETag: etag}, "", 0},
		"nothing to go by":     {honest(etag), safehttp.Mark{At: 3000}, "", 0},
		"the rest, said twice": {part(206, "bytes 3000-7999/8000", etag, rest), safehttp.Mark{At: 3000, ETag: etag}, "", 3000},
		"other bytes":          {part(206, "bytes 2999-7998/8000", etag, rest), safehttp.Mark{At: 3000, ETag: etag}, safehttp.RuleRange, 0},
		"fewer than asked for": {part(206, "bytes 3000-7998/8000", etag, rest[1:]), safehttp.Mark{At: 3000, ETag: etag}, safehttp.RuleRange, 0},
		"longer than it says":  {part(206, "bytes 3000-7998/7999", etag, rest), safehttp.Mark{At: 3000, ETag: etag}, safehttp.RuleRange, 0},
		"of another file":      {part(206, "bytes 3000-7999/8000", `"v2"`, rest), safehttp.Mark{At: 3000, ETag: etag}, safehttp.RuleRange, 0},
		"of an unknown length": {part(206, "bytes 3000-7999/*", etag, rest), safehttp.Mark{At: 3000, ETag: etag}, safehttp.RuleRange, 0},
		"of a huge file":       {part(206, "bytes 3000-999999999999999999/1000000000000000000", etag, rest), safehttp.Mark{At: 3000, ETag: etag}, safehttp.RuleRange, 0},
		"backwards":            {part(206, "bytes 3000-2999/3000", etag, ""), safehttp.Mark{At: 3000, ETag: etag}, safehttp.RuleRange, 0},
		"too large with it":    {part(206, "bytes 3000-8000/8001", etag, rest+"x"), safehttp.Mark{At: 3000, ETag: etag}, safehttp.RuleSize, 0},
		"not satisfiable":      {part(416, "bytes */10", etag, "no"), safehttp.Mark{At: 3000, ETag: etag}, safehttp.RuleHTTP, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, url := serve(t, tt.answer)
			cfg.MaxBytes = int64(len(image))
			got := bytes.NewBufferString(image[:3000])
			began := int64(-1)
			broken := rule(t, newClient(t, cfg).GetOn(t.Context(), url, tt.from, func(at safehttp.Mark, size int64) (io.Writer, error) {
				if began = at.At; at.At == 0 {
					got.Reset()
				}
				if size != int64(len(image)) && size != -1 {
					t.Errorf("said to have %d bytes", size)
				}
				return got, nil
			}))
			switch {
			case broken != tt.want:
				t.Errorf("rule %q, want %q", broken, tt.want)
			case tt.want == "" && (began != tt.at || got.String() != image):
				t.Errorf("began at %d, %d bytes", began, got.Len())
			case tt.want != "" && began >= 0:
				t.Errorf("a writer was asked for at %d", began)
			}
		})
	}
}
