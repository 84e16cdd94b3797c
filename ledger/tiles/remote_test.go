package tiles_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"bollard/internal/safehttp"
	"bollard/ledger"
	"bollard/ledger/tiles"
)

const token = "0123456789abcdef"

// remote is a log behind HTTP, with what the server has in its way.
func remote(t *testing.T, dir, token string, key note.Verifier, bend func(http.Handler) http.Handler) *tiles.Remote {
	t.Helper()
	h, err := tiles.Receiver(tiles.ReceiverConfig{Dir: dir, Token: "0123456789abcdef", Size: 7, Open: func(ctx context.Context) (*tiles.Log, error) {
		s, v := keyOf(t, 1, origin)
		return tiles.Open(ctx, dir, s, v)
	}})
	must(t, err)
	server := httptest.NewServer(bend(h))
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	must(t, err)
	port, err := strconv.Atoi(u.Port())
	must(t, err)
	client, err := safehttp.New(safehttp.Config{Schemes: []string{"http"}, Hosts: []string{"127.0.0.1"}, Ports: []int{port}, AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, MaxBytes: 1 << 20})
	must(t, err)
	r, err := tiles.NewRemote(tiles.RemoteConfig{URL: server.URL + "/", Token: token, Key: key, Client: client})
	must(t, err)
	return r
}

func straight(h http.Handler) http.Handler { return h }

// What is appended over HTTP is in the log, by the log's own word, and who has no token
// appends nothing.
func TestRemoteAppends(t *testing.T) {
	t.Parallel()
	dir := newLog(t)
	grow(t, dir, 0, 3)
	_, key := keyOf(t, 1, origin)
	r := remote(t, dir, token, key, straight)
	for i := 3; i < 6; i++ {
		p, err := r.Append(t.Context(), entry(i))
		must(t, err)
		must(t, p.Check(tlog.RecordHash(entry(i))))
		if p.Index != uint64(i) || !p.Note.SignedBy(key) {
			t.Errorf("%+v", p)
		}
	}
	// Its tree is read over HTTP, too, and shows that it continues what was there.
	p, err := r.Append(t.Context(), entry(6))
	must(t, err)
	growth, err := ledger.ProveGrowth(4, p.Note, r.Hashes(t.Context()))
	if err != nil || !strings.Contains(growth.String(), "old 4") {
		t.Errorf("%v, %v", growth, err)
	}
	for name, f := range map[string]func() *tiles.Remote{
		"another token": func() *tiles.Remote { return remote(t, dir, "fedcba9876543210", key, straight) },
		"another key": func() *tiles.Remote {
			_, other := keyOf(t, 2, origin)
			return remote(t, dir, token, other, straight)
		},
		"another log": func() *tiles.Remote {
			_, other := keyOf(t, 1, "other.example/log")
			return remote(t, dir, token, other, straight)
		},
		"an older proof": func() *tiles.Remote {
			old := grow(t, newLog(t), 0, 2)[1]
			return remote(t, dir, token, key, func(http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, old.String()) })
			})
		},
		"nonsense": func() *tiles.Remote {
			return remote(t, dir, token, key, func(http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "x") })
			})
		},
	} {
		if p, err := f().Append(t.Context(), entry(9)); err == nil {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

// Nothing is taken but one whole entry, posted by who has the token.
func TestReceiverRefuses(t *testing.T) {
	t.Parallel()
	dir := newLog(t)
	h, err := tiles.Receiver(tiles.ReceiverConfig{Dir: dir, Token: token, Size: 7, Open: func(context.Context) (*tiles.Log, error) { return open(t, dir), nil }})
	must(t, err)
	for name, tt := range map[string]struct {
		method, path, authorization, body string
		want                              int
	}{
		"good":            {"POST", "/add", "Bearer " + token, "entry 1", 200},
		"no token":        {"POST", "/add", "", "entry 1", 401},
		"an empty one":    {"POST", "/add", "Bearer ", "entry 1", 401},
		"no bearer":       {"POST", "/add", token, "entry 1", 401},
		"the beginning":   {"POST", "/add", "Bearer " + token[:15], "entry 1", 401},
		"short":           {"POST", "/add", "Bearer " + token, "entry", 400},
		"long":            {"POST", "/add", "Bearer " + token, "entry 12", 400},
		"read":            {"GET", "/add", "Bearer " + token, "", 405},
		"another place":   {"POST", "/checkpoint", "Bearer " + token, "entry 1", 405},
		"what is public":  {"GET", "/checkpoint", "", "", 200},
		"what is nothing": {"GET", "/secret", "", "", 404},
	} {
		r := httptest.NewRequestWithContext(t.Context(), tt.method, "http://log"+tt.path, strings.NewReader(tt.body))
		if tt.authorization != "" {
			r.Header.Set("Authorization", tt.authorization)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != tt.want {
			t.Errorf("%s: %d %s, want %d", name, w.Code, w.Body, tt.want)
		}
	}
	if l := open(t, dir); l.Close() != nil || len(grow(t, dir, 0, 1)) != 1 {
		t.Error("the log can't be opened any more")
	}
	for name, cfg := range map[string]tiles.ReceiverConfig{"a short token": {Token: "x", Size: 7}, "no size": {Token: token}} {
		cfg.Open = func(context.Context) (*tiles.Log, error) { return open(t, dir), nil }
		if _, err := tiles.Receiver(cfg); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}
