package fleet_test

import (
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"bollard/fleet"
)

// The three values are those OpenSSL puts into an OCSP CertID, less the zeros
// OCPP leaves out (M03, M04, TC_M_20).
func TestCertificateHashDataAgreesWithOpenSSL(t *testing.T) {
	t.Parallel()
	m := newMaker(t, newRig(t).clock())
	leaf := m.Leaf(m.Cert.NotBefore.AddDate(1, 0, 0), "SN", nil)
	dir := t.TempDir()
	file := func(name string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	issuer := file("issuer.pem", m.Cert.Raw)
	field := func(text, name string) string {
		text = regexp.MustCompile(`\\\n\s*`).ReplaceAllString(text, "") // OpenSSL folds long lines
		found := regexp.MustCompile(name + `: ([0-9A-F]+)`).FindStringSubmatch(text)
		if found == nil {
			t.Fatalf("no %s in %s", name, text)
		}
		return strings.ToLower(found[1])
	}
	for algorithm, flag := range map[string]string{"SHA256": "-sha256", "SHA384": "-sha384", "SHA512": "-sha512"} {
		for name, der := range map[string][]byte{"root": m.Cert.Raw, "leaf": leaf.Raw} {
			out, err := exec.CommandContext(t.Context(), "openssl", "ocsp", flag, "-issuer", issuer, "-cert", file(algorithm+name+".pem", der), "-req_text", "-no_nonce").CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			cert := m.Cert
			if name == "leaf" {
				cert = leaf
			}
			got, err := fleet.CertificateHashData(strings.ToLower(algorithm), cert, m.Cert)
			if err != nil {
				t.Fatal(err)
			}
			if got.HashAlgorithm != algorithm || got.IssuerNameHash != field(string(out), "Issuer Name Hash") || got.IssuerKeyHash != field(string(out), "Issuer Key Hash") ||
				got.SerialNumber != strings.TrimLeft(field(string(out), "Serial Number"), "0") {
				t.Errorf("%s of %s = %+v\n%s", algorithm, name, got, out)
			}
		}
	}
	if _, err := fleet.CertificateHashData("SHA1", leaf, m.Cert); err == nil {
		t.Error("SHA-1 is none of OCPP's")
	}
	zero := *m.Cert
	zero.SerialNumber = big.NewInt(0xFFFAB)
	if got, err := fleet.CertificateHashData("SHA256", &zero, m.Cert); err != nil || got.SerialNumber != "fffab" {
		t.Errorf("serial = %q, %v", got.SerialNumber, err)
	}
}
