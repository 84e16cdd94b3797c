package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"bollard/admin"
	"bollard/firmware/bundle"
	"bollard/firmware/job"
	"bollard/firmware/release"
	"bollard/ocpp"
	"bollard/station"
	"bollard/station/csms"
)

// maker is a manufacturer with a root and a firmware signing key under it.
type maker struct {
	root, cert *x509.Certificate
	key        *ecdsa.PrivateKey
	rootKey    *ecdsa.PrivateKey
	above      []*x509.Certificate // CAs between
}

func newMaker(t *testing.T) *maker {
	t.Helper()
	m := &maker{}
	rootKey := newP256(t)
	m.rootKey = rootKey
	now := time.Now()
	m.root = newCert(t, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{Organization: []string{"ACME"}, CommonName: "ACME Firmware Root"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, &rootKey.PublicKey, rootKey)
	m.key = newP256(t)
	m.cert = newCert(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{Organization: []string{"ACME"}, CommonName: "ACME Firmware 1"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning, x509.ExtKeyUsageEmailProtection},
	}, m.root, &m.key.PublicKey, rootKey)
	return m
}

// under is the manufacturer with a signer under a CA of its own.
func (m *maker) under(t *testing.T) *maker {
	t.Helper()
	key := newP256(t)
	between := newCert(t, &x509.Certificate{
		SerialNumber: big.NewInt(3), Subject: pkix.Name{Organization: []string{"ACME"}, CommonName: "ACME Firmware CA " + rand.Text()},
		NotBefore: m.root.NotBefore, NotAfter: m.root.NotAfter, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}, m.root, &key.PublicKey, m.rootKey)
	signer := newP256(t)
	cert := newCert(t, &x509.Certificate{
		SerialNumber: big.NewInt(4), Subject: m.cert.Subject, NotBefore: m.root.NotBefore, NotAfter: m.root.NotAfter, KeyUsage: m.cert.KeyUsage, ExtKeyUsage: m.cert.ExtKeyUsage,
	}, between, &signer.PublicKey, key)
	return &maker{root: m.root, cert: cert, key: signer, rootKey: m.rootKey, above: []*x509.Certificate{between}}
}

func newP256(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newCert(t *testing.T, template, parent *x509.Certificate, public *ecdsa.PublicKey, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func certPEM(cert *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
}

// bundle writes a release of an image into a folder.
func (m *maker) release(t *testing.T, version string, sequence uint64, image []byte, change ...func(*release.Release)) (dir string, r *release.Release) {
	t.Helper()
	dir = t.TempDir()
	sum, long := sha256.Sum256(image), sha512.Sum512(image)
	signature, err := ecdsa.SignASN1(rand.Reader, m.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	r = &release.Release{
		ID: release.NewID(time.Now(), [10]byte([]byte(rand.Text())[:10])), Vendor: "ACME", Models: []release.Model{{Vendor: "ACME", Model: "Volt"}}, Component: "firmware",
		Version: version, Sequence: sequence, SecurityEpoch: 1, File: "volt.bin", Size: uint64(len(image)), SHA256: hex.EncodeToString(sum[:]), SHA512: hex.EncodeToString(long[:]),
		Signatures: []release.Signature{{Dialect: release.ECDSAP256, Cert: release.Fingerprint(m.cert), Value: base64.StdEncoding.EncodeToString(signature)}},
		NotBefore:  time.Now().UTC().Truncate(time.Second).Add(-time.Hour), Expires: time.Now().UTC().Truncate(time.Second).Add(time.Hour), Log: release.NoLog,
	}
	for _, f := range change {
		f(r)
	}
	text, err := r.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	envelope, err := release.Seal(t.Context(), release.PayloadType, text, m.cert, m.key, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{bundle.FileEnvelope: envelope, bundle.FileCertificate: []byte(certPEM(m.cert)), r.File: image}
	if len(m.above) > 0 {
		files[bundle.FileChain] = release.EncodeChain(m.above)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir, r
}

// yard is a server with a back end, a manufacturer and stations.
type yard struct {
	*rig
	t      *testing.T
	maker  *maker
	csms   *csms.Server
	client *admin.Client
	roots  []*x509.Certificate
	person string // file of an approver's key
}

func newYard(t *testing.T, config string) *yard {
	t.Helper()
	return newYardOf(t, newMaker(t), config)
}

// newYardOf is newYard of a manufacturer, with more people who approve.
func newYardOf(t *testing.T, m *maker, config string, people ...string) *yard {
	t.Helper()
	y := &yard{t: t, maker: m, person: filepath.Join(t.TempDir(), "alice")}
	var err error
	if y.csms, err = csms.New(t.Context(), csms.Config{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(y.csms.Close)
	approvers := ""
	for _, name := range append([]string{"alice"}, people...) {
		file := y.who(name)
		if out, err := exec.CommandContext(t.Context(), "ssh-keygen", "-q", "-N", "", "-t", "ed25519", "-f", file).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen: %v: %s", err, out)
		}
		public, err := os.ReadFile(file + ".pub")
		if err != nil {
			t.Fatal(err)
		}
		approvers += "  - {name: " + name + ", ssh: [\"" + strings.TrimSpace(string(public)) + "\"]}\n"
	}
	dir := newDataDir(t, y.csms.URL())
	file, err := os.OpenFile(filepath.Join(dir, configName), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = file.WriteString("approvers:\n" + approvers + "approvals: [{action: firmware.publish, needed: 1}]\n" + config)
	if err := errors.Join(err, file.Close(), os.MkdirAll(filepath.Join(dir, policyName), 0o700)); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, configName)
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	// SFTP is off unless it is given.
	open := regexp.MustCompile(`(?m)^#   sftp:(.*the same over)`).ReplaceAll(text, []byte("  sftp: 127.0.0.1:0 # $1"))
	if bytes.Equal(open, text) {
		t.Fatalf("bollard.yaml has no line to open SFTP with:\n%s", text)
	}
	if err := os.WriteFile(name, open, 0o600); err != nil {
		t.Fatal(err)
	}
	y.hosts(dir, "127.0.0.1:1")
	y.rig = startServer(t, dir)
	y.client = admin.NewClient(dir)
	root := ask[admin.KindRef, admin.PEM](y, "ca.root", admin.KindRef{Kind: "csms"})
	if y.roots, err = station.ParseCertificates([]byte(root.PEM)); err != nil {
		t.Fatal(err)
	}
	ask[admin.AddTrust, admin.Anchors](y, "ca.trust.add", admin.AddTrust{Use: "manufacturer", PEM: []byte(certPEM(y.maker.root))})
	return y
}

// hosts lets back ends send stations to hosts.
func (y *yard) hosts(dir string, hosts ...string) {
	y.t.Helper()
	text := "lists: {station_hosts: [\"" + strings.Join(hosts, `", "`) + "\"]}\n"
	if err := os.WriteFile(filepath.Join(dir, policyName, "hosts.yaml"), []byte(text), 0o600); err != nil {
		y.t.Fatal(err)
	}
}

func ask[In, Out any](y *yard, operation string, in In) Out {
	y.t.Helper()
	out, err := admin.Call[In, Out](y.t.Context(), y.client, operation, in)
	if err != nil {
		y.t.Fatalf("%s: %v", operation, err)
	}
	return out
}

// cli runs a command as an operator does.
func (y *yard) cli(args ...string) (string, string, int) {
	y.t.Helper()
	var out, errs strings.Builder
	code := run(y.t.Context(), append(args, "--data", y.dir), strings.NewReader(""), &out, &errs)
	return out.String(), errs.String(), code
}

func (y *yard) must(args ...string) string {
	y.t.Helper()
	out, errs, code := y.cli(args...)
	if code != 0 {
		y.t.Fatalf("bollard %s: exit code %d\n%s", strings.Join(args, " "), code, errs)
	}
	return out
}

// publish takes a release in and publishes it, with an approval.
func (y *yard) publish(version string, sequence uint64, image []byte) *release.Release {
	y.t.Helper()
	dir, r := y.maker.release(y.t, version, sequence, image)
	y.must("firmware", "add", dir)
	y.approve(r.ID)
	y.must("firmware", "publish", r.ID)
	return r
}

// approve has the person agree to an action on a release: its publication, if how
// names no other. It returns the file with the signature.
func (y *yard) approve(id string, how ...string) string {
	y.t.Helper()
	return y.approveAs("alice", id, how...)
}

// who is the file of a person's key.
func (y *yard) who(name string) string { return filepath.Join(filepath.Dir(y.person), name) }

func (y *yard) approveAs(name, id string, how ...string) string {
	y.t.Helper()
	how = append([]string{"firmware", "approve", id}, how...)
	file := filepath.Join(y.t.TempDir(), "statement")
	if err := os.WriteFile(file, []byte(y.must(append(how, "--print")...)), 0o600); err != nil {
		y.t.Fatal(err)
	}
	if out, err := exec.CommandContext(y.t.Context(), "ssh-keygen", "-q", "-Y", "sign", "-n", "bollard-approval", "-f", y.who(name), file).CombinedOutput(); err != nil {
		y.t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
	y.must(append(how, "--signature", file+".sig")...)
	return file + ".sig"
}

// charger is a station that lives until the test ends.
func (y *yard) charger(identity string, version ocpp.Version, change func(*station.Config)) *station.Station {
	y.t.Helper()
	cfg := station.Config{
		Identity: identity, Serial: "SN-" + identity, Vendor: "ACME", Model: "Volt", Version: version, URL: "wss://" + y.at.OCPP[0] + "/ocpp", ServerName: "localhost",
		Organisation: "Example CPO", Roots: y.roots, ManufacturerRoots: []*x509.Certificate{y.maker.root},
		BackOff: station.BackOff{Minimum: 20 * time.Millisecond, Random: time.Millisecond, Repeats: 1},
	}
	if change != nil {
		change(&cfg)
	}
	y.must("station", "add", identity, "--serial", cfg.Serial, "--vendor", cfg.Vendor, "--model", cfg.Model)
	added := ask[admin.SetPassword, admin.NewPassword](y, "station.password", admin.SetPassword{Identity: identity})
	cfg.Password = []byte(added.Password)
	ctx, cancel := context.WithCancel(y.t.Context())
	st, err := station.New(ctx, cfg)
	if err != nil {
		y.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = st.Run(ctx); close(ended) }()
	y.t.Cleanup(func() { cancel(); st.Close(); <-ended })
	y.await(st, "it is accepted", func(s station.State) bool { return s.Registration == "Accepted" })
	return st
}

func (y *yard) await(st *station.Station, what string, ok func(station.State) bool) {
	y.t.Helper()
	ctx, cancel := context.WithTimeout(y.t.Context(), patience)
	defer cancel()
	if err := st.Await(ctx, ok); err != nil {
		y.t.Fatalf("%s: %v\n%s", what, err, y.log)
	}
}

// send has the back end send a CALL.
func (y *yard) send(identity, action string, payload any) (map[string]any, error) {
	y.t.Helper()
	ctx, cancel := context.WithTimeout(y.t.Context(), patience)
	defer cancel()
	if err := y.csms.AwaitStation(ctx, identity, true); err != nil { // it may be restarting
		y.t.Fatal(err)
	}
	raw, err := y.csms.Call(ctx, identity, action, payload)
	if err != nil {
		return nil, err
	}
	var answer map[string]any
	if err := json.Unmarshal(raw, &answer); err != nil {
		y.t.Fatal(err)
	}
	return answer, nil
}

// request is what a back end sends for a release, as its maker's portal gave it.
func (y *yard) request(id int, r *release.Release) map[string]any {
	firmware := map[string]any{"location": "https://127.0.0.1:1/volt.bin", "retrieveDateTime": "2026-01-01T00:00:00Z"}
	if r != nil {
		firmware["signingCertificate"], firmware["signature"] = certPEM(y.maker.cert), r.Signatures[0].Value
	}
	return map[string]any{"requestId": id, "retries": 50, "firmware": firmware}
}

// update is a station's newest.
func (y *yard) update(identity string) job.Job {
	y.t.Helper()
	list := ask[admin.UpdateFilter, admin.Updates](y, "firmware.updates", admin.UpdateFilter{Station: identity}).Updates
	if len(list) == 0 {
		return job.Job{}
	}
	return list[0]
}

func (y *yard) awaitUpdate(identity string, want job.State) job.Job {
	y.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		j := y.update(identity)
		if j.State == want {
			return j
		}
		if time.Now().After(deadline) || !j.State.Open() && j.State != "" {
			y.t.Fatalf("update is %s (%s), want %s: %+v\n%s", j.State, j.Reason, want, j.Steps, y.log)
		}
	}
}

// statuses are those a back end was told, without repeats and without Idle, the
// answer to a trigger that came when all was said (L01.FR.25).
func (y *yard) statuses(identity, action string) []string {
	var list []string
	for _, frame := range y.csms.Seen(identity, ocpp.FromStation) {
		head, err := ocpp.ParseHead(frame)
		if err != nil || head.Type != ocpp.Call || head.Action != action {
			continue
		}
		var m struct {
			Status string `json:"status"`
		}
		if json.Unmarshal(head.Payload, &m) == nil && m.Status != "Idle" {
			list = append(list, m.Status)
		}
	}
	return slices.Compact(list)
}
