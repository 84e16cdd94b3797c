package pace_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"bollard/internal/pace"
	"bollard/internal/testlog"
)

// A burst, then one in a while; one doesn't pay for another.
func TestLimiter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	l := pace.New(pace.Allowance{Burst: 2, Every: time.Minute}, func() time.Time { return now })
	for i, step := range []struct {
		key  string
		pass time.Duration
		want bool
	}{
		{"a", 0, true}, {"a", 0, true}, {"a", 0, false}, {"b", 0, true}, {"a", 59 * time.Second, false}, {"a", time.Second, true}, {"a", 0, false},
	} {
		now = now.Add(step.pass)
		if got := l.Allow(step.key); got != step.want {
			t.Errorf("request %d, of %s, is let through: %t", i+1, step.key, got)
		}
	}
}

// Some lines at once, then a few a second, which say how many were left out.
func TestLines(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	l := pace.NewLines(func() time.Time { return now })
	logged := 0
	for range 1000 {
		if ok, unlogged := l.Allow(); ok {
			if logged++; unlogged != 0 {
				t.Errorf("line %d says that %d were left out", logged, unlogged)
			}
		}
	}
	if logged != 50 {
		t.Errorf("%d lines at once", logged)
	}
	for _, left := range []int64{950, 0} {
		now = now.Add(100 * time.Millisecond)
		if ok, unlogged := l.Allow(); !ok || unlogged != left {
			t.Errorf("a tenth of a second later: %t, %d were left out, want %d", ok, unlogged, left)
		}
	}
}

func TestSource(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"192.0.2.1:4711":          "192.0.2.1",
		"[::ffff:192.0.2.1]:4711": "192.0.2.1",
		"[2001:db8::1]:1":         "2001:db8::/64",
		"[2001:db8::2%eth0]:1":    "2001:db8::/64",
		"nowhere":                 "",
	} {
		if got := pace.Source(&http.Request{RemoteAddr: address}); got != want {
			t.Errorf("%s counts as %q, want %q", address, got, want)
		}
	}
}

// Whoever has requests refused without end mutes no fault of the server's.
func TestLogKeepsFaultsApart(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	out := &testlog.Buffer{}
	l := pace.NewLog(slog.New(slog.NewTextHandler(out, nil)), func() time.Time { return now })
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	for range 1000 {
		l.Tell(r, slog.LevelWarn, "refused")
	}
	for range 1000 {
		l.Tell(r, slog.LevelError, "couldn't serve")
	}
	for _, text := range []string{"refused", "couldn't serve"} {
		if n := strings.Count(out.String(), text); n != 50 {
			t.Errorf("%d lines say %q, want 50", n, text)
		}
	}
}
