package fleet_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	client "golang.org/x/crypto/acme"

	"bollard/ca"
	"bollard/ca/acme"
	"bollard/ca/est"
	"bollard/fleet"
	"bollard/ledger"
	"bollard/ocpp"
	"bollard/tpm/attest"
)

// acmeDoor is the rig's ACME door for stations, over TLS.
type acmeDoor struct {
	*attestationRig
	server *httptest.Server
}

func (d *attestationRig) acme() *acmeDoor {
	d.t.Helper()
	door, err := acme.New(acme.Config{
		Prefix: "/acme/stations", Host: "127.0.0.1", Desk: &acme.Stations{Registrar: d.est.registrar, Certificates: d.auth},
		Store: d.store, Certificates: d.auth, Clock: d.clock,
	})
	if err != nil {
		d.t.Fatal(err)
	}
	a := &acmeDoor{d, httptest.NewTLSServer(door)}
	d.t.Cleanup(a.server.Close)
	return a
}

// client is somebody else's ACME client (golang.org/x/crypto/acme), with an account.
func (a *acmeDoor) client() *client.Client {
	a.t.Helper()
	c := &client.Client{Key: newKey(a.t), HTTPClient: a.server.Client(), DirectoryURL: a.server.URL + "/acme/stations/directory",
		RetryBackoff: func(int, *http.Request, *http.Response) time.Duration { return -1 }}
	if _, err := c.Register(a.t.Context(), &client.Account{}, client.AcceptTOS); err != nil {
		a.t.Fatal(err)
	}
	return c
}

// ordered is an order under way.
type ordered struct {
	*client.Order
	challenge *client.Challenge
	nonce     []byte
}

func (a *acmeDoor) order(c *client.Client, serial string) ordered {
	a.t.Helper()
	order, err := c.AuthorizeOrder(a.t.Context(), []client.AuthzID{{Type: "permanent-identifier", Value: serial}})
	if err != nil {
		a.t.Fatal(err)
	}
	z, err := c.GetAuthorization(a.t.Context(), order.AuthzURLs[0])
	if err != nil {
		a.t.Fatal(err)
	}
	if len(z.Challenges) != 1 || z.Challenges[0].Type != "device-attest-01" {
		a.t.Fatalf("challenges %+v", z.Challenges)
	}
	text, err := c.HTTP01ChallengeResponse(z.Challenges[0].Token) // the key authorization
	if err != nil {
		a.t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(text))
	return ordered{order, z.Challenges[0], sum[:]}
}

// answer answers the challenge, and returns the kind of problem that came of it, "" for
// none.
func (a *acmeDoor) answer(c *client.Client, o ordered, payload string) string {
	a.t.Helper()
	o.challenge.Payload = []byte(payload)
	_, err := c.Accept(a.t.Context(), o.challenge)
	kind := problemOf(err)
	if err == nil {
		got, err := c.GetChallenge(a.t.Context(), o.challenge.URI)
		if err != nil {
			a.t.Fatal(err)
		}
		kind = problemOf(got.Error)
	}
	return kind
}

func problemOf(err error) string {
	var p *client.Error
	if errors.As(err, &p) {
		return strings.TrimPrefix(p.ProblemType, "urn:ietf:params:acme:error:")
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// cborItem writes the head of an item (RFC 8949 §3) and what follows it.
func cborItem(major byte, n int, after ...[]byte) []byte {
	head := []byte{major<<5 | 25, byte(n >> 8), byte(n)}
	if n < 24 {
		head = []byte{major<<5 | byte(n)}
	}
	return append(head, bytes.Join(after, nil)...)
}

func cborText(s string) []byte  { return cborItem(3, len(s), []byte(s)) }
func cborBytes(b []byte) []byte { return cborItem(2, len(b), b) }

// attObj is an answer with an attestation object, written by hand.
func attObj(e attest.Evidence) string {
	var certs [][]byte
	algorithm := cborItem(1, 6) // -7: ES256
	for _, c := range e.Certificates {
		if c.PublicKeyAlgorithm == x509.RSA {
			algorithm = cborItem(1, 256) // -257: RS256
		}
		certs = append(certs, cborBytes(c.Raw))
	}
	object := cborItem(5, 2, cborText("fmt"), cborText("tpm"), cborText("attStmt"), cborItem(5, 6,
		cborText("ver"), cborText("2.0"), cborText("alg"), algorithm,
		cborText("x5c"), cborItem(4, len(certs), certs...),
		cborText("sig"), cborBytes(e.Signature), cborText("certInfo"), cborBytes(e.Statement), cborText("pubArea"), cborBytes(e.Public)))
	return fmt.Sprintf(`{"attObj":%q}`, base64.RawURLEncoding.EncodeToString(object))
}

func signedRequest(t testing.TB, key crypto.Signer, cn string) []byte {
	t.Helper()
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: cn}}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// finalize asks for the certificate.
func (a *acmeDoor) finalize(c *client.Client, o ordered, csr []byte) (*x509.Certificate, error) {
	a.t.Helper()
	chain, _, err := c.CreateOrderCert(a.t.Context(), o.FinalizeURL, csr, true)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(chain[0])
}

// A station gets its certificate over ACME by its TPM alone, for the key that was
// attested: recorded like every other, with its order, and good at the front door.
func TestStationOverACME(t *testing.T) {
	t.Parallel()
	d := newAttestedRig(t)
	a := d.acme()
	if _, err := fleet.NewController(d.svc, d.store).Want(t.Context(), "operator", fleet.Group{Name: fleet.DefaultGroup, Wants: fleet.Wants{Attested: fleet.AttestedYes}}); err != nil {
		t.Fatal(err)
	}
	c := a.client()
	for _, cn := range []string{"SN-1", ""} {
		o := a.order(c, "SN-1")
		key := keyIn(t, d.mine)
		if kind := a.answer(c, o, attObj(evidence(t, key, o.nonce, d.ak))); kind != "" {
			t.Fatalf("%s\n%s", kind, d.logged())
		}
		// No other key, and nothing for somebody else.
		if _, err := a.finalize(c, o, signedRequest(t, key, "SN-2")); problemOf(err) != "badCSR" {
			t.Errorf("for another station: %v", err)
		}
		cert, err := a.finalize(c, o, signedRequest(t, key, cn))
		if err != nil {
			t.Fatalf("%v\n%s", err, d.logged())
		}
		rec, err := d.store.Certificate(t.Context(), serialOf(cert))
		if err != nil {
			t.Fatal(err)
		}
		if cert.Subject.CommonName != "SN-1" || rec.Profile != ca.ProfileStation || rec.Station != "cs-1" || rec.Attested != serialOf(d.ak) {
			t.Errorf("%s: %+v", cert.Subject, rec.Intent)
		}
		orders, err := d.svc.Orders(t.Context(), "CS-1")
		if err != nil || len(orders) == 0 || orders[0].Wire != fleet.WireACME || orders[0].Serial != rec.Serial || orders[0].State != fleet.OrderDelivered {
			t.Errorf("%v, %+v", err, orders)
		}
		s := d.open(d.admit(withCertificates(claim(t, "CS-1"), cert)), ocpp.V201)
		s.close()
	}
	if got := len(d.events("acme.issued")); got != 2 {
		t.Errorf("%d certificates in the ledger", got)
	}
	if e := d.events("order.accepted"); len(e) != 2 || e[0].Data["door"] != "acme" || e[0].Data["proof"] != "TPM" {
		t.Errorf("%v", e)
	}

	// Another key than was attested ends the order.
	o := a.order(c, "SN-1")
	if kind := a.answer(c, o, attObj(evidence(t, keyIn(t, d.mine), o.nonce, d.ak))); kind != "" {
		t.Fatal(kind)
	}
	if _, err := a.finalize(c, o, signedRequest(t, keyIn(t, d.mine), "SN-1")); problemOf(err) != "badCSR" {
		t.Errorf("another key: %v", err)
	}
	if got, err := c.GetOrder(t.Context(), o.URI); err != nil || got.Status != "invalid" {
		t.Errorf("%v, %+v", err, got)
	}
	// What was proven may not be any more.
	o = a.order(c, "SN-1")
	key := keyIn(t, d.mine)
	if kind := a.answer(c, o, attObj(evidence(t, key, o.nonce, d.ak))); kind != "" {
		t.Fatal(kind)
	}
	if _, err := d.auth.Revoke(t.Context(), serialOf(d.ak), "keyCompromise", "operator"); err != nil {
		t.Fatal(err)
	}
	if _, err := a.finalize(c, o, signedRequest(t, key, "SN-1")); problemOf(err) != "badAttestationStatement" {
		t.Errorf("with a revoked attestation key: %v", err)
	}
	if got := len(d.records("CS-1")); got != 3 { // the attestation key's, two of the station
		t.Errorf("%d certificates on record", got)
	}
}

// What isn't the statement of this station's TPM in answer to this challenge proves
// nothing, ends the order and is recorded.
func TestStationOverACMERefused(t *testing.T) {
	t.Parallel()
	d := newAttestedRig(t)
	a := d.acme()
	c := a.client()
	const bad = "badAttestationStatement"
	before := a.order(c, "SN-1")
	sent := attObj(evidence(t, keyIn(t, d.mine), before.nonce, d.ak))
	stranger := newMaker(t, d.clock())
	foreign := stranger.Issue(&x509.Certificate{
		Subject: pkix.Name{CommonName: "SN-1"}, NotBefore: d.clock().AddDate(0, 0, -1), NotAfter: d.clock().AddDate(1, 0, 0), UnknownExtKeyUsage: d.ak.UnknownExtKeyUsage,
	}, newKey(t))
	for name, tt := range map[string]struct {
		serial string
		answer func(o ordered) string
		kind   string
		why    string
	}{
		"another TPM": {"SN-1", func(o ordered) string { return attObj(evidence(t, keyIn(t, d.other), o.nonce, d.otherAK)) }, bad, "another serial number"},
		"another TPM with the station's certificate": {"SN-1", func(o ordered) string { return attObj(evidence(t, keyIn(t, d.other), o.nonce, d.ak)) }, bad, "isn't signed by this attestation key"},
		"another station's serial number":            {"SN-2", func(o ordered) string { return attObj(evidence(t, keyIn(t, d.mine), o.nonce, d.ak)) }, bad, "another serial number"},
		"nobody's serial number":                     {"SN-9", func(o ordered) string { return attObj(evidence(t, keyIn(t, d.mine), o.nonce, d.ak)) }, bad, "another serial number"},
		"a replay":                                   {"SN-1", func(ordered) string { return sent }, bad, "another question"},
		"evidence of a request":                      {"SN-1", func(ordered) string { return attObj(evidence(t, keyIn(t, d.mine), nil, d.ak)) }, bad, "another question"},
		"a certificate that isn't for attestation keys": {"SN-1", func(o ordered) string {
			return attObj(evidence(t, keyIn(t, d.mine), o.nonce, d.auth.Intermediates(ca.KindAttestation)[0]))
		}, bad, "2.23.133.8.3"},
		"a certificate of somebody else": {"SN-1", func(o ordered) string { return attObj(evidence(t, keyIn(t, d.mine), o.nonce, foreign)) }, bad, "certificate"},
		"without a certificate": {"SN-1", func(o ordered) string {
			e := evidence(t, keyIn(t, d.mine), o.nonce, d.ak)
			e.Certificates = nil
			return attObj(e)
		}, bad, "comes without one"},
		"no CBOR":           {"SN-1", func(ordered) string { return `{"attObj":"e30"}` }, bad, "in CBOR"},
		"no base64url":      {"SN-1", func(ordered) string { return `{"attObj":"!"}` }, bad, "base64url"},
		"nothing":           {"SN-1", func(ordered) string { return `{}` }, bad, "in CBOR"},
		"a client's excuse": {"SN-1", func(ordered) string { return `{"error":"no TPM here"}` }, bad, "the client couldn't attest"},
		"no answer at all":  {"SN-1", func(ordered) string { return `[]` }, "malformed", "attObj"},
	} {
		t.Run(name, func(t *testing.T) {
			c := a.client()
			o := a.order(c, tt.serial)
			refused := len(d.events("acme.refused"))
			if kind := a.answer(c, o, tt.answer(o)); kind != tt.kind {
				t.Errorf("problem %q, want %q", kind, tt.kind)
			}
			if got, err := c.GetOrder(t.Context(), o.URI); err != nil || got.Status != "invalid" {
				t.Errorf("%v, %+v", err, got)
			}
			if e := d.events("acme.refused"); len(e) != refused+1 || e[refused].Data["what"] != "challenge" || !strings.Contains(e[refused].Data["why"], tt.why) {
				t.Errorf("recorded %v, want %q", e[refused:], tt.why)
			}
		})
	}
	for name, tt := range map[string]struct {
		ids  []client.AuthzID
		kind string
	}{
		"a host name":  {client.DomainIDs("one.example"), "unsupportedIdentifier"},
		"two stations": {[]client.AuthzID{{Type: "permanent-identifier", Value: "SN-1"}, {Type: "permanent-identifier", Value: "SN-2"}}, "rejectedIdentifier"},
		"no serial":    {[]client.AuthzID{{Type: "permanent-identifier"}}, "rejectedIdentifier"},
	} {
		if _, err := c.AuthorizeOrder(t.Context(), tt.ids); problemOf(err) != tt.kind {
			t.Errorf("%s: %v, want %s", name, err, tt.kind)
		}
	}
	// A station that was lost is nobody.
	o := a.order(c, "SN-1")
	said := attObj(evidence(t, keyIn(t, d.mine), o.nonce, d.ak))
	if _, err := d.svc.Lose(t.Context(), "operator", "CS-1", "stolen"); err != nil {
		t.Fatal(err)
	}
	if kind := a.answer(c, o, said); kind != bad {
		t.Errorf("a lost station: %q", kind)
	}
	if got := len(d.records("CS-1")); got != 1 { // the attestation key's
		t.Errorf("%d certificates on record", got)
	}
}

// A station that was lost gets nothing, whatever its TPM says and whatever of it is in
// force still.
func TestLostStationGetsNothing(t *testing.T) { // promise 9
	t.Parallel()
	d := newAttestedRig(t)
	a := d.acme()
	c := a.client()
	password, err := d.svc.SetPassword(t.Context(), "operator", "CS-1", nil)
	if err != nil {
		t.Fatal(err)
	}
	s := d.open(d.admit(withPassword(claim(t, "CS-1"), password)), ocpp.V201)
	proven, unproven := a.order(c, "SN-1"), a.order(c, "SN-1")
	key := keyIn(t, d.mine)
	if kind := a.answer(c, proven, attObj(evidence(t, key, proven.nonce, d.ak))); kind != "" {
		t.Fatal(kind)
	}
	answer := attObj(evidence(t, keyIn(t, d.mine), unproven.nonce, d.ak))
	secret := d.est.secret("CS-1")
	// The block alone, as where a crash or a disk keeps revocation from following it.
	if _, err := d.store.UpdateStation(t.Context(), "cs-1", func(st *fleet.Station) ([]ledger.Event, error) {
		st.LostAt, st.LostReason = d.clock(), "stolen"
		return nil, nil
	}); err != nil {
		t.Fatal(err)
	}
	if kind := a.answer(c, unproven, answer); kind != "badAttestationStatement" {
		t.Errorf("challenge: %q", kind)
	}
	if _, err := a.finalize(c, proven, signedRequest(t, key, "SN-1")); problemOf(err) != "badAttestationStatement" {
		t.Errorf("finalize: %v", err)
	}
	d.est.wantStatus(d.est.ask("simpleenroll", request(t, d.mine, d.ak), secret), http.StatusUnauthorized)
	if _, status := d.enrol(d.mine, secret); status != http.StatusUnauthorized {
		t.Errorf("the attestation door: %d", status)
	}
	_, ek := said(t, d.mine)
	if err := d.est.registrar.Endorse(t.Context(), est.Claim{}, "cs-1", ek, nil); err == nil {
		t.Error("its TPM is still endorsed after the challenge")
	}
	s.message(ocpp.FromStation, "SignCertificate", csrPayload(t, newKey(t), "SN-1"))
	s.wg.Wait()
	if o := d.waitOrder("CS-1", fleet.OrderRejected); !strings.Contains(o.Reason, "reported lost") {
		t.Errorf("its order: %+v", o)
	}
	if got := len(d.records("CS-1")); got != 1 { // the attestation key's
		t.Errorf("%d certificates on record", got)
	}
}

// What is being issued while its station is reported lost is revoked too.
func TestLostWhileIssued(t *testing.T) { // promise 9
	t.Parallel()
	r := newRig(t)
	var before atomic.Pointer[func()]
	r.dirty = func(s crypto.Signer) crypto.Signer { return hookedSigner{s, &before} }
	r.start()
	r.add(fleet.Enrolment{Identity: "CS-1", Serial: "SN-1", Profile: 2})
	d := r.est()
	lost := make(chan error, 1)
	lose := func() {
		go func() {
			_, err := r.svc.Lose(t.Context(), "operator", "CS-1", "stolen")
			lost <- err
		}()
		eventually(t, "loss", func() bool { return len(lost) == 1 || fleet.TakingTurns(r.svc, "cs-1") == 2 })
	}
	before.Store(&lose)
	d.wantStatus(d.ask("simpleenroll", csrDER(t, newKey(t), "SN-1", organisation), d.secret("CS-1")), http.StatusOK)
	if err := <-lost; err != nil {
		t.Fatal(err)
	}
	records := r.records("CS-1")
	if len(records) != 1 || records[0].State != ca.StateRevoked {
		t.Errorf("records %+v", records)
	}
}

// A finalize that was cut off is good again with another request for the same key, since
// clients sign anew.
func TestStationOverACMEAfterAFault(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var broken atomic.Bool
	r.dirty = func(s crypto.Signer) crypto.Signer { return brokenSigner{s, &broken} }
	r.start()
	d := attestedOn(t, r)
	a := d.acme()
	c := a.client()
	o := a.order(c, "SN-1")
	key := keyIn(t, d.mine)
	if kind := a.answer(c, o, attObj(evidence(t, key, o.nonce, d.ak))); kind != "" {
		t.Fatal(kind)
	}
	broken.Store(true)
	first, second := signedRequest(t, key, "SN-1"), signedRequest(t, key, "SN-1")
	if _, err := a.finalize(c, o, first); err == nil {
		t.Fatal("issued without a key")
	}
	broken.Store(false)
	if bytes.Equal(first, second) {
		t.Fatal("one request twice")
	}
	cert, err := a.finalize(c, o, second)
	if err != nil {
		t.Fatalf("%v\n%s", err, d.logged())
	}
	if orders, err := d.svc.Orders(t.Context(), "CS-1"); err != nil || len(orders) != 1 || orders[0].State != fleet.OrderDelivered || orders[0].Serial != serialOf(cert) {
		t.Errorf("%v, %+v", err, orders)
	}
}

// A key whose certificate isn't on record as attested isn't given that certificate for
// one that is.
func TestAttestedLater(t *testing.T) {
	t.Parallel()
	d := newAttestedRig(t)
	key := keyIn(t, d.mine)
	d.est.certificate(d.est.ask("simpleenroll", csrDER(t, key, "SN-1", organisation), d.est.secret("CS-1")))
	if a := d.est.ask("simpleenroll", requestFor(t, key, evidence(t, key, nil, d.ak)), d.est.secret("CS-1")); a.status != http.StatusBadRequest || !strings.Contains(a.body, "make a new key pair") {
		t.Errorf("%d: %s", a.status, a.body)
	}
	other := keyIn(t, d.mine)
	shown := requestFor(t, other, evidence(t, other, nil, d.ak))
	cert := d.est.certificate(d.est.ask("simpleenroll", shown, d.est.secret("CS-1")))
	if again := d.est.certificate(d.est.ask("simpleenroll", shown, d.est.secret("CS-1"))); !again.Equal(cert) {
		t.Error("an answer that got lost isn't given again")
	}
}
