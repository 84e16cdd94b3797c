package main

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"log/slog"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"bollard/admin"
	"bollard/ca"
	"bollard/detect"
	"bollard/firmware/job"
	"bollard/firmware/quote"
	"bollard/firmware/release"
	"bollard/fleet"
	"bollard/ledger"
	"bollard/ocpp"
	"bollard/station"
	"bollard/tpm/attest"
	"bollard/tpm/device"
	"bollard/tpm/swtpm"
)

// shipped publishes a release with what the TPMs of stations show that run its image.
func (y *yard) shipped(version string, sequence uint64, image []byte, registers release.Registers) *release.Release {
	y.t.Helper()
	dir, r := y.maker.release(y.t, version, sequence, image, func(r *release.Release) { r.PCRs = &registers })
	y.must("firmware", "add", dir)
	y.approve(r.ID)
	y.must("firmware", "publish", r.ID)
	return r
}

// chip is a software TPM, and the hash of its endorsement key.
func chip(t *testing.T) (*device.Device, string) {
	t.Helper()
	tpm, _, stop, err := swtpm.StartAlone(context.WithoutCancel(t.Context()))
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	d := device.New(tpm)
	public, err := d.EK()
	if err != nil {
		t.Fatal(err)
	}
	ek, err := attest.NewEK(public)
	if err != nil {
		t.Fatal(err)
	}
	return d, ek.Hash()
}

// quoted waits for what comes of a station's quote, and returns what is on record.
func (y *yard) quoted(st *station.Station, want string) quote.Record {
	y.t.Helper()
	y.await(st, "a quote, "+want, func(s station.State) bool { return strings.Contains(s.Quoted, want) })
	d := ask[admin.StationRef, admin.StationDetail](y, "station.show", admin.StationRef{Identity: st.Identity()})
	if d.Quote == nil {
		return quote.Record{}
	}
	return *d.Quote
}

// A station with a TPM shows what it runs from its factory on: that it runs what was
// delivered is recorded and ends its update, something else is an alarm and fails it; its
// own certificate's key is made in the TPM. A station without a TPM has the same updates,
// and nobody misses anything of it.
func TestStationsWithTPMs(t *testing.T) { // promise 10
	t.Parallel()
	y := newYard(t, "")
	y.must("ca", "create", "attestation")
	factory, second, third := station.Image("1.0.0", 0), station.Image("2.0.0", 4<<10), station.Image("3.0.0", 4<<10)
	register := func(image []byte) release.Registers {
		n, value, _ := station.Measured(image)
		return release.Registers{SHA256: map[string][]string{strconv.Itoa(n): {value}}}
	}
	n, _, event := station.Measured(second)
	first := y.shipped("1.0.0", 1, factory, register(factory))
	next := y.shipped("2.0.0", 2, second, release.Registers{Events: map[string][]string{strconv.Itoa(n): {event}}})
	last := y.shipped("3.0.0", 3, third, register(third))
	y.must("fleet", "want", "--group", "proven", "--quotes", "24h")

	tpm, ek := chip(t)
	st := y.charger("proven", ocpp.V201, func(c *station.Config) {
		c.TPM, c.PKI, c.Key = tpm, "https://"+y.at.PKI, station.TPMKey
		c.EnrolSecret = []byte("not yet")
	})
	if got := y.quoted(st, "401"); !got.At.IsZero() {
		t.Errorf("nobody: %+v", got)
	}
	y.must("station", "group", "proven", "proven")
	ask[admin.StationTPM, admin.Station](y, "station.tpm", admin.StationTPM{Identity: "proven", EK: &ek})
	st.Enrol([]byte(ask[admin.EnrolSecret, admin.NewEnrolSecret](y, "station.enrol-secret", admin.EnrolSecret{Identity: "proven", Valid: time.Hour}).Secret))
	if answer, err := y.send("proven", "Reset", map[string]any{"type": "Immediate"}); err != nil || answer["status"] != "Accepted" {
		t.Fatalf("reset: %v, %v", answer, err)
	}
	if got := y.quoted(st, "delivered"); got.Outcome != quote.Delivered || got.Release != first.ID {
		t.Errorf("from its factory: %+v", got)
	}

	y.must("station", "profile", "proven", "3")
	y.await(st, "it is on its certificate", func(s station.State) bool { return s.Profile == 3 && s.Connected && s.Registration == "Accepted" })
	serial := st.State().Certificate
	if cert := ask[admin.CertificateRef, admin.Certificate](y, "cert.show", admin.CertificateRef{Serial: serial}); cert.Attested == "" {
		t.Errorf("its key isn't attested: %+v", cert)
	}
	st.Enrol(nil) // its certificate proves it from now on
	update := func(identity string, id int, r *release.Release) {
		t.Helper()
		if answer, err := y.send(identity, "UpdateFirmware", y.request(id, r)); err != nil || answer["status"] != "Accepted" {
			t.Fatalf("update: %v, %v\n%s", answer, err, y.log)
		}
	}
	update("proven", 1, next)
	j := y.awaitUpdate("proven", job.Done)
	if got := y.quoted(st, "delivered"); got.Release != next.ID || !j.Quote {
		t.Errorf("after its update: %+v, %+v", got, j)
	}

	y.await(st, "its update is over", func(s station.State) bool { return s.Update == "Installed" && s.Firmware == "2.0.0" })
	st.Deviate(func(d *station.Deviations) { d.Tampered = true })
	update("proven", 2, last)
	j = y.awaitUpdate("proven", job.Mismatch)
	if got := y.quoted(st, "403: a register differs: "+strconv.Itoa(n)); got.Outcome != quote.Wrong || got.Release != last.ID || !strings.Contains(j.Reason, "its TPM shows something else") {
		t.Errorf("something else: %+v, %+v", got, j)
	}
	if shown := y.must("station", "show", "proven"); !strings.Contains(shown, "is WRONG, release "+last.ID) || !strings.Contains(shown, "quote-wrong, critical") {
		t.Errorf("shown is\n%s", shown)
	}

	plain := y.charger("plain", ocpp.V201, nil)
	update("plain", 3, last)
	y.awaitUpdate("plain", job.Done)
	y.await(plain, "its update is over", func(s station.State) bool { return s.Update == "Installed" })
	d := ask[admin.StationRef, admin.StationDetail](y, "station.show", admin.StationRef{Identity: "plain"})
	if d.Quote != nil || len(d.Findings) > 0 || plain.State().Quotes > 0 {
		t.Errorf("a station without a TPM: %+v", d)
	}
	named := map[string]int{}
	for _, f := range ask[admin.AlertFilter, admin.Alerts](y, "alert.list", admin.AlertFilter{Limit: 100}).Findings {
		if f.Name == "quote-wrong" && f.Criticality == detect.Critical {
			named[f.Station]++
		}
	}
	if len(named) != 1 || named["proven"] != 1 {
		t.Errorf("alarms: %v", named)
	}
	var kinds []string
	for line := range strings.Lines(y.must("ledger", "export")) {
		var e struct {
			Kind string            `json:"kind"`
			Data map[string]string `json:"data"`
		}
		if json.Unmarshal([]byte(line), &e) == nil && strings.HasPrefix(e.Kind, "quote.") {
			kinds = append(kinds, e.Kind+" "+e.Data["version"])
		}
	}
	if got, want := strings.Join(kinds, ", "), "quote.shown 1.0.0, quote.shown 2.0.0, quote.wrong 3.0.0"; got != want {
		t.Errorf("the ledger has %s, want %s", got, want)
	}
}

// An update waits for a quote of a station of which quotes are wanted, or that has shown to
// know how; not of one whose attestation key is certified for the sake of its certificates.
func TestWhoseUpdatesEndByQuotes(t *testing.T) { // promise 10
	t.Parallel()
	dir := newDataDir(t, "")
	cfg, err := loadConfig(dir)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Listen.PKI = "127.0.0.1:0"
	a, err := openApp(t.Context(), dir, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	now := time.Now()
	for i, id := range []string{"CS-1", "CS-2", "CS-3"} {
		serial, station := "SN-"+id, strings.ToLower(id)
		if _, err := a.fleet.Add(t.Context(), "operator", []fleet.Enrolment{{Identity: id, Serial: serial, Profile: 2}}); err != nil {
			t.Fatal(err)
		}
		if id == "CS-3" { // no TPM
			continue
		}
		if _, err := a.store.UpdateStation(t.Context(), station, func(st *fleet.Station) ([]ledger.Event, error) {
			st.EK = strings.Repeat(strconv.Itoa(i+1), 64)
			return nil, nil
		}); err != nil {
			t.Fatal(err)
		}
		key := newP256(t)
		cert := newCert(t, &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: serial}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		}, nil, &key.PublicKey, key)
		number := ca.SerialOf(cert)
		if err := errors.Join(
			a.store.PutIntent(t.Context(), ca.Intent{Serial: number, Issuer: "attestation-issuing", Profile: ca.ProfileAttestation, Station: station, NotBefore: cert.NotBefore, NotAfter: cert.NotAfter, CreatedAt: now}),
			a.store.PutIssued(t.Context(), number, cert.Raw, now),
		); err != nil {
			t.Fatal(err)
		}
	}
	check := func(when string, want ...string) {
		t.Helper()
		var got []string
		for _, station := range []string{"cs-1", "cs-2", "cs-3"} {
			attests, err := a.attests(t.Context(), station)
			if err != nil {
				t.Fatal(err)
			}
			if attests {
				got = append(got, station)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", when, got, want)
		}
	}
	want := func(id string, every time.Duration) {
		t.Helper()
		if _, err := a.controller.WantStation(t.Context(), "operator", id, func(w *fleet.Wants) error { w.Quotes = every; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	check("keys are certified")
	want("CS-1", 24*time.Hour)
	want("CS-3", 24*time.Hour)
	check("quotes are wanted", "cs-1")
	record := func(station string, change func(*quote.Record)) {
		t.Helper()
		if _, err := a.store.UpdateQuote(t.Context(), station, nil, func(r *quote.Record) ([]ledger.Event, error) { change(r); return nil, nil }); err != nil {
			t.Fatal(err)
		}
	}
	record("cs-2", func(r *quote.Record) { r.DemandedAt = now })
	check("one was late once", "cs-1")
	record("cs-2", func(r *quote.Record) { r.At, r.Outcome = now, quote.Unknown })
	check("one has quoted", "cs-1", "cs-2")
	cfg.Listen.PKI = ""
	check("nobody can quote")
}
