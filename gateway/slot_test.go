package gateway

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"bollard/fleet"
	"bollard/ocpp"
)

// TestSlotIsOneAtATime checks the slot against a model: first come, first
// served, also while the end of a flight is still being handed on, one in
// flight, every own call told exactly once.
func TestSlotIsOneAtATime(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		type modelled struct {
			*call
			until time.Time
			told  chan reply
		}
		now := time.Unix(0, 0)
		s := slot{timeout: 10 * time.Second, bound: 3}
		var flight *modelled
		var queue []*modelled
		var owns []*modelled
		settled := map[*modelled]int{}
		n := 0
		find := func(c *call) *modelled {
			for _, m := range append([]*modelled{flight}, queue...) {
				if m != nil && m.call == c {
					return m
				}
			}
			return nil
		}
		advance := func(t *rapid.T) {
			c, stale := s.next(now)
			if flight != nil {
				if c != nil || stale != nil {
					t.Fatal("next while a CALL is in flight")
				}
				return
			}
			var wantStale []*call
			for len(queue) > 0 && !now.Before(queue[0].until) {
				wantStale = append(wantStale, queue[0].call)
				if queue[0].own() {
					settled[queue[0]]++
					queue[0].tell(reply{err: errCallTimeout})
				}
				queue = queue[1:]
			}
			if !slices.Equal(stale, wantStale) {
				t.Fatalf("stale %d, want %d", len(stale), len(wantStale))
			}
			if len(queue) == 0 {
				if c != nil {
					t.Fatal("next from an empty queue")
				}
				return
			}
			if c != queue[0].call {
				t.Fatal("not first come, first served")
			}
			flight, queue = queue[0], queue[1:]
			flight.until = now.Add(s.timeout)
		}
		t.Repeat(map[string]func(*rapid.T){
			"offer": func(t *rapid.T) {
				own := rapid.Bool().Draw(t, "own")
				n++
				m := &modelled{call: &call{id: fmt.Sprint(n)}, until: now.Add(s.timeout)}
				if own {
					m.told = make(chan reply, 1)
					m.waiter = m.told
				}
				waiting := 0
				for _, q := range queue {
					if q.own() == own {
						waiting++
					}
				}
				want := offerQueued
				switch {
				case flight == nil && len(queue) == 0:
					want, flight = offerSend, m
				case waiting >= 3:
					want = offerFull
				default:
					queue = append(queue, m)
				}
				if got := s.offer(m.call, now); got != want {
					t.Fatalf("offer: %d, want %d", got, want)
				}
				if own && want != offerFull {
					owns = append(owns, m)
				}
			},
			"answer": func(t *rapid.T) {
				if flight == nil {
					t.Skip("idle")
				}
				c, _, ok := s.answer([]byte(flight.id))
				if !ok || c != flight.call {
					t.Fatal("the answer did not match")
				}
				if c.own() {
					settled[flight]++
					c.tell(reply{})
				}
				flight = nil // whoever read the answer hands it on first, then calls next
			},
			"next": advance,
			"answer of another": func(t *rapid.T) {
				if _, late, ok := s.answer([]byte("no such id")); ok || late {
					t.Fatal("an unsolicited answer matched")
				}
				for _, q := range queue {
					if _, _, ok := s.answer([]byte(q.id)); ok {
						t.Fatal("a CALL that was not sent was answered")
					}
				}
			},
			"time": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, 8).Draw(t, "s")) * time.Second)
				c, ok := s.expire(now)
				if over := flight != nil && !now.Before(flight.until); ok != over {
					t.Fatalf("expire: %t, want %t", ok, over)
				}
				if !ok {
					return
				}
				if c != flight.call {
					t.Fatal("another CALL expired")
				}
				if c.own() {
					settled[flight]++
					c.tell(reply{err: errCallTimeout})
				}
				flight = nil
				if _, late, ok := s.answer([]byte(c.id)); ok || !late {
					t.Fatal("a late answer was not seen as late")
				}
			},
			"abandon": func(t *rapid.T) {
				if len(owns) == 0 {
					t.Skip("no own call")
				}
				m := owns[rapid.IntRange(0, len(owns)-1).Draw(t, "which")]
				if find(m.call) == nil {
					t.Skip("over already")
				}
				s.abandon(m.call)
				queue = slices.DeleteFunc(queue, func(q *modelled) bool { return q == m })
			},
			"": func(t *rapid.T) {
				if (s.flight == nil) != (flight == nil) || len(s.queue) != len(queue) {
					t.Fatalf("slot and model differ: %v/%v, %d/%d", s.flight, flight, len(s.queue), len(queue))
				}
				for m, times := range settled {
					want := 1
					if m.gone {
						want = 0
					}
					if times > 1 || len(m.told) != want && len(m.told) != times {
						t.Fatalf("call %s was told %d times", m.id, times)
					}
				}
			},
		})
	})
}

func TestOutstandingForgetsOnlyWhenFull(t *testing.T) {
	t.Parallel()
	start := time.Unix(0, 0)
	o := outstanding{bound: 2, timeout: time.Minute}
	if !o.add(asked{id: "a", at: start}) || !o.add(asked{id: "b", at: start.Add(time.Second)}) {
		t.Fatal("no room")
	}
	if _, ok := o.take([]byte("a")); !ok { // however late
		t.Error("a slow answer was refused without need")
	}
	o.add(asked{id: "c", at: start.Add(2 * time.Second)})
	if o.add(asked{id: "d", at: start.Add(30 * time.Second)}) {
		t.Error("no bound")
	}
	if got := o.patience(asked{}, start.Add(30*time.Second)); got != 31*time.Second {
		t.Errorf("patience %v", got)
	}
	if !o.add(asked{id: "d", at: start.Add(61 * time.Second)}) {
		t.Error("the oldest was not forgotten")
	}
	if _, ok := o.take([]byte("b")); ok {
		t.Error("b is still there")
	}
}

// Promise 12: what is kept of watched CALLs is bounded in bytes too.
func TestOutstandingKeepsFewBytes(t *testing.T) {
	t.Parallel()
	start := time.Unix(0, 0)
	watched := func(id string, size int) asked {
		return asked{id: id, at: start, watch: &watch{call: &fleet.Message{Head: ocpp.Head{Payload: make([]byte, size)}}}}
	}
	o := outstanding{bound: 64, timeout: time.Minute}
	if !o.add(watched("huge", 2*maxKept)) {
		t.Error("a large CALL has no place even alone")
	}
	if o.add(watched("second", 1)) {
		t.Error("no bound on bytes")
	}
	if got := o.patience(watched("second", 1), start); got != time.Minute {
		t.Errorf("patience %v", got)
	}
	if !o.add(asked{id: "plain", at: start}) {
		t.Error("what isn't kept must wait too")
	}
	if _, ok := o.take([]byte("huge")); !ok || o.kept != 0 {
		t.Errorf("%d bytes kept of nothing", o.kept)
	}
	if !o.add(watched("a", maxKept/2)) || !o.add(watched("b", maxKept/2)) || o.add(watched("c", 1)) {
		t.Error("the bound is another one")
	}
}
