package fleet_test

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net/http"
	"strings"
	"testing"
	"time"

	"bollard/ca"
	"bollard/fleet"
	"bollard/ocpp"
	"bollard/tpm/attest"
	"bollard/tpm/device"
)

// attestedRig is a rig whose station CS-1 has a TPM with a certified attestation key.
type attestedRig struct {
	*attestationRig
	mine, other *device.Device
	ak          *x509.Certificate
	otherAK     *x509.Certificate // CS-2's
}

func newAttestedRig(t *testing.T) *attestedRig {
	t.Helper()
	return attestedOn(t, newRig(t))
}

func attestedOn(t *testing.T, r *rig) *attestedRig {
	t.Helper()
	d := &attestedRig{attestationRig: attestationOn(t, r)}
	d.mine, _ = machine(t)
	d.other, _ = machine(t)
	d.ak = d.certified("CS-1", d.mine)
	d.otherAK = d.certified("CS-2", d.other)
	return d
}

// certified has a station's attestation key certified.
func (d *attestedRig) certified(identity string, m *device.Device) *x509.Certificate {
	d.t.Helper()
	_, ek := said(d.t, m)
	d.register(identity, ek)
	chain, status := d.enrol(m, d.est.secret(identity))
	if status != http.StatusOK {
		d.t.Fatalf("%d\n%s", status, d.logged())
	}
	return chain[0]
}

// subject is what a station's request has.
func subject(serial string) pkix.Name {
	return pkix.Name{CommonName: serial, Organization: []string{organisation}}
}

func keyIn(t testing.TB, m *device.Device) *device.Key {
	t.Helper()
	key, err := m.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// request is a request with evidence for a new key in a TPM.
func request(t testing.TB, m *device.Device, ak *x509.Certificate) []byte {
	t.Helper()
	der, err := keyIn(t, m).Request(subject("SN-1"), ak)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// evidence is what a TPM says of a key in answer to a nonce, the key's own if it is nil.
func evidence(t testing.TB, key *device.Key, nonce []byte, ak *x509.Certificate) attest.Evidence {
	t.Helper()
	if nonce == nil {
		var err error
		if nonce, err = attest.RequestNonce(key.Public()); err != nil {
			t.Fatal(err)
		}
	}
	c, err := key.Certify(nonce)
	if err != nil {
		t.Fatal(err)
	}
	return attest.Evidence{Certified: c, Certificates: []*x509.Certificate{ak}}
}

// requestFor is a request for a key with any evidence.
func requestFor(t testing.TB, key crypto.Signer, e attest.Evidence) []byte {
	t.Helper()
	der, err := device.Request(key, subject("SN-1"), e)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func pemCSR(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// badEvidence are requests of station CS-1 that show nothing of where their key is.
func (d *attestedRig) badEvidence() map[string]func(t *testing.T) []byte {
	return map[string]func(t *testing.T) []byte{
		"another TPM's statement": func(t *testing.T) []byte {
			return request(t, d.other, d.otherAK)
		},
		"another TPM's statement, the station's certificate": func(t *testing.T) []byte {
			return request(t, d.other, d.ak)
		},
		"about another key of the TPM": func(t *testing.T) []byte {
			return requestFor(t, keyIn(t, d.mine), evidence(t, keyIn(t, d.mine), nil, d.ak))
		},
		"about another key, the request's nonce": func(t *testing.T) []byte {
			outside := newKey(t)
			nonce, err := attest.RequestNonce(outside.Public())
			if err != nil {
				t.Fatal(err)
			}
			return requestFor(t, outside, evidence(t, keyIn(t, d.mine), nonce, d.ak))
		},
		"another nonce": func(t *testing.T) []byte {
			key := keyIn(t, d.mine)
			return requestFor(t, key, evidence(t, key, []byte("another nonce"), d.ak))
		},
		"no certificate": func(t *testing.T) []byte {
			key := keyIn(t, d.mine)
			e := evidence(t, key, nil, d.ak)
			e.Certificates = nil
			return requestFor(t, key, e)
		},
		"a certificate that isn't for attestation keys": func(t *testing.T) []byte {
			return request(t, d.mine, d.auth.Intermediates(ca.KindAttestation)[0])
		},
		"a certificate of somebody else": func(t *testing.T) []byte {
			stranger := newMaker(t, d.clock())
			return request(t, d.mine, stranger.Issue(&x509.Certificate{
				Subject: pkix.Name{CommonName: "SN-1"}, NotBefore: d.clock().AddDate(0, 0, -1), NotAfter: d.clock().AddDate(1, 0, 0),
				UnknownExtKeyUsage: d.ak.UnknownExtKeyUsage,
			}, newKey(t)))
		},
		"nothing that can be read": func(t *testing.T) []byte {
			return requestFor(t, newKey(t), attest.Evidence{})
		},
	}
}

// A request over OCPP with evidence gets a certificate whose record says so, within the
// standard's length, in each version; over EST alike. Evidence of something else gets
// nothing, and is recorded; a request without any is as it was.
func TestAttestedKey(t *testing.T) {
	t.Parallel()
	d := newAttestedRig(t)
	wantsAttested := func(t *testing.T, cert *x509.Certificate, by *x509.Certificate) {
		t.Helper()
		rec, err := d.store.Certificate(t.Context(), serialOf(cert))
		if err != nil {
			t.Fatal(err)
		}
		want := ""
		if by != nil {
			want = serialOf(by)
		}
		if rec.Attested != want {
			t.Errorf("attested by %q, want %q", rec.Attested, want)
		}
		issued := d.events("certificate.issued")
		if got := issued[len(issued)-1].Data["attested"]; got != want {
			t.Errorf("the ledger says attested by %q, want %q", got, want)
		}
	}
	for _, version := range []ocpp.Version{ocpp.V16, ocpp.V201, ocpp.V21} {
		password, err := d.svc.SetPassword(t.Context(), "operator", "CS-1", nil)
		if err != nil {
			t.Fatal(err)
		}
		s := d.open(d.admit(withPassword(claim(t, "CS-1"), password)), version)
		sign := func(csr string) fleet.Verdict {
			d.advance(10 * time.Minute) // what the station may ask for
			return s.judge(ocpp.FromStation, "SignCertificate", marshal(t, map[string]any{"csr": csr}))
		}
		csr := pemCSR(request(t, d.mine, d.ak))
		if len(csr) > 5500 { // SignCertificateRequest.csr of 1.6 (security white paper), 2.0.1 and 2.1
			t.Errorf("%s: a request with evidence has %d characters", version, len(csr))
		}
		before := len(s.sent("CertificateSigned"))
		s.message(ocpp.FromStation, "SignCertificate", marshal(t, map[string]any{"csr": csr}))
		d.waitOrder("CS-1", fleet.OrderDelivered)
		wantsAttested(t, chainOf(t, s.sent("CertificateSigned")[before])[0], d.ak)
		if version == ocpp.V201 {
			for name, bad := range d.badEvidence() {
				refused := len(d.events("station.unattested"))
				if v := sign(pemCSR(bad(t))); !strings.Contains(status(v), `"status":"Rejected"`) || v.After != nil || !strings.Contains(v.Reason, "isn't attested") {
					t.Errorf("%s: %s, %s", name, status(v), v.Reason)
				}
				entries := d.events("station.unattested")
				if len(entries) != refused+1 || entries[refused].Data["reason"] == "" || entries[refused].Data["door"] != string(fleet.WirePlain) {
					t.Errorf("%s: recorded %v", name, entries[refused:])
				}
			}
		}
		d.advance(10 * time.Minute)
		s.message(ocpp.FromStation, "SignCertificate", csrPayload(t, newKey(t), "SN-1"))
		d.waitOrder("CS-1", fleet.OrderDelivered)
		wantsAttested(t, chainOf(t, s.sent("CertificateSigned")[before+1])[0], nil)
		s.close()
	}
	for name, bad := range d.badEvidence() {
		d.advance(10 * time.Minute)
		refused := len(d.events("station.unattested"))
		d.est.wantStatus(d.est.ask("simpleenroll", bad(t), d.est.secret("CS-1")), http.StatusBadRequest)
		if entries := d.events("station.unattested"); len(entries) != refused+1 || entries[refused].Data["door"] != string(fleet.WireEST) {
			t.Errorf("EST, %s: recorded %v", name, entries[refused:])
		}
	}
	d.advance(10 * time.Minute)
	wantsAttested(t, d.est.certificate(d.est.ask("simpleenroll", request(t, d.mine, d.ak), d.est.secret("CS-1"))), d.ak)

	// What attested a key once does so no more: revoked, or the station has another
	// serial number.
	if _, err := d.auth.Revoke(t.Context(), serialOf(d.ak), "keyCompromise", "operator"); err != nil {
		t.Fatal(err)
	}
	d.est.wantStatus(d.est.ask("simpleenroll", request(t, d.mine, d.ak), d.est.secret("CS-1")), http.StatusBadRequest)
	if entries := d.events("station.unattested"); !strings.Contains(entries[len(entries)-1].Data["reason"], "is revoked") {
		t.Errorf("%v", entries[len(entries)-1])
	}
}

// Where nobody's attestation key is certified, evidence is as nothing: a fleet without
// TPMs gets what it got.
func TestEvidenceWithoutAHierarchy(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s, _ := r.basic("CS-1", ocpp.V201, nil)
	der, err := device.Request(newKey(t), pkix.Name{CommonName: "SN-CS-1", Organization: []string{organisation}}, attest.Evidence{})
	if err != nil {
		t.Fatal(err)
	}
	s.message(ocpp.FromStation, "SignCertificate", marshal(t, map[string]any{"csr": pemCSR(der)}))
	r.waitOrder("CS-1", fleet.OrderDelivered)
	if entries := r.events("station.unattested"); len(entries) != 0 {
		t.Errorf("%v", entries)
	}
}

// What attests one key counts for no other, and no other station's certificate.
func TestAttestationIsOfOneKey(t *testing.T) {
	t.Parallel()
	d := newAttestedRig(t)
	key := keyIn(t, d.mine)
	nonce, err := attest.RequestNonce(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	attested, err := d.auth.Attest(t.Context(), evidence(t, key, nonce, d.ak), nonce)
	if err != nil {
		t.Fatal(err)
	}
	mine, err := ca.ParseCSR(csrDER(t, key, "SN-1", organisation))
	if err != nil {
		t.Fatal(err)
	}
	other, err := ca.ParseCSR(csrDER(t, newKey(t), "SN-1", organisation))
	if err != nil {
		t.Fatal(err)
	}
	for name, order := range map[string]ca.Order{
		"another key":     {Profile: ca.ProfileStation, Key: other.Key, Station: "cs-1", Subject: ca.Subject{CommonName: "SN-1"}},
		"another station": {Profile: ca.ProfileStation, Key: mine.Key, Station: "cs-2", Subject: ca.Subject{CommonName: "SN-1"}},
		"another serial":  {Profile: ca.ProfileStation, Key: mine.Key, Station: "cs-1", Subject: ca.Subject{CommonName: "SN-2"}},
		"another purpose": {Profile: ca.ProfileAttestation, Key: mine.Key, Station: "cs-1", Subject: ca.Subject{CommonName: "SN-1"}},
	} {
		order.Attested, order.Requester = attested, "operator"
		if _, err := d.auth.Prepare(t.Context(), order); err == nil || !strings.Contains(err.Error(), "an attestation of something else") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Of a station whose back end issues its certificates nothing can be demanded here: it
// differs, and that can't be changed.
func TestAttestedKeysWantedBehindAnIssuingBackEnd(t *testing.T) {
	t.Parallel()
	d := newAttestedRig(t)
	ctl := fleet.NewController(d.svc, d.store)
	if _, err := ctl.Want(t.Context(), "operator", fleet.Group{Name: fleet.DefaultGroup, Wants: fleet.Wants{Attested: fleet.AttestedYes}}); err != nil {
		t.Fatal(err)
	}
	if _, err := ctl.WantStation(t.Context(), "operator", "CS-1", func(w *fleet.Wants) error { w.Attested = fleet.AttestedNo; return nil }); err != nil {
		t.Fatal(err)
	}
	d.est.certificate(d.est.ask("simpleenroll", csrDER(t, newKey(t), "SN-1", organisation), d.est.secret("CS-1")))
	if _, err := ctl.WantStation(t.Context(), "operator", "CS-1", func(w *fleet.Wants) error { w.Attested = ""; return nil }); err != nil {
		t.Fatal(err)
	}
	password, err := d.svc.SetPassword(t.Context(), "operator", "CS-1", nil)
	if err != nil {
		t.Fatal(err)
	}
	for mode, unable := range map[fleet.SecurityMode]string{fleet.SecurityBackend: "its back end issues its certificates", fleet.SecurityBollard: ""} {
		s := d.openWith(d.admit(withPassword(claim(t, "CS-1"), password)), ocpp.V201, mode, nil)
		list, _, err := ctl.Plan(t.Context(), fleet.Scope{})
		if err != nil || len(list) != 1 || len(list[0].Drift) != 1 || list[0].Drift[0].Unable != unable {
			t.Errorf("%s: %v, %+v", mode, err, list)
		}
		s.close()
	}
}

// Where attested keys are wanted, a request without evidence gets nothing, at the first
// enrolment, for a renewal, over OCPP and EST; one station may be an exception. Who has a
// certificate for another key differs from what is wanted.
func TestAttestedKeysWanted(t *testing.T) {
	t.Parallel()
	d := newAttestedRig(t)
	ctl := fleet.NewController(d.svc, d.store)
	password, err := d.svc.SetPassword(t.Context(), "operator", "CS-1", nil)
	if err != nil {
		t.Fatal(err)
	}
	s := d.open(d.admit(withPassword(claim(t, "CS-1"), password)), ocpp.V201)
	s.message(ocpp.FromStation, "SignCertificate", csrPayload(t, newKey(t), "SN-1"))
	d.waitOrder("CS-1", fleet.OrderDelivered)
	if _, err := ctl.Want(t.Context(), "operator", fleet.Group{Name: fleet.DefaultGroup, Wants: fleet.Wants{Attested: fleet.AttestedYes}}); err != nil {
		t.Fatal(err)
	}
	differs := func() []fleet.Planned {
		t.Helper()
		list, _, err := ctl.Plan(t.Context(), fleet.Scope{})
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	if list := differs(); len(list) != 1 || list[0].Station != "CS-1" || list[0].Drift[0].Change != fleet.ChangeCertificate || list[0].Drift[0].Unable != "" {
		t.Errorf("%+v", list)
	}
	// The renewal.
	v := s.judge(ocpp.FromStation, "SignCertificate", csrPayload(t, newKey(t), "SN-1"))
	if !strings.Contains(status(v), `"status":"Rejected"`) || !strings.Contains(v.Reason, "attested keys alone are wanted") {
		t.Errorf("%s, %s", status(v), v.Reason)
	}
	d.est.wantStatus(d.est.ask("simpleenroll", csrDER(t, newKey(t), "SN-1", organisation), d.est.secret("CS-1")), http.StatusBadRequest)
	if entries := d.events("station.unattested"); len(entries) != 2 || entries[0].Data["door"] != string(fleet.WirePlain) || entries[1].Data["door"] != string(fleet.WireEST) {
		t.Errorf("recorded %v", entries)
	}
	s.message(ocpp.FromStation, "SignCertificate", marshal(t, map[string]any{"csr": pemCSR(request(t, d.mine, d.ak))}))
	d.waitOrder("CS-1", fleet.OrderDelivered)
	if list := differs(); len(list) != 0 {
		t.Errorf("%+v", list)
	}
	// The first enrolment, of a station that has no TPM.
	d.add(fleet.Enrolment{Identity: "CS-3", Serial: "SN-3", Profile: 2})
	first := func(want int) {
		t.Helper()
		d.est.wantStatus(d.est.ask("simpleenroll", csrDER(t, newKey(t), "SN-3", organisation), d.est.secret("CS-3")), want)
	}
	first(http.StatusBadRequest)
	except := func(attested string) {
		t.Helper()
		if _, err := ctl.WantStation(t.Context(), "operator", "CS-3", func(w *fleet.Wants) error { w.Attested = attested; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	except(fleet.AttestedNo)
	first(http.StatusOK)
	if list := differs(); len(list) != 0 {
		t.Errorf("an exception differs: %+v", list)
	}
	except("")
	if list := differs(); len(list) != 1 || list[0].Station != "CS-3" || !strings.Contains(list[0].Drift[0].Unable, "never connected") {
		t.Errorf("%+v", list)
	}
	// Withdrawn, it is as before.
	if _, err := ctl.Want(t.Context(), "operator", fleet.Group{Name: fleet.DefaultGroup}); err != nil {
		t.Fatal(err)
	}
	first(http.StatusOK)
}
