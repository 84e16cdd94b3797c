package ws_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bollard/internal/ws"
)

// handler is a ws.Handler that only takes messages.
type handler func(msg []byte) (stop bool)

func (h handler) Message(msg, _ []byte) bool { return h(msg) }
func (h handler) Lost(error)                 {}

// closing ends all, each side beside the other.
func closing(t *testing.T, list ...interface{ Close(code int, reason string) }) {
	t.Helper()
	t.Cleanup(func() {
		var ends sync.WaitGroup
		for _, end := range list {
			ends.Go(func() { end.Close(ws.CloseNormal, "") })
		}
		ends.Wait()
	})
}

func oneLoop(t *testing.T) *ws.Loops {
	t.Helper()
	loops, err := ws.NewLoop()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(loops.Close)
	return loops
}

// A station that has sent thousands of small messages holds nobody up: others on
// its loop have their turn in between.
func TestOthersHaveTheirTurn(t *testing.T) {
	t.Parallel()
	loops, r, back := oneLoop(t), newRig(t, false, ws.Limits{}, ""), newRig(t, false, ws.Limits{}, "")
	const flood = 4000
	var seen []string // the loop's
	release, all := make(chan struct{}), make(chan struct{})
	note := func(name string) handler {
		return func([]byte) bool {
			if seen = append(seen, name); len(seen) == flood+1 {
				close(all)
			}
			return false
		}
	}
	var streams []*ws.Stream
	for _, p := range []struct {
		h        handler
		messages int
	}{
		{func([]byte) bool { <-release; return false }, 1}, // stands for all that keeps a loop busy
		{note("flood"), flood},
		{note("other"), 1},
	} {
		station, down := r.connect(t, ws.Limits{})
		up, backend := back.connect(t, ws.Limits{})
		a, b, ok := loops.Pair(down, p.h, up, handler(func([]byte) bool { return false }))
		if !ok {
			t.Fatal("the connections can't be moved to a loop")
		}
		closing(t, a, b, station, backend)
		for range p.messages {
			if err := station.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		streams = append(streams, a)
	}
	for _, s := range streams {
		s.Resume()
	}
	close(release)
	<-all
	if at := slices.Index(seen, "other"); at > flood/4 {
		t.Errorf("the other station's message came after %d of %d of the flood", at, flood)
	}
}

// More streams become ready while a loop is busy than it asks for at once. The runtime
// has heard of all of them by then, and says nothing more.
func TestNoneIsLeftBehindAFullTurn(t *testing.T) {
	t.Parallel()
	loops, r, back := oneLoop(t), newRig(t, false, ws.Limits{}, ""), newRig(t, false, ws.Limits{}, "")
	const many = ws.TurnSize + 20
	busy, release, all := make(chan struct{}), make(chan struct{}), make(chan struct{})
	left := many // the loop's
	handlers := []handler{func([]byte) bool {
		close(busy)
		<-release
		ws.Waits(loops)
		return false
	}}
	for range many {
		handlers = append(handlers, func([]byte) bool {
			if left--; left == 0 {
				close(all)
			}
			return false
		})
	}
	var stations []*ws.Conn
	for _, h := range handlers {
		station, down := r.connect(t, ws.Limits{})
		up, backend := back.connect(t, ws.Limits{})
		a, b, ok := loops.Pair(down, h, up, handler(func([]byte) bool { return false }))
		if !ok {
			t.Fatal("the connections can't be moved to a loop")
		}
		closing(t, a, b, station, backend)
		a.Resume()
		stations = append(stations, station)
	}
	for i, station := range stations {
		if err := station.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			<-busy
		}
	}
	time.Sleep(20 * time.Millisecond) // the runtime's poller has nothing else to do
	close(release)
	select {
	case <-all:
	case <-time.After(patience):
		t.Error("some that were ready are never served")
	}
}

// staying has a loop that stays for so long, after the first of two messages; what it
// leaves is the second, for which somebody has to Resume the stream.
func staying(t *testing.T, long time.Duration) (a *ws.Stream, second <-chan struct{}) {
	t.Helper()
	loops, r, back := oneLoop(t), newRig(t, false, ws.Limits{}, ""), newRig(t, false, ws.Limits{}, "")
	ws.BePatient(loops, long)
	first, all := make(chan struct{}), make(chan struct{})
	seen := 0 // the loop's
	station, down := r.connect(t, ws.Limits{})
	up, backend := back.connect(t, ws.Limits{})
	a, b, ok := loops.Pair(down, handler(func([]byte) bool {
		if seen++; seen == 1 {
			ws.Stays(loops)
			close(first)
			return true
		}
		close(all)
		return false
	}), up, handler(func([]byte) bool { return false }))
	if !ok {
		t.Fatal("the connections can't be moved to a loop")
	}
	closing(t, a, b, station, backend)
	for range 2 {
		if err := station.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	a.Resume()
	<-first
	time.Sleep(5 * time.Millisecond) // it stays by then
	return a, all
}

// soon fails the test unless what is to happen does long before a loop's patience ends.
func soon(t *testing.T, what string, ch <-chan struct{}) {
	t.Helper()
	select {
	case <-ch:
	case <-time.After(patience / 4):
		t.Error(what)
	}
}

// A loop that stays hears of nothing by way of the runtime: whoever has something for
// it to do rings.
func TestLoopThatStaysHearsTheBell(t *testing.T) {
	uncalled(t, func() {
		a, second := staying(t, patience/2)
		a.Resume()
		soon(t, "whoever is to be read on isn't", second)
	})
}

// A loop that stays goes when its patience is over, and lets others have the processor.
func TestLoopDoesNotStayForEver(t *testing.T) {
	uncalled(t, func() {
		staying(t, 10*time.Millisecond)
		stopped := make(chan struct{})
		go func() { defer close(stopped); runtime.GC() }()
		soon(t, "a loop waits on", stopped)
	})
}

// uncalled runs f where the runtime can't call a loop away: in a process of its own.
func uncalled(t *testing.T, f func()) {
	t.Helper()
	const quiet = "asyncpreemptoff=1"
	if os.Getenv("GODEBUG") == quiet {
		f()
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	again := exec.CommandContext(ctx, os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1")
	again.Env = append(os.Environ(), "GODEBUG="+quiet)
	if out, err := again.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// A collector stops the program, and doesn't wait for a message.
func TestLoopThatStaysIsStopped(t *testing.T) {
	staying(t, patience/2)
	stopped := make(chan struct{})
	go func() { defer close(stopped); runtime.GC() }()
	soon(t, "a loop holds the collector up", stopped)
}

// A station that takes nothing while it sends is read all the same: it may take
// a large message only after its own has gone.
func TestFullPeerIsReadAllTheSame(t *testing.T) {
	t.Parallel()
	loops, front, back := oneLoop(t), newRig(t, false, ws.Limits{}, ""), newRig(t, false, ws.Limits{}, "")
	station, down := front.connect(t, ws.Limits{})
	up, backend := back.connect(t, ws.Limits{PongTimeout: patience}) // to wait for a message
	var a, b *ws.Stream
	pass := func(to **ws.Stream) handler {
		return func(msg []byte) bool { _ = (*to).Write(msg); return false } // what is lost is missed below
	}
	a, b, ok := loops.Pair(down, pass(&b), up, pass(&a))
	if !ok {
		t.Fatal("the connections can't be moved to a loop")
	}
	var flood sync.WaitGroup
	t.Cleanup(flood.Wait) // once all is closed
	closing(t, a, b, station, backend)
	a.Resume()
	b.Resume()
	flood.Go(func() {
		large := []byte(strings.Repeat("x", 900_000))
		for range 40 { // more than all sockets on the way hold
			if backend.Write(large) != nil {
				return
			}
		}
	})
	for n := range 2000 {
		if err := station.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		if msg, err := backend.Read(nil); err != nil || string(msg) != "hello" {
			t.Fatalf("message %d: %q, %v", n, msg, err)
		}
	}
}

// A peer whose message is held isn't found dead, one that is listened to is.
func TestPingWhileAMessageIsHeld(t *testing.T) {
	t.Parallel()
	loops, r, back := oneLoop(t), newRig(t, false, ws.Limits{}, ""), newRig(t, false, ws.Limits{}, "")
	station, down := r.connect(t, ws.Limits{}) // it answers when it reads, which it doesn't
	up, backend := back.connect(t, ws.Limits{})
	held := make(chan struct{})
	a, b, ok := loops.Pair(down, handler(func([]byte) bool { close(held); return true }), up, handler(func([]byte) bool { return false }))
	if !ok {
		t.Fatal("the connections can't be moved to a loop")
	}
	closing(t, b, backend, a, station)
	a.Resume()
	b.Resume()
	ping := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		return a.Ping(ctx)
	}
	if err := ping(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Ping of a mute peer gave %v", err)
	}
	if err := station.Write([]byte("{}")); err != nil {
		t.Fatal(err)
	}
	<-held
	if err := ping(); err != nil {
		t.Errorf("Ping of one whose message is held gave %v", err)
	}
}

// A peer that speaks just as a ping is given up holds up nobody: neither who pings nor the
// loop, and all its streams with it.
func TestPingGivenUpWhileThePeerSpeaks(t *testing.T) {
	t.Parallel()
	loops, r, back := oneLoop(t), newRig(t, false, ws.Limits{}, ""), newRig(t, false, ws.Limits{}, "")
	station, down := r.connect(t, ws.Limits{})
	up, backend := back.connect(t, ws.Limits{})
	a, b, ok := loops.Pair(down, handler(func([]byte) bool { return false }), up, handler(func([]byte) bool { return false }))
	if !ok {
		t.Fatal("the connections can't be moved to a loop")
	}
	closing(t, b, backend, a, station)
	a.Resume()
	b.Resume()
	var all sync.WaitGroup
	defer all.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	all.Go(func() {
		for ctx.Err() == nil {
			if err := station.Write([]byte("{}")); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 8 {
		all.Go(func() {
			for ctx.Err() == nil {
				brief, cancel := context.WithTimeout(ctx, 50*time.Microsecond)
				_ = a.Ping(brief)
				cancel()
			}
		})
	}
	<-ctx.Done()
	last, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	go func() { _, _ = station.Read(nil) }() // it answers
	if err := a.Ping(last); err != nil {
		t.Errorf("afterwards Ping gave %v", err)
	}
}
