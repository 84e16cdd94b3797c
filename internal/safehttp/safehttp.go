// Package safehttp fetches URLs that came from the wire: a station, a vehicle
// or a certificate chose them, and means Bollard to connect for it.
//
// It promises that no such URL makes Bollard reach a host, port or scheme the
// operator hasn't listed, or an address that isn't public unless the operator
// excepted it, whatever the name resolves to and when; and that an answer costs
// no more than the configured bytes and time.
package safehttp

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Defaults of Config.
const (
	DefaultMaxBytes = 1 << 20
	DefaultTimeout  = 10 * time.Second
)

// maxRedirects bounds Config.Redirects.
const maxRedirects = 5

// Resolver looks names up; *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Config says what a Client may reach.
type Config struct {
	// Schemes are of "http" and "https". Empty: both.
	Schemes []string
	// Hosts is the allow-list: exact names or addresses, "*.example.com" for
	// everything below a name, "*" for every name (but no address and no name
	// without a dot). Empty: nothing.
	Hosts []string
	// Ports are those a URL may name. Empty: the scheme's own only.
	Ports []int
	// MaxBytes bounds the body of an answer. 0: DefaultMaxBytes.
	MaxBytes int64
	// Timeout bounds everything from the look-up to the last byte, redirects
	// included. 0: DefaultTimeout.
	Timeout time.Duration
	// Redirects is how many a GET follows, at most 5, on the same host and
	// never from https to http. 0: none. A POST follows none.
	Redirects int
	// AllowPrivate lists addresses that may be reached though they aren't
	// public, such as a responder in the operator's own network.
	AllowPrivate []netip.Prefix
	Resolver     Resolver         // nil: net.DefaultResolver
	Clock        func() time.Time // what TLS certificates are judged by; nil: time.Now
	RootCAs      *x509.CertPool   // nil: the system's
	// Credentials lets a URL hold a user and a password. Only a List may: what
	// a station is told to fetch by FTP can need them, Bollard's own fetching not.
	Credentials bool
}

// stationSchemes are what stations transfer files by (OCPP 2.0.1 part 2 N01, L01).
var stationSchemes = []string{"http", "https", "ftp", "ftps", "sftp"}

// validate names the field that is wrong, and fills in defaults.
func (c Config) validate(known ...string) (Config, error) {
	if len(c.Schemes) == 0 {
		c.Schemes = known
	}
	for _, s := range c.Schemes {
		if !slices.Contains(known, s) {
			return c, fmt.Errorf("scheme %q isn't one of %s", s, strings.Join(known, ", "))
		}
	}
	hosts := make([]string, 0, len(c.Hosts))
	for _, h := range c.Hosts {
		h = strings.ToLower(h)
		suffix, below := strings.CutPrefix(h, "*.")
		if addr, err := parseHost(suffix); h != "*" && (err != nil || below && addr.IsValid()) {
			return c, fmt.Errorf("host %q isn't a name, an address, *.name or *", h)
		}
		hosts = append(hosts, h)
	}
	c.Hosts = hosts
	for _, p := range c.Ports {
		if p < 1 || p > 65535 {
			return c, fmt.Errorf("port %d isn't one", p)
		}
	}
	for _, p := range c.AllowPrivate {
		if !p.IsValid() || p.Addr().Is4In6() {
			return c, fmt.Errorf("address range %s isn't one", p)
		}
	}
	switch {
	case c.MaxBytes < 0:
		return c, errors.New("the byte limit is negative")
	case c.Timeout < 0:
		return c, errors.New("the time limit is negative")
	case c.Redirects < 0 || c.Redirects > maxRedirects:
		return c, fmt.Errorf("%d redirects aren't 0 to %d", c.Redirects, maxRedirects)
	}
	c.Ports, c.AllowPrivate = slices.Clone(c.Ports), slices.Clone(c.AllowPrivate)
	if c.MaxBytes == 0 {
		c.MaxBytes = DefaultMaxBytes
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	if c.Resolver == nil {
		c.Resolver = net.DefaultResolver
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	return c, nil
}

// List judges URLs that somebody else will fetch, such as a station, by the
// rules of a Client that need no look-up.
type List struct{ cfg Config }

// NewList checks the configuration, of which Schemes may hold those of file
// transfers too; none means all. An address that Hosts names is good though it
// may not be public.
func NewList(cfg Config) (*List, error) {
	cfg, err := cfg.validate(stationSchemes...)
	if err != nil {
		return nil, fmt.Errorf("couldn't set up the list of URLs: %w", err)
	}
	for _, h := range cfg.Hosts {
		if addr, err := netip.ParseAddr(h); err == nil {
			cfg.AllowPrivate = append(cfg.AllowPrivate, netip.PrefixFrom(addr, addr.BitLen()))
		}
	}
	return &List{cfg}, nil
}

// Client fetches. Its methods are safe for concurrent use; it keeps nothing
// between requests, neither connections nor cookies, and takes no proxy from
// the environment.
type Client struct {
	List
	dial func(ctx context.Context, to netip.AddrPort) (net.Conn, error)
}

// New checks the configuration.
func New(cfg Config) (*Client, error) {
	cfg, err := cfg.validate("http", "https")
	if err == nil && cfg.Credentials {
		err = errors.New("credentials in URLs are for stations only")
	}
	if err != nil {
		return nil, fmt.Errorf("couldn't set up the fetching of URLs: %w", err)
	}
	c := &Client{List: List{cfg}}
	// The address once more where the socket is made: whatever changes above,
	// nothing but a checked address is connected to.
	dialer := &net.Dialer{Timeout: dialTimeout, Control: func(_, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		return c.checkAddress(to.Addr())
	}}
	c.dial = func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
		return dialer.DialContext(ctx, "tcp", to.String())
	}
	return c, nil
}

// ByPort sorts hosts that may stand with a port, as HOST:PORT, by it; those without
// one, which have their scheme's own, are under 0.
func ByPort(list []string) (map[int][]string, error) {
	ports := map[int][]string{}
	for _, entry := range list {
		host, port := entry, 0
		if i := strings.LastIndexByte(entry, ':'); i > 0 && (strings.HasSuffix(entry[:i], "]") || strings.Count(entry, ":") == 1) {
			n, err := strconv.Atoi(entry[i+1:])
			if err != nil {
				return nil, fmt.Errorf("%q: give HOST or HOST:PORT, without a scheme", entry)
			}
			host, port = strings.Trim(entry[:i], "[]"), n
		}
		ports[port] = append(ports[port], host)
	}
	return ports, nil
}
