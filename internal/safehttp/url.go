package safehttp

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// maxURL bounds a URL. OCPP's responderURL has 2000 characters in 2.1.
const maxURL = 2000

// target is a URL that passed every rule that needs no look-up.
type target struct {
	url     *url.URL
	name    string     // lower case, or
	literal netip.Addr // if valid
	port    uint16
}

func (t *target) host() string {
	if t.literal.IsValid() {
		return t.literal.String()
	}
	return t.name
}

// where says where a URL points, for errors.
func (t *target) where() string {
	return t.url.Scheme + "://" + net.JoinHostPort(t.host(), strconv.Itoa(int(t.port)))
}

// Check applies every rule that needs no look-up, for a URL that is to be
// stored and fetched later. The error is an *Error.
func (c *List) Check(raw string) error {
	t, err := c.parse(raw)
	if err != nil {
		return err
	}
	if t.literal.IsValid() {
		if err := c.checkAddress(t.literal); err != nil {
			return &Error{Rule: RuleAddress, Where: t.where(), Reason: err.Error()}
		}
	}
	return nil
}

// parse reads a URL as strictly as it can be: where parsers differ about a
// URL (backslashes, several @, percent signs in hosts, numbers as addresses,
// letters outside ASCII that normalise to others), it is refused.
func (c *List) parse(raw string) (*target, error) {
	switch {
	case raw == "":
		return nil, refuse(RuleForm, "", "the URL is empty")
	case len(raw) > maxURL:
		return nil, refuse(RuleForm, "", "the URL is longer than "+strconv.Itoa(maxURL)+" bytes")
	case raw[0] == '-':
		return nil, refuse(RuleForm, "", "the URL begins with a hyphen")
	}
	for _, b := range []byte(raw) {
		switch {
		case b <= 0x20 || b == 0x7f:
			return nil, refuse(RuleForm, "", "the URL holds a space or control character")
		case b > 0x7f:
			return nil, refuse(RuleForm, "", "the URL holds a character outside ASCII; write international names as xn--")
		case strings.IndexByte("\\\"<>^`{|}", b) >= 0:
			return nil, refuse(RuleForm, "", "the URL holds a character that URLs don't have (RFC 3986 appendix A)")
		}
	}
	scheme, rest, found := strings.Cut(raw, "://")
	if !found {
		return nil, refuse(RuleForm, "", "it isn't an absolute URL with a host")
	}
	if !slices.Contains(c.cfg.Schemes, strings.ToLower(scheme)) {
		return nil, refuse(RuleScheme, "", "the scheme isn't allowed (allowed: "+strings.Join(c.cfg.Schemes, ", ")+")")
	}
	authority := rest
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		authority = rest[:end]
	}
	if user, host, found := strings.Cut(authority, "@"); found && c.cfg.Credentials {
		if !plainUser(user) {
			return nil, refuse(RuleUser, "", "the URL holds credentials that parsers read differently")
		}
		authority = host
	}
	switch {
	case strings.Contains(authority, "@"):
		return nil, refuse(RuleUser, "", "the URL holds credentials")
	case strings.Contains(raw, "#"):
		return nil, refuse(RuleFragment, "", "the URL holds a fragment")
	case strings.Contains(authority, "%"):
		return nil, refuse(RuleHost, "", "the host holds an escape or a zone")
	}
	for _, control := range []string{"%00", "%0a", "%0d"} {
		if strings.Contains(strings.ToLower(rest), control) {
			return nil, refuse(RuleForm, "", "the URL holds an escaped control character")
		}
	}
	parsed, err := url.Parse(raw)
	if err != nil || parsed.Host != authority || parsed.Opaque != "" || parsed.User != nil && !c.cfg.Credentials {
		return nil, refuse(RuleForm, "", "it isn't a readable URL")
	}
	return c.locate(parsed)
}

// locate reads host and port and holds them to the lists.
func (c *List) locate(u *url.URL) (*target, error) {
	t := &target{url: u}
	host := strings.ToLower(u.Hostname())
	literal, err := parseHost(host)
	if err != nil {
		return nil, refuse(RuleHost, "", err.Error())
	}
	t.name, t.literal = host, literal

	t.port = map[string]uint16{"http": 80, "https": 443, "ftp": 21, "ftps": 990, "sftp": 22}[u.Scheme]
	own := t.port
	if strings.HasSuffix(u.Host, ":") {
		return nil, refuse(RulePort, "", "the port is empty")
	}
	if text := u.Port(); text != "" {
		port, err := strconv.ParseUint(text, 10, 16)
		if err != nil || text[0] == '0' {
			return nil, refuse(RulePort, "", "the port isn't a number from 1 to 65535")
		}
		t.port = uint16(port)
	}
	if !c.allows(t) {
		return nil, refuse(RuleAllow, t.where(), "the host isn't on the list of allowed ones")
	}
	if len(c.cfg.Ports) == 0 && t.port != own || len(c.cfg.Ports) > 0 && !slices.Contains(c.cfg.Ports, int(t.port)) {
		return nil, refuse(RulePort, t.where(), "the port isn't allowed")
	}
	// One spelling for the Host header and the certificate check.
	u.Host = host
	if literal.Is6() {
		u.Host = "[" + literal.String() + "]"
	}
	if t.port != own {
		u.Host += ":" + strconv.Itoa(int(t.port))
	}
	return t, nil
}

func (c *List) allows(t *target) bool {
	for _, rule := range c.cfg.Hosts {
		switch {
		case t.literal.IsValid():
			if addr, err := netip.ParseAddr(rule); err == nil && addr == t.literal {
				return true
			}
		case rule == "*":
			if strings.Contains(t.name, ".") {
				return true
			}
		case strings.HasPrefix(rule, "*."):
			if strings.HasSuffix(t.name, rule[1:]) {
				return true
			}
		case rule == t.name:
			return true
		}
	}
	return false
}

// parseHost tells a host's address if it is one in its only canonical form.
// Names are letters, digits and hyphens (RFC 1123 §2.1); a last label that is
// a number makes it an address to some parsers, so it must be one to all.
func parseHost(host string) (netip.Addr, error) {
	if strings.Contains(host, ":") {
		addr, err := netip.ParseAddr(host)
		switch {
		case err != nil || addr.Zone() != "":
			return netip.Addr{}, errors.New("the host isn't an IPv6 address")
		case addr.Is4In6():
			return netip.Addr{}, errors.New("the host is an IPv4 address written as IPv6")
		}
		return addr, nil
	}
	if len(host) == 0 || len(host) > 253 {
		return netip.Addr{}, errors.New("the host name is empty or too long")
	}
	labels := strings.Split(host, ".")
	for _, label := range labels {
		if len(label) == 0 || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return netip.Addr{}, errors.New("the host isn't a host name (RFC 1123, section 2.1)")
		}
		for _, c := range []byte(label) {
			if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-') {
				return netip.Addr{}, errors.New("the host isn't a host name (RFC 1123, section 2.1)")
			}
		}
	}
	if last := labels[len(labels)-1]; '0' <= last[0] && last[0] <= '9' {
		addr, err := netip.ParseAddr(host)
		if err != nil {
			return netip.Addr{}, errors.New("the host is a number, but not an address in plain decimal form")
		}
		return addr, nil
	}
	return netip.Addr{}, nil
}

// plainUser says whether a URL's credentials are a user, or a user and a
// password, in characters that need no judgement (RFC 3986 §3.2.1).
func plainUser(text string) bool {
	user, password, _ := strings.Cut(text, ":")
	return user != "" && !strings.ContainsFunc(user+password, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-._~!$'()*+,;=%", r)
	})
}
