package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// ACME says who gets certificates over it for what.
type ACME struct {
	// Names: for servers beside Bollard, never for Bollard's own name.
	Names []string `yaml:"names" number:"ok" doc:"host names that server certificates are issued for, and *.example.com for everything below one; none: no such door"`
	// Open is for networks whose machines are all trusted with all of Names.
	Open bool `yaml:"open" doc:"accounts need no token (bollard acme token): whoever answers for a name gets its certificate"`
	// Networks: safehttp keeps to public addresses but for these.
	Networks []string `yaml:"networks" doc:"private networks that names may lead to, such as 10.0.0.0/8"`
	Resolver string   `yaml:"resolver" doc:"IP:PORT of the DNS server asked for names and their TXT records; none: the system's"`
	HTTPPort int      `yaml:"http_port" doc:"where http-01 is answered"`
	TLSPort  int      `yaml:"tls_port" doc:"where tls-alpn-01 is answered"`
}

func (c *checker) acme(f *File) {
	a := &f.ACME
	own := f.OwnNames()
	for i, name := range a.Names {
		c.want(!slices.Contains(own, bareHost(name)), fmt.Sprintf("acme.names[%d]", i), "is Bollard's own name, which nobody gets a certificate for; leave it out")
	}
	c.want(len(a.Names) == 0 || f.Listen.PKI != "", "acme.names", "needs listen.pki, where ACME is served")
	for i, network := range a.Networks {
		_, err := netip.ParsePrefix(network)
		c.want(err == nil, fmt.Sprintf("acme.networks[%d]", i), "must be a network, such as 10.0.0.0/8")
	}
	_, err := netip.ParseAddrPort(a.Resolver)
	c.want(a.Resolver == "" || err == nil, "acme.resolver", "must be IP:PORT, such as 10.0.0.53:53")
	for key, port := range map[string]int{"http_port": a.HTTPPort, "tls_port": a.TLSPort} {
		c.want(port >= 1 && port <= 65535, "acme."+key, "must be from 1 to 65535")
	}
}

// OwnNames are what Bollard is dialled by: host, and the hosts of the public URLs. Whoever
// had a certificate for one could pose as it, so that no door issues any.
func (f *File) OwnNames() []string {
	names := []string{bareHost(f.Host)}
	p := f.Public
	for _, text := range []string{p.OCPP, p.Rollover, p.Firmware, p.SFTP, p.Status} {
		u, err := url.Parse(text)
		if err != nil || u.Hostname() == "" {
			continue // not served
		}
		if name := bareHost(u.Hostname()); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// bareHost is a host name as others are compared with it: with the root's dot it is the
// same one (RFC 3986 §3.2.2).
func bareHost(name string) string { return strings.TrimSuffix(strings.ToLower(name), ".") }
