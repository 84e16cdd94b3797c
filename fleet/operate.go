package fleet

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"bollard/ca"
	"bollard/ledger"
)

// Station returns one station as it is now.
func (s *Service) Station(ctx context.Context, identity string) (Station, error) {
	key, err := s.key(identity)
	if err != nil {
		return Station{}, err
	}
	st, err := s.store.Station(ctx, key)
	if err != nil {
		return Station{}, err
	}
	s.refusals.latest(&st)
	s.sightings.latest(&st)
	return st, nil
}

// Stations returns all stations by key.
func (s *Service) Stations(ctx context.Context) ([]Station, error) {
	list, err := s.store.Stations(ctx)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the stations: %w", err)
	}
	for i := range list {
		s.refusals.latest(&list[i])
		s.sightings.latest(&list[i])
	}
	return list, nil
}

// Orders returns the newest certificate orders of a station, newest first, those for
// certificates toward cars behind those for its own.
func (s *Service) Orders(ctx context.Context, identity string) ([]Order, error) {
	st, err := s.Station(ctx, identity)
	if err != nil {
		return nil, err
	}
	orders, err := s.store.Orders(ctx, keyOf(&st), ordersKept)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the orders of %q: %w", identity, err)
	}
	toCars, err := s.store.SECCOrders(ctx, keyOf(&st), ordersKept)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the orders of %q: %w", identity, err)
	}
	return append(orders, toCars...), nil
}

// Remove forgets the station, revokes its certificates and ends its session.
// Revocation comes first: if it can't be done the station is still there and
// the command can be repeated.
func (s *Service) Remove(ctx context.Context, actor, identity string) error {
	st, err := s.Station(ctx, identity)
	if err != nil {
		return err
	}
	key := keyOf(&st)
	if err := s.revokeAs(ctx, actor, &st, "cessationOfOperation"); err != nil {
		return fmt.Errorf("%w; the station is kept", err)
	}
	err = s.summedUp(key, func(sum func(*Station) []ledger.Event) error {
		return s.store.RemoveStation(ctx, key, func(st *Station) []ledger.Event {
			return append(sum(st), ledger.Event{Kind: "station.removed", Subject: key, Actor: actor, Data: map[string]string{"serial": st.Serial}})
		})
	})
	if err != nil {
		return fmt.Errorf("couldn't remove station %q: %w", identity, err)
	}
	return s.gone(ctx, actor, &st, "station was removed")
}

// revokeAs revokes all certificates of a station.
func (s *Service) revokeAs(ctx context.Context, actor string, st *Station, reason string) error {
	serials, err := s.certificatesOf(ctx, st)
	if err != nil {
		return err
	}
	for _, serial := range serials {
		if _, err := s.cfg.Authority.Revoke(ctx, serial, reason, actor); err != nil && !errors.Is(err, ca.ErrUnknownSerial) {
			return fmt.Errorf("couldn't revoke certificate %s of %q: %w", serial, st.Identity, err)
		}
	}
	return nil
}

// revokeInTurn is revokeAs for a station that gets no more as it was: what is being
// issued was judged before, and is waited for, to be revoked too.
func (s *Service) revokeInTurn(ctx context.Context, actor string, st *Station, reason string) error {
	release, err := s.takeTurn(ctx, keyOf(st))
	if err != nil {
		return err
	}
	defer release()
	return s.revokeAs(ctx, actor, st, reason)
}

// SetPassword stores a new secret (nil: generates one and returns it). The
// live session is ended so that the station proves the new one.
func (s *Service) SetPassword(ctx context.Context, actor, identity string, password []byte) (string, error) {
	key, err := s.key(identity)
	if err != nil {
		return "", err
	}
	if _, err := s.Station(ctx, identity); err != nil {
		return "", err // before a slow hash is computed for nobody
	}
	generated := ""
	var credential *Credential
	if password == nil {
		generated = generatePassword()
		credential, err = s.secrets.newCredential(ctx, kindGenerated, []byte(generated), s.clock())
	} else {
		credential, err = s.secrets.givenCredential(ctx, password, s.clock())
	}
	if err != nil {
		return "", err
	}
	_, err = s.update(ctx, key, func(st *Station) ([]ledger.Event, error) {
		st.Password, st.Pending, st.RotateWanted = credential, nil, false
		return []ledger.Event{{Kind: "station.password", Subject: key, Actor: actor}}, nil
	})
	if err != nil {
		return "", err
	}
	s.secrets.forget(key)
	s.endIf(func(adm Admission) (string, bool) {
		return "password was changed", adm.Station.Key() == key && adm.Profile < 3
	})
	return generated, s.learnSecrets(ctx)
}

// SetProfile sets the wanted security profile; a lower one than the floor is
// refused, but from 3 to 2 where people have approved that.
func (s *Service) SetProfile(ctx context.Context, actor, identity string, profile int) (Station, error) {
	if profile < 1 || profile > 3 {
		return Station{}, badInput("profile %d: give 1, 2 or 3", profile)
	}
	key, err := s.key(identity)
	if err != nil {
		return Station{}, err
	}
	if st, err := s.store.Station(ctx, key); err == nil && profile == 2 && st.FloorProfile == 3 && !st.lowering(s.clock()) {
		return s.lower(ctx, actor, &st)
	}
	if err := s.askAnew(ctx, key, StepPassword, StepCertificate, StepRoots, StepOrder, StepProfile); err != nil {
		return Station{}, err
	}
	return s.updateAndPoke(ctx, key, func(st *Station) ([]ledger.Event, error) {
		from := st.WantedProfile
		switch {
		case profile >= st.FloorProfile:
			st.stayUp()
		case !st.lowering(s.clock()) || profile != st.WantedProfile:
			return nil, fmt.Errorf("station %q was added with security profile %d, or seen on it, and never goes below it (A05.FR.09): "+
				"if it can't come on it, remove it and add it anew", st.Identity, st.FloorProfile)
		}
		st.WantedProfile, st.PlanNote = profile, ""
		return []ledger.Event{{Kind: "station.profile", Subject: key, Actor: actor, Data: map[string]string{
			"from": strconv.Itoa(from), "to": strconv.Itoa(profile),
		}}}, nil
	})
}

// Renew asks the station for a new CSR, at once if it is connected. With
// allowExpired, its expired certificate is let in until then.
func (s *Service) Renew(ctx context.Context, actor, identity string, allowExpired time.Duration) (Station, error) {
	if allowExpired < 0 || allowExpired > 30*24*time.Hour {
		return Station{}, badInput("allow-expired: give a duration of at most 720h")
	}
	key, err := s.key(identity)
	if err != nil {
		return Station{}, err
	}
	if err := s.askAnew(ctx, key, StepCertificate); err != nil {
		return Station{}, err
	}
	return s.updateAndPoke(ctx, key, func(st *Station) ([]ledger.Event, error) {
		st.RenewWanted, st.PlanNote = true, ""
		event := ledger.Event{Kind: "station.renew", Subject: key, Actor: actor, Data: map[string]string{}}
		if allowExpired > 0 {
			st.AllowExpired = s.clock().Add(allowExpired)
			event.Data["allow-expired-until"] = st.AllowExpired.UTC().Format(time.RFC3339)
		}
		return []ledger.Event{event}, nil
	})
}

// SetCheck sets a check to warn or back to enforce.
func (s *Service) SetCheck(ctx context.Context, actor, identity string, check Check, warn bool) (Station, error) {
	if !slices.Contains(Checks(), check) {
		return Station{}, fmt.Errorf("no check %q: there are %v", capped(string(check)), Checks())
	}
	key, err := s.key(identity)
	if err != nil {
		return Station{}, err
	}
	return s.update(ctx, key, func(st *Station) ([]ledger.Event, error) {
		st.Warn = slices.DeleteFunc(st.Warn, func(c Check) bool { return c == check })
		if warn {
			st.Warn = append(st.Warn, check)
		}
		return []ledger.Event{{Kind: "station.check", Subject: key, Actor: actor, Data: map[string]string{
			"check": string(check), "warn": strconv.FormatBool(warn),
		}}}, nil
	})
}

// Revoke revokes a certificate and ends the live session that uses it. The
// session ends even if the revocation can't be recorded: that is all that can
// be done then, and it doesn't keep the station from coming back.
func (s *Service) Revoke(ctx context.Context, actor, serial, reason string) (ca.Record, error) {
	rec, err := s.cfg.Authority.Revoke(ctx, serial, reason, actor)
	if errors.Is(err, ca.ErrNotRevoked) {
		kept, lost := s.cfg.Authority.Record(ctx, serial)
		if lost != nil || s.endUsing(kept, "is to be revoked") == 0 {
			return ca.Record{}, fmt.Errorf("%w; it is still valid: repeat this once that is mended", err)
		}
		return ca.Record{}, fmt.Errorf("%w; its live session was ended, but the certificate is still valid and the station can come back with it: repeat this once that is mended", err)
	}
	if err != nil {
		return ca.Record{}, err
	}
	s.endUsing(rec, "was revoked")
	return rec, nil
}

// RevokeCertificate revokes a certificate that is at hand. One of another CA needn't be on
// record, such as a station's that came with the operator's name in it, or its maker's: it
// is put there for this, as its holder's, and lets nobody in from then on.
func (s *Service) RevokeCertificate(ctx context.Context, actor string, cert *x509.Certificate, reason string) (ca.Record, error) {
	rec, known, err := s.cfg.Authority.Status(ctx, cert)
	switch {
	case err != nil:
		return ca.Record{}, err
	case known:
		return s.Revoke(ctx, actor, rec.Serial, reason)
	case !slices.Contains(ca.Reasons(), reason): // before it is put on record
		return ca.Record{}, fmt.Errorf("%w: %q (known: %s)", ca.ErrUnknownReason, reason, strings.Join(ca.Reasons(), ", "))
	case cert.IsCA:
		return ca.Record{}, fmt.Errorf("%s is a CA, which isn't revoked here: `bollard ca trust remove` ends the trust in a root", cert.Subject)
	}
	for _, kind := range ca.Kinds() {
		for _, issuer := range s.cfg.Authority.Intermediates(kind) {
			if cert.CheckSignatureFrom(issuer) == nil {
				return ca.Record{}, fmt.Errorf("certificate %s has our signature and isn't on record, so that it lets nobody in", ca.SerialOf(cert))
			}
		}
	}
	station, err := s.holderOutside(ctx, cert)
	if err != nil {
		return ca.Record{}, fmt.Errorf("couldn't look up whose certificate %s is: %w", ca.SerialOf(cert), err)
	}
	if err := s.cfg.Authority.RecordExternal(ctx, cert, station, actor); err != nil {
		return ca.Record{}, err
	}
	if rec, _, err = s.cfg.Authority.Status(ctx, cert); err != nil {
		return ca.Record{}, err
	}
	return s.Revoke(ctx, actor, rec.Serial, reason)
}

// holderOutside is the key of the station that has an outside certificate's key on record,
// or else that the certificate proves; "" if there is none. A key is one station's: recorded
// as another's or nobody's, the certificate would keep its holder from a new one for the key.
func (s *Service) holderOutside(ctx context.Context, cert *x509.Certificate) (string, error) {
	if station, known, err := s.cfg.Authority.StationOfKey(ctx, cert); err != nil || known {
		return station, err
	}
	st, err := s.named(ctx, cert)
	if errors.Is(err, ErrUnknownStation) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if reason, pinned := pinReason(cert, &st); reason != "" || !pinned && commonNameReason(cert, &st) != "" {
		return "", nil
	}
	return keyOf(&st), nil
}

// endUsing ends the sessions that were proven with a certificate.
func (s *Service) endUsing(rec ca.Record, fate string) int {
	sum := sha256.Sum256(rec.DER)
	n := s.endIf(func(adm Admission) (string, bool) {
		return "certificate " + rec.Serial + " " + fate, adm.Leaf != nil && adm.Leaf.Sum == sum
	})
	if n > 0 {
		s.log.Info("session ended for its certificate", slog.String("station", rec.Station), slog.String("serial", rec.Serial), slog.String("reason", fate))
	}
	return n
}

func (s *Service) update(ctx context.Context, key string, change func(*Station) ([]ledger.Event, error)) (Station, error) {
	st, err := s.store.UpdateStation(ctx, key, change)
	if err != nil {
		return Station{}, notChanged(key, err)
	}
	s.refusals.latest(&st)
	s.sightings.latest(&st)
	return st, nil
}

// notChanged says which station wasn't changed, unless the error names it.
func notChanged(key string, err error) error {
	if errors.Is(err, ErrUnknownStation) {
		return err
	}
	return fmt.Errorf("couldn't change station %q: %w", key, err)
}

func (s *Service) updateAndPoke(ctx context.Context, key string, change func(*Station) ([]ledger.Event, error)) (Station, error) {
	st, err := s.update(ctx, key, change)
	if err != nil {
		return Station{}, err
	}
	s.pokeStation(key)
	return st, nil
}

// pokeStation has the plan of a connected station looked at.
func (s *Service) pokeStation(key string) {
	for _, l := range s.allLive() {
		if l.key == key {
			l.poke(s)
		}
	}
}
