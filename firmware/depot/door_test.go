package depot_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"bollard/firmware/depot"
	"bollard/internal/ticket"
)

// rig is a door with one image behind a server.
type rig struct {
	*depot.Door
	t      *testing.T
	image  []byte
	server *httptest.Server

	mu     sync.Mutex
	now    time.Time
	over   bool
	opened func() // as Open says yes
	served []depot.Span
}

func newRig(t *testing.T, change func(*depot.DoorConfig)) *rig {
	t.Helper()
	r := &rig{t: t, now: time.Unix(1780315200, 0), image: bytes.Repeat([]byte("0123456789"), 20_000)}
	d := open(t, depot.Config{})
	if _, err := d.Add(t.Context(), depot.Image{}, from(r.image)); err != nil {
		t.Fatal(err)
	}
	keeper, err := ticket.New(bytes.Repeat([]byte{7}, ticket.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	r.server = httptest.NewUnstartedServer(nil)
	cfg := depot.DoorConfig{
		Depot: d, Base: "http://" + r.server.Listener.Addr().String(), Tickets: keeper,
		Open: func(context.Context, depot.Grant) bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.opened != nil {
				r.opened()
			}
			return !r.over
		},
		Served: func(_ context.Context, g depot.Grant, s depot.Span) {
			r.mu.Lock()
			defer r.mu.Unlock()
			if g.Station != "cs-1" || g.Job != 7 {
				t.Errorf("served to %+v", g)
			}
			r.served = append(r.served, s)
		},
		Clock: func() time.Time { r.mu.Lock(); defer r.mu.Unlock(); return r.now },
	}
	if change != nil {
		change(&cfg)
	}
	if r.Door, err = depot.NewDoor(cfg); err != nil {
		t.Fatal(err)
	}
	r.server.Config.Handler, r.server.Config.ConnContext = r.Door, depot.Gathers
	r.server.Listener = depot.Gather(r.server.Listener)
	r.server.Start()
	t.Cleanup(r.server.Close)
	return r
}

func (r *rig) url() string {
	r.t.Helper()
	u, err := r.URL(depot.Grant{Station: "cs-1", Job: 7, SHA256: sum(r.image), Expires: r.now.Add(time.Hour)}, "image.bin")
	if err != nil {
		r.t.Fatal(err)
	}
	return u
}

func (r *rig) do(method, url string, header ...string) (*http.Response, []byte) {
	r.t.Helper()
	request, err := http.NewRequestWithContext(r.t.Context(), method, url, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	request.Header.Set("Accept-Encoding", "gzip")
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	answer, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		r.t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return answer, body
}

func TestDownload(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	url, size := r.url(), int64(len(r.image))
	if len(url) > 512 || strings.Trim(url[len("http://"):], "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.:/") != "" {
		t.Errorf("URL %q", url)
	}
	etag := `"` + sum(r.image) + `"`
	raw := sha256.Sum256(r.image)
	for name, tt := range map[string]struct {
		method string
		header []string
		status int
		from   int64
		to     int64 // of the body
		ranged string
	}{
		"whole":             {"GET", nil, 200, 0, size, ""},
		"head":              {"HEAD", nil, 200, 0, 0, ""},
		"the first bytes":   {"GET", []string{"Range", "bytes=0-9"}, 206, 0, 10, "bytes 0-9/200000"},
		"resume":            {"GET", []string{"Range", "bytes=150000-"}, 206, 150000, size, "bytes 150000-199999/200000"},
		"the last bytes":    {"GET", []string{"Range", "bytes=-10"}, 206, size - 10, size, "bytes 199990-199999/200000"},
		"if it is the same": {"GET", []string{"Range", "bytes=150000-", "If-Range", etag}, 206, 150000, size, "bytes 150000-199999/200000"},
		"if it was another": {"GET", []string{"Range", "bytes=150000-", "If-Range", `"other"`}, 200, 0, size, ""},
		"weakly the same":   {"GET", []string{"Range", "bytes=150000-", "If-Range", "W/" + etag}, 200, 0, size, ""},
		"two ranges":        {"GET", []string{"Range", "bytes=0-9,20-29"}, 200, 0, size, ""},
		"behind the end":    {"GET", []string{"Range", "bytes=200000-"}, 416, 0, 0, "bytes */200000"},
		"head of a range":   {"HEAD", []string{"Range", "bytes=0-9"}, 206, 0, 0, "bytes 0-9/200000"},
	} {
		answer, body := r.do(tt.method, url, tt.header...)
		h := answer.Header
		if answer.StatusCode != tt.status || h.Get("Content-Range") != tt.ranged || h.Get("Content-Encoding") != "" {
			t.Errorf("%s: status %d, %v", name, answer.StatusCode, h)
		}
		if tt.status == http.StatusRequestedRangeNotSatisfiable {
			if len(body) > 64 {
				t.Errorf("%s: %q", name, body)
			}
			continue
		}
		if !bytes.Equal(body, r.image[tt.from:tt.to]) || tt.method == "GET" && answer.ContentLength != tt.to-tt.from {
			t.Errorf("%s: %d bytes, said %d", name, len(body), answer.ContentLength)
		}
		if h.Get("ETag") != etag || h.Get("Accept-Ranges") != "bytes" || h.Get("Repr-Digest") != "sha-256=:"+base64.StdEncoding.EncodeToString(raw[:])+":" {
			t.Errorf("%s: %v", name, h)
		}
	}
}

// A capability is for one station, one image, one time; whoever hasn't one gets an
// error that is small enough not to pass for firmware, and never a redirect.
func TestCapability(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	good := r.url()
	ticketAt := strings.Index(good, sum(r.image)) + 65
	flip := func(i int) string {
		c := byte('A')
		if good[i] == c {
			c = 'B'
		}
		return good[:i] + string(c) + good[i+1:]
	}
	for name, url := range map[string]string{
		"changed":        flip(ticketAt + 30),
		"another digest": strings.Replace(good, sum(r.image), sum([]byte("other")), 1),
		"cut":            good[:ticketAt+40],
		"none":           good[:ticketAt],
		"nothing":        r.server.URL + depot.Path,
		"twice a slash":  strings.Replace(good, "/d/", "//d/", 1),
		"dots":           r.server.URL + depot.Path + "../" + depot.Path,
	} {
		if answer, body := r.do("GET", url); answer.StatusCode != http.StatusNotFound || len(body) > 32 {
			t.Errorf("%s: status %d, %d bytes", name, answer.StatusCode, len(body))
		}
	}
	for _, method := range []string{"PUT", "POST", "DELETE"} {
		if answer, body := r.do(method, good); answer.StatusCode != http.StatusMethodNotAllowed || len(body) > 32 {
			t.Errorf("%s: status %d, %q", method, answer.StatusCode, body)
		}
	}
	if answer, _ := r.do("GET", good, "Range", "bytes=0-0"); answer.StatusCode != http.StatusPartialContent {
		t.Errorf("the good one: status %d", answer.StatusCode)
	}
	r.mu.Lock()
	r.over = true
	r.mu.Unlock()
	if answer, body := r.do("GET", good); answer.StatusCode != http.StatusGone || len(body) > 32 {
		t.Errorf("after the job's end: status %d", answer.StatusCode)
	}
	r.mu.Lock()
	r.over, r.now = false, r.now.Add(time.Hour)
	r.mu.Unlock()
	if answer, _ := r.do("GET", good); answer.StatusCode != http.StatusNotFound {
		t.Errorf("too late: status %d", answer.StatusCode)
	}
}

// What was handed out is known to the byte, and no more than that is believed.
func TestServedBytes(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *depot.DoorConfig) { c.Uses = 2 })
	url := r.url()
	if got := r.Door.Served(7); got != (depot.Served{}) {
		t.Errorf("before: %+v", got)
	}
	r.do("HEAD", url)
	r.do("GET", url, "Range", "bytes=100000-149999")
	r.do("GET", url, "Range", "bytes=0-99998")
	if got := r.Door.Served(7); got.Whole || got.Bytes != 149999 || !got.Last.Equal(r.now) {
		t.Errorf("in part: %+v", got)
	}
	r.do("GET", url, "Range", "bytes=150000-199999")
	if got := r.Door.Served(7); got.Whole {
		t.Error("one byte is missing")
	}
	r.do("GET", url, "Range", "bytes=99990-100010")
	if got := r.Door.Served(7); !got.Whole || got.Bytes != 200020 {
		t.Errorf("all: %+v", got)
	}
	r.do("GET", url, "Range", "bytes=0-199979")
	if answer, body := r.do("GET", url); answer.StatusCode != http.StatusForbidden || len(body) > 32 {
		t.Errorf("once more than may be: status %d", answer.StatusCode)
	}
	r.server.Close() // every handler has ended
	r.mu.Lock()
	// The few bytes more are told together with the next ones.
	if len(r.served) != 4 || r.served[0] != (depot.Span{From: 100000, To: 150000, Bytes: 50000, Requests: 1, At: r.now}) ||
		r.served[3] != (depot.Span{From: 0, To: 199980, Bytes: 200001, Requests: 2, At: r.now}) {
		t.Errorf("noted: %+v", r.served)
	}
	r.mu.Unlock()
	r.Forget(7)
	if got := r.Door.Served(7); got.Bytes != 0 {
		t.Errorf("after it was forgotten: %+v", got)
	}
}

// Whoever asks for single bytes floods nothing: what it took is told now and then,
// to the byte, what is kept of it is bounded, and it is turned away in the end.
func TestSmallRanges(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *depot.DoorConfig) { c.Uses = 2 })
	ctx, stop := context.WithCancel(t.Context())
	stopped := make(chan struct{})
	go func() { r.Run(ctx); close(stopped) }()
	at := r.url()
	get := func(from int) int {
		request := httptest.NewRequest(http.MethodGet, at, nil)
		request.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, from))
		answer := httptest.NewRecorder()
		r.ServeHTTP(answer, request)
		return answer.Code
	}
	taken := 0
	for get(taken) == http.StatusPartialContent {
		taken++
	}
	if taken != 2*(32+200_000/4096) {
		t.Errorf("%d single bytes were handed out", taken)
	}
	r.mu.Lock()
	early := len(r.served)
	r.now = r.now.Add(time.Minute)
	r.mu.Unlock()
	if early != 1 {
		t.Errorf("%d entries within a minute", early)
	}
	stop()
	<-stopped
	r.mu.Lock()
	defer r.mu.Unlock()
	sum := int64(0)
	for _, s := range r.served {
		sum += s.Bytes
	}
	if len(r.served) != 2 || sum != int64(taken) || r.Door.Served(7).Bytes != sum || r.served[1].From != 1 || r.served[1].To != int64(taken) || r.served[1].Requests != taken-1 {
		t.Errorf("noted %+v of %d bytes", r.served, taken)
	}

	gaps := newRig(t, func(c *depot.DoorConfig) { c.Uses = 100 })
	at, taken = gaps.url(), 0
	r = gaps
	for get(2*taken) == http.StatusPartialContent {
		taken++
	}
	if taken != 1000 {
		t.Errorf("%d bytes with gaps between them were handed out", taken)
	}
	gaps.Forget(7) // what wasn't told is, once the job is over
	done, cancel := context.WithCancel(t.Context())
	cancel()
	gaps.Run(done)
	if n := len(gaps.served); n != 2 || gaps.served[1].Bytes != 999 {
		t.Errorf("noted %+v", gaps.served)
	}
}

// Who ends a job ends its downloads: one that runs breaks off, and one that was let
// in at that moment hands out nothing.
func TestEndedDownload(t *testing.T) { // promise 10
	t.Parallel()
	r := newRig(t, func(c *depot.DoorConfig) { c.PerStation = 100_000 })
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url(), nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if _, err := io.ReadFull(answer.Body, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	r.Forget(7)
	if rest, err := io.ReadAll(answer.Body); err == nil || len(rest) >= len(r.image)-1000 {
		t.Errorf("%d bytes more after the end: %v", len(rest), err)
	}

	late := newRig(t, nil)
	late.opened = func() { late.Forget(7) }
	request.URL, err = url.Parse(late.url())
	if err != nil {
		t.Fatal(err)
	}
	answer, err = http.DefaultTransport.RoundTrip(request)
	if err == nil {
		defer answer.Body.Close()
		if body, err := io.ReadAll(answer.Body); err == nil || len(body) > 0 {
			t.Errorf("%d bytes after the end: %v", len(body), err)
		}
	}
}

// One station gets no more than its rate. The time is real: the limit is the
// connection's.
func TestBandwidth(t *testing.T) {
	t.Parallel()
	for name, limit := range map[string]func(*depot.DoorConfig){
		"total":   func(c *depot.DoorConfig) { c.Total = 400_000 },
		"station": func(c *depot.DoorConfig) { c.PerStation = 400_000 },
		"site": func(c *depot.DoorConfig) {
			c.PerSite = 400_000
			c.Site = func(context.Context, string) string { return "yard" }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, limit)
			start := time.Now()
			if _, body := r.do("GET", r.url()); len(body) != len(r.image) {
				t.Errorf("%d bytes", len(body))
			}
			// 200,000 bytes less the first piece, at 400,000 a second.
			if took := time.Since(start); took < 350*time.Millisecond {
				t.Errorf("it took %s", took)
			}
		})
	}
	r := newRig(t, func(c *depot.DoorConfig) { c.PerSite = 1; c.Site = func(context.Context, string) string { return "" } })
	if _, body := r.do("GET", r.url()); len(body) != len(r.image) {
		t.Error("a station without a site is limited as one")
	}
}

func TestURLHoldsNothingElse(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *depot.DoorConfig) { c.Base = "https://fw.example.com/" })
	good := depot.Grant{Station: "cs-1", SHA256: sum(r.image)}
	at, err := r.URL(good, "x.bin")
	if err != nil {
		t.Fatal(err)
	}
	if digest, ok := r.Digest(at); !ok || digest != good.SHA256 {
		t.Errorf("%q, %v of %s", digest, ok, at)
	}
	for _, other := range []string{"https://fw.example.com.evil.example/d/" + good.SHA256, "https://fw.example.com/uploads/" + good.SHA256, "https://fw.example.com/d/" + good.SHA256[1:], ""} {
		if digest, ok := r.Digest(other); ok {
			t.Errorf("%q: %s", other, digest)
		}
	}
	for name, bad := range map[string]struct {
		g    depot.Grant
		name string
	}{
		"option":   {good, "-o"},
		"shell":    {good, "a;b"},
		"path":     {good, "../x"},
		"digest":   {depot.Grant{Station: "cs-1", SHA256: "x"}, "x.bin"},
		"too long": {depot.Grant{Station: strings.Repeat("s", 200), SHA256: good.SHA256}, strings.Repeat("n", 100)},
		"station":  {depot.Grant{Station: strings.Repeat("s", 201), SHA256: good.SHA256}, "x.bin"},
	} {
		if got, err := r.URL(bad.g, bad.name); err == nil && len(got) > 512 || err == nil && name != "too long" {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// Where nothing else is said a station may take its image eight times over.
func TestAnImageIsTakenEightTimes(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	url := r.url()
	for n := range 8 {
		if answer, _ := r.do("GET", url); answer.StatusCode != http.StatusOK {
			t.Fatalf("time %d: status %d", n+1, answer.StatusCode)
		}
	}
	if answer, _ := r.do("GET", url); answer.StatusCode != http.StatusForbidden {
		t.Errorf("once more: status %d", answer.StatusCode)
	}
}
