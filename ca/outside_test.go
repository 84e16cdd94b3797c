package ca_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"bollard/ca"
)

// authority is a CA of somebody else's.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	now  time.Time
}

func newOutsideRoot(t *testing.T, now time.Time, curve elliptic.Curve, name string) *authority {
	t.Helper()
	o := &authority{t: t, key: newCurveKey(t, curve), now: now}
	o.cert = o.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name, Organization: []string{"Outside"}}, NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(39, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte("12345678"),
	}, o.key.Public())
	return o
}

func (o *authority) sign(template *x509.Certificate, key any) *x509.Certificate {
	o.t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		o.t.Fatal(err)
	}
	template.SerialNumber = serial
	parent := o.cert
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, o.key)
	if err != nil {
		o.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		o.t.Fatal(err)
	}
	return cert
}

// sub is a CA of the outside authority's own below it.
func (o *authority) sub(pathLength int) *authority {
	o.t.Helper()
	below := &authority{t: o.t, key: newCurveKey(o.t, o.key.Curve), now: o.now}
	below.cert = o.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "Outside Sub-CA", Organization: []string{"Outside"}}, NotBefore: o.now.Add(-time.Hour), NotAfter: o.now.AddDate(12, 0, 0),
		IsCA: true, BasicConstraintsValid: true, MaxPathLen: pathLength, MaxPathLenZero: pathLength == 0,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte("abcdefgh"),
	}, below.key.Public())
	return below
}

// certify is what it makes of a request, as the request wants it but for edit.
func (o *authority) certify(csr []byte, edit func(*x509.Certificate)) *x509.Certificate {
	o.t.Helper()
	request, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		o.t.Fatal(err)
	}
	if err := request.CheckSignature(); err != nil {
		o.t.Fatal(err)
	}
	wanted := usageOf(o.t, request)
	template := &x509.Certificate{
		RawSubject: request.RawSubject, NotBefore: o.now.Add(-time.Hour), NotAfter: o.now.AddDate(10, 0, 0), KeyUsage: wanted.KeyUsage,
		IsCA: true, BasicConstraintsValid: true, MaxPathLen: wanted.MaxPathLen, MaxPathLenZero: wanted.MaxPathLen == 0, SubjectKeyId: []byte("ABCDEFGH"),
	}
	if edit != nil {
		edit(template)
	}
	return o.sign(template, request.PublicKey)
}

// usageOf reads the extensions a request asks for, by having a certificate of them.
func usageOf(t *testing.T, request *x509.CertificateRequest) *x509.Certificate {
	t.Helper()
	key := newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1), ExtraExtensions: request.Extensions},
		&x509.Certificate{}, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if !cert.IsCA || cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		t.Fatalf("the request is for no CA: %+v", request.Extensions)
	}
	return cert
}

func pemOf(certs ...*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, c := range certs {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}) // to memory
	}
	return b.Bytes()
}

func (r *rig) ask(t *testing.T, kind ca.Kind, level int) []byte {
	t.Helper()
	csr, err := r.RequestCA(t.Context(), kind, level, false, "operator")
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

func (r *rig) trust(t *testing.T, use string, root *x509.Certificate) {
	t.Helper()
	if _, err := r.AddAnchor(t.Context(), use, pemOf(root), "operator"); err != nil {
		t.Fatal(err)
	}
}

func curveOfKind(kind ca.Kind) elliptic.Curve {
	if strings.HasSuffix(string(kind), "-20") {
		return elliptic.P521()
	}
	return elliptic.P256()
}

// Each hierarchy works under another's root, at either level, and OpenSSL takes what
// it issues.
func TestHierarchyUnderAnOutsideRoot(t *testing.T) {
	t.Parallel()
	for _, l := range mobilityLeaves {
		for level := 1; level <= 2; level++ {
			if level == 2 && curveOfKind(l.kind) == elliptic.P521() {
				continue // as with P-256
			}
			t.Run(string(l.kind)+"/"+string(rune('0'+level)), func(t *testing.T) {
				t.Parallel()
				r := mobilityRig(t)
				root := newOutsideRoot(t, r.now, curveOfKind(l.kind), "Outside Root")
				by := root
				if level == 2 {
					by = root.sub(1)
				}
				csr := r.ask(t, l.kind, level)
				r.reopen(t)
				ours := by.certify(r.ask(t, l.kind, level), nil)
				if first := by.certify(csr, nil); !bytes.Equal(first.RawSubjectPublicKeyInfo, ours.RawSubjectPublicKeyInfo) {
					t.Error("a repeated request is for another key")
				}
				if err := r.Create(t.Context(), l.kind, "operator"); !errors.Is(err, ca.ErrHierarchyExists) {
					t.Errorf("a root of its own beside: %v", err)
				}
				chain := pemOf(ours)
				if level == 2 {
					chain = pemOf(ours, by.cert)
				}
				if err := r.ImportChain(t.Context(), l.kind, chain, "operator"); err == nil || !strings.Contains(err.Error(), "no root that is trusted for") {
					t.Fatalf("a root that nobody trusts: %v", err)
				}
				use := strings.TrimSuffix(strings.Replace(string(l.kind), "cps", "v2g", 1), "-20")
				r.trust(t, use, root.cert)
				for range 2 { // idempotent
					if err := r.ImportChain(t.Context(), l.kind, chain, "operator"); err != nil {
						t.Fatal(err)
					}
				}
				r.reopen(t)
				issued := r.issue(t, leafOf(t, l.profile, l.name))
				paths := r.Paths(l.kind)
				if len(paths) != 1 || !paths[0].Root.Equal(root.cert) || len(issued.Chain) != 2 || len(r.Roots(l.kind)) != 0 {
					t.Fatalf("%d ways, %d certificates above, %d roots", len(paths), len(issued.Chain), len(r.Roots(l.kind)))
				}
				purpose := "any"
				if l.kind == ca.KindV2G || l.kind == ca.KindV2G20 {
					purpose = "sslserver"
				}
				if out, err := r.opensslVerify(t, issued.Certificate, issued.Chain, []*x509.Certificate{root.cert}, "-purpose", purpose); err != nil {
					t.Errorf("openssl: %v: %s", err, out)
				}
				if _, err := r.Rollover(t.Context(), l.kind, "operator"); !errors.Is(err, ca.ErrRollover) {
					t.Errorf("the root of others was changed: %v", err)
				}
				if err := r.CheckKeys(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// What doesn't fit the CA of ours, the standard or the trust isn't taken in.
func TestOutsideChainRefused(t *testing.T) {
	t.Parallel()
	r := mobilityRig(t, ca.KindMO)
	root := newOutsideRoot(t, r.now, elliptic.P256(), "Outside Root")
	foreign := newOutsideRoot(t, r.now, elliptic.P256(), "Outside Root")
	large := newOutsideRoot(t, r.now, elliptic.P384(), "Large Root")
	for _, o := range []*authority{root, large} {
		r.trust(t, "v2g", o.cert)
	}
	csr, tariff := r.ask(t, ca.KindV2G, 1), r.ask(t, ca.KindMO, 2)
	r.trust(t, "mo", root.cert)
	edit := func(f func(*x509.Certificate)) []byte { return pemOf(root.certify(csr, f)) }
	notCA := edit(func(c *x509.Certificate) { c.IsCA, c.MaxPathLen, c.MaxPathLenZero = false, 0, false })
	other, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "x", Organization: []string{"x"}},
		ExtraExtensions: mustRequest(t, csr).Extensions}, newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		kind  ca.Kind
		chain []byte
		want  string
	}{
		"path length 0":   {ca.KindV2G, edit(func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true }), "path length 0"},
		"no keyCertSign":  {ca.KindV2G, edit(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }), "is no CA"},
		"no cRLSign":      {ca.KindV2G, edit(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign }), "lacks key usages"},
		"no CA":           {ca.KindV2G, notCA, "is no CA"},
		"expired":         {ca.KindV2G, edit(func(c *x509.Certificate) { c.NotAfter = r.now.Add(-time.Minute) }), "is valid from"},
		"not yet valid":   {ca.KindV2G, edit(func(c *x509.Certificate) { c.NotBefore = r.now.Add(time.Hour) }), "is valid from"},
		"ends soon":       {ca.KindV2G, edit(func(c *x509.Certificate) { c.NotAfter = r.now.AddDate(0, 0, 20) }), "less than 30 days"},
		"no organisation": {ca.KindV2G, edit(func(c *x509.Certificate) { c.RawSubject, c.Subject = nil, pkix.Name{CommonName: "x"} }), "lacks a common name or an organisation"},
		"unknown critical": {ca.KindV2G, edit(func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		}), "critical extensions"},
		"name constraints": {ca.KindV2G, edit(func(c *x509.Certificate) {
			c.PermittedDNSDomainsCritical, c.PermittedDNSDomains = true, []string{"example.com"}
		}), "critical extensions"},
		"too large": {ca.KindV2G, edit(func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 2, 3}, Value: make([]byte, 600)}}
		}), "at most 800"},
		"another key":             {ca.KindV2G, pemOf(root.certify(other, nil)), "for no key of v2g here"},
		"another kind's key":      {ca.KindV2G, pemOf(root.certify(tariff, nil)), "for no key of v2g here"},
		"a root of the same name": {ca.KindV2G, pemOf(foreign.certify(csr, nil)), "no root that is trusted"},
		"the untrusted root too":  {ca.KindV2G, pemOf(foreign.certify(csr, nil), foreign.cert), "no root that is trusted"},
		"a larger curve":          {ca.KindV2G, pemOf(large.certify(csr, nil)), "key on P-384"},
		"one CA too many":         {ca.KindV2G, func() []byte { s := root.sub(2); return pemOf(s.certify(csr, nil), s.cert) }(), "at most 3 are taken by cars"},
		"in another order":        {ca.KindV2G, func() []byte { s := root.sub(1); return pemOf(s.cert, s.certify(csr, nil), root.cert) }(), "for no key of v2g here"},
		"a gap":                   {ca.KindV2G, func() []byte { s := root.sub(1); return pemOf(s.certify(csr, nil), root.cert) }(), "isn't signed by the certificate after it"},
		"under another name": {ca.KindMO, pemOf(root.sub(1).certify(tariff, func(c *x509.Certificate) {
			c.RawSubject, c.Subject = nil, pkix.Name{CommonName: "x", Organization: []string{"x"}}
		}), root.cert), "under another name"},
		"the root certified": {ca.KindMO, pemOf(root.certify(r.ask(t, ca.KindMO, 0), sameKeyID(r.Roots(ca.KindMO)[0]))), "at most 3 are taken by cars"},
		"without what tariffs need": {ca.KindMO, pemOf(root.certify(tariff, func(c *x509.Certificate) {
			c.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
			sameKeyID(r.Intermediates(ca.KindMO)[1])(c)
		})), "lacks key usages"},
		"no certificate":      {ca.KindV2G, nil, "no certificate in it"},
		"no PEM":              {ca.KindV2G, []byte("x"), "isn't PEM"},
		"stations' hierarchy": {ca.KindCSMS, edit(nil), "certified by its root here"},
	} {
		t.Run(name, func(t *testing.T) {
			err := r.ImportChain(t.Context(), tt.kind, tt.chain, "operator")
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
	if len(r.Paths(ca.KindV2G)) != 0 || len(r.Paths(ca.KindMO)) != 1 {
		t.Error("something was taken in")
	}
	if err := r.ImportChain(t.Context(), ca.KindV2G, edit(nil), "operator"); err != nil {
		t.Errorf("as it should be: %v", err)
	}
}

func mustRequest(t *testing.T, der []byte) *x509.CertificateRequest {
	t.Helper()
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	return request
}

func sameKeyID(cert *x509.Certificate) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.SubjectKeyId = cert.SubjectKeyId }
}

// A CA that others certified is renewed by them, and one root more is one way more;
// leaves of before lead to each.
func TestOutsideChainRenewed(t *testing.T) {
	t.Parallel()
	r := mobilityRig(t)
	root, next := newOutsideRoot(t, r.now, elliptic.P256(), "Outside Root"), newOutsideRoot(t, r.now, elliptic.P256(), "Next Root")
	r.trust(t, "v2g", root.cert)
	take := func(cert *x509.Certificate) {
		t.Helper()
		if err := r.ImportChain(t.Context(), ca.KindV2G, pemOf(cert), "operator"); err != nil {
			t.Fatal(err)
		}
		r.reopen(t)
	}
	take(root.certify(r.ask(t, ca.KindV2G, 1), nil))
	leaf := r.issue(t, leafOf(t, ca.ProfileSECC, "DE*ABC*E*1"))
	r.now = r.now.AddDate(7, 0, 0)
	root.now, next.now = r.now, r.now
	due := r.dueOf(ca.KindV2G)
	if len(due) != 2 || !due[0].Outside || due[1].Outside {
		t.Fatalf("due: %+v", due)
	}
	renewed := root.certify(r.ask(t, ca.KindV2G, 1), nil)
	take(renewed)
	if done, err := r.RenewCAs(t.Context(), ca.KindV2G, "bollard"); err != nil || len(done) != 1 || done[0].Name != "v2g-sub-ca-2" || !done[0].NotAfter.After(leaf.Chain[0].NotAfter) {
		t.Fatalf("renewed below it: %+v, %v", done, err)
	}
	if due := r.dueOf(ca.KindV2G); len(due) != 0 {
		t.Errorf("due: %+v", due)
	}
	if paths := r.Paths(ca.KindV2G); len(paths) != 1 || !paths[0].Chain[1].Equal(renewed) {
		t.Errorf("%d ways, the renewed one isn't served", len(paths))
	}
	r.trust(t, "v2g", next.cert)
	take(next.certify(r.ask(t, ca.KindV2G, 1), nil))
	paths := r.Paths(ca.KindV2G)
	if len(paths) != 2 || !paths[0].Root.Equal(next.cert) || !paths[1].Root.Equal(root.cert) || len(r.Installable(ca.KindV2G)) != 2 {
		t.Fatalf("%d ways", len(paths))
	}
	after := r.issue(t, leafOf(t, ca.ProfileSECC, "DE*ABC*E*2"))
	for _, p := range paths {
		if out, err := r.opensslVerify(t, after.Certificate, p.Chain, []*x509.Certificate{p.Root}, "-purpose", "sslserver"); err != nil {
			t.Errorf("under %s: %v: %s", p.Root.Subject, err, out)
		}
	}
	r.now = leaf.NotAfter.Add(-time.Hour)
	for _, p := range paths[1:] { // its own time: the CAs of then and of now have one name and key
		if out, err := r.opensslVerify(t, leaf.Certificate, leaf.Chain, []*x509.Certificate{p.Root}); err != nil {
			t.Errorf("a leaf of before: %v: %s", err, out)
		}
	}
}

func (r *rig) dueOf(kind ca.Kind) []ca.DueCA {
	return slices.DeleteFunc(r.DueCAs(), func(d ca.DueCA) bool { return d.Kind != kind })
}

// Other roots certify a CA of a hierarchy with a root of its own: sub-CA 1 in -2, where
// cars take three certificates, the root itself in -20.
func TestCrossCertified(t *testing.T) {
	t.Parallel()
	for kind, level := range map[ca.Kind]int{ca.KindV2G: 1, ca.KindV2G20: 0} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			r := mobilityRig(t, kind)
			own := r.Roots(kind)[0]
			outside := newOutsideRoot(t, r.now, curveOfKind(kind), "Outside Root")
			r.trust(t, "v2g", outside.cert)
			like := own
			if level == 1 {
				like = r.Intermediates(kind)[0]
			}
			if err := r.ImportChain(t.Context(), kind, pemOf(outside.certify(r.ask(t, kind, level), sameKeyID(like))), "operator"); err != nil {
				t.Fatal(err)
			}
			r.reopen(t)
			leaf := leafOf(t, ca.ProfileSECC, "DE*ABC*E*1")
			if kind == ca.KindV2G20 {
				leaf = leafOf(t, ca.ProfileSECC20, "DEABCS0123456789ABCDEF0123456789ABCDEF")
			}
			issued := r.issue(t, leaf)
			paths := r.Paths(kind)
			if len(paths) != 2 || !paths[0].Root.Equal(own) || !paths[1].Root.Equal(outside.cert) || len(issued.Chain) != 2 {
				t.Fatalf("%d ways", len(paths))
			}
			for _, p := range paths {
				if out, err := r.opensslVerify(t, issued.Certificate, p.Chain, []*x509.Certificate{p.Root}, "-purpose", "sslserver"); err != nil {
					t.Errorf("under %s: %v: %s", p.Root.Subject, err, out)
				}
			}
		})
	}
}

// CAs below a root are renewed before they end, with the keys and names they have; what
// they issued before leads to the root over the new ones.
func TestCAsAreRenewed(t *testing.T) {
	t.Parallel()
	r := mobilityRig(t, ca.KindV2G, ca.KindCPS, ca.KindMO, ca.KindManufacturer)
	r.now = start.AddDate(6, 6, 0)
	if done, err := r.RenewCAs(t.Context(), "", "bollard"); err != nil || len(done) != 0 {
		t.Fatalf("before they are due: %+v, %v", done, err)
	}
	contract := r.issue(t, leafOf(t, ca.ProfileContract, "NLEXA1234567890"))
	r.now = start.AddDate(6, 9, 0)
	done, err := r.RenewCAs(t.Context(), "", "bollard")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range done {
		names = append(names, d.Name)
		if d.NotAfter.Before(r.now.AddDate(9, 11, 0)) {
			t.Errorf("%s ends on %s", d.Name, d.NotAfter)
		}
	}
	if got := strings.Join(names, " "); got != "csms-issuing v2g-sub-ca-1 v2g-sub-ca-2 mo-sub-ca-1 mo-sub-ca-2 cps-sub-ca-1 cps-sub-ca-2" {
		t.Errorf("renewed %s", got)
	}
	r.reopen(t)
	if due := r.DueCAs(); len(due) != 2 || !strings.HasPrefix(due[0].Name, "manufacturer-") {
		t.Errorf("due: %+v", due)
	}
	for kind, leaf := range map[ca.Kind]*ca.Issued{
		ca.KindV2G: r.issue(t, leafOf(t, ca.ProfileSECC, "DE*ABC*E*1")), ca.KindMO: contract, ca.KindCSMS: r.issue(t, order(t, newKey(t))),
	} {
		p := r.Paths(kind)[0]
		if out, err := r.opensslVerify(t, leaf.Certificate, p.Chain, []*x509.Certificate{p.Root}); err != nil {
			t.Errorf("%s: %v: %s", kind, err, out)
		}
	}
	if signer, err := r.CPSSigner(t.Context(), ca.KindCPS); err != nil || signer.Chain[1].CheckSignatureFrom(r.Roots(ca.KindV2G)[0]) != nil {
		t.Errorf("CPS: %v", err)
	}
	if done, err := r.RenewCAs(t.Context(), ca.KindMO, "operator"); err != nil || len(done) != 0 {
		t.Errorf("nothing is won by it, yet: %+v, %v", done, err)
	}
	// A root that ends takes its CAs with it.
	r.now = start.AddDate(39, 0, 0)
	for range 5 {
		done, err = r.RenewCAs(t.Context(), ca.KindMO, "operator")
	}
	if err != nil || len(done) != 0 {
		t.Errorf("beyond the root: %+v, %v", done, err)
	}
}

// When the V2G root changes, the CPS under it leads to both roots, as long as both
// count.
func TestCPSFollowsTheV2GRoot(t *testing.T) {
	t.Parallel()
	r := mobilityRig(t, ca.KindV2G, ca.KindCPS)
	old := r.Roots(ca.KindV2G)[0]
	if _, err := r.Rollover(t.Context(), ca.KindV2G, "operator"); err != nil {
		t.Fatal(err)
	}
	next := r.Roots(ca.KindV2G)[1]
	wanted := func(served *x509.Certificate, all ...*x509.Certificate) {
		t.Helper()
		for range 2 {
			signer, err := r.CPSSigner(t.Context(), ca.KindCPS)
			if err != nil {
				t.Fatal(err)
			}
			paths := r.Paths(ca.KindCPS)
			if len(paths) != len(all) || !paths[0].Root.Equal(served) || signer.Chain[1].CheckSignatureFrom(served) != nil || len(signer.Chain) != 2 {
				t.Fatalf("%d ways, %d certificates", len(paths), len(signer.Chain))
			}
			for i, p := range paths {
				if out, err := r.opensslVerify(t, signer.Certificate, p.Chain, []*x509.Certificate{all[i]}); err != nil {
					t.Errorf("under %s: %v: %s", all[i].Subject, err, out)
				}
			}
			r.reopen(t)
		}
	}
	wanted(old, old, next)
	if _, err := r.SwitchRollover(t.Context(), ca.KindV2G, "operator"); err != nil {
		t.Fatal(err)
	}
	wanted(next, next, old)
	if _, err := r.FinishRollover(t.Context(), ca.KindV2G, "operator"); err != nil {
		t.Fatal(err)
	}
	wanted(next, next)
}

// A test stack's root and stations on P-256 are taken in ISO 15118-20 only by
// configuration; the CA of ours below it stays on P-521.
func TestP256InISO20(t *testing.T) {
	t.Parallel()
	r := mobilityRig(t)
	root := newOutsideRoot(t, r.now, elliptic.P256(), "Test Stack Root")
	r.trust(t, "v2g", root.cert)
	chain := pemOf(root.certify(r.ask(t, ca.KindV2G20, 1), nil), root.cert)
	station := leafOf(t, ca.ProfileSECC20, "DEABCS0123456789ABCDEF0123456789ABCDEF")
	onP256 := order(t, newCurveKey(t, elliptic.P256()))
	onP256.Profile, onP256.Subject = station.Profile, station.Subject
	if err := r.ImportChain(t.Context(), ca.KindV2G20, chain, "operator"); err == nil || !strings.Contains(err.Error(), "P-256") {
		t.Fatalf("a root on P-256: %v", err)
	}
	r.curves = []ca.KeyClass{ca.ClassP256}
	r.reopen(t)
	if err := r.ImportChain(t.Context(), ca.KindV2G20, chain, "operator"); err != nil {
		t.Fatal(err)
	}
	r.issue(t, onP256)
	r.issue(t, station)
	r.curves, onP256.Key = nil, order(t, newCurveKey(t, elliptic.P256())).Key
	r.reopen(t)
	if _, err := r.Prepare(t.Context(), onP256); err == nil {
		t.Error("a station's key on P-256 is certified without its configuration")
	}
}
