package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"log/slog"
	"math/big"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"bollard/ca"
	"bollard/fleet"
	"bollard/internal/config"
	"bollard/ocpp"
)

// certifier signs as its certificate, or itself if it has none yet.
type certifier struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func (c *certifier) sign(cn string, isCA bool) *certifier {
	c.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		c.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: cn}, IsCA: isCA, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	parent, signer := c.cert, c.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		c.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		c.t.Fatal(err)
	}
	return &certifier{c.t, cert, key}
}

// fromCSMS is a session as the guard looks at it.
type fromCSMS struct{ fleet.Session }

func (fromCSMS) ID() string                   { return "s1" }
func (fromCSMS) Version() ocpp.Version        { return ocpp.V201 }
func (fromCSMS) Security() fleet.SecurityMode { return fleet.SecurityBackend }
func (fromCSMS) Admission() fleet.Admission {
	return fleet.Admission{Station: fleet.Station{Identity: "CS-1"}}
}
func (fromCSMS) Go(f func(ctx context.Context)) {}

// No back end deletes the root a served certificate leads to, whether it is the
// own CA's or comes from a file, with its root or without.
func TestRootsOfServedCertificatesAreKept(t *testing.T) { // M04 warning, promise 4
	t.Parallel()
	dir := newDataDir(t, "")
	cfg, err := loadConfig(dir)
	if err != nil {
		t.Fatal(err)
	}
	a, err := openApp(t.Context(), dir, cfg, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	own := a.authority.Roots(ca.KindCSMS)[0]
	root := (&certifier{t: t}).sign("Outside Root", true)
	sub := root.sign("Outside Sub CA", true)
	leaf := sub.sign("localhost", false)
	chain := func(certs ...*certifier) *tls.Certificate {
		out := &tls.Certificate{}
		for _, c := range certs {
			out.Certificate = append(out.Certificate, c.cert.Raw)
		}
		return out
	}
	whole, bare := chain(leaf, sub, root), chain(leaf, sub)
	tests := map[string]struct {
		files  certificateFiles
		cnOnly bool
		want   []*x509.Certificate
		kept   []*x509.Certificate
	}{
		"no files":                {certificateFiles{}, false, []*x509.Certificate{own}, []*x509.Certificate{own}},
		"one file with root":      {certificateFiles{ecdsa: whole}, false, []*x509.Certificate{own, root.cert}, []*x509.Certificate{own, root.cert}},
		"one file without":        {certificateFiles{rsa: bare}, false, []*x509.Certificate{own, sub.cert}, []*x509.Certificate{own, root.cert}},
		"both":                    {certificateFiles{ecdsa: whole, rsa: bare}, false, []*x509.Certificate{root.cert, sub.cert}, []*x509.Certificate{root.cert}},
		"both, and a CN-only one": {certificateFiles{ecdsa: whole, rsa: whole}, true, []*x509.Certificate{own, root.cert, root.cert}, []*x509.Certificate{own, root.cert}},
	}
	for name, tt := range tests {
		a.certificates = &serverCertificates{}
		a.certificates.files.Store(&tt.files)
		a.cfg.Listen.OCPP = []config.OCPPListener{{CNOnly: tt.cnOnly}}
		got, err := a.servedRoots(t.Context())
		if err != nil || !slices.EqualFunc(got, tt.want, (*x509.Certificate).Equal) {
			t.Errorf("%s: %d roots, %v", name, len(got), err)
		}
		for _, r := range []*x509.Certificate{own, root.cert} {
			d, err := fleet.CertificateHashData("SHA256", r, r)
			if err != nil {
				t.Fatal(err)
			}
			payload, err := json.Marshal(ocpp.DeleteCertificateRequest{CertificateHashData: d})
			if err != nil {
				t.Fatal(err)
			}
			v := a.fleet.Message(t.Context(), fromCSMS{}, fleet.Message{Direction: ocpp.FromCSMS, Action: "DeleteCertificate",
				Head: ocpp.Head{Type: ocpp.Call, ID: "1", Action: "DeleteCertificate", Payload: payload}, Payload: payload})
			if kept := slices.ContainsFunc(tt.kept, r.Equal); kept != (v.Act == fleet.Answer) {
				t.Errorf("%s: deletion of %s: %+v", name, r.Subject, v)
			}
		}
	}
	// The own CA's certificate exported to a file leads to the own root.
	issuing, err := readOwn(t, a)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := rootsOf(issuing, []*x509.Certificate{own}); err != nil || len(got) != 1 || !got[0].Equal(own) {
		t.Errorf("own certificate from a file: %v, %v", got, err)
	}
}

func readOwn(t *testing.T, a *app) (*tls.Certificate, error) {
	t.Helper()
	certs, err := a.authority.ServerCertificates(t.Context(), serverNames("localhost", false), filepath.Join(a.dir, serverName))
	if err != nil {
		return nil, err
	}
	return certs.GetCertificate(&tls.ClientHelloInfo{})
}
