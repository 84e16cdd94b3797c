package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	acmeclient "golang.org/x/crypto/acme"

	"bollard/admin"
	"bollard/ocpp"
	"bollard/station"
	"bollard/tpm/device"
)

// sign has a station's session ask for a certificate, and returns the answer's status.
func (y *yard) sign(st *station.Station, der []byte) string {
	y.t.Helper()
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	answer, err := st.Call(y.t.Context(), "SignCertificate", map[string]any{"csr": string(text)})
	if err != nil {
		y.t.Fatal(err)
	}
	var out struct{ Status string }
	if err := json.Unmarshal(answer, &out); err != nil {
		y.t.Fatal(err)
	}
	return out.Status
}

// certificate is one on record.
func (y *yard) certificate(serial string) (admin.Certificate, *x509.Certificate) {
	y.t.Helper()
	shown := ask[admin.CertificateRef, admin.Certificate](y, "cert.show", admin.CertificateRef{Serial: serial})
	block, _ := pem.Decode([]byte(shown.PEM))
	if block == nil {
		y.t.Fatalf("%+v", shown)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		y.t.Fatal(err)
	}
	return shown, cert
}

// overACME orders a station's certificate by what a TPM says of a key.
func (y *yard) overACME(serial string, tpm *device.Device, ak *x509.Certificate) (*x509.Certificate, error) {
	y.t.Helper()
	_, port, err := net.SplitHostPort(y.at.PKI)
	if err != nil {
		y.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	for _, root := range y.roots {
		roots.AddCert(root)
	}
	account, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		y.t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	y.t.Cleanup(transport.CloseIdleConnections)
	c := &acmeclient.Client{Key: account, HTTPClient: &http.Client{Transport: transport, Timeout: patience}, DirectoryURL: "https://localhost:" + port + "/acme/stations/directory"}
	ctx := y.t.Context()
	if _, err := c.Register(ctx, &acmeclient.Account{}, acmeclient.AcceptTOS); err != nil {
		return nil, err
	}
	order, err := c.AuthorizeOrder(ctx, []acmeclient.AuthzID{{Type: "permanent-identifier", Value: serial}})
	if err != nil {
		return nil, err
	}
	z, err := c.GetAuthorization(ctx, order.AuthzURLs[0])
	if err != nil {
		return nil, err
	}
	text, err := c.HTTP01ChallengeResponse(z.Challenges[0].Token) // the key authorization
	if err != nil {
		y.t.Fatal(err)
	}
	nonce := sha256.Sum256([]byte(text))
	key, err := tpm.NewKey()
	if err != nil {
		y.t.Fatal(err)
	}
	said, err := key.Certify(nonce[:])
	if err != nil {
		y.t.Fatal(err)
	}
	object, err := cbor.Marshal(map[string]any{"fmt": "tpm", "attStmt": map[string]any{
		"ver": "2.0", "alg": -7, "x5c": [][]byte{ak.Raw}, "sig": said.Signature, "certInfo": said.Statement, "pubArea": said.Public,
	}})
	if err != nil {
		y.t.Fatal(err)
	}
	z.Challenges[0].Payload = fmt.Appendf(nil, `{"attObj":%q}`, base64.RawURLEncoding.EncodeToString(object))
	answered, err := c.Accept(ctx, z.Challenges[0])
	if err != nil {
		return nil, err
	}
	if answered.Error != nil {
		return nil, answered.Error
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: serial}}, key)
	if err != nil {
		y.t.Fatal(err)
	}
	chain, _, err := c.CreateOrderCert(ctx, order.FinalizeURL, der, true)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(chain[0])
}

// A station whose TPM makes its keys enrols with them over OCPP and over ACME, against a
// running server; with another TPM's statement it gets nothing, nor with none where
// attested keys are wanted. A station without a TPM has what it ever had.
func TestStationsWithAttestedKeys(t *testing.T) { // promise 5
	t.Parallel()
	const attested, other = "1.3.6.1.4.1.99999.1.1", "1.3.6.1.4.1.99999.1.2"
	y := newYard(t, "assurance: {attested: "+attested+", other: "+other+"}\n")
	policies := func(cert *x509.Certificate) (list []string) {
		for _, p := range cert.Policies {
			list = append(list, p.String())
		}
		return list
	}
	plain := y.charger("plain", ocpp.V201, nil)
	y.must("station", "profile", "plain", "3")
	y.await(plain, "it is on its certificate", func(s station.State) bool { return s.Profile == 3 && s.Connected })
	if shown, cert := y.certificate(plain.State().Certificate); shown.Attested != "" || !slices.Equal(policies(cert), []string{other}) {
		t.Errorf("a station without a TPM: %q, %v", shown.Attested, cert.Policies)
	}

	y.must("ca", "create", "attestation")
	y.must("fleet", "want", "--group", "proven", "--attested", "yes")
	tpm, ek := chip(t)
	st := y.charger("proven", ocpp.V16, func(c *station.Config) {
		c.TPM, c.PKI, c.Key = tpm, "https://"+y.at.PKI, station.TPMKey
		c.EnrolSecret = []byte("not yet")
	})
	y.quoted(st, "401")
	y.must("station", "group", "proven", "proven")
	ask[admin.StationTPM, admin.Station](y, "station.tpm", admin.StationTPM{Identity: "proven", EK: &ek})
	st.Enrol([]byte(ask[admin.EnrolSecret, admin.NewEnrolSecret](y, "station.enrol-secret", admin.EnrolSecret{Identity: "proven", Valid: time.Hour}).Secret))
	if answer, err := y.send("proven", "Reset", map[string]any{"type": "Hard"}); err != nil || answer["status"] != "Accepted" {
		t.Fatalf("reset: %v, %v", answer, err)
	}
	y.quoted(st, "unknown") // its attestation key has its certificate now
	list := ask[admin.CertificateFilter, admin.Certificates](y, "cert.list", admin.CertificateFilter{Station: "proven", Profile: "attestation-key"})
	if len(list.Certificates) != 1 {
		t.Fatalf("%+v", list)
	}
	_, ak := y.certificate(list.Certificates[0].Serial)
	subject := pkix.Name{CommonName: "SN-proven", Organization: []string{"Example CPO"}}

	// Another TPM's statement, and none.
	stranger, _ := chip(t)
	made, err := stranger.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	der, err := made.Request(subject, ak)
	if err != nil {
		t.Fatal(err)
	}
	if got := y.sign(st, der); got != "Rejected" {
		t.Errorf("another TPM's statement: %s", got)
	}
	if der, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: subject}, made); err != nil {
		t.Fatal(err)
	}
	if got := y.sign(st, der); got != "Rejected" {
		t.Errorf("no statement: %s", got)
	}
	var refused *acmeclient.Error
	if _, err := y.overACME("SN-proven", stranger, ak); !errors.As(err, &refused) || !strings.HasSuffix(refused.ProblemType, ":badAttestationStatement") {
		t.Errorf("another TPM's statement over ACME: %v", err)
	}
	if _, err := y.overACME("SN-plain", tpm, ak); !errors.As(err, &refused) || !strings.HasSuffix(refused.ProblemType, ":badAttestationStatement") {
		t.Errorf("for another station: %v", err)
	}

	y.must("station", "profile", "proven", "3")
	y.await(st, "it is on its certificate", func(s station.State) bool { return s.Profile == 3 && s.Connected && s.Registration == "Accepted" })
	for what, get := range map[string]func() string{
		"OCPP": func() string { return st.State().Certificate },
		"ACME": func() string {
			cert, err := y.overACME("SN-proven", tpm, ak)
			if err != nil {
				t.Fatal(err)
			}
			return fmt.Sprintf("%x", cert.SerialNumber)
		},
	} {
		shown, cert := y.certificate(get())
		if shown.Attested != list.Certificates[0].Serial || !slices.Equal(policies(cert), []string{attested}) || cert.Subject.CommonName != "SN-proven" || shown.Station != "proven" {
			t.Errorf("%s: %+v, %v", what, shown, cert.Policies)
		}
	}
	if shown := y.must("station", "show", "proven"); !strings.Contains(shown, "attested by the key of certificate "+list.Certificates[0].Serial) {
		t.Errorf("shown is\n%s", shown)
	}
	var kinds []string
	for line := range strings.Lines(y.must("ledger", "export")) {
		var e struct{ Kind string }
		if json.Unmarshal([]byte(line), &e) == nil && (e.Kind == "station.unattested" || e.Kind == "acme.refused" || e.Kind == "acme.issued") {
			kinds = append(kinds, e.Kind)
		}
	}
	slices.Sort(kinds)
	if got, want := strings.Join(kinds, " "), "acme.issued acme.refused acme.refused station.unattested station.unattested"; got != want {
		t.Errorf("the ledger has %s, want %s", got, want)
	}
}
