package station

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"bollard/ocpp"
)

// ErrNotAuthorised is returned by Charge when the CSMS does not let the token charge.
var ErrNotAuthorised = errors.New("the CSMS did not authorise the token")

// Session is a finished charging session.
type Session struct {
	Transaction string
	Energy      int // Wh
	Readings    int // meter values sent between start and end
}

// charge is the running transaction. The station's mu guards it.
type charge struct {
	transaction string
	state       string        // connector state
	stop        chan struct{} // closed by a remote stop
	stopped     bool
}

// readings is how many meter values a session sends.
const readings = 3

// Charge authorises a token and charges so much energy (Wh) in the messages of
// the station's version. Messages of a transaction that has started survive a
// lost connection: they wait for the next one and are sent again with the same
// id (OCPP-J 1.6 errata 2025-04, 2.0.1 errata §4.6).
func (s *Station) Charge(ctx context.Context, token string, energy int) (Session, error) {
	s.charging.Lock()
	defer s.charging.Unlock()
	tx := &charge{stop: make(chan struct{})}
	s.update(func() { s.busy = tx })
	defer func() {
		s.mu.Lock()
		s.busy = nil
		reset := s.reset
		s.mu.Unlock()
		if reset { // a Reset waited for the end of the transaction
			s.restart()
		}
	}()
	if s.State().Version == ocpp.V16 {
		return s.charge16(ctx, tx, token, energy)
	}
	return s.charge2(ctx, tx, token, energy)
}

func (s *Station) charge16(ctx context.Context, tx *charge, token string, energy int) (Session, error) {
	if err := s.authorise(ctx, object{"idTag": token}, "idTagInfo"); err != nil {
		return Session{}, err
	}
	if err := s.connector(ctx, tx, "Preparing"); err != nil {
		return Session{}, err
	}
	start := s.meter()
	var started struct {
		Transaction int `json:"transactionId"`
		Info        struct {
			Status string `json:"status"`
		} `json:"idTagInfo"`
	}
	begin := object{"connectorId": 1, "idTag": token, "meterStart": start, "timestamp": s.stamp()}
	if err := s.deliver(ctx, "StartTransaction", begin, &started); err != nil {
		return Session{}, err
	}
	id := strconv.Itoa(started.Transaction)
	s.update(func() { tx.transaction = id })
	if started.Info.Status != accepted {
		energy = 0 // the transaction is stopped at once
	} else if err := s.connector(ctx, tx, "Charging"); err != nil {
		return Session{}, err
	}

	done := Session{Transaction: id}
	for i := range readings {
		if energy == 0 || !s.goOn(ctx, tx) {
			break
		}
		register := s.take(energy*(i+1)/readings, &done)
		if err := s.deliver(ctx, "MeterValues", s.meterValues("Sample.Periodic", register, id), nil); err != nil {
			return done, err
		}
		done.Readings++
	}
	end := object{"transactionId": started.Transaction, "idTag": token, "meterStop": start + done.Energy, "timestamp": s.stamp(), "reason": "Local"}
	if started.Info.Status != accepted {
		end["reason"] = "DeAuthorized"
	} else if s.remotelyStopped(tx) {
		end["reason"] = "Remote"
	}
	if err := s.deliver(ctx, "StopTransaction", end, nil); err != nil {
		return done, err
	}
	if started.Info.Status != accepted {
		return done, fmt.Errorf("%w: %q", ErrNotAuthorised, started.Info.Status)
	}
	for _, state := range []string{"Finishing", "Available"} {
		if err := s.connector(ctx, tx, state); err != nil {
			return done, err
		}
	}
	return done, nil
}

func (s *Station) charge2(ctx context.Context, tx *charge, token string, energy int) (Session, error) {
	idToken := object{"idToken": token, "type": "ISO14443"}
	if err := s.authorise(ctx, object{"idToken": idToken}, "idTokenInfo"); err != nil {
		return Session{}, err
	}
	if err := s.connector(ctx, tx, "Occupied"); err != nil {
		return Session{}, err
	}
	done := Session{Transaction: newUUID()}
	s.update(func() { tx.transaction = done.Transaction })
	start := s.meter()
	number := 0
	event := func(eventType, trigger, kind string, register int, info object) error {
		info["transactionId"] = done.Transaction
		message := object{
			"eventType": eventType, "timestamp": s.stamp(), "triggerReason": trigger, "seqNo": number,
			"transactionInfo": info,
			"evse":            object{"id": 1, "connectorId": 1},
			"meterValue":      []object{s.reading2(kind, register)},
		}
		if number == 0 {
			message["idToken"] = idToken
		}
		number++
		return s.deliver(ctx, "TransactionEvent", message, nil)
	}
	if err := event("Started", "Authorized", "Transaction.Begin", start, object{"chargingState": "Charging"}); err != nil {
		return done, err
	}
	for i := range readings {
		if !s.goOn(ctx, tx) {
			break
		}
		register := s.take(energy*(i+1)/readings, &done)
		if err := event("Updated", "MeterValuePeriodic", "Sample.Periodic", register, object{"chargingState": "Charging"}); err != nil {
			return done, err
		}
		done.Readings++
	}
	trigger, reason := "StopAuthorized", "Local"
	if s.remotelyStopped(tx) {
		trigger, reason = "RemoteStop", "Remote"
	}
	if err := event("Ended", trigger, "Transaction.End", start+done.Energy, object{"stoppedReason": reason}); err != nil {
		return done, err
	}
	return done, s.connector(ctx, tx, "Available")
}

// authorise asks the CSMS about a token.
func (s *Station) authorise(ctx context.Context, request object, member string) error {
	var answer map[string]json.RawMessage
	if err := s.ask(ctx, "Authorize", request, &answer); err != nil {
		return err
	}
	var info struct {
		Status string `json:"status"`
	}
	if err := decodeAnswer("Authorize", answer[member], &info); err != nil {
		return err
	}
	if info.Status != accepted {
		return fmt.Errorf("%w: %q", ErrNotAuthorised, info.Status)
	}
	return nil
}

// deliver sends a message of a transaction until it was answered, over as many
// connections as it takes and always with the same id.
func (s *Station) deliver(ctx context.Context, action string, payload, answer any) error {
	id := s.messageID()
	for {
		raw, err := s.call(ctx, id, action, payload)
		switch {
		case err == nil && answer == nil:
			return nil
		case err == nil:
			return decodeAnswer(action, raw, answer)
		case !errors.Is(err, ErrDisconnected):
			return fmt.Errorf("%s: %w", action, err)
		}
		if err := s.Await(ctx, func(st State) bool { return st.Connected && st.Registration == accepted }); err != nil {
			return fmt.Errorf("%s could not be delivered: %w", action, err)
		}
	}
}

// goOn pauses between two meter values; false means that the session is to end.
func (s *Station) goOn(ctx context.Context, tx *charge) bool {
	timer := time.NewTimer(s.cfg.MeterInterval)
	defer timer.Stop()
	select {
	case <-timer.C:
		return !s.remotelyStopped(tx)
	case <-tx.stop:
	case <-ctx.Done():
	case <-s.ctx.Done():
	}
	return false
}

func (s *Station) remotelyStopped(tx *charge) bool {
	select {
	case <-tx.stop:
		return true
	default:
		return false
	}
}

// take moves the meter to so much energy since the session's start.
func (s *Station) take(total int, done *Session) (register int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set.meter += total - done.Energy
	done.Energy = total
	return s.set.meter
}

// connector reports the connector's state.
func (s *Station) connector(ctx context.Context, tx *charge, state string) error {
	s.update(func() { tx.state = state })
	return s.deliver(ctx, "StatusNotification", s.statusNotification(state), nil)
}

func (s *Station) connectorStatus() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy == nil || s.busy.state == "" {
		return "Available"
	}
	return s.busy.state
}

func (s *Station) statusNotification(state string) any {
	if s.State().Version == ocpp.V16 {
		return object{"connectorId": 1, "errorCode": "NoError", "status": state, "timestamp": s.stamp()}
	}
	return object{"timestamp": s.stamp(), "connectorStatus": state, "evseId": 1, "connectorId": 1}
}

// meterValues is a MeterValues request with the energy register.
func (s *Station) meterValues(kind string, register int, transaction string) any {
	if s.State().Version != ocpp.V16 {
		return object{"evseId": 1, "meterValue": []object{s.reading2(kind, register)}}
	}
	request := object{
		"connectorId": 1,
		"meterValue": []object{{
			"timestamp": s.stamp(),
			"sampledValue": []object{{
				"value": strconv.Itoa(register), "context": kind,
				"measurand": "Energy.Active.Import.Register", "unit": "Wh",
			}},
		}},
	}
	if id, err := strconv.Atoi(transaction); err == nil {
		request["transactionId"] = id
	}
	return request
}

func (s *Station) reading2(kind string, register int) object {
	return object{
		"timestamp": s.stamp(),
		"sampledValue": []object{{
			"value": register, "context": kind, "measurand": "Energy.Active.Import.Register",
			"unitOfMeasure": object{"unit": "Wh"},
		}},
	}
}

// remoteStart charges in the background for the CSMS's token.
func (l *link) remoteStart(payload []byte) reply {
	var req struct {
		Tag   string `json:"idTag"`
		Token struct {
			Token string `json:"idToken"`
		} `json:"idToken"`
	}
	if r, ok := decode(payload, &req); !ok {
		return r
	}
	s := l.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy != nil || s.state.Registration != accepted { // B02.FR.05
		return status(rejected)
	}
	token := req.Tag + req.Token.Token // one of them is empty
	return status(accepted).then(func(ctx context.Context) {
		if _, err := s.Charge(ctx, token, remoteEnergy); err != nil {
			s.cfg.Log.Info("remote start ended early", "station", s.cfg.Identity, "err", err)
		}
	})
}

// remoteEnergy is what a remotely started session charges, in Wh.
const remoteEnergy = 3000

// remoteStop ends the running transaction if it is the one named.
func (l *link) remoteStop(payload []byte) reply {
	var req struct {
		Transaction json.RawMessage `json:"transactionId"`
	}
	if r, ok := decode(payload, &req); !ok {
		return r
	}
	s := l.s
	s.mu.Lock()
	defer s.mu.Unlock()
	var id string
	if json.Unmarshal(req.Transaction, &id) != nil {
		id = string(req.Transaction)
	}
	if s.busy == nil || id == "" || s.busy.transaction != id {
		return status(rejected)
	}
	if !s.busy.stopped {
		s.busy.stopped = true
		close(s.busy.stop)
	}
	return status(accepted)
}
