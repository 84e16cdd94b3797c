package ca_test

import (
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"

	"bollard/ca"
)

// A start with a root made elsewhere that was cut off can be given up, at any moment, and
// leaves nothing: the bridge is revoked, and another root may take the name.
func TestStartThatIsGivenUp(t *testing.T) {
	t.Parallel()
	r := mobilityRig(t)
	wrong, right := newOffline(t, r, nil), newOffline(t, r, nil)
	abandon := func() (ca.Rollover, error) { return r.AbandonRollover(t.Context(), ca.KindCSMS, "operator") }
	begin := func(o *offline) (ca.Rollover, error) {
		return r.RolloverTo(t.Context(), ca.KindCSMS, ca.RootElsewhere{Chain: files(o.certify(t, r)), List: file(o.list(t, listLife))}, "operator")
	}
	fails := func(method string, do func() (ca.Rollover, error)) {
		t.Helper()
		r.store.FailWith(method, errors.New("cut off"))
		if change, err := do(); err == nil || !strings.Contains(err.Error(), "cut off") {
			t.Fatalf("%s: %+v, %v", method, change, err)
		}
		r.store.FailWith(method, nil)
		r.reopen(t)
		if phase := r.RolloverState(ca.KindCSMS).Phase; phase != ca.PhasePreparing {
			t.Fatalf("cut off at %s it is %q", method, phase)
		}
	}
	if _, err := abandon(); !errors.Is(err, ca.ErrRollover) {
		t.Errorf("nothing was begun: %v", err)
	}
	fails("TakeIn", func() (ca.Rollover, error) { return begin(wrong) })
	if _, err := begin(right); !errors.Is(err, ca.ErrRollover) || !strings.Contains(err.Error(), "abort") {
		t.Errorf("another root: %v", err)
	}
	if plan, err := r.MigrateKeys(t.Context(), "softkms:moved", true, "operator"); err != nil || plan[0].Kept == "" {
		t.Errorf("keys would move meanwhile: %+v, %v", plan, err)
	}
	fails("SetRevoked", abandon)
	fails("PutRollover", abandon)
	for range 2 { // idempotent
		if change, err := abandon(); err != nil || change.Phase != ca.PhaseAbandoned {
			t.Fatalf("%+v: %v", change, err)
		}
	}
	r.reopen(t)
	if len(r.Roots(ca.KindCSMS)) != 1 || r.CrossRoot(ca.KindCSMS) != nil {
		t.Error("something of the root is there")
	}
	der, err := r.SignCRL(t.Context(), "csms-root")
	if err != nil {
		t.Fatal(err)
	}
	if list, err := x509.ParseRevocationList(der); err != nil || len(list.RevokedCertificateEntries) != 1 {
		t.Errorf("the bridge isn't on the old root's list: %v", err)
	}
	records, err := r.store.Certificates(t.Context(), ca.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	for _, record := range records {
		if record.State == ca.StateIssued && (record.Profile == ca.ProfileCross || record.Issuer == "csms-root-2") {
			t.Errorf("%s of %s is there", record.Profile, record.Issuer)
		}
	}
	if plan, err := r.MigrateKeys(t.Context(), "softkms:moved", true, "operator"); err != nil || plan[0].Kept != "" {
		t.Errorf("keys wouldn't move: %+v, %v", plan, err)
	}

	// The one that was meant, under the same name, and the same command once more.
	for range 2 {
		if change, err := begin(right); err != nil || change.Phase != ca.PhaseStarted || change.Generation != 2 {
			t.Fatalf("%+v: %v", change, err)
		}
	}
	if _, err := abandon(); !errors.Is(err, ca.ErrRollover) {
		t.Errorf("given up once it is started: %v", err)
	}
	if _, err := begin(wrong); !errors.Is(err, ca.ErrRollover) {
		t.Errorf("another one, once it is started: %v", err)
	}
	for _, step := range []func() (ca.Rollover, error){
		func() (ca.Rollover, error) { return r.SwitchRollover(t.Context(), ca.KindCSMS, "operator") },
		func() (ca.Rollover, error) { return r.FinishRollover(t.Context(), ca.KindCSMS, "operator") },
	} {
		if _, err := step(); err != nil {
			t.Fatal(err)
		}
	}
	issued := r.issue(t, leaf2(t))
	if out, err := r.opensslVerify(t, issued.Certificate, issued.Chain, []*x509.Certificate{right.Certificate()}); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// One whose root is made here goes on, and can't be given up.
func TestStartHereIsntGivenUp(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.store.FailWith("PutIntent", errors.New("full"))
	if _, err := r.Rollover(t.Context(), ca.KindCSMS, "operator"); err == nil {
		t.Fatal("nothing was full")
	}
	r.store.FailWith("PutIntent", nil)
	if _, err := r.AbandonRollover(t.Context(), ca.KindCSMS, "operator"); !errors.Is(err, ca.ErrRollover) || !strings.Contains(err.Error(), "start") {
		t.Errorf("%v", err)
	}
	if change, err := r.Rollover(t.Context(), ca.KindCSMS, "operator"); err != nil || change.Phase != ca.PhaseStarted {
		t.Errorf("%+v: %v", change, err)
	}
}

// A list that revokes the CA that issues isn't taken in unawares: with it nobody who
// reads lists follows what was issued.
func TestListThatRevokesWhatIssues(t *testing.T) {
	t.Parallel()
	r, o := takenRig(t)
	served := func() string {
		t.Helper()
		der, err := r.SignCRL(t.Context(), "csms-root-2")
		if err != nil {
			t.Fatal(err)
		}
		return string(der)
	}
	revokes := func(want ...string) {
		t.Helper()
		lists, err := r.RootLists(t.Context(), ca.KindCSMS)
		if err != nil || len(lists) != 1 || !slices.Equal(lists[0].Revokes, want) {
			t.Errorf("lists %+v, want one that revokes %v: %v", lists, want, err)
		}
	}
	if err := o.Revoke(t.Context(), ca.SerialOf(r.Intermediates(ca.KindCSMS)[0]), "superseded"); err != nil {
		t.Fatal(err)
	}
	list := o.list(t, listLife)
	before, events := served(), len(r.store.Events)
	if _, err := r.ImportList(t.Context(), ca.KindCSMS, list, false, "operator"); !errors.Is(err, ca.ErrListRevokes) || !strings.Contains(err.Error(), "csms-issuing") {
		t.Errorf("%v", err)
	}
	if served() != before || len(r.store.Events) != events {
		t.Error("it was taken in")
	}
	revokes()
	if _, err := r.ImportList(t.Context(), ca.KindCSMS, list, true, "operator"); err != nil {
		t.Fatal(err)
	}
	if last := r.store.Events[len(r.store.Events)-1]; served() == before || last.Kind != "crl.imported" || last.Data["revokes"] != "csms-issuing" {
		t.Errorf("forced, it isn't served or recorded: %+v", last)
	}
	revokes("csms-issuing")
	if err := r.ImportChain(t.Context(), ca.KindCSMS, o.certify(t, r), "operator"); err != nil {
		t.Fatal(err)
	}
	revokes()
	if _, err := r.ImportList(t.Context(), ca.KindCSMS, o.list(t, listLife), false, "operator"); err != nil {
		t.Errorf("of a certificate that isn't in force any more: %v", err)
	}

	// Nor one whose key moved, and that answers for what it issued.
	former := r.Intermediates(ca.KindCSMS)[0]
	if err := r.ImportChain(t.Context(), ca.KindCSMS, o.answer(t, asked(t, r, "softkms:moved")), "operator"); err != nil {
		t.Fatal(err)
	}
	if err := o.Revoke(t.Context(), ca.SerialOf(former), "keyCompromise"); err != nil {
		t.Fatal(err)
	}
	list = o.list(t, listLife)
	if _, err := r.ImportList(t.Context(), ca.KindCSMS, list, false, "operator"); !errors.Is(err, ca.ErrListRevokes) {
		t.Errorf("a former CA: %v", err)
	}
	if _, err := r.ImportList(t.Context(), ca.KindCSMS, list, true, "operator"); err != nil {
		t.Error(err)
	}
	revokes()
}
