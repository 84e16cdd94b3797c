package fleet

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"bollard/ca"
	"bollard/iso15118/identifier"
	"bollard/ledger"
)

// SECC is what cars know an EVSE by, or a station as a whole: the common name of the
// certificate it shows them (ISO 15118).
type SECC struct {
	ID   string `json:"id"`
	EVSE int    `json:"evse,omitempty"` // 0: the station as a whole
}

// maxSECCs bounds them: each means certificates every two months.
const maxSECCs = 64

func (c SECC) check() error {
	if err := identifier.CheckSECC(c.ID); err != nil {
		return err
	}
	if c.EVSE < 0 {
		return fmt.Errorf("EVSE %d: they are counted from 1", c.EVSE)
	}
	return nil
}

// checkSECCs judges those a station is enrolled with.
func checkSECCs(st *Station) error {
	if len(st.SECCs) > maxSECCs {
		return fmt.Errorf("%d SECC identifiers of %q: a station has %d at most", len(st.SECCs), st.Identity, maxSECCs)
	}
	for i, secc := range st.SECCs {
		if err := secc.check(); err != nil {
			return err
		}
		if slices.ContainsFunc(st.SECCs[:i], func(other SECC) bool { return strings.EqualFold(other.ID, secc.ID) }) {
			return fmt.Errorf("SECC identifier %q of %q is there twice", secc.ID, st.Identity)
		}
	}
	return nil
}

// AddSECC records that a station may have certificates toward cars for this
// identifier; nobody else gets one for it. The station is asked for a request at
// once if it is connected. What is recorded of an identifier already is replaced.
func (s *Service) AddSECC(ctx context.Context, actor, identity string, secc SECC) (Station, error) {
	if err := secc.check(); err != nil {
		return Station{}, err
	}
	key, err := s.key(identity)
	if err != nil {
		return Station{}, err
	}
	if err := s.askAnew(ctx, key, StepSECC, StepSECC20); err != nil {
		return Station{}, err
	}
	return s.updateAndPoke(ctx, key, func(st *Station) ([]ledger.Event, error) {
		rest := slices.DeleteFunc(st.SECCs, func(other SECC) bool { return other.ID == secc.ID })
		for _, other := range rest {
			if strings.EqualFold(other.ID, secc.ID) {
				return nil, fmt.Errorf("%q is recorded for station %q already, in another case: remove that first", other.ID, st.Identity)
			}
		}
		if len(rest) >= maxSECCs {
			return nil, fmt.Errorf("station %q has %d SECC identifiers already", st.Identity, maxSECCs)
		}
		st.SECCs = append(rest, secc)
		return []ledger.Event{seccEvent(key, actor, "added", secc)}, nil
	})
}

func seccEvent(key, actor, change string, secc SECC) ledger.Event {
	return ledger.Event{Kind: "station.secc", Subject: key, Actor: actor, Data: map[string]string{
		"change": change, "secc": secc.ID, "evse": strconv.Itoa(secc.EVSE),
	}}
}

// RemoveSECC takes an identifier from a station and revokes its certificates. The
// block comes first: repeated, it revokes what couldn't be.
func (s *Service) RemoveSECC(ctx context.Context, actor, identity, id string) (Station, error) {
	key, err := s.key(identity)
	if err != nil {
		return Station{}, err
	}
	removed := false
	st, err := s.update(ctx, key, func(st *Station) ([]ledger.Event, error) {
		i := slices.IndexFunc(st.SECCs, func(other SECC) bool { return other.ID == id })
		if removed = i >= 0; !removed {
			return nil, nil
		}
		secc := st.SECCs[i]
		st.SECCs = slices.Delete(st.SECCs, i, i+1)
		return []ledger.Event{seccEvent(key, actor, "removed", secc)}, nil
	})
	if err != nil {
		return Station{}, err
	}
	// What is being issued was judged before: it is waited for, to be revoked too.
	release, err := s.takeTurn(ctx, key)
	if err != nil {
		return st, fmt.Errorf("the identifier is taken from the station, repeat this to revoke its certificates: %w", err)
	}
	defer release()
	revoked, err := s.revokeSECC(ctx, actor, key, id)
	if err == nil && !removed && revoked == 0 {
		err = fmt.Errorf("no SECC identifier %q is recorded for station %q", capped(id), identity)
	}
	return st, err
}

func (s *Service) revokeSECC(ctx context.Context, actor, key, id string) (revoked int, err error) {
	records, err := s.cfg.Authority.IssuedTo(ctx, key)
	if err != nil {
		return 0, err
	}
	for i := range records {
		if !ofSECC(&records[i], id) {
			continue
		}
		if _, err := s.cfg.Authority.Revoke(ctx, records[i].Serial, "cessationOfOperation", actor); err != nil && !errors.Is(err, ca.ErrUnknownSerial) {
			return revoked, fmt.Errorf("the identifier is taken from the station, repeat this to revoke what is left: %w", err)
		}
		revoked++
	}
	return revoked, nil
}

// ofSECC says whether a certificate on record is toward cars, under this name.
func ofSECC(r *ca.Record, id string) bool {
	if r.External || !slices.Contains([]string{ca.ProfileSECC, ca.ProfileSECC20, ca.ProfileSECC448}, r.Profile) {
		return false
	}
	cert, err := x509.ParseCertificate(r.DER)
	return err == nil && cert.Subject.CommonName == id
}

// RenewSECC has all certificates of a station toward cars renewed.
func (s *Service) RenewSECC(ctx context.Context, actor, identity string) (Station, error) {
	key, err := s.key(identity)
	if err != nil {
		return Station{}, err
	}
	if err := s.askAnew(ctx, key, StepSECC, StepSECC20); err != nil {
		return Station{}, err
	}
	_, err = s.store.UpdatePlan(ctx, key, func(p *Plan) ([]ledger.Event, error) {
		p.SECCSince = s.clock()
		return []ledger.Event{{Kind: "station.secc", Subject: key, Actor: actor, Data: map[string]string{"change": "renew"}}}, nil
	})
	if err != nil {
		return Station{}, fmt.Errorf("couldn't record that certificates are to be renewed: %w", err)
	}
	s.pokeStation(key)
	return s.Station(ctx, identity)
}
