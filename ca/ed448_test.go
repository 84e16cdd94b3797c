package ca_test

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloudflare/circl/sign/ed448"

	"bollard/ca"
	"bollard/internal/curve448"
)

// workshop is OpenSSL in a directory of its own: crypto/x509 knows no Ed448.
type workshop struct {
	t   *testing.T
	dir string
}

func (w workshop) run(args ...string) []byte {
	w.t.Helper()
	out, err := w.try(args...)
	if err != nil {
		w.t.Fatalf("openssl %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return out
}

func (w workshop) try(args ...string) ([]byte, error) {
	cmd := exec.CommandContext(w.t.Context(), "openssl", args...)
	cmd.Dir = w.dir
	return cmd.CombinedOutput()
}

func (w workshop) write(name string, data []byte) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), data, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w workshop) read(name string) []byte {
	w.t.Helper()
	data, err := os.ReadFile(filepath.Join(w.dir, name))
	if err != nil {
		w.t.Fatal(err)
	}
	return data
}

// request makes a key on Ed448 and a request for it.
func (w workshop) request() []byte {
	w.run("genpkey", "-algorithm", "ed448", "-out", "leaf.key")
	w.run("req", "-new", "-key", "leaf.key", "-subj", "/CN=whatever", "-out", "leaf.csr")
	return w.read("leaf.csr")
}

func rig448(t *testing.T) *rig {
	t.Helper()
	r := mobilityRig(t)
	r.curves = []ca.KeyClass{ca.ClassEd448}
	r.reopen(t)
	return r
}

var leaves448 = []struct {
	kind          ca.Kind
	profile, name string
}{
	{ca.KindV2G448, ca.ProfileSECC448, "DEABCS0123456789ABCDEF0123456789ABCDEF"},
	{ca.KindMO448, ca.ProfileContract448, "NLEXA1234567890"},
	{ca.KindOEM448, ca.ProfileProvisioning448, "WP0TESTA00000001A3"},
	{ca.KindCPS448, ca.ProfileCPS448, "Example CPS"},
}

// Hierarchies on Ed448 issue for requests that OpenSSL makes, chains, lists and requests
// of their own that OpenSSL takes; Bollard finds the same paths.
func TestEd448Chains(t *testing.T) {
	t.Parallel()
	r := rig448(t)
	for _, l := range leaves448 {
		if err := r.Create(t.Context(), l.kind, "operator"); err != nil {
			t.Fatal(err)
		}
	}
	r.reopen(t) // as records and keys say it
	w := workshop{t, t.TempDir()}
	for _, l := range leaves448 {
		csr, err := r.ParseCSR(w.request())
		if err != nil {
			t.Fatal(err)
		}
		o := leafOf(t, l.profile, l.name)
		if o.Key = csr.Key; l.profile != ca.ProfileSECC448 {
			o.Station = ""
		} else {
			o.Station = "cs1"
		}
		issued := r.issue(t, o)
		chain, root := append([]*x509.Certificate{issued.Certificate}, issued.Chain...), r.Roots(l.kind)[0]
		for _, cert := range append(chain, root) {
			if _, ok := cert.PublicKey.(ed448.PublicKey); !ok || len(cert.SubjectKeyId) != 8 || len(cert.Raw) > 800 {
				t.Errorf("%s: key %T, identifier %x, %d bytes", cert.Subject, cert.PublicKey, cert.SubjectKeyId, len(cert.Raw))
			}
		}
		if out, err := r.opensslVerify(t, chain[0], chain[1:], []*x509.Certificate{root}); err != nil {
			t.Errorf("%s: openssl: %v: %s", l.profile, err, out)
		}
		if paths, err := curve448.Paths(chain[0], []*x509.Certificate{root}, chain[1:], r.now); err != nil || len(paths) != 1 || len(paths[0]) != 4 {
			t.Errorf("%s: %d paths: %v", l.profile, len(paths), err)
		}
		if _, err := r.Revoke(t.Context(), issued.Serial, "keyCompromise", "operator"); err != nil {
			t.Fatal(err)
		}
		list, err := r.CRL(t.Context(), l.kind)
		if err != nil {
			t.Fatal(err)
		}
		w.write("list.der", list)
		w.write("issuer.pem", pemOf(issued.Chain[0]))
		if out := w.run("crl", "-inform", "DER", "-in", "list.der", "-CAfile", "issuer.pem", "-noout", "-text"); !strings.Contains(string(out), "verify OK") || !strings.Contains(strings.ToLower(string(out)), issued.Serial) {
			t.Errorf("%s: its list: %s", l.profile, out)
		}
	}
	if _, err := r.RenewCAs(t.Context(), ca.KindMO448, "operator"); err != nil {
		t.Errorf("renewed: %v", err)
	}
	if _, err := r.Rollover(t.Context(), ca.KindV2G448, "operator"); err != nil {
		t.Errorf("a new root: %v", err)
	}
}

// Others certify a CA of ours on Ed448 as on other curves.
func TestEd448UnderAnOutsideRoot(t *testing.T) {
	t.Parallel()
	r := rig448(t)
	w := workshop{t, t.TempDir()}
	w.write("ca.cnf", []byte("[req]\ndistinguished_name=n\n[n]\n[root]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n"+
		"[sub]\nbasicConstraints=critical,CA:TRUE,pathlen:1\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n"))
	w.run("genpkey", "-algorithm", "ed448", "-out", "root.key")
	w.run("req", "-x509", "-new", "-key", "root.key", "-subj", "/CN=Outside Root/O=Outside", "-days", "7300", "-config", "ca.cnf", "-extensions", "root", "-out", "root.pem")
	w.write("sub.der", r.ask(t, ca.KindMO448, 1))
	w.run("req", "-inform", "DER", "-in", "sub.der", "-verify", "-noout")
	w.run("x509", "-req", "-inform", "DER", "-in", "sub.der", "-CA", "root.pem", "-CAkey", "root.key", "-days", "3650", "-extfile", "ca.cnf", "-extensions", "sub", "-out", "sub.pem")
	block, _ := pem.Decode(w.read("root.pem"))
	root, err := curve448.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	r.now = root.NotBefore.AddDate(0, 0, 1) // OpenSSL's clock is the machine's
	r.trust(t, "mo", root)
	if err := r.ImportChain(t.Context(), ca.KindMO448, w.read("sub.pem"), "operator"); err != nil {
		t.Fatal(err)
	}
	csr, err := r.ParseCSR(w.request())
	if err != nil {
		t.Fatal(err)
	}
	o := leafOf(t, ca.ProfileContract448, "NLEXA1234567890")
	o.Key, o.Station = csr.Key, ""
	issued := r.issue(t, o)
	if _, err := curve448.Paths(issued.Certificate, []*x509.Certificate{root}, issued.Chain, r.now); err != nil {
		t.Error(err)
	}
}

// Without the switch there is no Ed448: no hierarchy, no request, no certificate; and
// with it no key on another curve in one of its profiles, nor one of it in others.
func TestEd448Switch(t *testing.T) {
	t.Parallel()
	r := rig448(t)
	w := workshop{t, t.TempDir()}
	if err := r.Create(t.Context(), ca.KindOEM448, "operator"); err != nil {
		t.Fatal(err)
	}
	request := w.request()
	csr, err := r.ParseCSR(request)
	if err != nil {
		t.Fatal(err)
	}
	car := leafOf(t, ca.ProfileProvisioning, "WP0TESTA00000001A3")
	car.Profile, car.Station = ca.ProfileProvisioning448, ""
	if _, err := r.Prepare(t.Context(), car); err == nil {
		t.Error("a key on P-256 in a certificate of Ed448")
	}
	station := order(t, newKey(t))
	station.Key = csr.Key
	if _, err := r.Prepare(t.Context(), station); err == nil {
		t.Error("a station's certificate with a key on Ed448")
	}
	if _, err := ca.ParseCSR(request); err == nil {
		t.Error("a station's request for a key on Ed448 is read")
	}
	der, _ := pem.Decode(request)
	forged := append([]byte(nil), der.Bytes...)
	forged[len(forged)-1] ^= 1
	var refused *ca.CSRError
	if _, err := r.ParseCSR(forged); !errors.As(err, &refused) || refused.Fault != ca.CSRSignature {
		t.Errorf("a request whose signature was changed: %v", err)
	}
	r.curves = nil
	r.reopen(t)
	car.Key = csr.Key
	if _, err := r.Prepare(t.Context(), car); err == nil {
		t.Error("certified without the switch")
	}
	if _, err := r.ParseCSR(request); err == nil {
		t.Error("read without the switch")
	}
	if err := r.Create(t.Context(), ca.KindMO448, "operator"); err == nil || !strings.Contains(err.Error(), "curves_20") {
		t.Errorf("a hierarchy without the switch: %v", err)
	}
	if _, err := r.RequestCA(t.Context(), ca.KindMO448, 1, false, "operator"); err == nil {
		t.Error("a request without the switch")
	}
	if _, err := r.CRL(t.Context(), ca.KindOEM448); err != nil {
		t.Errorf("the list of what was issued goes on: %v", err)
	}
}
