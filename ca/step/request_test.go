package step_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"bollard/ca"
	"bollard/ca/step"
	"bollard/fleet"
)

// A request says what its token says, or is refused, on record, without using the token
// up; it contributes its key alone.
func TestRequests(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	by, other := r.jwk("ops"), r.jwk("others")
	theirs, _ := r.certified(other, "one.example")
	revoked, gone := r.certified(by, "one.example")
	if _, err := r.authority.Revoke(t.Context(), ca.SerialOf(gone), "superseded", "operator"); err != nil {
		t.Fatal(err)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key := newKey(t)
	template := func(edit func(*x509.CertificateRequest)) string {
		c := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "one.example"}, DNSNames: []string{"one.example"}}
		edit(c)
		return request(t, key, c)
	}
	good := csr(t, key, "one.example")
	block, _ := pem.Decode([]byte(good))
	sum := sha256.Sum256(block.Bytes)
	torn := []byte(good)
	torn[len(torn)-60] ^= 1
	for name, tt := range map[string]struct {
		csr       string
		token     func(*spec)
		notBefore string
		notAfter  string
		status    int
		lasts     time.Duration
	}{
		"more names than the token":    {csr: template(func(c *x509.CertificateRequest) { c.DNSNames = append(c.DNSNames, "a.two.example") }), status: 403},
		"other names":                  {csr: template(func(c *x509.CertificateRequest) { c.DNSNames = []string{"a.two.example"} }), status: 403},
		"fewer names":                  {csr: good, token: sans("one.example", "a.two.example"), status: 403},
		"no names":                     {csr: template(func(c *x509.CertificateRequest) { c.DNSNames = nil }), status: 403},
		"another common name":          {csr: template(func(c *x509.CertificateRequest) { c.Subject.CommonName = "a.two.example" }), status: 403},
		"an address":                   {csr: template(func(c *x509.CertificateRequest) { c.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 1)} }), status: 403},
		"an e-mail address":            {csr: template(func(c *x509.CertificateRequest) { c.EmailAddresses = []string{"a@one.example"} }), status: 403},
		"a URI":                        {csr: template(func(c *x509.CertificateRequest) { c.URIs = []*url.URL{{Scheme: "https", Host: "one.example"}} }), status: 403},
		"a subject outside the names":  {csr: good, token: sans("a.two.example"), status: 403},
		"too many names":               {csr: good, token: sans(strings.Split(strings.Repeat("one.example ", 21), " ")...), status: 403},
		"another request than cnf":     {csr: csr(t, newKey(t), "one.example"), token: spoil("cnf", map[string]string{"x5rt#S256": jsonBase64(sum[:])}), status: 403},
		"a cnf of nothing":             {csr: good, token: spoil("cnf", map[string]string{}), status: 403},
		"no request":                   {csr: "x", status: 400},
		"a spoilt signature":           {csr: string(torn), status: 400},
		"two requests":                 {csr: good + good, status: 400},
		"a short key":                  {csr: csr(t, weak, "one.example"), status: 400},
		"a small curve":                {csr: csr(t, p224, "one.example"), status: 400},
		"another provisioner's key":    {csr: csr(t, theirs.PrivateKey.(*ecdsa.PrivateKey), "one.example"), status: 403},
		"a revoked certificate's key":  {csr: csr(t, revoked.PrivateKey.(*ecdsa.PrivateKey), "one.example"), status: 403},
		"four minutes":                 {csr: good, notAfter: "4m", status: 403},
		"until before now":             {csr: good, notAfter: start.Add(-time.Hour).Format(time.RFC3339), status: 403},
		"until no time":                {csr: good, notAfter: "soon", status: 400},
		"from tomorrow":                {csr: good, notBefore: "24h", status: 400},
		"from yesterday":               {csr: good, notBefore: start.Add(-24 * time.Hour).Format(time.RFC3339), status: 400},
		"the request of cnf":           {csr: good, token: spoil("cnf", map[string]string{"x5rt#S256": jsonBase64(sum[:])}), status: 201},
		"an hour":                      {csr: good, notAfter: "1h", status: 201, lasts: time.Hour},
		"until a time":                 {csr: good, notBefore: start.Format(time.RFC3339), notAfter: start.Add(48 * time.Hour).Format(time.RFC3339), status: 201, lasts: 48 * time.Hour},
		"an hour and a bit":            {csr: good, notAfter: "1h0m0.5s", status: 201, lasts: time.Hour},
		"a century":                    {csr: good, notAfter: "876000h", status: 201, lasts: 90*24*time.Hour - time.Second},
		"a CA":                         {csr: template(func(c *x509.CertificateRequest) { c.ExtraExtensions = caExtensions }), status: 400},
		"the subject of somebody else": {csr: template(func(c *x509.CertificateRequest) { c.Subject.Organization = []string{"Other"} }), status: 201},
	} {
		t.Run(name, func(t *testing.T) {
			edit := tt.token
			if edit == nil {
				edit = func(*spec) {}
			}
			token := r.token(by, "sign", "one.example", edit)
			before, refusals := r.issued(), len(r.events("step.refused"))
			ask := map[string]string{"csr": tt.csr, "ott": token, "notBefore": tt.notBefore, "notAfter": tt.notAfter}
			got := r.do(http.MethodPost, "/sign", ask)
			if got.status != tt.status {
				t.Fatalf("%d %s", got.status, got.body)
			}
			if tt.status != http.StatusCreated {
				if r.issued() != before || len(r.events("step.refused")) != refusals+1 {
					t.Error("something was issued, or nothing recorded")
				}
				if name == "other names" { // it is still good
					r.sign(token, csr(t, newKey(t), "one.example")).chain(t)
				}
				return
			}
			cert := got.chain(t)[0]
			if tt.lasts != 0 && !cert.NotAfter.Equal(start.Add(tt.lasts)) {
				t.Errorf("it lasts until %s", cert.NotAfter)
			}
			if cert.IsCA || cert.Subject.Organization[0] != "Example CPO" {
				t.Errorf("it says %s", cert.Subject)
			}
		})
	}
}

// caExtensions ask for a CA (RFC 5280 §4.2.1.9).
var caExtensions = []pkix.Extension{{Id: []int{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 3, 1, 1, 0xff}}}

// A certificate is renewed for its key, while it is in force, was its provisioner's, and
// that may still have its names.
func TestRenewal(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	remove := func(name string) {
		t.Helper()
		if _, err := step.Remove(t.Context(), r.store, "operator", name); err != nil {
			t.Fatal(err)
		}
	}
	for i, tt := range []struct {
		name   string
		before func(provisioner string, shown *tls.Certificate)
		status int
	}{
		{"as it should be", func(string, *tls.Certificate) {}, 201},
		{"revoked", func(_ string, shown *tls.Certificate) {
			if _, err := r.authority.Revoke(t.Context(), ca.SerialOf(shown.Leaf), "superseded", "operator"); err != nil {
				t.Fatal(err)
			}
		}, 401},
		{"the provisioner is gone", func(name string, _ *tls.Certificate) { remove(name) }, 403},
		{"another has its name", func(name string, _ *tls.Certificate) {
			remove(name)
			r.jwk(name)
		}, 403},
		{"a certificate from elsewhere", func(_ string, shown *tls.Certificate) {
			key := newKey(t)
			*shown = tls.Certificate{Certificate: [][]byte{newOutside(t).leaf(t, key).Raw}, PrivateKey: key}
		}, 401},
		{"a certificate of another profile", func(_ string, shown *tls.Certificate) {
			*shown = r.ordered(ca.Order{Profile: ca.ProfileStation, Station: "cs-1", Subject: ca.Subject{CommonName: "SN-1"}, Requester: "station:cs-1"})
		}, 401},
		{"a certificate of an ACME account", func(_ string, shown *tls.Certificate) {
			*shown = r.ordered(ca.Order{Profile: ca.ProfileServer, Subject: ca.Subject{CommonName: "one.example", DNSNames: []string{"one.example"}}, Requester: "acme:x"})
		}, 403},
		{"the name is a station's by now", func(name string, shown *tls.Certificate) {
			other := r.jwk(name+"-2", "cs-2.example")
			*shown, _ = r.certified(other, "cs-2.example")
			if err := r.store.AddStations(t.Context(), []fleet.Station{{Identity: "CS-2.example", Serial: "SN-2"}}); err != nil {
				t.Fatal(err)
			}
		}, 403},
		{"at its end", func(string, *tls.Certificate) { r.pass(90*24*time.Hour - time.Second) }, 201},
		{"ended", func(string, *tls.Certificate) { r.pass(90 * 24 * time.Hour) }, 403},
	} {
		t.Run(tt.name, func(t *testing.T) {
			provisioner := fmt.Sprintf("ops-%d", i)
			shown, _ := r.certified(r.jwk(provisioner), "one.example")
			tt.before(provisioner, &shown)
			before := r.issued()
			got := r.do(http.MethodPost, "/renew", nil, shown)
			if got.status != tt.status {
				t.Fatalf("%d %s", got.status, got.body)
			}
			if tt.status != http.StatusCreated && r.issued() != before {
				t.Error("something was issued")
			}
		})
	}
	refused := r.events("step.refused")
	if len(refused) != 5 || !strings.HasPrefix(refused[0].Actor, "step:key:") || !strings.HasPrefix(refused[3].Data["what"], "renew ") || !strings.Contains(refused[3].Data["why"], "a station is known by") {
		t.Errorf("on record is %+v", refused)
	}
}

// ordered is a certificate the authority issued for somebody else's order.
func (r *rig) ordered(order ca.Order) tls.Certificate {
	r.t.Helper()
	key := newKey(r.t)
	proven, err := ca.GeneratedKey(key)
	if err != nil {
		r.t.Fatal(err)
	}
	order.Key = proven
	prepared, err := r.authority.Prepare(r.t.Context(), order)
	if err != nil {
		r.t.Fatal(err)
	}
	issued, err := r.authority.Issue(r.t.Context(), prepared)
	if err != nil {
		r.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{issued.DER}, PrivateKey: key, Leaf: issued.Certificate}
}

// Revocation is for the provisioner that has the certificate, or for its key, and for
// nothing else than servers' certificates.
func TestRevocation(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	by, other := r.jwk("ops"), r.jwk("others")
	_, cert := r.certified(by, "one.example")
	theirs, another := r.certified(other, "one.example")
	station := r.ordered(ca.Order{Profile: ca.ProfileStation, Station: "cs-1", Subject: ca.Subject{CommonName: "SN-1"}, Requester: "station:cs-1"})
	used := r.token(by, "revoke", cert.SerialNumber.String(), spoil("jti", "used"))
	_, first := r.certified(by, "a.two.example")
	if got := r.revoke(r.token(by, "revoke", first.SerialNumber.String(), spoil("jti", "used")), first, 0); got.status != http.StatusOK {
		t.Fatalf("%d %s", got.status, got.body)
	}
	for name, tt := range map[string]struct {
		token  string
		cert   *x509.Certificate
		with   []tls.Certificate
		status int
		nobody bool // is proven by it: not on record
	}{
		"another provisioner":     {token: r.token(other, "revoke", cert.SerialNumber.String()), cert: cert, status: 403},
		"another serial number":   {token: r.token(by, "revoke", another.SerialNumber.String()), cert: cert, status: 403},
		"another's certificate":   {token: r.token(by, "revoke", another.SerialNumber.String()), cert: another, status: 403},
		"a token for /sign":       {token: r.token(by, "sign", cert.SerialNumber.String()), cert: cert, status: 401, nobody: true},
		"a token that was used":   {token: used, cert: cert, status: 401},
		"one that is revoked":     {token: r.token(by, "revoke", first.SerialNumber.String()), cert: first, status: 400},
		"a station's, by token":   {token: r.token(by, "revoke", station.Leaf.SerialNumber.String()), cert: station.Leaf, status: 403},
		"one from elsewhere":      {token: r.token(by, "revoke", "17"), cert: &x509.Certificate{SerialNumber: newOutside(t).cert.SerialNumber}, status: 403},
		"another's, by a key":     {cert: cert, with: []tls.Certificate{theirs}, status: 403},
		"a station's, by its key": {cert: station.Leaf, with: []tls.Certificate{station}, status: 401, nobody: true},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(r.events("step.refused"))
			got := r.revoke(tt.token, tt.cert, 0, tt.with...)
			if got.status != tt.status {
				t.Errorf("%d %s", got.status, got.body)
			}
			if recorded := len(r.events("step.refused")) > before; recorded == tt.nobody {
				t.Errorf("on record: %t", recorded)
			}
		})
	}
	for _, c := range []*x509.Certificate{cert, station.Leaf} {
		if record, err := r.store.Certificate(t.Context(), ca.SerialOf(c)); err != nil || record.State != ca.StateIssued {
			t.Errorf("%s is %s, %v", record.Subject, record.State, err)
		}
	}
	if got := r.revoke("", another, 0, theirs); got.status != http.StatusOK {
		t.Errorf("by its key: %d %s", got.status, got.body)
	}
	if got := r.revoke(r.token(by, "revoke", "0x"+cert.SerialNumber.Text(16)), cert, 9); got.status != http.StatusOK {
		t.Errorf("in hexadecimal: %d %s", got.status, got.body)
	}
}

// What can't be a provisioner isn't added.
func TestProvisioners(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if got := r.do(http.MethodGet, "/health", nil); got.status != http.StatusNotFound {
		t.Errorf("without provisioners there is a door: %d", got.status)
	}
	r.jwk("ops")
	public := func(key any) []byte {
		t.Helper()
		data, err := json.Marshal(jose.JSONWebKey{Key: key})
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	key := newKey(t)
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	mine := r.authority.Roots(ca.KindCSMS)
	root := newOutside(t)
	own := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: mine[0].Raw})
	leaf := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.leaf(t, key).Raw})
	good := func(edit func(*step.Draft)) step.Draft {
		d := step.Draft{Name: "new", JWK: public(key.Public()), Names: []string{"one.example"}}
		edit(&d)
		return d
	}
	for name, tt := range map[string]struct {
		draft step.Draft
		why   string
	}{
		"no name":         {good(func(d *step.Draft) { d.Name = "" }), "name has"},
		"a path":          {good(func(d *step.Draft) { d.Name = "a/b" }), "name has"},
		"no hosts":        {good(func(d *step.Draft) { d.Names = nil }), "needs 1 to"},
		"everything":      {good(func(d *step.Draft) { d.Names = []string{"*"} }), "no host name"},
		"an address":      {good(func(d *step.Draft) { d.Names = []string{"192.0.2.1"} }), "no host name"},
		"a private key":   {good(func(d *step.Draft) { d.JWK = public(key) }), "private"},
		"a secret":        {good(func(d *step.Draft) { d.JWK = public([]byte("0123456789abcdef0123456789abcdef")) }), "secret"},
		"a sealed key":    {good(func(d *step.Draft) { d.JWK = []byte(`{"protected":"x","ciphertext":"y"}`) }), "isn't one JSON Web Key"},
		"no key":          {good(func(d *step.Draft) { d.JWK = []byte("x") }), "isn't one JSON Web Key"},
		"a large curve":   {good(func(d *step.Draft) { d.JWK = public(p521.Public()) }), "P-256, P-384"},
		"a short key":     {good(func(d *step.Draft) { d.JWK = public(weak.Public()) }), "1024"},
		"neither":         {good(func(d *step.Draft) { d.JWK = nil }), "either"},
		"both":            {good(func(d *step.Draft) { d.Roots = root.pem() }), "either"},
		"our own root":    {good(func(d *step.Draft) { d.JWK, d.Roots = nil, own }), "CA here"},
		"no CA":           {good(func(d *step.Draft) { d.JWK, d.Roots = nil, leaf }), "isn't a CA"},
		"no certificates": {good(func(d *step.Draft) { d.JWK, d.Roots = nil, []byte("x") }), "in PEM"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := step.Add(t.Context(), r.store, nil, mine, start, "operator", tt.draft)
			var invalid *step.InvalidError
			if !errors.As(err, &invalid) || !strings.Contains(err.Error(), tt.why) {
				t.Errorf("%v", err)
			}
		})
	}
	if _, err := step.Add(t.Context(), r.store, nil, mine, start, "operator", good(func(d *step.Draft) { d.Name = "ops" })); !errors.Is(err, step.ErrProvisionerExists) {
		t.Errorf("twice: %v", err)
	}
	if _, err := step.Remove(t.Context(), r.store, "operator", "new"); !errors.Is(err, step.ErrUnknownProvisioner) {
		t.Errorf("removed, it isn't there: %v", err)
	}
	if list, err := r.store.StepProvisioners(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("%d provisioners, %v", len(list), err)
	}
}
