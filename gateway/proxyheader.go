package gateway

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"time"
)

// The PROXY protocol, version 2 (haproxy.org, proxy-protocol.txt §2.2): a load
// balancer says before the first byte of TLS whom a connection comes from.
const (
	proxySignature = "\r\n\r\n\x00\r\nQUIT\n"
	proxyFixed     = len(proxySignature) + 4 // signature, version and command, family, length
	// proxyRest bounds addresses and TLVs. Two IPv6 addresses take 36 bytes; a
	// balancer's TLVs (§2.2.1 to §2.2.7) a few hundred.
	proxyRest = 2048

	proxyLocal = 0x20 // the balancer's own connection, such as a health check
	proxyProxy = 0x21
	proxyTCP4  = 0x11
	proxyTCP6  = 0x21
)

// proxyHeader reads exactly one header and returns the address it names; the
// zero address if it names none (LOCAL, or a family that isn't TCP over IP).
func proxyHeader(r io.Reader) (netip.AddrPort, error) {
	var none netip.AddrPort
	var head [proxyFixed]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return none, fmt.Errorf("no whole PROXY header came: %w", err)
	}
	if string(head[:len(proxySignature)]) != proxySignature {
		return none, errors.New("what came is no PROXY header of version 2")
	}
	command, family := head[12], head[13]
	if command != proxyLocal && command != proxyProxy {
		return none, fmt.Errorf("PROXY header with unknown version or command %#02x", command)
	}
	length := int(binary.BigEndian.Uint16(head[14:]))
	if length > proxyRest {
		return none, fmt.Errorf("PROXY header of %d bytes; at most %d are read", length, proxyRest)
	}
	rest := make([]byte, length)
	if _, err := io.ReadFull(r, rest); err != nil {
		return none, fmt.Errorf("no whole PROXY header came: %w", err)
	}
	size := 0 // of one address
	switch {
	case command == proxyLocal:
		return none, nil // §2.2: the receiver discards the rest
	case family == proxyTCP4:
		size = 4
	case family == proxyTCP6:
		size = 16
	default:
		return none, nil // §2.2: the receiver uses the connection's own addresses
	}
	if length < 2*size+4 {
		return none, fmt.Errorf("PROXY header with %d bytes of addresses, want %d", length, 2*size+4)
	}
	from, _ := netip.AddrFromSlice(rest[:size])
	return netip.AddrPortFrom(from.Unmap(), binary.BigEndian.Uint16(rest[2*size:])), nil
}

// behind says whether the peer is a balancer whose word on the source is taken.
// Nobody else's is: a station could name another's address and use up its budget.
func (l *Listener) behind(conn net.Conn) bool {
	at := addrOf(conn.RemoteAddr())
	return slices.ContainsFunc(l.Proxies, func(p netip.Prefix) bool { return p.Contains(at) })
}

// introduced reads a balancer's header and returns the connection as the
// station's.
func introduced(ctx context.Context, conn net.Conn, timeout time.Duration) (net.Conn, error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if err := conn.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return nil, err
	}
	from, err := proxyHeader(conn)
	if err != nil {
		return nil, err
	}
	tcp, ok := conn.(*net.TCPConn)
	if !from.IsValid() || !ok {
		return conn, conn.SetReadDeadline(time.Time{})
	}
	return proxied{tcp, net.TCPAddrFromAddrPort(from)}, conn.SetReadDeadline(time.Time{})
}

// proxied is a connection from the address its balancer named.
type proxied struct {
	*net.TCPConn
	from net.Addr
}

func (p proxied) RemoteAddr() net.Addr { return p.from }
