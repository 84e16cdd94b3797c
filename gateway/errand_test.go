package gateway

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"bollard/ocpp"
)

// TestErrandsFillGapsOnly checks the line toward the back end against its two
// rules, whatever happens in which order: at most one errand is out and only
// while no CALL of the station is; and every waiter is told once at most, the
// right answer.
func TestErrandsFillGapsOnly(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(0, 0)
		timeout := 10 * time.Second
		m := newMediator(ocpp.V201, newInterests(&oddGuard{}), &Limits{CallTimeout: timeout, QueuedCalls: 3, Outstanding: 4})
		station := map[string]time.Time{} // CALLs of the station handed on, unanswered
		var order []string
		var stalled *asked
		var waiting []*errand // not told, not dropped; first come, first served
		var out *errand
		dropped := map[string]bool{}
		n := 0
		look := func(t *rapid.T) {
			granted := 0
			for i, e := range waiting {
				select {
				case <-e.turn:
					granted++
					if e == out {
						continue
					}
					if i != 0 {
						t.Fatal("an errand overtook another")
					}
					for id, at := range station {
						if now.Sub(at) < timeout {
							t.Fatalf("an errand set out while CALL %s is unanswered", id)
						}
					}
					if stalled != nil {
						t.Fatal("an errand set out before the station's CALL that waits")
					}
					out = e
				default:
				}
			}
			if granted > 1 {
				t.Fatalf("%d errands are out", granted)
			}
		}
		remove := func(e *errand) {
			for i, w := range waiting {
				if w == e {
					waiting = append(waiting[:i:i], waiting[i+1:]...)
				}
			}
			if out == e {
				out = nil
			}
		}
		booked := func(id string) { station[id] = now; order = append(order, id) }
		t.Repeat(map[string]func(*rapid.T){
			"errand": func(t *rapid.T) {
				e, err := newErrand("SecurityEventNotification", nil)
				if err != nil {
					t.Fatal(err)
				}
				free := len(m.errands.queue) < queuedErrands
				if err := m.sendErrand(e, now); (err == nil) != free {
					t.Fatalf("errand taken: %v, room: %t", err, free)
				}
				if free {
					waiting = append(waiting, e)
				}
			},
			"station calls": func(t *rapid.T) {
				if stalled != nil {
					t.Skip("the pump waits")
				}
				n++
				id := fmt.Sprint(n)
				st := m.judge(ocpp.FromStation, fmt.Appendf(nil, `[2,%q,"Heartbeat",{}]`, id), at(now))
				switch {
				case out != nil && st.act != actStall:
					t.Fatal("a CALL was handed on while an errand is out")
				case st.act == actStall:
					stalled = &st.entry
				case st.act == actPass:
					booked(id)
				default:
					t.Fatalf("act %d", st.act)
				}
			},
			"stall ends": func(t *rapid.T) {
				if stalled == nil {
					t.Skip("nothing waits")
				}
				_, _, ok := m.enter(*stalled, now)
				if ok && out != nil {
					t.Fatal("a CALL was handed on while an errand is out")
				}
				if ok {
					booked(stalled.id)
					stalled = nil
				}
			},
			"back end answers the station": func(t *rapid.T) {
				if len(order) == 0 {
					t.Skip("nothing asked")
				}
				id := order[0]
				order = order[1:]
				delete(station, id)
				m.judge(ocpp.FromCSMS, fmt.Appendf(nil, `[3,%q,{}]`, id), at(now))
			},
			"back end answers the errand": func(t *rapid.T) {
				if out == nil {
					t.Skip("none is out")
				}
				e := out
				st := m.judge(ocpp.FromCSMS, fmt.Appendf(nil, `[3,%q,{"of":%q}]`, e.id, e.id), at(now))
				if st.act != actDrop || st.reason != "own-answer" {
					t.Fatalf("%+v", st)
				}
				if m.room != nil && len(m.room) == 0 {
					t.Fatal("the CALL that waits for the errand's end isn't woken")
				}
				if r := <-e.told; string(r.payload) != fmt.Sprintf(`{"of":%q}`, e.id) {
					t.Fatalf("told %s", r.payload)
				}
				remove(e)
			},
			"back end answers something else": func(t *rapid.T) {
				for _, id := range []string{ownPrefix + "none", "none"} {
					if st := m.judge(ocpp.FromCSMS, fmt.Appendf(nil, `[3,%q,{}]`, id), at(now)); st.act != actDrop || st.reason != "unsolicited-answer" {
						t.Fatalf("%+v", st)
					}
				}
				for _, e := range waiting {
					if e != out {
						if st := m.judge(ocpp.FromCSMS, fmt.Appendf(nil, `[3,%q,{}]`, e.id), at(now)); st.reason != "unsolicited-answer" {
							t.Fatalf("an errand that was not sent was answered: %+v", st)
						}
					}
				}
			},
			"waiter gives up": func(t *rapid.T) {
				if len(waiting) == 0 {
					t.Skip("none waits")
				}
				e := waiting[rapid.IntRange(0, len(waiting)-1).Draw(t, "which")]
				wasOut := e == out
				remove(e)
				m.dropErrand(e, now)
				dropped[e.id] = true
				if !wasOut {
					return
				}
				if st := m.judge(ocpp.FromCSMS, fmt.Appendf(nil, `[3,%q,{}]`, e.id), at(now)); st.act != actDrop || st.reason != "late-answer" {
					t.Fatalf("a late answer: %+v", st)
				}
				if len(e.told) != 0 {
					t.Fatal("who gave up was told")
				}
			},
			"time": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, 8).Draw(t, "s")) * time.Second)
				m.lookErrand(now)
			},
			"": func(t *rapid.T) {
				look(t)
				idle := stalled == nil
				for _, at := range station {
					idle = idle && now.Sub(at) >= timeout
				}
				if idle && out == nil && len(waiting) > 0 && len(order) == 0 {
					t.Fatal("an errand waits though the line is free")
				}
			},
		})
		m.close()
		for _, e := range waiting {
			if r := <-e.told; r.err == nil {
				t.Fatal("a waiter was not told of the end")
			}
		}
		if err := m.sendErrand(&errand{}, now); err == nil {
			t.Fatal("an errand after the end")
		}
	})
}

// An id with the gateway's prefix is never an answer to the station's CALL, so
// a station can't have an errand's answer delivered to itself.
func TestErrandIDsAreReserved(t *testing.T) {
	t.Parallel()
	limits := Limits{}.withDefaults()
	m := newMediator(ocpp.V16, newInterests(&oddGuard{}), &limits)
	e, err := newErrand("SecurityEventNotification", nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(e.id) > 36 {
		t.Errorf("an errand's id has %d characters", len(e.id))
	}
	st := m.judge(ocpp.FromStation, fmt.Appendf(nil, `[2,%q,"Heartbeat",{}]`, e.id), at(time.Unix(0, 0)))
	if st.act != actReply {
		t.Errorf("a station used a reserved id: %+v", st)
	}
}

func at(now time.Time) func() time.Time { return func() time.Time { return now } }
