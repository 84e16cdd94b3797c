package hashdata_test

import (
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"bollard/ca/catest"
	"bollard/ca/hashdata"
	"bollard/ocpp"
)

// The three values are those OpenSSL puts into an OCSP CertID, less the zeros
// OCPP leaves out (M03, M04, TC_M_20).
func TestAgreesWithOpenSSL(t *testing.T) {
	t.Parallel()
	m := catest.NewOutside(t, time.Now())
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
			got, err := hashdata.Of(strings.ToLower(algorithm), cert, m.Cert)
			if err != nil {
				t.Fatal(err)
			}
			if got.HashAlgorithm != algorithm || got.IssuerNameHash != field(string(out), "Issuer Name Hash") || got.IssuerKeyHash != field(string(out), "Issuer Key Hash") ||
				got.SerialNumber != strings.TrimLeft(field(string(out), "Serial Number"), "0") {
				t.Errorf("%s of %s = %+v\n%s", algorithm, name, got, out)
			}
		}
	}
	if _, err := hashdata.Of("SHA1", leaf, m.Cert); err == nil {
		t.Error("SHA-1 is none of OCPP's")
	}
	zero := *m.Cert
	zero.SerialNumber = big.NewInt(0xFFFAB)
	if got, err := hashdata.Of("SHA256", &zero, m.Cert); err != nil || got.SerialNumber != "fffab" {
		t.Errorf("serial = %q, %v", got.SerialNumber, err)
	}
}

// Which certificate a station means, in the spellings and with the faults real ones have.
func TestNames(t *testing.T) { // fact sheet 9.2; M04.FR.06
	t.Parallel()
	m := catest.NewOutside(t, time.Now())
	leaf := m.Leaf(m.Cert.NotBefore.AddDate(1, 0, 0), "SN", nil)
	right, err := hashdata.Of("SHA256", leaf, m.Cert)
	if err != nil {
		t.Fatal(err)
	}
	wrong := strings.Repeat("ab", 32)
	for _, tt := range []struct {
		name       string
		edit       func(*ocpp.CertificateHashData)
		names, may bool
	}{
		{"exact", func(*ocpp.CertificateHashData) {}, true, true},
		{"capitals, zeros and space", func(d *ocpp.CertificateHashData) {
			d.HashAlgorithm, d.IssuerNameHash, d.SerialNumber = " sha256", strings.ToUpper(d.IssuerNameHash)+" ", "000"+strings.ToUpper(d.SerialNumber)
		}, true, true},
		{"a name encoded anew", func(d *ocpp.CertificateHashData) { d.IssuerNameHash = wrong }, true, true},
		{"a key with its algorithm", func(d *ocpp.CertificateHashData) { d.IssuerKeyHash = wrong }, true, true},
		{"both hashes wrong", func(d *ocpp.CertificateHashData) { d.IssuerNameHash, d.IssuerKeyHash = wrong, wrong }, false, false},
		{"another serial number", func(d *ocpp.CertificateHashData) { d.SerialNumber = "ff" }, false, false},
		{"an algorithm nobody knows", func(d *ocpp.CertificateHashData) { d.HashAlgorithm = "MD5" }, false, true},
		{"that and another serial number", func(d *ocpp.CertificateHashData) { d.HashAlgorithm, d.SerialNumber = "MD5", "ff" }, false, false},
	} {
		d := right
		tt.edit(&d)
		if names, may := hashdata.Names(d, leaf, m.Cert), hashdata.MayName(d, leaf, m.Cert); names != tt.names || may != tt.may {
			t.Errorf("%s: names it %t, may %t", tt.name, names, may)
		}
	}
	root, err := hashdata.Of("SHA384", m.Cert, m.Cert)
	if err != nil {
		t.Fatal(err)
	}
	root.IssuerNameHash, root.SerialNumber = strings.ToUpper(root.IssuerNameHash), "7"
	if !hashdata.NamesIssuer(root, leaf) || hashdata.NamesIssuer(root, m.Cert) {
		t.Error("a leaf's issuer isn't known by its name, or a root is taken for its own")
	}
	root.IssuerNameHash = wrong
	if hashdata.NamesIssuer(root, leaf) {
		t.Error("another name is its issuer's")
	}
}
