package contract

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"bollard/ca"
	"bollard/iso15118/identifier"
	"bollard/iso15118/message"
	"bollard/ledger"
)

// shortest is the least a contract may last: its certificate has to reach the car.
const shortest = 24 * time.Hour

// AddUntil is Add for a contract that ends by itself; its certificates don't outlive
// it. One there is already is made longer, not shorter.
func (s *Service) AddUntil(ctx context.Context, actor string, emaid identifier.EMAID, pcid identifier.PCID, end time.Time) (Contract, error) {
	if end.Before(s.clock().Add(shortest)) {
		return Contract{}, ErrTooShort
	}
	c, err := s.add(ctx, actor, emaid, pcid, end.UTC())
	if !errors.Is(err, ErrExists) {
		return c, err
	}
	before, known, err := s.activeOf(ctx, emaid, pcid)
	switch {
	case err != nil:
		return Contract{}, err
	case !known:
		return Contract{}, ErrUnknown // cancelled meanwhile
	}
	return s.lengthen(ctx, actor, before.ID, end.UTC())
}

// lengthen moves a contract's end, and has the next request get a certificate up to it.
func (s *Service) lengthen(ctx context.Context, actor, id string, end time.Time) (Contract, error) {
	return s.store.UpdateContract(ctx, id, func(c *Contract) ([]ledger.Event, error) {
		switch {
		case c.State != StateActive:
			return nil, ErrUnknown
		case c.EndsAt.IsZero() || end.Before(c.EndsAt):
			return nil, ErrTooShort
		case end.Equal(c.EndsAt):
			return nil, nil
		}
		c.EndsAt = end
		return []ledger.Event{s.event("contract.lengthened", c, actor, map[string]string{"until": end.Format(time.RFC3339)})}, nil
	})
}

// editions are those a contract has certificates of.
var editions = [...]message.Protocol{message.ISO2, message.ISO20}

// Of returns a car's active contracts and the newest others, oldest first.
func (s *Service) Of(ctx context.Context, pcid identifier.PCID) ([]Contract, error) {
	return s.store.ContractsOf(ctx, pcid)
}

// By returns an account's contracts in any state, oldest first.
func (s *Service) By(ctx context.Context, emaid identifier.EMAID) ([]Contract, error) {
	return s.store.ContractsBy(ctx, emaid.Bare())
}

// Certificate is the newest certificate in force that a contract has; ok is false
// without one: it is made when the car asks.
func (s *Service) Certificate(ctx context.Context, c *Contract) (issued *ca.Issued, ok bool, err error) {
	for i := len(c.Serials) - 1; i >= 0; i-- {
		issued, err := s.authority.Lookup(ctx, c.Serials[i])
		switch {
		case errors.Is(err, ca.ErrUnknownSerial):
			continue
		case err != nil:
			return nil, false, err
		case s.inForce(ctx, c.Serials[i]) && s.clock().Before(issued.NotAfter):
			return issued, true, nil
		}
	}
	return nil, false, nil
}

// Provisioning returns the provisioning certificates of a car that are in the pool,
// one an edition.
func (s *Service) Provisioning(ctx context.Context, pcid identifier.PCID) ([]Provisioning, error) {
	var list []Provisioning
	for _, p := range editions {
		known, ok, err := s.store.Provisioning(ctx, pcid, p)
		if err != nil {
			return nil, err
		}
		if ok {
			list = append(list, known)
		}
	}
	return list, nil
}

// RemoveProvisioning takes a car's certificates out of the pool, then ends its
// contracts, its own and those kept for it: one that is added meanwhile is seen here, or its maker sees that the car
// is gone. What fails on the way is finished by the same again. ErrUnknown if there is
// neither.
func (s *Service) RemoveProvisioning(ctx context.Context, actor string, pcid identifier.PCID) error {
	list, err := s.Provisioning(ctx, pcid)
	if err != nil {
		return err
	}
	if len(list) > 0 {
		err := s.store.RemoveProvisioning(ctx, pcid, ledger.Event{Kind: "provisioning.removed", Subject: hexOf(list[0].Certificate), Actor: actor,
			Data: map[string]string{"pcid": string(pcid)}, People: []string{"pcid"}})
		if err != nil {
			return err
		}
	}
	kept, err := s.store.KeptOf(ctx, pcid)
	if err != nil {
		return err
	}
	if err := s.discard(ctx, actor, kept); err != nil {
		return err
	}
	contracts, err := s.store.EveryContractOf(ctx, pcid)
	if err != nil {
		return err
	}
	var failed []error
	found := len(list)+len(kept) > 0
	for i := range contracts {
		if !s.unended(ctx, &contracts[i]) {
			continue
		}
		found = true
		if _, err := s.cancel(ctx, actor, contracts[i].ID); err != nil {
			failed = append(failed, err)
		}
	}
	if !found {
		return ErrUnknown
	}
	if err := errors.Join(failed...); err != nil {
		return fmt.Errorf("couldn't end the contracts of a car that leaves the pool: %w", err)
	}
	return nil
}

// unended tells whether something of a contract is left to end: a cancelled one may
// have a certificate whose revocation failed.
func (s *Service) unended(ctx context.Context, c *Contract) bool {
	return c.State == StateActive || slices.ContainsFunc(c.Serials, func(serial string) bool { return s.inForce(ctx, serial) })
}
