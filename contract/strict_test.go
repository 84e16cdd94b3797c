package contract_test

import (
	"context"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"strings"
	"testing"

	"bollard/ca"
	"bollard/contract"
	"bollard/iso15118/message"
	"bollard/iso15118/signature"
)

// reopen makes the service anew, strict or not, over an authority that takes further
// curves of -20.
func (r *rig) reopen(t *testing.T, strict bool, pools []contract.Outside, curves ...ca.KeyClass) {
	t.Helper()
	var err error
	r.authority, err = ca.New(t.Context(), ca.Config{Store: r.store, Keeper: r.keeper, Organisation: "Example CPO", Country: "NL", StatusURL: statusURL, Curves20: curves, Clock: r.clock.now})
	if err == nil {
		r.Service, err = contract.New(t.Context(), contract.Config{Store: r.store, Authority: r.authority, Revocation: &world{}, Strict: strict, Pools: pools, Clock: r.clock.now})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// whole is a contract leaf that lacks nothing.
func whole(c *x509.Certificate) {
	c.BasicConstraintsValid, c.SubjectKeyId = true, []byte("12345678")
	c.KeyUsage |= x509.KeyUsageContentCommitment | x509.KeyUsageKeyEncipherment
}

// What a leaf or a CA above it lacks of its profile counts where checks are strict, and
// only there: real certificates lack some of it.
func TestStrictLeaves(t *testing.T) {
	t.Parallel()
	constraints := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 30}, Value: []byte{0x30, 7, 0xa0, 5, 0x30, 3, 0x82, 1, 0x61}}
	for _, p := range protocols {
		r := newRig(t)
		other := newProvider(t, r.clock.now(), p)
		r.trust(t, "mo", other.root)
		key := newKey(t, curveOf(p))
		leaf := func(edit func(*x509.Certificate)) []*x509.Certificate { return other.leaf(key, foreign, whole, edit) }
		// Under a CA that leaves something to be desired itself.
		under := func(curve elliptic.Curve, edit func(*x509.Certificate)) []*x509.Certificate {
			template := *other.sub
			template.SerialNumber, template.SubjectKeyId, template.AuthorityKeyId = big.NewInt(7), []byte("87654321"), nil
			template.RawSubject, template.ExtraExtensions = nil, nil
			if edit != nil {
				edit(&template)
			}
			subKey := newKey(t, curve)
			by := certify(t, &template, other.sub, subKey, other.key)
			end := x509.Certificate{SerialNumber: big.NewInt(8), Subject: pkix.Name{CommonName: foreign}, NotBefore: by.NotBefore, NotAfter: r.clock.now().AddDate(1, 0, 0),
				KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyAgreement}
			whole(&end)
			return []*x509.Certificate{certify(t, &end, by, key, subKey), by, other.sub}
		}
		type test struct {
			name  string
			good  bool
			chain []*x509.Certificate
		}
		tests := []test{
			{"whole", true, leaf(func(*x509.Certificate) {})},
			{"key agreement and the like alone lacking", p == message.ISO20, leaf(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature })},
			{"too large", false, leaf(func(c *x509.Certificate) {
				c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: make([]byte, 1600)}}
			})},
			{"CA on another curve", false, under(elliptic.P384(), nil)},
		}
		if p == message.ISO2 { // what doesn't differ between them
			tests = append(tests,
				test{"whole, under a CA more", true, under(curveOf(p), nil)},
				test{"no basic constraints", false, leaf(func(c *x509.Certificate) { c.BasicConstraintsValid = false })},
				test{"no key usage", false, leaf(func(c *x509.Certificate) { c.KeyUsage = 0 })},
				test{"no key identifier", false, leaf(func(c *x509.Certificate) { c.SubjectKeyId = nil })},
				test{"CA signed with another digest", false, under(curveOf(p), func(c *x509.Certificate) { c.SignatureAlgorithm = x509.ECDSAWithSHA384 })},
				test{"CA with name constraints", false, under(curveOf(p), func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{constraints} })},
				test{"CA without key usage", false, under(curveOf(p), func(c *x509.Certificate) { c.KeyUsage = 0 })})
		}
		for _, strict := range []bool{false, true} {
			r.reopen(t, strict, nil)
			for _, tt := range tests {
				v, err := r.Vet(t.Context(), shown(foreign, tt.chain...), "operator")
				if err != nil || v.Good != (tt.good || !strict) {
					t.Errorf("%s, %s, strict %t: %+v, %v", p, tt.name, strict, v, err)
				}
			}
		}
	}
}

// A provisioning certificate whose key usage doesn't have it agree on a secret gets
// nothing where checks are strict.
func TestStrictCar(t *testing.T) {
	t.Parallel()
	p := message.ISO2
	r := newRig(t, kindsOf(p)...)
	maker := newProvider(t, r.clock.now(), p)
	r.trust(t, "oem", maker.root)
	r.add(t)
	c := &car{key: newKey(t, curveOf(p)), p: p}
	for _, tt := range []struct {
		usage  x509.KeyUsage
		strict bool
		code   string
	}{
		{x509.KeyUsageDigitalSignature | x509.KeyUsageKeyAgreement, true, "OK"},
		{x509.KeyUsageDigitalSignature, false, "OK"},
		{x509.KeyUsageDigitalSignature, true, "FAILED_CertChainError"},
	} {
		r.reopen(t, false, nil)
		c.chain = maker.leaf(c.key, string(pcid), whole, func(c *x509.Certificate) { c.KeyUsage = tt.usage })
		if _, err := r.AddProvisioning(t.Context(), "operator", c.chain); err != nil {
			t.Fatal(err)
		}
		r.reopen(t, tt.strict, nil)
		if a, _ := r.ask(t, p, sign(t, c.request(), c.key), false); a.Code != tt.code {
			t.Errorf("%#x, strict %t: %s (%s)", int(tt.usage), tt.strict, a.Code, a.Reason)
		}
	}
}

// Keys on P-256 count in ISO 15118-20 only by configuration: a test stack's car is
// verified and given what its pool has; own contracts stay on P-521 ([V2G20-2709]).
func TestP256InISO20(t *testing.T) {
	t.Parallel()
	p := message.ISO20
	r := newRig(t)
	stack := newProvider(t, r.clock.now(), message.ISO2)
	r.trust(t, "oem", stack.root)
	r.trust(t, "v2g", stack.root)
	r.add(t)
	c := &car{key: newKey(t, elliptic.P256()), p: p}
	c.chain = stack.leaf(c.key, string(pcid))
	exi := sign(t, c.request(), c.key)

	cps, contractKey := newKey(t, elliptic.P256()), newKey(t, elliptic.P256())
	signer := stack.leaf(cps, "CPS", func(t *x509.Certificate) {
		t.Subject.ExtraNames = []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 25}, Value: "CPS"}}
	})
	account := stack.leaf(contractKey, string(emaid))
	pool := poolFunc(func(context.Context, message.Protocol, []byte) ([][]byte, error) {
		a := message.Response{Protocol: p, Header: message.Header{Session: session}, Code: "OK", Curve: message.SECP521, Processing: "Finished",
			Public: make([]byte, 133), Key: make([]byte, 94),
			CPS:      message.Chain{Certificate: signer[0].Raw, SubCertificates: [][]byte{signer[1].Raw}},
			Contract: message.Chain{Certificate: account[0].Raw, SubCertificates: [][]byte{account[1].Raw}}}
		a.SetIDs()
		sig, err := signature.Sign(rand.Reader, cps, p.Set(), a.Signed()...)
		if err != nil {
			return nil, err
		}
		a.Signature = &sig
		out, err := a.Encode()
		return [][]byte{out}, err
	})
	pools := []contract.Outside{{Name: "stack", Pool: pool}}
	for _, tt := range []struct {
		name   string
		pools  []contract.Outside
		curves []ca.KeyClass
		code   string
		reason string
	}{
		{"off", pools, nil, "WARNING_CertificateValidationError", "edition"},
		{"own contract", nil, []ca.KeyClass{ca.ClassP256}, "WARNING_NoCertificateAvailable", "V2G20-2709"},
		{"its pool's", pools, []ca.KeyClass{ca.ClassP256}, "OK", ""},
	} {
		r.reopen(t, false, tt.pools, tt.curves...)
		if a, _ := r.ask(t, p, exi, false); a.Code != tt.code || !strings.Contains(a.Reason, tt.reason) {
			t.Errorf("%s: %s (%s)", tt.name, a.Code, a.Reason)
		}
	}
	// A car on P-521 gets nothing that is signed on P-256 while that doesn't count.
	maker := newProvider(t, r.clock.now(), p)
	r.trust(t, "oem", maker.root)
	p521 := &car{key: newKey(t, curveOf(p)), p: p}
	p521.chain = maker.leaf(p521.key, string(pcid))
	other := p521.request()
	other.Prioritized = []string{"DEOTHC00000001"}
	exi = sign(t, other, p521.key)
	for _, curves := range [][]ca.KeyClass{nil, {ca.ClassP256}} {
		r.reopen(t, false, pools, curves...)
		if a, _ := r.ask(t, p, exi, false); (a.Code == "OK") != (len(curves) > 0) {
			t.Errorf("signed on P-256, curves %v: %s (%s)", curves, a.Code, a.Reason)
		}
	}
}
