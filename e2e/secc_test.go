package e2e_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bollard/ocpp"
	"bollard/station"

	"golang.org/x/crypto/ocsp"
)

// A02, A03, M06, M07: stations of 2.0.1 and 2.1 get their certificates toward cars,
// for each EVSE and edition, under the root they name, and the status of every
// certificate of the chain.
func TestSECCCertificates(t *testing.T) {
	t.Parallel()
	backend := startBackend(t)
	srv := newServer(t, backend.conf())
	roots := map[string]*x509.Certificate{}
	for _, kind := range []string{"v2g", "v2g-20"} {
		list, err := station.ParseCertificates([]byte(srv.cli("ca", "create", kind)))
		if err != nil {
			t.Fatal(err)
		}
		roots[kind] = list[0]
	}
	srv.start()
	pemRoot, err := os.ReadFile(srv.root)
	if err != nil {
		t.Fatal(err)
	}
	csms, err := station.ParseCertificates(pemRoot)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	connect := func(identity string, version ocpp.Version, v2g ...*x509.Certificate) *station.Station {
		t.Helper()
		e := srv.enlist(identity, 2)
		srv.cli("station", "secc", identity, "--add", "DE*E2E*"+identity+"*1", "--evse", "1")
		srv.cli("station", "secc", identity, "--add", "DE*E2E*"+identity+"*2", "--evse", "2")
		st, err := station.New(ctx, station.Config{Identity: identity, Serial: e.serial, Version: version, URL: "wss://" + srv.ocpp + "/ocpp",
			ServerName: "localhost", Password: []byte(e.password), Organisation: "E2E", Roots: csms, V2GRoots: v2g,
			SECCs: []station.SECC{{ID: "DE*E2E*" + identity + "*1", EVSE: 1}, {ID: "DE*E2E*" + identity + "*2", EVSE: 2}}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(st.Close)
		if err := st.Connect(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := st.Boot(ctx); err != nil {
			t.Fatal(err)
		}
		return st
	}
	// A station asks to be certified under one root, so one of both editions is two.
	for _, tt := range []struct {
		identity, kind, hierarchy string
		version                   ocpp.Version
	}{{"secc201", "V2GCertificate", "v2g", ocpp.V201}, {"secc21", "V2GCertificate", "v2g", ocpp.V21}, {"secc20", "V2G20Certificate", "v2g-20", ocpp.V21}} {
		root := roots[tt.hierarchy]
		st := connect(tt.identity, tt.version, root)
		for _, evse := range []string{"*1", "*2"} {
			name := "DE*E2E*" + tt.identity + evse
			var cert tls.Certificate
			eventually(t, name, func() bool {
				var ok bool
				cert, ok = st.SECCCertificate(tt.kind, name)
				return ok
			})
			var chain []*x509.Certificate
			for _, der := range cert.Certificate {
				c, err := x509.ParseCertificate(der)
				if err != nil {
					t.Fatal(err)
				}
				chain = append(chain, c)
			}
			if len(chain) != 3 || chain[0].Subject.CommonName != name {
				t.Fatalf("%s: %d certificates for %s", name, len(chain), chain[0].Subject)
			}
			srv.opensslTakes(t, chain, root)
			if evse == "*1" {
				wantStatuses(ctx, t, st, tt.version, slices.Concat(chain, []*x509.Certificate{root}), ocpp.CertificateGood)
				srv.cli("ca", "revoke", chain[0].SerialNumber.Text(16), "--reason", "superseded")
				wantStatuses(ctx, t, st, tt.version, chain[:2], ocpp.CertificateRevoked)
			}
		}
	}
	for _, c := range backend.of("secc21") {
		for _, frame := range c.received() {
			if strings.Contains(frame, "Certificate") {
				t.Errorf("the back end saw %s", frame)
			}
		}
	}
}

func (s *server) opensslTakes(t *testing.T, chain []*x509.Certificate, root *x509.Certificate) {
	t.Helper()
	file := func(certs ...*x509.Certificate) string {
		var text strings.Builder
		for _, c := range certs {
			if err := pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}); err != nil {
				t.Fatal(err)
			}
		}
		path := filepath.Join(t.TempDir(), "certs.pem")
		s.write(path, text.String())
		return path
	}
	out, err := exec.CommandContext(t.Context(), "openssl", "verify", "-no-CApath", "-no-CAstore", "-purpose", "sslserver",
		"-CAfile", file(root), "-untrusted", file(chain[1:]...), file(chain[0])).CombinedOutput()
	if err != nil {
		t.Errorf("openssl: %v: %s", err, out)
	}
}

// wantStatuses asks about each certificate, whose issuer follows it, as the station's
// version can: by OCSP, and in 2.1 by the list too.
func wantStatuses(ctx context.Context, t *testing.T, st *station.Station, v ocpp.Version, chain []*x509.Certificate, first string) {
	t.Helper()
	const responder = "http://localhost:8080/ocsp"
	for i, cert := range chain[:len(chain)-1] {
		der, err := st.CertificateStatus(ctx, cert, chain[i+1], responder)
		if err != nil {
			t.Errorf("%s: %v", cert.Subject, err)
			continue
		}
		response, err := ocsp.ParseResponseForCert(der, cert, chain[i+1])
		want := map[bool]int{true: ocsp.Good, false: ocsp.Revoked}[i > 0 || first == ocpp.CertificateGood]
		if err != nil || response.Status != want {
			t.Errorf("%s: status %+v, want %d: %v", cert.Subject, response, want, err)
		}
	}
	if v != ocpp.V21 {
		return
	}
	for _, source := range []string{ocpp.SourceOCSP, ocpp.SourceCRL} {
		got, err := st.ChainStatus(ctx, chain, source, responder)
		want := slices.Repeat([]string{ocpp.CertificateGood}, len(chain)-1)
		want[0] = first
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("by %s: %v, want %v: %v", source, got, want, err)
		}
	}
}
