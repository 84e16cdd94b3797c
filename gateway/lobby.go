package gateway

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
)

// maxLobby bounds the half-open connections of all sources together: each costs
// a descriptor and a goroutine.
const maxLobby = 8192

// lobby holds the connections that have not sent a whole request yet. It bounds
// them by source, and how many handshakes compute at the same time.
type lobby struct {
	desks chan struct{} // one token for each handshake that may compute

	mu     sync.Mutex
	total  int
	source map[netip.Addr]int
}

func newLobby(atOnce int) *lobby {
	return &lobby{desks: make(chan struct{}, atOnce), source: map[netip.Addr]int{}}
}

// enter takes a connection in, or says why not.
func (l *lobby) enter(conn net.Conn, perSource int) (*guest, string) {
	from := sourceOf(conn.RemoteAddr())
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total >= maxLobby || l.source[from] >= perSource {
		return nil, classCrowd
	}
	l.total++
	l.source[from]++
	return &guest{Conn: conn, lobby: l, from: from}, ""
}

func (l *lobby) leave(from netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	if l.source[from]--; l.source[from] == 0 {
		delete(l.source, from)
	}
}

// sourceOf is the address a peer is counted by: an IPv6 host has its whole /64.
func sourceOf(addr net.Addr) netip.Addr {
	ap, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return netip.Addr{}
	}
	a := ap.Addr().Unmap().WithZone("")
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
	lobby *lobby
	from  netip.Addr
	left  atomic.Bool

	// Owned by the handshake's goroutine, and by nobody afterwards.
	shaking  bool
	seated   bool
	deadline <-chan struct{}
	hello    helloFault
}

func (g *guest) begin(ctx context.Context) { g.shaking, g.deadline = true, ctx.Done() }

func (g *guest) finish() {
	g.shaking = false
	g.rise()
}

func (g *guest) rise() {
	if g.seated {
		g.seated = false
		<-g.lobby.desks
	}
}

// Read reads; during the handshake what was read is worked on at a desk.
func (g *guest) Read(p []byte) (int, error) {
	if !g.shaking {
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
		return n, nil
	case <-g.deadline:
		return n, os.ErrDeadlineExceeded
	}
}

// Close closes and leaves the lobby.
func (g *guest) Close() error {
	g.leave()
	return g.Conn.Close()
}

func (g *guest) leave() {
	if g.left.CompareAndSwap(false, true) {
		g.lobby.leave(g.from)
	}
}

type guestKey struct{}

// withLobby lets the handler find its connection's place in the lobby.
func withLobby(ctx context.Context, c net.Conn) context.Context {
	if secure, ok := c.(*tls.Conn); ok {
		c = secure.NetConn()
	}
	if g, ok := c.(*guest); ok {
		return context.WithValue(ctx, guestKey{}, g)
	}
	return ctx
}

// leaveLobby notes that a connection has sent its request.
func leaveLobby(ctx context.Context) {
	if g, ok := ctx.Value(guestKey{}).(*guest); ok {
		g.leave()
	}
}
