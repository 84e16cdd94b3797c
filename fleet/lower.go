package fleet

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"bollard/approval"
	"bollard/internal/failpoint"
	"bollard/ledger"
	"bollard/ocpp"
)

// ActionDowngrade is the one way down there is: from security profile 3 to 2, of
// an OCPP 2.x station that has it (A00.FR.005, A05.FR.08 [2.1], errata of 2.0.1),
// after people have approved it. Never to 1 (A05.FR.09).
const ActionDowngrade = "station.downgrade"

// lowerMargin is kept of the approved time: a station that restarts shouldn't
// find it over.
const lowerMargin = 10 * time.Minute

// Approved tells whether enough people agreed to an action on a scope, with the
// text of what would be done.
type Approved func(ctx context.Context, action, scope, text string) (approval.Grant, error)

// Downgrade says what approving it for a station would allow (docket.Subject).
func (s *Service) Downgrade(ctx context.Context, identity string) (scope, text string, err error) {
	st, err := s.Station(ctx, identity)
	if err != nil {
		return "", "", err
	}
	if err := mayLower(&st); err != nil {
		return "", "", err
	}
	return "station:" + keyOf(&st), downgradeText(&st), nil
}

// downgradeText changes with the board, the record and the floor: what was
// approved for another is void.
func downgradeText(st *Station) string {
	return fmt.Sprintf("station: %s\nserial number: %s\nenrolled: %s\nsecurity profile: from %d to 2\n",
		keyOf(st), st.Serial, st.CreatedAt.UTC().Format(time.RFC3339), st.FloorProfile)
}

func mayLower(st *Station) error {
	switch {
	case st.FloorProfile != 3:
		return fmt.Errorf("station %q was never seen on security profile 3: there is nothing to lower", st.Identity)
	case st.Version == ocpp.V16.String() && st.LostAt.IsZero(): // what was lost begins anew
		return fmt.Errorf("station %q speaks OCPP 1.6, which has no way down (A05.FR.01)", st.Identity)
	}
	return nil
}

// lowering: people have approved that the station comes down, it hasn't, and the
// time for it isn't over.
func (st *Station) lowering(now time.Time) bool {
	return st.WantedProfile < st.FloorProfile && now.Before(st.LowerUntil)
}

// floor is the lowest profile that is accepted now. While a station comes down
// that is the lower one as soon as a password is set for it.
func (st *Station) floor(now time.Time) int {
	if st.lowering(now) && !st.RotateWanted {
		return st.WantedProfile
	}
	return st.FloorProfile
}

// stayUp ends what was approved of coming down.
func (st *Station) stayUp() {
	if st.LowerUntil.IsZero() {
		return
	}
	st.WantedProfile = max(st.WantedProfile, st.FloorProfile)
	st.LowerUntil, st.RotateWanted, st.Pending = time.Time{}, false, nil
}

// lower uses an approval up: from now until it expires the station may come down
// to profile 2, as soon as it has a new password. Until it was seen there,
// profile 3 goes on, and is the floor again when the time is over.
func (s *Service) lower(ctx context.Context, actor string, before *Station) (Station, error) {
	grant, err := s.approvedDowngrade(ctx, before)
	if err != nil {
		return Station{}, err
	}
	failpoint.Hit("fleet.lower-approved")
	key := keyOf(before)
	if err := s.askAnew(ctx, key, StepPassword, StepOrder, StepProfile); err != nil {
		return Station{}, err
	}
	st, err := s.updateAndPoke(ctx, key, func(st *Station) ([]ledger.Event, error) {
		if downgradeText(st) != downgradeText(before) {
			return nil, errors.New("what was approved was changed meanwhile")
		}
		st.WantedProfile, st.LowerUntil = 2, grant.Request.Expires
		st.RotateWanted, st.Pending, st.PlanNote = true, nil, ""
		return []ledger.Event{grant.Used(actor), {Kind: "station.lowering", Subject: key, Actor: actor, Data: map[string]string{
			"from": "3", "to": "2", "until": grant.Request.Expires.UTC().Format(time.RFC3339), "approval": grant.Request.Nonce, "approved-by": strings.Join(grant.By, ","),
		}, People: []string{"approved-by"}}}, nil
	})
	failpoint.Hit("fleet.lower-used")
	return st, err
}

func (s *Service) approvedDowngrade(ctx context.Context, st *Station) (approval.Grant, error) {
	if err := mayLower(st); err != nil {
		return approval.Grant{}, err
	}
	err := errors.New("nobody can approve it")
	if s.cfg.Approved != nil {
		var grant approval.Grant
		if grant, err = s.cfg.Approved(ctx, ActionDowngrade, "station:"+keyOf(st), downgradeText(st)); err == nil {
			return grant, nil
		}
	}
	return approval.Grant{}, fmt.Errorf("station %q was added with security profile 3, or seen on it, and goes below it only with approvals (A05.FR.09): %w", st.Identity, err)
}

// lapse takes back the wish for a lower profile whose time is over.
func (s *Service) lapse(ctx context.Context, key string) (Station, error) {
	return s.update(ctx, key, func(st *Station) ([]ledger.Event, error) {
		if st.WantedProfile >= st.FloorProfile || st.lowering(s.clock()) {
			return nil, nil
		}
		from := st.WantedProfile
		st.stayUp()
		st.PlanNote = "station didn't come down to the lower profile while that was approved"
		return []ledger.Event{{Kind: "station.lapsed", Subject: key, Actor: "bollard", Data: floorData(from, st.FloorProfile)}}, nil
	})
}

// lowerPassword gives a station that is to come down the password it comes with.
// On profile 3 it has no use for one, so the last one it took is the one it has:
// what became of an earlier one doesn't matter.
func (s *Service) lowerPassword(ctx context.Context, sit *situation) (string, bool, error) {
	const what = "couldn't set the password for the lower profile"
	if err := s.allowsLower(ctx, sit); err != nil {
		return what, false, err
	}
	secret := generatePassword()
	credential, err := s.secrets.newCredential(ctx, kindGenerated, []byte(secret), s.clock())
	if err != nil {
		return what, false, err
	}
	pending := PendingPassword{Credential: *credential, SentAt: s.clock()}
	if _, err = s.store.UpdateStation(ctx, sit.l.key, func(st *Station) ([]ledger.Event, error) {
		if !st.lowering(s.clock()) || !st.RotateWanted {
			return nil, errors.New("it was taken back meanwhile")
		}
		st.Pending = &pending
		return []ledger.Event{passwordEvent(sit.l.key, "password.pending", "bollard")}, nil
	}); err != nil {
		return what, false, err
	}
	failpoint.Hit("fleet.plan-password-stored")
	if _, err := s.sendPassword(ctx, sit.sess, secret); err != nil {
		return what, false, pointless(err)
	}
	failpoint.Hit("fleet.plan-password-answered")
	if err := s.promote(ctx, sit.l.key, &pending, "bollard"); err != nil {
		return what, false, err
	}
	return "station took the password for the lower profile", true, nil
}

// allowsLower asks the station whether it has the way down (A05.FR.08, .10).
func (s *Service) allowsLower(ctx context.Context, sit *situation) error {
	switch {
	case sit.sess.Version() == ocpp.V16:
		return fmt.Errorf("OCPP 1.6 has no way down (A05.FR.01); %w", errPointless)
	case sit.sess.Security() != SecurityBollard:
		return fmt.Errorf("its back end changes the profile; %w", errPointless)
	}
	vars, err := getVariables(ctx, sit.sess, ocpp.Component{Name: "SecurityCtrlr"}, "AllowSecurityProfileDowngrade")
	if err != nil {
		return pointless(err)
	}
	if !strings.EqualFold(strings.TrimSpace(vars["AllowSecurityProfileDowngrade"]), "true") {
		return fmt.Errorf("station doesn't say SecurityCtrlr.AllowSecurityProfileDowngrade = true (A05.FR.10); %w", errPointless)
	}
	return nil
}

// needsLower: it has the password it is to come with, and time enough.
func (s *Service) needsLower(ctx context.Context, sit *situation) bool {
	return sit.adm.Profile > sit.st.WantedProfile && !sit.st.RotateWanted && sit.now.Add(lowerMargin).Before(sit.st.LowerUntil) &&
		s.idle(ctx, sit)
}
