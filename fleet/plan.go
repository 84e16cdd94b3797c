package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"bollard/internal/failpoint"
	"bollard/ledger"
	"bollard/ocpp"
)

// A step that failed is tried again after stepRetry, doubling up to a day, at
// most stepTries times; then it waits for the operator or the day after the
// last try.
const (
	stepRetry    = time.Minute
	stepRetryMax = 24 * time.Hour
	stepTries    = 6
	// roundsAtOnce bounds the steps of one look at a station.
	roundsAtOnce = 8
)

// StepName names one kind of step toward what is wanted of a station.
type StepName string

// The steps, in the order they are taken.
const (
	StepPassword    StepName = "password"    // A01
	StepCertificate StepName = "certificate" // A02, A03
	StepRoots       StepName = "roots"       // M03, M04, M05
	StepProfile     StepName = "profile"     // A05, B09, B10
	StepOrder       StepName = "order"       // NetworkConfigurationPriority, after a way down that came to nothing
	StepTime        StepName = "time"        // ClockCtrlr.TimeSource
	StepFields      StepName = "fields"      // OCPPCommCtrlr.FieldLength of answers for cars
	StepSECC        StepName = "secc"        // A02, A03: certificates toward cars of ISO 15118-2
	StepSECC20      StepName = "secc-20"     // and of ISO 15118-20
	StepChain       StepName = "chain"       // M05, B09: once to the listener of the next root, and back
)

// Plan is what is recorded of bringing a station from what was seen of it to
// what is wanted. Steps aren't queued: each time they follow from wanted and
// seen anew, so that a lost answer or a crash repeats a step and never skips
// one. The record keeps them from being repeated without end.
type Plan struct {
	Tries    map[StepName]Try `json:"tries,omitempty"`
	Rejected int              `json:"rejected,omitempty"` // certificates the station rejected in a row
	// RejectedSECC counts those toward cars; those made before SECCSince are to be
	// renewed.
	RejectedSECC int                   `json:"rejected_secc,omitempty"`
	SECCSince    time.Time             `json:"secc_since,omitzero"`
	Wanted       []WantedRoot          `json:"wanted,omitempty"`
	Seen         map[string][]SeenRoot `json:"seen,omitempty"` // by use, as the station reported last
	SeenAt       time.Time             `json:"seen_at,omitzero"`
	Look         bool                  `json:"look,omitempty"` // the station is to report its roots
	Limits       StationLimits         `json:"limits,omitzero"`
	// Slot is the network profile slot being filled for SlotProfile (2.x); "": none.
	Slot        string `json:"slot,omitempty"`
	SlotProfile int    `json:"slot_profile,omitempty"`
	// The slots between which a password was changed last: the one it was
	// written into, and the one in use then (2.1).
	PasswordSlot string `json:"password_slot,omitempty"`
	PasswordLeft string `json:"password_left,omitempty"`
	// Asked are the keys of CSRs that went to the back end, by certificate type.
	Asked map[string]AskedKeys `json:"asked,omitempty"`
	// CarAnswer is the longest answer for a car that the station takes, in characters, by
	// its own word; 0: as its version has it. FieldsOf is the firmware it said so with.
	CarAnswer int       `json:"car_answer,omitempty"`
	FieldsOf  string    `json:"fields_of,omitempty"`
	FieldsAt  time.Time `json:"fields_at,omitzero"`
	// Firmware is the version of the last BootNotification, FirmwareTold when the
	// station last told of an update.
	Firmware     string    `json:"firmware,omitempty"`
	FirmwareTold time.Time `json:"firmware_told,omitzero"`
	// Vouched are network profile slots that lead to Bollard on no lower profile:
	// those the back end was let fill, and the one in use.
	Vouched []string `json:"vouched,omitempty"`
	// AdoptedAt is when the station's password was taken over from its back end.
	AdoptedAt time.Time `json:"adopted_at,omitzero"`
	// Own is what is wanted of this station in place of what is wanted of its
	// group; nil: nothing.
	Own *Wants `json:"own,omitempty"`
	// Rollout is the one that last released the station to change.
	Rollout string `json:"rollout,omitempty"`
	// What its next certificates are to be: their type and longest validity.
	CertificateType string        `json:"certificate_type,omitempty"`
	CertificateLife time.Duration `json:"certificate_life,omitempty"`
	// The change of the CSMS root, by the serial of the new one: the station is
	// to connect once under it; it did; its newest session is under it; and the
	// network profile slot that leads there.
	ChainWanted string `json:"chain_wanted,omitempty"`
	ChainProven string `json:"chain_proven,omitempty"`
	OnNewChain  bool   `json:"on_new_chain,omitempty"`
	ChainSlot   string `json:"chain_slot,omitempty"`
	TimeWanted  string `json:"time_wanted,omitempty"`
	TimeSource  string `json:"time_source,omitempty"` // as the station reported it
}

// Try is how often a step was tried and what came of it.
type Try struct {
	Count int       `json:"count"`
	Next  time.Time `json:"next"`
	// Begun is set before the step's first message goes out and cleared when its
	// outcome is known: what is set at a start was cut off.
	Begun time.Time `json:"begun,omitzero"`
	Note  string    `json:"note,omitempty"`
	// Stopped says that trying again is pointless until the operator asks anew.
	Stopped bool `json:"stopped,omitempty"`
}

// due: nothing is put off for longer than a day.
func (t *Try) due(now time.Time) bool { return !t.Stopped && !putOff(now, t.Next, stepRetryMax) }

// putOff says whether a time is to be waited for: not if it is twice as far away as
// anything is put off, which a clock did that was ahead.
func putOff(now, until time.Time, longest time.Duration) bool {
	wait := until.Sub(now)
	return wait > 0 && wait <= 2*longest
}

// begin counts a try and sets the time of the next.
func (t *Try) begin(now time.Time) time.Duration {
	if t.Count >= stepTries {
		t.Count = stepTries - 1 // the day after the last try
	}
	d := retryDelay(stepRetry, stepRetryMax, t.Count)
	if t.Count++; t.Count >= stepTries {
		d = stepRetryMax
	}
	t.Next, t.Begun = now.Add(d), now
	return d
}

// situation is what a step decides on: all that is known of a station now.
type situation struct {
	l      *live
	sess   Session
	adm    Admission
	st     Station
	plan   Plan
	orders *[]Order // nil until recentOrders was asked
	now    time.Time
	// wrapped: the 1.6 station takes messages about roots inside DataTransfer only.
	wrapped bool
}

// planStep is one kind of step. needed must have no effect; do may be repeated at
// any time. done says that its effect was seen, not only asked for.
type planStep struct {
	name   StepName
	needed func(context.Context, *situation) bool
	do     func(context.Context, *situation) (note string, done bool, err error)
}

func (s *Service) steps() []planStep {
	return []planStep{
		{StepPassword, s.needsPassword, s.rotate},
		{StepCertificate, s.needsCertificate, s.trigger},
		{StepRoots, s.needsRoots, s.syncRoots},
		{StepOrder, s.needsOrder, s.restoreOrder},
		{StepTime, s.needsTime, s.setTime},
		{StepFields, s.needsFields, s.readFields},
		s.stepSECC(edition2),
		s.stepSECC(edition20),
		{StepChain, s.needsChain, s.moveChain},
		{StepProfile, s.needsProfile, s.switchProfile},
	}
}

// plan brings a connected station nearer to what is wanted of it: open orders
// first, then one step after the other. Nothing the station still connects with
// is touched.
func (s *Service) plan(ctx context.Context, l *live) {
	if !l.isReady() {
		return
	}
	issuing := l.session.Security() == SecurityBollard
	if issuing {
		if err := s.resume(ctx, l); err != nil {
			s.planFailed(ctx, l, "couldn't take up certificate orders", err)
			return
		}
	}
	for range roundsAtOnce {
		if ctx.Err() != nil || !l.isReady() {
			return
		}
		sit, err := s.situation(ctx, l)
		if err != nil {
			s.planFailed(ctx, l, "couldn't look up the station", err)
			return
		}
		if sit.st.WantedProfile < sit.st.FloorProfile && !sit.st.lowering(sit.now) {
			if sit.st, err = s.lapse(ctx, l.key); err != nil {
				s.planFailed(ctx, l, "couldn't record that an approved change of the profile lapsed", err)
				return
			}
		}
		if !s.round(ctx, sit, issuing) {
			return
		}
	}
}

// round takes the first step that is needed and due; true asks for another
// round. The password is Bollard's in every security mode, the rest only where
// it issues.
func (s *Service) round(ctx context.Context, sit *situation, issuing bool) bool {
	for _, step := range s.steps() {
		if !issuing && step.name != StepPassword || !step.needed(ctx, sit) {
			continue
		}
		again, more := s.take1(ctx, sit, step)
		if more {
			return true
		}
		if again > 0 {
			sit.l.later(s, again, func() { sit.l.poke(s) })
		}
		// The profile waits for its certificate; it judges itself what roots it needs.
		if step.name == StepCertificate {
			return false
		}
	}
	return false
}

// take1 runs one step if it is its time. wait is when to look again; more says
// that the step is done and the next may follow.
func (s *Service) take1(ctx context.Context, sit *situation, step planStep) (wait time.Duration, more bool) {
	try := sit.plan.Tries[step.name]
	switch {
	case try.Stopped:
		return 0, false
	case !try.due(sit.now):
		return try.Next.Sub(sit.now), false
	}
	if turn := s.turnOf(sit, step.name); turn > 0 {
		return turn, false
	}
	// The try is on disk before anything is sent: a station that makes us crash
	// isn't asked more often than one that doesn't answer.
	plan, err := s.store.UpdatePlan(ctx, sit.l.key, func(p *Plan) ([]ledger.Event, error) {
		t := p.Tries[step.name]
		wait = t.begin(sit.now)
		p.setTry(step.name, t)
		return nil, nil
	})
	if err != nil {
		s.planFailed(ctx, sit.l, "couldn't record a step", err)
		return stepRetry, false
	}
	sit.plan = plan
	failpoint.Hit("fleet.plan-begun")
	changed := sit.l.begin()
	note, done, err := step.do(ctx, sit)
	changed()
	failpoint.Hit("fleet.plan-done")
	if ctx.Err() != nil {
		return 0, false
	}
	stop := err != nil && errors.Is(err, errPointless)
	if err != nil {
		s.planFailed(ctx, sit.l, note, err)
		note += ": " + err.Error()
	} else if note != "" {
		s.note(ctx, sit.l.key, note)
	}
	plan, err = s.store.UpdatePlan(ctx, sit.l.key, func(p *Plan) ([]ledger.Event, error) {
		t, stands := p.Tries[step.name]
		if done || !stands { // or it was asked anew meanwhile
			delete(p.Tries, step.name)
			return nil, nil
		}
		t.Begun, t.Note, t.Stopped = time.Time{}, note, stop
		p.setTry(step.name, t)
		return nil, nil
	})
	if err != nil {
		s.planFailed(ctx, sit.l, "couldn't record the outcome of a step", err)
		return wait, false
	}
	sit.plan = plan
	return wait, done
}

// turnOf is how long a step waits that costs a signature.
func (s *Service) turnOf(sit *situation, step StepName) time.Duration {
	switch step {
	case StepCertificate:
		return s.renewalTurn(sit)
	case StepSECC, StepSECC20:
		return s.fleetTurn(sit)
	default:
		return 0
	}
}

func (p *Plan) setTry(name StepName, t Try) {
	if p.Tries == nil {
		p.Tries = map[StepName]Try{}
	}
	p.Tries[name] = t
}

// errPointless marks an error that doesn't go away by asking again.
var errPointless = errors.New("it is not tried again until you ask for it")

// pointless marks answers of a station that lacks a feature altogether.
func pointless(err error) error {
	var refused refusedStep
	var failure *ocpp.CallFailure
	lacks := errors.As(err, &refused) && (refused.status == ocpp.StatusNotSupported || refused.status == ocpp.StatusNotImplemented ||
		refused.status == "UnknownComponent" || refused.status == "UnknownVariable") ||
		errors.As(err, &failure) && (failure.Code == ocpp.NotImplemented || failure.Code == ocpp.NotSupported)
	if lacks {
		return fmt.Errorf("%w; %w", err, errPointless)
	}
	return err
}

func (s *Service) situation(ctx context.Context, l *live) (*situation, error) {
	st, err := s.store.Station(ctx, l.key)
	if err != nil {
		return nil, err
	}
	plan, err := s.store.Plan(ctx, l.key)
	if err != nil {
		return nil, err
	}
	return &situation{l: l, sess: l.session, adm: l.session.Admission(), st: st, plan: plan, now: s.clock()}, nil
}

// recentOrders are the station's newest for certificates of its own. Most looks at a
// station don't need them. If they can't be read, which is noted, ok is false: nothing
// is to be concluded.
func (s *Service) recentOrders(ctx context.Context, sit *situation) (orders []Order, ok bool) {
	if sit.orders == nil {
		list, err := s.store.Orders(ctx, sit.l.key, ordersKept)
		if err != nil {
			s.planFailed(ctx, sit.l, "couldn't read the station's certificate orders", err)
			return nil, false
		}
		// Waits begin now: one for a turn would end late by what reading took.
		sit.orders, sit.now = &list, s.clock()
	}
	return *sit.orders, true
}

// idle says that none of them is being worked on.
func (s *Service) idle(ctx context.Context, sit *situation) bool {
	orders, ok := s.recentOrders(ctx, sit)
	return ok && !slices.ContainsFunc(orders, func(o Order) bool { return open(&o) })
}

// askAnew forgets what was tried of some steps, because the operator asked for
// them.
func (s *Service) askAnew(ctx context.Context, key string, names ...StepName) error {
	if _, err := s.store.Station(ctx, key); err != nil {
		return err
	}
	return s.forget(ctx, key, names...)
}

// forget drops what was tried of some steps: they came about or are asked anew.
func (s *Service) forget(ctx context.Context, key string, names ...StepName) error {
	plan, err := s.store.Plan(ctx, key)
	if err != nil {
		return fmt.Errorf("couldn't read the plan of %q: %w", key, err)
	}
	renewing, toCars := slices.Contains(names, StepCertificate), slices.Contains(names, StepSECC)
	if !slices.ContainsFunc(names, func(n StepName) bool { _, ok := plan.Tries[n]; return ok }) &&
		(plan.Rejected == 0 || !renewing) && (plan.RejectedSECC == 0 || !toCars) {
		return nil
	}
	_, err = s.store.UpdatePlan(ctx, key, func(p *Plan) ([]ledger.Event, error) {
		for _, n := range names {
			delete(p.Tries, n)
		}
		if renewing {
			p.Rejected = 0
		}
		if toCars {
			p.RejectedSECC = 0
		}
		return nil, nil
	})
	if err != nil {
		return fmt.Errorf("couldn't change the plan of %q: %w", key, err)
	}
	return nil
}

func (s *Service) planFailed(ctx context.Context, l *live, what string, err error) {
	if ctx.Err() != nil {
		return
	}
	s.log.Warn("station plan waits", slog.String("station", l.key), slog.String("session", l.session.ID()),
		slog.String("reason", what), slog.Any("err", err))
	s.note(ctx, l.key, what+": "+err.Error())
}

// Plan returns what is recorded of bringing a station to what is wanted of it.
func (s *Service) Plan(ctx context.Context, identity string) (Plan, error) {
	st, err := s.Station(ctx, identity)
	if err != nil {
		return Plan{}, err
	}
	plan, err := s.store.Plan(ctx, keyOf(&st))
	if err != nil {
		return Plan{}, fmt.Errorf("couldn't read the plan of %q: %w", identity, err)
	}
	return plan, nil
}
