package ws_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"

	"bollard/internal/ws"
)

// hop is one direction of a relay on a loop.
type hop struct {
	from, to *ws.Stream
	rnd      *rand.Rand // the loop's
	away     sync.WaitGroup
}

// Message sends on at once or, one time in four, from elsewhere, so that Resume
// meets the loop in all states it has.
func (h *hop) Message(msg, raw []byte) bool {
	if h.rnd.IntN(4) > 0 {
		_ = h.to.Pass(msg, raw) // what is lost is missed at the end
		return false
	}
	own, yields := bytes.Clone(msg), h.rnd.IntN(3)
	h.away.Go(func() {
		for range yields {
			runtime.Gosched()
		}
		_ = h.to.Write(own)
		h.from.Resume()
	})
	return true
}

func (h *hop) Lost(error) {}

// relay connects a station with a back end that sends everything back, over a
// pair of streams, and returns the station's end.
func relay(t *testing.T, loops *ws.Loops, front, back *rig, seed uint64) *ws.Conn {
	t.Helper()
	station, down := front.connect(t, ws.Limits{PongTimeout: patience}) // to wait for an answer
	join(t, loops, down, back, seed)
	t.Cleanup(func() { station.Close(ws.CloseNormal, "") })
	return station
}

// join moves a station's connection and a new one to the back end to a loop.
func join(t *testing.T, loops *ws.Loops, down *ws.Conn, back *rig, seed uint64) *ws.Stream {
	t.Helper()
	up, backend := back.connect(t, ws.Limits{})
	hops := &[2]hop{{rnd: rand.New(rand.NewPCG(seed, 1))}, {rnd: rand.New(rand.NewPCG(seed, 2))}}
	a, b, ok := loops.Pair(down, &hops[0], up, &hops[1])
	if !ok {
		t.Fatal("the connections can't be moved to a loop")
	}
	hops[0].from, hops[0].to, hops[1].from, hops[1].to = a, b, b, a
	var echo sync.WaitGroup
	echo.Go(func() {
		for {
			msg, err := backend.Read(nil)
			if err != nil || backend.Write(msg) != nil {
				return
			}
		}
	})
	t.Cleanup(func() {
		var ends sync.WaitGroup
		for _, end := range []interface{ Close(code int, reason string) }{a, b, backend} {
			ends.Go(func() { end.Close(ws.CloseNormal, "") })
		}
		ends.Wait()
		echo.Wait()
		hops[0].away.Wait()
		hops[1].away.Wait()
	})
	a.Resume()
	b.Resume()
	return a
}

// Nothing but the messages wakes these streams, there are no pings, and a
// station sends no more before its answers are there: one event or Resume that
// gets lost and somebody waits for ever. Alone on its loop a relay isn't helped
// by the events of others; messages larger than the loop's buffer, the sockets'
// and the high water mark go through every state of the reader.
func TestNoWakeUpIsLost(t *testing.T) {
	t.Parallel()
	for _, relays := range []int{1, 16} {
		t.Run(fmt.Sprintf("%d relays", relays), func(t *testing.T) {
			t.Parallel()
			loops, err := ws.NewLoops()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(loops.Close)
			fronts := [2]*rig{newRig(t, true, ws.Limits{}, ""), newRig(t, false, ws.Limits{}, "")}
			back := newRig(t, false, ws.Limits{}, "")
			var stations sync.WaitGroup
			for i := range relays {
				station := relay(t, loops, fronts[i%2], back, uint64(i))
				stations.Go(func() {
					if err := talk(station, rand.New(rand.NewPCG(uint64(i), 3)), 300/relays); err != nil {
						t.Errorf("station %d: %v", i, err)
					}
				})
			}
			stations.Wait()
		})
	}
}

// connect is pair without an end: who moves a connection to a loop closes that.
func (r *rig) connect(t *testing.T, limits ws.Limits) (client, server *ws.Conn) {
	t.Helper()
	client, err := ws.Dial(t.Context(), ws.DialConfig{URL: r.URL + "/ocpp/CS-1", TLS: r.TLS, Limits: limits})
	if err != nil {
		t.Fatal(err)
	}
	return client, <-r.conns
}

// talk sends bursts of up to four messages and waits for their answers.
func talk(station *ws.Conn, rnd *rand.Rand, bursts int) error {
	for n := range bursts {
		sent := make([]string, 1+rnd.IntN(4))
		for i := range sent {
			size := rnd.IntN(300)
			if rnd.IntN(40) == 0 {
				size = rnd.IntN(400_000)
			}
			sent[i] = fmt.Sprintf("%d %s", n, strings.Repeat("x", size))
		}
		var writer sync.WaitGroup
		writer.Go(func() { // beside the reader: large messages fill all buffers on the way
			for _, msg := range sent {
				_ = station.Write([]byte(msg)) // what is lost is missed below
			}
		})
		for _, want := range sent {
			got, err := station.Read(nil)
			if err != nil || string(got) != want {
				return fmt.Errorf("got %d bytes and %w, want the %d bytes of %.10q", len(got), err, len(want), want)
			}
		}
		writer.Wait()
	}
	return nil
}
