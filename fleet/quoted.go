package fleet

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"time"

	"bollard/ca"
	"bollard/internal/curve448"
)

// Quotes that a station may show at once and per second: after a boot one is enough, and
// each costs signatures to verify and a write.
const (
	quoteBurst  = 10
	quoteRefill = 1.0 / 60
)

// MayQuote takes from a station's budget of quotes.
func (s *Service) MayQuote(station string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	if s.quoted.left(station, now) < 1 {
		return false
	}
	s.quoted.take(station, now)
	return true
}

// AttestationKeys are the keys, in certificates in force, of the TPM that a station is
// known by, by those certificates' serial numbers, with the hash of that TPM's endorsement
// key; none where it is known by none.
func (s *Service) AttestationKeys(ctx context.Context, station string) (ek string, keys map[string]crypto.PublicKey, err error) {
	st, err := s.store.Station(ctx, station)
	switch {
	case errors.Is(err, ErrUnknownStation):
		return "", nil, nil
	case err != nil:
		return "", nil, err
	case st.EK == "" || !st.LostAt.IsZero():
		return "", nil, nil
	}
	records, err := s.attestationCertificates(ctx, station)
	if err != nil {
		return "", nil, err
	}
	keys = map[string]crypto.PublicKey{}
	for _, r := range records {
		cert, err := curve448.ParseCertificate(r.DER)
		if err != nil {
			return "", nil, fmt.Errorf("couldn't read certificate %s: %w", r.Serial, err)
		}
		if now := s.clock(); !now.Before(cert.NotBefore) && now.Before(cert.NotAfter) && cert.Subject.CommonName == st.Serial {
			keys[r.Serial] = cert.PublicKey
		}
	}
	return st.EK, keys, nil
}

func (s *Service) attestationCertificates(ctx context.Context, station string) ([]ca.Record, error) {
	records, err := s.cfg.Authority.IssuedTo(ctx, station)
	var list []ca.Record
	for _, r := range records {
		if !r.External && r.Profile == ca.ProfileAttestation {
			list = append(list, r)
		}
	}
	return list, err
}

// endAttestation revokes the certificates of the keys of a station's TPM, for another reason
// than keyCompromise: such a key can't leave its TPM, and has a certificate again once that
// is the station's again. Where a station is about to be known by another one it comes first,
// so that no statement of the one before counts as the next one's.
func (s *Service) endAttestation(ctx context.Context, actor, station, reason string) error {
	records, err := s.attestationCertificates(ctx, station)
	if err != nil {
		return err
	}
	for _, r := range records {
		if _, err := s.cfg.Authority.Revoke(ctx, r.Serial, reason, actor); err != nil {
			return fmt.Errorf("couldn't revoke certificate %s of an attestation key: %w", r.Serial, err)
		}
	}
	return nil
}

// Quotes is how often stations have to show by quotes of their TPMs what they run, by
// key: those of whom it is wanted alone. Where it is wanted of nobody, that costs no
// look at the stations.
func (c *Controller) Quotes(ctx context.Context) (map[string]time.Duration, error) {
	wanted, err := c.quotesWanted(ctx)
	if err != nil || wanted == nil {
		return nil, err
	}
	stations, err := c.service.store.Stations(ctx)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the stations: %w", err)
	}
	list := map[string]time.Duration{}
	for i := range stations {
		if wants, _, _ := wanted.of(&stations[i]); wants.Quotes > 0 && stations[i].LostAt.IsZero() {
			list[keyOf(&stations[i])] = wants.Quotes
		}
	}
	return list, nil
}

// QuotesOf is Quotes for one station; 0 if it isn't wanted of it.
func (c *Controller) QuotesOf(ctx context.Context, station string) (time.Duration, error) {
	st, err := c.service.store.Station(ctx, station)
	if err != nil {
		return 0, err
	}
	plan, err := c.service.store.Plan(ctx, station)
	if err != nil {
		return 0, err
	}
	groups, err := c.Groups(ctx)
	if err != nil {
		return 0, err
	}
	wants, _, _ := (&Wanted{Groups: groups, Own: ownOf(map[string]Plan{station: plan})}).of(&st)
	return wants.Quotes, nil
}

// quotesWanted is all that is wanted, nil where no quotes are.
func (c *Controller) quotesWanted(ctx context.Context) (*Wanted, error) {
	groups, err := c.Groups(ctx)
	if err != nil {
		return nil, err
	}
	plans, err := c.store.Plans(ctx)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the stations' plans: %w", err)
	}
	w := &Wanted{Groups: groups, Own: ownOf(plans)}
	for _, g := range w.Groups {
		if g.Wants.Quotes > 0 {
			return w, nil
		}
	}
	for _, own := range w.Own {
		if own.Quotes > 0 {
			return w, nil
		}
	}
	return nil, nil
}
