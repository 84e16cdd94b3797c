package fleet_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	steptpm "go.step.sm/crypto/tpm"
	stepattestation "go.step.sm/crypto/tpm/attestation"
	"go.step.sm/crypto/tpm/storage"

	"bollard/ca"
	"bollard/ca/attestation"
	"bollard/fleet"
	"bollard/tpm/attest"
	"bollard/tpm/device"
	"bollard/tpm/swtpm"
)

// attestationRig is the door of a rig with a station and its one-time secret.
type attestationRig struct {
	*rig
	est    *estDoor
	base   string
	user   credentials
	server *maker // of the door's own certificate
}

func newAttestationRig(t *testing.T) *attestationRig {
	t.Helper()
	return attestationOn(t, newRig(t))
}

func attestationOn(t *testing.T, r *rig) *attestationRig {
	t.Helper()
	if err := r.auth.Create(t.Context(), ca.KindAttestation, "operator"); err != nil {
		t.Fatal(err)
	}
	d := &attestationRig{rig: r, est: r.est()}
	// The public client goes by the clock of this machine, and a year passes here.
	key := newKey(t)
	d.server = newMaker(t, r.clock())
	leaf := d.server.Issue(&x509.Certificate{
		DNSNames: []string{"localhost"}, NotBefore: r.clock().AddDate(0, 0, -1), NotAfter: r.clock().AddDate(19, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, key)
	shown := &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}
	handler, err := attestation.New(attestation.Config{Registrar: d.est.registrar, Clock: r.clock, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	at := r.listen(handler, func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return shown, nil })
	d.base = "https://localhost" + at[strings.LastIndex(at, ":"):] + strings.TrimSuffix(attestation.Prefix, "/")
	r.add(fleet.Enrolment{Identity: "CS-1", Serial: "SN-1", Profile: 2})
	r.add(fleet.Enrolment{Identity: "CS-2", Serial: "SN-2", Profile: 2})
	d.user = d.est.secret("CS-1")
	return d
}

// machine starts a TPM, and returns its socket too.
func machine(t *testing.T) (*device.Device, string) {
	t.Helper()
	tpm, socket, stop, err := swtpm.StartAlone(context.WithoutCancel(t.Context()))
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return device.New(tpm), socket
}

// ask makes one of the two requests.
func (d *attestationRig) ask(operation string, body any, shown credentials) (int, []byte) {
	d.t.Helper()
	text, ok := body.([]byte)
	if !ok {
		var err error
		if text, err = json.Marshal(body); err != nil {
			d.t.Fatal(err)
		}
	}
	q, err := http.NewRequestWithContext(d.t.Context(), http.MethodPost, d.base+"/"+operation, bytes.NewReader(text))
	if err != nil {
		d.t.Fatal(err)
	}
	if shown.user != "" {
		q.SetBasicAuth(shown.user, shown.secret)
	}
	trusted := x509.NewCertPool()
	trusted.AddCert(d.server.Cert)
	cfg := &tls.Config{RootCAs: trusted, ServerName: "localhost", Time: d.clock}
	resp, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}, Timeout: 30 * time.Second}).Do(q)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return resp.StatusCode, answer
}

// said is what a machine asks with.
func said(t testing.TB, m *device.Device, certificates ...[]byte) (map[string]any, attest.EK) {
	t.Helper()
	public, err := m.EK()
	if err != nil {
		t.Fatal(err)
	}
	ek, err := attest.NewEK(public)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	ak, err := m.AK()
	if err != nil {
		t.Fatal(err)
	}
	return map[string]any{"ek": spki, "ekCerts": certificates, "params": map[string]any{"public": ak}}, ek
}

// enrol goes through both requests, and returns the chain or the refusal's status.
func (d *attestationRig) enrol(m *device.Device, shown credentials, certificates ...[]byte) ([]*x509.Certificate, int) {
	d.t.Helper()
	asked, _ := said(d.t, m, certificates...)
	status, answer := d.ask("attest", asked, shown)
	if status != http.StatusOK {
		return nil, status
	}
	var c struct{ Credential, Secret []byte }
	if err := json.Unmarshal(answer, &c); err != nil {
		d.t.Fatal(err)
	}
	secret, err := m.Activate(c.Credential, c.Secret)
	if err != nil {
		d.t.Fatal(err)
	}
	status, answer = d.ask("secret", map[string]any{"secret": secret}, shown)
	if status != http.StatusOK {
		return nil, status
	}
	var got struct{ Chain [][]byte }
	if err := json.Unmarshal(answer, &got); err != nil {
		d.t.Fatal(err)
	}
	var chain []*x509.Certificate
	for _, der := range got.Chain {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			d.t.Fatal(err)
		}
		chain = append(chain, cert)
	}
	return chain, status
}

func (d *attestationRig) register(identity string, ek attest.EK) {
	d.t.Helper()
	if _, err := d.svc.SetEK(d.t.Context(), "operator", identity, ek.Hash()); err != nil {
		d.t.Fatal(err)
	}
}

// A station gets a certificate for the attestation key of the TPM it is known by, and
// of no other; the same one again, until it is due.
func TestAttestationKeyOfTheRegisteredTPM(t *testing.T) {
	t.Parallel()
	d := newAttestationRig(t)
	mine, _ := machine(t)
	other, _ := machine(t)
	_, ek := said(t, mine)
	if _, status := d.enrol(mine, d.user); status != http.StatusForbidden {
		t.Errorf("a TPM that nobody knows: %d", status)
	}
	d.register("CS-1", ek)
	chain, status := d.enrol(mine, d.user)
	if status != http.StatusOK {
		t.Fatalf("%d\n%s", status, d.logged())
	}
	key, err := attest.Certificate(chain, d.auth.Roots(ca.KindAttestation), d.clock())
	if err != nil {
		t.Fatal(err)
	}
	area, err := mine.AK()
	if err != nil {
		t.Fatal(err)
	}
	ak, err := attest.ParseAK(area)
	if err != nil {
		t.Fatal(err)
	}
	if same, ok := key.(interface{ Equal(any) bool }); ok && !same.Equal(ak.Public()) {
		t.Error("the certificate is of another key")
	}
	leaf := chain[0]
	if leaf.Subject.CommonName != "SN-1" || !slices.ContainsFunc(leaf.Extensions, func(e pkix.Extension) bool {
		return e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 17}) && bytes.Contains(e.Value, []byte("\x0c\x04SN-1"))
	}) {
		t.Errorf("subject %s, extensions %v", leaf.Subject, leaf.Extensions)
	}
	again, _ := d.enrol(mine, d.user)
	if len(again) == 0 || !again[0].Equal(leaf) {
		t.Error("an answer that got lost isn't given again")
	}
	if _, status := d.enrol(other, d.user); status != http.StatusForbidden {
		t.Errorf("another TPM: %d", status)
	}
	if _, status := d.enrol(mine, d.est.secret("CS-2")); status != http.StatusForbidden {
		t.Errorf("another station with this TPM: %d", status)
	}
	if _, err := d.svc.SetEK(t.Context(), "operator", "CS-2", ek.Hash()); err == nil {
		t.Error("one TPM became two stations'")
	}
	// What was issued stands in the ledger, with its station.
	issued := d.events("certificate.issued")
	if last := issued[len(issued)-1]; last.Data["profile"] != ca.ProfileAttestation || last.Data["station"] != "cs-1" {
		t.Errorf("the newest entry: %v", last.Data)
	}
	d.advance(300 * 24 * time.Hour)
	renewed, status := d.enrol(mine, d.est.secret("CS-1"))
	if status != http.StatusOK || renewed[0].Equal(leaf) {
		t.Errorf("%d: not renewed when it is due", status)
	}
}

// Without its EK registered a station may come with a TPM of a trusted manufacturer,
// and is known by that one afterwards.
func TestAttestationKeyOfATrustedManufacturer(t *testing.T) {
	t.Parallel()
	d := newAttestationRig(t)
	maker := newMaker(t, d.clock())
	d.trustFor("tpm", maker)
	endorsed := func(m *device.Device) []byte {
		public, err := m.EK()
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
			SerialNumber: big.NewInt(9), NotBefore: d.clock().AddDate(0, -1, 0), NotAfter: d.clock().AddDate(9, 0, 0),
			KeyUsage: x509.KeyUsageKeyAgreement, UnknownExtKeyUsage: []asn1.ObjectIdentifier{{2, 23, 133, 8, 1}},
		}, maker.Cert, public, maker.Key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	first, _ := machine(t)
	second, _ := machine(t)
	if _, status := d.enrol(first, d.user); status != http.StatusForbidden {
		t.Errorf("without its certificate: %d", status)
	}
	if _, status := d.enrol(first, d.user, endorsed(second)); status != http.StatusForbidden {
		t.Errorf("with another TPM's certificate: %d", status)
	}
	if _, status := d.enrol(first, d.user, endorsed(first)); status != http.StatusOK {
		t.Fatalf("%d\n%s", status, d.logged())
	}
	_, ek := said(t, first)
	if st := d.station("CS-1"); st.EK != ek.Hash() {
		t.Errorf("known by %q", st.EK)
	}
	if _, status := d.enrol(second, d.user, endorsed(second)); status != http.StatusForbidden {
		t.Errorf("a second TPM of the manufacturer: %d", status)
	}
	if _, status := d.enrol(first, d.est.secret("CS-2"), endorsed(first)); status != http.StatusForbidden {
		t.Errorf("a second station with one TPM: %d", status)
	}
}

// What is malformed, unproven, late, wrong or said twice gets nothing.
func TestAttestationDoorRefuses(t *testing.T) {
	t.Parallel()
	d := newAttestationRig(t)
	m, _ := machine(t)
	good, ek := said(t, m)
	d.register("CS-1", ek)
	with := func(key string, value any) map[string]any {
		out := map[string]any{}
		for k, v := range good {
			out[k] = v
		}
		out[key] = value
		return out
	}
	for name, tt := range map[string]struct {
		operation string
		body      any
		shown     credentials
		status    int
	}{
		"nobody":                   {"attest", good, credentials{}, http.StatusUnauthorized},
		"wrong secret":             {"attest", good, credentials{user: "CS-1", secret: "wrong"}, http.StatusUnauthorized},
		"nobody's secret":          {"secret", map[string]any{}, credentials{}, http.StatusUnauthorized},
		"no JSON":                  {"attest", []byte("{"), d.user, http.StatusBadRequest},
		"too large":                {"attest", bytes.Repeat([]byte(" "), 64<<10), d.user, http.StatusRequestEntityTooLarge},
		"no endorsement key":       {"attest", with("ek", []byte{1}), d.user, http.StatusBadRequest},
		"a broken certificate":     {"attest", with("ekCerts", [][]byte{{0x30}}), d.user, http.StatusBadRequest},
		"certificates without end": {"attest", with("ekCerts", make([][]byte, 7)), d.user, http.StatusBadRequest},
		"no attestation key":       {"attest", with("params", map[string]any{}), d.user, http.StatusBadRequest},
		"a secret before its time": {"secret", map[string]any{"secret": make([]byte, 32)}, d.user, http.StatusForbidden},
		"a path there isn't":       {"other", good, d.user, http.StatusNotFound},
		"a secret that isn't JSON": {"secret", []byte("[]"), d.user, http.StatusBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			if status, answer := d.ask(tt.operation, tt.body, tt.shown); status != tt.status {
				t.Errorf("%d (%s), want %d", status, answer, tt.status)
			}
		})
	}
	open := func() []byte {
		status, answer := d.ask("attest", good, d.user)
		if status != http.StatusOK {
			t.Fatalf("%d: %s", status, answer)
		}
		var c struct{ Credential, Secret []byte }
		if err := json.Unmarshal(answer, &c); err != nil {
			t.Fatal(err)
		}
		secret, err := m.Activate(c.Credential, c.Secret)
		if err != nil {
			t.Fatal(err)
		}
		return secret
	}
	told := func(what string, secret []byte, shown credentials, want int) {
		t.Helper()
		if status, answer := d.ask("secret", map[string]any{"secret": secret}, shown); status != want {
			t.Errorf("%s: %d (%s), want %d", what, status, answer, want)
		}
	}
	secret := open()
	told("another station's secret", secret, d.est.secret("CS-2"), http.StatusForbidden)
	told("a wrong one", make([]byte, 32), d.user, http.StatusForbidden)
	told("the right one after a wrong one", secret, d.user, http.StatusForbidden)
	secret = open()
	d.advance(3 * time.Minute)
	told("a late one", secret, d.user, http.StatusForbidden)
	secret = open()
	d.register("CS-1", otherEK(t))
	told("after the station got another TPM", secret, d.user, http.StatusForbidden)
	d.register("CS-1", ek)
	secret = open()
	told("the right one", secret, d.user, http.StatusOK)
	told("the same again", secret, d.user, http.StatusForbidden)
}

func otherEK(t *testing.T) attest.EK {
	t.Helper()
	ek, err := attest.NewEK(newKey(t).Public())
	if err != nil {
		t.Fatal(err)
	}
	return ek
}

// A public client library gets its certificate at this door, with the one-time secret
// in its URL: RSA keys, as it makes them.
func TestAttestationWithStepsClient(t *testing.T) {
	t.Parallel()
	d := newAttestationRig(t)
	_, socket := machine(t)
	roots := filepath.Join(t.TempDir(), "roots.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: d.server.Cert.Raw})
	if err := os.WriteFile(roots, text, 0o600); err != nil {
		t.Fatal(err)
	}
	tpm, err := steptpm.New(steptpm.WithDeviceName(socket), steptpm.WithStore(storage.NewDirstore(t.TempDir())), steptpm.WithDisableDownload())
	if err != nil {
		t.Fatal(err)
	}
	eks, err := tpm.GetEKs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := eks[0].Public().(*rsa.PublicKey); !ok {
		t.Fatalf("its endorsement key is a %T", eks[0].Public())
	}
	ek, err := attest.NewEK(eks[0].Public())
	if err != nil {
		t.Fatal(err)
	}
	d.register("CS-1", ek)
	ak, err := tpm.CreateAK(t.Context(), "ak")
	if err != nil {
		t.Fatal(err)
	}
	base, err := url.Parse(d.base)
	if err != nil {
		t.Fatal(err)
	}
	base.User = url.UserPassword(d.user.user, d.user.secret)
	client, err := stepattestation.NewClient(base.String(), stepattestation.WithRootsFile(roots))
	if err != nil {
		t.Fatal(err)
	}
	chain, err := client.Attest(t.Context(), tpm, eks[0], ak)
	if err != nil {
		t.Fatalf("%v\n%s", err, d.logged())
	}
	if _, err := attest.Certificate(chain, d.auth.Roots(ca.KindAttestation), d.clock()); err != nil {
		t.Error(err)
	}
	if err := ak.SetCertificateChain(t.Context(), chain); err != nil {
		t.Error(err)
	}
	if !ak.HasValidPermanentIdentifier("SN-1") {
		t.Error("the library doesn't find the serial number in the certificate")
	}
	// And the station's own, over ACME, for a key that the library made and attests.
	a := d.acme()
	c := a.client()
	o := a.order(c, "SN-1")
	key, err := tpm.AttestKey(t.Context(), "ak", "key", steptpm.AttestKeyConfig{Algorithm: "ECDSA", Size: 256, QualifyingData: o.nonce})
	if err != nil {
		t.Fatal(err)
	}
	params, err := key.CertificationParameters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	said := attest.Certified{Public: params.Public, Statement: params.CreateAttestation, Signature: params.CreateSignature}
	if kind := a.answer(c, o, attObj(attest.Evidence{Certified: said, Certificates: chain})); kind != "" {
		t.Fatalf("%s\n%s", kind, d.logged())
	}
	signer, err := key.Signer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.finalize(c, o, signedRequest(t, signer, "SN-1")); err != nil {
		t.Errorf("%v\n%s", err, d.logged())
	}
}
