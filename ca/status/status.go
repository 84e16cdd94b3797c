// Package status tells whether certificates are revoked: an OCSP responder
// (RFC 6960, RFC 5019), the revocation lists and the certificates of the
// issuing CAs, over plain HTTP.
//
// It promises that a revocation is visible at once, that what isn't known is
// never called good, and that nothing past its nextUpdate leaves.
package status

import (
	"context"
	"errors"
	"log/slog"
	"math/big"
	"sync"
	"sync/atomic"
	"time"

	"bollard/ca"
)

// How long answers may be relied on, and after what part of that they are made
// anew: well before half, so that one failed night hurts nobody.
const (
	validity     = 24 * time.Hour
	refreshAfter = 8 * time.Hour
)

// clockTolerance is how far the clock may step back before nothing is served:
// with a clock in the past, expired answers would look fresh.
const clockTolerance = 5 * time.Minute

// askAgain is the pause after a list that was old already when it came.
const askAgain = time.Minute

// signRetry is the pause after a signature that failed, so that requests don't
// each try again (and each take a CRL number).
const signRetry = 30 * time.Second

// Authority is what the server needs of the certificate authority.
// *ca.Authority is one.
type Authority interface {
	StatusIssuers() []ca.StatusIssuer
	Record(ctx context.Context, serial string) (ca.Record, error)
	ActiveSerials(ctx context.Context, issuer string) ([]string, error)
	OCSPSigner(ctx context.Context, issuer string) (*ca.OCSPSigner, error)
	SignCRL(ctx context.Context, issuer string) ([]byte, error)
	CheckClock(ctx context.Context) error
	Watch(w ca.Watcher)
}

// Config of a Server.
type Config struct {
	Authority Authority
	Clock     func() time.Time // nil: time.Now
	Log       *slog.Logger     // nil: discarded
	// Calm says whether there is time now for what nobody asked for yet; nil: always.
	Calm func() bool
	// MaxResponses bounds the signed responses kept in memory, about a third
	// of a kilobyte each; 0: 500,000. Beyond it, responses are signed when asked for.
	MaxResponses int
}

// Server answers for all issuing CAs of an authority. It is safe for
// concurrent use.
type Server struct {
	authority Authority
	clock     func() time.Time
	log       *slog.Logger
	calm      func() bool
	limit     int
	signing   chan struct{} // signatures under way for requests
	wake      chan struct{} // something was revoked

	mu        sync.RWMutex
	issuers   map[issuerID]*issuer
	published map[string]*publication // by the CA's name
	responses *shelf
	epoch     uint64    // counts revocations: a status read before one isn't kept after it
	fault     error     // of the newest Refresh
	waiting   time.Time // since when Refresh waits for a calm moment; zero: it doesn't

	newest       atomic.Int64 // seconds since 1970: the clock was here already
	begins, ends dates
	ages         ages
	scratch      sync.Pool // of *scratch
}

var errClock = errors.New("the clock went back")

// New returns a Server. Run keeps its answers fresh.
func New(cfg Config) (*Server, error) {
	if cfg.Authority == nil {
		return nil, errors.New("internal error: status.Config.Authority is missing")
	}
	s := &Server{
		authority: cfg.Authority, clock: cfg.Clock, log: cfg.Log, calm: cfg.Calm, limit: cfg.MaxResponses,
		signing: make(chan struct{}, 16), wake: make(chan struct{}, 1),
		published: map[string]*publication{}, responses: newShelf(),
	}
	if s.clock == nil {
		s.clock = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.calm == nil {
		s.calm = func() bool { return true }
	}
	if s.limit <= 0 {
		s.limit = 500_000
	}
	cfg.Authority.Watch(s)
	s.Changed()
	return s, nil
}

// Changed takes over new hierarchies, chains and signers. What was signed is
// forgotten: its signer may be the one that was given up.
func (s *Server) Changed() {
	list := s.authority.StatusIssuers()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch++
	s.responses = newShelf()
	s.issuers = map[issuerID]*issuer{}
	for _, i := range list {
		p := s.published[i.Name]
		if p == nil {
			p = &publication{name: i.Name, number: uint16(len(s.published))}
			s.published[i.Name] = p
		}
		p.certificate.Store(i.Certificate)
		p.kind = i.Kind
		p.issuing = i.Issuing
		if i.Root {
			continue
		}
		for id, one := range identify(i, p.number) {
			s.issuers[id] = one
		}
	}
	s.wakeUp()
}

// Revoked drops what was said of a certificate; the next answer says revoked.
func (s *Server) Revoked(issuer, serial string) {
	s.mu.Lock()
	s.epoch++
	p := s.published[issuer]
	if number, ok := new(big.Int).SetString(serial, 16); ok && p != nil {
		kept, _ := serialOf(number)
		for algorithm := range hashAlgorithms {
			s.responses.drop(responseID{p.number, uint8(algorithm), kept})
		}
	}
	s.mu.Unlock()
	if p != nil {
		p.expire()
	}
	s.wakeUp()
}

// wakeUp makes Run sign again what was dropped.
func (s *Server) wakeUp() {
	select {
	case s.wake <- struct{}{}:
	default: // it is awake
	}
}

// Fault is why answers couldn't be signed anew the last time, nil if they were.
func (s *Server) Fault() error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.fault
}

// now is the clock's time, or errClock if it went back.
func (s *Server) now() (time.Time, error) {
	now := s.clock().UTC()
	at, newest := now.Unix(), s.newest.Load()
	for at > newest && !s.newest.CompareAndSwap(newest, at) {
		newest = s.newest.Load()
	}
	if at < newest-int64(clockTolerance/time.Second) {
		return now, errClock
	}
	return now, nil
}

// Run signs answers before they are asked for and again before half of their
// time is over, until the context ends. What nobody asks for waits for calm moments. Trouble is logged; what is there is
// served until its nextUpdate.
func (s *Server) Run(ctx context.Context) error {
	const often, afterFault = 10 * time.Minute, time.Minute
	for {
		pause := often
		if err := s.Refresh(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("certificate status not refreshed", "err", err)
			pause = afterFault
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		case <-s.wake:
			timer.Stop()
		}
	}
}
