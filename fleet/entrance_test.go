package fleet_test

import (
	"context"
	"errors"
	"maps"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bollard/fleet"
	"bollard/ledger"
	"bollard/ocpp"
)

// admissions are the entries about one station being let in, without what is the
// same in all of them, and how many admissions they are about.
func (r *rig) admissions(key string) (list []map[string]string, count int) {
	r.t.Helper()
	for _, e := range r.events("station.admitted") {
		if e.Subject != key {
			continue
		}
		n, err := strconv.Atoi(e.Data["count"])
		if err != nil {
			r.t.Fatal(err)
		}
		count += n
		list = append(list, e.Data)
	}
	return list, count
}

func (r *rig) visit(c fleet.Claim, v ocpp.Version) {
	r.t.Helper()
	r.open(r.admit(c), v).close()
}

// Each new way in is an entry as the session begins; the same way again is counted,
// and written as one sum a day that a crash doesn't lose.
func TestAdmissionsAreRecorded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	password := withPassword(claim(t, "CS-1"), r.add(fleet.Enrolment{Identity: "CS-1"}))
	set := r.station("CS-1").Password.SetAt.UTC().Format(time.RFC3339)
	way := func(change map[string]string) map[string]string {
		data := map[string]string{"profile": "2", "proof": "password", "password-set": set, "listener": "main", "ocpp": "2.0.1", "tls": "before 1.3", "backend": "csms", "count": "1"}
		maps.Copy(data, change)
		maps.DeleteFunc(data, func(_, value string) bool { return value == "" })
		return data
	}
	var want []map[string]string
	expect := func(what string, more ...map[string]string) {
		t.Helper()
		want = append(want, more...)
		if got, _ := r.admissions("cs-1"); !cmp.Equal(want, got) {
			t.Fatalf("%s: %s", what, cmp.Diff(want, got))
		}
	}
	r.visit(password, ocpp.V201)
	expect("first admission", way(nil))
	for range 3 {
		r.visit(password, ocpp.V201)
	}
	expect("the same way again")
	fleet.FlushSightings(t.Context(), r.svc)
	r.restart()
	r.visit(password, ocpp.V201)
	fleet.SumAdmissions(t.Context(), r.svc)
	expect("before a day is over")
	r.advance(24 * time.Hour)
	fleet.FlushSightings(t.Context(), r.svc)
	fleet.SumAdmissions(t.Context(), r.svc)
	expect("the day's sum", way(map[string]string{"count": "4"}))
	fleet.SumAdmissions(t.Context(), r.svc)
	expect("nothing more to be summed")

	r.visit(password, ocpp.V201) // counted with the way it came, not with the next
	r.visit(password, ocpp.V21)
	expect("another version", way(nil), way(map[string]string{"ocpp": "2.1"}))
	other, tls13 := password, password
	other.Listener, tls13.TLS13 = "legacy", true
	r.visit(other, ocpp.V21)
	r.visit(tls13, ocpp.V21)
	expect("another listener, another TLS", way(map[string]string{"ocpp": "2.1", "listener": "legacy"}), way(map[string]string{"ocpp": "2.1", "tls": "1.3"}))
	chain := r.issue("CS-1", "SN-CS-1")
	r.visit(withCertificates(claim(t, "CS-1"), chain...), ocpp.V21)
	expect("a certificate", way(map[string]string{"ocpp": "2.1", "profile": "3", "proof": "certificate", "serial": serialOf(chain[0]), "password-set": ""}))
	again := r.issue("CS-1", "SN-CS-1")
	r.visit(withCertificates(claim(t, "CS-1"), again...), ocpp.V21)
	expect("its successor", way(map[string]string{"ocpp": "2.1", "profile": "3", "proof": "certificate", "serial": serialOf(again[0]), "password-set": ""}))
	r.visit(withCertificates(claim(t, "CS-1"), again...), ocpp.V21)
	if err := r.svc.Remove(t.Context(), "operator", "CS-1"); err != nil {
		t.Fatal(err)
	}
	expect("removal", want[len(want)-1])
	if _, count := r.admissions("cs-1"); count != 12 {
		t.Errorf("entries tell of %d admissions of 12", count)
	}
}

// A station that goes to and fro between two ways costs entries ever less often,
// and none of its admissions is lost from their counts.
func TestAdmissionsToAndFro(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	main := withPassword(claim(t, "CS-1"), r.add(fleet.Enrolment{Identity: "CS-1"}))
	side := main
	side.Listener = "side"
	const visits = 200
	for i := range visits {
		r.visit([]fleet.Claim{main, side}[i%2], ocpp.V201)
		r.advance(3 * time.Second)
		fleet.FlushEntrances(t.Context(), r.svc, false)
	}
	if list, _ := r.admissions("cs-1"); len(list) < 4 || len(list) > 12 {
		t.Errorf("%d entries in ten minutes", len(list))
	}
	fleet.FlushEntrances(t.Context(), r.svc, true)
	r.advance(24 * time.Hour)
	fleet.FlushSightings(t.Context(), r.svc)
	fleet.SumAdmissions(t.Context(), r.svc)
	if _, count := r.admissions("cs-1"); count != visits {
		t.Errorf("entries tell of %d admissions of %d", count, visits)
	}
}

// A session that may not stay, although its proof was good, was never let in.
func TestAdmissionThatDidntComeAbout(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	password := withPassword(claim(t, "CS-1"), r.add(fleet.Enrolment{Identity: "CS-1"}))
	adm := r.admit(password)
	if _, err := r.store.UpdateStation(t.Context(), "cs-1", func(st *fleet.Station) ([]ledger.Event, error) {
		st.LostAt = r.clock() // applied between the proof and the opening
		return nil, nil
	}); err != nil {
		t.Fatal(err)
	}
	s := r.open(adm, ocpp.V201)
	if list, _ := r.admissions("cs-1"); len(list) != 0 || s.endedWith() == "" {
		t.Errorf("a session that may not stay: ended %q, entries %v", s.endedWith(), list)
	}
	if st := r.station("CS-1"); st.SeenProfile != 0 || st.Admitted != "" {
		t.Errorf("it left %+v", st)
	}
}

// fussy is a disk that doesn't take everything.
type fussy struct {
	fleet.Store
	orders atomic.Bool  // can't be read
	leave  func() error // before a station goes
}

var errFussy = errors.New("the disk is fussy")

func (f *fussy) UnconfirmedOrder(ctx context.Context, key, serial string) (fleet.Order, bool, error) {
	if f.orders.Load() {
		return fleet.Order{}, false, errFussy
	}
	return f.Store.UnconfirmedOrder(ctx, key, serial)
}

func (f *fussy) RemoveStation(ctx context.Context, key string, last func(*fleet.Station) []ledger.Event) error {
	if err := f.leave(); err != nil {
		return err
	}
	return f.Store.RemoveStation(ctx, key, last)
}

func (f *fussy) RetireStation(ctx context.Context, key string, at time.Time, secrets []string, last func(*fleet.Station) []ledger.Event) error {
	if err := f.leave(); err != nil {
		return err
	}
	return f.Store.RetireStation(ctx, key, at, secrets, last)
}

// What a session proved is recorded again and again on a bad disk; that it was let in
// counts once.
func TestAdmissionsOnABadDisk(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	disk := &fussy{leave: func() error { return nil }}
	r.wrap = func(s fleet.Store) fleet.Store { disk.Store = s; return disk }
	r.restart()
	r.add(fleet.Enrolment{Identity: "CS-1"})
	main := withCertificates(claim(t, "CS-1"), r.issue("CS-1", "SN-CS-1")...)
	side := main
	side.Listener = "side"
	// New, the same again, another way, to and fro.
	visits := []fleet.Claim{main, main, side, main, side}
	for _, c := range visits {
		adm := r.admit(c)
		disk.orders.Store(true)
		s := r.open(adm, ocpp.V201)
		for range 3 {
			fleet.RetrySeen(t.Context(), r.svc)
		}
		disk.orders.Store(false)
		fleet.RetrySeen(t.Context(), r.svc)
		s.close()
	}
	fleet.FlushEntrances(t.Context(), r.svc, true)
	if err := r.svc.Remove(t.Context(), "operator", "CS-1"); err != nil {
		t.Fatal(err)
	}
	if list, count := r.admissions("cs-1"); count != len(visits) {
		t.Errorf("entries tell of %d admissions of %d: %v", count, len(visits), list)
	}
}

// The last sum is of what the removal finds, and a removal that fails takes nothing
// of it away.
func TestLastSum(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(*rig) error{
		"removal":         func(r *rig) error { return r.svc.Remove(r.t.Context(), "operator", "CS-1") },
		"decommissioning": func(r *rig) error { return r.svc.Decommission(r.t.Context(), "operator", "CS-1", "end of lease") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			disk := &fussy{}
			r.wrap = func(s fleet.Store) fleet.Store { disk.Store = s; return disk }
			r.restart()
			password := withPassword(claim(t, "CS-1"), r.add(fleet.Enrolment{Identity: "CS-1"}))
			for range 3 {
				r.visit(password, ocpp.V201)
			}
			disk.leave = func() error { return errFussy }
			if err := leave(r); !errors.Is(err, errFussy) {
				t.Fatal(err)
			}
			disk.leave = func() error { // a batch that was underway
				return r.store.Sighted(t.Context(), map[string]fleet.Sighting{"cs-1": {At: r.clock(), Admissions: 5}})
			}
			if err := leave(r); err != nil {
				t.Fatal(err)
			}
			if list, count := r.admissions("cs-1"); count != 3+5 {
				t.Errorf("entries tell of %d admissions of 8: %v", count, list)
			}
		})
	}
}
