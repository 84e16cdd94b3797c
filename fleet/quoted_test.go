package fleet_test

import (
	"crypto"
	"maps"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"bollard/ca"
	"bollard/fleet"
	"bollard/ledger"
)

// The attestation keys of a station are those certified for the TPM that it is known by:
// those of one before don't count, nor those that were revoked or are over.
func TestAttestationKeysOfAStation(t *testing.T) {
	t.Parallel()
	d := newAttestationRig(t)
	count := func(station string, want int) {
		t.Helper()
		if _, keys, err := d.svc.AttestationKeys(t.Context(), station); err != nil || len(keys) != want {
			t.Errorf("%d keys, %v; want %d", len(keys), err, want)
		}
	}
	first, _ := machine(t)
	second, _ := machine(t)
	count("cs-1", 0)
	count("nobody", 0)
	_, ek := said(t, first)
	d.register("CS-1", ek)
	count("cs-1", 0)
	certify := func(station string) []byte {
		t.Helper()
		chain, status := d.enrol(first, d.est.secret(station))
		if status != http.StatusOK {
			t.Fatalf("%d\n%s", status, d.logged())
		}
		return chain[0].Raw
	}
	certify("CS-1")
	count("cs-1", 1)
	count("cs-2", 0)
	d.register("CS-1", ek) // as it is
	count("cs-1", 1)
	_, other := said(t, second)
	d.register("CS-1", other)
	count("cs-1", 0)
	if records, err := d.auth.IssuedTo(t.Context(), "cs-1"); err != nil || len(records) != 0 {
		t.Errorf("of the TPM before: %v, %v", records, err)
	}
	d.register("CS-1", ek)
	count("cs-1", 0)
	certify("CS-1") // the TPM came back, with its key
	count("cs-1", 1)
	d.advance(366 * 24 * time.Hour)
	count("cs-1", 0)
	certify("CS-1")
	count("cs-1", 1)
	for serial, want := range map[string]int{"SN-9": 0, "SN-1": 1} { // whatever is left of another board
		if _, err := d.store.UpdateStation(t.Context(), "cs-1", func(st *fleet.Station) ([]ledger.Event, error) { st.Serial = serial; return nil, nil }); err != nil {
			t.Fatal(err)
		}
		count("cs-1", want)
	}
	if _, err := d.svc.Lose(t.Context(), "operator", "CS-1", "stolen"); err != nil {
		t.Fatal(err)
	}
	count("cs-1", 0)
}

// A station that was lost and found gets a certificate for its attestation key again, which
// never left its TPM and may be the only one that has; not before it is found.
func TestAttestationKeyOfAStationThatWasFound(t *testing.T) {
	t.Parallel()
	d := newAttestationRig(t)
	m, _ := machine(t)
	_, ek := said(t, m)
	d.register("CS-1", ek)
	first, status := d.enrol(m, d.est.secret("CS-1"))
	if status != http.StatusOK {
		t.Fatalf("%d\n%s", status, d.logged())
	}
	if _, err := d.svc.Lose(t.Context(), "operator", "CS-1", "stolen"); err != nil {
		t.Fatal(err)
	}
	if record, err := d.auth.Lookup(t.Context(), ca.SerialOf(first[0])); err != nil || record.State != ca.StateRevoked || record.Reason != "privilegeWithdrawn" {
		t.Errorf("%+v, %v", record, err)
	}
	if _, err := d.svc.Find(t.Context(), "operator", "CS-1", 0); err != nil {
		t.Fatal(err)
	}
	if _, keys, err := d.svc.AttestationKeys(t.Context(), "cs-1"); err != nil || len(keys) != 0 {
		t.Errorf("what it had counts again: %d keys, %v", len(keys), err)
	}
	again, status := d.enrol(m, d.est.secret("CS-1"))
	if status != http.StatusOK || again[0].Equal(first[0]) {
		t.Fatalf("%d\n%s", status, d.logged())
	}
	if _, keys, err := d.svc.AttestationKeys(t.Context(), "cs-1"); err != nil || len(keys) != 1 {
		t.Errorf("%d keys, %v", len(keys), err)
	}
}

// What is being issued to a TPM while its station gets another one is revoked too.
func TestAnotherTPMWhileIssued(t *testing.T) { // promise 9
	t.Parallel()
	r := newRig(t)
	var before atomic.Pointer[func()]
	r.dirty = func(s crypto.Signer) crypto.Signer { return hookedSigner{s, &before} }
	r.start()
	d := attestationOn(t, r)
	m, _ := machine(t)
	_, ek := said(t, m)
	d.register("CS-1", ek)
	other := otherEK(t).Hash()
	changed := make(chan error, 1)
	change := func() {
		go func() {
			_, err := d.svc.SetEK(t.Context(), "operator", "CS-1", other)
			changed <- err
		}()
		eventually(t, "change", func() bool { return len(changed) == 1 || fleet.TakingTurns(d.svc, "cs-1") == 2 })
	}
	before.Store(&change)
	if _, status := d.enrol(m, d.user); status != http.StatusOK {
		t.Fatalf("%d\n%s", status, d.logged())
	}
	if err := <-changed; err != nil {
		t.Fatal(err)
	}
	if st := d.station("CS-1"); st.EK != other {
		t.Errorf("known by %q", st.EK)
	}
	if _, keys, err := d.svc.AttestationKeys(t.Context(), "cs-1"); err != nil || len(keys) != 0 {
		t.Errorf("%d keys, %v", len(keys), err)
	}
	if records := d.records("CS-1"); len(records) != 1 || records[0].State != ca.StateRevoked {
		t.Errorf("records %+v", records)
	}
}

// Quotes are wanted of stations by group, or of single ones, and of nobody else.
func TestQuotesWanted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ctl := fleet.NewController(r.svc, r.store)
	r.add(fleet.Enrolment{Identity: "CS-1", Group: "street"})
	r.add(fleet.Enrolment{Identity: "CS-2"})
	r.add(fleet.Enrolment{Identity: "CS-3", Group: "street"})
	check := func(want map[string]time.Duration) {
		t.Helper()
		got, err := ctl.Quotes(t.Context())
		if err != nil || !maps.Equal(got, want) {
			t.Errorf("%v, %v; want %v", got, err, want)
		}
		for _, station := range []string{"cs-1", "cs-2", "cs-3"} {
			if every, err := ctl.QuotesOf(t.Context(), station); err != nil || every != want[station] {
				t.Errorf("%s: %s, %v; want %s", station, every, err, want[station])
			}
		}
	}
	check(nil)
	if _, err := ctl.Want(t.Context(), "operator", fleet.Group{Name: "street", Wants: fleet.Wants{Quotes: time.Minute}}); err == nil {
		t.Error("quotes every minute were taken")
	}
	if _, err := ctl.Want(t.Context(), "operator", fleet.Group{Name: "street", Wants: fleet.Wants{Quotes: 24 * time.Hour}}); err != nil {
		t.Fatal(err)
	}
	check(map[string]time.Duration{"cs-1": 24 * time.Hour, "cs-3": 24 * time.Hour})
	for station, every := range map[string]time.Duration{"CS-2": time.Hour, "CS-3": 2 * time.Hour} {
		if _, err := ctl.WantStation(t.Context(), "operator", station, func(w *fleet.Wants) error { w.Quotes = every; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	check(map[string]time.Duration{"cs-1": 24 * time.Hour, "cs-2": time.Hour, "cs-3": 2 * time.Hour})
	if err := ctl.RemoveGroup(t.Context(), "operator", "street"); err != nil {
		t.Fatal(err)
	}
	check(map[string]time.Duration{"cs-2": time.Hour, "cs-3": 2 * time.Hour})
}

// A station's budget of quotes is its own, and fills again.
func TestQuotesAreFew(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	taken := 0
	for range 100 {
		if r.svc.MayQuote("cs-1") {
			taken++
		}
	}
	if taken != 10 || !r.svc.MayQuote("cs-2") {
		t.Errorf("%d at once", taken)
	}
	if r.advance(time.Minute); !r.svc.MayQuote("cs-1") || r.svc.MayQuote("cs-1") {
		t.Error("its budget isn't one a minute")
	}
}
