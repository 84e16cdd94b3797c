package main

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"bollard/ca"
)

const (
	// crlLifetime is how long a CRL is served before a new one is signed even
	// if nothing was revoked through the operations.
	crlLifetime = time.Hour
	// crlRetry is how long a failed signing isn't repeated, whoever asks.
	crlRetry = 10 * time.Second
)

// crlCache serves the csms CRL on the status listener: signed on demand, kept
// until something is revoked. While none can be signed (a full disk, a wrong
// clock) the last one is served: it says itself until when it holds.
type crlCache struct {
	sign  func(ctx context.Context) ([]byte, error)
	clock func() time.Time
	log   *slog.Logger

	mu    sync.Mutex
	der   []byte // nil: none was signed yet
	due   time.Time
	fault error // of the last signing, if it failed
}

func newCRLCache(a *ca.Authority, clock func() time.Time, log *slog.Logger) *crlCache {
	return &crlCache{sign: func(ctx context.Context) ([]byte, error) { return a.CRL(ctx, ca.KindCSMS) }, clock: clock, log: log}
}

// expire makes the next request sign a new CRL.
func (c *crlCache) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.due = time.Time{}
}

func (c *crlCache) get(ctx context.Context) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.clock(); !now.Before(c.due) {
		// A client that leaves must not keep the list from being renewed.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), crlRetry)
		defer cancel()
		der, err := c.sign(ctx)
		if c.fault = err; err == nil {
			c.der, c.due = der, now.Add(crlLifetime)
		} else {
			c.due = now.Add(crlRetry)
			c.log.Error("couldn't sign the CRL: the last one is served", "err", err)
		}
	}
	if c.der == nil {
		return nil, c.fault
	}
	return c.der, nil
}

// handler serves GET /csms.crl (RFC 5280 §4.2.1.13, RFC 2585 §4.2).
func (c *crlCache) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /csms.crl", func(w http.ResponseWriter, r *http.Request) {
		der, err := c.get(r.Context())
		if err != nil {
			http.Error(w, "no CRL at the moment", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/pkix-crl")
		w.Header().Set("Cache-Control", "max-age=300")
		_, _ = w.Write(der) // a peer that left has no use for an error
	})
	return mux
}
