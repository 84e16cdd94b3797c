package fleet

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"bollard/internal/failpoint"
	"bollard/ledger"
	"bollard/ocpp"
)

const (
	// reconnectWait is how long a station has to come back by itself with the
	// password it accepted (A01 scenario) before its session is ended.
	reconnectWait = 2 * time.Minute
	// pendingLimit is how long an undecided password is left to a restart of the
	// station: then its session is ended, so that the next login decides.
	pendingLimit = 15 * time.Minute
)

// Rotate has the station take a new, generated password (A01), at once if it is
// connected. Nobody is told it: Bollard keeps a hash, the station the password.
func (s *Service) Rotate(ctx context.Context, actor, identity string) (Station, error) {
	key, err := s.key(identity)
	if err != nil {
		return Station{}, err
	}
	if err := s.askAnew(ctx, key, StepPassword); err != nil {
		return Station{}, err
	}
	return s.updateAndPoke(ctx, key, func(st *Station) ([]ledger.Event, error) {
		switch {
		case st.FloorProfile >= 3:
			return nil, fmt.Errorf("station %q proves itself by certificate and has no password to change", st.Identity)
		case st.Password == nil:
			return nil, fmt.Errorf("station %q has no password yet: `bollard station password %s` sets one", st.Identity, st.Identity)
		}
		st.RotateWanted, st.PlanNote = true, ""
		return []ledger.Event{{Kind: "station.rotate", Subject: key, Actor: actor}}, nil
	})
}

func (s *Service) needsPassword(_ context.Context, sit *situation) bool {
	if sit.st.lowering(sit.now) {
		return sit.adm.Profile >= 3 && sit.st.RotateWanted
	}
	return sit.adm.Profile < 3 && sit.st.FloorProfile < 3 && sit.st.Password != nil && (sit.st.RotateWanted || sit.st.Pending != nil)
}

// rotate gives the station a new password. It is stored beside the one in force
// before it is sent: whatever becomes of the answer, Bollard knows what the
// station may come with.
func (s *Service) rotate(ctx context.Context, sit *situation) (string, bool, error) {
	const what = "couldn't change the password"
	if sit.adm.Profile >= 3 {
		return s.lowerPassword(ctx, sit)
	}
	if sit.st.Pending != nil {
		return s.decide(ctx, sit)
	}
	secret, pending, err := s.pend(ctx, sit, func(st *Station) bool { return st.RotateWanted })
	if err != nil {
		return what, false, err
	}
	failpoint.Hit("fleet.plan-password-stored")
	status, err := s.sendPassword(ctx, sit.sess, secret)
	if sit.sess.Version() == ocpp.V21 && errors.Is(pointless(err), errPointless) {
		status, err = s.passwordInSlot(ctx, sit, secret, err)
	}
	failpoint.Hit("fleet.plan-password-answered")
	switch {
	case err == nil && status == ocpp.StatusRebootRequired:
		return s.rebootFor(ctx, sit, pending)
	case err == nil:
		// A01.FR.03: from the known Accepted on only the new one.
		if err := s.promote(ctx, sit.l.key, pending, "bollard"); err != nil {
			return "couldn't record the new password; its first use decides", false, err
		}
		s.endUnlessBack(sit)
		return "station took a new password and is to come back with it", true, nil
	case unchanged(err):
		// A01.FR.04: any other status means unchanged.
		if err := s.dropPending(ctx, sit.l.key, pending, "bollard"); err != nil {
			return what, false, err
		}
		err = pointless(err)
		if errors.Is(err, errPointless) {
			err = fmt.Errorf("%w; set it on the station and with `bollard station password %s`", err, sit.st.Identity)
		}
		return what, false, err
	}
	return "couldn't hear whether the station took the new password; its next login decides", false, err
}

// pend makes a new password and stores it beside the one in force, as long as
// that is the one looked at and still holds.
func (s *Service) pend(ctx context.Context, sit *situation, still func(*Station) bool) (string, *PendingPassword, error) {
	secret := generatePassword()
	credential, err := s.secrets.newCredential(ctx, kindGenerated, []byte(secret), s.clock())
	if err != nil {
		return "", nil, err
	}
	pending := PendingPassword{Credential: *credential, SentAt: s.clock()}
	old := sit.st.Password.Hash
	_, err = s.store.UpdateStation(ctx, sit.l.key, func(st *Station) ([]ledger.Event, error) {
		if st.Pending != nil || st.Password == nil || !bytes.Equal(st.Password.Hash, old) || !still(st) {
			return nil, errors.New("the password was changed meanwhile")
		}
		st.Pending = &pending
		return []ledger.Event{passwordEvent(sit.l.key, "password.pending", "bollard")}, nil
	})
	if err != nil {
		return "", nil, err
	}
	return secret, &pending, nil
}

// sendPassword uses each version's own way (A01.FR.02): hex of the bytes in 1.6,
// the text itself in 2.x (A00.FR.205). What is generated is printable ASCII: a
// 1.6 station that takes the hex for text, or decodes it, means the same.
func (s *Service) sendPassword(ctx context.Context, sess Session, secret string) (string, error) {
	if sess.Version() == ocpp.V16 {
		return call(ctx, sess, ocpp.ActionChangeConfiguration,
			ocpp.ChangeConfigurationRequest16{Key: "AuthorizationKey", Value: hex.EncodeToString([]byte(secret))},
			ocpp.StatusAccepted, ocpp.StatusRebootRequired)
	}
	return setVariable(ctx, sess, ocpp.Component{Name: "SecurityCtrlr"}, "BasicAuthPassword", secret)
}

// unchanged says that the station answered that it kept its password. A station
// that failed inside may have changed it all the same.
func unchanged(err error) bool {
	var failure *ocpp.CallFailure
	if errors.As(err, &failure) {
		return failure.Code != ocpp.InternalError && failure.Code != ocpp.GenericError
	}
	return answered(err)
}

// decide brings about the login that shows which password the station has.
func (s *Service) decide(ctx context.Context, sit *situation) (string, bool, error) {
	pending := sit.st.Pending
	if sit.now.Sub(pending.SentAt) >= pendingLimit {
		sit.sess.End("its next login shows which password the station has")
		return "station is to log in again, which shows which password it has", false, nil
	}
	if err := s.restart(ctx, sit.sess); err != nil {
		return "couldn't have the station restart with its new password", false, err
	}
	return "asked to restart, so that its login shows which password it has", false, nil
}

// rebootFor notes that the new password takes effect with a restart and asks
// for one.
func (s *Service) rebootFor(ctx context.Context, sit *situation, pending *PendingPassword) (string, bool, error) {
	const what = "couldn't have the station restart with its new password"
	_, err := s.store.UpdateStation(ctx, sit.l.key, func(st *Station) ([]ledger.Event, error) {
		if samePending(st.Pending, pending) {
			st.Pending.Reboot = true
		}
		return nil, nil
	})
	if err == nil {
		err = s.restart(ctx, sit.sess)
	}
	if err != nil {
		return what, false, err
	}
	return "asked to restart with its new password", false, nil
}

// restart resets the station once it is idle.
func (s *Service) restart(ctx context.Context, sess Session) error {
	kind, accept := ocpp.ResetOnIdle, []string{ocpp.StatusAccepted, ocpp.StatusScheduled}
	if sess.Version() == ocpp.V16 {
		kind, accept = ocpp.ResetSoft, accept[:1]
	}
	_, err := call(ctx, sess, ocpp.ActionReset, ocpp.ResetRequest{Type: kind}, accept...)
	return err
}

// endUnlessBack ends the session that changed its password, if the station
// doesn't end it itself.
func (s *Service) endUnlessBack(sit *situation) {
	sit.l.later(s, reconnectWait, func() {
		sit.sess.End("password was changed and the station didn't come back by itself")
	})
}

func samePending(a, b *PendingPassword) bool {
	return a != nil && b != nil && bytes.Equal(a.Credential.Hash, b.Credential.Hash)
}

// promote makes the pending password the only one.
func (s *Service) promote(ctx context.Context, key string, pending *PendingPassword, actor string) error {
	_, err := s.store.UpdateStation(ctx, key, func(st *Station) ([]ledger.Event, error) {
		if !samePending(st.Pending, pending) {
			return nil, nil // a login decided already, or the operator set another
		}
		return promoted(st, actor), nil
	})
	if err != nil {
		return err
	}
	s.secrets.forget(key)
	return s.learnSecrets(ctx)
}

// promoted changes the record to the pending password.
func promoted(st *Station, actor string) []ledger.Event {
	credential := st.Pending.Credential
	st.Password, st.Pending, st.RotateWanted = &credential, nil, false
	return []ledger.Event{passwordEvent(keyOf(st), "password.changed", actor)}
}

func (s *Service) dropPending(ctx context.Context, key string, pending *PendingPassword, actor string) error {
	_, err := s.store.UpdateStation(ctx, key, func(st *Station) ([]ledger.Event, error) {
		if !samePending(st.Pending, pending) {
			return nil, nil
		}
		st.Pending = nil
		return []ledger.Event{passwordEvent(key, "password.kept", actor)}, nil
	})
	return err
}

// loginDecides applies what a login tells of a pending password. Only a session
// that could have come with either counts: an older one, whose record was late,
// says nothing about what the station did since.
func loginDecides(st *Station, adm *Admission, now time.Time) ([]ledger.Event, error) {
	actor := "station:" + keyOf(st)
	proved := adm.Station.Password
	if adm.NewPassword {
		proved = &adm.Station.Pending.Credential
	}
	known := samePending(st.Pending, adm.Station.Pending)
	switch {
	case adm.NewPassword && known:
		return promoted(st, actor), nil
	case st.Password == nil || proved == nil || !bytes.Equal(st.Password.Hash, proved.Hash):
		return nil, staleError("password was changed while the station connected")
	case !known || adm.NewPassword:
		return nil, nil
	case st.Pending.Reboot && now.Sub(st.Pending.SentAt) < pendingLimit:
		return nil, nil // it came back before it restarted
	}
	st.Pending = nil
	return []ledger.Event{passwordEvent(keyOf(st), "password.kept", actor)}, nil
}

func passwordEvent(key, kind, actor string) ledger.Event {
	return ledger.Event{Kind: kind, Subject: key, Actor: actor}
}
