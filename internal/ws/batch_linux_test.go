package ws_test

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"bollard/internal/ws"
)

// Stations that are ready at the same time share system calls, more of them than a
// ring takes at once, and what they say is the same as without.
func TestReadyStreamsShareSystemCalls(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		prepare func(*ws.Loops)
	}{
		{"a ring", func(*ws.Loops) {}},
		{"no ring, as where it is forbidden", ws.WithoutRing},
		{"a ring that takes nothing", ws.BreakRing},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			shareSystemCalls(t, c.prepare)
		})
	}
}

// small gives the sockets between two ends little room.
func small(t *testing.T, from, to *ws.Conn) {
	t.Helper()
	out, _ := from.NetConn().(*ws.Line).Conn.(*net.TCPConn)
	in, _ := to.NetConn().(*ws.Line).Conn.(*net.TCPConn)
	if err := errors.Join(out.SetWriteBuffer(4<<10), in.SetReadBuffer(4<<10)); err != nil {
		t.Fatal(err)
	}
}

func shareSystemCalls(t *testing.T, prepare func(*ws.Loops)) {
	const stations = ws.RingSize + ws.RingFrom + 3 // the last ones share a call, too
	loops, front, back := oneLoop(t), newRig(t, false, ws.Limits{}, ""), newRig(t, false, ws.Limits{}, "")
	prepare(loops)
	busy, release := make(chan struct{}), make(chan struct{})
	says, hears := make([]*ws.Conn, stations), make([]*ws.Conn, stations)
	for i := range stations {
		station, down := front.connect(t, ws.Limits{})
		up, backend := back.connect(t, ws.Limits{PongTimeout: patience})
		small(t, up, backend)
		var b *ws.Stream
		a, b, ok := loops.Pair(down, handler(func(msg []byte) bool {
			if i == 0 { // stands for all that keeps a loop busy
				close(busy)
				<-release
			}
			_ = b.Pass(msg, nil) // what is lost is missed below
			return false
		}), up, handler(func([]byte) bool { return false }))
		if !ok {
			t.Fatal("the connections can't be moved to a loop")
		}
		closing(t, a, b, station, backend)
		says[i], hears[i] = station, backend
		a.Resume()
		b.Resume()
	}
	say := func(i int) string {
		// The last one's message is more than is read ahead, and than the sockets to its back end hold.
		msg := fmt.Sprintf("%d %s", i, strings.Repeat("x", i/(stations-1)*50_000))
		if err := says[i].Write([]byte(msg)); err != nil {
			t.Error(err)
		}
		return msg
	}
	want := []string{say(0)}
	<-busy
	before, _ := ws.SharedCalls(loops)
	for i := range stations - 1 {
		want = append(want, say(i+1))
	}
	close(release)
	for i, msg := range want {
		if got, err := hears[i].Read(nil); err != nil || string(got) != msg {
			t.Errorf("station %d: the back end got %d bytes and %v, want the %d of %.10q", i, len(got), err, len(msg), msg)
		}
	}
	// One read and one send of each but the one that kept the loop busy, unless the kernel was late with some.
	if after, ok := ws.SharedCalls(loops); ok && after-before < stations {
		t.Errorf("%d reads and sends were shared, want about %d", after-before, 2*(stations-1))
	}
}

// Whoever waits until all is sent is told when it never will be: Close would wait out
// its second.
func TestFailedSharedSendIsTold(t *testing.T) {
	t.Parallel()
	loops, front, back := oneLoop(t), newRig(t, false, ws.Limits{}, ""), newRig(t, false, ws.Limits{}, "")
	station, down := front.connect(t, ws.Limits{})
	t.Cleanup(func() { station.Close(ws.CloseNormal, "") })
	wait(t, join(t, loops, down, back, 1).FailShared(), "word of the failed send")
}
