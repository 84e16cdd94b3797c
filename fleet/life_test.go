package fleet_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"bollard/ca"
	"bollard/fleet"
	"bollard/internal/rollout"
	"bollard/ocpp"
)

const (
	// lifeDir names the directory of a process that is to be killed on its way.
	lifeDir = "BOLLARD_TEST_LIFE_DIR"
	// lifeSize is how many stations there are; `make torture` has 10,000.
	lifeSize = "BOLLARD_TEST_STATIONS"
)

// A fleet of thousands, of which 3 % fail in every way there is, moves to
// profile 3, renews its certificates and changes its CSMS root. The process is
// killed in the middle of each; nobody is stranded, the waves halt where the
// limit says, and everything comes to its end.
func TestFleetLife(t *testing.T) { // A02, A03, A05, M03, M04, M05, B09, B10; promises 4 and 7
	if dir := os.Getenv(lifeDir); dir != "" {
		synctest.Test(t, func(t *testing.T) { live(t, dir) })
		return
	}
	t.Parallel()
	dir := t.TempDir()
	kills := 0
	for {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFleetLife$", "-test.timeout=3h")
		cmd.Env = append(os.Environ(), lifeDir+"="+dir)
		out, err := cmd.CombinedOutput()
		if err == nil {
			break
		}
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("process ended with %v\n%s", err, out)
		}
		if kills++; kills > 10 {
			t.Fatal("it is killed again and again")
		}
	}
	if kills != 4 {
		t.Errorf("killed %d times, want once in each part", kills)
	}
}

// life is one process's part of a fleet's life.
type life struct {
	*sim
	n     int
	calls atomic.Int64
}

func live(t *testing.T, dir string) {
	n := 300
	if raceDetector {
		n = 40
	}
	if text := os.Getenv(lifeSize); text != "" && !raceDetector {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	l := &life{sim: newSim(t, dir), n: n}
	defer l.close()
	l.part("enrol", 0, l.enrol)
	l.connect()
	synctest.Wait()
	l.part("halt", 0, l.halts)
	l.part("profile", 2, l.profiles)
	l.part("renewal", 1, l.renewals)
	l.part("roots", 2, l.newRoots)
	l.part("chain", 2, l.newChain)
	l.part("switch", 0, l.switches)
	l.part("finish", 0, l.finishes)
}

// part runs once it isn't done; the first time it is killed once each station
// was called so many times on average, 0: never.
func (l *life) part(name string, killAfter int, run func()) {
	done, killed := filepath.Join(l.dir, "done-"+name), filepath.Join(l.dir, "killed-"+name)
	if _, err := os.Stat(done); err == nil {
		return
	}
	if _, err := os.Stat(killed); killAfter > 0 && err != nil {
		at := l.calls.Load() + int64(killAfter*l.n)
		l.onCall = func() {
			if l.calls.Add(1) == at {
				l.touch(killed)
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		}
	} else {
		l.onCall = nil
	}
	run()
	l.touch(done)
}

func (l *life) touch(path string) {
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		panic(err)
	}
}

var lifeFaults = []string{"mute", "refuse", "keyless", "fallback", "silent"}

func (l *life) enrol() {
	var list []*simStation
	for i := range l.n {
		s := &simStation{Identity: fmt.Sprintf("CS-%05d", i), Site: fmt.Sprintf("site-%d", i/4),
			Version: []ocpp.Version{ocpp.V16, ocpp.V201, ocpp.V21}[i%3], CrossCheck: i%2 == 0}
		if i%100 < 3 { // 3 %
			s.Fault = lifeFaults[(i/100*3+i%100)%len(lifeFaults)]
		}
		list = append(list, s)
	}
	l.add(list...)
	l.want(fleet.Group{Name: fleet.DefaultGroup, Wants: fleet.Wants{Profile: 3}})
}

// failing are the stations of some faults.
func (l *life) failing(faults ...string) []string {
	var list []string
	for key, s := range l.stations {
		if slices.Contains(faults, s.Fault) {
			list = append(list, key)
		}
	}
	slices.Sort(list)
	return list
}

func (l *life) members(p fleet.Progress, state rollout.State) []string {
	list := []string{}
	for _, m := range p.Members {
		if m.State == state {
			list = append(list, m.ID)
		}
	}
	slices.Sort(list)
	return list
}

// nobodyStranded: every station that is there has a session, or gets one at its
// next try.
func (l *life) nobodyStranded(when string) {
	l.t.Helper()
	l.connect()
	synctest.Wait()
	l.connect()
	for key, s := range l.stations {
		l.mu.Lock()
		up := l.live[key] != nil
		l.mu.Unlock()
		if !up && s.Fault != "silent" {
			l.t.Errorf("%s: %s is stranded: %v, %d roots, profile %d", when, key, slotURLs(s), len(s.Roots), s.profile())
		}
	}
	if l.t.Failed() {
		l.t.FailNow()
	}
}

// rollOut starts a rollout whose first wave halts it, or doesn't. Who is in that
// wave follows from the rollout's name, which is random: of a small fleet's few
// that fail there may be too many or too few, and it is drawn anew.
func (l *life) rollOut(first, limit float64, scope fleet.Scope, spread time.Duration, halts bool) string {
	// After a kill the rollout is there already.
	for _, p := range must(l.ctl.Rollouts(l.t.Context())) {
		if !p.Header.Phase.Over() && slices.Equal(p.Only, scope.Only) && p.Renew == scope.Renew {
			return p.ID
		}
	}
	failing := l.failing("mute", "refuse", "keyless", "fallback")
	for {
		id := l.start(scope, func(r *rollout.Rules) {
			r.Waves, r.PerMinute, r.PerSite, r.FailLimit, r.Spread = []float64{first, 1}, max(l.n/10, 60), 3, limit, spread
		})
		size, fail := 0, 0
		for _, m := range l.rollout(id).Members {
			if m.Wave == 0 {
				size++
				if slices.Contains(failing, m.ID) {
					fail++
				}
			}
		}
		if (fail > int(limit*float64(size))) == halts {
			return id
		}
		l.cancel(id, "another draw is wanted")
	}
}

func (l *life) cancel(id, reason string) {
	l.t.Helper()
	if _, err := l.ctl.Cancel(l.t.Context(), "operator", id, reason); err != nil {
		l.t.Fatal(err)
	}
}

// With a limit of none, the first wave halts at its first failure, and nobody of
// the second began.
func (l *life) halts() {
	id := l.rollOut(0.5, 0, fleet.Scope{Only: []fleet.Change{fleet.ChangeProfile}}, 0, true)
	l.until("halt", 6*time.Hour, func() bool { return l.rollout(id).Header.Phase == rollout.Halted })
	l.pass(time.Hour)
	p := l.rollout(id)
	for _, m := range p.Members {
		if m.Wave == 1 && m.State != rollout.Waiting || m.State == rollout.Failed && l.stations[m.ID].Fault == "" {
			l.t.Errorf("halted in wave 1, and %+v", m)
		}
	}
	l.cancel(id, "the limit was too strict")
	l.nobodyStranded("halted")
}

func (l *life) profiles() {
	id := l.rollOut(0.1, 0.2, fleet.Scope{Only: []fleet.Change{fleet.ChangeProfile}}, 0, false)
	l.until("everybody's turn", 12*time.Hour, l.over(id))
	p := l.rollout(id)
	if diff := cmp.Diff(l.failing("mute", "refuse", "keyless", "fallback"), l.members(p, rollout.Failed)); diff != "" {
		// A 1.6 station of fault "refuse" also refuses its organisation; all of them fail.
		l.t.Errorf("failed: %s", diff)
	}
	for key, s := range l.stations {
		want := 3
		if s.Fault != "" {
			want = 2
		}
		if st := l.station(s.Identity); s.profile() != want || s.Fault == "" && st.FloorProfile != 3 || s.Fault != "" && st.WantedProfile != 2 {
			l.t.Errorf("%s (%q): on profile %d; %+v", key, s.Fault, s.profile(), st)
		}
	}
	l.nobodyStranded("profile 3")
}

func (l *life) renewals() {
	scope := fleet.Scope{Renew: true, Only: []fleet.Change{fleet.ChangeCertificate}}
	l.lookEvery = time.Minute
	defer func() { l.lookEvery = simLook }()
	id := l.rollOut(0.1, 0.1, scope, 48*time.Hour, false)
	l.until("everybody's turn", 72*time.Hour, l.over(id))
	p := l.rollout(id)
	if n := p.Count[rollout.Done]; n < l.n*97/100 || p.Header.Phase != rollout.Finished {
		l.t.Errorf("%d renewed: %+v", n, p.Count)
	}
	for key, s := range l.stations {
		records := must(l.auth.IssuedTo(l.t.Context(), key))
		if s.Fault == "" && (len(records) != 2 || l.station(s.Identity).LeafSerial != records[0].Serial) {
			l.t.Errorf("%s has %d certificates, is seen with %s", key, len(records), l.station(s.Identity).LeafSerial)
		}
	}
	l.nobodyStranded("renewed")
}

// newRoots: the next root is on every station that takes it, beside the old one.
func (l *life) newRoots() {
	if state := l.auth.RolloverState(ca.KindCSMS); state.Phase == "" || state.Phase == ca.PhasePreparing {
		must(l.auth.Rollover(l.t.Context(), ca.KindCSMS, "operator"))
	}
	l.until("the next root on the stations", 12*time.Hour, func() bool {
		fleet.Poke(l.svc)
		synctest.Wait()
		_, waiting, err := l.svc.RolloverMoved(l.t.Context())
		return err == nil && len(waiting) <= len(l.failing("mute", "refuse", "silent"))
	})
	_, waiting, err := l.svc.RolloverMoved(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	for i := range waiting {
		waiting[i] = keyOf(waiting[i])
	}
	slices.Sort(waiting)
	if diff := cmp.Diff(l.failing("mute", "refuse", "silent"), waiting); diff != "" {
		l.t.Errorf("without the new root: %s", diff)
	}
	l.nobodyStranded("the new root installed")
}

// newChain: 2.x stations go once to the listener of the next root; those that
// keep the old one come back, the others stay.
func (l *life) newChain() {
	id := l.rollOut(0.1, 0.1, fleet.Scope{Only: []fleet.Change{fleet.ChangeChain}}, 0, false)
	l.until("everybody's turn", 12*time.Hour, l.over(id))
	l.pass(time.Hour)
	for key, s := range l.stations {
		s.mu.Lock()
		there := s.Slots[s.Active].URL == rolloverURL
		s.mu.Unlock()
		plan := must(l.svc.Plan(l.t.Context(), s.Identity))
		able := s.Version != ocpp.V16 && !slices.Contains([]string{"mute", "refuse", "silent"}, s.Fault)
		if (plan.ChainProven != "") != able || there != (able && s.CrossCheck) {
			l.t.Errorf("%s (%s, %q, check %t): proven %q, on the rollover listener %t", key, s.Version, s.Fault, s.CrossCheck, plan.ChainProven, there)
		}
	}
	l.nobodyStranded("proven")
}

// switches: the main listener serves the new chain, goes back and switches
// again; who would be stranded by the way back is named first.
func (l *life) switches() {
	ready := must(l.svc.RolloverReadiness(l.t.Context()))
	if ready.Ready < l.n*60/100 || ready.Ready+len(ready.Unready) != ready.Stations {
		l.t.Errorf("%d of %d ready", ready.Ready, ready.Stations)
	}
	byReason := map[string]int{}
	for _, u := range ready.Unready {
		byReason[strings.SplitN(u.Why, ";", 2)[0]]++
	}
	if byReason["it was never connected"] != len(l.failing("silent")) || byReason["it reported the new root"] == 0 {
		l.t.Errorf("reasons: %v", byReason)
	}
	must(l.auth.SwitchRollover(l.t.Context(), ca.KindCSMS, "operator"))
	l.nobodyStranded("switched")
	must(l.auth.SwitchBack(l.t.Context(), ca.KindCSMS, "operator"))
	// Nobody came under the new chain of the main listener yet.
	l.disconnect()
	l.nobodyStranded("back")
	must(l.auth.SwitchRollover(l.t.Context(), ca.KindCSMS, "operator"))
	time.Sleep(time.Minute)
	l.disconnect()
	l.nobodyStranded("switched again")
	fleet.Poke(l.svc)
	l.pass(2 * time.Hour) // those that stayed on the rollover listener come back
	l.disconnect()
	l.nobodyStranded("come back")
	named := must(l.svc.RolloverReadiness(l.t.Context())).Stranded
	var would []string
	for _, s := range l.stations {
		if s.Fault != "silent" && !l.follows(s, l.auth.Chain(ca.KindCSMS, ca.UnderOld)) && s.Slots[s.Active].URL != rolloverURL {
			would = append(would, s.Identity)
		}
	}
	slices.Sort(named)
	slices.Sort(would)
	if diff := cmp.Diff(would, named); diff != "" || len(named) == 0 {
		l.t.Errorf("stranded by the way back: %s", diff)
	}
}

// finishes: those that failed are repaired, then the old root ends and goes.
func (l *life) finishes() {
	for _, s := range l.stations {
		s.Fault = ""
	}
	for range 8 {
		l.connect()
		synctest.Wait()
		_, waiting, err := l.svc.RolloverMoved(l.t.Context())
		if err != nil {
			l.t.Fatal(err)
		}
		for _, identity := range waiting {
			_ = must(l.svc.LookRoots(l.t.Context(), identity))
		}
		if len(waiting) == 0 {
			break
		}
		l.pass(10 * time.Minute)
	}
	if _, waiting, err := l.svc.RolloverMoved(l.t.Context()); err != nil || len(waiting) > 0 {
		l.t.Fatalf("without the new root: %v, %v", waiting, err)
	}
	must(l.auth.FinishRollover(l.t.Context(), ca.KindCSMS, "operator"))
	fleet.Poke(l.svc)
	l.pass(time.Hour)
	l.disconnect()
	l.nobodyStranded("finished")
	for key, s := range l.stations {
		if len(s.Roots) != 1 || !l.follows(s, l.auth.Chain(ca.KindCSMS, ca.UnderNew)) {
			l.t.Errorf("%s (%s, check %t) holds %d roots", key, s.Version, s.CrossCheck, len(s.Roots))
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
