package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudflare/circl/sign/ed448"

	"bollard/internal/curve448"
	"bollard/keys"
)

var lintStart = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// lintRig is an authority whose store counts intents.
func lintRig(t testing.TB) (*Authority, *MemStore) {
	t.Helper()
	store := NewMemStore()
	keeper, err := keys.New(keys.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	clock := func() time.Time { return lintStart }
	for _, kind := range Kinds() {
		if err := Init(t.Context(), InitConfig{
			Store: store, Keeper: keeper, Kind: kind, StatusURL: "http://ca.example:8080",
			Organisation: "Example CPO", Country: "NL", Clock: clock,
		}); err != nil {
			t.Fatal(err)
		}
	}
	a, err := New(t.Context(), Config{
		Store: store, Keeper: keeper, StatusURL: "http://ca.example:8080",
		Organisation: "Example CPO", Country: "NL", Curves20: []KeyClass{ClassEd448}, Clock: clock,
	})
	if err != nil {
		t.Fatal(err)
	}
	return a, store
}

func lintOrder(t testing.TB, profile string, useRSA bool) Order {
	t.Helper()
	o := Order{Profile: profile, Requester: "test"}
	var key crypto.Signer
	var err error
	if useRSA && profile == ProfileFirmware {
		key, err = rsa.GenerateKey(rand.Reader, 3072)
	} else if useRSA {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	} else if strings.HasSuffix(profile, "-448") {
		_, key, err = ed448.GenerateKey(rand.Reader)
	} else {
		curve := elliptic.P256()
		if strings.HasSuffix(profile, "-20") {
			curve = elliptic.P521()
		}
		key, err = ecdsa.GenerateKey(curve, rand.Reader)
	}
	if err == nil {
		o.Key, err = proven(key.Public())
	}
	if err != nil {
		t.Fatal(err)
	}
	switch profile {
	case ProfileStation:
		o.Subject, o.Station = Subject{CommonName: "SN-1"}, "cs1"
	case ProfileServer:
		o.Subject = Subject{CommonName: "csms.example.com", DNSNames: []string{"csms.example.com"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1).To4()}}
	case ProfileFirmware, ProfileOCSP:
		o.Subject = Subject{CommonName: "Firmware Signer"}
	case ProfileServerCNOnly:
		o.Subject = Subject{CommonName: "csms.example.com"}
	case ProfileSECC, ProfileSECC20, ProfileSECC448:
		o.Subject, o.Station = Subject{CommonName: "DE*ABC*E*1"}, "cs1"
	default: // ISO 15118
		o.Subject = Subject{CommonName: "NLEXA1234567890"}
	}
	return o
}

// hasRSA: profiles of ISO 15118 have one curve.
func hasRSA(profile string) bool { return len(profiles[profile].Keys) > 1 }

// mutations change one field of a certificate about to be made.
var mutations = []struct {
	name   string
	change func(*x509.Certificate)
	only   []string // profiles; nil: all
}{
	{"serial of another plan", func(c *x509.Certificate) { c.SerialNumber = new(big.Int).Add(c.SerialNumber, big.NewInt(1)) }, nil},
	{"short serial", func(c *x509.Certificate) { c.SerialNumber = big.NewInt(7) }, nil},
	{"notBefore", func(c *x509.Certificate) { c.NotBefore = c.NotBefore.Add(time.Second) }, nil},
	{"notBefore before the issuer's", func(c *x509.Certificate) { c.NotBefore = c.NotBefore.AddDate(-1, 0, 0) }, nil},
	{"notAfter", func(c *x509.Certificate) { c.NotAfter = c.NotAfter.Add(time.Second) }, nil},
	{"notAfter beyond the issuer's", func(c *x509.Certificate) { c.NotAfter = c.NotAfter.AddDate(30, 0, 0) }, nil},
	{"common name", func(c *x509.Certificate) { c.Subject.CommonName += "x" }, nil},
	{"no common name", func(c *x509.Certificate) { c.Subject.CommonName = "" }, nil},
	{"host as common name", func(c *x509.Certificate) { c.Subject.CommonName = "a.example.com" }, nil},
	{"organisation", func(c *x509.Certificate) { c.Subject.Organization = []string{"Mallory"} }, nil},
	{"no organisation", func(c *x509.Certificate) { c.Subject.Organization = nil }, nil},
	{"organisational unit", func(c *x509.Certificate) { c.Subject.OrganizationalUnit = []string{"x"} }, nil},
	{"country", func(c *x509.Certificate) { c.Subject.Country = []string{"XX"} }, nil},
	{"CA", func(c *x509.Certificate) { c.IsCA = true }, nil},
	{"CA with path length", func(c *x509.Certificate) { c.IsCA, c.MaxPathLen = true, 3 }, nil},
	{"no basic constraints", func(c *x509.Certificate) { c.BasicConstraintsValid = false }, nil},
	{"no key usage", func(c *x509.Certificate) { c.KeyUsage = 0 }, nil},
	{"certSign", func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }, nil},
	{"contentCommitment", func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageContentCommitment }, nil},
	{"clientAuth", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, nil},
	{"further serverAuth", func(c *x509.Certificate) {
		c.ExtKeyUsage = append(slices.Clone(c.ExtKeyUsage), x509.ExtKeyUsageServerAuth)
	}, nil},
	{"any EKU", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }, nil},
	{"no EKU", func(c *x509.Certificate) { c.ExtKeyUsage = nil }, []string{ProfileServer, ProfileServerCNOnly, ProfileOCSP, ProfileFirmware}},
	{"unknown EKU", func(c *x509.Certificate) { c.UnknownExtKeyUsage = append(c.UnknownExtKeyUsage, []int{1, 2, 3}) }, nil},
	{"other DNS name", func(c *x509.Certificate) { c.DNSNames = append(slices.Clone(c.DNSNames), "b.example.com") }, nil},
	{"wildcard", func(c *x509.Certificate) { c.DNSNames = []string{"*.example.com"} }, nil},
	{"IP name", func(c *x509.Certificate) { c.IPAddresses = append(slices.Clone(c.IPAddresses), net.IPv4(10, 0, 0, 1)) }, nil},
	{"no SAN", func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = nil, nil }, []string{ProfileServer}},
	{"e-mail", func(c *x509.Certificate) { c.EmailAddresses = []string{"a@example.com"} }, nil},
	{"URI", func(c *x509.Certificate) { c.URIs = []*url.URL{{Scheme: "urn", Opaque: "x"}} }, nil},
	{"subject key identifier", func(c *x509.Certificate) { c.SubjectKeyId = bytes.Repeat([]byte{1}, 20) }, nil},
	{"signature algorithm", func(c *x509.Certificate) { c.SignatureAlgorithm = x509.ECDSAWithSHA512 }, nil},
	{"policy", func(c *x509.Certificate) { c.PolicyIdentifiers, c.Policies = nil, []x509.OID{mustOID("1.2.3")} }, nil},
	{"CRL distribution point", func(c *x509.Certificate) { c.CRLDistributionPoints = []string{"http://x.example/c.crl"} }, nil},
	{"OCSP server", func(c *x509.Certificate) { c.OCSPServer = []string{"http://x.example"} }, nil},
	{"no CRL distribution point", func(c *x509.Certificate) { c.CRLDistributionPoints = nil }, Profiles()},
	{"no OCSP server", func(c *x509.Certificate) { c.OCSPServer = nil }, Profiles()},
	{"no issuer's certificate", func(c *x509.Certificate) { c.IssuingCertificateURL = nil }, Profiles()},
	{"no OCSP nocheck", func(c *x509.Certificate) { c.ExtraExtensions = nil }, []string{ProfileOCSP}},
	{"two OCSP servers", func(c *x509.Certificate) { c.OCSPServer = append(slices.Clone(c.OCSPServer), "http://x.example/ocsp") }, nil},
	{"issuer's certificate elsewhere", func(c *x509.Certificate) { c.IssuingCertificateURL = []string{"http://x.example/csms-issuing.crt"} }, nil},
	{"OCSP nocheck", func(c *x509.Certificate) {
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: oidNoCheck, Value: []byte{5, 0}})
	}, nil},
	{"name constraints", func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"example.com"} }, nil},
	{"unknown extension", func(c *x509.Certificate) {
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: []int{1, 2, 3, 4}, Value: []byte{5, 0}})
	}, nil},
}

func mustOID(s string) x509.OID {
	oid, err := x509.ParseOID(s)
	if err != nil {
		panic(err)
	}
	return oid
}

// Promise 8: each field of each profile, changed on the way to the signature,
// stops the certificate before anything is recorded or signed.
func TestMutatedFieldStopsIssuing(t *testing.T) {
	t.Parallel()
	a, store := lintRig(t)
	for _, profile := range append(Profiles(), ProfileOCSP) {
		for _, useRSA := range []bool{false, true} {
			// The editions of ISO 15118 differ in the curve alone.
			if useRSA && !hasRSA(profile) || strings.HasSuffix(profile, "-20") || strings.HasSuffix(profile, "-448") {
				continue
			}
			o := lintOrder(t, profile, useRSA)
			for _, m := range mutations {
				if m.only != nil && !slices.Contains(m.only, profile) {
					continue
				}
				unchanged := false
				mutated := authorityWith(a, func(p plan) (*x509.Certificate, error) {
					c, err := template(p)
					if err == nil {
						before := *c
						m.change(c)
						unchanged = reflect.DeepEqual(before, *c)
						c.Subject = withDomain(c.Subject, p.profile.Domain)
					}
					return c, err
				})
				before := len(store.records)
				_, err := mutated.prepareAny(t, o)
				if unchanged && !hasRSA(profile) {
					continue // those of ISO 15118 lack what is taken away
				}
				if err == nil {
					t.Errorf("%s (RSA %t): a certificate with mutated %s was prepared", profile, useRSA, m.name)
				}
				if len(store.records) != before {
					t.Errorf("%s: %s was recorded", profile, m.name)
				}
			}
			if _, err := a.prepareAny(t, o); err != nil {
				t.Errorf("%s (RSA %t) unmutated: %v", profile, useRSA, err)
			}
		}
	}
}

// prepareAny also prepares what only Bollard itself orders.
func (a *Authority) prepareAny(t *testing.T, o Order) (*Prepared, error) {
	t.Helper()
	if o.Profile == ProfileOCSP {
		return a.prepare(t.Context(), a.hierarchy(KindCSMS).issuing, o)
	}
	return a.Prepare(t.Context(), o)
}

// authorityWith is the authority with another template function.
func authorityWith(a *Authority, f func(plan) (*x509.Certificate, error)) *Authority {
	b := newAuthority(a.cfg)
	b.loaded, b.template = a.loaded, f
	return b
}

// A profile row edited by mistake doesn't change what is issued: it stops it.
func TestMutatedProfileStopsIssuing(t *testing.T) {
	t.Parallel()
	a, _ := lintRig(t)
	changes := map[string]func(*Profile){
		"CA":           func(p *Profile) { p.CA = !p.CA },
		"longer":       func(p *Profile) { p.Years += 5 },
		"backdated":    func(p *Profile) { p.Backdate += 1000 * time.Hour },
		"key usage":    func(p *Profile) { p.KeyUsage |= x509.KeyUsageCertSign },
		"no key usage": func(p *Profile) { p.KeyUsage = 0 },
		"any EKU":      func(p *Profile) { p.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} },
		"name":         func(p *Profile) { p.Name = "unheard-of" },
	}
	for _, name := range Profiles() {
		for what, change := range changes {
			p := profiles[name]
			change(&p)
			o := lintOrder(t, name, false)
			h, err := hierarchyFor(name)
			if err != nil {
				t.Fatal(err)
			}
			plan, err := a.plan(a.hierarchy(h.kind).issuing, p, o, lintStart.AddDate(0, 2, 0))
			if err != nil {
				t.Fatal(err)
			}
			tmpl, err := template(plan)
			if err != nil {
				t.Fatal(err)
			}
			tbs, err := plan.issuer.outline(tmpl, plan.key)
			if err != nil {
				continue // crypto/x509 refused already
			}
			der, err := withSignature(tbs, placeholder())
			if err != nil {
				t.Fatal(err)
			}
			cert, err := curve448.ParseCertificate(der)
			if err != nil {
				continue
			}
			var fault *LintError
			if err := lint(cert, plan, newShapes()); !errors.As(err, &fault) {
				t.Errorf("%s, %s: got %v, want a LintError", name, what, err)
			}
		}
	}
}

// Each exclusion of a zlint lint is still needed, and no lint is hit that isn't excluded.
func TestZlintExclusionsAreNeeded(t *testing.T) {
	t.Parallel()
	a, store := lintRig(t)
	for _, profile := range Profiles() {
		for _, useRSA := range []bool{false, true} {
			if useRSA && !hasRSA(profile) {
				continue
			}
			p, err := a.Prepare(t.Context(), lintOrder(t, profile, useRSA))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := a.Issue(t.Context(), p); err != nil {
				t.Fatal(err)
			}
		}
	}
	drafts := map[string][]string{}
	for _, r := range store.records {
		cert, err := x509.ParseCertificate(r.DER)
		if err != nil {
			t.Fatal(err)
		}
		der := r.DER
		if r.Profile == ProfileRoot || r.Profile == ProfileAnchor || r.Profile == ProfileMobilityRoot {
			// What lint sees has a placeholder for a signature.
			if der, err = withSignature(cert.RawTBSCertificate, placeholder()); err != nil {
				t.Fatal(err)
			}
		}
		found, err := runZlint(der)
		if err != nil {
			t.Fatal(err)
		}
		drafts[r.Profile] = append(drafts[r.Profile], found...)
	}
	for _, e := range exclusions {
		if e.clause == "" || e.why == "" {
			t.Errorf("%s is excluded without clause and reason", e.lint)
		}
		for _, profile := range e.profiles {
			if !slices.ContainsFunc(drafts[profile], func(s string) bool { return strings.HasPrefix(s, e.lint) }) {
				t.Errorf("the exclusion of %s for %s is no longer needed", e.lint, profile)
			}
		}
	}
}

// zlint really runs: something only it objects to stops a certificate.
func TestZlintObjects(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: lintStart, NotAfter: lintStart}, &x509.Certificate{}, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if found, err := lintRFC5280(der, ProfileStation); err != nil || len(found) == 0 {
		t.Errorf("found %v, %v", found, err)
	}
}

func TestNewSerial(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 2000 {
		n, err := newSerial(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		s := n.Text(16)
		if len(s) != 32 || seen[s] || n.Sign() <= 0 {
			t.Fatalf("serial %s", s)
		}
		seen[s] = true
	}
	if _, err := newSerial(bytes.NewReader(make([]byte, 4096))); err == nil {
		t.Error("a random source of zeros was accepted")
	}
	if _, err := newSerial(bytes.NewReader(nil)); err == nil {
		t.Error("an empty random source was accepted")
	}
}
