package gateway

import (
	"net"
	"net/netip"
	"testing"
)

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
