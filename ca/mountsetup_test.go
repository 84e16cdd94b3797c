package ca_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"slices"
	"testing"
	"time"

	"bollard/ca"
)

// A mount isn't used before it shows the certificate it was given, and issues as asked.
func TestMountIsTriedBeforeItIsUsed(t *testing.T) {
	t.Parallel()
	r := newMountRig(t, "stations")
	if _, err := r.UseMount(t.Context(), ca.KindCSMS, "operator"); !errors.Is(err, ca.ErrNoMount) {
		t.Errorf("without a mount: %v", err)
	}
	cert := r.certify(t)
	if again := r.certify(t); !again.Equal(cert) {
		t.Error("certified twice")
	}
	fails := func(what string) {
		t.Helper()
		if _, err := r.UseMount(t.Context(), ca.KindCSMS, "operator"); err == nil {
			t.Errorf("%s: used", what)
		}
		r.restart(t)
		issued, err := r.try(t, order(t, newKey(t)))
		if err != nil || issued.Issuer != "csms-issuing" {
			t.Errorf("%s: issued by %v, %v", what, issued, err)
		}
	}
	fails("no certificate")
	r.mount.cert = r.Intermediates(ca.KindCSMS)[0]
	fails("another certificate")
	r.mount.cert = cert
	r.mount.alter = func(c *x509.Certificate) { c.OCSPServer = []string{"http://vault.example/ocsp"} }
	fails("other pointers")
	r.mount.alter = nil
	if _, err := r.UseMount(t.Context(), ca.KindCSMS, "operator"); err != nil {
		t.Fatal(err)
	}
	r.restart(t)
	issued, err := r.try(t, order(t, newKey(t)))
	if err != nil || issued.Issuer != "csms-issuing-2" {
		t.Errorf("issued by %v, %v", issued, err)
	}
	if err := r.CheckKeys(t.Context()); err != nil {
		t.Error(err)
	}
	// What another mount is certified for meanwhile changes nothing, and the way back is open.
	r.mount.key, r.mount.cert = newKey(t), nil
	r.certify(t)
	if list, err := r.MigrateKeys(t.Context(), "softkms:back", false, "operator"); err != nil || len(list) == 0 || list[0].Kept != "" {
		t.Fatalf("%+v, %v", list, err)
	}
	if issued, err := r.try(t, order(t, newKey(t))); err != nil || issued.Issuer != "csms-issuing-4" {
		t.Errorf("issued by %v, %v", issued, err)
	}
}

// The CA certificate of a mount that is given up before it issued is revoked in the same
// write, so that the root's list has it; until then people may revoke it. That of a mount
// which issues stays, and is the same however often it is asked for.
func TestMountThatIsGivenUpIsRevoked(t *testing.T) {
	t.Parallel()
	r := newMountRig(t, "stations")
	onList := func(what string, cert *x509.Certificate, want bool) {
		t.Helper()
		der, err := r.SignCRL(t.Context(), "csms-root")
		if err != nil {
			t.Fatal(err)
		}
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			t.Fatal(err)
		}
		got := slices.ContainsFunc(list.RevokedCertificateEntries, func(e x509.RevocationListEntry) bool { return e.SerialNumber.Cmp(cert.SerialNumber) == 0 })
		if got != want {
			t.Errorf("%s: on the root's list %t", what, got)
		}
	}
	wrong := r.certify(t)
	onList("waits", wrong, false)
	r.mount.key = newKey(t)
	right := r.certify(t)
	onList("another key", wrong, true)
	if got := r.kinds(t, ca.SerialOf(wrong)); !slices.Contains(got, "certificate.revoked") {
		t.Errorf("entries %v", got)
	}
	if record, err := r.Revoke(t.Context(), ca.SerialOf(right), "superseded", "operator"); err != nil || record.State != ca.StateRevoked {
		t.Errorf("revoked by people: %s, %v", record.State, err)
	}
	onList("by people", right, true)
	r.mount.cert = right
	if _, err := r.UseMount(t.Context(), ca.KindCSMS, "operator"); err == nil {
		t.Error("a revoked one is used")
	}
	r.mount.cert = r.certify(t)
	r.mount.alter = func(c *x509.Certificate) {
		c.IssuingCertificateURL, c.CRLDistributionPoints = []string{"http://status.example/csms-issuing-3.crt"}, []string{"http://status.example/csms-issuing-3.crl"}
	}
	if _, err := r.UseMount(t.Context(), ca.KindCSMS, "operator"); err != nil {
		t.Fatal(err)
	}
	again := r.certify(t)
	if list, err := r.db.Requests(t.Context(), ca.KindCSMS); err != nil || len(list) != 2 || list[0].Waiting || !again.Equal(r.mount.cert) {
		t.Errorf("the mount that issues was certified once more: %+v, %v", list, err)
	}
	if _, err := r.Revoke(t.Context(), ca.SerialOf(r.mount.cert), "superseded", "operator"); err == nil {
		t.Error("the CA that issues was revoked")
	}
	used := r.mount.cert
	r.mount.key = newKey(t)
	other := r.certify(t)
	if _, err := r.MigrateKeys(t.Context(), "softkms:back", false, "operator"); err != nil {
		t.Fatal(err)
	}
	onList("the way back", other, true)
	onList("used", used, false)
	if _, err := r.Revoke(t.Context(), ca.SerialOf(used), "superseded", "operator"); err == nil {
		t.Error("the CA that issued was revoked")
	}
}

// The root certifies a mount's key again when it is time; the command that certified it
// prints the new certificate, and the mount issues with either.
func TestCertificateOfAMountIsRenewed(t *testing.T) {
	t.Parallel()
	r := inUse(t, "stations")
	r.ahead.Add(int64(400 * 24 * time.Hour))
	if list, err := r.RenewCAs(t.Context(), ca.KindCSMS, "operator"); err != nil || len(list) != 1 || list[0].Name != "csms-issuing-2" {
		t.Fatalf("%+v, %v", list, err)
	}
	next := r.certify(t)
	if !next.NotAfter.After(r.mount.cert.NotAfter) {
		t.Errorf("it ends on %s, as before", next.NotAfter)
	}
	for range 2 {
		if issued, err := r.try(t, order(t, newKey(t))); err != nil || !issued.Chain[0].Equal(next) {
			t.Errorf("issued under %v, %v", issued, err)
		}
		r.mount.cert = next
	}
	if err := r.CheckKeys(t.Context()); err != nil {
		t.Error(err)
	}
}

// A mount whose key was a CA's that issued isn't certified with it again, under another
// name: the CA it was goes on to answer for what it issued. With a new key it is.
func TestMountComesBack(t *testing.T) {
	t.Parallel()
	r := inUse(t, "stations")
	before := r.mount.cert
	if _, err := r.MigrateKeys(t.Context(), "softkms:back", false, "operator"); err != nil {
		t.Fatal(err)
	}
	again := func() (*x509.Certificate, error) {
		return r.CertifyMount(t.Context(), ca.KindCSMS, mountURI, request(t, r.mount.key, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "mount"}}), "operator")
	}
	requests := func() int {
		list, err := r.db.Requests(t.Context(), ca.KindCSMS)
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	made := requests()
	if _, err := again(); !errors.Is(err, ca.ErrKeyInUse) || requests() != made {
		t.Errorf("with the key it had: %v, %d requests, want %d", err, requests(), made)
	}
	r.mount.key = newKey(t)
	if next, err := again(); err != nil || next.Equal(before) || requests() != made+1 {
		t.Errorf("with a new key: %v, %d requests", err, requests())
	}
}
