package status_test

import (
	"crypto/x509"
	"strings"
	"testing"

	"bollard/ca"
	"bollard/keys"
)

// A real client's view: every hash, with and without nonce, over POST.
func TestOpenSSLAsksTheResponder(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []keys.Algorithm{keys.P256, keys.RSA2048} {
		t.Run(string(algorithm), func(t *testing.T) {
			t.Parallel()
			r := newRigOf(t, algorithm, 0)
			good, bad := r.issue(t), r.issue(t)
			r.revoke(t, bad, "keyCompromise")
			root, issuing := pemFile(t, "CERTIFICATE", r.root.Raw), pemFile(t, "CERTIFICATE", r.issuing.Raw)
			ask := func(args ...string) string {
				t.Helper()
				out, err := openssl(t, append([]string{"ocsp", "-url", r.url + "/ocsp", "-CAfile", root, "-issuer", issuing}, args...)...)
				if err != nil {
					return out + err.Error()
				}
				return out
			}
			for _, hash := range []string{"-sha1", "-sha256", "-sha384", "-sha512"} {
				for _, nonce := range []string{"-nonce", "-no_nonce"} {
					out := ask(hash, nonce, "-cert", pemFile(t, "CERTIFICATE", good.Raw), "-cert", pemFile(t, "CERTIFICATE", bad.Raw))
					if !strings.Contains(out, "Response verify OK") || strings.Contains(out, "WARNING") ||
						!strings.Contains(out, ": good") || !strings.Contains(out, ": revoked") || !strings.Contains(out, "Reason: keyCompromise") {
						t.Errorf("%s %s: %s", hash, nonce, out)
					}
					out = ask(hash, nonce, "-cert", pemFile(t, "CERTIFICATE", good.Raw))
					if !strings.Contains(out, "Response verify OK") || strings.Contains(out, "WARNING") || !strings.Contains(out, ": good") {
						t.Errorf("one certificate, %s %s: %s", hash, nonce, out)
					}
				}
			}
			if out := ask("-serial", "0x123456789abcdef0123456789abcdef0"); !strings.Contains(out, "unauthorized (6)") {
				t.Errorf("random serial: %s", out)
			}
			out, _ := openssl(t, "ocsp", "-url", r.url+"/ocsp", "-CAfile", root, "-issuer", root, "-cert", pemFile(t, "CERTIFICATE", good.Raw))
			if !strings.Contains(out, "unauthorized (6)") {
				t.Errorf("foreign issuer: %s", out)
			}
		})
	}
}

// openssl checks a chain against the lists the certificates name.
func TestOpenSSLChecksTheLists(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	good, bad := r.issue(t), r.issue(t)
	r.revoke(t, bad, "superseded")
	if bad.CRLDistributionPoints[0] != r.url+"/csms-issuing.crl" || r.issuing.CRLDistributionPoints[0] != r.url+"/csms-root.crl" {
		t.Fatalf("%v, %v", bad.CRLDistributionPoints, r.issuing.CRLDistributionPoints)
	}
	_, list := get(t, bad.CRLDistributionPoints[0])
	_, rootList := get(t, r.issuing.CRLDistributionPoints[0])
	_, issuer := get(t, bad.IssuingCertificateURL[0])
	verify := func(der []byte) (string, error) {
		return openssl(t, "verify", "-crl_check_all", "-CAfile", pemFile(t, "CERTIFICATE", r.root.Raw),
			"-untrusted", pemFile(t, "CERTIFICATE", issuer), "-CRLfile", pemFile(t, "X509 CRL", list, rootList), pemFile(t, "CERTIFICATE", der))
	}
	if out, err := verify(good.Raw); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := verify(bad.Raw); err == nil || !strings.Contains(out, "certificate revoked") {
		t.Errorf("%v: %s", err, out)
	}
	if _, alias := get(t, r.url+"/"+string(ca.KindCSMS)+".crl"); string(alias) != string(list) {
		t.Error("/csms.crl is another list")
	}
}

// Cars ask about the CAs between a leaf and its root too: who certified them
// answers, since a V2G root issues no leaf ([V2G2-867]).
func TestOpenSSLAsksAboutSubCAs(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if err := r.Create(t.Context(), ca.KindV2G, "operator"); err != nil {
		t.Fatal(err)
	}
	root, subs := r.Roots(ca.KindV2G)[0], r.Intermediates(ca.KindV2G)
	for i, issuer := range []*x509.Certificate{root, subs[0]} {
		if subs[i].OCSPServer[0] != r.url+ca.OCSPPath {
			t.Errorf("%s names %v", subs[i].Subject, subs[i].OCSPServer)
		}
		out, err := openssl(t, "ocsp", "-url", subs[i].OCSPServer[0], "-CAfile", pemFile(t, "CERTIFICATE", root.Raw), "-verify_other", pemFile(t, "CERTIFICATE", issuer.Raw),
			"-issuer", pemFile(t, "CERTIFICATE", issuer.Raw), "-sha256", "-cert", pemFile(t, "CERTIFICATE", subs[i].Raw))
		if err != nil || !strings.Contains(out, "Response verify OK") || !strings.Contains(out, ": good") {
			t.Errorf("%s: %v: %s", subs[i].Subject, err, out)
		}
	}
}
