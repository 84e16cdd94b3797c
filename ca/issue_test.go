package ca_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bollard/ca"
	"bollard/keys"
)

// countingKeys opens CA keys whose signatures are counted; before runs at each.
type countingKeys struct {
	keeper *keys.Keeper
	signed atomic.Int64
	before func()
	wrap   func(crypto.Signer) crypto.Signer
}

type countingSigner struct {
	crypto.Signer
	keys *countingKeys
}

func (c *countingKeys) open(ctx context.Context, uri string) (crypto.Signer, error) {
	signer, err := c.keeper.Open(ctx, uri, keys.RoleCA)
	if err != nil {
		return nil, err
	}
	var out crypto.Signer = &countingSigner{signer, c}
	if c.wrap != nil {
		out = c.wrap(out)
	}
	return out, nil
}

// openTLS gives a TLS key where a CA key is asked for.
func (c *countingKeys) openTLS(ctx context.Context, _ string) (crypto.Signer, error) {
	return c.keeper.Open(ctx, "softkms:t.key", keys.RoleTLS)
}

func (s *countingSigner) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if s.keys.before != nil {
		s.keys.before()
	}
	s.keys.signed.Add(1)
	return s.Signer.Sign(random, digest, opts)
}

// counted reopens the authority with counting keys.
func (r *rig) counted(t *testing.T) *countingKeys {
	t.Helper()
	c := &countingKeys{keeper: r.keeper}
	cfg := r.config()
	cfg.Keys = c.open
	a, err := ca.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.Authority = a
	return c
}

// A00.FR.511: CN is the serial number, O the owner (.509), no SAN, no EKU (.514).
func TestStationCertificate(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for name, key := range map[string]crypto.Signer{"ecdsa": newKey(t), "rsa": newRSA(t, 2048)} {
		o := order(t, key)
		o.Station = name
		issued := r.issue(t, o)
		cert := issued.Certificate
		wantStationCertificate(t, cert, "SN-0001")
		if want := start.Add(-time.Hour); !cert.NotBefore.Equal(want) {
			t.Errorf("notBefore %s, want %s", cert.NotBefore, want)
		}
		if want := start.AddDate(1, 0, 0).Add(-time.Second); !cert.NotAfter.Equal(want) {
			t.Errorf("notAfter %s, want %s", cert.NotAfter, want)
		}
		// It isn't read anew after it was signed.
		if again, err := x509.ParseCertificate(issued.DER); err != nil || !reflect.DeepEqual(again, cert) {
			t.Errorf("%s: it isn't what its bytes say: %v", name, err)
		}
		if issued.State != ca.StateIssued || len(issued.Serial) != 32 || issued.Serial != ca.SerialOf(cert) {
			t.Errorf("state %s, serial %s", issued.State, issued.Serial)
		}
		if len(issued.Chain) != 1 || cert.CheckSignatureFrom(issued.Chain[0]) != nil {
			t.Error("the chain isn't the issuing CA alone")
		}
		roots, mids := x509.NewCertPool(), x509.NewCertPool()
		roots.AddCert(r.Roots(ca.KindCSMS)[0])
		mids.AddCert(issued.Chain[0])
		if _, err := cert.Verify(x509.VerifyOptions{
			Roots: roots, Intermediates: mids, CurrentTime: start,
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}); err != nil {
			t.Error(err)
		}
		if cert.VerifyHostname("SN-0001") == nil {
			t.Error("a station certificate passes as a host's")
		}
	}
}

func TestOpenSSLVerifiesTheChain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	dir := t.TempDir()
	write := func(name string, certs ...*x509.Certificate) string {
		var out []byte
		for _, c := range certs {
			out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, out, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	issued := r.issue(t, order(t, newKey(t)))
	root, mid, leaf := write("root", r.Roots(ca.KindCSMS)...), write("mid", issued.Chain...), write("leaf", issued.Certificate)
	for _, purpose := range []string{"sslclient", "any"} {
		out, err := exec.Command("openssl", "verify", "-x509_strict", "-attime", "1780401600", "-purpose", purpose,
			"-CAfile", root, "-untrusted", mid, leaf).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", purpose, err, out)
		}
	}
}

func TestCAProfiles(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	root, issuing := r.Roots(ca.KindCSMS)[0], r.Intermediates(ca.KindCSMS)[0]
	for _, tt := range []struct {
		cert   *x509.Certificate
		years  int
		length int
		cn     string
	}{{root, 20, -1, "CSMS Root CA "}, {issuing, 10, 0, "CSMS Issuing CA "}} {
		c := tt.cert
		if !c.IsCA || c.MaxPathLen != tt.length || c.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign {
			t.Errorf("%s: CA %t, path length %d, usage %#x", c.Subject, c.IsCA, c.MaxPathLen, int(c.KeyUsage))
		}
		if want := start.AddDate(tt.years, 0, 0).Add(-time.Second); !c.NotAfter.Equal(want) {
			t.Errorf("%s: notAfter %s, want %s", c.Subject, c.NotAfter, want)
		}
		if !strings.HasPrefix(c.Subject.CommonName, tt.cn) || c.Subject.Organization[0] != "Example CPO" || c.Subject.Country[0] != "NL" {
			t.Errorf("subject %s", c.Subject)
		}
	}
	if issuing.CheckSignatureFrom(root) != nil || root.CheckSignatureFrom(root) != nil {
		t.Error("signatures don't verify")
	}
}

// Promise 7: at the moment of every signature its intent is stored.
func TestIntentPrecedesSignature(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.counted(t)
	stored := int64(0)
	r.store.Before = func(method string) {
		if method == "PutIntent" {
			stored++
		}
	}
	c.before = func() {
		if c.signed.Load() >= stored {
			t.Error("a signature without an intent")
		}
	}
	for range 3 {
		r.issue(t, order(t, newKey(t)))
	}
	if c.signed.Load() != 3 || stored != 3 {
		t.Errorf("%d signatures, %d intents", c.signed.Load(), stored)
	}
}

// Whatever write fails, nothing signed is given out, and nothing is signed
// before the intent is stored.
func TestFailingStore(t *testing.T) {
	t.Parallel()
	full := errors.New("no space left on device")
	tests := []struct {
		method string
		signed int64
		state  ca.State
	}{
		{"NewestTime", 0, ""},
		{"CertificatesByKey", 0, ""},
		{"PutIntent", 0, ""},
		{"PutIssued", 1, ca.StateIntended},
	}
	for _, tt := range tests {
		t.Run(tt.method, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			c := r.counted(t)
			o := order(t, newKey(t))
			r.store.Fail[tt.method] = full
			prepared, err := r.Prepare(t.Context(), o)
			if err == nil {
				_, err = r.Issue(t.Context(), prepared)
			}
			if !errors.Is(err, full) {
				t.Errorf("got %v", err)
			}
			if got := c.signed.Load(); got != tt.signed {
				t.Errorf("%d signatures, want %d", got, tt.signed)
			}
			delete(r.store.Fail, tt.method)
			records, err := r.store.CertificatesByKey(t.Context(), o.Key.Hash())
			if err != nil {
				t.Fatal(err)
			}
			if tt.state == "" && len(records) != 0 || tt.state != "" && (len(records) != 1 || records[0].State != tt.state) {
				t.Errorf("records %+v", records)
			}
			// The station asks again, and an intent left behind is given up at the next start.
			r.open(t)
			r.issue(t, o)
			if tt.state != "" {
				rec, err := r.store.Certificate(t.Context(), prepared.Intent().Serial)
				if err != nil || rec.State != ca.StateOrphaned {
					t.Errorf("after restart: %s, %v", rec.State, err)
				}
			}
		})
	}
}

// A token is good for the authority that prepared it: another one's CA would
// sign what was linted and recorded for this one.
func TestTokenWorksAtItsAuthorityOnly(t *testing.T) {
	t.Parallel()
	r, other := newRig(t), newRig(t)
	c := r.counted(t)
	p, err := r.Prepare(t.Context(), order(t, newKey(t)))
	if err != nil {
		t.Fatal(err)
	}
	for name, wrong := range map[string]*ca.Prepared{"another's": p, "none": nil} {
		if issued, err := other.Issue(t.Context(), wrong); err == nil || issued != nil {
			t.Errorf("%s: issued %v", name, issued)
		}
	}
	if c.signed.Load() != 0 {
		t.Errorf("%d signatures", c.signed.Load())
	}
	if _, err := r.Issue(t.Context(), p); err != nil {
		t.Errorf("its own authority: %v", err)
	}
}

func TestTokenWorksOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.counted(t)
	p, err := r.Prepare(t.Context(), order(t, newKey(t)))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var good, refused atomic.Int64
	for range 8 {
		wg.Go(func() {
			_, err := r.Issue(t.Context(), p)
			switch {
			case err == nil:
				good.Add(1)
			case errors.Is(err, ca.ErrTokenUsed):
				refused.Add(1)
			}
		})
	}
	wg.Wait()
	if good.Load() != 1 || refused.Load() != 7 || c.signed.Load() != 1 {
		t.Errorf("%d issued, %d refused, %d signatures", good.Load(), refused.Load(), c.signed.Load())
	}
}

// What was linted and recorded is what is given out, or nothing is.
func TestOnlyWhatWasRecordedIsGivenOut(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.counted(t)
	p, err := r.Prepare(t.Context(), order(t, newKey(t)))
	if err != nil {
		t.Fatal(err)
	}
	p.Alter(func(tbs []byte) { tbs[len(tbs)-1] ^= 1 })
	if _, err := r.Issue(t.Context(), p); err == nil || c.signed.Load() != 0 {
		t.Errorf("%v, %d signatures of what wasn't recorded", err, c.signed.Load())
	}
	if rec, err := r.store.Certificate(t.Context(), p.Intent().Serial); err != nil || rec.State != ca.StateIntended {
		t.Errorf("recorded as %s, %v", rec.State, err)
	}
}

// A requester that goes away after the signature doesn't keep it from the record.
func TestSignedIsRecordedThoughTheRequesterLeft(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.counted(t)
	p, err := r.Prepare(t.Context(), order(t, newKey(t)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, leave := context.WithCancel(t.Context())
	c.before = leave
	issued, err := r.Issue(ctx, p)
	if err != nil || issued.State != ca.StateIssued {
		t.Fatalf("got %v, %v", issued, err)
	}
	// Gone before the signature: nothing is signed.
	p, err = r.Prepare(t.Context(), order(t, newKey(t)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Issue(ctx, p); !errors.Is(err, context.Canceled) || c.signed.Load() != 1 {
		t.Errorf("got %v after %d signatures", err, c.signed.Load())
	}
}

// A signer that signs something else, or with another key, is found out.
func TestWrongSignatureIsNotGivenOut(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := &countingKeys{keeper: r.keeper, wrap: func(s crypto.Signer) crypto.Signer { return &liar{s, newKey(t)} }}
	cfg := r.config()
	cfg.Keys = c.open
	a, err := ca.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	p, err := a.Prepare(t.Context(), order(t, newKey(t)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Issue(t.Context(), p); err == nil {
		t.Error("a certificate with a wrong signature was given out")
	}
	rec, err := r.store.Certificate(t.Context(), p.Intent().Serial)
	if err != nil || rec.State != ca.StateIntended || rec.DER != nil {
		t.Errorf("record %+v, %v", rec, err)
	}
}

type liar struct {
	crypto.Signer
	other *ecdsa.PrivateKey
}

func (l *liar) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return l.other.Sign(rand.Reader, digest, opts)
}

// Threat C7: a serial drawn twice gives an error and no second certificate.
func TestDuplicateSerial(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.counted(t)
	r.SetRandom(repeating{})
	r.issue(t, order(t, newKey(t)))
	o := order(t, newKey(t))
	o.Station = "cs2"
	if _, err := r.Prepare(t.Context(), o); !errors.Is(err, ca.ErrDuplicateSerial) {
		t.Errorf("got %v, want ErrDuplicateSerial", err)
	}
	if c.signed.Load() != 1 {
		t.Errorf("%d signatures, want 1", c.signed.Load())
	}
}

type repeating struct{}

func (repeating) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 0x77
	}
	return len(b), nil
}

// A clock more than five minutes behind what is recorded stops signing.
func TestClockGuard(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		ahead time.Duration
		want  error
	}{
		{"in step", 0, nil},
		{"five minutes behind", 5 * time.Minute, nil},
		{"more", 5*time.Minute + time.Second, ca.ErrClock},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			c := r.counted(t)
			o := order(t, newKey(t))
			r.store.SetNewest(start.Add(tt.ahead))
			_, err := r.Prepare(t.Context(), o)
			if !errors.Is(err, tt.want) {
				t.Errorf("Prepare: got %v, want %v", err, tt.want)
			}
			if _, err := r.CRL(t.Context(), ca.KindCSMS); !errors.Is(err, tt.want) {
				t.Errorf("CRL: got %v, want %v", err, tt.want)
			}
			if err := r.CheckClock(t.Context()); !errors.Is(err, tt.want) {
				t.Errorf("CheckClock: got %v, want %v", err, tt.want)
			}
			if tt.want != nil && c.signed.Load() != 0 {
				t.Error("something was signed")
			}
			if _, err := r.StationPools(t.Context()); err != nil {
				t.Errorf("traffic is affected: %v", err)
			}
		})
	}
}

func TestRefusedOrders(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if _, err := r.ServerCertificates(t.Context(), ca.ServerNames{DNS: []string{"gate"}}, filepath.Join(r.dir, "server")); err != nil {
		t.Fatal(err)
	}
	station := func(change func(*ca.Order)) ca.Order {
		o := order(t, newKey(t))
		change(&o)
		return o
	}
	server := func(s ca.Subject) ca.Order {
		return station(func(o *ca.Order) { o.Profile, o.Station, o.Subject = ca.ProfileServer, "", s })
	}
	cn := func(name string) ca.Order { return station(func(o *ca.Order) { o.Subject.CommonName = name }) }
	for name, o := range map[string]ca.Order{
		"no key":                  station(func(o *ca.Order) { o.Key = ca.ProvenKey{} }),
		"unknown profile":         station(func(o *ca.Order) { o.Profile = "x" }),
		"root":                    station(func(o *ca.Order) { o.Profile, o.Station = ca.ProfileRoot, "" }),
		"issuing":                 station(func(o *ca.Order) { o.Profile, o.Station = ca.ProfileIssuing, "" }),
		"no station":              station(func(o *ca.Order) { o.Station = "" }),
		"server with station":     station(func(o *ca.Order) { o.Profile = ca.ProfileServer }),
		"empty CN":                cn(""),
		"blank CN":                cn("  "),
		"long CN":                 cn(strings.Repeat("a", 65)),
		"control character":       cn("a\nb"),
		"no UTF-8":                cn("a\xff"),
		"URL (A00.FR.511)":        cn("https://csms"),
		"FQDN (A00.FR.511)":       cn("csms.example.com"),
		"IPv4 (A00.FR.511)":       cn("10.0.0.1"),
		"IPv6 (A00.FR.511)":       cn("fe80::1"),
		"localhost (A00.FR.511)":  cn("LocalHost"),
		"own server (A00.FR.511)": cn("Gate"),
		"wildcard (A00.FR.511)":   cn("*.example.1"),
		"port (A00.FR.511)":       cn("10.0.0.1:443"),
		"SAN on a station":        station(func(o *ca.Order) { o.Subject.DNSNames = []string{"a"} }),
		"server without name":     server(ca.Subject{}),
		"wildcard server":         server(ca.Subject{DNSNames: []string{"*.example.com"}}),
		"server name with slash":  server(ca.Subject{DNSNames: []string{"a/b"}}),
		"two names, CN only": station(func(o *ca.Order) {
			o.Profile, o.Station, o.Subject = ca.ProfileServerCNOnly, "", ca.Subject{DNSNames: []string{"a.example", "b.example"}}
		}),
	} {
		if _, err := r.Prepare(t.Context(), o); err == nil {
			t.Errorf("%s: prepared", name)
		}
	}
	for _, name := range []string{"SN-1", "2024.0117", "CS-1.4", "Lade säule", "DE*ABC*E1", "02:00:5e:10:00:01", "12/345"} {
		if _, err := r.Prepare(t.Context(), cn(name)); err != nil {
			t.Errorf("serial number %q: %v", name, err)
		}
	}
}

// A profile's kinds of keys are those of its row, whatever others allow.
func TestKeyKindsOfAProfile(t *testing.T) { // A00.FR.502, .503
	t.Parallel()
	r := newRig(t)
	for _, tt := range []struct {
		name string
		key  crypto.Signer
		ok   bool
	}{
		{"P-256", newKey(t), true},
		{"P-384", newCurveKey(t, elliptic.P384()), false},
		{"P-521", newCurveKey(t, elliptic.P521()), false},
		{"RSA-2048", newRSA(t, 2048), true},
		{"RSA-3072", newRSA(t, 3072), false},
	} {
		o := order(t, tt.key)
		o.Profile, o.Station, o.Subject = ca.ProfileOCSP, "", ca.Subject{CommonName: "Responder"}
		_, err := r.PrepareBy(t.Context(), "csms-issuing", o)
		if (err == nil) != tt.ok || err != nil && !strings.Contains(err.Error(), "profile ocsp doesn't allow "+tt.name+" keys") {
			t.Errorf("%s: %v", tt.name, err)
		}
		if _, err := r.Prepare(t.Context(), order(t, tt.key)); (err == nil) == tt.ok {
			// Prepared for the responder, it is no station's any more; otherwise it may be.
			t.Errorf("%s for a station: %v", tt.name, err)
		}
	}
}

// Nothing outlives its issuer.
func TestValidityIsClampedToTheIssuer(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	issuing := r.Intermediates(ca.KindCSMS)[0]
	r.now = issuing.NotAfter.Add(-30 * 24 * time.Hour)
	if got := r.issue(t, order(t, newKey(t))).Certificate.NotAfter; !got.Equal(issuing.NotAfter) {
		t.Errorf("notAfter %s, want the issuer's %s", got, issuing.NotAfter)
	}
	r.now = issuing.NotAfter.Add(time.Second)
	if _, err := r.Prepare(t.Context(), order(t, newKey(t))); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("got %v", err)
	}
}

func TestRenewAt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var times []time.Time
	for range 20 {
		cert := r.issue(t, order(t, newKey(t))).Certificate
		at := ca.RenewAt(cert)
		if !at.Equal(ca.RenewAt(cert)) {
			t.Error("not deterministic")
		}
		life := cert.NotAfter.Sub(cert.NotBefore)
		if part := float64(at.Sub(cert.NotBefore)) / float64(life); part < 0.59 || part > 0.67 {
			t.Errorf("renewed after %.2f of its life", part)
		}
		times = append(times, at)
	}
	same := 0
	for _, at := range times[1:] {
		if at.Equal(times[0]) {
			same++
		}
	}
	if same == len(times)-1 {
		t.Error("a whole fleet renews at one moment")
	}
}
