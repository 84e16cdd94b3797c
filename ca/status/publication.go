package status

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"bollard/ca"
)

// publication is what is served of one CA: its certificate and its newest
// revocation list.
type publication struct {
	name        string
	number      uint16 // of the CA, in place of its name
	kind        ca.Kind
	issuing     bool
	certificate atomic.Pointer[x509.Certificate]
	revocations atomic.Uint64 // how many there were, to see whether the list knows them

	mu    sync.Mutex
	der   []byte
	this  time.Time
	next  time.Time
	asked time.Time // when it was last made, or fetched from a PKI mount
	known uint64    // revocations before the list was begun
	retry time.Time // not before, after a failure
}

// expire makes the next list a new one.
func (p *publication) expire() { p.revocations.Add(1) }

// list returns the revocation list and until when it may be relied on. While
// it can't be signed, the one before is served until its nextUpdate.
func (s *Server) list(ctx context.Context, p *publication, now time.Time) ([]byte, time.Time, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	revocations := p.revocations.Load()
	// A mount's list may be older than one made here gets, and is asked for all the same.
	fresh := now.Before(p.this.Add(refreshAfter)) || now.Before(p.asked.Add(askAgain)) && now.Before(p.next)
	if p.der != nil && p.known == revocations && fresh {
		return p.der, p.next, nil
	}
	var err error
	if now.Before(p.retry) {
		err = fmt.Errorf("the revocation list of %s can't be signed at the moment", p.name)
	} else if err = s.signList(ctx, p, revocations); err != nil {
		p.retry = now.Add(signRetry)
	} else {
		p.asked, p.retry = now, time.Time{}
	}
	if p.der == nil || !now.Before(p.next) {
		return nil, time.Time{}, errors.Join(err, errors.New("there is no revocation list in force"))
	}
	return p.der, p.next, err
}

func (s *Server) signList(ctx context.Context, p *publication, revocations uint64) error {
	// A client that leaves must not keep the list from being renewed.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), signRetry)
	defer cancel()
	der, err := s.authority.SignCRL(ctx, p.name)
	if err != nil {
		return err
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return fmt.Errorf("couldn't read back the revocation list of %s: %w", p.name, err)
	}
	p.der, p.this, p.next, p.known = der, list.ThisUpdate, list.NextUpdate, revocations
	return nil
}

// publish makes every list that is due.
func (s *Server) publish(ctx context.Context, now time.Time) error {
	s.mu.RLock()
	all := make([]*publication, 0, len(s.published))
	for _, p := range s.published {
		all = append(all, p)
	}
	s.mu.RUnlock()
	var errs []error
	for _, p := range all {
		_, _, err := s.list(ctx, p, now)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// publicationOf finds a CA by its name, or by its hierarchy's as the spine
// served it (/csms.crl).
func (s *Server) publicationOf(name string) *publication {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if p := s.published[name]; p != nil {
		return p
	}
	for _, p := range s.published {
		if p.issuing && string(p.kind) == name {
			return p
		}
	}
	return nil
}
