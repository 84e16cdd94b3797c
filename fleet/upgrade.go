package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"bollard/ca"
	"bollard/ledger"
	"bollard/ocpp"
)

// A step that failed is tried again after stepRetry, doubling up to a day, at
// most stepTries times; then it waits for the operator, a restart or the day
// after the last try.
const (
	stepRetry    = time.Minute
	stepRetryMax = 24 * time.Hour
	stepTries    = 6
	// After a delivery the station is left alone this long to come back with the
	// certificate before it is asked for another one (A02.FR.29).
	deliveryRest = time.Hour
)

// attempts are the tries of a station's plan steps. They outlive sessions, so
// that a station that reconnects after each try isn't driven in circles.
type attempts struct{ renew, switching step }

type step struct {
	tries int
	next  time.Time
}

func (t *step) due(now time.Time) bool {
	if t.tries >= stepTries && !now.Before(t.next) {
		t.tries = stepTries - 1 // the day after the last try
	}
	return !now.Before(t.next)
}

func (t *step) tried(now time.Time) time.Duration {
	d := retryDelay(stepRetry, stepRetryMax, t.tries)
	t.tries++
	if t.tries >= stepTries {
		d = stepRetryMax
	}
	t.next = now.Add(d)
	return d
}

func (s *Service) attemptsOf(key string) *attempts {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.tries[key]
	if a == nil {
		a = &attempts{}
		s.tries[key] = a
	}
	return a
}

func (s *Service) forgetTries(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tries, key)
}

// claimStep takes a step if it is due and says when it may be taken again.
func (s *Service) claimStep(key string, which func(*attempts) *step) (time.Duration, bool) {
	a := s.attemptsOf(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	t, now := which(a), s.clock()
	if !t.due(now) {
		return t.next.Sub(now), false
	}
	return t.tried(now), true
}

func renewStep(a *attempts) *step  { return &a.renew }
func switchStep(a *attempts) *step { return &a.switching }

// plan brings a connected station nearer to what is wanted of it: open orders
// first, then a certificate if it needs one, then the profile. Every step may
// be repeated; nothing the station still connects with is touched.
func (s *Service) plan(ctx context.Context, l *live) {
	if l.session.Security() != SecurityBollard || !l.isReady() {
		return
	}
	if err := s.resume(ctx, l); err != nil {
		s.planFailed(ctx, l, "couldn't take up certificate orders", err)
		return
	}
	if ctx.Err() != nil {
		return
	}
	st, err := s.store.Station(ctx, l.key)
	if err != nil {
		s.planFailed(ctx, l, "couldn't look up the station", err)
		return
	}
	orders, err := s.store.Orders(ctx, l.key, ordersKept)
	if err != nil {
		s.planFailed(ctx, l, "couldn't read certificate orders", err)
		return
	}
	switch needs := s.needs(ctx, l.session, &st, orders); needs {
	case needsCertificate:
		s.step(ctx, l, renewStep, s.trigger)
	case needsProfile:
		s.step(ctx, l, switchStep, func(ctx context.Context, sess Session) (string, error) {
			return s.switchProfile(ctx, sess, st.WantedProfile)
		})
	case needsNothing:
	}
}

type need uint8

const (
	needsNothing need = iota
	needsCertificate
	needsProfile
)

func (s *Service) needs(ctx context.Context, sess Session, st *Station, orders []Order) need {
	adm, now := sess.Admission(), s.clock()
	usable, rested := false, true
	for i := range orders {
		o := &orders[i]
		if open(o) {
			return needsNothing // it is being worked on
		}
		if o.State != OrderDelivered && o.State != OrderConfirmed {
			continue
		}
		issued, err := s.cfg.Authority.Lookup(ctx, o.Serial)
		if err == nil && issued.State == ca.StateIssued && now.Before(ca.RenewAt(issued.Certificate)) {
			usable = true
			if o.State == OrderDelivered && now.Sub(o.UpdatedAt) < deliveryRest {
				rested = false
			}
			break // newest first: older ones don't matter
		}
	}
	own := adm.Leaf != nil && !adm.Factory
	// A station that just got a certificate and comes back on what it had may
	// still be on its way to the new one.
	patient := !rested && adm.Leaf != nil && (adm.Factory || now.After(adm.Leaf.NotAfter))
	due := own && !now.Before(ca.RenewAt(adm.Leaf))
	wanted := st.WantedProfile
	switch {
	case st.RenewWanted && !patient, adm.Factory && rested, due && rested && !usable, due && rested && adm.Profile == 3,
		wanted == 3 && adm.Profile < 3 && !usable:
		return needsCertificate
	case wanted > adm.Profile:
		return needsProfile
	}
	return needsNothing
}

// step runs one action if it is its time, and looks again when it failed.
func (s *Service) step(ctx context.Context, l *live, which func(*attempts) *step, do func(context.Context, Session) (string, error)) {
	wait, due := s.claimStep(l.key, which)
	again := func() { l.later(s, wait, func() { l.poke(s) }) }
	if !due {
		again()
		return
	}
	note, err := do(ctx, l.session)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		s.planFailed(ctx, l, note, err)
	} else {
		s.note(ctx, l.key, note)
	}
	again()
}

func (s *Service) planFailed(ctx context.Context, l *live, what string, err error) {
	if ctx.Err() != nil {
		return
	}
	s.log.Warn("station plan waits", slog.String("station", l.key), slog.String("session", l.session.ID()),
		slog.String("reason", what), slog.Any("err", err))
	s.note(ctx, l.key, what+": "+err.Error())
}

// refusedStep is a station's negative answer.
type refusedStep struct{ status string }

func (e refusedStep) Error() string { return "station answered " + e.status }

// call sends a CALL whose answer is a status, and accepts some of them.
func call(ctx context.Context, sess Session, action string, payload any, accept ...string) (string, error) {
	answer, err := sess.Call(ctx, action, payload)
	if err != nil {
		return "", err
	}
	var status ocpp.GenericStatus
	if err := ocpp.DecodeStrict(answer, &status); err != nil {
		return "", fmt.Errorf("couldn't read the station's answer to %s: %w", action, err)
	}
	for _, a := range accept {
		if status.Status == a {
			return status.Status, nil
		}
	}
	return "", refusedStep{capped(status.Status)}
}

// trigger sets the organisation the CSR must carry (A02 prerequisite: CpoName,
// OrganizationName) and asks for a CSR. A station that can't set it may have it
// right already; its CSR will show.
func (s *Service) trigger(ctx context.Context, sess Session) (string, error) {
	action, payload := ocpp.ActionTriggerMessage, ocpp.TriggerMessageRequest{RequestedMessage: ocpp.TriggerSignChargingStation}
	var err error
	if sess.Version() == ocpp.V16 {
		_, err = call(ctx, sess, ocpp.ActionChangeConfiguration, ocpp.ChangeConfigurationRequest16{Key: "CpoName", Value: s.cfg.Organisation},
			ocpp.StatusAccepted, ocpp.StatusRebootRequired)
		action, payload.RequestedMessage = ocpp.ActionExtendedTrigger, ocpp.TriggerSignChargePoint
	} else {
		_, err = setVariable(ctx, sess, "SecurityCtrlr", "OrganizationName", s.cfg.Organisation)
	}
	if err != nil && !answered(err) {
		return "couldn't set the organisation for the certificate request", err
	}
	if _, err := call(ctx, sess, action, payload, ocpp.StatusAccepted); err != nil {
		return "couldn't have the station ask for a certificate", err
	}
	s.recordStep(ctx, sess, "plan.triggered", nil)
	return "asked for a certificate request", nil
}

// answered says that the station did answer, only not what was hoped for.
func answered(err error) bool {
	var refused refusedStep
	var failure *ocpp.CallFailure
	return errors.As(err, &refused) || errors.As(err, &failure)
}

// setVariable sets one variable (2.x) and returns its attribute status.
func setVariable(ctx context.Context, sess Session, component, variable, value string) (string, error) {
	answer, err := sess.Call(ctx, ocpp.ActionSetVariables, ocpp.SetVariablesRequest{SetVariableData: []ocpp.SetVariable{{
		AttributeValue: value, Component: ocpp.Component{Name: component}, Variable: ocpp.Variable{Name: variable},
	}}})
	if err != nil {
		return "", err
	}
	var result ocpp.SetVariablesResponse
	if err := ocpp.DecodeStrict(answer, &result); err != nil {
		return "", fmt.Errorf("couldn't read the station's answer to SetVariables: %w", err)
	}
	if len(result.SetVariableResult) != 1 {
		return "", fmt.Errorf("station answered SetVariables with %d results instead of one", len(result.SetVariableResult))
	}
	status := result.SetVariableResult[0].AttributeStatus
	if status != ocpp.StatusAccepted && status != ocpp.StatusRebootRequired {
		return "", refusedStep{capped(status)}
	}
	return status, nil
}

// getVariables reads variables of one component (2.x); those the station
// doesn't have are missing from the result.
func getVariables(ctx context.Context, sess Session, component ocpp.Component, names ...string) (map[string]string, error) {
	request := ocpp.GetVariablesRequest{}
	for _, n := range names {
		request.GetVariableData = append(request.GetVariableData, ocpp.GetVariable{Component: component, Variable: ocpp.Variable{Name: n}})
	}
	answer, err := sess.Call(ctx, ocpp.ActionGetVariables, request)
	if err != nil {
		return nil, err
	}
	var result ocpp.GetVariablesResponse
	if err := ocpp.DecodeStrict(json.RawMessage(answer), &result); err != nil {
		return nil, fmt.Errorf("couldn't read the station's answer to GetVariables: %w", err)
	}
	out := map[string]string{}
	for _, r := range result.GetVariableResult {
		if r.AttributeStatus == ocpp.StatusAccepted {
			out[r.Variable.Name] = r.AttributeValue
		}
	}
	return out, nil
}

func (s *Service) recordStep(ctx context.Context, sess Session, kind string, data map[string]string) {
	key := keyOfSession(sess)
	if err := s.record(ctx, ledger.Event{Kind: kind, Subject: key, Actor: "bollard", Data: data}); err != nil && ctx.Err() == nil {
		s.log.Warn("couldn't record a step of a plan", slog.String("station", key), slog.Any("err", err))
	}
}

func profileData(profile int) map[string]string {
	return map[string]string{"profile": strconv.Itoa(profile)}
}
