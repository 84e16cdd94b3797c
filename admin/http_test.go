package admin_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bollard/admin"
)

func monitor(conditions ...admin.Condition) http.Handler {
	metrics := prometheus.NewRegistry()
	count := prometheus.NewCounter(prometheus.CounterOpts{Name: "bollard_canary_total", Help: "x"})
	metrics.MustRegister(count)
	return admin.Monitor{
		Ready:   func(context.Context) []admin.Condition { return conditions },
		Metrics: metrics,
	}.Handler()
}

func TestMonitor(t *testing.T) {
	t.Parallel()
	good := admin.Condition{Name: "store", OK: true}
	bad := admin.Condition{Name: "signer", Text: "no key"}
	away := admin.Condition{Name: "backend", Info: true, Text: "connection refused"}
	for name, tt := range map[string]struct {
		conditions   []admin.Condition
		method, path string
		origin       string
		status       int
		body         string
	}{
		"alive":                       {[]admin.Condition{bad}, "GET", "/healthz", "", 200, "ok"},
		"ready":                       {[]admin.Condition{good}, "GET", "/readyz", "", 200, `"ready":true,"degraded":false`},
		"not ready":                   {[]admin.Condition{good, bad}, "GET", "/readyz", "", 503, `"ready":false,"degraded":true`},
		"the fault is named":          {[]admin.Condition{good, bad}, "GET", "/readyz", "", 503, `no key`},
		"degraded":                    {[]admin.Condition{good, away}, "GET", "/readyz", "", 200, `"ready":true,"degraded":true`},
		"a lost back end is no fault": {[]admin.Condition{good, away}, "GET", "/readyz", "", 200, `connection refused`},
		"metrics":                     {nil, "GET", "/metrics", "", 200, "bollard_canary_total"},
		"own origin":                  {nil, "GET", "/healthz", "http://example.com", 200, "ok"},
		"foreign origin":              {nil, "GET", "/metrics", "http://evil.example", 403, "origin"},
		"no operations over TCP":      {nil, "POST", "/v1/station.list", "", 404, ""},
		"no profiler":                 {nil, "GET", "/debug/pprof/", "", 404, ""},
		"only reading":                {nil, "POST", "/healthz", "", 405, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(tt.method, "http://example.com"+tt.path, nil)
			if tt.origin != "" {
				r.Header.Set("Origin", tt.origin)
			}
			w := httptest.NewRecorder()
			monitor(tt.conditions...).ServeHTTP(w, r)
			if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.body) {
				t.Errorf("got %d %s", w.Code, w.Body)
			}
		})
	}
}

func TestServeHTTPEndsWithItsContext(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- admin.ServeHTTP(ctx, l, monitor(admin.Condition{Name: "a", OK: true}), time.Second, slog.New(slog.DiscardHandler))
	}()
	resp, err := http.Get("http://" + l.Addr().String() + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil || !json.Valid(raw) {
		t.Errorf("got %s, %v", raw, err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("the listener is still open")
	}
}

// One source can't have all connections of the listener.
func TestServeHTTPBoundsASource(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- admin.ServeHTTP(ctx, l, monitor(), time.Second, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	refused := 0
	for range 300 {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if n, _ := conn.Read(make([]byte, 64)); n == 0 {
			refused++
		}
	}
	if refused != 300-256 {
		t.Errorf("%d of 300 connections were refused", refused)
	}
}
