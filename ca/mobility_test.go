package ca_test

import (
	"bytes"
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"bollard/ca"
)

const mobilityStatus = "http://status.example.com:8080"

// mobilityRig has hierarchies of ISO 15118 beside that of stations.
func mobilityRig(t *testing.T, kinds ...ca.Kind) *rig {
	t.Helper()
	r := bareRig(t)
	c := r.initConfig()
	c.StatusURL = mobilityStatus
	if err := ca.Init(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	r.reopen(t)
	for _, kind := range kinds {
		if err := r.Create(t.Context(), kind, "operator"); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func (r *rig) reopen(t *testing.T) {
	t.Helper()
	c := r.config()
	c.StatusURL = mobilityStatus
	a, err := ca.New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	r.Authority = a
}

// leafOf orders a certificate of a profile.
func leafOf(t *testing.T, profile, name string) ca.Order {
	t.Helper()
	curve := elliptic.P256()
	if strings.HasSuffix(profile, "-20") {
		curve = elliptic.P521()
	}
	o := order(t, newCurveKey(t, curve))
	o.Profile, o.Subject = profile, ca.Subject{CommonName: name}
	if profile != ca.ProfileSECC && profile != ca.ProfileSECC20 && profile != ca.ProfileStation {
		o.Station = ""
	}
	return o
}

var mobilityLeaves = []struct {
	kind          ca.Kind
	profile, name string
	domain        string
	most          int // bytes
}{
	{ca.KindV2G, ca.ProfileSECC, "DE*ABC*E*1", "CPO", 800},
	{ca.KindMO, ca.ProfileContract, "NLEXA1234567890", "", 800},
	{ca.KindOEM, ca.ProfileProvisioning, "WP0TESTA00000001A3", "OEM", 800},
	{ca.KindCPS, ca.ProfileCPS, "Example CPS", "CPS", 800},
	{ca.KindV2G20, ca.ProfileSECC20, "DEABCS0123456789ABCDEF0123456789ABCDEF", "CPO", 1600},
	{ca.KindMO20, ca.ProfileContract20, "NLEXA1234567890", "", 1600},
	{ca.KindOEM20, ca.ProfileProvisioning20, "WP0TESTA00000001A3", "OEM", 1600},
	{ca.KindCPS20, ca.ProfileCPS20, "Example CPS", "CPS", 1600},
}

// Every chain has the shape of its standard, and OpenSSL takes it.
func TestMobilityChains(t *testing.T) {
	t.Parallel()
	var kinds []ca.Kind
	for _, l := range mobilityLeaves {
		kinds = append(kinds, l.kind)
	}
	r := mobilityRig(t, kinds...)
	r.reopen(t) // as records say it, not as it was made
	for _, l := range mobilityLeaves {
		t.Run(l.profile, func(t *testing.T) {
			issued := r.issue(t, leafOf(t, l.profile, l.name))
			chain := append([]*x509.Certificate{issued.Certificate}, issued.Chain...)
			roots := r.Roots(l.kind)
			if len(chain) != 3 || len(roots) != 1 || chain[0].Subject.CommonName != l.name {
				t.Fatalf("%d certificates under %d roots", len(chain), len(roots))
			}
			for i, cert := range append(chain, roots[0]) {
				if len(cert.Raw) > l.most {
					t.Errorf("%s: %d bytes", cert.Subject, len(cert.Raw))
				}
				if len(cert.SubjectKeyId) != 8 || cert.SubjectKeyId[0]>>4 != 4 {
					t.Errorf("%s: key identifier %x", cert.Subject, cert.SubjectKeyId)
				}
				if want := []int{-1, 0, 1, -1}[i]; i > 0 && cert.MaxPathLen != want {
					t.Errorf("%s: path length %d", cert.Subject, cert.MaxPathLen)
				}
				if i < 3 && (len(cert.OCSPServer) != 1 || len(cert.CRLDistributionPoints) != 0) {
					t.Errorf("%s: OCSP %v, CRL %v", cert.Subject, cert.OCSPServer, cert.CRLDistributionPoints)
				}
			}
			if got := domain(chain[0]); got != l.domain {
				t.Errorf("DC %q, want %q", got, l.domain)
			}
			if life := roots[0].NotAfter.Sub(roots[0].NotBefore); life < 39*365*24*time.Hour {
				t.Errorf("the root lives %s", life)
			}
			purpose := "any"
			if l.profile == ca.ProfileSECC || l.profile == ca.ProfileSECC20 {
				purpose = "sslserver"
			}
			out, err := r.opensslVerify(t, chain[0], chain[1:], roots, "-purpose", purpose)
			if err != nil {
				t.Errorf("openssl: %v: %s", err, out)
			}
		})
	}
}

func domain(cert *x509.Certificate) string {
	for _, a := range cert.Subject.Names {
		if text, ok := a.Value.(string); ok && a.Type.String() == "0.9.2342.19200300.100.1.25" {
			return text
		}
	}
	return ""
}

// A CPS is made under the own V2G root, which cars trust, or has a root of its own.
func TestCPSUnderTheV2GRoot(t *testing.T) {
	t.Parallel()
	under, alone := mobilityRig(t, ca.KindV2G, ca.KindCPS), mobilityRig(t, ca.KindCPS)
	under.reopen(t)
	if !under.Roots(ca.KindCPS)[0].Equal(under.Roots(ca.KindV2G)[0]) {
		t.Error("the CPS has another root")
	}
	if under.Intermediates(ca.KindCPS)[0].Equal(under.Intermediates(ca.KindV2G)[0]) {
		t.Error("CPO and CPS are one")
	}
	if _, err := under.Rollover(t.Context(), ca.KindCPS, "operator"); !errors.Is(err, ca.ErrRollover) {
		t.Errorf("the root of others was changed: %v", err)
	}
	if len(alone.Roots(ca.KindCPS)) != 1 || len(alone.Roots(ca.KindV2G)) != 0 {
		t.Error("no root of its own")
	}
	for _, r := range []*rig{under, alone} {
		signer, err := r.CPSSigner(t.Context(), ca.KindCPS)
		if err != nil {
			t.Fatal(err)
		}
		again, err := r.CPSSigner(t.Context(), ca.KindCPS)
		if err != nil || !again.Certificate.Equal(signer.Certificate) || len(signer.Chain) != 2 || domain(signer.Certificate) != "CPS" {
			t.Errorf("a signer of %d certificates: %v", len(signer.Chain), err)
		}
		r.now = r.now.AddDate(0, 0, 80)
		if renewed, err := r.CPSSigner(t.Context(), ca.KindCPS); err != nil || renewed.Certificate.Equal(signer.Certificate) {
			t.Errorf("not renewed: %v", err)
		}
	}
	if _, err := under.CPSSigner(t.Context(), ca.KindCPS20); !errors.Is(err, ca.ErrNoHierarchy) {
		t.Errorf("of no hierarchy: %v", err)
	}
}

// A CPS whose certificate was revoked, any of those its key has, signs no more: the
// next one has another key, after a restart too.
func TestRevokedCPS(t *testing.T) {
	t.Parallel()
	for name, which := range map[string]int{"the present one": 1, "the one before, of the same key": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := mobilityRig(t, ca.KindCPS)
			signer := func() *x509.Certificate {
				t.Helper()
				s, err := r.CPSSigner(t.Context(), ca.KindCPS)
				if err != nil {
					t.Fatal(err)
				}
				return s.Certificate
			}
			certs := []*x509.Certificate{signer()}
			r.now = r.now.AddDate(0, 0, 80)
			certs = append(certs, signer())
			if certs[0].Equal(certs[1]) || !bytes.Equal(certs[0].RawSubjectPublicKeyInfo, certs[1].RawSubjectPublicKeyInfo) {
				t.Fatal("not renewed with the same key")
			}
			if _, err := r.Revoke(t.Context(), ca.SerialOf(certs[which]), "keyCompromise", "operator"); err != nil {
				t.Fatal(err)
			}
			next := signer()
			if bytes.Equal(next.RawSubjectPublicKeyInfo, certs[1].RawSubjectPublicKeyInfo) {
				t.Error("the revoked key signs on")
			}
			r.reopen(t)
			if again := signer(); !again.Equal(next) {
				t.Errorf("after a restart %s signs, not %s", again.Subject, next.Subject)
			}
		})
	}
}

// The root of a hierarchy of three levels is changed without touching the two below.
func TestMobilityRollover(t *testing.T) {
	t.Parallel()
	r := mobilityRig(t, ca.KindV2G)
	old, subs := r.Roots(ca.KindV2G)[0], r.Intermediates(ca.KindV2G)
	before := r.issue(t, leafOf(t, ca.ProfileSECC, "DE*ABC*E*1"))
	for _, step := range []func() error{
		func() error { _, err := r.Rollover(t.Context(), ca.KindV2G, "operator"); return err },
		func() error { _, err := r.SwitchRollover(t.Context(), ca.KindV2G, "operator"); return err },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
		r.reopen(t)
	}
	roots := r.Roots(ca.KindV2G)
	if len(roots) != 2 || roots[0].Equal(old) || !roots[1].Equal(old) || domain(roots[0]) != "V2G" {
		t.Fatalf("%d roots", len(roots))
	}
	after := r.issue(t, leafOf(t, ca.ProfileSECC, "DE*ABC*E*2"))
	for name, tt := range map[string]struct {
		root   *x509.Certificate
		issued *ca.Issued
	}{"old leaf under the old root": {old, before}, "new leaf under the new root": {roots[0], after}, "new leaf over the bridge": {old, after}} {
		anchor, between := x509.NewCertPool(), x509.NewCertPool()
		anchor.AddCert(tt.root)
		for _, c := range tt.issued.Chain {
			between.AddCert(c)
		}
		if _, err := tt.issued.Certificate.Verify(x509.VerifyOptions{Roots: anchor, Intermediates: between, CurrentTime: r.now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !after.Chain[0].Equal(subs[1]) {
		t.Error("sub-CA 2 was changed")
	}
}

// What can't be in certificates of ISO 15118 isn't issued.
func TestMobilityRefused(t *testing.T) {
	t.Parallel()
	r := mobilityRig(t, ca.KindV2G, ca.KindMO)
	for name, o := range map[string]ca.Order{
		"SECC with markup":    leafOf(t, ca.ProfileSECC, "<b>"),
		"contract, long name": leafOf(t, ca.ProfileContract, strings.Repeat("X", 65)),
		"no hierarchy":        leafOf(t, ca.ProfileCPS, "x"),
	} {
		if _, err := r.Prepare(t.Context(), o); err == nil {
			t.Errorf("%s: prepared", name)
		}
	}
	wrong := leafOf(t, ca.ProfileContract, "NLEXA1234567890")
	wrong.Key = leafOf(t, ca.ProfileContract20, "x").Key
	if _, err := r.Prepare(t.Context(), wrong); err == nil {
		t.Error("a P-521 key in ISO 15118-2")
	}
	if _, err := r.Prepare(t.Context(), leafOf(t, ca.ProfileStation, "SN-1")); err != nil {
		t.Errorf("a station's: %v", err)
	}
}
