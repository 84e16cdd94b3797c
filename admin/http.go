package admin

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"bollard/internal/crowd"
)

// Condition is one thing looked at by the readiness probe.
type Condition struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	// Info conditions only make the server degraded: a load balancer must not
	// take Bollard away, whose sessions go on, because the back end is down or
	// nothing can be issued or recorded.
	Info bool   `json:"info,omitempty"`
	Text string `json:"text,omitempty"`
}

// Monitor is what the admin listener shows.
type Monitor struct {
	// Ready looks at everything that matters; it bounds its own cost.
	Ready   func(ctx context.Context) []Condition
	Metrics prometheus.Gatherer
}

// Handler serves /healthz, /readyz and /metrics. Operations are on the unix
// socket only.
func (m Monitor) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("ok\n"))
	})
	mux.HandleFunc("GET /readyz", m.ready)
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.Metrics, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	return refuseForeignOrigin(mux)
}

func (m Monitor) ready(w http.ResponseWriter, r *http.Request) {
	conditions := m.Ready(r.Context())
	body := struct {
		Ready      bool        `json:"ready"`
		Degraded   bool        `json:"degraded"` // something impaired, named below; stations are served if ready
		Conditions []Condition `json:"conditions"`
	}{true, false, conditions}
	for _, c := range conditions {
		body.Degraded = body.Degraded || !c.OK
		if !c.OK && !c.Info {
			body.Ready = false
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if !body.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(body) // a prober that left has no use for an error
}

// refuseForeignOrigin keeps web pages of other sites from reading through an
// operator's browser.
func refuseForeignOrigin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if origin := r.Header.Get("Origin"); origin != "" && origin != "http://"+r.Host {
			http.Error(w, "foreign origin", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Open connections of a plain HTTP surface: of one source address, behind which
// a whole private network may be, and of all together.
const (
	maxOpenPerSource = 256
	maxOpen          = 1024
)

// ServeHTTP serves a small plain HTTP surface until ctx ends, then waits at
// most the drain time for running requests. Connections beyond what it serves
// at once are closed.
func ServeHTTP(ctx context.Context, l net.Listener, h http.Handler, drain time.Duration, log *slog.Logger) error {
	return serveHTTP(ctx, &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}, crowd.Limit(l, maxOpenPerSource, maxOpen), drain)
}
