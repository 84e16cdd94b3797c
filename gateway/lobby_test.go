package gateway

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// However many stations come back at once, no more of their handshakes compute
// than there are desks, in the order they came, and whoever waits for its peer
// gives its desk back: what runs beside them waits for so many steps at most.
func TestHandshakesTakeTurnsAtTheDesks(t *testing.T) {
	t.Parallel()
	if n := (Limits{}).withDefaults().HandshakesAtOnce; n != runtime.GOMAXPROCS(0) {
		t.Errorf("%d handshakes compute at once, want one a processor", n)
	}
	synctest.Test(t, func(t *testing.T) {
		const desks, guests = 2, 7
		l := newLobby(desks)
		var served []int
		at := 0
		done := make([]chan struct{}, guests)
		for i := range guests {
			near, far := net.Pipe()
			g, _ := l.enter(near, guests)
			done[i] = make(chan struct{})
			g.begin(t.Context(), time.Now().Add(time.Hour))
			go func() { _, _ = far.Write([]byte("hello")) }()
			go func() {
				defer near.Close()
				buf := make([]byte, 8)
				_, _ = g.Read(buf)
				served = append(served, i)
				at++
				if at > desks {
					t.Errorf("%d handshakes compute at once, %d may", at, desks)
				}
				<-done[i] // computes
				at--
				go func() { _ = far.Close() }()
				_, _ = g.Read(buf) // the next flight: gone
				g.finish()
			}()
			synctest.Wait() // one after the other at the door
		}
		for i := range guests {
			if want := min(desks+i, guests); len(served) != want {
				t.Errorf("%d guests had a desk once %d had computed, want %d", len(served), i, want)
			}
			close(done[i])
			synctest.Wait()
		}
		if !slices.IsSorted(served) {
			t.Errorf("served in the order %v", served)
		}
		if len(l.desks) != 0 {
			t.Errorf("%d desks are still taken", len(l.desks))
		}
	})
}

// Who gets its desk too late has nothing computed: a crowd of hopeless ones would take the
// time of those that come after.
func TestDeskThatComesTooLate(t *testing.T) {
	t.Parallel()
	for patience, want := range map[time.Duration]error{time.Second: os.ErrDeadlineExceeded, time.Minute: nil} {
		synctest.Test(t, func(t *testing.T) {
			l := newLobby(1)
			near, far := net.Pipe()
			defer near.Close()
			g, _ := l.enter(near, 1)
			g.begin(t.Context(), time.Now().Add(patience))
			l.desks <- struct{}{}
			go func() { _, _ = far.Write([]byte("hello")) }()
			time.AfterFunc(2*time.Second, func() { <-l.desks })
			if _, err := g.Read(make([]byte, 8)); !errors.Is(err, want) {
				t.Errorf("with %v: %v, want %v", patience, err, want)
			}
			g.finish()
			if len(l.desks) != 0 {
				t.Errorf("with %v: the desk is still taken", patience)
			}
		})
	}
}

// One host has a whole /64 of IPv6 and must not count as many (threat A8).
func TestSourceOf(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		a, b string
		same bool
	}{
		{"192.0.2.1", "192.0.2.1", true},
		{"192.0.2.1", "192.0.2.2", false},
		{"192.0.2.1", "::ffff:192.0.2.1", true},
		{"2001:db8::1", "2001:db8::ffff:1:2:3", true},
		{"2001:db8::1", "2001:db8:0:1::1", false},
		{"fe80::1%eth0", "fe80::2%eth1", true},
	} {
		at := func(ip string) net.Addr {
			return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(ip), 1))
		}
		if got := sourceOf(at(tt.a)) == sourceOf(at(tt.b)); got != tt.same {
			t.Errorf("%s and %s are one source: %v", tt.a, tt.b, got)
		}
	}
}
