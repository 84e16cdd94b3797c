package config

import (
	"fmt"
	"net/netip"
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
