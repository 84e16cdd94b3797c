package gateway

import (
	"container/list"
	"context"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"bollard/internal/ws"
)

// maxLobby bounds the half-open connections of all sources together: each costs
// a descriptor and a goroutine.
const maxLobby = 8192

// lobby holds the connections that have not sent a whole request yet. It bounds
// them by source, and how many handshakes compute at the same time.
//
// When it is full, the one that has waited longest goes, not the newcomer: a
// private APN hides a fleet behind one address, and an honest station is through
// in a few round trips, while whoever only holds the door open is the oldest.
type lobby struct {
	desks chan struct{} // one token for each handshake that may compute

	mu     sync.Mutex
	all    *list.List // of *guest, oldest first
	source map[netip.Addr]*list.List
}

func newLobby(atOnce int) *lobby {
	return &lobby{desks: make(chan struct{}, atOnce), all: list.New(), source: map[netip.Addr]*list.List{}}
}

// enter takes a connection in and returns whom it pushed out, nil if nobody.
func (l *lobby) enter(conn net.Conn, perSource int) (in, out *guest) {
	in = &guest{Conn: conn, stay: &stay{lobby: l, from: sourceOf(conn.RemoteAddr())}}
	l.mu.Lock()
	defer l.mu.Unlock()
	mine := l.source[in.from]
	switch {
	case mine != nil && mine.Len() >= perSource:
		out, _ = mine.Front().Value.(*guest)
	case l.all.Len() >= maxLobby:
		out, _ = l.all.Front().Value.(*guest)
	}
	if out != nil {
		l.remove(out)
	}
	if mine = l.source[in.from]; mine == nil {
		mine = list.New()
		l.source[in.from] = mine
	}
	in.place, in.among = l.all.PushBack(in), mine.PushBack(in)
	return in, out
}

// remove takes a guest out, once. The caller holds l.mu.
func (l *lobby) remove(g *guest) {
	if g.place == nil {
		return
	}
	l.all.Remove(g.place)
	mine := l.source[g.from]
	if mine.Remove(g.among); mine.Len() == 0 {
		delete(l.source, g.from)
	}
	g.place, g.among = nil, nil
}

// sourceOf is the address a peer is counted by: an IPv6 host has its whole /64.
func sourceOf(addr net.Addr) netip.Addr {
	return sourceOfAddr(addrOf(addr))
}

// addrOf is the IP address of a peer, the zero address if it has none.
func addrOf(addr net.Addr) netip.Addr {
	if tcp, ok := addr.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap()
	}
	ap, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}

// shownSource writes the address a peer is counted by.
func shownSource(a netip.Addr) string {
	if a.Is6() {
		return a.String() + "/64"
	}
	return a.String()
}

func sourceOfAddr(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

// guest is a connection in the lobby. During the handshake it gives its desk
// back whenever it waits for the peer: slow peers hold descriptors, not desks.
type guest struct {
	net.Conn
	*stay // nil once its request has been read: the connection lives on
}

// stay is what a guest needs in the lobby.
type stay struct {
	lobby *lobby
	from  netip.Addr
	place *list.Element // in lobby.all, nil once it has left; under lobby.mu
	among *list.Element // in lobby.source; under lobby.mu

	// Owned by the handshake's goroutine, and by nobody afterwards.
	shaking  bool
	seated   bool
	deadline time.Time
	over     <-chan struct{} // the door is closed
	hello    helloFault

	untrusted string // what the handshake's chain was found to lack; the handshake's, then its request's
}

// begin begins the handshake, which ends with ctx or by the clock: the socket's, since a
// context's own would cost a timer. Whoever reads afterwards sets another.
func (g *guest) begin(ctx context.Context, deadline time.Time) {
	g.shaking, g.deadline, g.over = true, deadline, ctx.Done()
	_ = g.SetDeadline(deadline) // whatever is wrong with the connection shows when it is read
}

func (g *guest) finish() {
	g.shaking, g.over = false, nil
	g.rise()
}

// Line returns the connection below.
func (g *guest) Line() *ws.Line {
	if l, ok := g.Conn.(*ws.Line); ok {
		return l
	}
	return nil
}

// CloseWrite ends the sending half, where there is no TLS above.
func (g *guest) CloseWrite() error { return g.Line().CloseWrite() }

func (g *guest) rise() {
	if g.seated {
		g.seated = false
		<-g.lobby.desks
	}
}

// Read reads; during the handshake what was read is worked on at a desk.
func (g *guest) Read(p []byte) (int, error) {
	if g.stay == nil || !g.shaking {
		return g.Conn.Read(p)
	}
	g.rise()
	n, err := g.Conn.Read(p)
	if err != nil {
		return n, err
	}
	select {
	case g.lobby.desks <- struct{}{}:
		g.seated = true
	case <-g.over:
		return n, os.ErrDeadlineExceeded
	}
	if time.Now().After(g.deadline) { // nothing is computed for who waited too long
		return n, os.ErrDeadlineExceeded
	}
	return n, nil
}

// Close closes and leaves the lobby.
func (g *guest) Close() error {
	g.leave()
	return g.Conn.Close()
}

func (g *guest) leave() {
	if g.stay == nil {
		return
	}
	g.lobby.mu.Lock()
	defer g.lobby.mu.Unlock()
	g.lobby.remove(g)
}

// checkOut leaves for good; untrusted is what its handshake found. Nobody else
// may use the guest meanwhile.
func (g *guest) checkOut() (untrusted string) {
	g.leave()
	untrusted = g.untrusted
	g.stay = nil
	return untrusted
}
