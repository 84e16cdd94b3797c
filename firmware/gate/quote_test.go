package gate_test

import (
	"context"
	"errors"
	"testing"

	"bollard/firmware/gate"
	"bollard/firmware/job"
	"bollard/firmware/release"
	"bollard/ocpp"
)

// An update to a release with registers, of a station whose TPM counts, is done by a quote
// that shows the release; of any other by its boot.
func TestQuoteConfirmsAnUpdate(t *testing.T) { // promise 10
	t.Parallel()
	st := gate.Station{Key: "cs-1", Vendor: "V", Model: "M"}
	for name, tt := range map[string]struct {
		registers, attests bool
		shown              string // what the quote is of
		booted, want       job.State
	}{
		"shown":                   {true, true, "1.0.0", job.Confirming, job.Done},
		"another release":         {true, true, "2.0.0", job.Confirming, job.Mismatch},
		"nothing known":           {true, true, "", job.Confirming, job.Mismatch},
		"a station without a TPM": {true, false, "", job.Done, job.Done},
		"nothing to be shown":     {false, true, "", job.Done, job.Done},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.restart(func(c *gate.Config) {
				c.Attests = func(context.Context, string) (bool, error) { return tt.attests, nil }
			})
			if tt.registers {
				b.papers.list[0].Release.PCRs = &release.Registers{}
			}
			if expects, err := b.g.Expects(t.Context(), st.Key); expects != "" || err != nil {
				t.Errorf("before: %q, %v", expects, err)
			}
			b.ask("1.0.0")
			b.whole = true
			for _, status := range []string{"Downloading", "Downloaded", "SignatureVerified", "Installing", "Installed"} {
				b.g.Report(t.Context(), b, st, ocpp.ActionFirmwareStatus, []byte(`{"status":"`+status+`"}`))
			}
			if expects, err := b.g.Expects(t.Context(), st.Key); expects != "1.0.0" || err != nil {
				t.Errorf("meanwhile: %q, %v", expects, err)
			}
			quoted := func(release string) job.State {
				t.Helper()
				if err := b.g.Quoted(t.Context(), st.Key, release, "a register differs"); err != nil {
					t.Error(err)
				}
				return b.jobs[0].State
			}
			if state := quoted("1.0.0"); state != job.Confirming {
				t.Errorf("%s by a quote before the boot", state)
			}
			b.g.Boot(t.Context(), b, st, []byte(`{"reason":"FirmwareUpdate","chargingStation":{"vendorName":"V","model":"M","firmwareVersion":"1.0.0"}}`))
			if state := b.jobs[0].State; state != tt.booted {
				t.Errorf("%s by its boot, want %s", state, tt.booted)
			}
			if state := quoted(tt.shown); state != tt.want {
				t.Errorf("%s by its quote (%s), want %s", state, b.jobs[0].Reason, tt.want)
			}
		})
	}
	b := newBench(t)
	b.papers.list[0].Release.PCRs = &release.Registers{}
	b.restart(func(c *gate.Config) {
		c.Attests = func(context.Context, string) (bool, error) { return false, errors.New("no disk") }
	})
	if b.ask("1.0.0"); len(b.jobs) > 0 {
		t.Errorf("an update began of which nobody knows how it ends: %+v", b.jobs)
	}
}
