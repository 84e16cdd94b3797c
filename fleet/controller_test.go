package fleet_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"bollard/fleet"
	"bollard/internal/rollout"
	"bollard/ocpp"
)

// inBubble runs a test in a sim of its own.
func inBubble(t *testing.T, test func(t *testing.T, f *sim)) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f := newSim(t, dir)
		defer f.close()
		test(t, f)
	})
}

func (f *sim) want(g fleet.Group) {
	f.t.Helper()
	if _, err := f.ctl.Want(f.t.Context(), "operator", g); err != nil {
		f.t.Fatal(err)
	}
}

func (f *sim) start(scope fleet.Scope, edit func(*rollout.Rules)) string {
	f.t.Helper()
	rules := rollout.Rules{Waves: []float64{1}, Patience: time.Hour, PerMinute: 600, FailLimit: 0.5}
	if edit != nil {
		edit(&rules)
	}
	p, err := f.ctl.Start(f.t.Context(), "operator", scope, rules)
	if err != nil {
		f.t.Fatal(err)
	}
	return p.ID
}

func (f *sim) over(id string) func() bool {
	return func() bool { return f.rollout(id).Header.Phase.Over() }
}

// A wanted state changes nothing by itself; the dry run names stations, changes
// and reasons; the rollout brings them about and is then over.
func TestGroupIsBroughtToWhatIsWanted(t *testing.T) { // A02, A05
	inBubble(t, func(t *testing.T, f *sim) {
		f.add(
			&simStation{Identity: "A-16", Version: ocpp.V16, Group: "street"},
			&simStation{Identity: "A-201", Version: ocpp.V201, Group: "street"},
			&simStation{Identity: "A-21", Version: ocpp.V21, Group: "street"},
			&simStation{Identity: "OTHER", Version: ocpp.V201},
		)
		f.connect()
		f.want(fleet.Group{Name: "street", Wants: fleet.Wants{Profile: 3, CertificateLife: 90 * 24 * time.Hour, TimeSource: "NTP, Heartbeat"}})
		f.pass(time.Hour)
		for _, s := range f.stations {
			if s.profile() != 2 {
				t.Fatalf("%s moved without a rollout", s.Identity)
			}
		}
		planned, _, err := f.ctl.Plan(t.Context(), fleet.Scope{Group: "street"})
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, p := range planned {
			for _, d := range p.Drift {
				lines = append(lines, fmt.Sprintf("%s %s: %s, is %s %s", p.Station, d.Change, d.Wanted, d.Seen, d.Unable))
			}
		}
		want := []string{
			"A-16 profile: 3, is 2 ", "A-16 time: NTP,Heartbeat, is  OCPP 1.6 has no setting for it",
			"A-201 profile: 3, is 2 ", "A-201 time: NTP,Heartbeat, is  ",
			"A-21 profile: 3, is 2 ", "A-21 time: NTP,Heartbeat, is  ",
		}
		if diff := cmp.Diff(want, lines); diff != "" {
			t.Error(diff)
		}
		id := f.start(fleet.Scope{Group: "street"}, nil)
		f.until("rollout over", 3*time.Hour, f.over(id))
		if p := f.rollout(id); p.Header.Phase != rollout.Finished || p.Count[rollout.Done] != 3 {
			t.Fatalf("%+v", p)
		}
		for _, identity := range []string{"A-16", "A-201", "A-21"} {
			st := f.station(identity)
			if st.SeenProfile != 3 || st.FloorProfile != 3 || f.stations[keyOf(identity)].profile() != 3 {
				t.Errorf("%s: %+v", identity, st)
			}
			rec, err := f.auth.Record(t.Context(), st.LeafSerial)
			if life := rec.NotAfter.Sub(rec.IssuedAt); err != nil || life > 90*24*time.Hour || life < 89*24*time.Hour {
				t.Errorf("%s: certificate lives %s, %v", identity, life, err)
			}
		}
		if got := f.stations["a-201"].TimeSource; got != "NTP,Heartbeat" {
			t.Errorf("time source %q", got)
		}
		if f.stations["other"].profile() != 2 {
			t.Error("a station of no group moved")
		}
		if planned, _, err := f.ctl.Plan(t.Context(), fleet.Scope{}); err != nil || len(planned) != 1 || planned[0].Station != "A-16" {
			t.Errorf("afterwards: %+v, %v", planned, err)
		}
		if _, err := f.ctl.Start(t.Context(), "operator", fleet.Scope{Only: []fleet.Change{fleet.ChangeProfile}}, rollout.Rules{Waves: []float64{1}, Patience: time.Hour, PerMinute: 1}); !errors.Is(err, fleet.ErrNothingToDo) {
			t.Errorf("a second rollout: %v", err)
		}
	})
}

// Each way to fail leaves the station on what it had, counts once, and halts the
// rollout where the limit says; nothing else begins until somebody decides.
func TestRolloutHaltsAndFallsBack(t *testing.T) { // A05.FR.08
	inBubble(t, func(t *testing.T, f *sim) {
		noticed := &watcher{}
		f.watcher = noticed
		f.begin()
		for _, fault := range []string{"mute", "refuse", "keyless", "fallback"} {
			f.add(&simStation{Identity: "BAD-" + fault, Version: ocpp.V201, Fault: fault, Group: "bad"})
		}
		for i := range 20 {
			f.add(&simStation{Identity: fmt.Sprintf("GOOD-%d", i), Version: ocpp.V201, Group: "good"})
		}
		f.connect()
		f.want(fleet.Group{Name: "bad", Wants: fleet.Wants{Profile: 3}})
		f.want(fleet.Group{Name: "good", Wants: fleet.Wants{Profile: 3}})
		bad := f.start(fleet.Scope{Group: "bad"}, func(r *rollout.Rules) { r.FailLimit = 0.5 }) // 2 of 4 may
		f.until("halt", 3*time.Hour, func() bool { return f.rollout(bad).Header.Phase == rollout.Halted })
		f.pass(2 * time.Hour)
		if told := noticed.seen(); strings.Count(told, "rollout-halted:bad-") != 1 || strings.Count(told, "rollout-halted") != 1 {
			t.Errorf("told of the halt: %s", told)
		}
		if w := f.ctl.Watch(); w.Rollouts[rollout.Halted] != 1 || w.Rollouts[rollout.Running] != 0 || w.Stations[rollout.Failed] != 4 {
			t.Errorf("metrics: %+v", w)
		}
		p := f.rollout(bad)
		if p.Count[rollout.Failed] != 4 || !strings.Contains(p.Header.Why, "2 are allowed") {
			t.Errorf("%+v", p)
		}
		for _, m := range p.Members {
			if m.Note == "" {
				t.Errorf("%s failed without a reason", m.ID)
			}
		}
		for _, s := range f.stations {
			if s.Group != "bad" {
				continue
			}
			st := f.station(s.Identity)
			if s.profile() != 2 || s.Stranded > 0 || st.WantedProfile != 2 || st.FloorProfile != 2 || st.RenewWanted {
				t.Errorf("%s isn't left on what it had: %+v", s.Identity, st)
			}
		}
		if _, err := f.ctl.Resume(t.Context(), "operator", bad, ""); err == nil {
			t.Error("resumed a halted rollout without a reason")
		}
		if _, err := f.ctl.Resume(t.Context(), "operator", bad, "the four are known"); err != nil {
			t.Error(err)
		}
		f.until("end", time.Hour, f.over(bad))
		if w := f.ctl.Watch(); len(w.Rollouts) != 0 {
			t.Errorf("metrics of what is over: %+v", w)
		}

		// Paused, nobody begins; resumed after a crash, everybody has.
		good := f.start(fleet.Scope{Group: "good"}, func(r *rollout.Rules) { r.PerMinute = 12 })
		f.pass(30 * time.Second)
		if _, err := f.ctl.Pause(t.Context(), "operator", good, "lunch"); err != nil {
			t.Fatal(err)
		}
		f.pass(10 * time.Minute)
		count := f.rollout(good).Count
		if count[rollout.Waiting] == 0 || count[rollout.Done] == 0 || count[rollout.Begun] != 0 {
			t.Fatalf("paused: %v", count)
		}
		f.restart()
		f.connect()
		f.pass(10 * time.Minute)
		if diff := cmp.Diff(count, f.rollout(good).Count); diff != "" {
			t.Error("a crash ended the pause:", diff)
		}
		if _, err := f.ctl.Resume(t.Context(), "operator", good, ""); err != nil {
			t.Fatal(err)
		}
		f.until("end", time.Hour, f.over(good))
		if p := f.rollout(good); p.Count[rollout.Done] != 20 {
			t.Errorf("%+v", p.Count)
		}
	})
}

// Certificates are renewed over days, each once, and a station that isn't there
// is named.
func TestRenewalIsSpread(t *testing.T) { // A02, A03
	inBubble(t, func(t *testing.T, f *sim) {
		for i := range 20 {
			f.add(&simStation{Identity: fmt.Sprintf("CS-%d", i), Version: ocpp.V201})
		}
		f.connect()
		f.want(fleet.Group{Name: fleet.DefaultGroup, Wants: fleet.Wants{Profile: 3}})
		f.until("profile 3", 3*time.Hour, f.over(f.start(fleet.Scope{}, nil)))
		f.pass(time.Hour)
		before := map[string]string{}
		for key, s := range f.stations {
			before[key] = f.station(s.Identity).LeafSerial
		}
		gone := f.stations["cs-7"]
		gone.Fault = "silent"
		f.live["cs-7"].close()
		id := f.start(fleet.Scope{Renew: true, Only: []fleet.Change{fleet.ChangeCertificate}}, func(r *rollout.Rules) { r.Spread = 10 * time.Hour })
		f.pass(5 * time.Hour)
		if done := f.rollout(id).Count[rollout.Done]; done < 7 || done > 13 {
			t.Errorf("%d of 20 after half of the time", done)
		}
		f.until("end", 12*time.Hour, f.over(id))
		p := f.rollout(id)
		if p.Count[rollout.Done] != 19 || p.Count[rollout.Left] != 1 {
			t.Fatalf("%v", p.Count)
		}
		for key, s := range f.stations {
			serial := f.station(s.Identity).LeafSerial
			if (serial == before[key]) != (key == "cs-7") {
				t.Errorf("%s: certificate %s, before %s", key, serial, before[key])
			}
		}
		for _, m := range p.Members {
			if (m.State == rollout.Left) != (m.ID == "cs-7") {
				t.Errorf("%+v", m)
			}
		}
	})
}

// A renewal that a clock began which was a year ahead renews what is older than the moment
// it was set right, and each certificate once.
func TestRenewalBegunByAClockThatWasAhead(t *testing.T) { // A02
	inBubble(t, func(t *testing.T, f *sim) {
		f.add(&simStation{Identity: "CS-1", Version: ocpp.V201})
		f.connect()
		f.want(fleet.Group{Name: fleet.DefaultGroup, Wants: fleet.Wants{Profile: 3}})
		f.until("profile 3", 3*time.Hour, f.over(f.start(fleet.Scope{}, nil)))
		f.pass(time.Hour)
		before := f.station("CS-1").LeafSerial
		f.ahead = 365 * 24 * time.Hour
		id := f.start(fleet.Scope{Renew: true, Only: []fleet.Change{fleet.ChangeCertificate}}, nil)
		f.ahead = 0
		f.restart()
		f.connect()
		f.until("end", 3*time.Hour, f.over(id))
		if p, now := f.rollout(id), f.station("CS-1").LeafSerial; p.Count[rollout.Done] != 1 || now == before {
			t.Errorf("%v; certificate %s, before %s", p.Count, now, before)
		}
	})
}

// One that is behind for a moment lets no certificate count as renewed that isn't, and
// nobody is late once it is right again.
func TestRenewalWhileTheClockIsBehind(t *testing.T) { // A02
	inBubble(t, func(t *testing.T, f *sim) {
		f.add(&simStation{Identity: "CS-1", Version: ocpp.V201})
		f.connect()
		f.want(fleet.Group{Name: fleet.DefaultGroup, Wants: fleet.Wants{Profile: 3}})
		f.until("profile 3", 3*time.Hour, f.over(f.start(fleet.Scope{}, nil)))
		f.pass(time.Hour)
		before := f.station("CS-1").LeafSerial
		id := f.start(fleet.Scope{Renew: true, Only: []fleet.Change{fleet.ChangeCertificate}}, nil)
		f.ahead = -365 * 24 * time.Hour
		for range 2 {
			if err := f.ctl.Look(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		f.ahead = 0
		f.until("end", 3*time.Hour, f.over(id))
		if p, now := f.rollout(id), f.station("CS-1").LeafSerial; p.Count[rollout.Done] != 1 || now == before {
			t.Errorf("%v; certificate %s, before %s", p.Count, now, before)
		}
	})
}

// A back end is changed by ending the session, a password by A01, roots by M05;
// a rollout that lists none of them leaves them alone.
func TestOtherWants(t *testing.T) { // A01, M05
	inBubble(t, func(t *testing.T, f *sim) {
		f.add(&simStation{Identity: "CS-1", Version: ocpp.V201, Group: "g"}, &simStation{Identity: "CS-2", Version: ocpp.V16, Group: "g"})
		f.connect()
		if err := f.auth.Create(t.Context(), "manufacturer", "operator"); err != nil {
			t.Fatal(err)
		}
		f.pass(48 * time.Hour)
		f.want(fleet.Group{Name: "g", Wants: fleet.Wants{PasswordAge: 24 * time.Hour, Backend: "second"}})
		first := f.stations["cs-1"].Password
		f.until("back end", time.Hour, f.over(f.start(fleet.Scope{Only: []fleet.Change{fleet.ChangeBackend}}, nil)))
		if st := f.station("CS-1"); st.SeenBackend != "second" || f.stations["cs-1"].Password != first {
			t.Errorf("%+v", st)
		}
		f.until("password", time.Hour, f.over(f.start(fleet.Scope{}, nil)))
		for _, s := range f.stations {
			if st := f.station(s.Identity); s.Password == first || time.Since(st.Password.SetAt) > 2*time.Hour || st.Pending != nil || s.Stranded > 0 {
				t.Errorf("%+v", st)
			}
		}
	})
}

// What is wanted of one station stands in place of what is wanted of its group, one
// by one, as it was when the rollout was decided, and goes with the station.
func TestOwnWants(t *testing.T) { // A02, A05
	inBubble(t, func(t *testing.T, f *sim) {
		f.add(&simStation{Identity: "CS-1", Version: ocpp.V201, Group: "g"}, &simStation{Identity: "CS-2", Version: ocpp.V201, Group: "g"},
			&simStation{Identity: "CS-3", Version: ocpp.V16}, &simStation{Identity: "CS-4", Version: ocpp.V16})
		f.connect()
		f.want(fleet.Group{Name: "g", Wants: fleet.Wants{Profile: 3, TimeSource: "NTP"}})
		own := func(identity string, wants fleet.Wants) error {
			_, err := f.ctl.WantStation(t.Context(), "operator", identity, func(w *fleet.Wants) error { *w = wants; return nil })
			return err
		}
		for identity, wants := range map[string]fleet.Wants{"cs-1": {Profile: 2}, "CS-3": {Profile: 3}, "CS-4": {}} {
			if err := own(identity, wants); err != nil {
				t.Fatal(err)
			}
		}
		for name, err := range map[string]error{
			"nobody":  own("CS-9", fleet.Wants{Profile: 3}),
			"profile": own("CS-1", fleet.Wants{Profile: 4}),
			"root":    own("CS-1", fleet.Wants{Roots: []fleet.WantedRoot{{Use: "v2g", Own: true}}}),
		} {
			if err == nil {
				t.Errorf("%s: taken", name)
			}
		}
		if all, err := f.ctl.OwnWants(t.Context()); err != nil || !cmp.Equal(all, map[string]fleet.Wants{"cs-1": {Profile: 2}, "cs-3": {Profile: 3}}) {
			t.Errorf("%+v, %v", all, err)
		}
		if planned, _, err := f.ctl.Plan(t.Context(), fleet.Scope{Station: "CS-1"}); err != nil || len(planned) != 1 || len(planned[0].Drift) != 1 || planned[0].Drift[0].Change != fleet.ChangeTime {
			t.Errorf("plan of one: %+v, %v", planned, err)
		}
		id := f.start(fleet.Scope{}, nil)
		if err := own("CS-1", fleet.Wants{}); err != nil { // later than the decision
			t.Fatal(err)
		}
		f.until("rollout over", 3*time.Hour, f.over(id))
		for identity, want := range map[string]int{"cs-1": 2, "cs-2": 3, "cs-3": 3, "cs-4": 2} {
			if got := f.stations[identity].profile(); got != want {
				t.Errorf("%s is on profile %d, want %d", identity, got, want)
			}
		}
		if got := f.stations["cs-1"].TimeSource; got != "NTP" {
			t.Errorf("what only its group wants: %q", got)
		}
		id = f.start(fleet.Scope{Station: "CS-1"}, nil)
		f.until("rollout of one", 3*time.Hour, f.over(id))
		if p := f.rollout(id); f.stations["cs-1"].profile() != 3 || p.Count[rollout.Done] != 1 || p.Station != "CS-1" {
			t.Errorf("%+v", p)
		}
	})
}

func TestGroupsAreChecked(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ctl := fleet.NewController(r.svc, r.store)
	for name, g := range map[string]fleet.Group{
		"no name":        {},
		"profile 4":      {Name: "g", Wants: fleet.Wants{Profile: 4}},
		"password":       {Name: "g", Wants: fleet.Wants{PasswordAge: time.Minute}},
		"life":           {Name: "g", Wants: fleet.Wants{CertificateLife: time.Hour}},
		"type":           {Name: "g", Wants: fleet.Wants{CertificateType: "v2g"}},
		"time source":    {Name: "g", Wants: fleet.Wants{TimeSource: "Sundial"}},
		"root use":       {Name: "g", Wants: fleet.Wants{Roots: []fleet.WantedRoot{{Use: "web", Own: true}}}},
		"root of none":   {Name: "g", Wants: fleet.Wants{Roots: []fleet.WantedRoot{{Use: "v2g", Own: true}}}},
		"root no use":    {Name: "g", Wants: fleet.Wants{Roots: []fleet.WantedRoot{{Use: "v2g-20", DER: newMaker(t, r.clock()).Cert.Raw}}}},
		"root is no CA":  {Name: "g", Wants: fleet.Wants{Roots: []fleet.WantedRoot{{Use: "csms", DER: r.issue("X", "SN-X")[0].Raw}}}},
		"pattern":        {Name: "g", Match: fleet.GroupMatch{Vendor: "["}},
		"default match":  {Name: "default", Match: fleet.GroupMatch{Vendor: "V"}},
		"control in it":  {Name: "a\nb"},
		"back end spelt": {Name: "g", Wants: fleet.Wants{Backend: "a\x00"}},
	} {
		if _, err := ctl.Want(t.Context(), "operator", g); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// The label decides, then the first match by name, then the default group.
func TestWhoseGroup(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ctl := fleet.NewController(r.svc, r.store)
	for _, g := range []fleet.Group{
		{Name: "b", Match: fleet.GroupMatch{Vendor: "acme*"}}, {Name: "a", Match: fleet.GroupMatch{Vendor: "ACME*", Model: "x?"}},
		{Name: "c"}, {Name: "default"},
	} {
		g.Wants.Profile = 3
		if _, err := ctl.Want(t.Context(), "operator", g); err != nil {
			t.Fatal(err)
		}
	}
	r.add(fleet.Enrolment{Identity: "labelled", Vendor: "Acme", Model: "X1", Group: "c"})
	r.add(fleet.Enrolment{Identity: "first", Vendor: "Acme", Model: "X1"})
	r.add(fleet.Enrolment{Identity: "second", Vendor: "Acme Corp", Model: "Y1"})
	r.add(fleet.Enrolment{Identity: "left", Vendor: "Else"})
	r.add(fleet.Enrolment{Identity: "misspelt", Vendor: "Acme", Group: "cc"})
	for identity, want := range map[string]string{"labelled": "c", "first": "a", "second": "b", "left": "default", "misspelt": ""} {
		if got, err := ctl.GroupOf(t.Context(), identity); err != nil || got != want {
			t.Errorf("%s: group %q, %v", identity, got, err)
		}
	}
	if err := ctl.RemoveGroup(t.Context(), "operator", "a"); err != nil {
		t.Fatal(err)
	}
	if got, err := ctl.GroupOf(t.Context(), "first"); err != nil || got != "b" {
		t.Errorf("without its group: %q, %v", got, err)
	}
	if _, err := ctl.Want(t.Context(), "operator", fleet.Group{Name: "a", Match: fleet.GroupMatch{Vendor: "ACME*", Model: "x?"}, Wants: fleet.Wants{Profile: 3}}); err != nil {
		t.Fatal(err)
	}
	if got, err := ctl.GroupOf(t.Context(), "first"); err != nil || got != "a" {
		t.Errorf("with it again: %q, %v", got, err)
	}
	planned, _, err := ctl.Plan(t.Context(), fleet.Scope{})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, p := range planned {
		got[p.Station] = p.Group
	}
	if diff := cmp.Diff(map[string]string{"labelled": "c", "first": "a", "second": "b", "left": "default"}, got); diff != "" {
		t.Error(diff)
	}
}
