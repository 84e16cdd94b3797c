package safehttp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// maxAddresses bounds what a name may resolve to; more is a trick.
const maxAddresses = 32

// dialTimeout bounds the attempt on one address.
const dialTimeout = 5 * time.Second

// special are the ranges that aren't the public Internet's: IANA's special
// purpose registries (RFC 6890 and its updates), and one cloud's metadata
// service that hides in a public range.
var special = []struct {
	prefix netip.Prefix
	what   string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "unspecified"},
	{netip.MustParsePrefix("10.0.0.0/8"), "private"},
	{netip.MustParsePrefix("100.64.0.0/10"), "behind a carrier's NAT"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("168.63.129.16/32"), "a cloud's metadata service"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local"},
	{netip.MustParsePrefix("172.16.0.0/12"), "private"},
	{netip.MustParsePrefix("192.0.0.0/24"), "reserved"},
	{netip.MustParsePrefix("192.0.2.0/24"), "for documentation"},
	{netip.MustParsePrefix("192.88.99.0/24"), "a 6to4 relay"},
	{netip.MustParsePrefix("192.168.0.0/16"), "private"},
	{netip.MustParsePrefix("198.18.0.0/15"), "for benchmarks"},
	{netip.MustParsePrefix("198.51.100.0/24"), "for documentation"},
	{netip.MustParsePrefix("203.0.113.0/24"), "for documentation"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved"},
	{netip.MustParsePrefix("2001::/23"), "reserved, such as for Teredo"},
	{netip.MustParsePrefix("2001:db8::/32"), "for documentation"},
	{netip.MustParsePrefix("2002::/16"), "6to4"},
	{netip.MustParsePrefix("3fff::/20"), "for documentation"},
}

var (
	unicast = netip.MustParsePrefix("2000::/3")     // all of IPv6 that is handed out (RFC 4291 §2.4)
	nat64   = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052 §2.1
)

// checkAddress returns why an address must not be connected to, nil if it may.
func (c *List) checkAddress(addr netip.Addr) error {
	addr = addr.Unmap()
	switch {
	case !addr.IsValid():
		return errors.New("the address isn't one")
	case addr.IsUnspecified() || addr.IsMulticast() || addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		// Nobody's address; no exception makes it one.
		return fmt.Errorf("the address %s is no single host's", addr)
	}
	for _, p := range c.cfg.AllowPrivate {
		if p.Contains(addr) {
			return nil
		}
	}
	// A network without IPv4 reaches it by these; the embedded one counts.
	if nat64.Contains(addr) {
		raw := addr.As16()
		if err := public(netip.AddrFrom4([4]byte(raw[12:]))); err != nil {
			return fmt.Errorf("the address %s leads by NAT64 to another: %w", addr, err)
		}
		return nil
	}
	return public(addr)
}

func public(addr netip.Addr) error {
	for _, s := range special {
		if s.prefix.Contains(addr) {
			return fmt.Errorf("the address %s isn't public: it is %s", addr, s.what)
		}
	}
	if addr.Is6() && !unicast.Contains(addr) {
		return fmt.Errorf("the address %s isn't public", addr)
	}
	return nil
}

// resolve looks the host up, once, and returns its addresses if every one of
// them may be connected to: a name with one forbidden address is an attack or
// a mistake, and a choice among them would be the resolver's.
func (c *Client) resolve(ctx context.Context, t *target) ([]netip.AddrPort, error) {
	addrs := []netip.Addr{t.literal}
	if !t.literal.IsValid() {
		var err error
		addrs, err = c.cfg.Resolver.LookupNetIP(ctx, "ip", t.name)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil:
			return nil, &Error{Rule: RuleResolve, Where: t.where(), Reason: "the name can't be resolved", Err: err}
		case len(addrs) == 0:
			return nil, refuse(RuleResolve, t.where(), "the name has no address")
		case len(addrs) > maxAddresses:
			return nil, refuse(RuleResolve, t.where(), fmt.Sprintf("the name has more than %d addresses", maxAddresses))
		}
	}
	var pinned []netip.AddrPort
	for _, addr := range addrs {
		if err := c.checkAddress(addr); err != nil {
			return nil, refuse(RuleAddress, t.where(), err.Error())
		}
		if to := netip.AddrPortFrom(addr.Unmap(), t.port); !slices.Contains(pinned, to) {
			pinned = append(pinned, to)
		}
	}
	return pinned, nil
}
