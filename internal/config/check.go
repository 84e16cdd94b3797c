package config

import (
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// anyPolicy is no policy of anybody's (RFC 5280 §4.2.1.4).
const anyPolicy = "2.5.29.32.0"

// A checker judges values. It keeps the first fault.
type checker struct {
	path  string
	lines map[string]int
	err   error
}

// want reports a fault of a key unless ok holds.
func (c *checker) want(ok bool, key, format string, args ...any) {
	if ok || c.err != nil {
		return
	}
	c.err = &Error{Path: c.path, Line: lineOf(c.lines, key), Key: key, Text: fmt.Sprintf(format, args...)}
}

// lineOf is a key's line; one that is missing has that of what it is missing from. 0: of
// neither.
func lineOf(lines map[string]int, key string) int {
	for {
		if line, known := lines[key]; known {
			return line
		}
		i := strings.LastIndexAny(key, ".[")
		if i < 0 {
			return 0
		}
		key = key[:i]
	}
}

func (c *checker) oneOf(value, key string, known ...string) {
	c.want(slices.Contains(known, value), key, "must be one of %s", strings.Join(known, ", "))
}

func (c *checker) file(f *File) {
	c.want(strings.TrimSpace(f.Organisation) != "", "organisation", "is missing: it becomes O of every certificate")
	c.want(len([]rune(f.Organisation)) <= 64, "organisation", "is longer than the 64 characters a certificate allows")
	c.want(len(f.Country) == 2 && isUpper(f.Country[0]) && isUpper(f.Country[1]), "country", "must be two capital letters (ISO 3166), such as DE")
	c.want(hostname(f.Host), "host", "must be a host name or an IP address, without scheme or port")
	c.want(f.UnknownIdentity == 401 || f.UnknownIdentity == 404, "unknown_identity", "must be 401 or 404")
	scheme, _, ok := strings.Cut(f.Keys.URI, ":")
	c.want(ok && slices.Contains([]string{"softkms", "pkcs11", "tpmkms", "vault", "awskms"}, scheme), "keys.uri", "must begin with softkms:, pkcs11:, tpmkms:, vault: or awskms:")
	c.want(!strings.Contains(strings.ToLower(f.Keys.URI), "pin-value"), "keys.uri", "must not hold a PIN: name a file that does with pin-source, or set the environment variable BOLLARD_HSM_PIN; and change this PIN")
	c.listen(&f.Listen) // before the URLs that are derived from it
	c.url(f.Public.OCPP, "public.ocpp", "ws", "wss")
	c.url(f.Public.Status, "public.status", "http")
	c.url(f.Public.Firmware, "public.firmware", "https")
	c.url(f.Public.SFTP, "public.sftp", "sftp")
	c.want(f.Listen.SFTP == "" || f.Listen.Firmware != "", "listen.sftp", "needs listen.firmware beside it, which keeps what is fetched and brought")
	c.backends(f.Backends)
	c.pair(f.Server.ECDSA.Certificate, f.Server.ECDSA.Key, "server_certificate.ecdsa")
	c.pair(f.Server.RSA.Certificate, f.Server.RSA.Key, "server_certificate.rsa")
	c.outside(f)
	c.limits(f.Limits)
	c.want(f.Renewal.PerMinute > 0 && f.Renewal.PerMinute <= 60_000, "renewal.per_minute", "must be from 1 to 60000")
	c.alerts(&f.Alerts)
	l := f.SecurityLog
	c.want(l.Every >= time.Hour && l.Every <= 366*24*time.Hour, "security_log.every", "must be from 1h to 8784h; off: true asks no station")
	c.want(l.Keep >= time.Hour && l.Keep <= 10*366*24*time.Hour, "security_log.keep", "must be from 1h to 87840h")
	c.want(l.MaxBytes >= 4<<10 && l.MaxBytes <= 1<<30, "security_log.max_bytes", "must be from 4096 to 1073741824")
	c.want(l.TotalBytes >= l.MaxBytes, "security_log.total_bytes", "must be at least security_log.max_bytes")
	c.want(l.BackEnds || !l.HandOn, "security_log.hand_on", "needs back_ends: true, or nothing is here to be handed on")
	r := f.Retention
	for key, age := range map[string]time.Duration{"security_events": r.SecurityEvents, "findings": r.Findings, "orders": r.Orders,
		"rollouts": r.Rollouts, "approvals": r.Approvals, "checkpoints": r.Checkpoints, "people": r.People} {
		c.want(age == 0 || age >= 24*time.Hour, "retention."+key, "must be at least 24h; without it they stay")
	}
	c.contracts(&f.Contracts)
	c.firmware(&f.Firmware)
	c.acme(f)
	for i, g := range f.Guard {
		key := fmt.Sprintf("guard[%d]", i)
		c.want(len(g.Keys)+len(g.Transfers)+len(g.Allow) > 0, key, "says nothing: give keys, transfers or allow")
		for name, list := range map[string][]string{"keys": g.Keys, "transfers": g.Transfers, "allow": g.Allow} {
			for j, pattern := range list {
				c.want(strings.Trim(pattern, " *?./") != "", fmt.Sprintf("%s.%s[%d]", key, name, j), "would fit everything: name what is meant")
			}
		}
	}
	for i, m := range f.P224 {
		c.want(strings.Trim(m.Vendor+m.Model, " *?") != "", fmt.Sprintf("p224[%d]", i), "would fit every station: name the vendor or model that needs it")
	}
	for key, text := range map[string]string{"attested": f.Assurance.Attested, "other": f.Assurance.Other} {
		oid, err := x509.ParseOID(text)
		c.want(text == "" || err == nil && oid.String() != anyPolicy, "assurance."+key, "must be the object identifier of a policy of yours, such as 1.3.6.1.4.1.99999.1.1")
	}
	c.want(f.Assurance.Attested == "" || f.Assurance.Attested != f.Assurance.Other, "assurance.other", "is that of attested keys: certificates wouldn't differ by it")
	_, err := time.LoadLocation(f.Policy.TimeZone)
	c.want(err == nil && f.Policy.TimeZone != "Local", "policy.time_zone", "is no zone this machine knows; give one such as Europe/Amsterdam")
	c.want(f.Policy.RecordMB >= 0 && f.Policy.RecordMB <= 100_000, "policy.record_mb", "must be from 0 to 100000")
	c.ledger(&f.Ledger)
	c.approvals(f)
	seen := map[string]bool{}
	for i, s := range f.Stations {
		key := fmt.Sprintf("stations[%d]", i)
		c.want(s.Identity != "", key+".identity", "is missing")
		c.want(!seen[strings.ToLower(s.Identity)], key+".identity", "stands here a second time; delete one")
		seen[strings.ToLower(s.Identity)] = true
		c.oneOf(s.Version, key+".version", "1.6", "2.0.1", "2.1")
	}
	c.oneOf(f.Log.Level, "log.level", "debug", "info", "warn", "error")
	c.oneOf(f.Log.Format, "log.format", "text", "json")
}

func (c *checker) listen(l *Listen) {
	taken := map[string]string{}
	address := func(addr, key string) {
		host, port, err := net.SplitHostPort(addr)
		c.want(err == nil && (host == "" || hostname(host)), key, "must be ADDRESS:PORT, such as 127.0.0.1:8443")
		n, err := strconv.ParseUint(port, 10, 16)
		c.want(err == nil, key, "must end with a port from 0 to 65535")
		other, used := taken[addr]
		c.want(!used || n == 0, key, "is the address of %s already", other)
		taken[addr] = key
	}
	c.want(len(l.OCPP) > 0, "listen.ocpp", "is missing: no station could connect; give - address: 127.0.0.1:8443")
	for i, o := range l.OCPP {
		key := fmt.Sprintf("listen.ocpp[%d]", i)
		c.want(o.Address != "", key+".address", "is missing")
		address(o.Address, key+".address")
		sorted := slices.Sorted(slices.Values(o.Profiles))
		c.want(slices.ContainsFunc([][]int{{1}, {2}, {3}, {2, 3}}, func(p []int) bool { return slices.Equal(p, sorted) }),
			key+".profiles", "must be [2, 3], [2], [3], or [1] alone: profile 1 is plain ws and shares no listener")
		c.want(len(o.Allow) > 0 || !o.LegacyTLS, key+".allow", "is missing: legacy_tls is only for stations named here")
		c.want(len(o.Allow) > 0 || !o.CNOnly, key+".allow", "is missing: cn_only is only for stations named here")
		_, readable := o.Proxies()
		c.want(readable, key+".proxy_protocol", "must list addresses or networks, such as [10.0.0.5, 10.1.0.0/24]")
		plain := slices.Contains(o.Profiles, 1)
		c.want(!plain || !o.LegacyTLS, key+".legacy_tls", "makes no sense with profile 1, which has no TLS")
		c.want(!plain || !o.Rollover, key+".rollover", "makes no sense with profile 1, which has no TLS")
		c.want(!o.CNOnly || !o.Rollover, key+".rollover", "goes with a certificate that has names, not with cn_only")
		c.want(!plain || !o.CNOnly, key+".cn_only", "makes no sense with profile 1, which has no TLS")
	}
	for _, other := range []struct{ key, addr string }{
		{"pki", l.PKI}, {"status", l.Status}, {"firmware", l.Firmware}, {"sftp", l.SFTP}, {"acme", l.ACME}, {"admin", l.Admin},
	} {
		if other.addr != "" {
			address(other.addr, "listen."+other.key)
		}
	}
}

func (c *checker) backends(list []Backend) {
	c.want(len(list) > 0, "backends", "is missing: give at least one, - url: ws://127.0.0.1:9000/ocpp")
	names := map[string]bool{}
	for i, b := range list {
		key := fmt.Sprintf("backends[%d]", i)
		c.want(b.Name == "" || !names[b.Name], key+".name", "stands here a second time; give another")
		names[b.Name] = true
		c.want(b.URL != "", key+".url", "is missing")
		c.url(b.URL, key+".url", "ws", "wss")
		c.oneOf(b.Security, key+".security", "bollard", "backend", "observe")
		c.oneOf(b.Auth, key+".auth", "none", "basic-shared", "basic-per-station", "mtls")
		secure := strings.HasPrefix(b.URL, "wss:")
		if b.Auth == "basic-shared" {
			c.want(b.PasswordFile != "", key+".password_file", "is missing: auth basic-shared needs the file with the secret")
		} else {
			c.want(b.PasswordFile == "", key+".password_file", "is only for auth: basic-shared")
		}
		if b.Auth == "mtls" {
			c.want(secure, key+".auth", "mtls needs a wss:// url")
			c.want(b.Certificate != "", key+".certificate", "is missing: auth mtls needs it")
			c.pair(b.Certificate, b.Key, key)
		} else {
			c.want(b.Certificate == "", key+".certificate", "is only for auth: mtls")
			c.want(b.Key == "", key+".key", "is only for auth: mtls")
		}
		if b.Adopt.Until != "" {
			_, err := AdoptUntil(b.Adopt.Until)
			c.want(err == nil, key+".adopt.until", "must be a day, such as 2027-01-31")
			c.want(b.Auth == "none" || b.Auth == "basic-per-station", key+".adopt",
				"goes with auth none or basic-per-station only: the back end must check the station's own password")
		}
		c.want(secure || b.Trust == "", key+".trust", "is only for a wss:// url")
		c.want(secure || !b.CNOnly, key+".cn_only", "is only for a wss:// url")
		c.want(b.Match.Profile >= 0 && b.Match.Profile <= 3, key+".match.profile", "must be 1, 2 or 3")
	}
}

func (c *checker) alerts(a *Alerts) {
	c.oneOf(a.Minimum, "alerts.minimum", "info", "warning", "critical")
	names := map[string]bool{}
	name := func(name, key string) {
		c.want(name != "", key+".name", "is missing")
		c.want(!names[name], key+".name", "stands here a second time; give another")
		names[name] = true
	}
	for i, w := range a.Webhooks {
		key := fmt.Sprintf("alerts.webhooks[%d]", i)
		name(w.Name, key)
		c.want(w.URL != "", key+".url", "is missing")
		u, err := url.Parse(w.URL)
		c.want(err == nil && u.Hostname() != "", key+".url", "is no URL")
		c.want(w.SecretFile != "", key+".secret_file", "is missing: the receiver must be able to tell who sends")
		for n, network := range w.Networks {
			_, err := netip.ParsePrefix(network)
			c.want(err == nil, fmt.Sprintf("%s.networks[%d]", key, n), "must be a network, such as 10.0.0.0/8")
		}
	}
	for i, s := range a.Syslog {
		key := fmt.Sprintf("alerts.syslog[%d]", i)
		name(s.Name, key)
		c.want(s.URL != "", key+".url", "is missing")
		c.pair(s.Certificate, s.Key, key)
	}
}

func (c *checker) contracts(f *Contracts) {
	if f.Answer != "" {
		c.oneOf(f.Answer, "contracts.answer", AnswerOwn, AnswerBackend)
	}
	if f.Otherwise != "" {
		c.oneOf(f.Otherwise, "contracts.otherwise", AnswerBackend)
	}
	c.want(f.Answer != AnswerBackend || len(f.Pools) == 0 && f.Otherwise == "", "contracts.answer", "backend passes everything on: pools and otherwise are for own")
	c.pools(f.Pools)
	c.want(f.CPS == "" || slices.ContainsFunc(f.Pools, func(p ContractPool) bool { return p.Name == f.CPS }), "contracts.cps", "is no name under contracts.pools")
	if f.Revocation != "" {
		c.oneOf(f.Revocation, "contracts.revocation", RevocationSoft, RevocationHard)
	}
	if f.Leaves != "" {
		c.oneOf(f.Leaves, "contracts.leaves", LeavesLenient, LeavesStrict)
	}
	for i, curve := range f.Curves20 {
		c.oneOf(curve, fmt.Sprintf("contracts.curves_20[%d]", i), CurveP256, CurveEd448)
	}
	for i, m := range f.Models {
		c.want(m.MaxResponse >= 1000, fmt.Sprintf("contracts.models[%d].max_response", i), "must be at least 1000 characters: no answer would fit")
	}
}

func (c *checker) firmware(f *Firmware) {
	c.oneOf(f.Level, "firmware.level", "strict", "enforce", "observe")
	for i, m := range f.Models {
		key := fmt.Sprintf("firmware.models[%d]", i)
		c.want(m.Level+m.Signature+m.Location+m.Refusal != "" || m.SignFill || m.Upgrade || m.Chain, key, "says nothing: give level, signature, sign_fill, upgrade, location, chain or refusal")
		if m.Refusal != "" {
			c.oneOf(m.Refusal, key+".refusal", "SecurityError", "NotSupported")
		}
		if m.Level != "" {
			c.oneOf(m.Level, key+".level", "strict", "enforce", "observe")
		}
		if m.Location != "" {
			c.oneOf(m.Location, key+".location", "ours", "sftp", "origin")
		}
		if m.Signature != "" {
			c.oneOf(m.Signature, key+".signature", "ecdsa-p256-sha256", "rsa-pss-sha256", "rsa-pkcs1v15-sha256")
		}
	}
	c.makers(f.Makers)
	for i, sum := range f.Revoked {
		c.want(rootForm.MatchString(sum), fmt.Sprintf("firmware.revoked[%d]", i), "isn't 64 lower-case hex digits")
	}
	for i, l := range f.Logs {
		key := fmt.Sprintf("firmware.logs[%d]", i)
		c.want(l.Key != "", key+".key", "is missing: `bollard firmware log create` prints it")
		c.want(l.Needed >= 0 && l.Needed <= len(l.Witnesses), key+".needed", "must be from 0 to %d, the witnesses", len(l.Witnesses))
	}
	for _, rate := range []struct {
		key string
		n   int
	}{{"rate", f.Rate}, {"site_rate", f.SiteRate}, {"station_rate", f.StationRate}} {
		c.want(rate.n == 0 || rate.n >= 1<<10, "firmware."+rate.key, "must be at least 1024 bytes a second: no station would get to the end")
	}
	c.want(f.MaxBytes >= 1<<10, "firmware.max_bytes", "must be at least 1024")
	c.want(f.TotalBytes >= f.MaxBytes, "firmware.total_bytes", "must be at least firmware.max_bytes")
	for i, w := range f.Windows {
		for _, pattern := range []string{w.Site, w.Group} {
			_, err := path.Match(pattern, "")
			c.want(err == nil, fmt.Sprintf("firmware.windows[%d]", i), "has a pattern that can't be read")
		}
	}
	for i, network := range f.Networks {
		_, err := netip.ParsePrefix(network)
		c.want(err == nil, fmt.Sprintf("firmware.networks[%d]", i), "must be a network, such as 10.0.0.0/8")
	}
}

func (c *checker) ledger(l *Ledger) {
	c.want(l.Every >= time.Minute && l.Every <= 24*time.Hour, "ledger.every", "must be from 1m to 24h")
	names := map[string]bool{"file": true}
	place := func(key, name, url string, networks []string) {
		c.want(name != "", key+".name", "is missing")
		c.want(!names[name], key+".name", "stands here a second time; give another")
		names[name] = true
		c.want(url != "", key+".url", "is missing")
		for n, network := range networks {
			_, err := netip.ParsePrefix(network)
			c.want(err == nil, fmt.Sprintf("%s.networks[%d]", key, n), "must be a network, such as 10.0.0.0/8")
		}
	}
	for i, s := range l.Syslog {
		key := fmt.Sprintf("ledger.syslog[%d]", i)
		place(key, s.Name, s.URL, nil)
		c.pair(s.Certificate, s.Key, key)
	}
	for i, p := range l.Webhooks {
		place(fmt.Sprintf("ledger.webhooks[%d]", i), p.Name, p.URL, p.Networks)
	}
	for i, w := range l.Witnesses {
		key := fmt.Sprintf("ledger.witnesses[%d]", i)
		place(key, w.Name, w.URL, w.Networks)
		c.want(w.Key != "", key+".key", "is missing: a witness publishes it")
	}
}

func (c *checker) makers(list []FirmwareMaker) {
	names, roots := map[string]bool{}, map[string]bool{}
	for i, m := range list {
		key := fmt.Sprintf("firmware.makers[%d]", i)
		c.want(m.Name != "" && !names[m.Name], key+".name", "is missing, or stands here a second time")
		c.want(len(m.Roots) > 0, key+".roots", "is missing: bollard ca trust list shows them")
		c.want(len(m.Vendors) > 0, key+".vendors", "is missing: it may sign for nobody")
		names[m.Name] = true
		for j, root := range m.Roots {
			c.want(rootForm.MatchString(root) && !roots[root], fmt.Sprintf("%s.roots[%d]", key, j), "isn't 64 lower-case hex digits, or stands here a second time")
			roots[root] = true
		}
	}
}

// rootForm is a SHA-256.
var rootForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

func (c *checker) approvals(f *File) {
	people := map[string]bool{}
	for i, a := range f.Approvers {
		key := fmt.Sprintf("approvers[%d]", i)
		c.want(a.Name != "", key+".name", "is missing")
		c.want(!people[a.Name], key+".name", "stands here a second time; delete one")
		c.want(len(a.SSH)+len(a.Certificates) > 0, key, "has no key: give ssh or certificates")
		people[a.Name] = true
	}
	actions := map[string]bool{}
	for i, a := range f.Approvals {
		key := fmt.Sprintf("approvals[%d]", i)
		c.want(a.Action != "", key+".action", "is missing")
		c.want(!actions[a.Action], key+".action", "stands here a second time; delete one")
		actions[a.Action] = true
		of := map[string]bool{}
		for j, name := range a.Of {
			c.want(people[name], fmt.Sprintf("%s.of[%d]", key, j), "is no name under approvers")
			of[name] = true
		}
		for j, name := range a.With {
			c.want(people[name] && (len(a.Of) == 0 || of[name]), fmt.Sprintf("%s.with[%d]", key, j), "is no name of those who can approve it")
		}
		able := len(of)
		if len(a.Of) == 0 {
			able = len(people)
		}
		if able == 0 {
			c.want(false, key, "nobody can approve it: name people under approvers")
			continue
		}
		c.want(a.Needed >= 1 && a.Needed <= able, key+".needed", "must be from 1 to %d, the people who can approve it", able)
	}
}

// AdoptUntil is the end of the last day, in UTC, on which a back end's answer
// adopts passwords.
func AdoptUntil(text string) (time.Time, error) {
	day, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%.40q is no day: %w", text, err)
	}
	return day.AddDate(0, 0, 1), nil
}

func (c *checker) limits(l Limits) {
	v := reflect.ValueOf(l)
	for f, value := range v.Fields() {
		key := "limits." + f.Tag.Get("yaml")
		if d, ok := value.Interface().(time.Duration); ok {
			c.want(d > 0 && d <= 24*time.Hour, key, "must be more than 0 and at most 24h")
			continue
		}
		c.want(value.Int() > 0 && value.Int() <= 1<<30, key, "must be more than 0 and at most 1073741824")
	}
	// The largest message a station must take, a 10,000-character chain with
	// its frame, has to pass (CertificateSigned, white paper 5.2).
	c.want(l.MessageBytes >= 16<<10, "limits.message_bytes", "must be at least 16384: certificate messages wouldn't pass")
}

func (c *checker) pair(certificate, key, at string) {
	c.want(certificate == "" || key != "", at+".key", "is missing: certificate and key go together")
	c.want(key == "" || certificate != "", at+".certificate", "is missing: certificate and key go together")
}

func (c *checker) url(raw, key string, schemes ...string) {
	if raw == "" {
		return
	}
	u, err := url.Parse(raw)
	c.want(err == nil, key, "is no URL")
	if err != nil {
		return
	}
	c.want(slices.Contains(schemes, u.Scheme), key, "must begin with %s://", strings.Join(schemes, ":// or "))
	c.want(u.User == nil, key, "must not hold a user or password; see auth")
	c.want(u.RawQuery == "" && !u.ForceQuery && !strings.Contains(raw, "#"), key, "must have neither query nor fragment")
	c.want(u.Opaque == "" && hostname(u.Hostname()), key, "has no valid host")
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	c.want(u.Port() == "" && !strings.HasSuffix(u.Host, ":") || err == nil && (port > 0 || strings.HasPrefix(key, "public.")), key, "has no valid port")
	c.want(!strings.HasSuffix(u.Path, "/"), key, "must not end with a slash")
}

// NamedFile is a file bollard.yaml names.
type NamedFile struct {
	Key    string // such as backends[0].password_file
	Name   string // relative to bollard.yaml, or absolute
	Secret bool
}

// NamedFiles lists them.
func (f *File) NamedFiles() []NamedFile {
	var list []NamedFile
	add := func(name, key string, secret bool) {
		if name != "" {
			list = append(list, NamedFile{Key: key, Name: name, Secret: secret})
		}
	}
	for i, b := range f.Backends {
		key := fmt.Sprintf("backends[%d].", i)
		add(b.PasswordFile, key+"password_file", true)
		add(b.Trust, key+"trust", false)
		add(b.Certificate, key+"certificate", false)
		add(b.Key, key+"key", true)
	}
	for i, w := range f.Alerts.Webhooks {
		key := fmt.Sprintf("alerts.webhooks[%d].", i)
		add(w.SecretFile, key+"secret_file", true)
		add(w.Trust, key+"trust", false)
	}
	for i, s := range f.Alerts.Syslog {
		key := fmt.Sprintf("alerts.syslog[%d].", i)
		add(s.Trust, key+"trust", false)
		add(s.Certificate, key+"certificate", false)
		add(s.Key, key+"key", true)
	}
	for i, s := range f.Ledger.Syslog {
		key := fmt.Sprintf("ledger.syslog[%d].", i)
		add(s.Trust, key+"trust", false)
		add(s.Certificate, key+"certificate", false)
		add(s.Key, key+"key", true)
	}
	for i, p := range f.Ledger.Webhooks {
		add(p.Trust, fmt.Sprintf("ledger.webhooks[%d].trust", i), false)
	}
	for i, w := range f.Ledger.Witnesses {
		add(w.Trust, fmt.Sprintf("ledger.witnesses[%d].trust", i), false)
	}
	for i, a := range f.Approvers {
		for j, name := range a.Certificates {
			add(name, fmt.Sprintf("approvers[%d].certificates[%d]", i, j), false)
		}
	}
	for i, p := range f.Contracts.Pools {
		key := fmt.Sprintf("contracts.pools[%d].", i)
		add(p.SecretFile, key+"secret_file", true)
		add(p.Trust, key+"trust", false)
	}
	add(f.Firmware.Trust, "firmware.trust", false)
	for i, m := range f.Firmware.Makers {
		add(m.Metadata, fmt.Sprintf("firmware.makers[%d].metadata", i), false)
	}
	add(f.Keys.PassphraseFile, "keys.passphrase_file", true)
	add(f.Server.ECDSA.Certificate, "server_certificate.ecdsa.certificate", false)
	add(f.Server.ECDSA.Key, "server_certificate.ecdsa.key", true)
	add(f.Server.RSA.Certificate, "server_certificate.rsa.certificate", false)
	add(f.Server.RSA.Key, "server_certificate.rsa.key", true)
	add(f.Server.ACME.Trust, "server_certificate.acme.trust", false)
	add(f.Server.ACME.MAC, "server_certificate.acme.mac_file", true)
	return list
}

// files judges the files that f names, relative to dir.
func (c *checker) files(f *File, dir string) {
	for _, file := range f.NamedFiles() {
		c.readable(dir, file.Name, file.Key, file.Secret)
	}
}

func (c *checker) readable(dir, name, key string, secret bool) {
	if !filepath.IsAbs(name) {
		name = filepath.Join(dir, name)
	}
	info, err := os.Stat(name)
	if err != nil {
		c.want(false, key, "couldn't find the file %s: %s", name, bare(err))
		return
	}
	c.want(info.Mode().IsRegular(), key, "%s is no file", name)
	c.want(!secret || info.Mode().Perm()&0o077 == 0, key, "%s is open to other users (mode %04o): `chmod 600 %s`", name, info.Mode().Perm(), name)
}

// hostname accepts an IP address or a DNS name (RFC 1123 §2.1).
func hostname(s string) bool {
	if addr, err := netip.ParseAddr(s); err == nil {
		return addr.Zone() == ""
	}
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "-") != label {
			return false
		}
		for i := range len(label) {
			b := label[i] | 0x20
			if (b < 'a' || b > 'z') && (label[i] < '0' || label[i] > '9') && label[i] != '-' {
				return false
			}
		}
	}
	return true
}

func isUpper(b byte) bool { return 'A' <= b && b <= 'Z' }
