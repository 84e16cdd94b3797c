package vault_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"bollard/ca"
	"bollard/ca/catest"
	"bollard/ca/status"
	"bollard/internal/failpoint"
	"bollard/keys"
	"bollard/keys/vault/vaulttest"
	"bollard/store"
)

// mountRig is an authority that issues through a PKI mount.
type mountRig struct {
	*ca.Authority
	vault *vaulttest.Server
	db    *store.Store
	cfg   ca.Config
	dir   string
}

// openMounted opens the authority of a directory.
func openMounted(t *testing.T, dir string) *mountRig {
	t.Helper()
	r := &mountRig{dir: dir}
	var err error
	if r.db, err = store.Open(t.Context(), store.Config{Path: filepath.Join(dir, "bollard.db"), Clock: time.Now}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.db.Close() })
	k, err := keys.New(keys.Config{Dir: filepath.Join(dir, "keys")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	r.cfg = ca.Config{Store: r.db, Keeper: k, Organisation: "Example CPO", Country: "NL", StatusURL: "http://status.example", Clock: time.Now}
	return r
}

func (r *mountRig) open(t *testing.T) {
	t.Helper()
	a, err := ca.New(t.Context(), r.cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.Authority = a
}

// do changes something at the Vault.
func (r *mountRig) do(t *testing.T, path string, body map[string]any) {
	t.Helper()
	if _, err := r.vault.Do(t.Context(), r.vault.Token, path, body); err != nil {
		t.Fatal(err)
	}
}

// newMountRig sets a mount up as docs/vault-ca.md has it.
func newMountRig(t *testing.T, settings map[string]any) *mountRig {
	t.Helper()
	dir := t.TempDir()
	r := openMounted(t, dir)
	r.vault = startVault(t, nil)
	if err := ca.Init(t.Context(), ca.InitConfig{Store: r.db, Keeper: r.cfg.Keeper, Organisation: "Example CPO", Country: "NL", StatusURL: r.cfg.StatusURL, Clock: time.Now}); err != nil {
		t.Fatal(err)
	}
	r.open(t)
	request, uri, err := r.vault.Mount(t.Context(), dir, "Example CPO", settings)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := r.CertifyMount(t.Context(), ca.KindCSMS, uri, []byte(request), "operator")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.UseMount(t.Context(), ca.KindCSMS, "operator"); err == nil {
		t.Error("a mount without a certificate is used")
	}
	r.do(t, "stations/intermediate/set-signed", map[string]any{"certificate": ca.PEM(cert)})
	if _, err := r.UseMount(t.Context(), ca.KindCSMS, "operator"); !errors.Is(err, ca.ErrMountAnswer) {
		t.Errorf("a mount without URLs: %v", err)
	}
	r.do(t, "stations/config/urls", map[string]any{
		"issuing_certificates": "http://status.example/csms-issuing-2.crt", "crl_distribution_points": "http://status.example/csms-issuing-2.crl", "ocsp_servers": "http://status.example/ocsp",
	})
	if _, err := r.UseMount(t.Context(), ca.KindCSMS, "operator"); err != nil {
		t.Fatal(err)
	}
	return r
}

// issue orders one for station cs1.
func (r *mountRig) issue(ctx context.Context, csr ca.CSR) (*ca.Issued, error) {
	p, err := r.Prepare(ctx, catest.StationOrder(csr))
	if err != nil {
		return nil, err
	}
	return r.Issue(ctx, p)
}

// onList says whether the mount's own list has a certificate.
func (r *mountRig) onList(t *testing.T, serial string) bool {
	t.Helper()
	der, err := r.SignCRL(t.Context(), "csms-issuing-2")
	if err != nil {
		t.Fatal(err)
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(list.RevokedCertificateEntries, func(e x509.RevocationListEntry) bool { return e.SerialNumber.Text(16) == serial })
}

// A station's certificate comes from a real mount, with the profile's names, usages and
// pointers; revoked, our OCSP says so at once, signed for the mount, and the mount's list,
// which is served, as soon as the mount was told.
func TestIssuingThroughAMount(t *testing.T) {
	t.Parallel()
	r := newMountRig(t, nil)
	if err := r.CheckKeys(t.Context()); err != nil {
		t.Error(err)
	}
	issued, err := r.issue(t.Context(), catest.StationRequest(t))
	if err != nil {
		t.Fatal(err)
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(r.Roots(ca.KindCSMS)[0])
	for _, c := range issued.Chain {
		between.AddCert(c)
	}
	if _, err := issued.Certificate.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		t.Error(err)
	}
	if life := issued.Certificate.NotAfter.Sub(issued.Certificate.NotBefore); life < 365*24*time.Hour {
		t.Errorf("valid for %v", life)
	}
	// A server's key is Bollard's own: its request says everything.
	if _, err := r.ServerCertificates(t.Context(), ca.ServerNames{DNS: []string{"csms.example"}}, filepath.Join(r.dir, "server")); err != nil {
		t.Errorf("server certificates: %v", err)
	}
	answers, err := status.New(status.Config{Authority: r.Authority, Clock: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	request, err := ocsp.CreateRequest(issued.Certificate, issued.Chain[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	says := func() int {
		t.Helper()
		der, _, err := answers.Respond(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := ocsp.ParseResponseForCert(der, issued.Certificate, issued.Chain[0])
		if err != nil {
			t.Fatal(err)
		}
		return answer.Status
	}
	if got := says(); got != ocsp.Good {
		t.Errorf("OCSP before: %d", got)
	}
	if err := r.vault.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Revoke(t.Context(), issued.Serial, "keyCompromise", "operator"); err != nil {
		t.Fatal(err)
	}
	if got := says(); got != ocsp.Revoked {
		t.Errorf("OCSP after, Vault being sealed: %d", got)
	}
	if err := r.SettleMounts(t.Context()); !errors.Is(err, keys.ErrUnavailable) {
		t.Errorf("told while it is sealed: %v", err)
	}
	if err := r.vault.Unseal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.SettleMounts(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !r.onList(t, issued.Serial) {
		t.Error("the mount's list doesn't have it")
	}
	// A mount that keeps nothing is shown what it has to revoke; one that is elsewhere has
	// nothing, and is told once it is back.
	role := vaulttest.StationRole()
	role["organization"], role["no_store"] = "Example CPO", true
	r.do(t, "stations/roles/stations", role)
	if issued, err = r.issue(t.Context(), catest.StationRequest(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Revoke(t.Context(), issued.Serial, "keyCompromise", "operator"); err != nil {
		t.Fatal(err)
	}
	r.move(t, "stations", "elsewhere")
	if err := r.SettleMounts(t.Context()); !errors.Is(err, keys.ErrNotFound) {
		t.Errorf("told while it is elsewhere: %v", err)
	}
	r.move(t, "elsewhere", "stations")
	if err := r.SettleMounts(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !r.onList(t, issued.Serial) {
		t.Error("the list of a mount that keeps nothing doesn't have it")
	}
}

// move moves a mount to another path, and waits until it is there.
func (r *mountRig) move(t *testing.T, from, to string) {
	t.Helper()
	r.do(t, "sys/remount", map[string]any{"from": from, "to": to})
	for began := time.Now(); time.Since(began) < 30*time.Second; {
		if _, err := r.vault.Read(t.Context(), r.vault.Token, to+"/cert/ca"); err == nil {
			return
		}
	}
	t.Fatalf("%s isn't at %s", from, to)
}

// Whatever somebody changes at a real mount so that certificates are others: they are
// given to nobody, and revoked there.
func TestChangedMountIsRefused(t *testing.T) {
	t.Parallel()
	r := newMountRig(t, nil)
	urls := map[string]any{
		"issuing_certificates": "http://status.example/csms-issuing-2.crt", "crl_distribution_points": "http://status.example/csms-issuing-2.crl", "ocsp_servers": "http://status.example/ocsp",
	}
	role := func(change map[string]any) map[string]any {
		settings := vaulttest.StationRole()
		settings["organization"] = "Example CPO"
		for key, value := range change {
			settings[key] = value
		}
		return settings
	}
	for _, tt := range []struct {
		name, path   string
		change, back map[string]any
		fault        string
	}{
		{"organisation", "stations/roles/stations", role(map[string]any{"organization": "Another"}), role(nil), "subject"},
		{"unit", "stations/roles/stations", role(map[string]any{"ou": "x"}), role(nil), "subject"},
		{"key usage", "stations/roles/stations", role(map[string]any{"key_usage": "DigitalSignature,KeyAgreement"}), role(nil), "2.5.29.15"},
		{"extended key usage", "stations/roles/stations", role(map[string]any{"server_flag": true}), role(nil), "2.5.29.37"},
		{"longer", "stations/roles/stations", role(map[string]any{"not_after": time.Now().AddDate(3, 0, 0).UTC().Format(time.RFC3339)}), role(nil), "ends"},
		{"shorter", "stations/roles/stations", role(map[string]any{"not_after": time.Now().AddDate(0, 0, 30).UTC().Format(time.RFC3339)}), role(nil), "limits of the mount"},
		{"earlier", "stations/roles/stations", role(map[string]any{"not_before_duration": "48h"}), role(nil), "begins"},
		{"pointers", "stations/config/urls", map[string]any{"ocsp_servers": "http://vault.example/ocsp"}, urls, "1.3.6.1.5.5.7.1.1"},
	} {
		r.do(t, tt.path, tt.change)
		if _, err := r.issue(t.Context(), catest.StationRequest(t)); !errors.Is(err, ca.ErrMountAnswer) || !strings.Contains(err.Error(), tt.fault) {
			t.Errorf("%s: %v", tt.name, err)
		}
		r.do(t, tt.path, tt.back)
	}
	if _, err := r.issue(t.Context(), catest.StationRequest(t)); err != nil {
		t.Errorf("as it was: %v", err)
	}
	// Another CA in the same mount.
	other, err := r.vault.Do(t.Context(), r.vault.Token, "stations/root/generate/internal", map[string]any{"common_name": "another", "key_type": "ec", "issuer_name": "another", "ttl": "80000h"})
	if err != nil || other == nil {
		t.Fatal(err)
	}
	r.do(t, "stations/roles/stations", role(map[string]any{"issuer_ref": "another"}))
	if _, err := r.issue(t.Context(), catest.StationRequest(t)); !errors.Is(err, ca.ErrMountAnswer) || !strings.Contains(err.Error(), "its issuer") {
		t.Errorf("another CA: %v", err)
	}
	list, err := r.db.Unsettled(t.Context(), "csms-issuing-2", 100)
	if err != nil || len(list) != 10 { // the nine above, and the OCSP signer of the set-up
		t.Errorf("%d to be revoked, %v", len(list), err)
	}
	if err := r.SettleMounts(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, record := range list {
		der, err := r.vault.Read(t.Context(), r.vault.Token, "stations/cert/"+hyphens(record.Serial))
		inner, _ := der["data"].(map[string]any)
		if at, _ := inner["revocation_time"].(float64); err != nil || at == 0 {
			t.Errorf("%s isn't revoked at the mount: %v", record.Serial, err)
		}
	}
	// A role that refuses, and a policy that does: nothing is issued, and it is said why.
	r.do(t, "stations/roles/stations", role(map[string]any{"key_type": "rsa"}))
	if _, err := r.issue(t.Context(), catest.StationRequest(t)); !errors.Is(err, keys.ErrUnfit) {
		t.Errorf("a role that refuses: %v", err)
	}
	r.do(t, "sys/policies/acl/mount", map[string]any{"policy": `path "stations/cert/*" { capabilities = ["read"] }`})
	if _, err := r.issue(t.Context(), catest.StationRequest(t)); !errors.Is(err, keys.ErrDenied) {
		t.Errorf("a policy that refuses: %v", err)
	}
	r.do(t, "sys/policies/acl/mount", map[string]any{"policy": vaulttest.MountPolicy})
	r.do(t, "stations/roles/stations", role(nil))
	if _, err := r.issue(t.Context(), catest.StationRequest(t)); err != nil {
		t.Errorf("mended: %v", err)
	}
}

// hyphens writes a serial number as Vault's paths have it.
func hyphens(serial string) string {
	if len(serial)%2 == 1 {
		serial = "0" + serial
	}
	var parts []string
	for i := 0; i < len(serial); i += 2 {
		parts = append(parts, serial[i:i+2])
	}
	return strings.Join(parts, "-")
}

// Orders go on failing as unavailable, in time, while a mount's tokens end, it is sealed
// and killed, and go on without a restart; what was given out is on record, and nothing
// else is good at the mount.
func TestMountComesAndGoes(t *testing.T) {
	t.Parallel()
	r := newMountRig(t, map[string]any{"token_ttl": "1s", "token_max_ttl": "1s"})
	csr := catest.StationRequest(t)
	var given []string
	until := func(well bool) {
		t.Helper()
		for began := time.Now(); time.Since(began) < time.Minute; {
			one := time.Now()
			issued, err := r.issue(t.Context(), csr)
			if err == nil {
				given = append(given, issued.Serial)
			} else if took := time.Since(one); !errors.Is(err, keys.ErrUnavailable) || took > 15*time.Second {
				t.Fatalf("after %v: %v, want ErrUnavailable", took, err)
			}
			if (err == nil) == well {
				return
			}
		}
		t.Fatalf("waited in vain for an order with %t", well)
	}
	for began := time.Now(); time.Since(began) < 2500*time.Millisecond; {
		issued, err := r.issue(t.Context(), csr)
		if err != nil {
			t.Fatalf("a token ended: %v", err)
		}
		given = append(given, issued.Serial)
	}
	for _, trouble := range []struct{ begin, up func() error }{
		{func() error { return r.vault.Seal(t.Context()) }, func() error { return r.vault.Unseal(t.Context()) }},
		{func() error { r.vault.Kill(); return nil }, func() error { return errors.Join(r.vault.Restart(t.Context()), r.vault.Unseal(t.Context())) }},
	} {
		if err := trouble.begin(); err != nil {
			t.Fatal(err)
		}
		until(false)
		if err := trouble.up(); err != nil {
			t.Fatal(err)
		}
		until(true)
	}
	for _, serial := range given {
		if record, err := r.db.Certificate(t.Context(), serial); err != nil || record.State != ca.StateIssued {
			t.Errorf("certificate %s that was given out: %s, %v", serial, record.State, err)
		}
	}
	r.cfg.Clock = func() time.Time { return time.Now().Add(3 * time.Minute) } // the mount won't issue any more
	r.open(t)
	if err := r.SettleMounts(t.Context()); err != nil {
		t.Fatal(err)
	}
	all, err := r.vault.Read(t.Context(), r.vault.Token, "stations/certs?list=true")
	if err != nil {
		t.Fatal(err)
	}
	inner, _ := all["data"].(map[string]any)
	list, _ := inner["keys"].([]any)
	if len(list) < len(given) {
		t.Errorf("%d certificates at the mount, %d were given out", len(list), len(given))
	}
	for _, one := range list {
		text, _ := one.(string)
		n, ok := new(big.Int).SetString(strings.NewReplacer(":", "", "-", "").Replace(text), 16)
		if !ok {
			t.Fatalf("serial number %q", text)
		}
		if record, err := r.db.Certificate(t.Context(), n.Text(16)); err == nil && record.State == ca.StateIssued {
			continue
		}
		der, err := r.vault.Read(t.Context(), r.vault.Token, "stations/cert/"+strings.ReplaceAll(text, ":", "-"))
		inner, _ := der["data"].(map[string]any)
		if at, _ := inner["revocation_time"].(float64); err != nil || at == 0 {
			t.Errorf("%s is good at the mount, and isn't given out: %v", text, err)
		}
	}
}

// killedDir is the directory of an authority that is killed.
const killedDir = "BOLLARD_TEST_MOUNT_DIR"

// TestMountKilledChild issues once, in a process of its own that dies meanwhile.
func TestMountKilledChild(t *testing.T) {
	dir := os.Getenv(killedDir)
	if dir == "" {
		return // the parent is TestKilledWhileAMountIssues
	}
	r := openMounted(t, dir)
	r.open(t)
	block, err := os.ReadFile(filepath.Join(dir, "station.csr"))
	if err != nil {
		t.Fatal(err)
	}
	csr, err := ca.ParseCSR(block)
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.issue(t.Context(), csr)
	t.Fatalf("it lives: %v", err)
}

// Killed after the mount has signed, and once more after its serial number is known: a
// start finds what was signed, by its key or number, and has it revoked at the mount.
func TestKilledWhileAMountIssues(t *testing.T) {
	t.Parallel()
	r := newMountRig(t, nil)
	csr := catest.StationRequest(t)
	if err := os.WriteFile(filepath.Join(r.dir, "station.csr"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr.DER}), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.db.Close(); err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{"ca.after-sign", "ca.numbered"} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestMountKilledChild$", "-test.count=1")
		cmd.Env = append(os.Environ(), killedDir+"="+r.dir, failpoint.Env+"="+at)
		out, err := cmd.CombinedOutput()
		if err == nil || strings.Contains(string(out), "it lives") {
			t.Fatalf("%s: %v: %s", at, err, out)
		}
	}
	again := openMounted(t, r.dir)
	again.vault = r.vault
	clock := time.Now
	again.cfg.Clock = func() time.Time { return clock() }
	again.open(t)
	clock = func() time.Time { return time.Now().Add(2 * time.Minute) } // the mount won't issue any more
	if err := again.SettleMounts(t.Context()); err != nil {
		t.Fatal(err)
	}
	records, err := again.db.Certificates(t.Context(), ca.Filter{Station: "cs1"})
	if err != nil {
		t.Fatal(err)
	}
	revoked := 0
	for _, record := range records {
		if record.State == ca.StateIssued {
			t.Errorf("%s counts as issued", record.Serial)
		}
		if again.onList(t, record.Serial) {
			revoked++
		}
	}
	if revoked != 2 {
		t.Errorf("%d of 2 certificates are revoked at the mount; records %+v", revoked, records)
	}
}
