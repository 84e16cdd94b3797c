package config

import (
	"fmt"
	"net"
	"net/url"
	"reflect"
	"strings"
)

// Outside is a CA of others that certifies the name of the front door.
type Outside struct {
	Directory string `yaml:"directory" doc:"URL of the CA's directory; writing it here agrees to the CA's terms"`
	Contact   string `yaml:"contact" doc:"URL the CA writes to, such as mailto:ops@example.com"`
	Trust     string `yaml:"trust" doc:"PEM file of the roots of the CA's HTTPS; none: the system's"`
	// RFC 8555 §7.3.4.
	KeyID string   `yaml:"key_id" doc:"of the account binding that the CA gave its customer"`
	MAC   string   `yaml:"mac_file" doc:"file with the binding's key in base64url, mode 0600"`
	Keys  []string `yaml:"keys" doc:"ecdsa, rsa or both, with a certificate for each; none: ecdsa"`
}

// outside judges server_certificate.acme.
func (c *checker) outside(f *File) {
	const key = "server_certificate.acme"
	o := f.Server.ACME
	if o.Directory == "" {
		c.want(reflect.ValueOf(o).IsZero(), key+".directory", "is missing: the URL of the CA's directory")
		c.want(f.Listen.ACME == "", "listen.acme", "is for server_certificate.acme, which isn't there")
		return
	}
	c.url(o.Directory, key+".directory", "https")
	c.want(f.Listen.ACME != "", "listen.acme", "is missing: the CA of "+key+" asks for proofs there")
	c.want(net.ParseIP(f.Host) == nil && strings.Contains(f.Host, "."), "host", "must be a DNS name with a dot: the CA of "+key+" certifies no other")
	contact, err := url.Parse(o.Contact)
	c.want(o.Contact == "" || err == nil && contact.Scheme != "", key+".contact", "must be a URL, such as mailto:ops@example.com")
	c.want((o.KeyID == "") == (o.MAC == ""), key+".key_id", "and mac_file go together")
	seen := map[string]bool{}
	for i, k := range o.Keys {
		at := fmt.Sprintf("%s.keys[%d]", key, i)
		c.oneOf(k, at, "ecdsa", "rsa")
		c.want(!seen[k], at, "stands here a second time; delete one")
		seen[k] = true
	}
	for kind, from := range map[string]CertFiles{"ecdsa": f.Server.ECDSA, "rsa": f.Server.RSA} {
		c.want(from == CertFiles{}, "server_certificate."+kind, "and server_certificate.acme exclude each other")
	}
}
