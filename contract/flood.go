package contract

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"bollard/ca"
	"bollard/iso15118/message"
)

// A car has one key an edition, and is seldom given another. Whoever has its maker's CA
// makes it one after the other, and each gets a contract certificate: so many in a day
// for one contract and edition, and so many beyond each contract's first by one maker's
// CA.
const (
	mostOfContract = 8
	mostOfMaker    = 64
	aDay           = 24 * time.Hour
)

// makers counts, within a UTC day, what maker's CAs cost beyond the first certificate.
// It is in memory alone: a restart gives each as much again, which mostOfContract bounds.
type makers struct {
	day  time.Time
	made map[string]int
}

// spend takes one from a maker's day.
func (m *makers) spend(maker string, now time.Time) bool {
	if day := now.UTC().Truncate(aDay); !day.Equal(m.day) || len(m.made) >= maxTracked {
		m.day, m.made = day, map[string]int{}
	}
	if m.made[maker] >= mostOfMaker {
		return false
	}
	m.made[maker]++
	return true
}

// affordable refuses one more certificate for a contract, whose lock is held, that got
// too many, or whose car's maker's CA costs too many. Certificates that were revoked
// meanwhile don't count.
func (s *Service) affordable(ctx context.Context, c *Contract, p message.Protocol, to receiver) (*Fault, error) {
	now := s.clock()
	made, err := s.madeSince(ctx, c, profileOf(p, to.key), now.Add(-aDay))
	if err != nil || made == 0 {
		return nil, err
	}
	fault := unavailable(fmt.Sprintf("the contract got %d certificates within a day", made))
	if made < mostOfContract {
		if to.maker == "" { // an update: the contract's own key is replaced
			return nil, nil
		}
		s.mu.Lock()
		ok := s.makers.spend(to.maker, now)
		s.mu.Unlock()
		if ok {
			return nil, nil
		}
		fault = unavailable(fmt.Sprintf("%d cars' certificates of one maker's CA beyond their first got a contract certificate today", mostOfMaker))
	}
	if s.flooded != nil && to.maker != "" {
		if err := s.flooded(ctx, "the maker's CA "+to.maker[:16]); err != nil {
			return nil, err
		}
	}
	return fault, nil
}

// madeSince counts the certificates in force of a profile that a contract got since,
// up to mostOfContract.
func (s *Service) madeSince(ctx context.Context, c *Contract, profile string, since time.Time) (int, error) {
	list, err := s.store.ContractsOf(ctx, c.PCID) // as it is under the lock
	if err != nil {
		return 0, err
	}
	i := slices.IndexFunc(list, func(now Contract) bool { return now.ID == c.ID })
	if i < 0 {
		return 0, nil
	}
	made := 0
	for _, serial := range slices.Backward(list[i].Serials) {
		record, err := s.authority.Record(ctx, serial)
		switch {
		case errors.Is(err, ca.ErrUnknownSerial):
			continue
		case err != nil:
			return 0, err
		case record.CreatedAt.Before(since) || made == mostOfContract:
			return made, nil
		case record.Profile == profile && record.State == ca.StateIssued:
			made++
		}
	}
	return made, nil
}
