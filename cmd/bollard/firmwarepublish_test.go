package main

import (
	"context"
	"crypto/md5" //nolint:gosec // the only checksum PublishFirmware has
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"bollard/firmware/job"
	"bollard/firmware/release"
	"bollard/ocpp"
	"bollard/station"
)

// A local controller gets a release from the depot and offers it; a station of its site
// is sent there, one of another site isn't, and once it is taken off nobody is.
func TestFirmwareThroughLocalController(t *testing.T) { // L03.FR.01–.11, L04.FR.01, promise 10
	t.Parallel()
	y := newYard(t, "firmware: {networks: [127.0.0.0/8]}\n")
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	place := "http://" + listener.Addr().String() + "/7.bin"
	y.hosts(y.dir, "127.0.0.1:1", listener.Addr().String())
	y.must("policy", "reload")
	image := station.Image("2.0.0", 200_000)
	sum := md5.Sum(image) //nolint:gosec // see the import
	checksum := hex.EncodeToString(sum[:])
	dir, r := y.maker.release(t, "2.0.0", 20, image, func(r *release.Release) { r.MD5 = checksum })
	y.must("firmware", "add", dir)
	y.approve(r.ID)
	y.must("firmware", "publish", r.ID)

	hub := y.charger("hub", ocpp.V201, func(c *station.Config) { c.Model, c.Controller = "Hub", listener })
	fetched := make(chan string, 4)
	for identity, site := range map[string]string{"near": "north", "far": "south"} {
		y.charger(identity, ocpp.V201, func(c *station.Config) {
			c.Transfer = func(ctx context.Context, location, file string) error {
				fetched <- location
				return getPlain(ctx, location, file)
			}
		})
		y.must("station", "group", identity, "--site", site)
	}
	publish := map[string]any{"requestId": 7, "location": "https://127.0.0.1:1/volt.bin", "checksum": checksum}
	refused := func(identity, action string, payload any, code string) {
		t.Helper()
		answer, err := y.send(identity, action, payload)
		if info, ok := answer["statusInfo"].(map[string]any); err != nil || !ok || answer["status"] != "Rejected" || info["reasonCode"] != code {
			t.Errorf("%s: %v, %v; want %s", identity, answer, err, code)
		}
	}
	refused("hub", "PublishFirmware", publish, "GwPublish") // it has no site yet
	y.must("station", "group", "hub", "--site", "north")
	if answer, err := y.send("hub", "PublishFirmware", publish); err != nil || answer["status"] != "Accepted" {
		t.Fatalf("%v, %v\n%s", answer, err, y.log)
	}
	y.await(hub, "it offers the image", func(s station.State) bool { return s.Publishing == "Published" })
	j := y.awaitUpdate("hub", job.Published)
	for deadline := time.Now().Add(patience); y.update("hub").Publication.ConfirmedAt.IsZero(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("nobody looked what it offers: %+v\n%s", j, y.log)
		}
	}
	if got, want := y.statuses("hub", "PublishFirmwareStatusNotification"), []string{"Downloading", "Downloaded", "ChecksumVerified", "Published"}; !slices.Equal(got, want) {
		t.Errorf("the back end was told %v, want %v", got, want)
	}
	for _, frame := range hub.Sent(ocpp.FromCSMS) {
		if head, err := ocpp.ParseHead(frame); err == nil && head.Action == "PublishFirmware" && !strings.Contains(string(head.Payload), "/d/"+r.SHA256+"/") {
			t.Errorf("it was sent %s", head.Payload)
		}
	}

	// Stations are sent there with the release's signature, if it is their site's.
	request := y.request(8, r)
	request["firmware"].(map[string]any)["location"] = place
	refused("far", "UpdateFirmware", request, "GwOtherSite")
	if answer, err := y.send("near", "UpdateFirmware", request); err != nil || answer["status"] != "Accepted" {
		t.Fatalf("%v, %v\n%s", answer, err, y.log)
	}
	y.awaitUpdate("near", job.Done)
	if at := <-fetched; at != place {
		t.Errorf("it downloads from %s", at)
	}
	if answer, err := y.send("hub", "UnpublishFirmware", map[string]any{"checksum": checksum}); err != nil || answer["status"] != "Unpublished" {
		t.Errorf("%v, %v", answer, err)
	}
	if j := y.update("hub"); j.State != job.Unpublished {
		t.Errorf("%+v", j)
	}
	exported := y.must("ledger", "export")
	for _, kind := range []string{"firmware.nearby", "firmware.outside", "firmware.nearby-ended"} {
		if !strings.Contains(exported, `"`+kind+`"`) {
			t.Errorf("the ledger has no %s", kind)
		}
	}
	// Who offers another image than it was given is found out.
	hub.Deviate(func(d *station.Deviations) { d.OtherImage = true })
	publish["requestId"] = 9
	if answer, err := y.send("hub", "PublishFirmware", publish); err != nil || answer["status"] != "Accepted" {
		t.Fatalf("%v, %v\n%s", answer, err, y.log)
	}
	for deadline := time.Now().Add(patience); y.update("hub").State != job.Mismatch; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("another image isn't noticed: %+v\n%s", y.update("hub"), y.log)
		}
	}
}

// getPlain fetches by plain HTTP, which the simulated station doesn't.
func getPlain(ctx context.Context, location, file string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, location, nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", answer.StatusCode)
	}
	content, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	return os.WriteFile(file, content, 0o600)
}
