package fleet_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"bollard/ca"
	"bollard/fleet"
	"bollard/ocpp"
)

func TestAdmitPassword(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	password := r.add(fleet.Enrolment{Identity: "CS-1"})
	other := r.add(fleet.Enrolment{Identity: "CS-2"})
	plain := r.add(fleet.Enrolment{Identity: "CS-P", Profile: 1})
	foreign := r.issue("CS-2", "SN-CS-2")
	own := r.issue("CS-1", "SN-CS-1")
	untrusted := newMaker(t, r.clock()).Leaf(r.clock(), "SN-CS-1", nil)

	ws := func(c fleet.Claim, profiles ...int) fleet.Claim { c.TLS, c.Profiles = false, profiles; return c }
	user := func(c fleet.Claim, name string) fleet.Claim { c.Basic.User = name; return c }
	for _, tt := range []struct {
		name    string
		claim   fleet.Claim
		profile int    // 0: refused
		reason  string // in the refusal
	}{
		{"A00.FR.207 TC_A_01 right password", withPassword(claim(t, "CS-1"), password), 2, ""},
		{"identity in another case is the same station", withPassword(claim(t, "cs-1"), password), 2, ""},
		{"A00.FR.204 TC_A_02 user is another station", user(withPassword(claim(t, "CS-1"), password), "CS-2"), 0, "user name"},
		{"A00.FR.204 user is the identity in another case", user(withPassword(claim(t, "CS-1"), password), "cs-1"), 0, "user name"},
		{"A00.FR.207 TC_A_03 wrong password", withPassword(claim(t, "CS-1"), "not the right password"), 0, "wrong password"},
		{"A00.FR.207 another station's password", withPassword(claim(t, "CS-1"), other), 0, "wrong password"},
		{"empty password", withPassword(claim(t, "CS-1"), ""), 0, "wrong password"},
		{"nothing presented", claim(t, "CS-1"), 0, "neither"},
		{"unknown identity", withPassword(claim(t, "CS-9"), password), 0, "not enrolled"},
		{"other station's certificate beside the right password", withCertificates(withPassword(claim(t, "CS-1"), password), foreign...), 0, "another station"},
		{"own certificate beside the right password", withCertificates(withPassword(claim(t, "CS-1"), password), own...), 2, ""},
		{"certificate of unknown root beside the right password", withCertificates(withPassword(claim(t, "CS-1"), password), untrusted), 2, ""},
		{"profile 1", ws(withPassword(claim(t, "CS-P"), plain), 1), 1, ""},
		{"A00.FR.002 profile 1 below the floor", ws(withPassword(claim(t, "CS-1"), password), 1), 0, "nothing below 2"},
		{"listener doesn't take profile 1", ws(withPassword(claim(t, "CS-P"), plain), 2, 3), 0, "doesn't take security profile 1"},
		{"listener takes certificates only", func() fleet.Claim {
			c := withPassword(claim(t, "CS-1"), password)
			c.Profiles = []int{3}
			return c
		}(), 0, "doesn't take security profile 2"},
		{"legacy listener for others", func() fleet.Claim {
			c := withPassword(claim(t, "CS-1"), password)
			c.Allow = []string{"CS-2"}
			return c
		}(), 0, "not for this station"},
		{"legacy listener for this one", func() fleet.Claim {
			c := withPassword(claim(t, "CS-1"), password)
			c.Allow = []string{"cs-1"}
			return c
		}(), 2, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			adm, err := r.svc.Admit(t.Context(), tt.claim)
			if tt.profile > 0 {
				if err != nil || adm.Profile != tt.profile || adm.Leaf != nil {
					t.Fatalf("Admit = %+v, %v; want profile %d", adm, err, tt.profile)
				}
				return
			}
			refused, ok := err.(*fleet.Refusal)
			if !ok || refused.Status != http.StatusUnauthorized || !strings.Contains(refused.Reason, tt.reason) {
				t.Fatalf("Admit = %+v, %v; want 401 with %q", adm, err, tt.reason)
			}
		})
	}
}

func TestAdmitEscapedSpelling(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	escaped := r.add(fleet.Enrolment{Identity: "CS%201", Serial: "SN-E"})
	plain := r.add(fleet.Enrolment{Identity: "CS-1"})
	if adm := r.admit(withPassword(claim(t, "CS%201"), escaped)); adm.Station.Identity != "CS 1" {
		t.Errorf("identity = %q", adm.Station.Identity)
	}
	if got := r.refusal(withPassword(claim(t, "CS%2D1"), plain)); !strings.Contains(got.Reason, "spelt") || got.Status != 401 {
		t.Errorf("an escape nobody enrolled: %+v", got)
	}
	if got := r.refusal(withPassword(claim(t, "C%53%201"), escaped)); !strings.Contains(got.Reason, "spelt") {
		t.Errorf("another escape of the same name: %+v", got)
	}
}

func TestAdmitCertificate(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{Identity: "CS-1", Serial: "SN-1", Alias: "SN-1b", Profile: 3})
	r.add(fleet.Enrolment{Identity: "CS-2", Serial: "SN-2", Profile: 3})
	r.add(fleet.Enrolment{Identity: "CS-3", Serial: "SN-3", Profile: 3})
	good, alias := r.issue("CS-1", "SN-1"), r.issue("CS-1", "SN-1b")
	other := r.issue("CS-2", "SN-2")
	wrongName := r.issue("CS-1", "SN-9")
	theirs := r.issue("CS-2", "SN-1") // on record for another station although the CN fits
	revoked := r.issue("CS-1", "SN-1")
	if _, err := r.svc.Revoke(t.Context(), "operator", serialOf(revoked[0]), "keyCompromise"); err != nil {
		t.Fatal(err)
	}
	m := newMaker(t, r.clock())
	r.trust(m)
	stranger := newMaker(t, r.clock())
	edit := func(cn string, f func(*x509.Certificate)) []*x509.Certificate {
		return []*x509.Certificate{m.Leaf(r.clock(), cn, f)}
	}
	const nfc, nfd = "S\u00e91", "Se\u03011"
	r.add(fleet.Enrolment{Identity: "CS-N", Serial: nfc, Profile: 3})
	pinned := m.Leaf(r.clock(), "no serial number", nil)
	sum := sha256.Sum256(pinned.Raw)
	r.add(fleet.Enrolment{Identity: "CS-F", Serial: "SN-F", Profile: 3, FactoryHash: hex.EncodeToString(sum[:])})

	for _, tt := range []struct {
		name     string
		identity string
		certs    []*x509.Certificate
		factory  bool
		reason   string // "": admitted
	}{
		{"A00.FR.403 .405 TC_A_07 own certificate", "CS-1", good, false, ""},
		{"A00.FR.405 alias", "CS-1", alias, false, ""},
		{"leaf only, intermediates are ours", "CS-1", good[:1], false, ""},
		{"A00.FR.405 TC_A_08 other station's certificate", "CS-1", other, false, "belongs to"},
		{"A00.FR.405 TC_A_08 other serial number", "CS-1", wrongName, false, "A00.FR.405"},
		{"certificate on record for another station", "CS-1", theirs, false, "belongs to"},
		{"A00.FR.705 revoked", "CS-1", revoked, false, "is revoked"},
		{"A00.FR.403 TC_A_08 unknown CA", "CS-1", []*x509.Certificate{stranger.Leaf(r.clock(), "SN-1", nil)}, false, "no root"},
		{"issuing CA as a station", "CS-1", good[1:], false, "belongs to"},
		{"A00.FR.406 factory certificate", "CS-3", edit("SN-3", nil), true, ""},
		{"factory certificate of another station", "CS-3", edit("SN-1", nil), true, "A00.FR.405"},
		{"A00.FR.404 outside CA with the operator's name is no factory's", "CS-3", edit("SN-3", func(c *x509.Certificate) { c.Subject.Organization = []string{organisation} }), false, ""},
		{"pinned factory certificate", "CS-F", []*x509.Certificate{pinned}, true, ""},
		{"not the pinned one", "CS-F", edit("SN-F", nil), true, "pinned"},
		{"not the pinned one, with the operator's name", "CS-F", edit("SN-F", func(c *x509.Certificate) { c.Subject.Organization = []string{organisation} }), false, "pinned"},
		{"no common name", "CS-3", edit("", nil), true, "0 common names"},
		{"two common names", "CS-3", edit("SN-3", func(c *x509.Certificate) {
			c.Subject.ExtraNames = append(c.Subject.ExtraNames, attribute("SN-3"), attribute("SN-1"))
		}), true, "2 common names"},
		{"CN with NUL", "CS-3", edit("SN-3\x00", nil), true, "A00.FR.405"},
		{"CN with trailing space", "CS-3", edit("SN-3 ", nil), true, "A00.FR.405"},
		{"CN in another case", "CS-3", edit("sn-3", nil), true, "A00.FR.405"},
		{"CN in NFC", "CS-N", edit(nfc, nil), true, ""},
		{"CN in NFD", "CS-N", edit(nfd, nil), true, "A00.FR.405"},
		{"serial number in SAN only", "CS-3", edit("x", func(c *x509.Certificate) { c.DNSNames = []string{"SN-3"} }), true, "A00.FR.405"},
		{"purpose: server only", "CS-3", edit("SN-3", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), true, "extended key usage"},
		{"purpose: client", "CS-3", edit("SN-3", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), true, ""},
		{"purpose: unknown extended usage only", "CS-3", edit("SN-3", func(c *x509.Certificate) {
			c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{1, 2, 3, 4}}
		}), true, "extended key usage"},
		{"purpose: no digitalSignature", "CS-3", edit("SN-3", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }), true, "digitalSignature"},
		{"purpose: CA", "CS-3", edit("SN-3", func(c *x509.Certificate) { c.IsCA = true }), true, "a CA's"},
		{"not valid yet", "CS-3", edit("SN-3", func(c *x509.Certificate) { c.NotBefore = r.clock().Add(time.Hour) }), true, "not valid before"},
		{"A00.FR.429 expired", "CS-3", edit("SN-3", func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = r.clock().AddDate(0, -2, 0), r.clock().AddDate(0, 0, -1)
		}), true, "allow-expired"},
		{"unknown identity", "CS-9", good, false, "not enrolled"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			adm, err := r.svc.Admit(t.Context(), withCertificates(claim(t, tt.identity), tt.certs...))
			if tt.reason == "" {
				if err != nil || adm.Profile != 3 || adm.Factory != tt.factory || *adm.Leaf != *ca.LeafOf(tt.certs[0]) {
					t.Fatalf("Admit = %+v, %v; want profile 3", adm, err)
				}
				return
			}
			refused, ok := err.(*fleet.Refusal)
			if !ok || refused.Status != http.StatusForbidden || !strings.Contains(refused.Reason, tt.reason) {
				t.Fatalf("Admit = %+v, %v; want 403 with %q", adm, err, tt.reason)
			}
		})
	}
}

func TestAdmitListenerTrust(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{Identity: "CS-1", Serial: "SN-1", Profile: 3})
	m := newMaker(t, r.clock())
	r.trust(m)
	own, factory := r.issue("CS-1", "SN-1"), m.Leaf(r.clock(), "SN-1", nil)
	sum := sha256.Sum256(m.Cert.Raw)
	anchor := hex.EncodeToString(sum[:])
	for _, tt := range []struct {
		name         string
		trust        []string
		own, factory bool
	}{
		{"everything", nil, true, true},
		{"own only", []string{"own"}, true, false},
		{"one anchor only", []string{anchor}, false, true},
	} {
		c := withCertificates(claim(t, "CS-1"), own...)
		c.Trust = tt.trust
		if _, err := r.svc.Admit(t.Context(), c); (err == nil) != tt.own {
			t.Errorf("%s: own certificate: %v", tt.name, err)
		}
		c.Certificates = []*x509.Certificate{factory}
		if _, err := r.svc.Admit(t.Context(), c); (err == nil) != tt.factory {
			t.Errorf("%s: factory certificate: %v", tt.name, err)
		}
	}
}

func TestAdmitExpiredOnlyWhileAllowed(t *testing.T) { // A00.FR.429, .807
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{Identity: "CS-1", Serial: "SN-1", Profile: 3})
	certs := r.issue("CS-1", "SN-1")
	r.advance(400 * 24 * time.Hour)
	c := withCertificates(claim(t, "CS-1"), certs...)
	r.refusal(c)
	if _, err := r.svc.Renew(t.Context(), "operator", "CS-1", 48*time.Hour); err != nil {
		t.Fatal(err)
	}
	r.admit(c)
	r.advance(49 * time.Hour)
	r.refusal(c)
}

func TestChecksSetToWarn(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{Identity: "CS-1", Serial: "SN-1", Profile: 3})
	r.add(fleet.Enrolment{Identity: "CS-2", Serial: "SN-2", Profile: 3})
	m := newMaker(t, r.clock())
	r.trust(m)
	odd := withCertificates(claim(t, "CS-1"), m.Leaf(r.clock(), "else", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }))
	for _, check := range []fleet.Check{fleet.CheckCommonName, fleet.CheckPurpose} {
		r.refusal(odd)
		if _, err := r.svc.SetCheck(t.Context(), "operator", "CS-1", check, true); err != nil {
			t.Fatal(err)
		}
	}
	adm := r.admit(odd)
	if len(adm.Notes) != 2 {
		t.Errorf("notes = %q, want both checks", adm.Notes)
	}
	r.open(adm, ocpp.V201)
	if got := r.events("check.warned"); len(got) != 1 {
		t.Errorf("%d records of warnings, want 1", len(got))
	}
	// No warning lets another station's own certificate in.
	if got := r.refusal(withCertificates(claim(t, "CS-1"), r.issue("CS-2", "SN-2")...)); !strings.Contains(got.Reason, "belongs to") {
		t.Errorf("another station's certificate: %+v", got)
	}
	if _, err := r.svc.SetCheck(t.Context(), "operator", "CS-1", fleet.CheckPurpose, false); err != nil {
		t.Fatal(err)
	}
	r.refusal(odd)
	if _, err := r.svc.SetCheck(t.Context(), "operator", "CS-1", "chain", true); err == nil {
		t.Error("an unknown check was set")
	}
}

func TestFloorRisesOnceSeen(t *testing.T) { // A05.FR.09 [1.6], A05.FR.07 [2.x], TC_A_19
	t.Parallel()
	r := newRig(t)
	password := r.add(fleet.Enrolment{Identity: "CS-1", Serial: "SN-1"})
	certs := r.issue("CS-1", "SN-1")
	basic, mutual := withPassword(claim(t, "CS-1"), password), withCertificates(claim(t, "CS-1"), certs...)

	r.open(r.admit(basic), ocpp.V201).close()
	adm := r.admit(mutual)
	r.admit(basic) // admitted, but not seen: the back end may be gone
	s := r.open(adm, ocpp.V201)
	st := r.station("CS-1")
	if st.FloorProfile != 3 || st.SeenProfile != 3 || st.WantedProfile != 3 || st.LeafSerial != serialOf(certs[0]) || st.Version != "2.0.1" {
		t.Errorf("station = %+v", st)
	}
	got := r.refusal(basic)
	if got.Status != 401 || !strings.Contains(got.Reason, "nothing below 3") || r.counts["lower-profile"] != 1 {
		t.Errorf("lower profile: %+v", got)
	}
	if st := r.station("CS-1"); st.LastRefusal != got.Reason {
		t.Errorf("last refusal = %q", st.LastRefusal)
	}
	if n := len(r.events("station.floor")); n != 1 {
		t.Errorf("%d records of the floor, want 1", n)
	}
	r.admit(withCertificates(basic, certs...)) // a leftover password beside the certificate
	s.close()
	r.restart()
	r.refusal(basic)
	if _, err := r.svc.SetProfile(t.Context(), "operator", "CS-1", 2); err == nil || !strings.Contains(err.Error(), "A05.FR.09") {
		t.Errorf("SetProfile below the floor: %v", err)
	}
}

func TestFactoryCertificateKeepsFloor(t *testing.T) { // A00.FR.406
	t.Parallel()
	for _, tt := range []struct{ wanted, floor int }{{2, 2}, {3, 3}} {
		r := newRig(t)
		r.add(fleet.Enrolment{Identity: "CS-1", Serial: "SN-1", Password: []byte("a human passphrase")})
		if _, err := r.svc.SetProfile(t.Context(), "operator", "CS-1", tt.wanted); err != nil {
			t.Fatal(err)
		}
		m := newMaker(t, r.clock())
		r.trust(m)
		r.open(r.admit(withCertificates(claim(t, "CS-1"), m.Leaf(r.clock(), "SN-1", nil))), ocpp.V201)
		if st := r.station("CS-1"); st.FloorProfile != tt.floor || !st.RenewWanted || st.LeafSerial != "" {
			t.Errorf("wanted %d: station = %+v", tt.wanted, st)
		}
	}
}

func TestStaleAdmissionEnds(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(*rig) error
	}{
		{"password changed", func(r *rig) error { _, err := r.svc.SetPassword(t.Context(), "operator", "CS-1", nil); return err }},
		{"removed", func(r *rig) error { return r.svc.Remove(t.Context(), "operator", "CS-1") }},
	} {
		r := newRig(t)
		adm := r.admit(withPassword(claim(t, "CS-1"), r.add(fleet.Enrolment{Identity: "CS-1"})))
		if err := tt.change(r); err != nil {
			t.Fatal(err)
		}
		if s := r.open(adm, ocpp.V16); s.endedWith() == "" {
			t.Errorf("%s: session goes on", tt.name)
		}
	}
	r := newRig(t)
	r.add(fleet.Enrolment{Identity: "CS-1", Serial: "SN-1", Profile: 3})
	certs := r.issue("CS-1", "SN-1")
	adm := r.admit(withCertificates(claim(t, "CS-1"), certs...))
	if _, err := r.svc.Revoke(t.Context(), "operator", serialOf(certs[0]), "superseded"); err != nil {
		t.Fatal(err)
	}
	if s := r.open(adm, ocpp.V16); s.endedWith() == "" {
		t.Error("revoked: session goes on")
	}
}

func TestUnknownIdentity404(t *testing.T) { // OCPP-J 1.6 errata 3.4
	t.Parallel()
	r := newRig(t)
	password := r.add(fleet.Enrolment{Identity: "CS-1"})
	r.unk = 404
	r.start()
	if got := r.refusal(withPassword(claim(t, "CS-9"), password)); got.Status != 404 {
		t.Errorf("status = %d", got.Status)
	}
	if got := r.refusal(withPassword(claim(t, "CS-1"), "wrong")); got.Status != 401 {
		t.Errorf("status = %d", got.Status)
	}
}

func TestRefusalsAreThrottled(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{Identity: "CS-1"})
	for range 100 {
		r.refusal(withPassword(claim(t, "CS-1"), "wrong"))
		r.refusal(withPassword(claim(t, "nobody"), "wrong"))
		fleet.FlushRefusals(t.Context(), r.svc)
	}
	if n := len(r.events("claim.refused")); n != 2 {
		t.Errorf("%d records, want one per station and one for strangers", n)
	}
	if n := strings.Count(r.logged(), "station refused"); n != 2 {
		t.Errorf("%d log lines, want 2", n)
	}
	if !strings.Contains(r.logged(), "station=cs-1 ") {
		t.Error("the log doesn't name the station by its key")
	}
	if st := r.station("CS-1"); st.LastRefusal != "wrong password" {
		t.Errorf("last refusal = %q", st.LastRefusal)
	}
	r.advance(2 * time.Minute)
	fleet.FlushRefusals(t.Context(), r.svc)
	list := r.events("claim.refused")
	if len(list) != 4 || list[2].Data["count"] != "99" {
		t.Errorf("records after a pause: %+v", list)
	}
}

func TestOwnCertificateOfAnotherOrganisation(t *testing.T) { // A00.FR.404
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{Identity: "CS-1", Serial: "SN-1", Profile: 3})
	c := withCertificates(claim(t, "CS-1"), r.issue("CS-1", "SN-1")...)
	r.admit(c)
	r.org = "Renamed CPO"
	r.start()
	if got := r.refusal(c); !strings.Contains(got.Reason, "A00.FR.404") {
		t.Errorf("refusal = %+v", got)
	}
	if _, err := r.svc.SetCheck(t.Context(), "operator", "CS-1", fleet.CheckOrganisation, true); err != nil {
		t.Fatal(err)
	}
	if adm := r.admit(c); len(adm.Notes) != 1 {
		t.Errorf("notes = %q", adm.Notes)
	}
}

func TestLowerSessionEndsOnceFloorRose(t *testing.T) { // A05.FR.09
	t.Parallel()
	r := newRig(t)
	adm := r.admit(withPassword(claim(t, "CS-1"), r.add(fleet.Enrolment{Identity: "CS-1", Serial: "SN-1"})))
	r.open(r.admit(withCertificates(claim(t, "CS-1"), r.issue("CS-1", "SN-1")...)), ocpp.V201)
	if s := r.open(adm, ocpp.V201); s.endedWith() == "" {
		t.Error("session below the floor goes on")
	}
}

// A listener without profile 3 takes no certificate for a proof, however it got
// to see one; and a stranger can't make us look at a long chain.
func TestCertificatesThatAreNotLookedAt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{Identity: "CS-1", Serial: "SN-1", Profile: 3})
	chain := r.issue("CS-1", "SN-1")
	c := withCertificates(claim(t, "CS-1"), chain...)
	r.admit(c)
	c.Profiles = []int{2}
	if got := r.refusal(c); !strings.Contains(got.Reason, "doesn't take security profile 3") {
		t.Errorf("listener of profile 2: %+v", got)
	}
	long := slices.Clone(chain)
	for len(long) < 9 {
		long = append(long, chain[1])
	}
	r.admit(withCertificates(claim(t, "CS-1"), long[:8]...))
	if got := r.refusal(withCertificates(claim(t, "CS-1"), long...)); !strings.Contains(got.Reason, "9 certificates") {
		t.Errorf("long chain: %+v", got)
	}
}

// Our signature under what is not in our books means that a key was misused.
func TestOwnSignatureWithoutRecord(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{Identity: "CS-1", Serial: "SN-1", Profile: 3})
	var signers []crypto.Signer
	r.dirty = func(s crypto.Signer) crypto.Signer { signers = append(signers, s); return s }
	r.start()
	chain := r.issue("CS-1", "SN-1")
	issuing := chain[1]
	for _, signer := range signers {
		if pub, ok := signer.Public().(*ecdsa.PublicKey); !ok || !pub.Equal(issuing.PublicKey) {
			continue
		}
		template := *chain[0]
		template.SerialNumber = big.NewInt(4711)
		der, err := x509.CreateCertificate(rand.Reader, &template, issuing, newKey(t).Public(), signer)
		if err != nil {
			t.Fatal(err)
		}
		forged, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.refusal(withCertificates(claim(t, "CS-1"), forged, issuing)); !strings.Contains(got.Reason, "not on record") {
			t.Errorf("refusal = %+v", got)
		}
		return
	}
	t.Fatal("the issuing key wasn't opened")
}
