package warden_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"bollard/detect"
	"bollard/fleet"
	"bollard/ledger"
	"bollard/ocpp"
	"bollard/policy"
	"bollard/warden"
)

// next is who judges after policy. It lets everything pass.
type next struct {
	wants string
	makes json.RawMessage // of what it sees
	mu    sync.Mutex
	seen  []string
}

func (n *next) Interest(_ ocpp.Version, _ ocpp.Direction, action string) bool {
	return action == n.wants
}
func (n *next) Opened(fleet.Session) {}
func (n *next) Closed(fleet.Session) {}
func (n *next) Message(_ context.Context, _ fleet.Session, m fleet.Message) fleet.Verdict {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seen = append(n.seen, m.Action+" "+string(m.Payload)+" "+string(m.Head.Payload))
	return fleet.Verdict{Act: fleet.Pass, Rewrite: n.makes}
}
func (n *next) Answered(_ context.Context, _ fleet.Session, call fleet.Message, _ ocpp.Head) (then func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seen = append(n.seen, "answer to "+call.Action)
	return nil
}

// session is a live one of a station.
type session struct {
	fleet.Session
	id, station string
	version     ocpp.Version
}

func (s *session) ID() string            { return s.id }
func (s *session) Version() ocpp.Version { return s.version }
func (s *session) Backend() string       { return "main" }
func (s *session) Security() fleet.SecurityMode {
	return fleet.SecurityBollard
}
func (s *session) Admission() fleet.Admission {
	return fleet.Admission{Station: fleet.Proven{Identity: s.station, Vendor: "ACME"}, Profile: 3}
}

type rig struct {
	*warden.Warden
	t       *testing.T
	next    *next
	metrics *prometheus.Registry

	mu     sync.Mutex
	now    time.Time
	events []ledger.Event
}

func set(t testing.TB, text string) *policy.Set {
	t.Helper()
	s, err := policy.New(policy.Config{Bare: true, Files: []policy.Source{{Name: "r.yaml", Data: []byte(text)}}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newRig(t *testing.T, rules string) *rig { return newRigWith(t, rules, func(*warden.Config) {}) }

func newRigWith(t *testing.T, rules string, change func(*warden.Config)) *rig {
	t.Helper()
	r := &rig{t: t, next: &next{wants: "Reset"}, now: time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC), metrics: prometheus.NewRegistry()}
	cfg := warden.Config{
		Next: r.next, Rules: set(t, rules), Metrics: r.metrics,
		Record: func(_ context.Context, e ledger.Event) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.events = append(r.events, e)
			return e.Validate()
		},
		Clock: func() time.Time { r.mu.Lock(); defer r.mu.Unlock(); return r.now },
	}
	change(&cfg)
	w, err := warden.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.Warden = w
	return r
}

func (r *rig) later(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = r.now.Add(d)
}

func (r *rig) open(station string, v ocpp.Version) *session {
	s := &session{id: station + "-session", station: station, version: v}
	r.Opened(s)
	return s
}

func (r *rig) send(s *session, d ocpp.Direction, action, payload string) fleet.Verdict {
	return r.Message(context.Background(), s, message(d, action, payload))
}

func message(d ocpp.Direction, action, payload string) fleet.Message {
	return fleet.Message{Direction: d, Action: action, Payload: json.RawMessage(payload),
		Head: ocpp.Head{Type: ocpp.Call, ID: []byte("1"), RawID: []byte(`"1"`), Action: action, Payload: []byte(payload)}}
}

func (r *rig) recorded() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []string
	for _, e := range r.events {
		list = append(list, fmt.Sprintf("%s %s %s×%s", e.Kind, e.Subject, e.Data["rule"], e.Data["count"]))
	}
	return list
}

// metric is the count of a rule's outcome.
func (r *rig) metric(rule, outcome string) float64 {
	families, err := r.metrics.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["rule"] == rule && labels["outcome"] == outcome {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

const someRules = `
rules:
  - {name: no-hard, reason: no hard resets, mode: enforce, direction: from-csms, action: Reset, when: payload.type == "Hard", then: refuse}
  - {name: ask, reason: ask first, mode: enforce, direction: from-csms, action: ClearCache, then: hold}
  - {name: few, reason: few retries, mode: enforce, direction: from-csms, action: Reset, then: rewrite, rewrite: {clamp: {field: n, min: 0, max: 3}}}
  - {name: later, reason: some day, direction: from-csms, action: Reset, then: refuse}
  - {name: theirs, reason: not its own, mode: enforce, direction: from-station, action: StopTransaction, when: transaction.owner == "other", then: refuse, error: SecurityError}
  - {name: early, reason: too early, mode: enforce, direction: from-station, action: Authorize, when: 'session.boot in ["asked", "pending", "rejected"]', then: refuse, error: SecurityError}
`

// What a service leaves out of a message stays out: a SetVariables whose guarded
// entries Bollard answers goes on without them.
func TestRewriteOfWhoComesNext(t *testing.T) { // promise 4
	t.Parallel()
	r := newRig(t, someRules)
	s := r.open("CS-1", ocpp.V16)
	r.next.makes = json.RawMessage(`{"n":2}`)
	for _, payload := range []string{`{"type":"Soft","n":1}`, `{"type":"Soft","n":9}`} {
		if v := r.send(s, ocpp.FromCSMS, "Reset", payload); v.Act != fleet.Pass || string(v.Rewrite) != `{"n":2}` {
			t.Errorf("%s goes on as %s", payload, v.Rewrite)
		}
	}
}

// What policy refuses nobody behind it sees; what it decides is recorded and
// counted, without the message.
func TestDecisions(t *testing.T) {
	t.Parallel()
	r := newRig(t, someRules)
	s := r.open("CS-1", ocpp.V16)
	v := r.send(s, ocpp.FromCSMS, "Reset", `{"type":"Hard","canary":"DE8AB"}`)
	if v.Act != fleet.Answer || v.Payload != any(ocpp.GenericStatus{Status: "Rejected"}) || len(r.next.seen) > 0 {
		t.Errorf("%+v, and behind it %v", v, r.next.seen)
	}
	for range 5 {
		r.send(s, ocpp.FromCSMS, "Reset", `{"type":"Hard"}`)
	}
	if v := r.send(s, ocpp.FromCSMS, "Reset", `{"type":"Soft","n":9}`); v.Act != fleet.Pass || string(v.Rewrite) != `{"n":3,"type":"Soft"}` {
		t.Errorf("rewritten: %+v", v)
	}
	if diff := cmp.Diff([]string{`Reset {"n":3,"type":"Soft"} {"n":3,"type":"Soft"}`}, r.next.seen); diff != "" {
		t.Errorf("who comes next sees what would be sent: %s", diff)
	}
	if v := r.send(s, ocpp.FromStation, "Heartbeat", `{}`); v.Act != fleet.Pass || v.Watch {
		t.Errorf("a message no rule names: %+v", v)
	}
	r.later(2 * time.Minute)
	r.Flush(t.Context(), false)
	want := []string{"policy.refused cs-1 no-hard×1", "policy.rewritten cs-1 few×1", "policy.refused cs-1 no-hard×5"}
	if diff := cmp.Diff(want, r.recorded()); diff != "" {
		t.Error(diff)
	}
	if raw, err := json.Marshal(r.events); err != nil || strings.Contains(string(raw), "DE8AB") {
		t.Errorf("the record holds the message: %s %v", raw, err)
	}
	if r.metric("no-hard", "refuse") != 6 || r.metric("few", "rewrite") != 1 || r.metric("later", "shadow") != 1 || r.ShadowHits("later") != 1 {
		t.Error("miscounted")
	}
}

func TestHeldMessages(t *testing.T) {
	t.Parallel()
	r := newRig(t, someRules)
	s := r.open("CS-1", ocpp.V201)
	clear := func() fleet.Act { return r.send(s, ocpp.FromCSMS, "ClearCache", `{"a":1}`).Act }
	if clear() != fleet.Answer || len(r.Held()) != 1 {
		t.Fatalf("held: %+v", r.Held())
	}
	if _, err := r.Release("nope"); err == nil {
		t.Error("what isn't held was released")
	}
	id := r.Held()[0].ID
	if _, err := r.Release(id); err != nil {
		t.Fatal(err)
	}
	if v := r.send(s, ocpp.FromCSMS, "ClearCache", `{"a":2}`); v.Act != fleet.Answer {
		t.Error("another message went with it")
	}
	if clear() != fleet.Pass || clear() != fleet.Answer {
		t.Error("it may pass once")
	}
	if _, err := r.Release(id); err != nil {
		t.Fatal(err)
	}
	r.later(25 * time.Hour)
	if clear() != fleet.Answer {
		t.Error("a release of yesterday counts")
	}
	other := r.open("CS-2", ocpp.V201)
	r.send(other, ocpp.FromCSMS, "ClearCache", `{}`)
	for _, h := range r.Held() {
		if _, err := r.Release(h.ID); err != nil {
			t.Fatal(err)
		}
	}
	hold := func(s *session, n int) {
		r.later(time.Millisecond)
		r.send(s, ocpp.FromCSMS, "ClearCache", fmt.Sprintf(`{"n":%d}`, n))
	}
	for n := range 100 {
		hold(s, n)
	}
	if n := len(r.Held()); n != 50+1 {
		t.Errorf("%d are held of one station's flood and another's message", n)
	}
	if v := r.send(other, ocpp.FromCSMS, "ClearCache", `{}`); v.Act != fleet.Pass {
		t.Errorf("a flood took what was released for another: %+v", v)
	}
	for station := range 22 {
		s := r.open(fmt.Sprintf("CS-%d", 10+station), ocpp.V201)
		for n := range 50 {
			hold(s, n)
		}
	}
	if n := len(r.Held()); n != 1000 {
		t.Errorf("%d are held", n)
	}
}

// A station can't stop a transaction that is known to be another's (CVE-2026-28230).
func TestTransactions(t *testing.T) {
	t.Parallel()
	r := newRig(t, someRules)
	a, b := r.open("A", ocpp.V16), r.open("B", ocpp.V16)
	if !r.Interest(ocpp.V16, ocpp.FromStation, "StartTransaction") || r.Interest(ocpp.V201, ocpp.FromStation, "StartTransaction") {
		t.Error("who wants to see StartTransaction?")
	}
	start := message(ocpp.FromStation, "StartTransaction", `{"connectorId":1}`)
	if v := r.Message(t.Context(), a, start); v.Act != fleet.Pass || !v.Watch {
		t.Fatalf("%+v", v)
	}
	r.Answered(t.Context(), a, start, ocpp.Head{Type: ocpp.CallResult, Payload: []byte(`{"transactionId":7,"idTagInfo":{"status":"Accepted"}}`)})
	stop := func(s *session, id string) fleet.Act {
		return r.send(s, ocpp.FromStation, "StopTransaction", `{"transactionId":`+id+`}`).Act
	}
	if stop(b, "7") != fleet.Refuse {
		t.Error("B stopped A's")
	}
	if stop(a, "7") != fleet.Pass || stop(b, "8") != fleet.Pass {
		t.Error("its own, or an unknown one, was refused")
	}
	r.Answered(t.Context(), a, message(ocpp.FromStation, "StopTransaction", `{"transactionId":7}`), ocpp.Head{Type: ocpp.CallResult, Payload: []byte(`{}`)})
	if stop(b, "7") != fleet.Pass {
		t.Error("an id stays taken after its transaction")
	}
	if len(r.next.seen) > 0 {
		t.Errorf("others were asked: %v", r.next.seen)
	}
}

// In 2.x a station makes ids of its own: two may have the same, and only one that
// can't be the same by chance, and that the station never began, is another's.
func TestTransactionsOf2(t *testing.T) {
	t.Parallel()
	const long, short = "0b5f4a3e-1c2d-4e5f", "17"
	r := newRig(t, `
rules:
  - {name: event, reason: x, mode: enforce, direction: from-station, action: TransactionEvent, when: 'payload.eventType != "Started" && transaction.owner == "other"', then: refuse, error: SecurityError}
  - {name: command, reason: x, mode: enforce, direction: from-csms, action: RequestStopTransaction, when: transaction.owner == "other", then: refuse}
`)
	a, b := r.open("A", ocpp.V201), r.open("B", ocpp.V21)
	event := func(s *session, kind, id string) fleet.Act {
		return r.send(s, ocpp.FromStation, "TransactionEvent", fmt.Sprintf(`{"eventType":%q,"transactionInfo":{"transactionId":%q}}`, kind, id)).Act
	}
	stop := func(s *session, id string) fleet.Act {
		return r.send(s, ocpp.FromCSMS, "RequestStopTransaction", fmt.Sprintf(`{"transactionId":%q}`, id)).Act
	}
	for i, step := range []struct {
		got, want fleet.Act
	}{
		{event(a, "Started", long), fleet.Pass},
		{event(a, "Started", short), fleet.Pass},
		{event(b, "Updated", long), fleet.Refuse},
		{event(b, "Ended", long), fleet.Refuse},
		{event(a, "Updated", long), fleet.Pass}, // B has ended nothing
		{stop(b, long), fleet.Answer},
		{stop(a, long), fleet.Pass},
		{event(b, "Updated", short), fleet.Pass},
		{stop(b, short), fleet.Pass},
		// Who begins a transaction has it, whoever else has one of that name: nobody
		// can take an id away beforehand.
		{event(b, "Started", long), fleet.Pass},
		{event(b, "Updated", long), fleet.Pass},
		{event(b, "Ended", long), fleet.Pass},
		{event(a, "Updated", long), fleet.Pass},
		{event(b, "Updated", long), fleet.Refuse},
		{event(a, "Ended", long), fleet.Pass},
		// Whose beginning wasn't seen: the first's who names it.
		{event(b, "Updated", long), fleet.Pass},
		{event(a, "Ended", long), fleet.Refuse},
	} {
		if step.got != step.want {
			t.Errorf("step %d: %v, want %v", i, step.got, step.want)
		}
	}
	for n := range 9 {
		event(r.open(fmt.Sprint("C", n), ocpp.V201), "Started", long)
	}
	if event(b, "Updated", long) == fleet.Pass {
		t.Error("who is remembered of one id isn't bounded")
	}
}

// Whoever looks for attacks hears of each message that isn't let through, whose
// it was, and no more.
func TestRefusalsAreNoticed(t *testing.T) {
	t.Parallel()
	var signs []detect.Sign
	w, err := warden.New(t.Context(), warden.Config{
		Next: &next{}, Rules: set(t, `
rules:
  - {name: theirs, reason: x, mode: enforce, direction: from-station, action: StopTransaction, when: transaction.owner == "other", then: refuse, error: SecurityError}
  - {name: kept, reason: x, mode: enforce, direction: from-csms, action: GetLog, then: hold}
  - {name: quiet, reason: x, mode: shadow, direction: from-csms, action: ClearCache, then: refuse}
`), Record: func(context.Context, ledger.Event) error { return nil },
		Notice: func(s detect.Sign) { signs = append(signs, s) },
	})
	if err != nil {
		t.Fatal(err)
	}
	s := &session{id: "1", station: "CS-1", version: ocpp.V16}
	w.Opened(s)
	for _, m := range []fleet.Message{
		message(ocpp.FromCSMS, "GetLog", `{"secret":"canary"}`), message(ocpp.FromCSMS, "ClearCache", `{}`), message(ocpp.FromStation, "Heartbeat", `{}`),
		message(ocpp.FromStation, "StopTransaction", `{"transactionId":{}, "transactionId":1}`),
	} {
		w.Message(t.Context(), s, m)
	}
	want := []detect.Sign{{Kind: detect.Overruled, Station: "cs-1", Live: true}, {Kind: detect.BadMessage, Station: "cs-1", Live: true}}
	if diff := cmp.Diff(want, signs); diff != "" {
		t.Error(diff)
	}
}

// A rule sees the group as it is when the message comes.
func TestGroupOfTheMoment(t *testing.T) {
	t.Parallel()
	group := "street"
	w, err := warden.New(t.Context(), warden.Config{
		Next: &next{}, Rules: set(t, `
rules:
  - {name: depot, reason: x, mode: enforce, direction: from-csms, action: Reset, when: station.group == "depot", then: refuse}
`), Record: func(context.Context, ledger.Event) error { return nil },
		Group: func(_ context.Context, s fleet.Session) string {
			return group + map[bool]string{false: " of another"}[s.ID() == "1"]
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := &session{id: "1", station: "CS-1", version: ocpp.V201}
	w.Opened(s)
	for _, tt := range []struct {
		group string
		want  fleet.Act
	}{{"street", fleet.Pass}, {"depot", fleet.Answer}, {"", fleet.Pass}} {
		group = tt.group
		if v := w.Message(t.Context(), s, message(ocpp.FromCSMS, "Reset", `{"type":"OnIdle"}`)); v.Act != tt.want {
			t.Errorf("group %q: %+v", tt.group, v)
		}
	}
}

func TestBootState(t *testing.T) {
	t.Parallel()
	r := newRig(t, someRules)
	s := r.open("A", ocpp.V201)
	authorize := func() fleet.Act { return r.send(s, ocpp.FromStation, "Authorize", `{}`).Act }
	if authorize() != fleet.Pass {
		t.Error("after a reconnect without BootNotification")
	}
	boot := message(ocpp.FromStation, "BootNotification", `{}`)
	for _, tt := range []struct {
		status string
		want   fleet.Act
	}{{"Pending", fleet.Refuse}, {"Rejected", fleet.Refuse}, {"Accepted", fleet.Pass}} {
		r.Message(t.Context(), s, boot)
		if authorize() != fleet.Refuse {
			t.Error("before the answer")
		}
		r.Answered(t.Context(), s, boot, ocpp.Head{Type: ocpp.CallResult, Payload: []byte(`{"status":"` + tt.status + `","currentTime":"2026-01-01T00:00:00Z","interval":1}`)})
		if authorize() != tt.want {
			t.Errorf("after %s", tt.status)
		}
	}
}

// New rules are in force at once, and messages judged meanwhile are judged by one
// set or the other, never by half of one.
func TestRulesChangeUnderLoad(t *testing.T) {
	t.Parallel()
	rule := func(code string) *policy.Set {
		return set(t, fmt.Sprintf(`
rules:
  - {name: a, reason: %[1]s, mode: enforce, direction: from-csms, action: Reset, when: payload.type == "Hard", then: refuse, error: %[1]s}
`, code))
	}
	sets := []*policy.Set{rule("SecurityError"), rule("GenericError")}
	r := newRig(t, someRules)
	r.Use(sets[0])
	var workers sync.WaitGroup
	stop := make(chan struct{})
	for n := range 4 {
		s := r.open(fmt.Sprintf("CS-%d", n), ocpp.V16)
		workers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				r.Interest(ocpp.V16, ocpp.FromCSMS, "Reset")
				v := r.send(s, ocpp.FromCSMS, "Reset", `{"type":"Hard"}`)
				if v.Act != fleet.Refuse || !strings.Contains(v.Reason, string(v.Code)) {
					t.Errorf("%+v", v)
					return
				}
			}
		})
	}
	for n := range 500 {
		r.Use(sets[n%2])
	}
	close(stop)
	workers.Wait()
	r.Use(set(t, "lists: {}\n"))
	if r.Interest(ocpp.V16, ocpp.FromCSMS, "ClearCache") || r.send(r.open("X", ocpp.V16), ocpp.FromCSMS, "Reset", `{"type":"Hard"}`).Act != fleet.Pass {
		t.Error("the rules before are still in force")
	}
}
