package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"bollard/firmware/job"
	"bollard/firmware/release"
	"bollard/ocpp"
	"bollard/station"
)

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
	handed := make(chan string, 1)
	collector := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			http.Error(w, "no such method", http.StatusMethodNotAllowed)
			return
		}
		text, err := io.ReadAll(r.Body)
		handed <- fmt.Sprint(r.Method, " ", r.URL, " ", err, " ", string(text))
	}))
	t.Cleanup(collector.Close)
	root := filepath.Join(t.TempDir(), "root.pem")
	if err := os.WriteFile(root, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: collector.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	y := newYard(t, "security_log: {back_ends: true, hand_on: true}\nfirmware: {networks: [127.0.0.0/8], trust: "+root+", models: [{model: Volt, location: sftp}, {model: Outside, location: origin}]}\n")
	y.hosts(y.dir, "127.0.0.1:1", strings.TrimPrefix(files.URL, "http://"), strings.TrimPrefix(collector.URL, "https://"))
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
	if out := y.must("firmware", "updates", "--json"); strings.Contains(out, "/volt.bin") || !strings.Contains(out, `"far"`) {
		t.Errorf("the very location is told:\n%s", out)
	}
	if at := <-fetched; at != files.URL+"/volt.bin" {
		t.Errorf("the station was sent to %q", at)
	}
	if out := y.must("alert", "list"); !strings.Contains(out, "firmware-outside") {
		t.Errorf("nobody was told:\n%s", out)
	}
	if exported := y.must("ledger", "export"); !strings.Contains(exported, `"firmware.outside"`) {
		t.Error("the ledger doesn't say that a station was sent elsewhere")
	}

	// What a back end asks for is brought here, by the same ways, and handed on over HTTPS.
	wanted := map[string]any{"logType": "DiagnosticsLog", "requestId": 3, "log": map[string]any{"remoteLocation": collector.URL + "/logs?secret"}}
	if answer, err := y.send("far", "GetLog", wanted); err != nil || answer["status"] != "Accepted" {
		t.Errorf("%v, %v", answer, err)
	}
	select {
	case got := <-handed:
		head, text, _ := strings.Cut(got, " <nil> ")
		if sum := fmt.Sprintf("%x", sha256.Sum256([]byte(text))); head != "POST /logs?secret" || !strings.Contains(y.must("station", "log", "far", "--json"), sum) {
			t.Errorf("%q was handed on", got)
		}
	case <-time.After(patience):
		t.Errorf("nothing was handed on\n%s\n%s", y.must("station", "log", "far"), y.log)
	}
	wanted["log"].(map[string]any)["remoteLocation"] = files.URL + "/logs" // over HTTP nothing is
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
	if out := y.must("station", "log", "old"); !strings.Contains(out, "not handed on") || strings.Contains(y.must("ledger", "export")+y.log.String(), "/logs") {
		t.Errorf("a location over HTTP is taken, or locations are told:\n%s", out)
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
