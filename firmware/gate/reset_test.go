package gate_test

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bollard/firmware/catalogue"
	"bollard/firmware/gate"
	"bollard/firmware/job"
	"bollard/ocpp"
)

// A Reset in the middle of an installation waits for its end, and no longer than back
// ends do: then the answer is no.
func TestResetWaitsForInstallation(t *testing.T) {
	t.Parallel()
	st := gate.Station{Key: "cs-1", Vendor: "V", Model: "M"}
	for name, tt := range map[string]struct {
		installs time.Duration // 0: nothing does
		signed   bool
		want     string
		sent     int
	}{
		"nothing is installed": {want: "null"},
		"it ends soon":         {installs: 5 * time.Second, want: "Accepted", sent: 2},
		"it takes long":        {installs: time.Minute, want: "GwInstalling", sent: 1},
		"signed":               {installs: time.Second, signed: true, want: "GwInstalling", sent: 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				if tt.installs > 0 {
					if got := b.ask("1.0.0"); !strings.Contains(got, "Accepted") {
						t.Fatal(got)
					}
					b.whole = true
					say := func(status string) {
						b.g.Report(t.Context(), b, st, ocpp.ActionFirmwareStatus, []byte(`{"status":"`+status+`"}`))
					}
					for _, status := range []string{"Downloading", "Downloaded", "SignatureVerified", "Installing"} {
						say(status)
					}
					go func() {
						time.Sleep(tt.installs)
						say("InstallRebooting")
					}()
				}
				began := time.Now()
				v := b.g.Request(t.Context(), b, st, ocpp.ActionReset, []byte(`{"type":"OnIdle"}`), tt.signed)
				if v.Later != nil {
					v = v.Later(t.Context())
				}
				text, err := json.Marshal(v.Answer)
				if err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); !strings.Contains(string(text), tt.want) || took > 21*time.Second || b.sent != tt.sent {
					t.Errorf("%s after %s, %d sent", text, took, b.sent)
				}
				time.Sleep(2 * time.Minute) // whoever reports comes to an end
			})
		})
	}
}

// judged is a bench whose CALLs somebody else judges, too.
type judged struct {
	*bench
	verdict gate.Verdict
}

func (j judged) Anew(context.Context) gate.Verdict { return j.verdict }

// What waited is judged anew by everybody before it is handed on.
func TestHeldResetIsJudgedAnew(t *testing.T) { // promise 4
	t.Parallel()
	for name, tt := range map[string]struct {
		verdict gate.Verdict
		sent    int
	}{
		"it may pass still": {gate.Verdict{}, 2},
		"it may not":        {gate.Verdict{Answer: ocpp.GenericStatus{Status: ocpp.StatusRejected}}, 1},
		"it can't be read":  {gate.Verdict{Code: ocpp.FormatViolation}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.ask("1.0.0")
				b.whole = true
				st := gate.Station{Key: "cs-1", Vendor: "V", Model: "M"}
				for _, status := range []string{"Downloading", "Downloaded", "SignatureVerified", "Installing"} {
					b.g.Report(t.Context(), b, st, ocpp.ActionFirmwareStatus, []byte(`{"status":"`+status+`"}`))
				}
				go func() {
					time.Sleep(5 * time.Second)
					b.g.Report(t.Context(), b, st, ocpp.ActionFirmwareStatus, []byte(`{"status":"InstallRebooting"}`))
				}()
				v := b.g.Request(t.Context(), judged{b, tt.verdict}, st, ocpp.ActionReset, []byte(`{"type":"OnIdle"}`), false).Later(t.Context())
				if b.sent != tt.sent || tt.sent == 1 && v.Code != tt.verdict.Code {
					t.Errorf("%+v, %d sent", v, b.sent)
				}
				time.Sleep(time.Minute)
			})
		})
	}
}

// Who has the image of a release that is revoked is followed to the end: it can't be
// stopped any more, and what it does has to be seen.
func TestRevokedWhileInstalling(t *testing.T) { // promise 10
	t.Parallel()
	b := newBench(t)
	b.ask("1.0.0")
	b.whole = true
	st := gate.Station{Key: "cs-1", Vendor: "V", Model: "M"}
	for _, status := range []string{"Downloading", "Downloaded", "SignatureVerified", "Installing"} {
		b.g.Report(t.Context(), b, st, ocpp.ActionFirmwareStatus, []byte(`{"status":"`+status+`"}`))
	}
	b.revoke(0)
	if err := b.g.Withdraw(t.Context(), "alice"); err != nil || b.shelf.jobs[0].State != job.Installing {
		t.Fatalf("%v: it is %s", err, b.shelf.jobs[0].State)
	}
	if got := b.ask("2.0.0"); !strings.Contains(got, "GwBusy") {
		t.Errorf("another one in the middle of it: %s", got)
	}
	b.g.Report(t.Context(), b, st, ocpp.ActionFirmwareStatus, []byte(`{"status":"Installed"}`))
	b.g.Boot(t.Context(), b, st, []byte(`{"reason":"FirmwareUpdate","chargingStation":{"vendorName":"V","model":"M","firmwareVersion":"1.0.0"}}`))
	if b.shelf.jobs[0].State != job.Done {
		t.Errorf("it is %s", b.shelf.jobs[0].State)
	}
}

// A newer record of an image renews the one that expired, whichever signature the back
// end has.
func TestRenewedRecordTakesOldSignature(t *testing.T) { // promise 10
	t.Parallel()
	for name, tt := range map[string]struct {
		state catalogue.State
		want  string
	}{"renewed": {catalogue.Published, "Accepted"}, "not published": {catalogue.Added, "GwFrozen"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			old := &b.papers.list[1]
			renewed := *old
			r := *old.Release
			r.ID, renewed.Release, renewed.State = "renewed", &r, tt.state
			expired := *old.Release
			expired.Expires = expired.NotBefore
			old.Release = &expired
			b.papers.list = append(b.papers.list, renewed)
			if got := b.ask("2.0.0"); !strings.Contains(got, tt.want) {
				t.Error(got)
			}
		})
	}
}

// plain16 is a session of OCPP 1.6.
type plain16 struct{ *bench }

func (plain16) Version() ocpp.Version { return ocpp.V16 }

// A back end that asked for a plain update is told of the signed one from the outbox,
// in its words and order, each with the step it is about.
func TestTranslatedStatuses(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.rule = gate.Rule{Level: gate.Enforce, Upgrade: true}
	st, sess := gate.Station{Key: "cs-1", Vendor: "V", Model: "M"}, plain16{b}
	ask := func(location string) gate.Verdict {
		v := b.g.Request(t.Context(), sess, st, ocpp.ActionUpdateFirmware, []byte(`{"location":"`+location+`","retrieveDate":"2026-06-02T12:00:00Z"}`), false)
		return v.Later(t.Context())
	}
	b.rule.Refusal = ocpp.NotSupported
	if v := ask("https://elsewhere/x"); v.Code != ocpp.NotSupported {
		t.Errorf("refused with %+v", v)
	}
	b.rule.Refusal = ""
	if v := ask("https://elsewhere/x"); v.Code != ocpp.SecurityError {
		t.Errorf("refused with %+v", v)
	}
	b.ours = b.papers.list[0].Release.SHA256
	if v := ask("https://fw.example/d/x"); v.Answer == nil || b.sent != 1 {
		t.Fatalf("%+v", v)
	}
	b.whole = true
	list, err := b.Jobs(t.Context(), "cs-1", 1)
	if err != nil {
		t.Fatal(err)
	}
	id := list[0].RequestID
	for _, status := range []string{"DownloadScheduled", "Downloading", "Downloaded", "SignatureVerified", "InstallScheduled", "Installing", "InstallVerificationFailed"} {
		v := b.g.Report(t.Context(), sess, st, ocpp.ActionSignedFirmwareStatus, []byte(`{"status":"`+status+`","requestId":`+strconv.Itoa(id)+`}`))
		if v.Answer == nil {
			t.Errorf("%s: %+v", status, v)
		}
	}
	if got := strings.Join(b.told, ""); got != `{"status":"Downloading"}{"status":"Downloaded"}{"status":"Installing"}{"status":"InstallationFailed"}` {
		t.Errorf("the back end is told %s", got)
	}
}

// A station that goes to and fro between two statuses of an installation fills no
// ledger; how the update ends is recorded all the same.
func TestStatusesToAndFro(t *testing.T) {
	t.Parallel()
	st := gate.Station{Key: "cs-1", Vendor: "V", Model: "M"}
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		if got := b.ask("1.0.0"); !strings.Contains(got, "Accepted") {
			t.Fatal(got)
		}
		b.whole = true
		say := func(list ...string) {
			for _, status := range list {
				b.g.Report(t.Context(), b, st, ocpp.ActionFirmwareStatus, []byte(`{"status":"`+status+`"}`))
			}
		}
		say("Downloading", "Downloaded", "SignatureVerified")
		for range 500 {
			say("Installing", "InstallRebooting")
		}
		recorded := b.events
		if recorded > 250 {
			t.Errorf("%d records of 1,000 statuses", recorded)
		}
		if say("InstallationFailed"); b.events != recorded+1 {
			t.Errorf("%d records of the end, want 1", b.events-recorded)
		}
	})
}
