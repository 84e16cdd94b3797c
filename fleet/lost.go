package fleet

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"bollard/ledger"
)

// ErrRetired says that an identity was decommissioned.
var ErrRetired = errors.New("identity was decommissioned")

// RetirementStore keeps what was decommissioned. Its methods are bound as
// Store's are.
type RetirementStore interface {
	// RetireStation removes a station with its orders, events and the named
	// secrets, and keeps its identity as used up, in one transaction.
	RetireStation(ctx context.Context, key string, at time.Time, secrets []string, last func(*Station) []ledger.Event) error
	// Retired returns the identities that are used up, by key.
	Retired(ctx context.Context) (map[string]time.Time, error)
}

// errLost says that nothing is issued to a station that was lost, whoever asks.
var errLost = errors.New("station was reported lost")

func (st *Station) lost() string {
	return fmt.Sprintf("station was reported lost on %s (%s): `bollard station lost %s --found` lets it in again",
		st.LostAt.UTC().Format(time.RFC3339), st.LostReason, st.Identity)
}

// Lose keeps everybody out who comes as this station: its certificates are
// revoked as compromised, its session ends, its record stays. The block comes
// first: it holds even where a revocation can't be recorded.
func (s *Service) Lose(ctx context.Context, actor, identity, reason string) (Station, error) {
	key, err := s.key(identity)
	if err != nil {
		return Station{}, err
	}
	if reason, err = ledger.Reason(reason); err != nil {
		return Station{}, err
	}
	st, err := s.update(ctx, key, func(st *Station) ([]ledger.Event, error) {
		if st.LostAt.IsZero() {
			st.LostAt = s.clock()
		}
		st.LostReason = capped(reason)
		st.stayUp()
		// Who has the station may have its secrets too.
		st.Password, st.Pending, st.RotateWanted = nil, nil, false
		return []ledger.Event{{Kind: "station.lost", Subject: key, Actor: actor, Data: map[string]string{"reason": reason}}}, nil
	})
	if err != nil {
		return Station{}, err
	}
	s.secrets.forget(key)
	s.endIf(func(adm Admission) (string, bool) { return "station was reported lost", adm.Station.Key() == key })
	// What is being issued was judged before: it is waited for, to be revoked too.
	release, err := s.takeTurn(ctx, key)
	if err != nil {
		return Station{}, fmt.Errorf("the station is kept out, repeat this to revoke its certificates: %w", err)
	}
	defer release()
	err = s.endAttestation(ctx, actor, key, "privilegeWithdrawn")
	if err == nil {
		err = s.revokeAs(ctx, actor, &st, "keyCompromise")
	}
	if err != nil {
		return Station{}, fmt.Errorf("the station is kept out, repeat this to revoke what is left: %w", err)
	}
	return st, s.learnSecrets(ctx)
}

// Find lets a station that was lost come back. What it had stays revoked: it
// needs a password, a one-time secret for EST or its factory certificate.
// profile is the lowest it may begin with; one below its floor is a downgrade
// and takes approvals.
func (s *Service) Find(ctx context.Context, actor, identity string, profile int) (Station, error) {
	key, err := s.key(identity)
	if err != nil {
		return Station{}, err
	}
	before, err := s.Station(ctx, identity)
	if err != nil {
		return Station{}, err
	}
	var used []ledger.Event
	switch {
	case profile == 0 || profile >= before.FloorProfile:
	case profile == 2:
		grant, err := s.approvedDowngrade(ctx, &before)
		if err != nil {
			return Station{}, err
		}
		used = append(used, grant.Used(actor))
	default:
		return Station{}, fmt.Errorf("station %q never goes below security profile %d again (A05.FR.09)", before.Identity, before.FloorProfile)
	}
	return s.update(ctx, key, func(st *Station) ([]ledger.Event, error) {
		switch {
		case st.LostAt.IsZero():
			return nil, fmt.Errorf("station %q isn't reported lost", st.Identity)
		case downgradeText(st) != downgradeText(&before):
			return nil, errors.New("the station was changed meanwhile")
		}
		st.LostAt, st.LostReason = time.Time{}, ""
		from := st.FloorProfile
		if err := st.beginAt(profile); err != nil {
			return nil, err
		}
		return append(used, ledger.Event{Kind: "station.found", Subject: key, Actor: actor, Data: floorData(from, st.FloorProfile)}), nil
	})
}

// beginAt sets the floor to where a station with other credentials may begin:
// the recorded decision without which security never goes down. 0: as it is.
func (st *Station) beginAt(profile int) error {
	switch {
	case profile == 0:
	case profile < 1 || profile > 3:
		return badInput("profile %d: give 1, 2 or 3", profile)
	default:
		st.WantedProfile = max(st.WantedProfile, profile)
		st.FloorProfile = profile
	}
	return nil
}

func floorData(from, to int) map[string]string {
	return map[string]string{"floor-from": strconv.Itoa(from), "floor-to": strconv.Itoa(to)}
}

// Replacement is a station's new board under its old identity.
type Replacement struct {
	Serial      string
	FactoryHash string // of the new board's certificate, or ""
	FactoryKey  string // of its key, or ""
	// Profile is the lowest the new board may begin with; 0: no lower than before.
	Profile int
	Reason  string
}

// Replace gives a station's identity to another board. What the old one had is
// revoked and no longer taken, also where the old serial number was an alias;
// the new one proves itself by a new password, which is returned, a one-time
// secret for EST or its factory certificate.
func (s *Service) Replace(ctx context.Context, actor, identity string, r Replacement) (Station, string, error) {
	key, err := s.key(identity)
	if err != nil {
		return Station{}, "", err
	}
	if r.Reason, err = ledger.Reason(r.Reason); err != nil {
		return Station{}, "", err
	}
	before, err := s.Station(ctx, identity)
	if err != nil {
		return Station{}, "", err
	}
	password := generatePassword()
	credential, err := s.secrets.newCredential(ctx, kindGenerated, []byte(password), s.clock())
	if err != nil {
		return Station{}, "", err
	}
	st, err := s.store.UpdateStationAndPlan(ctx, key, func(st *Station, p *Plan) ([]ledger.Event, error) {
		if r.Serial == st.Serial {
			return nil, fmt.Errorf("serial number %q is the old board's: `bollard station renew` or `password` give a board new credentials", r.Serial)
		}
		from, floor := st.Serial, st.FloorProfile
		st.stayUp()
		st.Serial, st.Aliases, st.FactoryHash, st.FactoryKey = r.Serial, nil, strings.ToLower(r.FactoryHash), strings.ToLower(r.FactoryKey)
		st.Pending, st.RotateWanted, st.LeafSerial, st.RenewWanted, st.EK = nil, false, "", false, ""
		st.LostAt, st.LostReason, st.PlanNote = time.Time{}, "", ""
		if err := st.beginAt(r.Profile); err != nil {
			return nil, err
		}
		if err := checkFacts(st); err != nil {
			return nil, err
		}
		st.Password = nil
		if st.FloorProfile < 3 {
			st.Password = credential
		}
		// Its roots, slots and tries are the old board's.
		*p = Plan{Own: p.Own, Wanted: p.Wanted, CertificateType: p.CertificateType, CertificateLife: p.CertificateLife, TimeWanted: p.TimeWanted, Look: true}
		data := floorData(floor, st.FloorProfile)
		data["serial-from"], data["serial-to"], data["reason"] = from, st.Serial, fact(r.Reason)
		return []ledger.Event{{Kind: "station.replaced", Subject: key, Actor: actor, Data: data}}, nil
	})
	if err != nil {
		return Station{}, "", notChanged(key, err)
	}
	s.refusals.latest(&st)
	s.sightings.latest(&st)
	s.secrets.forget(key)
	s.endIf(func(adm Admission) (string, bool) { return "station's board was replaced", adm.Station.Key() == key })
	if err := s.revokeInTurn(ctx, actor, &before, "cessationOfOperation"); err != nil {
		return Station{}, "", fmt.Errorf("the board is replaced, repeat `bollard cert list --station %s` and revoke what is left: %w", identity, err)
	}
	if st.Password == nil {
		password = ""
	}
	return st, password, s.learnSecrets(ctx)
}

// Decommission ends a station for good: certificates are revoked, credentials,
// orders and what it told of itself are deleted, and its identity is used up.
// secrets names what others keep for it. Revocation comes first, so that it can
// be repeated.
func (s *Service) Decommission(ctx context.Context, actor, identity, reason string, secrets ...string) error {
	st, err := s.Station(ctx, identity)
	if err != nil {
		return err
	}
	key := keyOf(&st)
	if reason, err = ledger.Reason(reason); err != nil {
		return err
	}
	if err := s.revokeAs(ctx, actor, &st, "cessationOfOperation"); err != nil {
		return err
	}
	err = s.summedUp(key, func(sum func(*Station) []ledger.Event) error {
		return s.store.RetireStation(ctx, key, s.clock(), secrets, func(st *Station) []ledger.Event {
			return append(sum(st), ledger.Event{Kind: "station.decommissioned", Subject: key, Actor: actor,
				Data: map[string]string{"serial": st.Serial, "reason": reason}})
		})
	})
	if err != nil {
		return fmt.Errorf("couldn't decommission station %q: %w", identity, err)
	}
	return s.gone(ctx, actor, &st, "station was decommissioned")
}

// gone ends and forgets what memory has of a station that was removed, and
// revokes what was issued meanwhile.
func (s *Service) gone(ctx context.Context, actor string, st *Station, why string) error {
	key := keyOf(st)
	s.endIf(func(adm Admission) (string, bool) { return why, adm.Station.Key() == key })
	s.secrets.forget(key)
	s.refusals.forget(key)
	s.watcher.Forget(key)
	s.mu.Lock()
	delete(s.noted, key)
	s.mu.Unlock()
	if err := s.revokeInTurn(ctx, actor, st, "cessationOfOperation"); err != nil {
		return fmt.Errorf("%s, see `bollard cert list --station %s` and revoke what is left: %w", why, st.Identity, err)
	}
	return s.learnSecrets(ctx)
}
