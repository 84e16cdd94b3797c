// Package crowd bounds the open connections of a listener.
package crowd

import (
	"net"
	"net/netip"
	"sync"
)

// Limit returns l with connections turned away that are too many: from one
// source address (IPv6: /64), or at all. Those it returns count until closed.
func Limit(l net.Listener, perSource, all int) net.Listener {
	return &crowd{Listener: l, perSource: perSource, all: all, open: map[netip.Addr]int{}}
}

type crowd struct {
	net.Listener
	perSource, all int

	mu    sync.Mutex
	total int
	open  map[netip.Addr]int
}

// Accept returns the next connection there is room for.
func (c *crowd) Accept() (net.Conn, error) {
	for {
		conn, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := sourceOf(conn.RemoteAddr())
		c.mu.Lock()
		room := c.total < c.all && c.open[from] < c.perSource
		if room {
			c.total++
			c.open[from]++
		}
		c.mu.Unlock()
		if room {
			return &visitor{Conn: conn, leave: sync.OnceFunc(func() { c.leave(from) })}, nil
		}
		_ = conn.Close()
	}
}

func (c *crowd) leave(from netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total--
	if c.open[from]--; c.open[from] == 0 {
		delete(c.open, from)
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

// visitor is a connection that counts until it is closed.
type visitor struct {
	net.Conn
	leave func()
}

// Close closes and makes room.
func (v *visitor) Close() error {
	v.leave()
	return v.Conn.Close()
}
