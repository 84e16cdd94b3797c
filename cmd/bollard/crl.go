package main

import (
	"context"
	"net/http"
	"sync"
	"time"

	"bollard/ca"
)

// crlLifetime is how long a CRL is served before a new one is signed even if
// nothing was revoked through the operations.
const crlLifetime = time.Hour

// crlCache serves the csms CRL on the status listener: signed on demand,
// kept until something is revoked.
type crlCache struct {
	sign  func(ctx context.Context) ([]byte, error)
	clock func() time.Time

	mu     sync.Mutex
	der    []byte
	signed time.Time // zero: a new one is due
}

func newCRLCache(a *ca.Authority, clock func() time.Time) *crlCache {
	return &crlCache{sign: func(ctx context.Context) ([]byte, error) { return a.CRL(ctx, ca.KindCSMS) }, clock: clock}
}

// expire makes the next request sign a new CRL.
func (c *crlCache) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.signed = time.Time{}
}

func (c *crlCache) get(ctx context.Context) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.clock(); c.signed.IsZero() || now.Sub(c.signed) >= crlLifetime {
		der, err := c.sign(ctx)
		if err != nil {
			return nil, err
		}
		c.der, c.signed = der, now
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
