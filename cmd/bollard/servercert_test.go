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
	"sync/atomic"
	"testing"
	"time"

	"bollard/admin"
	"bollard/ca"
	"bollard/ca/hashdata"
	"bollard/fleet"
	"bollard/internal/config"
	"bollard/ocpp"
	"bollard/station"
	"bollard/station/csms"
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
	return fleet.Admission{Station: fleet.Proven{Identity: "CS-1"}}
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
	a, err := openApp(t.Context(), dir, cfg, slog.New(slog.DiscardHandler))
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
			d, err := hashdata.Of("SHA256", r, r)
			if err != nil {
				t.Fatal(err)
			}
			payload, err := json.Marshal(ocpp.DeleteCertificateRequest{CertificateHashData: d})
			if err != nil {
				t.Fatal(err)
			}
			v := a.fleet.Message(t.Context(), fromCSMS{}, fleet.Message{Direction: ocpp.FromCSMS, Action: "DeleteCertificate",
				Head: ocpp.Head{Type: ocpp.Call, ID: []byte("1"), Action: "DeleteCertificate", Payload: payload}, Payload: payload})
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

// The own server certificate is renewed before half its life is over, while a
// station is connected: its session goes on as if nothing had been, and whoever
// comes from then on is shown the new one, which the same root vouches for.
func TestServerCertificateIsRenewedUnderASession(t *testing.T) { // A00.FR.510
	t.Parallel()
	backend, err := csms.New(t.Context(), csms.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(backend.Close)
	dir := filepath.Join(t.TempDir(), "data")
	// Certificates of 43.2 days ago are due within the last 1.8 days (46 to 48 % of
	// 90): the server's clock stands before the first of them is,
	// by less than a second, which is how often the server looks then, until the test moves it.
	then := func() time.Time { return time.Now().Add(-90 * 24 * time.Hour * 48 / 100) }
	if err := initialise(t.Context(), initOptions{dataDir: dir, organisation: "Example CPO", country: "NL", listen: "127.0.0.1:0", backend: backend.URL(), clock: then}); err != nil {
		t.Fatal(err)
	}
	due := ownCertificatesDue(t, dir, then)
	var stands atomic.Pointer[time.Time]
	early, ripe := due.Add(-500*time.Millisecond), due.Add(time.Second)
	stands.Store(&early)
	r := startServerAt(t, dir, func() time.Time { return *stands.Load() })
	client := admin.NewClient(dir)
	root, err := admin.Call[admin.KindRef, admin.PEM](t.Context(), client, "ca.root", admin.KindRef{Kind: "csms"})
	if err != nil {
		t.Fatal(err)
	}
	roots, err := station.ParseCertificates([]byte(root.PEM))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(roots[0])
	both := func() (list [2]*x509.Certificate) {
		for i, suite := range []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256} {
			conn, err := tls.Dial("tcp", r.at.OCPP[0], &tls.Config{RootCAs: pool, ServerName: "localhost", MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite}})
			if err != nil {
				t.Fatal(err)
			}
			list[i] = conn.ConnectionState().PeerCertificates[0]
			_ = conn.Close()
		}
		return list
	}
	before := both()
	added, err := admin.Call[admin.Enrolment, admin.Enrolled](t.Context(), client, "station.add", admin.Enrolment{Identity: "CS-1", Serial: "SN-1", Profile: 2})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	st, err := station.New(ctx, station.Config{Identity: "CS-1", Serial: "SN-1", Version: ocpp.V201, URL: "wss://" + r.at.OCPP[0] + "/ocpp", ServerName: "localhost",
		Organisation: "Example CPO", Password: []byte(added.Password), Roots: roots})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	ended := make(chan struct{})
	go func() { _ = st.Run(ctx); close(ended) }()
	defer func() { cancel(); <-ended }()
	if err := st.Await(ctx, func(s station.State) bool { return s.Registration == "Accepted" }); err != nil {
		t.Fatal(err)
	}
	if now := both(); !now[0].Equal(before[0]) || !now[1].Equal(before[1]) {
		t.Fatal("renewed before the station was there: the test sees nothing")
	}
	stands.Store(&ripe)
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	after := before
	for after[0].Equal(before[0]) && after[1].Equal(before[1]) {
		select {
		case <-ctx.Done():
			t.Fatalf("never renewed\n%s", r.log)
		case <-look.C:
			after = both()
		}
	}
	for i := range after {
		old, life := before[i], before[i].NotAfter.Sub(before[i].NotBefore)
		if !after[i].Equal(old) && ripe.After(old.NotBefore.Add(life/2)) {
			t.Errorf("renewed after half the life that began %s", old.NotBefore)
		}
	}
	if _, err := backend.Call(ctx, "CS-1", "GetVariables", map[string]any{"getVariableData": []any{map[string]any{
		"component": map[string]any{"name": "SecurityCtrlr"}, "variable": map[string]any{"name": "OrganizationName"}}}}); err != nil {
		t.Errorf("the session of before: %v", err)
	}
	if s := st.State(); !s.Connected || s.Connections != 1 {
		t.Errorf("the station is %+v", s)
	}
}

// ownCertificatesDue has the own server certificates made at another time and
// returns when the first of them is due.
func ownCertificatesDue(t *testing.T, dir string, clock func() time.Time) time.Time {
	t.Helper()
	cfg, err := loadConfig(dir)
	if err != nil {
		t.Fatal(err)
	}
	a, err := openAppAt(t.Context(), clock, dir, cfg, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	own, err := a.serverCertificates(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	return own.Due()
}
