package job_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"bollard/firmware/job"
)

var noon = time.Unix(1780315200, 0).UTC()

// sent is a job whose request is with the station.
func sent() job.Job {
	j := job.Job{ID: "1", Station: "cs-1", Version: "2.0.0", Before: "1.0.0", State: job.Held, SentSHA256: "x"}
	for _, s := range []job.State{job.Vetted, job.Fetched, job.Approved, job.Sent} {
		j.Advance(s, noon)
	}
	return j
}

// play lets a station say words; "answer X", "boot V", "quote right", "lost", "blind", "whole"
// (it has the image), "wait D", "retries N S" are no statuses.
func play(j *job.Job, words ...string) {
	now, whole := noon, true
	for _, w := range words {
		now = now.Add(time.Second)
		kind, rest, _ := strings.Cut(w, " ")
		switch kind {
		case "answer":
			j.Answer(rest, now)
		case "boot":
			j.Boot(rest, now)
		case "quote":
			j.Quoted(rest == "right", "a register differs", now)
		case "lost":
			j.Lost(now)
		case "blind":
			j.Restarted(now)
		case "retries": // and the pause between two
			n, pause, _ := strings.Cut(rest, " ")
			retries, _ := strconv.Atoi(n)
			interval, _ := strconv.Atoi(pause)
			j.Retries, j.RetryInterval = &retries, &interval
		case "part":
			whole = false
		case "wait":
			d, err := time.ParseDuration(rest)
			if err != nil {
				panic(err)
			}
			now = now.Add(d)
			j.Expire(noon, now)
		default:
			j.Report(w, "", job.Served{Whole: whole, Last: noon}, now)
		}
	}
}

func TestCourses(t *testing.T) {
	t.Parallel()
	good := []string{"answer Accepted", "Downloading", "Downloaded", "SignatureVerified"}
	after := func(words ...string) []string { return append(slices.Clone(good), words...) }
	for name, tt := range map[string]struct {
		words  []string
		want   job.State
		reason string
	}{
		"by the book":                {after("InstallRebooting", "lost", "boot 2.0.0", "Installed"), job.Done, ""},
		"installed, then boots":      {after("Installing", "Installed", "lost", "boot 2.0.0"), job.Done, ""},
		"every state":                {append([]string{"answer Accepted", "DownloadScheduled", "Downloading", "DownloadPaused", "Downloading", "Downloaded", "SignatureVerified"}, "InstallScheduled", "Installing", "InstallRebooting", "boot 2.0.0"), job.Done, ""},
		"silent boot loader":         {after("lost", "boot 2.0.0"), job.Done, ""},
		"repeats":                    {[]string{"answer Accepted", "Downloading", "Downloading", "Downloaded", "Downloaded", "SignatureVerified", "SignatureVerified", "Installing", "Installed", "Installed", "boot 2.0.0"}, job.Done, ""},
		"status before the answer":   {[]string{"Downloading", "answer Accepted", "Downloaded", "SignatureVerified", "Installing"}, job.Installing, ""},
		"activates after Installed":  {after("Installing", "Installed", "InstallRebooting", "boot 2.0.0"), job.Done, ""},
		"another update before":      {[]string{"answer AcceptedCanceled", "Downloading"}, job.Downloading, ""},
		"idle says nothing":          {after("Installing", "Idle", "Installed", "Idle", "boot 2.0.0"), job.Done, ""},
		"words nobody knows":         {after("Polishing", "Installing"), job.Installing, ""},
		"lost words":                 {[]string{"lost", "Downloaded", "SignatureVerified", "lost", "Installed"}, job.Confirming, ""},
		"a boot of the old firmware": {after("InstallRebooting", "boot 1.0.0", "Installing"), job.Installing, ""},

		"refuses":                   {[]string{"answer InvalidCertificate"}, job.Refused, `"InvalidCertificate"`},
		"downloads at last":         {[]string{"retries 2 60", "answer Accepted", "Downloading", "DownloadFailed", "Downloading", "DownloadFailed", "Downloading", "Downloaded"}, job.Downloaded, ""},
		"tells of a failure again":  {[]string{"retries 1 60", "answer Accepted", "Downloading", "DownloadFailed", "DownloadFailed", "DownloadFailed", "Downloading"}, job.Downloading, ""},
		"schedules another try":     {[]string{"retries 1 60", "DownloadScheduled", "DownloadFailed", "DownloadScheduled", "Downloading"}, job.Downloading, ""},
		"pauses between its tries":  {[]string{"retries 3 3600", "answer Accepted", "Downloading", "DownloadFailed", "wait 200m", "Downloading"}, job.Downloading, ""},
		"tries again unheard":       {[]string{"retries 1 60", "answer Accepted", "Downloading", "DownloadFailed", "lost", "Downloaded", "SignatureVerified"}, job.Verified, ""},
		"cheats on the second try":  {[]string{"retries 1 60", "answer Accepted", "Downloading", "DownloadFailed", "Downloading", "Downloaded", "Installing"}, job.Quarantined, "didn't verify"},
		"can't download":            {[]string{"retries 1 60", "answer Accepted", "Downloading", "DownloadFailed", "Downloading", "DownloadFailed"}, job.Failed, "DownloadFailed"},
		"may not try again":         {[]string{"retries 0 60", "answer Accepted", "Downloading", "DownloadFailed"}, job.Failed, "DownloadFailed"},
		"doesn't try again":         {[]string{"answer Accepted", "Downloading", "DownloadFailed", "Idle"}, job.Failed, "tries no more"},
		"never tries again":         {[]string{"retries 2 60", "answer Accepted", "Downloading", "DownloadFailed", "wait 33m"}, job.Failed, "didn't try again"},
		"pauses for ever":           {[]string{"retries 1000 3600", "answer Accepted", "Downloading", "DownloadFailed", "wait 13h"}, job.Failed, "didn't try again"},
		"fails after the download":  {[]string{"answer Accepted", "Downloading", "Downloaded", "DownloadFailed"}, job.Failed, "DownloadFailed"},
		"finds a bad signature":     {[]string{"answer Accepted", "Downloading", "Downloaded", "InvalidSignature"}, job.Failed, "InvalidSignature"},
		"finds a bad image":         {after("InstallVerificationFailed"), job.Failed, "InstallVerificationFailed"},
		"can't install":             {after("Installing", "InstallationFailed"), job.Failed, "InstallationFailed"},
		"another update after":      {[]string{"answer Accepted", "DownloadScheduled", "InstallationFailed"}, job.Failed, "InstallationFailed"},
		"first edition":             {[]string{"answer Accepted", "InvalidCertificate"}, job.Failed, "InvalidCertificate"},
		"keeps the old version":     {after("Installing", "Installed", "boot 1.0.0", "wait 31m"), job.Mismatch, "didn't boot"},
		"never boots":               {after("Installing", "Installed", "wait 31m"), job.Mismatch, "didn't boot"},
		"never answers":             {[]string{"wait 31m"}, job.TimedOut, "sent"},
		"answers late":              {[]string{"wait 29m", "answer Accepted"}, job.Accepted, ""},
		"no more bytes":             {[]string{"answer Accepted", "Downloading", "wait 31m"}, job.TimedOut, "downloading"},
		"never ends installing":     {after("Installing", "wait 61m"), job.TimedOut, "installing"},
		"waits for a transaction":   {after("InstallScheduled", "wait 23h"), job.Verified, ""},
		"lost while installing":     {after("Installing", "wait 59m", "lost", "wait 29m"), job.Installing, ""},
		"flaps while confirming":    {after("Installing", "Installed", "wait 29m", "lost", "wait 2m", "lost"), job.Mismatch, "didn't boot"},
		"flaps for days":            {append([]string{"answer Accepted", "Downloading"}, slices.Repeat([]string{"wait 29m", "lost"}, 101)...), job.TimedOut, "downloading"},
		"downloads for days":        {append([]string{"answer Accepted"}, slices.Repeat([]string{"wait 29m", "Downloading"}, 101)...), job.TimedOut, "downloading"},
		"installs for days":         {after(slices.Repeat([]string{"wait 29m", "Installing", "wait 29m", "InstallRebooting"}, 51)...), job.TimedOut, "ing"},
		"activates for ever":        {after(slices.Repeat([]string{"Installed", "InstallRebooting", "wait 29m"}, 4)...), job.TimedOut, "rebooting"},
		"the server was away":       {after("Installing", "Installed", "wait 20m", "blind", "wait 29m", "boot 2.0.0"), job.Done, ""},
		"jumps back":                {after("Downloading"), job.Mismatch, "can't follow"},
		"jumps back after a gap":    {after("Installing", "lost", "Downloaded"), job.Mismatch, "can't follow"},
		"jumps ahead":               {[]string{"answer Accepted", "Downloaded"}, job.Mismatch, "can't follow"},
		"has what it wasn't given":  {[]string{"answer Accepted", "Downloading", "part", "Downloaded"}, job.Mismatch, "whole image"},
		"nobody knows what it has":  {[]string{"answer Accepted", "Downloading", "blind", "part", "Downloaded"}, job.Downloaded, ""},
		"installs unverified":       {[]string{"answer Accepted", "Downloading", "Downloaded", "Installing"}, job.Quarantined, "didn't verify"},
		"says installed at once":    {[]string{"answer Accepted", "Installed"}, job.Quarantined, "didn't verify"},
		"unverified after a gap":    {[]string{"answer Accepted", "Downloading", "Downloaded", "lost", "Installed"}, job.Quarantined, "didn't verify"},
		"runs what it didn't check": {[]string{"answer Accepted", "Downloading", "Downloaded", "lost", "boot 2.0.0"}, job.Quarantined, "didn't verify"},
		"failed, then runs it":      {[]string{"answer Accepted", "Downloading", "Downloaded", "InstallationFailed", "boot 1.0.0", "boot 2.0.0"}, job.Quarantined, "didn't verify"},
		"refused, then runs it":     {[]string{"answer Rejected", "boot  2.0.0 "}, job.Quarantined, "didn't verify"},
		"silent, then runs it":      {[]string{"answer Accepted", "Downloading", "wait 31m", "boot 2.0.0"}, job.Quarantined, "didn't verify"},
		"bad, whatever it says":     {[]string{"answer Accepted", "Downloading", "Downloaded", "InvalidSignature", "SignatureVerified", "boot 2.0.0"}, job.Quarantined, "didn't verify"},
		"failed, after it verified": {after("InstallationFailed", "boot 2.0.0"), job.Failed, "InstallationFailed"},
		"silent, then verifies it":  {[]string{"answer Accepted", "Downloading", "wait 31m", "SignatureVerified", "boot 2.0.0"}, job.TimedOut, "downloading"},
		"mismatch, then worse":      {[]string{"answer Accepted", "Downloading", "part", "Downloaded", "Installed"}, job.Quarantined, "didn't verify"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := sent()
			play(&j, tt.words...)
			if j.State != tt.want || !strings.Contains(j.Reason, tt.reason) || (tt.reason == "") != (j.Reason == "") {
				t.Errorf("%s (%s), want %s (%s)", j.State, j.Reason, tt.want, tt.reason)
			}
		})
	}
}

// A version that was there before the update shows nothing until the station says
// that it is installed.
func TestSameVersionAgain(t *testing.T) {
	t.Parallel()
	j := sent()
	j.Before = "2.0.0"
	play(&j, "answer Accepted", "Downloading", "lost", "boot 2.0.0", "Downloaded", "SignatureVerified", "boot 2.0.0")
	if j.State != job.Verified {
		t.Fatalf("%s (%s)", j.State, j.Reason)
	}
	if play(&j, "Installed"); j.State != job.Done {
		t.Errorf("%s (%s)", j.State, j.Reason)
	}
}

// The signature that a station calls invalid has to be one it was sent.
func TestCondemned(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change    func(j *job.Job)
		condemned bool
	}{
		"signed":   {func(*job.Job) {}, true},
		"unsigned": {func(j *job.Job) { j.Unsigned = true }, false},
		"unsent":   {func(j *job.Job) { j.SentSHA256 = "" }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := sent()
			tt.change(&j)
			play(&j, "answer Accepted", "Downloading", "Downloaded", "InvalidSignature")
			if j.CondemnedAt.IsZero() == tt.condemned || j.State != job.Failed {
				t.Errorf("%s, condemned at %s", j.State, j.CondemnedAt)
			}
		})
	}
}

// The time a station is given begins where it was told to begin.
func TestTimesOfTheRequest(t *testing.T) {
	t.Parallel()
	j := sent()
	j.RetrieveAt, j.InstallAt = noon.Add(5*time.Hour), noon.Add(9*time.Hour)
	play(&j, "answer Accepted", "DownloadScheduled", "wait 329m")
	if j.State != job.Accepted {
		t.Fatalf("%s (%s)", j.State, j.Reason)
	}
	play(&j, "Downloading", "Downloaded", "SignatureVerified", "wait 599m")
	if j.State != job.Verified {
		t.Errorf("%s (%s)", j.State, j.Reason)
	}
	if play(&j, "wait 600m"); j.State != job.TimedOut {
		t.Errorf("%s (%s)", j.State, j.Reason)
	}
}

// What began by a clock that was a year ahead has as long as what begins when it was set
// right, and no longer.
func TestAfterAClockThatWasAhead(t *testing.T) {
	t.Parallel()
	const year = 365 * 24 * time.Hour
	for name, tt := range map[string]struct {
		words    []string
		retrieve time.Duration // after it was made
		left     time.Duration // once the clock is right
		state    job.State
	}{
		"the answer":      {nil, 0, time.Minute, job.TimedOut},
		"a download":      {[]string{"answer Accepted", "Downloading"}, 0, 30 * time.Minute, job.TimedOut},
		"one put off":     {[]string{"answer Accepted"}, 2 * time.Hour, 150 * time.Minute, job.TimedOut},
		"a transaction":   {[]string{"answer Accepted", "Downloading", "Downloaded", "SignatureVerified", "InstallScheduled"}, 0, 24 * time.Hour, job.TimedOut},
		"an installation": {[]string{"answer Accepted", "Downloading", "Downloaded", "SignatureVerified", "Installing"}, 0, time.Hour, job.TimedOut},
		"the proof":       {[]string{"answer Accepted", "Downloading", "Downloaded", "SignatureVerified", "Installing", "Installed"}, 0, 30 * time.Minute, job.Mismatch},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := job.Job{ID: "1", Station: "cs-1", Version: "2.0.0", Before: "1.0.0", State: job.Held, SentSHA256: "x", CreatedAt: noon}
			if tt.retrieve > 0 {
				j.RetrieveAt = noon.Add(tt.retrieve)
			}
			for _, s := range []job.State{job.Vetted, job.Fetched, job.Approved, job.Sent} {
				j.Advance(s, noon)
			}
			play(&j, tt.words...)
			right := noon.Add(-year)
			if !j.SetRight(right) || j.SetRight(right) {
				t.Fatal("nothing is set right, or twice")
			}
			if j.Expire(time.Time{}, right.Add(tt.left-time.Second)) {
				t.Errorf("over too early: %s (%s)", j.State, j.Reason)
			}
			if over := right.Add(tt.left + time.Minute); !j.Expire(time.Time{}, over) || j.State != tt.state {
				t.Errorf("%s until %s", j.State, j.Deadline)
			}
		})
	}
}

func TestBytesExtendTheTime(t *testing.T) {
	t.Parallel()
	j := sent()
	play(&j, "answer Accepted", "Downloading")
	late := noon.Add(2 * time.Hour)
	if j.Expire(late.Add(-29*time.Minute), late) || j.State != job.Downloading {
		t.Errorf("%s (%s)", j.State, j.Reason)
	}
	if !j.Expire(late.Add(-29*time.Minute), late.Add(time.Minute)) || j.State != job.TimedOut {
		t.Errorf("%s (%s)", j.State, j.Reason)
	}
}

// Whatever a station says, in whatever order, over whatever connections: nothing
// is sent that wasn't approved, an end stays one, and only a boot with the
// release's version, of what was verified, ends it well.
func TestAnyCourse(t *testing.T) {
	t.Parallel()
	statuses := []string{"Idle", "DownloadScheduled", "Downloading", "DownloadPaused", "Downloaded", "DownloadFailed", "SignatureVerified", "InvalidSignature",
		"InstallScheduled", "InstallRebooting", "Installing", "Installed", "InstallationFailed", "InstallVerificationFailed", "InvalidCertificate", "", "x"}
	rapid.Check(t, func(t *rapid.T) {
		now := noon
		j := job.Job{Station: "cs-1", Version: "2.0.0", Before: rapid.SampledFrom([]string{"1.0.0", "2.0.0", ""}).Draw(t, "before"), State: job.Held, CreatedAt: now}
		if hours := rapid.IntRange(0, 30*24).Draw(t, "put off"); hours%2 == 0 {
			j.RetrieveAt = now.Add(time.Duration(hours) * time.Hour)
			j.InstallAt = j.RetrieveAt.Add(time.Hour)
		}
		order := []job.State{job.Vetted, job.Fetched, job.Approved, job.Sent}
		verified := false
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "seconds")) * time.Second)
			was, wasReason := j.State, j.Reason
			what := rapid.SampledFrom([]string{"on", "on", "on", "answer", "report", "report", "report", "report", "boot", "lost", "restart", "expire", "cancel"}).Draw(t, "what")
			switch what {
			case "on":
				if i := slices.Index(append([]job.State{job.Held}, order...), j.State); i >= 0 && i < len(order) {
					j.Advance(order[i], now)
					j.SentSHA256 = "x"
				}
			case "answer":
				j.Answer(rapid.SampledFrom([]string{"Accepted", "AcceptedCanceled", "Rejected", ""}).Draw(t, "answer"), now)
			case "report":
				status := rapid.SampledFrom(statuses).Draw(t, "status")
				verified = verified || was.Underway() && status == "SignatureVerified"
				j.Report(status, "", job.Served{Whole: rapid.Bool().Draw(t, "whole")}, now)
				if was.Underway() && !verified && slices.Contains([]string{"InstallScheduled", "InstallRebooting", "Installing", "Installed"}, status) && j.State != job.Quarantined {
					t.Fatalf("%s unverified: %s", status, j.State)
				}
			case "boot":
				j.Boot(rapid.SampledFrom([]string{"1.0.0", "2.0.0", " 2.0.0 ", ""}).Draw(t, "version"), now)
			case "lost":
				j.Lost(now)
			case "restart":
				j.Restarted(now)
			case "expire":
				j.Expire(noon, now)
			case "cancel":
				if err := j.Cancel("by the model", now); err == nil && !was.Underway() && was != job.Approved {
					t.Fatalf("cancelled what was %s", was)
				}
			}
			if (what == "lost" || what == "restart") && j.State != was {
				t.Fatalf("a lost connection made %s of %s", j.State, was)
			}
			if !was.Open() && (j.State != was || j.Reason != wasReason) && (j.State != job.Quarantined || was == job.Done || j.SawVerified) {
				t.Fatalf("%s became %s", was, j.State)
			}
			if j.State == job.Done && was != job.Done && (!verified || j.Booted != "2.0.0") {
				t.Fatalf("done, verified %v, booted %q", verified, j.Booted)
			}
			if j.State.Underway() {
				if !slices.ContainsFunc(j.Steps, func(s job.Step) bool { return s.State == job.Approved }) {
					t.Fatalf("%s without approval", j.State)
				}
				if j.Deadline.IsZero() {
					t.Fatalf("%s for ever", j.State)
				}
				if right := j; right.SetRight(now) {
					t.Fatalf("%s until %s, and the clock was never ahead", j.State, j.Deadline)
				}
			}
			if len(j.Steps) > 200 {
				t.Fatalf("%d steps are kept", len(j.Steps))
			}
			// It goes on from its record.
			text, err := json.Marshal(j)
			if err != nil {
				t.Fatal(err)
			}
			var again job.Job
			if err := json.Unmarshal(text, &again); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(fmt.Sprint(j.State, j.Reason, j.Status, j.SawVerified, j.Gap, j.Blind, j.Booted, j.Deadline), fmt.Sprint(again.State, again.Reason, again.Status, again.SawVerified, again.Gap, again.Blind, again.Booted, again.Deadline)); diff != "" {
				t.Fatal(diff)
			}
			j = again
		}
	})
}

func TestFloorNeverFalls(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Uint64()
		a, b := job.Floor{n.Draw(t, "s"), n.Draw(t, "e")}, job.Floor{n.Draw(t, "s"), n.Draw(t, "e")}
		got := a.Raised(b)
		for _, f := range []job.Floor{a, b} {
			if got.Sequence < f.Sequence || got.SecurityEpoch < f.SecurityEpoch {
				t.Fatalf("%v with %v is %v", a, b, got)
			}
		}
		if got != b.Raised(a) || got != got.Raised(a) {
			t.Fatal("the order of raises counts")
		}
	})
}
