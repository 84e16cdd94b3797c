package main

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"bollard/admin"
	"bollard/gateway"
	"bollard/internal/config"
)

// A probe's findings are kept for probeAge, so that whoever asks often costs
// one write and one request now and then; probePatience bounds each.
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
		condition("status", true, s.status.Fault()),
		condition("checkpoints", true, s.witness.Fault()),
	}
	backends := *s.backends.Load()
	faults := make([]error, len(backends))
	var wait sync.WaitGroup
	for i, b := range backends {
		wait.Go(func() { faults[i] = probeBackend(ctx, s.dir, b) })
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

// probeBackend says whether a back end answers.
func probeBackend(ctx context.Context, dir string, b config.Backend) error {
	made, err := gatewayBackend(dir, b)
	if err != nil {
		return err
	}
	made.Auth = "none" // nobody's credentials go along; the TLS key, if any, does
	return gateway.Probe(ctx, made)
}
