package contract

import (
	"context"
	"crypto/x509"
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

// maker is the CA that answers for a car; the zero value is nobody.
type maker struct {
	key  string
	name string // for people, without a word that the maker chose
}

// makerOf is the CA right below a path's root, or the root: who has it names those below
// it as it likes. What the root has signed counts, for signatures have two spellings.
func makerOf(path []*x509.Certificate) maker {
	root, by := path[len(path)-1], path[max(len(path)-2, 1)]
	return maker{hexOf(by.RawTBSCertificate), fmt.Sprintf("the maker's CA with serial number %s under root %s", ca.SerialOf(by), hexOf(root.Raw)[:16])}
}

// makers counts, within a UTC day, what maker's CAs cost beyond the first certificate.
// It is in memory alone: a restart gives each as much again, which mostOfContract bounds.
type makers struct {
	day  time.Time
	made map[string]int
}

// spend takes one from a maker's day.
func (m *makers) spend(key string, now time.Time) bool {
	if day := now.UTC().Truncate(aDay); !day.Equal(m.day) || len(m.made) >= maxTracked {
		m.day, m.made = day, map[string]int{}
	}
	if m.made[key] >= mostOfMaker {
		return false
	}
	m.made[key]++
	return true
}

// giveBack undoes a spend that came to nothing.
func (m *makers) giveBack(key string) {
	if m.made[key] > 0 {
		m.made[key]--
	}
}

// affordable refuses one more certificate for a contract, whose lock is held, that got
// too many, or whose car's maker's CA costs too many. Certificates that were revoked
// meanwhile don't count, nor does one that isn't made after all: then giveBack is called.
func (s *Service) affordable(ctx context.Context, c *Contract, p message.Protocol, to receiver) (giveBack func(), _ *Fault, _ error) {
	now, nothing := s.clock(), func() {}
	made, err := s.madeSince(ctx, c, profileOf(p, to.key), now.Add(-aDay))
	if err != nil || made == 0 {
		return nothing, nil, err
	}
	fault := unavailable(fmt.Sprintf("the contract got %d certificates within a day", made))
	if made < mostOfContract {
		if to.maker == (maker{}) { // an update: the contract's own key is replaced
			return nothing, nil, nil
		}
		s.mu.Lock()
		ok := s.makers.spend(to.maker.key, now)
		s.mu.Unlock()
		if ok {
			return func() {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.makers.giveBack(to.maker.key)
			}, nil, nil
		}
		fault = unavailable(fmt.Sprintf("%d cars' certificates of one maker's CA beyond their first got a contract certificate today", mostOfMaker))
	}
	if s.flooded != nil && to.maker != (maker{}) {
		if err := s.flooded(ctx, to.maker.name); err != nil {
			return nil, nil, err
		}
	}
	return nil, fault, nil
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
