package detect_test

import (
	"math/bits"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"bollard/detect"
)

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// Each rule: one sign fewer than it takes is no finding, the last one is, and
// the same signs at a slower pace are none.
func TestRules(t *testing.T) {
	t.Parallel()
	station := detect.Sign{Station: "cs-1", Source: "192.0.2.7"}
	with := func(kind detect.Kind, change ...func(*detect.Sign)) detect.Sign {
		s := station
		s.Kind = kind
		for _, c := range change {
			c(&s)
		}
		return s
	}
	live := func(s *detect.Sign) { s.Live = true }
	unknown := func(s *detect.Sign) { s.Station = "" }
	nowhere := func(s *detect.Sign) { s.Source = "" }
	detail := func(d string) func(*detect.Sign) { return func(s *detect.Sign) { s.Detail = d } }
	for _, test := range []struct {
		name        string
		sign        detect.Sign
		signs       int
		pace        time.Duration // at which they are too many
		slow        time.Duration // and at which they aren't; 0: one is too many
		criticality detect.Criticality
	}{
		{"shadowing", with(detect.RefusedProof, live), 2, time.Minute, 11 * time.Minute, detect.Critical},
		{"shadowing", with(detect.RefusedLive, live), 2, time.Minute, 11 * time.Minute, detect.Critical},
		{"flapping", with(detect.Flapped, live), 1, time.Millisecond, 0, detect.Warning},
		{"displacing", with(detect.Displaced, live), 12, time.Millisecond, 10 * time.Minute, detect.Warning},
		{"brute-force", with(detect.RefusedProof), 10, time.Millisecond, time.Minute, detect.Warning},
		{"brute-force-source", with(detect.RefusedUnknown, unknown), 30, time.Millisecond, 20 * time.Second, detect.Warning},
		{"tls-refused", with(detect.RefusedTLS, unknown, detail("version")), 10, time.Millisecond, 10 * time.Minute, detect.Warning},
		{"profile-downgrade", with(detect.RefusedProfile), 3, time.Millisecond, 10 * time.Minute, detect.Warning},
		{"serial-mismatch", with(detect.BootMismatch, live), 1, time.Millisecond, 0, detect.Critical},
		{"csr-mismatch", with(detect.CSRMismatch, live), 1, time.Millisecond, 0, detect.Critical},
		{"firmware-mismatch", with(detect.Version, live), 1, time.Millisecond, 0, detect.Critical},
		{"firmware-outside", with(detect.Outside), 1, time.Millisecond, 0, detect.Warning},
		{"firmware-swapped", with(detect.Swapped), 1, time.Millisecond, 0, detect.Critical},
		{"firmware-unseen", with(detect.Unseen), 1, time.Millisecond, 0, detect.Warning},
		{"firmware-exception", with(detect.Excepted), 1, time.Millisecond, 0, detect.Warning},
		{"firmware-refused", with(detect.FirmwareStatus, live, detail("InvalidSignature")), 1, time.Millisecond, 0, detect.Critical},
		{"firmware-refused", with(detect.Event, live, detail("InvalidFirmwareSigningCertificate")), 1, time.Millisecond, 0, detect.Critical},
		{"tampering", with(detect.Event, live, detail("TamperDetectionActivated")), 1, time.Millisecond, 0, detect.Critical},
		{"station-distrusts", with(detect.Event, live, detail("InvalidCsmsCertificate")), 1, time.Millisecond, 0, detect.Warning},
		{"maintenance", with(detect.Event, live, detail("MaintenanceLoginFailed")), 1, time.Millisecond, 0, detect.Warning},
		{"restarts", with(detect.Event, live, detail("StartupOfTheDevice")), 6, time.Millisecond, 20 * time.Minute, detect.Warning},
		{"clock-drift", with(detect.ClockAhead, live, detail("it is ahead")), 1, time.Millisecond, 0, detect.Warning},
		{"refused-messages", with(detect.BadMessage, live), 10, time.Millisecond, 2 * time.Minute, detect.Warning},
		{"backend-overruled", with(detect.Overruled, live), 5, time.Millisecond, 5 * time.Minute, detect.Warning},
		{"rollout-halted", with(detect.RolloutHalted), 1, time.Millisecond, 0, detect.Critical},
		{"firmware-halted", with(detect.FirmwareHalted), 1, time.Millisecond, 0, detect.Critical},
		{"firmware-quarantined", with(detect.Quarantined), 1, time.Millisecond, 0, detect.Critical},
		{"quote-wrong", with(detect.QuoteWrong, detail("a register differs")), 1, time.Millisecond, 0, detect.Critical},
		{"quote-overdue", with(detect.QuoteOverdue), 1, time.Millisecond, 0, detect.Warning},
		{"replay", with(detect.Replay, live), 5, time.Millisecond, 5 * time.Minute, detect.Warning},
		{"contracts-expire", with(detect.ContractsEnd, unknown, nowhere), 1, time.Millisecond, 0, detect.Warning},
		{"maker-flood", with(detect.MakerFlood, unknown, nowhere, detail("the maker's CA 0123456789abcdef")), 1, time.Millisecond, 0, detect.Critical},
		{"mount-answer", with(detect.MountAnswer, unknown, nowhere, detail("csms-issuing-2")), 1, time.Millisecond, 0, detect.Critical},
		{"ca-expires", with(detect.AuthorityEnds, unknown, nowhere, detail("CA mo-sub2")), 1, time.Millisecond, 0, detect.Warning},
		{"", with(detect.Event, live, detail("FirmwareUpdated")), 1, time.Millisecond, 0, ""},
		{"", with(detect.FirmwareStatus, live, detail("Installed")), 1, time.Millisecond, 0, ""},
		{"", with(detect.RefusedTLS, unknown, nowhere), 50, time.Millisecond, 0, ""},
	} {
		t.Run(test.name+" by "+string(test.sign.Kind), func(t *testing.T) {
			t.Parallel()
			d := detect.New()
			for n := 1; n <= test.signs; n++ {
				at := noon.Add(time.Duration(n) * test.pace)
				f, found := named(d.Observe(test.sign, at), test.name)
				switch {
				case found && n < test.signs:
					t.Fatalf("a finding after %d signs", n)
				case !found && n == test.signs && test.name != "":
					t.Fatalf("no finding after %d signs", n)
				case found && (f.Criticality != test.criticality || f.Count != n || !f.First.Equal(noon.Add(test.pace)) || !f.Last.Equal(at) || f.Again || f.Reason == "" || strings.Contains(f.Reason, "%")):
					t.Errorf("finding %+v", f)
				}
			}
			if test.slow == 0 {
				return
			}
			d = detect.New()
			for n := range 4 * test.signs {
				if f, found := named(d.Observe(test.sign, noon.Add(time.Duration(n)*test.slow)), test.name); found {
					t.Fatalf("a finding at a slow pace: %+v", f)
				}
			}
		})
	}
}

func named(list []detect.Finding, name string) (detect.Finding, bool) {
	for _, f := range list {
		if f.Name == name || name == "" {
			return f, true
		}
	}
	return detect.Finding{}, false
}

// Every rule has a line above.
func TestEveryRuleIsTested(t *testing.T) {
	t.Parallel()
	if n := len(detect.Names()); n != 32 {
		t.Errorf("there are %d names of findings, and 32 in TestRules", n)
	}
}

// A live station's own wrong password isn't brute force by others, an absent
// one's attackers don't shadow it, and what concerns one station says nothing
// of another.
func TestSubjectsAreApart(t *testing.T) {
	t.Parallel()
	d := detect.New()
	for n := range 9 {
		for _, station := range []string{"a", "b"} {
			if f := d.Observe(detect.Sign{Kind: detect.RefusedProof, Station: station, Source: "198.51.100." + station}, noon.Add(time.Duration(n))); len(f) > 0 {
				t.Fatalf("%+v", f)
			}
		}
	}
	if f := d.Observe(detect.Sign{Kind: detect.RefusedProof, Station: "a", Source: "x"}, noon); len(f) != 1 || f[0].Station != "a" || f[0].Source != "x" {
		t.Errorf("%+v", f)
	}
	d.Forget("b")
	if f := d.Observe(detect.Sign{Kind: detect.RefusedProof, Station: "b", Source: "x"}, noon); len(f) > 0 {
		t.Errorf("a station that was forgotten: %+v", f)
	}
}

// A flood becomes a handful of findings, told when their count has doubled; a
// quiet time ends the episode.
func TestFloodIsToldSeldom(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d, told, last := detect.New(), 0, 0
		n := rapid.IntRange(10, 5000).Draw(t, "signs")
		gaps := rapid.SliceOfN(rapid.IntRange(0, 400), 8, 8).Draw(t, "gaps")
		at := noon
		for i := range n {
			at = at.Add(time.Duration(gaps[i%len(gaps)]) * time.Millisecond)
			f, found := named(d.Observe(detect.Sign{Kind: detect.RefusedProof, Station: "cs-1", Source: "s"}, at), "brute-force")
			if !found {
				continue
			}
			if told++; f.Count < 2*last || f.Again != (told > 1) || !f.First.Equal(noon.Add(time.Duration(gaps[0])*time.Millisecond)) {
				t.Fatalf("told %+v after %d", f, last)
			}
			last = f.Count
		}
		if most := bits.Len(uint(n)); told == 0 || told > most {
			t.Fatalf("%d signs were told %d times, want 1 to %d", n, told, most)
		}
		first := at.Add(6 * time.Minute)
		for i := range 10 {
			f, found := named(d.Observe(detect.Sign{Kind: detect.RefusedProof, Station: "cs-1", Source: "s"}, first), "brute-force")
			if found != (i == 9) || found && (f.Again || f.Count != 10 || !f.First.Equal(first)) {
				t.Fatalf("new episode, sign %d: %+v", i, f)
			}
		}
	})
}

// However many addresses there are, what stations do is remembered beside
// them, and the memory is bounded.
func TestSourcesDontWashStationsAway(t *testing.T) {
	t.Parallel()
	d := detect.New()
	for range 9 {
		d.Observe(detect.Sign{Kind: detect.RefusedProof, Station: "cs-1", Source: "first"}, noon)
	}
	before := detect.Remembered(d)
	for i := range 100_000 {
		d.Observe(detect.Sign{Kind: detect.RefusedUnknown, Source: strings.Repeat("x", i%7) + time.Duration(i).String()}, noon)
	}
	if n := detect.Remembered(d); n > before+1<<13 {
		t.Errorf("%d episodes are remembered", n)
	}
	if f, found := named(d.Observe(detect.Sign{Kind: detect.RefusedProof, Station: "cs-1", Source: "last"}, noon), "brute-force"); !found {
		t.Errorf("the station's count was washed away: %+v", f)
	}
}

// A clock that jumps back ends nothing and hides nothing.
func TestClockJumpsBack(t *testing.T) {
	t.Parallel()
	d := detect.New()
	for n := range 10 {
		_, found := named(d.Observe(detect.Sign{Kind: detect.RefusedProof, Station: "cs-1"}, noon.Add(-time.Duration(n)*time.Hour)), "brute-force")
		if found != (n == 9) {
			t.Errorf("sign %d: found is %t", n, found)
		}
	}
}
