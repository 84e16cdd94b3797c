package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"bollard/admin"
	"bollard/internal/config"
)

// A probe's findings are kept for probeAge, so that whoever asks often costs
// one write and one dial now and then; probePatience bounds each.
const (
	probeAge      = 5 * time.Second
	probePatience = 2 * time.Second
)

// readiness looks at what a server needs.
type readiness struct {
	look func(ctx context.Context) []admin.Condition

	mu   sync.Mutex
	seen []admin.Condition
	at   time.Time
}

func (r *readiness) conditions(ctx context.Context) []admin.Condition {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen == nil || time.Since(r.at) >= probeAge {
		// The asker may leave, the findings are for the next one too.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probePatience)
		defer cancel()
		r.seen, r.at = r.look(ctx), time.Now()
	}
	return r.seen
}

// monitor's server is ready until serving ends.
func (s *server) monitor(serving context.Context) http.Handler {
	r := &readiness{look: func(ctx context.Context) []admin.Condition {
		return append([]admin.Condition{condition("listeners", false, serving.Err())}, s.probe(ctx)...)
	}}
	return admin.Monitor{Ready: r.conditions, Metrics: s.metrics}.Handler()
}

func (s *server) probe(ctx context.Context) []admin.Condition {
	_, _, unreadable := s.store.Secret(ctx, "probe")
	list := []admin.Condition{
		condition("store", false, unreadable), // without the records nobody is let in
		// Without these, sessions and logins go on; nothing is issued.
		condition("recording", true, s.store.SetSecret(ctx, "probe", []byte{1})), // a real write: a full disk is seen
		condition("signer", true, s.authority.CheckKeys(ctx)),
		condition("clock", true, s.authority.CheckClock(ctx)),
	}
	backends := *s.backends.Load()
	faults := make([]error, len(backends))
	var wait sync.WaitGroup
	for i, b := range backends {
		wait.Go(func() { faults[i] = dialBackend(ctx, b) })
	}
	wait.Wait()
	for i, err := range faults {
		list = append(list, condition("backend "+backendName(backends[i], i), true, err))
	}
	return list
}

func condition(name string, info bool, err error) admin.Condition {
	c := admin.Condition{Name: name, OK: err == nil, Info: info}
	if err != nil {
		c.Text = err.Error()
	}
	return c
}

func backendName(b config.Backend, i int) string {
	if b.Name != "" {
		return b.Name
	}
	return fmt.Sprintf("backends[%d]", i)
}

// dialBackend says whether a back end's port can be reached; no more, since a
// handshake would need a station's identity.
func dialBackend(ctx context.Context, b config.Backend) error {
	u, err := url.Parse(b.URL)
	if err != nil {
		return fmt.Errorf("couldn't read the URL: %w", err)
	}
	port := u.Port()
	switch {
	case port != "":
	case u.Scheme == "wss":
		port = "443"
	default:
		port = "80"
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return err
	}
	_ = conn.Close() // it was only to see whether somebody listens
	return nil
}
