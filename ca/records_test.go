package ca_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bollard/ca"
)

// foreign is a CA Bollard knows nothing of.
type foreign struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newForeign(t *testing.T, change func(*x509.Certificate)) foreign {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Maker Root"},
		NotBefore: start.AddDate(-1, 0, 0), NotAfter: start.AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if change != nil {
		change(template)
	}
	return foreign{key, certificate(t, template, template, key, key)}
}

func certificate(t *testing.T, template, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// leaf of the foreign CA with a serial number of its choice.
func (f foreign) leaf(t *testing.T, serial *big.Int, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	return certificate(t, &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "SN-0001"},
		NotBefore: start, NotAfter: start.AddDate(1, 0, 0),
	}, f.cert, key, f.key)
}

func toPEM(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

func TestLookup(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	o := order(t, newKey(t))
	o.Reference = "order-7"
	issued := r.issue(t, o)
	for name, look := range map[string]func() (*ca.Issued, error){
		"serial":    func() (*ca.Issued, error) { return r.Lookup(t.Context(), issued.Serial) },
		"reference": func() (*ca.Issued, error) { return r.LookupReference(t.Context(), "order-7") },
	} {
		got, err := look()
		if err != nil || !got.Certificate.Equal(issued.Certificate) || len(got.Chain) != 1 || !got.Chain[0].Equal(issued.Chain[0]) {
			t.Errorf("by %s: %+v, %v", name, got, err)
		}
	}
	for _, reference := range []string{"", "order-8"} {
		if got, err := r.LookupReference(t.Context(), reference); got != nil || err != nil {
			t.Errorf("reference %q: %v, %v", reference, got, err)
		}
	}
	if _, err := r.Lookup(t.Context(), "00"); !errors.Is(err, ca.ErrUnknownSerial) {
		t.Errorf("unknown serial: %v", err)
	}
	p, err := r.Prepare(t.Context(), order(t, newKey(t)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Lookup(t.Context(), p.Intent().Serial); !errors.Is(err, ca.ErrUnknownSerial) {
		t.Errorf("unfinished certificate: %v", err)
	}
}

// Promise 9: states only move forward.
func TestRevoke(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	issued := r.issue(t, order(t, newKey(t)))
	if _, err := r.Revoke(t.Context(), issued.Serial, "because", "operator"); err == nil || !strings.Contains(err.Error(), "keyCompromise") {
		t.Errorf("unknown reason: %v", err)
	}
	for _, reason := range []string{"certificateHold", "removeFromCRL", ""} {
		if _, err := r.Revoke(t.Context(), issued.Serial, reason, "operator"); err == nil {
			t.Errorf("reason %q was accepted", reason)
		}
	}
	rec, err := r.Revoke(t.Context(), strings.ToUpper(issued.Serial), "keyCompromise", "operator")
	if err != nil || rec.State != ca.StateRevoked || rec.Reason != "keyCompromise" || !rec.RevokedAt.Equal(start) {
		t.Fatalf("got %+v, %v", rec, err)
	}
	r.now = start.Add(time.Hour)
	rec, err = r.Revoke(t.Context(), issued.Serial, "superseded", "operator")
	if err != nil || rec.Reason != "keyCompromise" || !rec.RevokedAt.Equal(start) {
		t.Errorf("revoked twice: %+v, %v", rec, err)
	}
	if _, err := r.Revoke(t.Context(), "ff", "superseded", "operator"); !errors.Is(err, ca.ErrUnknownSerial) {
		t.Errorf("unknown: %v", err)
	}
	for _, cert := range []*x509.Certificate{r.Roots(ca.KindCSMS)[0], r.Intermediates(ca.KindCSMS)[0]} {
		if _, err := r.Revoke(t.Context(), ca.SerialOf(cert), "superseded", "operator"); err == nil {
			t.Errorf("%s was revoked", cert.Subject)
		}
	}
}

// standing is a certificate's status, and that of what is kept of it, which is the same.
func (r *rig) standing(t *testing.T, cert *x509.Certificate) (ca.Record, bool, error) {
	t.Helper()
	rec, known, err := r.Status(t.Context(), cert)
	kept, found, wrong := r.StatusOf(t.Context(), ca.LeafOf(cert))
	if diff := cmp.Diff(rec, kept); diff != "" || known != found || (err == nil) != (wrong == nil) {
		t.Errorf("what is kept of the certificate has another status (known %t and %t, %v and %v): %s", known, found, err, wrong, diff)
	}
	return rec, known, err
}

func TestStatusComparesTheWholeCertificate(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	issued := r.issue(t, order(t, newKey(t)))
	rec, known, err := r.standing(t, issued.Certificate)
	if err != nil || !known || rec.State != ca.StateIssued {
		t.Fatalf("own certificate: %+v, %t, %v", rec, known, err)
	}
	maker := newForeign(t, nil)
	twin := maker.leaf(t, issued.Certificate.SerialNumber, newKey(t))
	if _, known, err := r.standing(t, twin); known || err != nil {
		t.Errorf("another CA's certificate with an own serial number: known %t, %v", known, err)
	}
	if err := r.RecordExternal(t.Context(), twin, "cs9", "operator"); err != nil {
		t.Fatal(err)
	}
	rec, known, err = r.standing(t, twin)
	if err != nil || !known || !rec.External || rec.Station != "cs9" || rec.Serial == issued.Serial {
		t.Errorf("recorded: %+v, %t, %v", rec, known, err)
	}
	if rec, err = r.Revoke(t.Context(), rec.Serial, "cessationOfOperation", "operator"); err != nil || rec.State != ca.StateRevoked {
		t.Errorf("revoked: %+v, %v", rec, err)
	}
	if rec, _, _ = r.standing(t, twin); rec.State != ca.StateRevoked {
		t.Errorf("state %s", rec.State)
	}
	if rec, _, _ = r.standing(t, issued.Certificate); rec.State != ca.StateIssued {
		t.Errorf("the own certificate with that serial is %s", rec.State)
	}
}

// Signed, but the write that records it never happened: known by its bytes, not in force.
func TestStatusOfASignatureWithoutARecord(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.counted(t)
	key := newKey(t)
	p, err := r.Prepare(t.Context(), order(t, key))
	if err != nil {
		t.Fatal(err)
	}
	r.store.Fail["PutIssued"] = errors.New("full")
	if _, err := r.Issue(t.Context(), p); err == nil || c.signed.Load() != 1 {
		t.Fatalf("got %v", err)
	}
	delete(r.store.Fail, "PutIssued")
	cert := r.Signed(t, p)
	for _, want := range []ca.State{ca.StateIntended, ca.StateOrphaned} {
		rec, known, err := r.standing(t, cert)
		if err != nil || !known || rec.State != want {
			t.Errorf("%+v, %t, %v; want %s", rec, known, err, want)
		}
		r.open(t)
	}
	list := parseCRL(t, r)
	if len(list.RevokedCertificateEntries) != 1 || list.RevokedCertificateEntries[0].SerialNumber.Cmp(cert.SerialNumber) != 0 {
		t.Error("the CRL doesn't list the orphan")
	}
}

func TestRecordExternal(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	maker := newForeign(t, nil)
	key := newKey(t)
	cert := maker.leaf(t, big.NewInt(5), key)
	for range 2 {
		if err := r.RecordExternal(t.Context(), cert, "cs1", "station:cs1"); err != nil {
			t.Fatal(err)
		}
	}
	events := 0
	for _, e := range r.store.Events {
		if e.Kind == "certificate.external" {
			events++
		}
	}
	if events != 1 {
		t.Errorf("%d ledger events, want 1", events)
	}
	if err := r.RecordExternal(t.Context(), maker.leaf(t, big.NewInt(6), key), "cs2", "x"); !errors.Is(err, ca.ErrKeyInUse) {
		t.Errorf("the key of another station: %v", err)
	}
	// The factory key may get an own certificate, of this station only.
	o := order(t, key)
	r.issue(t, o)
	o.Station = "cs2"
	if _, err := r.Prepare(t.Context(), o); !errors.Is(err, ca.ErrKeyInUse) {
		t.Errorf("factory key of another station: %v", err)
	}
	// Two makers count their certificates from 1.
	if err := r.RecordExternal(t.Context(), newForeign(t, nil).leaf(t, big.NewInt(5), newKey(t)), "cs3", "x"); err != nil {
		t.Errorf("equal serial numbers of two makers: %v", err)
	}
}

func parseCRL(t *testing.T, r *rig) *x509.RevocationList {
	t.Helper()
	der, err := r.CRL(t.Context(), ca.KindCSMS)
	if err != nil {
		t.Fatal(err)
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// RFC 5280 §5: numbers rise, reasons and times are the records'.
func TestCRL(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	empty := parseCRL(t, r)
	issued := r.issue(t, order(t, newKey(t)))
	if _, err := r.Revoke(t.Context(), issued.Serial, "keyCompromise", "operator"); err != nil {
		t.Fatal(err)
	}
	r.now = start.Add(time.Hour)
	list := parseCRL(t, r)
	if err := list.CheckSignatureFrom(r.Intermediates(ca.KindCSMS)[0]); err != nil {
		t.Error(err)
	}
	if len(empty.RevokedCertificateEntries) != 0 || len(list.RevokedCertificateEntries) != 1 {
		t.Fatalf("%d and %d entries", len(empty.RevokedCertificateEntries), len(list.RevokedCertificateEntries))
	}
	e := list.RevokedCertificateEntries[0]
	if e.SerialNumber.Cmp(issued.Certificate.SerialNumber) != 0 || e.ReasonCode != 1 || !e.RevocationTime.Equal(start) {
		t.Errorf("entry %+v", e)
	}
	if list.Number.Cmp(empty.Number) <= 0 {
		t.Errorf("number %s after %s", list.Number, empty.Number)
	}
	if !list.ThisUpdate.Equal(r.now) || !list.NextUpdate.Equal(r.now.Add(24*time.Hour)) {
		t.Errorf("from %s to %s", list.ThisUpdate, list.NextUpdate)
	}
	der, err := r.SignCRL(t.Context(), "csms-root")
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseRevocationList(der)
	if err != nil || root.CheckSignatureFrom(r.Roots(ca.KindCSMS)[0]) != nil || len(root.RevokedCertificateEntries) != 0 {
		t.Errorf("root CRL: %v", err)
	}
	if _, err := r.CRL(t.Context(), "v2g"); !errors.Is(err, ca.ErrNoHierarchy) {
		t.Errorf("unknown kind: %v", err)
	}
	// The number is taken, with its ledger entry, before the list is signed.
	c := r.counted(t)
	r.store.Fail["NextCRLNumber"] = errors.New("full")
	if _, err := r.CRL(t.Context(), ca.KindCSMS); err == nil || c.signed.Load() != 0 {
		t.Errorf("got %v, %d signatures", err, c.signed.Load())
	}
}

// Threat C6.
func TestAddAnchor(t *testing.T) {
	t.Parallel()
	good := newForeign(t, nil)
	signed := newForeign(t, nil)
	intermediate := certificate(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "Maker Sub"}, NotBefore: start, NotAfter: start.AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, signed.cert, newKey(t), signed.key)
	forged := certificate(t, &x509.Certificate{
		SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "Maker Root"}, NotBefore: start, NotAfter: start.AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, signed.cert, newKey(t), signed.key)
	tests := []struct {
		name, use string
		data      []byte
		want      string
	}{
		{"root", "station", toPEM(good.cert), ""},
		{"no CA", "station", toPEM(newForeign(t, func(c *x509.Certificate) { c.IsCA = false }).cert), "no CA"},
		{"intermediate", "station", toPEM(intermediate), "intermediate"},
		{"self-issued, signed by another", "station", toPEM(forged), "isn't signed by itself"},
		{"expired", "station", toPEM(newForeign(t, func(c *x509.Certificate) { c.NotAfter = start.Add(-time.Second) }).cert), "expired"},
		{"SHA-1", "station", vector(t, "../anchors/sha1"), "SHA1"},
		{"MD5", "station", vector(t, "../anchors/md5"), "MD5"},
		{"two blocks", "station", toPEM(good.cert, good.cert), "one root at a time"},
		{"no PEM", "station", good.cert.Raw, "isn't a PEM certificate"},
		{"a request", "station", vector(t, "ec-prime256v1"), "isn't a PEM certificate"},
		{"unknown use", "firmware", toPEM(good.cert), "uses: station"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			_, err := r.AddAnchor(t.Context(), tt.use, tt.data, "operator")
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if list, _ := r.Anchors(t.Context(), ""); (len(list) == 1) != (tt.want == "") {
				t.Errorf("%d anchors", len(list))
			}
		})
	}
}

func TestStationPoolsFollowTheAnchors(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	maker := newForeign(t, nil)
	leaf := maker.leaf(t, big.NewInt(9), newKey(t))
	trusted := func() bool {
		t.Helper()
		pools, err := r.StationPools(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, own := leaf.Verify(x509.VerifyOptions{Roots: pools.Own, CurrentTime: start.Add(time.Hour), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		if own == nil {
			t.Error("an outside certificate chains to an own root")
		}
		_, err = leaf.Verify(x509.VerifyOptions{Roots: pools.Outside, CurrentTime: start.Add(time.Hour), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		listed := false
		for _, subject := range pools.Subjects.Subjects() { //nolint:staticcheck // no system roots in it
			listed = listed || bytes.Equal(subject, maker.cert.RawSubject)
		}
		if listed != (err == nil) {
			t.Error("the list of subjects differs from the trust")
		}
		return err == nil
	}
	if trusted() {
		t.Error("trusted before the root was added")
	}
	// V2G roots are never mixed with stations' roots.
	if _, err := r.AddAnchor(t.Context(), "v2g", toPEM(maker.cert), "operator"); err != nil {
		t.Fatal(err)
	}
	if trusted() {
		t.Error("a V2G root is trusted for stations")
	}
	anchor, err := r.AddAnchor(t.Context(), "station", toPEM(maker.cert), "operator")
	if err != nil {
		t.Fatal(err)
	}
	if !trusted() {
		t.Error("not trusted after the root was added")
	}
	for prefix, want := range map[string]string{anchor.Hash[:7]: "eight digits", "00000000": ca.ErrUnknownAnchor.Error()} {
		if _, err := r.RemoveAnchor(t.Context(), "station", prefix, "operator"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("prefix %s: %v", prefix, err)
		}
	}
	if _, err := r.RemoveAnchor(t.Context(), "station", strings.ToUpper(anchor.Hash[:8]), "operator"); err != nil {
		t.Fatal(err)
	}
	if trusted() {
		t.Error("trusted after the root was removed")
	}
	own := r.issue(t, order(t, newKey(t)))
	pools, err := r.StationPools(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := own.Certificate.Verify(x509.VerifyOptions{
		Roots: pools.Own, Intermediates: pools.Intermediates, CurrentTime: start.Add(time.Minute),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}); err != nil {
		t.Error(err)
	}
}
