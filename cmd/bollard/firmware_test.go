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
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"bollard/admin"
	"bollard/approval/docket"
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

// The whole way, over real sockets and with a real download: a back end asks, the
// station gets the release from the depot and nothing else, and only its boot ends
// the update; the older release is refused then.
func TestFirmwareUpdate(t *testing.T) { // L01.FR.01, .11, .28, .31, promise 10
	t.Parallel()
	y := newYard(t, "firmware: {models: [{model: Volt, sign_fill: true, upgrade: true}]}\n")
	image := station.Image("2.0.0", 300_000)
	old := y.publish("1.5.0", 15, station.Image("1.5.0", 1000))
	r := y.publish("2.0.0", 20, image)
	signed := []string{"Downloading", "Downloaded", "SignatureVerified", "Installing", "InstallRebooting", "Installed"}
	ours := "https://localhost:" + y.at.Firmware[strings.LastIndex(y.at.Firmware, ":")+1:]
	y.hosts(y.dir, "127.0.0.1:1", strings.TrimPrefix(ours, "https://"))
	y.must("policy", "reload")
	for identity, tt := range map[string]struct {
		version        ocpp.Version
		action, notice string
		payload        any
		want           []string
		cut            int
	}{
		"fw201":  {ocpp.V201, "UpdateFirmware", "FirmwareStatusNotification", y.request(7, r), signed, 1},
		"fw21":   {ocpp.V21, "UpdateFirmware", "FirmwareStatusNotification", y.request(7, r), signed, 0},
		"fw16":   {ocpp.V16, "SignedUpdateFirmware", "SignedFirmwareStatusNotification", y.request(7, r), signed, 0},
		"filled": {ocpp.V201, "UpdateFirmware", "FirmwareStatusNotification", map[string]any{"requestId": 9, "firmware": map[string]any{"location": ours + "/d/" + r.SHA256 + "/x", "retrieveDateTime": "2026-01-01T00:00:00Z"}}, signed, 0},
		// A back end that knows nothing of signed firmware sees only what it knows.
		"legacy": {ocpp.V16, "UpdateFirmware", "FirmwareStatusNotification", map[string]any{"location": ours + "/d/" + r.SHA256 + "/x", "retrieveDate": "2026-01-01T00:00:00Z"},
			[]string{"Downloading", "Downloaded", "Installing", "Installed"}, 0},
	} {
		t.Run(identity, func(t *testing.T) {
			st := y.charger(identity, tt.version, func(c *station.Config) { c.Deviations.CutDownloads = tt.cut })
			answer, err := y.send(identity, tt.action, tt.payload)
			if err != nil || identity != "legacy" && answer["status"] != "Accepted" || identity == "legacy" && len(answer) != 0 {
				t.Fatalf("%v, %v\n%s", answer, err, y.log)
			}
			j := y.awaitUpdate(identity, job.Done)
			y.await(st, "it says installed", func(s station.State) bool { return s.Update == "Installed" && s.Firmware == "2.0.0" })
			for deadline := time.Now().Add(patience); !slices.Equal(y.statuses(identity, tt.notice), tt.want); time.Sleep(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("the back end was told %v, want %v", y.statuses(identity, tt.notice), tt.want)
				}
			}
			if identity == "legacy" {
				for _, frame := range y.csms.Seen(identity, ocpp.FromStation) {
					if strings.Contains(string(frame), "Signed") {
						t.Errorf("the back end saw %s", frame)
					}
				}
			}
			if j.Release != r.ID || j.Booted != "2.0.0" || j.SentSHA256 == "" || j.Approval == "" {
				t.Errorf("%+v", j)
			}
			// What the station was given is the release's, from here.
			for _, frame := range st.Sent(ocpp.FromCSMS) {
				head, err := ocpp.ParseHead(frame)
				if err != nil || head.Type != ocpp.Call || !strings.Contains(head.Action, "UpdateFirmware") {
					continue
				}
				var m ocpp.UpdateFirmwareRequest
				if err := json.Unmarshal(head.Payload, &m); err != nil {
					t.Fatal(err)
				}
				if !strings.HasPrefix(m.Firmware.Location, ours+"/d/"+r.SHA256+"/") || m.Firmware.Signature != r.Signatures[0].Value || m.Firmware.SigningCertificate != certPEM(y.maker.cert) ||
					m.Retries != nil && *m.Retries > 10 || *m.RequestID != j.RequestID {
					t.Errorf("the station was sent %s", head.Payload)
				}
			}
			if tt.action == "UpdateFirmware" && tt.version == ocpp.V16 {
				return
			}
			answer, err = y.send(identity, tt.action, y.request(8, old))
			if info, ok := answer["statusInfo"].(map[string]any); err != nil || answer["status"] != "Rejected" || tt.version != ocpp.V16 && (!ok || info["reasonCode"] != "GwRollback") {
				t.Errorf("the older release: %v, %v", answer, err)
			}
		})
	}
	exported := y.must("ledger", "export")
	for _, kind := range []string{"firmware.added", "approval.used", "firmware.published", "firmware.approved", "firmware.sent", "firmware.served", "firmware.done", "firmware.blocked"} {
		if !strings.Contains(exported, `"`+kind+`"`) {
			t.Errorf("the ledger has no %s", kind)
		}
	}
	if _, errs, code := y.cli("ledger", "verify"); code != 0 {
		t.Errorf("ledger verify: %s", errs)
	}
}

// What isn't published, newer, signed and for this station is sent to nobody,
// whatever way the back end asks, and each version says no in its own words.
func TestFirmwareIsRefused(t *testing.T) { // L01.FR.11, L02, TC_L_18, promise 10
	t.Parallel()
	y := newYard(t, "firmware: {log: releases, models: [{model: Watt, level: observe}, {model: Iron, level: strict}]}\n")
	good := y.publish("2.0.0", 20, station.Image("2.0.0", 1000))
	revoked := y.publish("3.0.0", 30, station.Image("3.0.0", 1000))
	y.must("firmware", "revoke", revoked.ID, "--reason", "it bricks stations")
	folder, unapproved := y.maker.release(t, "4.0.0", 40, station.Image("4.0.0", 1000))
	y.must("firmware", "add", folder)
	_, unknown := y.maker.release(t, "5.0.0", 50, station.Image("5.0.0", 1000))
	change := func(r *release.Release, f func(firmware map[string]any)) map[string]any {
		request := y.request(7, r)
		f(request["firmware"].(map[string]any))
		return request
	}
	nothing := func(map[string]any) {}
	st201, st16 := y.charger("no201", ocpp.V201, nil), y.charger("no16", ocpp.V16, nil)
	for name, tt := range map[string]struct {
		action  string // "": the signed one of each version
		payload any
		code    string // of 2.0.1: a reasonCode, or an error code
		code16  string // of 1.6: an error code; "": the status Rejected
	}{
		"unsigned":            {"", y.request(7, nil), "GwUnsigned", ""},
		"no certificate":      {"", change(good, func(f map[string]any) { delete(f, "signingCertificate") }), "GwHalfSigned", ""},
		"no signature":        {"", change(good, func(f map[string]any) { delete(f, "signature") }), "GwHalfSigned", ""},
		"revoked":             {"", change(revoked, nothing), "GwRevoked", ""},
		"not published":       {"", change(unapproved, nothing), "GwUnapproved", ""},
		"unknown":             {"", change(unknown, nothing), "GwLocation", ""}, // Bollard fetches nothing from there
		"a host not listed":   {"", change(good, func(f map[string]any) { f["location"] = "https://evil.example/x" }), "UnsupportedRequest", ""},
		"no request":          {"", map[string]any{"firmware": y.request(7, good)["firmware"]}, "FormatViolation", "FormatViolation"},
		"no time":             {"", change(good, func(f map[string]any) { f["retrieveDateTime"] = "now" }), "FormatViolation", "FormatViolation"},
		"in a long time":      {"", change(good, func(f map[string]any) { f["retrieveDateTime"] = "2099-01-01T00:00:00Z" }), "GwTooFar", ""},
		"installs then":       {"", change(good, func(f map[string]any) { f["installDateTime"] = "2099-01-01T00:00:00Z" }), "GwTooFar", ""},
		"long certificate":    {"", change(good, func(f map[string]any) { f["signingCertificate"] = strings.Repeat("x", 5501) }), "FormatViolation", "FormatViolation"},
		"another case":        {"updatefirmware", y.request(7, good), "SecurityError|NotImplemented", "SecurityError|NotImplemented"},
		"unsigned of 1.6":     {"UpdateFirmware", map[string]any{"location": "https://127.0.0.1:1/x", "retrieveDate": "2026-01-01T00:00:00Z"}, "FormatViolation", "SecurityError"},
		"to local controller": {"PublishFirmware", map[string]any{"location": "https://127.0.0.1:1/x", "checksum": strings.Repeat("a", 32), "requestId": 1}, "GwPublish", "NotImplemented"},
	} {
		for identity, action := range map[string]string{"no201": "UpdateFirmware", "no16": "SignedUpdateFirmware"} {
			want := tt.code
			if identity == "no16" {
				want = tt.code16
			}
			if tt.action != "" {
				action = tt.action
			}
			payload := tt.payload
			if payload == nil {
				payload = map[string]any{}
			}
			answer, err := y.send(identity, action, payload)
			got := ""
			var failure *ocpp.CallFailure
			if errors.As(err, &failure) {
				got = string(failure.Code)
			} else if info, ok := answer["statusInfo"].(map[string]any); ok {
				got, _ = info["reasonCode"].(string)
			}
			if (err != nil) != (failure != nil) || failure == nil && answer["status"] != "Rejected" || !slices.Contains(strings.Split(want, "|"), got) {
				t.Errorf("%s, %s: %v %q, %v; want %s", name, identity, answer, got, err, want)
			}
		}
	}
	for _, st := range []*station.Station{st201, st16} {
		for _, frame := range st.Sent(ocpp.FromCSMS) {
			if strings.Contains(strings.ToLower(string(frame)), "firmware") {
				t.Errorf("a station was sent %s", frame)
			}
		}
	}

	// A release for a sister model, and one that isn't the image its signature is of.
	watt := y.charger("sister", ocpp.V201, func(c *station.Config) { c.Model = "Ampere" })
	if answer, err := y.send("sister", "UpdateFirmware", y.request(7, good)); err != nil || answer["status"] != "Rejected" {
		t.Errorf("another model: %v, %v", answer, err)
	}
	if watt.State().Update != "" {
		t.Error("a station of another model updates")
	}
	// Where the level is strict it has to be in a log.
	y.charger("strict", ocpp.V201, func(c *station.Config) { c.Model = "Iron" })
	folder, unlogged := y.maker.release(t, "6.0.0", 60, station.Image("6.0.0", 1000), func(r *release.Release) { r.Models[0].Model = "Iron" })
	y.must("firmware", "add", folder)
	y.approve(unlogged.ID)
	y.must("firmware", "publish", unlogged.ID)
	answer, err := y.send("strict", "UpdateFirmware", y.request(7, unlogged))
	if info, ok := answer["statusInfo"].(map[string]any); err != nil || !ok || info["reasonCode"] != "GwNoProof" {
		t.Errorf("in no log: %v, %v", answer, err)
	}
	y.logIsServed()
	// Who only observes lets everything pass, and writes down what was wrong.
	y.charger("watched", ocpp.V201, func(c *station.Config) { c.Model = "Watt" })
	if answer, err := y.send("watched", "UpdateFirmware", y.request(7, nil)); err != nil || answer["statusInfo"].(map[string]any)["reasonCode"] != "MissingSignature" {
		t.Errorf("observed: the station answers %v, %v", answer, err)
	}
	if exported := y.must("ledger", "export"); !strings.Contains(exported, `"firmware.observed"`) {
		t.Error("what would have been refused isn't in the ledger")
	}
}

// logIsServed: the own log of releases is read beside certificate status, by anybody.
func (y *yard) logIsServed() {
	y.t.Helper()
	writeTest(y.t, filepath.Join(y.dir, "secret"), []byte("secret"))
	if err := os.Mkdir(filepath.Join(y.dir, "releases"), 0o700); err != nil {
		y.t.Fatal(err)
	}
	writeTest(y.t, filepath.Join(y.dir, "releases", "checkpoint"), []byte("a checkpoint"))
	for path, want := range map[string]string{"/log/checkpoint": "a checkpoint", "/log/../secret": "", "/log/%2e%2e/secret": "", "/log/": ""} {
		request, err := http.NewRequestWithContext(y.t.Context(), http.MethodGet, "http://"+y.at.Status+path, nil)
		if err != nil {
			y.t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			y.t.Fatal(err)
		}
		text, err := io.ReadAll(answer.Body)
		if err := errors.Join(err, answer.Body.Close()); err != nil {
			y.t.Fatal(err)
		}
		if (answer.StatusCode == http.StatusOK) != (want != "") || want != "" && string(text) != want || strings.Contains(string(text), "secret") {
			y.t.Errorf("%s: %d %q", path, answer.StatusCode, text)
		}
	}
}

// A station that installs what it didn't verify gets nothing more until somebody
// has looked at it; one that keeps running what it ran isn't done.
func TestFirmwareCheats(t *testing.T) {
	t.Parallel()
	y := newYard(t, "")
	r, next := y.publish("2.0.0", 20, station.Image("2.0.0", 50_000)), y.publish("3.0.0", 30, station.Image("3.0.0", 50_000))
	cheat := y.charger("cheat", ocpp.V201, func(c *station.Config) { c.Deviations.Unverified = true })
	stale := y.charger("stale", ocpp.V21, func(c *station.Config) { c.Deviations.OldFirmware = true })
	for _, identity := range []string{"cheat", "stale"} {
		if answer, err := y.send(identity, "UpdateFirmware", y.request(7, r)); err != nil || answer["status"] != "Accepted" {
			t.Fatalf("%s: %v, %v", identity, answer, err)
		}
	}
	if j := y.awaitUpdate("cheat", job.Quarantined); !strings.Contains(j.Reason, "didn't verify") {
		t.Errorf("%+v", j)
	}
	refused := func(identity, code string) {
		t.Helper()
		answer, err := y.send(identity, "UpdateFirmware", y.request(8, next))
		if info, ok := answer["statusInfo"].(map[string]any); err != nil || !ok || info["reasonCode"] != code {
			t.Errorf("%s: %v, %v; want %s", identity, answer, err, code)
		}
	}
	y.await(cheat, "it says installed", func(s station.State) bool { return s.Update == "Installed" }) // and has restarted
	refused("cheat", "GwQuarantined")
	y.awaitUpdate("stale", job.Confirming)
	y.await(stale, "it says installed", func(s station.State) bool { return s.Update == "Installed" && s.Firmware == "1.0.0" })
	refused("stale", "GwBusy")
	y.must("firmware", "cancel", "stale", "--reason", "it runs the old one")
	if j := y.update("stale"); j.State != job.Cancelled {
		t.Errorf("%+v", j)
	}
	if _, errs, code := y.cli("firmware", "cancel", "stale", "--reason", "again"); code != 1 {
		t.Errorf("cancelled twice: %d %s", code, errs)
	}
	y.must("firmware", "clear", "cheat", "--reason", "it got other software on site")
	y.must("firmware", "updates", "--station", "cheat")
	if answer, err := y.send("cheat", "UpdateFirmware", y.request(8, next)); err != nil || answer["status"] != "Accepted" {
		t.Errorf("after it was cleared: %v, %v", answer, err)
	}
	y.awaitUpdate("cheat", job.Quarantined)
}

// What a location leads to is fetched beside the CALL that names it, once for all
// stations, and each version is told honestly that it isn't known yet; then the
// release it is goes out. A file that isn't a release's reaches nobody.
func TestFirmwareFromItsOrigin(t *testing.T) { // promise 10
	t.Parallel()
	image, gate := station.Image("2.0.0", 300_000), make(chan struct{})
	var served atomic.Int64
	files := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/volt.bin":
			served.Add(1)
			w.Header().Set("Content-Length", fmt.Sprint(len(image)))
			_, _ = w.Write(image[:1000])
			_ = http.NewResponseController(w).Flush()
			<-gate
			_, _ = w.Write(image[1000:])
		case "/swapped.bin":
			_, _ = w.Write(append([]byte("x"), image[1:]...))
		case "/moved.bin":
			http.Redirect(w, r, "/volt.bin", http.StatusFound)
		case "/cut.bin":
			w.Header().Set("Content-Length", fmt.Sprint(len(image)))
			_, _ = w.Write(image[:1000])
		case "/huge.bin":
			w.Header().Set("Content-Length", fmt.Sprint(1<<40))
		default:
			http.Error(w, strings.Repeat("no such page ", 100), http.StatusNotFound)
		}
	}))
	t.Cleanup(files.Close)
	var once sync.Once
	finish := func() { once.Do(func() { close(gate) }) }
	t.Cleanup(finish) // before Close, which waits for it
	y := newYard(t, "limits: {call_timeout: 4s}\nfirmware: {networks: [127.0.0.0/8], models: [{model: Volt, sign_fill: true, upgrade: true}]}\n")
	y.hosts(y.dir, strings.TrimPrefix(files.URL, "http://"))
	y.must("policy", "reload")
	r := y.publish("2.0.0", 20, image)
	plain := func(name string) map[string]any {
		return map[string]any{"requestId": 7, "firmware": map[string]any{"location": files.URL + "/" + name, "retrieveDateTime": "2026-01-01T00:00:00Z"}}
	}
	y.charger("new", ocpp.V201, nil)
	y.charger("old", ocpp.V16, nil)
	legacy := map[string]any{"location": files.URL + "/volt.bin", "retrieveDate": "2026-01-01T00:00:00Z"}
	answer, err := y.send("new", "UpdateFirmware", plain("volt.bin"))
	if info, ok := answer["statusInfo"].(map[string]any); err != nil || !ok || answer["status"] != "Rejected" || info["reasonCode"] != "GwFetching" || !strings.Contains(info["additionalInfo"].(string), "1000 of 300000 bytes") {
		t.Fatalf("%v, %v\n%s", answer, err, y.log)
	}
	var failure *ocpp.CallFailure
	if answer, err := y.send("old", "UpdateFirmware", legacy); !errors.As(err, &failure) || failure.Code != ocpp.GenericError {
		t.Errorf("1.6: %v, %v", answer, err)
	}
	if out := y.must("firmware", "updates"); !strings.Contains(out, "fetching") || !strings.Contains(out, "1000") || strings.Contains(out, "volt.bin") {
		t.Errorf("it isn't shown how far the fetch is:\n%s", out)
	}
	finish()
	for name, want := range map[string]string{"swapped.bin": "GwUnknownRelease", "moved.bin": "GwLocation", "cut.bin": "GwLocation", "huge.bin": "GwSize", "none.bin": "GwLocation", "-o/etc/passwd": "GwLocation", "x%0d%0aHost:y": "UnsupportedRequest"} {
		got := any("GwFetching")
		for deadline := time.Now().Add(patience); got == "GwFetching" && time.Now().Before(deadline); {
			answer, err := y.send("new", "UpdateFirmware", plain(name))
			info, ok := answer["statusInfo"].(map[string]any)
			if err != nil || !ok {
				t.Fatalf("%s: %v, %v", name, answer, err)
			}
			got = info["reasonCode"]
		}
		if got != want {
			t.Errorf("%s: %v, want %s", name, got, want)
		}
	}
	for deadline := time.Now().Add(patience); !strings.Contains(y.must("firmware", "updates"), r.SHA256); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it was never known\n%s", y.log)
		}
	}
	if answer, err := y.send("new", "UpdateFirmware", plain("volt.bin")); err != nil || answer["status"] != "Accepted" {
		t.Errorf("%v, %v", answer, err)
	}
	if answer, err := y.send("old", "UpdateFirmware", legacy); err != nil || len(answer) != 0 {
		t.Errorf("1.6: %v, %v", answer, err)
	}
	y.awaitUpdate("new", job.Done)
	y.awaitUpdate("old", job.Done)
	if n := served.Load(); n != 1 {
		t.Errorf("it was fetched %d times", n)
	}

	// An image that was lost is taken in again from where the back end has it.
	if err := os.Remove(filepath.Join(y.dir, depotName, r.SHA256)); err != nil {
		t.Fatal(err)
	}
	y.charger("late", ocpp.V201, nil)
	if answer, err := y.send("late", "UpdateFirmware", plain("volt.bin")); err != nil || answer["status"] != "Accepted" {
		t.Errorf("%v, %v\n%s", answer, err, y.log)
	}
	y.awaitUpdate("late", job.Done)
	if exported := y.must("ledger", "export"); !strings.Contains(exported, `"firmware.fetched"`) || strings.Contains(exported, "volt.bin?") {
		t.Error("the ledger doesn't have what was fetched")
	}
}

// A station that knows nothing but SFTP gets its release by the client that every
// machine has; what it was given counts as of any other, and its login is for nothing
// else. One that is sent to its origin gets the very location, where that holds the
// image, and people are told.
func TestFirmwareOverSFTP(t *testing.T) { // L01.FR.02, promise 10
	t.Parallel()
	image := station.Image("2.0.0", 300_000)
	files := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/volt.bin" {
			_, _ = w.Write(image)
			return
		}
		http.Error(w, "no", http.StatusNotFound)
	}))
	t.Cleanup(files.Close)
	y := newYard(t, "security_log: {back_ends: true}\nfirmware: {networks: [127.0.0.0/8], models: [{model: Volt, location: sftp}, {model: Outside, location: origin}]}\n")
	y.hosts(y.dir, "127.0.0.1:1", strings.TrimPrefix(files.URL, "http://"))
	y.must("policy", "reload")
	dir, r := y.maker.release(t, "2.0.0", 20, image, func(r *release.Release) {
		r.Models = append(r.Models, release.Model{Vendor: "ACME", Model: "Outside"})
	})
	y.must("firmware", "add", dir)
	y.approve(r.ID)
	y.must("firmware", "publish", r.ID)
	ask := filepath.Join(t.TempDir(), "ask")
	if err := os.WriteFile(ask, []byte("#!/bin/sh\necho \"$SFTP_PASSWORD\"\n"), 0o700); err != nil { //nolint:gosec // it is run
		t.Fatal(err)
	}
	fetched := make(chan string, 1)
	sftp := func(ctx context.Context, location, batch string) error {
		u, err := url.Parse(location)
		if err != nil {
			return err
		}
		password, _ := u.User.Password()
		script := filepath.Join(filepath.Dir(ask), "batch")
		if err := os.WriteFile(script, []byte(batch+"\n"), 0o600); err != nil {
			return err
		}
		// The name in the location is the server's certificate's; it listens on loopback.
		cmd := exec.CommandContext(ctx, "sftp", "-q", "-F", "none", "-P", u.Port(), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "PubkeyAuthentication=no",
			"-o", "BatchMode=no", "-b", script, u.User.Username()+"@127.0.0.1")
		cmd.Env = append(os.Environ(), "SFTP_PASSWORD="+password, "SSH_ASKPASS="+ask, "SSH_ASKPASS_REQUIRE=force", "DISPLAY=x", "HOME="+filepath.Dir(ask))
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	old := y.charger("old", ocpp.V16, func(c *station.Config) {
		c.Transfer = func(ctx context.Context, location, file string) error {
			fetched <- location
			return sftp(ctx, location, "get volt.bin "+file)
		}
	})
	if answer, err := y.send("old", "SignedUpdateFirmware", y.request(7, r)); err != nil || answer["status"] != "Accepted" {
		t.Fatalf("%v, %v\n%s", answer, err, y.log)
	}
	y.awaitUpdate("old", job.Done)
	location := <-fetched
	u, err := url.Parse(location)
	if err != nil || len(location) > 512 || u.Scheme != "sftp" || u.Path != "/volt.bin" {
		t.Errorf("location %q, %v", location, err)
	}
	password, _ := u.User.Password()
	if conn, err := ssh.Dial("tcp", y.at.SFTP, &ssh.ClientConfig{User: u.User.Username(), Auth: []ssh.AuthMethod{ssh.Password(password)}, HostKeyCallback: ssh.InsecureIgnoreHostKey()}); err == nil { //nolint:gosec // loopback
		_ = conn.Close()
		t.Error("the password is good after the update")
	}
	if exported := y.must("ledger", "export"); !strings.Contains(exported, `"bytes":"300000"`) || strings.Contains(exported, password) || strings.Contains(y.log.String(), password) {
		t.Error("the ledger hasn't what was served, or somebody has the password")
	}

	// Elsewhere: by the very location, which the simulated station takes for HTTPS only.
	outside := func(c *station.Config) {
		c.Model = "Outside"
		c.Transfer = func(_ context.Context, location, file string) error {
			fetched <- location
			return os.WriteFile(file, image, 0o600)
		}
	}
	y.charger("far", ocpp.V201, outside)
	request := y.request(7, r)
	request["firmware"].(map[string]any)["location"] = files.URL + "/none.bin"
	if answer, err := y.send("far", "UpdateFirmware", request); err != nil || answer["statusInfo"].(map[string]any)["reasonCode"] != "GwLocation" {
		t.Errorf("where nothing is: %v, %v", answer, err)
	}
	for _, trick := range []string{"/volt.bin&id", "/volt.bin;id", "/$(id)", "/`id`", "/'x'", "/volt.bin|id", "/!x", "/(x)"} {
		request["firmware"].(map[string]any)["location"] = files.URL + trick
		answer, err := y.send("far", "UpdateFirmware", request)
		info, ok := answer["statusInfo"].(map[string]any)
		if err != nil || !ok || info["reasonCode"] != "GwLocation" && info["reasonCode"] != "UnsupportedRequest" {
			t.Errorf("%s: %v, %v", trick, answer, err)
		}
	}
	request["firmware"].(map[string]any)["location"] = files.URL + "/volt.bin"
	if answer, err := y.send("far", "UpdateFirmware", request); err != nil || answer["status"] != "Accepted" {
		t.Fatalf("%v, %v\n%s", answer, err, y.log)
	}
	y.awaitUpdate("far", job.Done)
	if at := <-fetched; at != files.URL+"/volt.bin" {
		t.Errorf("the station was sent to %q", at)
	}
	if out := y.must("alert", "list"); !strings.Contains(out, "firmware-outside") {
		t.Errorf("nobody was told:\n%s", out)
	}
	if exported := y.must("ledger", "export"); !strings.Contains(exported, `"firmware.outside"`) {
		t.Error("the ledger doesn't say that a station was sent elsewhere")
	}

	// What a back end asks for is brought here, by the same ways.
	wanted := map[string]any{"logType": "DiagnosticsLog", "requestId": 3, "log": map[string]any{"remoteLocation": files.URL + "/logs"}}
	if answer, err := y.send("far", "GetLog", wanted); err != nil || answer["status"] != "Accepted" {
		t.Errorf("%v, %v", answer, err)
	}
	// The simulated station uploads by HTTPS alone: what it was told is done for it.
	if _, err := y.send("old", "GetLog", wanted); err != nil {
		t.Error(err)
	}
	for _, frame := range old.Sent(ocpp.FromCSMS) {
		head, err := ocpp.ParseHead(frame)
		var m ocpp.GetLogRequest
		if err != nil || head.Action != "GetLog" || json.Unmarshal(head.Payload, &m) != nil {
			continue
		}
		if err := sftp(t.Context(), m.Log.RemoteLocation, "put "+ask+" /diagnostics.log"); err != nil {
			t.Errorf("%s: %v", m.Log.RemoteLocation, err)
		}
	}
	for _, identity := range []string{"far", "old"} {
		for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			out := y.must("station", "log", identity)
			if strings.Contains(out, "kept") && strings.Contains(out, "DiagnosticsLog") {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("nothing came of %s:\n%s\n%s", identity, out, y.log)
			}
		}
	}
}

// A release that is revoked is downloaded by nobody any more, also where its update
// was sent before; one that a newer release revokes neither.
func TestFirmwareRevoked(t *testing.T) { // promise 10
	t.Parallel()
	y := newYard(t, "")
	one, two := y.publish("2.0.0", 20, station.Image("2.0.0", 50_000)), y.publish("3.0.0", 30, station.Image("3.0.0", 50_000))
	dir, three := y.maker.release(t, "4.0.0", 40, station.Image("4.0.0", 1000), func(r *release.Release) { r.Revokes = []string{two.ID} })
	later := func(r *release.Release) map[string]any {
		request := y.request(7, r)
		request["firmware"].(map[string]any)["retrieveDateTime"] = time.Now().Add(24 * time.Hour).UTC().Format(time.RFC3339)
		return request
	}
	for identity, r := range map[string]*release.Release{"first": one, "second": two} {
		y.charger(identity, ocpp.V201, nil)
		if answer, err := y.send(identity, "UpdateFirmware", later(r)); err != nil || answer["status"] != "Accepted" {
			t.Fatalf("%s: %v, %v", identity, answer, err)
		}
	}
	y.must("firmware", "revoke", one.ID, "--reason", "it bricks stations")
	if j := y.update("first"); j.State != job.Cancelled || !strings.Contains(j.Reason, "it bricks stations") {
		t.Errorf("after the revocation it is %s (%s)", j.State, j.Reason)
	}
	if j := y.update("second"); !j.State.Open() {
		t.Errorf("the other one is %s (%s)", j.State, j.Reason)
	}
	y.must("firmware", "add", dir)
	y.approve(three.ID)
	y.must("firmware", "publish", three.ID)
	if j := y.update("second"); j.State != job.Cancelled || !strings.Contains(j.Reason, three.ID) {
		t.Errorf("after a release that revokes its own it is %s (%s)", j.State, j.Reason)
	}
	if answer, err := y.send("first", "UpdateFirmware", y.request(8, three)); err != nil || answer["status"] != "AcceptedCanceled" { // it still waited for the first
		t.Errorf("the new one: %v, %v", answer, err)
	}
	y.awaitUpdate("first", job.Done)
}

// What isn't a trusted maker's, whole and as signed isn't taken in.
func TestFirmwareAdd(t *testing.T) {
	t.Parallel()
	y := newYard(t, "")
	image := station.Image("2.0.0", 5000)
	stranger := newMaker(t)
	for name, tt := range map[string]struct {
		maker *maker
		spoil func(dir string)
		text  string
	}{
		"one bit of the image": {y.maker, func(dir string) {
			other := append([]byte(nil), image...)
			other[4000] ^= 1
			writeTest(t, filepath.Join(dir, "volt.bin"), other)
		}, "isn't the one that was named"},
		"cut":          {y.maker, func(dir string) { writeTest(t, filepath.Join(dir, "volt.bin"), image[:4999]) }, "isn't the one that was named"},
		"longer":       {y.maker, func(dir string) { writeTest(t, filepath.Join(dir, "volt.bin"), append(image, 'x')) }, "too large"},
		"no image":     {y.maker, func(dir string) { _ = os.Remove(filepath.Join(dir, "volt.bin")) }, "couldn't read the image"},
		"a stranger's": {stranger, func(string) {}, "isn't of a trusted manufacturer"},
		"other's cert": {y.maker, func(dir string) {
			writeTest(t, filepath.Join(dir, bundle.FileCertificate), []byte(certPEM(stranger.cert)))
		}, "isn't signed by"},
		"another paper": {y.maker, func(dir string) {
			text, err := os.ReadFile(filepath.Join(dir, bundle.FileEnvelope))
			if err != nil {
				t.Fatal(err)
			}
			payload := strings.SplitN(strings.SplitN(string(text), `"payload":"`, 2)[1], `"`, 2)[0]
			raw, err := base64.StdEncoding.DecodeString(payload)
			if err != nil {
				t.Fatal(err)
			}
			changed := base64.StdEncoding.EncodeToString([]byte(strings.Replace(string(raw), `"sequence":20`, `"sequence":90`, 1)))
			writeTest(t, filepath.Join(dir, bundle.FileEnvelope), []byte(strings.Replace(string(text), payload, changed, 1)))
		}, "isn't signed by"},
	} {
		dir, r := tt.maker.release(t, "2.0.0", 20, image)
		tt.spoil(dir)
		if _, errs, code := y.cli("firmware", "add", dir); code != 1 || !strings.Contains(errs, tt.text) {
			t.Errorf("%s: exit code %d: %s", name, code, errs)
		}
		if _, _, code := y.cli("firmware", "show", r.ID); code != 1 {
			t.Errorf("%s: it was taken in", name)
		}
	}
	dir, r := y.maker.release(t, "2.0.0", 20, image)
	y.must("firmware", "add", dir)
	// A restored server has releases without their images: they can be had again.
	if err := os.Remove(filepath.Join(y.dir, depotName, r.SHA256)); err != nil {
		t.Fatal(err)
	}
	if out := y.must("firmware", "show", r.ID); !strings.Contains(out, "no such image") {
		t.Errorf("without its image: %s", out)
	}
	if out := y.must("firmware", "add", dir); !strings.Contains(out, "only its image") || strings.Contains(out, "no such image") {
		t.Errorf("again: %s", out)
	}
	twin, _ := y.maker.release(t, "2.0.0", 20, station.Image("2.0.0", 6000))
	if _, errs, code := y.cli("firmware", "add", twin); code != 1 || !strings.Contains(errs, "sequence 20") {
		t.Errorf("another one of the same sequence: %d %s", code, errs)
	}
	// A record of the same image renews one that expires.
	renewed, _ := y.maker.release(t, "2.0.0", 20, image)
	y.must("firmware", "add", renewed)
	// Nobody publishes alone, and what is published or revoked stays so.
	if _, errs, code := y.cli("firmware", "publish", r.ID); code != 1 || !strings.Contains(errs, "nobody was asked") {
		t.Errorf("without approval: %d %s", code, errs)
	}
	y.approve(r.ID)
	if out := y.must("firmware", "publish", r.ID[:20]); !strings.Contains(out, "is published") {
		t.Error(out)
	}
	if _, _, code := y.cli("firmware", "publish", r.ID); code != 1 {
		t.Error("published twice")
	}
	y.ringsAreApprovedOneByOne(r.ID)
	y.must("firmware", "revoke", r.ID, "--reason", "it bricks stations")
	if _, _, code := y.cli("firmware", "publish", r.ID); code != 1 {
		t.Error("a revoked release was published")
	}
	if out := y.must("firmware", "list"); !strings.Contains(out, "revoked") || !strings.Contains(out, "it bricks stations") {
		t.Error(out)
	}
}

// A signature for one ring counts for no other, and what isn't in bollard.yaml takes
// as many people as docs/approvals.md says.
func (y *yard) ringsAreApprovedOneByOne(id string) {
	y.t.Helper()
	signature := y.approve(id, "--action", "start", "--ring", "canary")
	y.must("firmware", "approve", id, "--action", "start", "--ring", "early") // asks for it
	if _, errs, code := y.cli("firmware", "approve", id, "--action", "start", "--ring", "early", "--signature", signature); code != 1 {
		y.t.Errorf("a signature for another ring: %d %s", code, errs)
	}
	states := map[string]docket.State{}
	for _, a := range ask[admin.None, admin.Approvals](y, "approval.list", admin.None{}).Approvals {
		states[a.Action+" "+strings.TrimPrefix(a.Scope, "release:"+id)] = a.State
	}
	for matter, want := range map[string]docket.State{"firmware.start /canary": docket.Granted, "firmware.start /early": docket.Waiting} {
		if states[matter] != want {
			y.t.Errorf("%s is %s, want %s", matter, states[matter], want)
		}
	}
	if _, errs, code := y.cli("firmware", "approve", id, "--action", "widen", "--ring", "early"); code != 1 || !strings.Contains(errs, "is published") {
		y.t.Errorf("a further ring of no rollout: %d %s", code, errs)
	}
	if _, errs, code := y.cli("firmware", "approve", id, "--action", "launch"); code != 1 {
		y.t.Errorf("an action that isn't one: %d %s", code, errs)
	}
	needed := map[string]int{}
	for _, a := range ask[admin.None, admin.Approvers](y, "approver.list", admin.None{}).Approvers[0].Actions {
		needed[a.Action] = a.Needed
	}
	want := map[string]int{"firmware.publish": 1, "firmware.start": 1, "firmware.widen": 2, "firmware.resume": 2, "firmware.downgrade": 3, "firmware.force": 3, "firmware.unsigned": 3}
	if diff := cmp.Diff(want, needed); diff != "" {
		y.t.Error(diff)
	}
}

func writeTest(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
