package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bollard/firmware/bundle"
	"bollard/firmware/job"
	"bollard/firmware/release"
	"bollard/ocpp"
	"bollard/station"
)

// A signer stands under a CA of the manufacturer's: what Bollard knows of that comes
// with the release, a station gets the certificate it can verify, alone or with the CA,
// and a CA that the operator struck off signs for nobody.
func TestFirmwareUnderIntermediates(t *testing.T) { // L01.FR.11, .12, .22, promise 10
	t.Parallel()
	top := newMaker(t)
	struck := top.under(t)
	y := newYardOf(t, top.under(t), "firmware: {revoked: ["+release.Fingerprint(struck.above[0])+"], models: [{model: Long, chain: true}]}\n")
	image := station.Image("2.0.0", 50_000)
	models := func(r *release.Release) {
		r.Models = append(r.Models, release.Model{Vendor: "ACME", Model: "Long"})
	}
	add := func(m *maker, spoil func(dir string)) (string, int) {
		dir, _ := m.release(t, "9.0.0", 90, station.Image("9.0.0", 1000))
		spoil(dir)
		_, errs, code := y.cli("firmware", "add", dir)
		return errs, code
	}
	for name, tt := range map[string]struct {
		maker *maker
		spoil func(dir string)
		text  string
	}{
		"the CA isn't there": {y.maker, func(dir string) { _ = os.Remove(filepath.Join(dir, bundle.FileChain)) }, "isn't of a trusted manufacturer"},
		"another CA is": {y.maker, func(dir string) {
			writeTest(t, filepath.Join(dir, bundle.FileChain), release.EncodeChain(struck.above))
		}, "isn't of a trusted manufacturer"},
		"no certificates": {y.maker, func(dir string) { writeTest(t, filepath.Join(dir, bundle.FileChain), []byte("x")) }, bundle.FileChain},
		"struck off":      {struck, func(string) {}, "firmware.revoked"},
	} {
		if errs, code := add(tt.maker, tt.spoil); code != 1 || !strings.Contains(errs, tt.text) {
			t.Errorf("%s: exit code %d: %s", name, code, errs)
		}
	}
	dir, r := y.maker.release(t, "2.0.0", 20, image, models)
	y.must("firmware", "add", dir)
	y.approve(r.ID)
	y.must("firmware", "publish", r.ID)
	for identity, change := range map[string]func(c *station.Config){
		// It holds the CA as its manufacturer's root, and reads one certificate.
		"short": func(c *station.Config) { c.ManufacturerRoots, c.Verify = y.maker.above, station.LibEVSE },
		// It holds the root, and reads all.
		"long": func(c *station.Config) { c.Model, c.Verify = "Long", station.OpenOCPP1 },
	} {
		st := y.charger(identity, ocpp.V201, change)
		if answer, err := y.send(identity, "UpdateFirmware", y.request(7, r)); err != nil || answer["status"] != "Accepted" {
			t.Fatalf("%s: %v, %v\n%s", identity, answer, err, y.log)
		}
		y.awaitUpdate(identity, job.Done)
		want := map[string]string{"short": certPEM(y.maker.cert), "long": certPEM(y.maker.cert) + certPEM(y.maker.above[0])}[identity]
		for _, frame := range st.Sent(ocpp.FromCSMS) {
			head, err := ocpp.ParseHead(frame)
			var m ocpp.UpdateFirmwareRequest
			if err != nil || head.Action != "UpdateFirmware" || json.Unmarshal(head.Payload, &m) != nil {
				continue
			}
			if m.Firmware.SigningCertificate != want {
				t.Errorf("%s was sent %s", identity, m.Firmware.SigningCertificate)
			}
		}
	}
	// A back end that signs for itself is judged over the same CAs: OCPP has no field for them.
	y.charger("vouched", ocpp.V201, func(c *station.Config) { c.ManufacturerRoots = y.maker.above })
	_, again := y.maker.release(t, "2.0.0", 20, image, models)
	request := y.request(8, again)
	ours := "https://localhost:" + y.at.Firmware[strings.LastIndex(y.at.Firmware, ":")+1:]
	y.hosts(y.dir, strings.TrimPrefix(ours, "https://"))
	y.must("policy", "reload")
	request["firmware"].(map[string]any)["location"] = ours + "/d/" + r.SHA256 + "/x"
	if answer, err := y.send("vouched", "UpdateFirmware", request); err != nil || answer["status"] != "Accepted" {
		t.Errorf("%v, %v", answer, err)
	}
	_, other := struck.release(t, "2.0.0", 20, image, models)
	y.charger("fooled", ocpp.V201, nil)
	request = map[string]any{"requestId": 9, "firmware": map[string]any{"location": ours + "/d/" + r.SHA256 + "/x", "retrieveDateTime": "2026-01-01T00:00:00Z",
		"signingCertificate": certPEM(struck.cert), "signature": other.Signatures[0].Value}}
	answer, err := y.send("fooled", "UpdateFirmware", request)
	if info, ok := answer["statusInfo"].(map[string]any); err != nil || !ok || info["reasonCode"] != "GwBadChain" {
		t.Errorf("signed under another CA: %v, %v", answer, err)
	}
}
