package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bollard/admin"
	"bollard/approval/docket"
	"bollard/firmware/bundle"
	"bollard/firmware/job"
	"bollard/firmware/release"
	"bollard/ocpp"
	"bollard/station"
)

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
		scope, _, _ := strings.Cut(strings.TrimPrefix(a.Scope, "release:"+id), " ")
		states[a.Action+" "+scope] = a.State
	}
	for matter, want := range map[string]docket.State{"firmware.start /canary": docket.Granted, "firmware.start /early": docket.Waiting} {
		if states[matter] != want {
			y.t.Errorf("%s is %s, want %s", matter, states[matter], want)
		}
	}
	if _, errs, code := y.cli("firmware", "approve", id, "--action", "widen", "--ring", "early"); code != 1 || !strings.Contains(errs, "no such firmware rollout") {
		y.t.Errorf("a further ring of no rollout: %d %s", code, errs)
	}
	if _, errs, code := y.cli("firmware", "approve", id, "--action", "launch"); code != 2 || !strings.Contains(errs, `no action "firmware.launch"`) {
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
