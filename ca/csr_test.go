package ca_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bollard/ca"
)

func vector(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "csr", name+".pem"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func derOf(t testing.TB, data []byte) []byte {
	t.Helper()
	block, _ := pem.Decode(data)
	if block == nil {
		t.Fatal("no PEM block")
	}
	return block.Bytes
}

// A00.FR.501 to .504: the keys and signatures of requests made by OpenSSL.
func TestParseCSRKeyPolicy(t *testing.T) {
	t.Parallel()
	tests := []struct {
		file   string
		fault  ca.CSRFault
		reason string
	}{
		{"ec-prime256v1", "", ""},
		{"ec-secp384r1", "", ""},
		{"ec-secp521r1", "", ""},
		{"rsa2048", "", ""},
		{"rsa2048-pss", "", ""},
		{"ec-secp256k1", ca.CSRKey, "1.3.132.0.10 isn't allowed"},
		{"ec-secp224r1", "", ""},
		{"ec-brainpoolP256r1", ca.CSRKey, "isn't allowed"},
		{"ec-explicit", ca.CSRKey, "isn't a named one"},
		{"ed25519", ca.CSRKey, "1.3.101.112 isn't allowed"},
		{"rsa-pss-only", ca.CSRKey, "1.2.840.113549.1.1.10 isn't allowed"},
		{"rsa1024", ca.CSRKey, "1024 bits is too short"},
		{"rsa8192", ca.CSRKey, "8192 bits is too long"},
		{"rsa-e3", ca.CSRKey, "exponent 3"},
		{"rsa-md5", ca.CSRSignatureAlgorithm, "1.2.840.113549.1.1.4 isn't allowed"},
		{"rsa-sha1", ca.CSRSignatureAlgorithm, "1.2.840.113549.1.1.5 isn't allowed"},
	}
	for _, tt := range tests {
		t.Run(tt.file, func(t *testing.T) {
			t.Parallel()
			csr, err := ca.ParseCSR(vector(t, tt.file))
			if tt.fault == "" {
				if err != nil || csr.Key.Hash() == "" || csr.CommonName != "SN-1" {
					t.Errorf("got %+v, %v", csr, err)
				}
				return
			}
			wantFault(t, err, tt.fault, tt.reason)
			if csr.Key.Public() != nil {
				t.Error("a refused request gave a proven key")
			}
		})
	}
}

func wantFault(t *testing.T, err error, fault ca.CSRFault, reason string) {
	t.Helper()
	var refused *ca.CSRError
	if !errors.As(err, &refused) || refused.Fault != fault || !strings.Contains(refused.Reason, reason) {
		t.Errorf("got %v, want fault %q with %q", err, fault, reason)
	}
	if err != nil && (strings.Contains(err.Error(), "SN-1") || strings.Contains(err.Error(), "Example")) {
		t.Errorf("the error quotes the request: %v", err)
	}
}

func TestParseCSRForms(t *testing.T) {
	t.Parallel()
	armoured := vector(t, "ec-prime256v1")
	der := derOf(t, armoured)
	digits := hex.EncodeToString(der)
	crlf := strings.ReplaceAll(string(armoured), "\n", "\r\n")
	accepted := map[string]string{
		"pem":                 string(armoured),
		"pem without newline": strings.TrimSpace(string(armoured)),
		"pem with spaces":     "\r\n  " + string(armoured) + "\n\n ",
		"crlf":                crlf,
		"new":                 strings.ReplaceAll(string(armoured), "CERTIFICATE", "NEW CERTIFICATE"),
		"der":                 string(der),
		"hex":                 digits,
		"hex upper case":      strings.ToUpper(digits),
		"hex with newline":    digits + "\n",
	}
	for name, form := range accepted {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			csr, err := ca.ParseCSR([]byte(form))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(csr.DER, der) {
				t.Error("another DER")
			}
		})
	}
	forged := bytes.Clone(der)
	forged[len(forged)-1] ^= 1
	other := bytes.Replace(der, []byte("SN-1"), []byte("SN-2"), 1)
	refused := []struct {
		name, form string
		fault      ca.CSRFault
	}{
		{"empty", "", ca.CSRForm},
		{"blank", " \r\n", ca.CSRForm},
		{"prose", "please sign", ca.CSRForm},
		{"two blocks", string(armoured) + string(armoured), ca.CSRForm},
		{"damaged block first", "-----BEGIN X-----\n!\n-----END X-----\n" + string(armoured), ca.CSRForm},
		{"text after", string(armoured) + "x", ca.CSRForm},
		{"text before", "x\n" + string(armoured), ca.CSRForm},
		{"another type", strings.ReplaceAll(string(armoured), "CERTIFICATE REQUEST", "CERTIFICATE"), ca.CSRForm},
		{"cut armour", string(armoured[:100]), ca.CSRForm},
		{"odd hex", digits[1:], ca.CSRForm},
		{"der with more behind", string(der) + "\x00", ca.CSRMalformed},
		{"der cut", string(der[:len(der)-1]), ca.CSRMalformed},
		{"hex of nonsense", "deadbeef", ca.CSRMalformed},
		{"too large", strings.Repeat("a", 8<<10+1), ca.CSRTooLarge},
		{"forged signature", string(forged), ca.CSRSignature},
		{"another name under the signature", string(other), ca.CSRSignature},
	}
	for _, tt := range refused {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := ca.ParseCSR([]byte(tt.form))
			wantFault(t, err, tt.fault, "")
		})
	}
}

// Promise 5: whatever a request asks for, the certificate says what the
// profile and the station's record say.
func TestCertificateTakesOnlyTheKeyFromTheRequest(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	link, _ := url.Parse("https://csms.example.com")
	extension := func(id asn1.ObjectIdentifier, critical bool, value any) pkix.Extension {
		der, err := asn1.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		return pkix.Extension{Id: id, Critical: critical, Value: der}
	}
	caTrue := extension(asn1.ObjectIdentifier{2, 5, 29, 19}, true, struct {
		CA bool
	}{true})
	serverAuth := extension(asn1.ObjectIdentifier{2, 5, 29, 37}, false, []asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 1}})
	tests := []struct {
		name    string
		request x509.CertificateRequest
	}{
		{"other CN", x509.CertificateRequest{Subject: pkix.Name{CommonName: "SN-9999"}}},
		{"other organisation", x509.CertificateRequest{Subject: pkix.Name{CommonName: "SN-0001", Organization: []string{"Mallory"}}}},
		{"host name as CN", x509.CertificateRequest{Subject: pkix.Name{CommonName: "csms.example.com"}}},
		{"wildcard", x509.CertificateRequest{DNSNames: []string{"*.example.com"}}},
		{"SAN DNS", x509.CertificateRequest{DNSNames: []string{"csms.example.com"}}},
		{"SAN IP", x509.CertificateRequest{IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1)}}},
		{"SAN URI", x509.CertificateRequest{URIs: []*url.URL{link}}},
		{"SAN e-mail", x509.CertificateRequest{EmailAddresses: []string{"a@example.com"}}},
		{"CA:TRUE", x509.CertificateRequest{ExtraExtensions: []pkix.Extension{caTrue}}},
		{"serverAuth", x509.CertificateRequest{ExtraExtensions: []pkix.Extension{serverAuth}}},
		{"certSign", x509.CertificateRequest{ExtraExtensions: []pkix.Extension{
			extension(asn1.ObjectIdentifier{2, 5, 29, 15}, true, asn1.BitString{Bytes: []byte{0x06}, BitLength: 7}),
		}}},
		{"unknown critical extension", x509.CertificateRequest{ExtraExtensions: []pkix.Extension{
			extension(asn1.ObjectIdentifier{1, 2, 3, 4}, true, "x"),
		}}},
		{"huge extension", x509.CertificateRequest{ExtraExtensions: []pkix.Extension{
			extension(asn1.ObjectIdentifier{1, 2, 3, 4}, false, make([]byte, 4000)),
		}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			key := newKey(t)
			csr, err := ca.ParseCSR(request(t, key, &tt.request))
			if err != nil {
				t.Fatal(err)
			}
			cert := r.issue(t, ca.Order{
				Profile: ca.ProfileStation, Key: csr.Key, Subject: ca.Subject{CommonName: "SN-0001"},
				Station: "cs-" + strings.ReplaceAll(tt.name, " ", "-"), Requester: "station",
			}).Certificate
			wantStationCertificate(t, cert, "SN-0001")
			if !key.PublicKey.Equal(cert.PublicKey) {
				t.Error("another key than the request's")
			}
		})
	}
	t.Run("duplicate extension", func(t *testing.T) {
		t.Parallel()
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{ExtraExtensions: []pkix.Extension{caTrue, caTrue}}, newKey(t))
		if err != nil {
			t.Fatal(err)
		}
		_, err = ca.ParseCSR(der)
		wantFault(t, err, ca.CSRMalformed, "")
	})
}

// wantStationCertificate checks every byte that isn't key, serial, date or
// signature: the subject as encoded, and the exact extensions.
func wantStationCertificate(t *testing.T, cert *x509.Certificate, serial string) {
	t.Helper()
	subject, err := asn1.Marshal(pkix.Name{CommonName: serial, Organization: []string{"Example CPO"}}.ToRDNSequence())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(cert.RawSubject, subject) {
		t.Errorf("subject %s", cert.Subject)
	}
	want := map[string]string{
		"2.5.29.15": "03020780", // keyUsage: digitalSignature
		"2.5.29.19": "3000",     // basicConstraints: no CA
		"2.5.29.14": "0414" + hex.EncodeToString(cert.SubjectKeyId),
		"2.5.29.35": "30168014" + hex.EncodeToString(cert.AuthorityKeyId),
	}
	for _, e := range cert.Extensions {
		if value, ok := want[e.Id.String()]; !ok || hex.EncodeToString(e.Value) != value {
			t.Errorf("extension %s is %x", e.Id, e.Value)
		}
		delete(want, e.Id.String())
	}
	if len(want) != 0 {
		t.Errorf("missing extensions: %v", want)
	}
}

func FuzzParseCSR(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("testdata", "csr", "*.pem"))
	if err != nil || len(files) == 0 {
		f.Fatal("no seeds", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		der := derOf(f, data)
		f.Add(der)
		f.Add([]byte(hex.EncodeToString(der)))
	}
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n-----END CERTIFICATE REQUEST-----"))
	f.Add([]byte{0x30, 0x80})
	f.Fuzz(func(t *testing.T, data []byte) {
		csr, err := ca.ParseCSR(data)
		if err != nil {
			var refused *ca.CSRError
			if !errors.As(err, &refused) || refused.Reason == "" {
				t.Fatalf("untyped refusal: %v", err)
			}
			return
		}
		// What was taken is a request whose signature verifies, and taking it again agrees.
		req, err := x509.ParseCertificateRequest(csr.DER)
		if err != nil || req.CheckSignature() != nil {
			t.Fatalf("an unproven key was taken: %v", err)
		}
		again, err := ca.ParseCSR(csr.DER)
		if err != nil || again.Key.Hash() != csr.Key.Hash() {
			t.Fatalf("second reading differs: %v", err)
		}
	})
}
