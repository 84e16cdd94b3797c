package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func TestCRLCache(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	signed := 0
	var fault error
	c := &crlCache{
		clock: func() time.Time { return now },
		log:   slog.New(slog.DiscardHandler),
		sign: func(ctx context.Context) ([]byte, error) {
			signed++
			if err := errors.Join(ctx.Err(), fault); err != nil {
				return nil, err
			}
			return fmt.Appendf(nil, "crl %d", signed), nil
		},
	}
	left, leave := context.WithCancel(t.Context())
	leave()
	for _, step := range []struct {
		name   string
		pass   time.Duration
		revoke bool
		fault  error
		status int
		body   string
	}{
		{"nothing to serve yet", 0, false, errors.New("disk is full"), 503, "no CRL at the moment\n"},
		{"not tried again at once", time.Second, false, nil, 503, "no CRL at the moment\n"},
		{"tried again, though the client has left", crlRetry, false, nil, 200, "crl 2"},
		{"kept", crlLifetime - time.Second, false, nil, 200, "crl 2"},
		{"renewed in time", time.Second, false, nil, 200, "crl 3"},
		{"renewed by a revocation", 0, true, nil, 200, "crl 4"},
		{"the last one while none can be signed", 0, true, errors.New("disk is full"), 200, "crl 4"},
		{"and not tried for each request", time.Second, false, nil, 200, "crl 4"},
		{"renewed when it can be", crlRetry, false, nil, 200, "crl 6"},
	} {
		now, fault = now.Add(step.pass), step.fault
		if step.revoke {
			c.expire()
		}
		w := httptest.NewRecorder()
		c.handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/csms.crl", nil).WithContext(left))
		if w.Code != step.status || w.Body.String() != step.body {
			t.Errorf("%s: %d %q", step.name, w.Code, w.Body)
		}
	}
}
