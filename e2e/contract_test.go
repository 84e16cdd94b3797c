package e2e_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	iso15118 "bollard/iso15118/message"
	"bollard/ocpp"
	"bollard/station"
	"bollard/station/ev"
)

// carOf makes a car whose provisioning certificate the server's own OEM hierarchy
// issues.
func (s *server) carOf(p iso15118.Protocol, pcid string) *ev.Car {
	s.t.Helper()
	curve, suffix := elliptic.P256(), ""
	if p == iso15118.ISO20 {
		curve, suffix = elliptic.P521(), "-20"
	}
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		s.t.Fatal(err)
	}
	csr := filepath.Join(s.dir, pcid+suffix+".csr")
	s.write(csr, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})))
	car := &ev.Car{Protocol: p, Key: key, Roots: x509.NewCertPool(), Clock: time.Now}
	if car.Chain, err = station.ParseCertificates([]byte(s.cli("ca", "issue", "--profile", "oem-provisioning"+suffix, "--name", pcid, "--csr", csr))); err != nil {
		s.t.Fatal(err)
	}
	if !car.Roots.AppendCertsFromPEM([]byte(s.cli("ca", "root", "v2g"+suffix))) {
		s.t.Fatal("no V2G root")
	}
	return car
}

// M01, M02: a car gets its contract certificate through stations of each version,
// authorises with it, and gets none any more once the contract is revoked. The back end sees nothing of it.
// C07: with a contract of another provider it is asked, once the certificate is good.
func TestContractCertificate(t *testing.T) {
	t.Parallel()
	backend := startBackend(t)
	srv := newServer(t, backend.conf())
	for _, kind := range []string{"v2g", "mo", "oem", "cps", "v2g-20", "mo-20", "oem-20", "cps-20"} {
		srv.cli("ca", "create", kind)
	}
	const pcid, emaid = "WP0TESTA00000001A3", "NL-EXA-123456789"
	cars := map[iso15118.Protocol]*ev.Car{iso15118.ISO2: srv.carOf(iso15118.ISO2, pcid), iso15118.ISO20: srv.carOf(iso15118.ISO20, pcid)}
	srv.cli("contract", "add", "--emaid", emaid, "--pcid", pcid)
	srv.start()
	pemRoot, err := os.ReadFile(srv.root)
	if err != nil {
		t.Fatal(err)
	}
	roots, err := station.ParseCertificates(pemRoot)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stations := map[ocpp.Version]*station.Station{}
	for identity, version := range map[string]ocpp.Version{"pnc16": ocpp.V16, "pnc201": ocpp.V201, "pnc21": ocpp.V21} {
		e := srv.enlist(identity, 2)
		st, err := station.New(ctx, station.Config{Identity: identity, Serial: e.serial, Version: version, URL: "wss://" + srv.ocpp + "/ocpp",
			ServerName: "localhost", Password: []byte(e.password), Organisation: "E2E", Roots: roots})
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		if err := st.Connect(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := st.Boot(ctx); err != nil {
			t.Fatal(err)
		}
		stations[version] = st
	}
	install := func(v ocpp.Version, p iso15118.Protocol) (*ev.Contract, error) {
		t.Helper()
		car := cars[p]
		exi, err := car.Install()
		if err != nil {
			t.Fatal(err)
		}
		answer, err := stations[v].EVCertificate(ctx, p.Namespace(), ocpp.EVCertificateInstall, exi)
		if err != nil {
			return nil, err
		}
		got, _, err := car.Take(answer, car.Key)
		return got, err
	}
	serials, certificate := map[iso15118.Protocol]string{}, ""
	for _, way := range []struct {
		version  ocpp.Version
		protocol iso15118.Protocol
	}{{ocpp.V201, iso15118.ISO2}, {ocpp.V21, iso15118.ISO20}, {ocpp.V21, iso15118.ISO2}, {ocpp.V16, iso15118.ISO2}} {
		got, err := install(way.version, way.protocol)
		if err != nil {
			t.Errorf("%s over %s: %v", way.protocol, way.version, err)
			continue
		}
		if !strings.HasPrefix(got.EMAID, "NLEXA123456789") {
			t.Errorf("%s over %s: a contract of %s", way.protocol, way.version, got.EMAID)
		}
		serial := got.Chain[0].SerialNumber.Text(16)
		if known := serials[way.protocol]; known != "" && known != serial {
			t.Errorf("%s over %s: a second certificate for one car", way.protocol, way.version)
		}
		serials[way.protocol] = serial
		if way.protocol == iso15118.ISO2 {
			certificate = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: got.Chain[0].Raw}))
		}
	}
	authorise := func(account, certificate, want, chain string) {
		t.Helper()
		raw, err := stations[ocpp.V201].Call(ctx, ocpp.ActionAuthorize, ocpp.AuthorizeRequest{IDToken: ocpp.IDToken{IDToken: account, Type: "eMAID"}, Certificate: certificate})
		var answer ocpp.AuthorizeResponse
		if err == nil {
			err = json.Unmarshal(raw, &answer)
		}
		if err != nil || answer.IDTokenInfo.Status != want || answer.CertificateStatus != chain {
			t.Errorf("authorised: %+v, want %s, %s: %v", answer, want, chain, err)
		}
	}
	authorise("NLEXA123456789", certificate, "Accepted", "Accepted")
	srv.cli("contract", "revoke", emaid)
	authorise("NLEXA123456789", certificate, "Blocked", "ContractCancelled")

	// Another provider's: verified here, and the back end decides about those that are good.
	root, good, expired := otherProvider(t, "DEOTHC00000001")
	authorise("DEOTHC00000001", expired, "Accepted", "") // nobody trusts it yet
	file := filepath.Join(srv.dir, "provider.pem")
	srv.write(file, root)
	srv.cli("ca", "trust", "add", "--use", "mo", file)
	authorise("DEOTHC00000001", expired, "Expired", "CertificateExpired")
	authorise("DEOTHC00000001", good, "Accepted", "Accepted")
	seen := 0
	for _, c := range backend.of("pnc201") {
		for _, frame := range c.received() {
			if strings.Contains(frame, `"Authorize"`) {
				seen++
			}
		}
	}
	if seen != 2 {
		t.Errorf("the back end was asked about %d accounts", seen)
	}
	for p, serial := range serials {
		if got := srv.certificates("--profile", map[iso15118.Protocol]string{iso15118.ISO2: "contract", iso15118.ISO20: "contract-20"}[p]); len(got) != 1 || got[0].Serial != serial || got[0].State != "revoked" {
			t.Errorf("%s: %+v", p, got)
		}
		if _, err := install(ocpp.V21, p); !errors.Is(err, ev.ErrRefused) {
			t.Errorf("%s after the revocation: %v", p, err)
		}
	}
	for _, identity := range []string{"pnc16", "pnc201", "pnc21"} {
		for _, c := range backend.of(identity) {
			for _, frame := range c.received() {
				if strings.Contains(frame, ocpp.ActionGet15118EVCertificate) {
					t.Errorf("the back end saw %s", frame)
				}
			}
		}
	}
	for _, secret := range []string{"NLEXA123456789", "DEOTHC00000001", emaid, pcid} {
		if strings.Contains(srv.proc.log.String(), secret) {
			t.Errorf("the log names %s", secret)
		}
	}
}

// otherProvider is a root, and with it a certificate of an account that is good and one
// that has expired.
func otherProvider(t *testing.T, account string) (root, good, expired string) {
	t.Helper()
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Other MO"}, NotBefore: now.Add(-48 * time.Hour), NotAfter: now.AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	certify := func(child *x509.Certificate) string {
		der, err := x509.CreateCertificate(rand.Reader, child, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: account}, NotBefore: now.Add(-48 * time.Hour), NotAfter: now.AddDate(0, 6, 0), KeyUsage: x509.KeyUsageDigitalSignature}
	root, good = certify(template), certify(leaf)
	leaf.NotAfter = now.Add(-time.Hour)
	return root, good, certify(leaf)
}
