package safehttp

import (
	"errors"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// One returns a client of the one place that a URL of the operator's names: its
// scheme, host and port and nothing else. The URL is https, or http to this machine.
// What cfg says of schemes, hosts and ports counts for nothing.
func One(rawURL string, cfg Config) (*Client, error) {
	u, err := url.Parse(rawURL)
	if err != nil || u.Hostname() == "" {
		return nil, errors.New("the URL isn't one")
	}
	addr, err := netip.ParseAddr(u.Hostname())
	if u.Scheme != "https" && (u.Scheme != "http" || err != nil || !addr.IsLoopback()) {
		return nil, errors.New("the URL must begin with https:// (http:// only to this machine)")
	}
	cfg.Schemes, cfg.Hosts, cfg.Ports = []string{u.Scheme}, []string{strings.ToLower(u.Hostname())}, nil
	if u.Port() != "" {
		port, err := strconv.Atoi(u.Port())
		if err != nil {
			return nil, errors.New("the URL has no valid port")
		}
		cfg.Ports = []int{port}
	}
	c, err := New(cfg)
	if err != nil {
		return nil, err
	}
	return c, c.Check(rawURL)
}
