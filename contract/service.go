package contract

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"bollard/ca"
	"bollard/internal/tally"
	"bollard/iso15118/identifier"
	"bollard/ledger"
)

// Config of a Service.
type Config struct {
	Store     Store
	Authority *ca.Authority
	Pools     []Outside // asked in this order for cars without a contract here
	CPS       CPS       // signs for ISO 15118-2; nil: the own hierarchy
	// Revocation is asked about certificates of other CAs; nil: nobody is.
	Revocation Revocation
	// HardFail: a certificate whose status can't be learned is as good as none.
	HardFail bool
	// Strict: certificates of cars, contracts and those who sign for cars have all that
	// the profiles of ISO 15118 demand. Real ones lack some of it.
	Strict bool
	// Flooded, if set, is told of a car's maker's CA that makes too many certificates for
	// cars that have one. It is durable when it returns nil.
	Flooded func(ctx context.Context, maker string) error
	Clock   func() time.Time // nil: time.Now
	Log     *slog.Logger     // nil: discarded
}

// Service answers cars. It is safe for concurrent use.
type Service struct {
	store      Store
	authority  *ca.Authority
	revocation Revocation
	hardFail   bool
	strict     bool
	flooded    func(ctx context.Context, maker string) error
	clock      func() time.Time
	log        *slog.Logger
	random     io.Reader
	pools      []Outside
	cps        CPS

	// making holds one contract's work apart from its own: two requests at once
	// get one certificate. Each has one place.
	making [64]chan struct{}

	// refused are cars of the pool's clients that got nothing, and aren't on record yet.
	refused *tally.Tally[refusedKey]

	mu      sync.Mutex // guards what follows
	asked   map[string]*allowance
	courses map[string]*course
	makers  makers
	vain    map[string]vain // questions to pools
}

// New returns a Service. Certificates whose answers an earlier run lost are revoked
// first, as far as they can be: who has the Store to itself calls it.
func New(ctx context.Context, cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Authority == nil {
		return nil, errors.New("internal error: contract.Config lacks a store or an authority")
	}
	s := &Service{
		store: cfg.Store, authority: cfg.Authority, revocation: cfg.Revocation, hardFail: cfg.HardFail, strict: cfg.Strict, flooded: cfg.Flooded, clock: cfg.Clock, log: cfg.Log, random: rand.Reader, pools: cfg.Pools, cps: cfg.CPS,
		asked: map[string]*allowance{}, courses: map[string]*course{}, vain: map[string]vain{}, refused: tally.New[refusedKey](),
	}
	for i := range s.making {
		s.making[i] = make(chan struct{}, 1)
	}
	if s.clock == nil {
		s.clock = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	return s, s.recover(ctx)
}

// Add gives an account a contract for a car; one that is over makes room for it. What
// can be is made ready for the car's first request.
func (s *Service) Add(ctx context.Context, actor string, emaid identifier.EMAID, pcid identifier.PCID) (Contract, error) {
	c, err := s.add(ctx, actor, emaid, pcid, time.Time{})
	if !errors.Is(err, ErrExists) {
		return c, err
	}
	before, known, failed := s.activeOf(ctx, emaid, pcid)
	if failed != nil {
		return Contract{}, failed
	}
	if known {
		if before.InForce(s.clock()) {
			return Contract{}, ErrExists
		}
		if _, err := s.cancel(ctx, actor, before.ID); err != nil {
			return Contract{}, err
		}
	}
	return s.add(ctx, actor, emaid, pcid, time.Time{})
}

// activeOf is an account's contract for a car that isn't cancelled.
func (s *Service) activeOf(ctx context.Context, emaid identifier.EMAID, pcid identifier.PCID) (c Contract, ok bool, err error) {
	list, err := s.store.ContractsBy(ctx, emaid.Bare())
	i := slices.IndexFunc(list, func(c Contract) bool { return c.State == StateActive && c.PCID == pcid })
	if err != nil || i < 0 {
		return c, false, err
	}
	return list[i], true, nil
}

func (s *Service) add(ctx context.Context, actor string, emaid identifier.EMAID, pcid identifier.PCID, end time.Time) (Contract, error) {
	c := Contract{ID: newID(), EMAID: emaid.Full(), PCID: pcid, State: StateActive, CreatedAt: s.clock().UTC(), EndsAt: end}
	data := map[string]string{}
	if !end.IsZero() {
		data["until"] = end.Format(time.RFC3339)
	}
	if err := s.store.AddContract(ctx, c, s.event("contract.added", &c, actor, data)); err != nil {
		return Contract{}, err
	}
	for _, p := range editions {
		if err := s.prepare(ctx, &c, p); err != nil {
			s.log.Warn("a contract's answer couldn't be made ready; it is made when the car asks", "contract", c.ID, "protocol", p.String(), "err", err)
		}
	}
	return c, nil
}

// Cancel ends an account's contracts, all of them or those for one car, revokes their
// certificates, and forgets what is kept of it; of that nothing is returned. One that fails keeps none of the others; cancelled
// ones stay so, and a revocation that failed is tried again by the next call.
func (s *Service) Cancel(ctx context.Context, actor string, emaid identifier.EMAID, pcid identifier.PCID) ([]Contract, error) {
	list, err := s.store.ContractsBy(ctx, emaid.Bare())
	if err != nil {
		return nil, err
	}
	if pcid != "" {
		list = slices.DeleteFunc(list, func(c Contract) bool { return c.PCID != pcid })
	}
	kept, err := s.keptFor(ctx, emaid, pcid)
	if err != nil {
		return nil, err
	}
	if err := s.discard(ctx, actor, kept); err != nil {
		return nil, err
	}
	if len(list) == 0 && len(kept) == 0 {
		return nil, ErrUnknown
	}
	var failed []error
	for i := range list {
		if list[i], err = s.cancel(ctx, actor, list[i].ID); err != nil {
			failed = append(failed, err)
		}
	}
	if len(failed) > 0 {
		return nil, errors.Join(failed...)
	}
	return list, nil
}

func (s *Service) cancel(ctx context.Context, actor, id string) (Contract, error) {
	// 1. No certificate of it is begun any more.
	c, err := s.store.UpdateContract(ctx, id, func(c *Contract) ([]ledger.Event, error) {
		if c.State == StateCancelled {
			return nil, nil
		}
		c.State, c.CancelledAt = StateCancelled, s.clock().UTC()
		return []ledger.Event{s.event("contract.cancelled", c, actor, nil)}, nil
	})
	if err != nil {
		return Contract{}, err
	}
	// 2. One that was begun before is signed by now, or never.
	unlock, err := s.lock(ctx, id)
	if err != nil {
		return Contract{}, err
	}
	defer unlock()
	if c, err = s.store.UpdateContract(ctx, id, func(*Contract) ([]ledger.Event, error) { return nil, nil }); err != nil {
		return Contract{}, err
	}
	// 3. What was signed is revoked. Signatures are recorded before this: step 2.
	var failed []error
	for _, serial := range c.Serials {
		if err := s.end(ctx, actor, serial); err != nil {
			failed = append(failed, fmt.Errorf("the contract is cancelled, but certificate %s isn't revoked yet; cancel it again: %w", serial, err))
		}
	}
	return c, errors.Join(failed...)
}

// end revokes a certificate of a contract whose lock is held. One that was never
// finished has no token left that could finish it: it is no certificate, verifies
// nowhere here, and is orphaned at the next start.
func (s *Service) end(ctx context.Context, actor, serial string) error {
	record, err := s.authority.Record(ctx, serial)
	if err == nil && record.State != ca.StateIntended {
		_, err = s.authority.Revoke(ctx, serial, "cessationOfOperation", actor)
	}
	if errors.Is(err, ca.ErrUnknownSerial) {
		return nil
	}
	return err
}

// List returns the contracts, oldest first.
func (s *Service) List(ctx context.Context) ([]Contract, error) { return s.store.Contracts(ctx) }

// AddProvisioning takes a car's provisioning certificate, leaf first, into the
// pool. Its chain has to lead to a trusted root of a manufacturer. What is kept for the
// one it replaces is forgotten: the car can't open it any more.
func (s *Service) AddProvisioning(ctx context.Context, actor string, chain []*x509.Certificate) (Provisioning, error) {
	if len(chain) == 0 || len(chain) > 3 {
		return Provisioning{}, fmt.Errorf("a provisioning chain of %d certificates; give the car's and up to two sub-CAs", len(chain))
	}
	pcid, err := identifier.ParsePCID(chain[0].Subject.CommonName)
	if err != nil {
		return Provisioning{}, fmt.Errorf("the certificate's common name isn't a car's: %w", err)
	}
	protocol, err := protocolOf(chain[0])
	if err != nil {
		return Provisioning{}, err
	}
	_, fault, err := s.verifyCar(ctx, protocol, chain, s.clock())
	switch {
	case err != nil:
		return Provisioning{}, err
	case fault != nil:
		return Provisioning{}, fault
	}
	p := Provisioning{PCID: pcid, Protocol: protocol, Certificate: chain[0].Raw, AddedAt: s.clock().UTC()}
	for _, sub := range chain[1:] {
		p.SubCertificates = append(p.SubCertificates, sub.Raw)
	}
	event := ledger.Event{Kind: "provisioning.added", Subject: hexOf(p.Certificate), Actor: actor,
		Data: map[string]string{"pcid": string(pcid), "protocol": protocol.String()}, People: []string{"pcid"}}
	if err := s.store.PutProvisioning(ctx, p, event); err != nil {
		return Provisioning{}, err
	}
	return p, s.discardOlder(ctx, actor, &p)
}

// event is evidence about a contract. Account and car become pseudonyms.
func (s *Service) event(kind string, c *Contract, actor string, data map[string]string) ledger.Event {
	e := ledger.Event{Kind: kind, Subject: c.ID, Actor: actor, People: []string{"emaid", "pcid"},
		Data: map[string]string{"emaid": string(c.EMAID.Bare()), "pcid": string(c.PCID)}}
	for k, v := range data {
		e.Data[k] = v
	}
	return e
}

// lock holds one contract's certificates, for which it waits as long as ctx lasts;
// call what it returns.
func (s *Service) lock(ctx context.Context, id string) (unlock func(), err error) {
	sum := sha256.Sum256([]byte(id))
	place := s.making[int(sum[0])%len(s.making)]
	select {
	case place <- struct{}{}:
		return func() { <-place }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

func hexOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
