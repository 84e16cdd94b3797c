package fleet_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"

	"bollard/fleet"
	"bollard/ocpp"
)

// fakeSession is a scripted station: it records the CALLs it gets and answers
// them from the script.
type fakeSession struct {
	asked    atomic.Int64 // for its admission
	r        *rig
	id       string
	adm      fleet.Admission
	version  ocpp.Version
	security fleet.SecurityMode
	ctx      context.Context
	cancel   context.CancelFunc
	wg       tasks

	mu     sync.Mutex
	calls  []sent
	answer func(action string, payload json.RawMessage) (any, error)
	above  func(action string, payload json.RawMessage) (json.RawMessage, error) // the back end; nil: {}
	raised []sent
	ended  string
	put    func(f func(context.Context)) // takes what Go is given; nil: it runs
}

type sent struct {
	action  string
	payload json.RawMessage
}

func (r *rig) open(adm fleet.Admission, v ocpp.Version) *fakeSession {
	return r.openWith(adm, v, fleet.SecurityBollard, nil)
}

func (r *rig) openWith(adm fleet.Admission, v ocpp.Version, mode fleet.SecurityMode, answer func(string, json.RawMessage) (any, error)) *fakeSession {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r.mu.Lock()
	r.serial++
	s := &fakeSession{r: r, id: fmt.Sprintf("s%d", r.serial), adm: adm, version: v, security: mode, ctx: ctx, cancel: cancel, answer: answer}
	r.live = append(r.live, s)
	r.mu.Unlock()
	r.svc.Opened(s)
	r.t.Cleanup(s.close)
	return s
}

func (s *fakeSession) ID() string                   { return s.id }
func (s *fakeSession) Admission() fleet.Admission   { s.asked.Add(1); return s.adm }
func (s *fakeSession) Version() ocpp.Version        { return s.version }
func (s *fakeSession) Security() fleet.SecurityMode { return s.security }
func (s *fakeSession) Backend() string              { return "csms" }

func (s *fakeSession) Go(f func(ctx context.Context)) {
	s.mu.Lock()
	put := s.put
	s.mu.Unlock()
	if put != nil {
		put(f)
		return
	}
	s.wg.Go(func() { f(s.ctx) })
}

// Upstream is a CALL to the scripted back end.
func (s *fakeSession) Upstream(ctx context.Context, action string, payload any) (json.RawMessage, error) {
	raw, err := json.Marshal(payload)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.raised = append(s.raised, sent{action, raw})
	above := s.above
	s.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case above == nil:
		return json.RawMessage("{}"), nil
	}
	return above(action, raw)
}

func (s *fakeSession) Call(ctx context.Context, action string, payload any) (json.RawMessage, error) {
	raw, err := json.Marshal(payload)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.calls = append(s.calls, sent{action, raw})
	answer := s.answer
	s.mu.Unlock()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if answer == nil {
		return json.RawMessage(`{"status":"Accepted"}`), nil
	}
	a, err := answer(action, raw)
	if err != nil {
		return nil, err
	}
	return json.Marshal(a)
}

func (s *fakeSession) End(reason string) {
	s.mu.Lock()
	if s.ended == "" {
		s.ended = reason
	}
	s.mu.Unlock()
	s.cancel()
}

func (s *fakeSession) endedWith() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// close is the connection going away.
func (s *fakeSession) close() {
	s.cancel()
	s.wg.Wait()
	s.r.svc.Closed(s)
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	for i, l := range s.r.live {
		if l == s {
			s.r.live = append(s.r.live[:i:i], s.r.live[i+1:]...)
		}
	}
}

func (s *fakeSession) sent(action string) []json.RawMessage {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []json.RawMessage
	for _, c := range s.calls {
		if c.action == action {
			list = append(list, c.payload)
		}
	}
	return list
}

func (s *fakeSession) actions() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []string
	for _, c := range s.calls {
		list = append(list, c.action)
	}
	return list
}

// message hands a CALL to the guard; After runs to its end.
func (s *fakeSession) message(d ocpp.Direction, action, payload string) fleet.Verdict {
	s.r.t.Helper()
	v := s.judge(d, action, payload)
	if v.Later != nil {
		v = v.Later(context.Background())
	}
	if v.After != nil {
		s.Go(v.After)
	}
	return v
}

// judge is message without After.
func (s *fakeSession) judge(d ocpp.Direction, action, payload string) fleet.Verdict {
	return s.r.svc.Message(context.Background(), s, fleet.Message{
		Direction: d, Action: action, Head: ocpp.Head{Type: ocpp.Call, ID: []byte("1"), Action: action, Payload: []byte(payload)}, Payload: json.RawMessage(payload),
	})
}
