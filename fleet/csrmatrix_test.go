package fleet_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bollard/fleet"
	"bollard/ocpp"
)

// requested is what a request asks for, and whether policy lets it through.
type requested struct {
	template x509.CertificateRequest
	edit     func(der []byte) []byte
	refused  bool
}

func derOf(t testing.TB, value any) []byte {
	t.Helper()
	der, err := asn1.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// requestMatrix are requests for serial number SN-x, named as the issue lists them.
func requestMatrix(t testing.TB, serial string) map[string]requested {
	t.Helper()
	name := pkix.Name{CommonName: serial, Organization: []string{organisation}}
	link, err := url.Parse("https://csms.example.com/x")
	if err != nil {
		t.Fatal(err)
	}
	ext := func(critical bool, value any, arcs ...int) pkix.Extension {
		return pkix.Extension{Id: arcs, Critical: critical, Value: derOf(t, value)}
	}
	with := func(extensions ...pkix.Extension) requested {
		return requested{template: x509.CertificateRequest{Subject: name, ExtraExtensions: extensions}}
	}
	caTrue := ext(true, struct{ CA bool }{true}, 2, 5, 29, 19)
	sanOf := func(tag int, value []byte) pkix.Extension {
		return ext(false, []asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: value}}, 2, 5, 29, 17)
	}
	return map[string]requested{
		"as it should be": {template: x509.CertificateRequest{Subject: name}},
		"more of a subject": {template: x509.CertificateRequest{Subject: pkix.Name{
			CommonName: serial, Organization: []string{organisation}, Country: []string{"XX"}, OrganizationalUnit: []string{"Admins"}, SerialNumber: "7"}}},
		"SAN DNS":           {template: x509.CertificateRequest{Subject: name, DNSNames: []string{"csms.example.com"}}},
		"SAN wildcard":      {template: x509.CertificateRequest{Subject: name, DNSNames: []string{"*.example.com"}}},
		"SAN IP":            {template: x509.CertificateRequest{Subject: name, IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1)}}},
		"SAN URI":           {template: x509.CertificateRequest{Subject: name, URIs: []*url.URL{link}}},
		"SAN e-mail":        {template: x509.CertificateRequest{Subject: name, EmailAddresses: []string{"a@example.com"}}},
		"SAN other name":    with(sanOf(0, derOf(t, asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3}))),
		"SAN registered ID": with(sanOf(8, []byte{0x2a, 3, 4})),
		"CA:TRUE":           {template: with(caTrue).template, refused: true},
		"CA:TRUE and a length": {template: with(ext(false, struct {
			CA     bool
			Length int
		}{true, 3}, 2, 5, 29, 19)).template, refused: true},
		"CA that can't be read": {template: with(ext(true, "x", 2, 5, 29, 19)).template, refused: true},
		"CA:FALSE":              with(ext(true, struct{}{}, 2, 5, 29, 19)),
		"CA:FALSE, spelled out": with(ext(true, struct{ CA bool }{false}, 2, 5, 29, 19)),
		"certSign":              with(ext(true, asn1.BitString{Bytes: []byte{0x06}, BitLength: 7}, 2, 5, 29, 15)),
		"serverAuth":            with(ext(false, []asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 1}}, 2, 5, 29, 37)),
		"OCSPSigning":           with(ext(false, []asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 9}}, 2, 5, 29, 37)),
		"anyPolicy":             with(ext(false, [][]asn1.ObjectIdentifier{{{2, 5, 29, 32, 0}}}, 2, 5, 29, 32)),
		"unknown critical":      with(ext(true, "x", 1, 2, 3, 4)),
		"huge extension":        with(ext(false, make([]byte, 4000), 1, 2, 3, 4)),
		"beyond every size":     {template: x509.CertificateRequest{Subject: name, ExtraExtensions: []pkix.Extension{ext(false, make([]byte, 9000), 1, 2, 3, 4)}}, refused: true},
		"duplicate extension":   {template: x509.CertificateRequest{Subject: name, ExtraExtensions: []pkix.Extension{caTrue, caTrue}}, refused: true},
		"other CN":              {template: x509.CertificateRequest{Subject: pkix.Name{CommonName: "SN-9999", Organization: []string{organisation}}}, refused: true},
		"CN in another case":    {template: x509.CertificateRequest{Subject: pkix.Name{CommonName: strings.ToLower(serial), Organization: []string{organisation}}}, refused: true},
		"wildcard CN":           {template: x509.CertificateRequest{Subject: pkix.Name{CommonName: "*", Organization: []string{organisation}}}, refused: true},
		"host name as CN":       {template: x509.CertificateRequest{Subject: pkix.Name{CommonName: "csms.example.com", Organization: []string{organisation}}}, refused: true},
		"other organisation":    {template: x509.CertificateRequest{Subject: pkix.Name{CommonName: serial, Organization: []string{"Mallory"}}}, refused: true},
		"no name at all":        {refused: true},
		"wrong signature":       {template: x509.CertificateRequest{Subject: name}, refused: true, edit: func(der []byte) []byte { der[len(der)-1] ^= 1; return der }},
		"changed after signature": {template: x509.CertificateRequest{Subject: pkix.Name{CommonName: serial, Organization: []string{"Mallory CPO"}}}, refused: true,
			edit: func(der []byte) []byte { return bytes.Replace(der, []byte("Mallory CPO"), []byte(organisation), 1) }},
	}
}

// Promise 5, for both doors: what comes out is what policy says whatever was
// asked for, or nothing comes out (Shown by 2).
func TestCertificateSaysWhatPolicySays(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	d := r.est()
	for door, ask := range map[string]func(t *testing.T, identity string, csr []byte) *x509.Certificate{
		"EST": func(_ *testing.T, identity string, csr []byte) *x509.Certificate {
			a := d.ask("simpleenroll", csr, d.secret(identity))
			switch a.status {
			case 200:
				return d.certificate(a)
			case 400:
				return nil
			}
			r.t.Errorf("%d: %s", a.status, a.body)
			return nil
		},
		"OCPP": func(t *testing.T, identity string, csr []byte) *x509.Certificate {
			password, err := r.svc.SetPassword(t.Context(), "operator", identity, nil)
			if err != nil {
				t.Fatal(err)
			}
			s := r.open(r.admit(withPassword(claim(t, identity), password)), ocpp.V201)
			defer s.close()
			v := s.judge(ocpp.FromStation, "SignCertificate", marshal(t, map[string]any{
				"csr": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr})),
			}))
			if v.After == nil {
				if !strings.Contains(status(v), "Rejected") {
					t.Errorf("verdict %+v", v)
				}
				return nil
			}
			v.After(s.ctx)
			calls := s.sent("CertificateSigned")
			if len(calls) != 1 {
				t.Fatalf("%d CertificateSigned", len(calls))
			}
			return chainOf(t, calls[0])[0]
		},
	} {
		n := 0
		for name := range requestMatrix(t, "SN") {
			n++
			identity := fmt.Sprintf("%s-%d", door, n)
			t.Run(door+"/"+name, func(t *testing.T) {
				r.add(fleet.Enrolment{Identity: identity})
				serial := "SN-" + identity
				asked := requestMatrix(t, serial)[name]
				key := newKey(t)
				csr, err := x509.CreateCertificateRequest(rand.Reader, &asked.template, key)
				if err != nil {
					t.Fatal(err)
				}
				if asked.edit != nil {
					csr = asked.edit(csr)
				}
				cert := ask(t, identity, csr)
				if asked.refused {
					if cert != nil || len(r.records(identity)) != 0 {
						t.Errorf("a certificate for %s came of it", cert.Subject)
					}
					return
				}
				if cert == nil {
					t.Fatalf("it was refused:\n%s", r.logged())
				}
				if !key.PublicKey.Equal(cert.PublicKey) {
					t.Error("another key than the request's")
				}
				wantPolicy(t, cert, serial)
			})
		}
		// Keys no profile takes, made by OpenSSL.
		for _, file := range []string{"ec-secp256k1", "ec-brainpoolP256r1", "ec-explicit", "ed25519", "rsa1024", "rsa8192", "rsa-e3", "rsa-md5", "rsa-sha1"} {
			identity := door + "-" + file
			t.Run(door+"/"+file, func(t *testing.T) {
				r.add(fleet.Enrolment{Identity: identity})
				data, err := os.ReadFile(filepath.Join("..", "ca", "testdata", "csr", file+".pem"))
				if err != nil {
					t.Fatal(err)
				}
				if cert := ask(t, identity, pemBytes(string(data))); cert != nil || len(r.records(identity)) != 0 {
					t.Error("a certificate came of it")
				}
			})
		}
	}
}

// wantPolicy holds a certificate against the station profile: the subject as
// encoded, the exact extensions, a serial number's form, the period.
func wantPolicy(t *testing.T, cert *x509.Certificate, serial string) {
	t.Helper()
	if want := derOf(t, pkix.Name{CommonName: serial, Organization: []string{organisation}}.ToRDNSequence()); !bytes.Equal(cert.RawSubject, want) {
		t.Errorf("subject %s", cert.Subject)
	}
	if n := len(cert.DNSNames) + len(cert.IPAddresses) + len(cert.URIs) + len(cert.EmailAddresses); n != 0 || cert.IsCA ||
		len(cert.ExtKeyUsage)+len(cert.UnknownExtKeyUsage) != 0 || cert.KeyUsage != x509.KeyUsageDigitalSignature {
		t.Errorf("%d alternative names, CA %t, usage %x, extended %v", n, cert.IsCA, cert.KeyUsage, cert.ExtKeyUsage)
	}
	// Nothing but what profiles write: key usage, basic constraints, key
	// identifiers and where its status is to be had.
	known := []string{"2.5.29.15", "2.5.29.19", "2.5.29.14", "2.5.29.35", "2.5.29.31", "1.3.6.1.5.5.7.1.1"}
	seen := map[string]bool{}
	for _, e := range cert.Extensions {
		id := e.Id.String()
		if !slices.Contains(known, id) || seen[id] {
			t.Errorf("extension %s", id)
		}
		seen[id] = true
	}
	if life := cert.NotAfter.Sub(cert.NotBefore).Hours() / 24; life < 365 || life > 367 || cert.SerialNumber.BitLen() < 120 {
		t.Errorf("%.1f days, serial number of %d bits", life, cert.SerialNumber.BitLen())
	}
}
