package ca_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"bollard/ca"
	"bollard/keys"
	"bollard/ledger"
	"bollard/store"
)

// A revocation counts here at once, and is told the mount until it takes it, over restarts.
func TestRevocationIsPassedOn(t *testing.T) {
	t.Parallel()
	r := inUse(t, "stations")
	issued, err := r.try(t, order(t, newKey(t)))
	if err != nil {
		t.Fatal(err)
	}
	r.mount.away = keys.ErrUnavailable
	record, err := r.Revoke(t.Context(), issued.Serial, "keyCompromise", "operator")
	if err != nil || record.State != ca.StateRevoked {
		t.Fatalf("%s, %v", record.State, err)
	}
	if err := r.SettleMounts(t.Context()); !errors.Is(err, keys.ErrUnavailable) {
		t.Errorf("while it is away: %v", err)
	}
	r.restart(t)
	r.mount.away = nil
	ctx, stop := context.WithCancel(t.Context())
	seen := &revocations{seen: make(chan string, 1)}
	r.Watch(seen)
	done := make(chan error, 1)
	go func() { done <- r.MaintainMounts(ctx) }()
	if got := <-seen.seen; got != issued.Serial {
		t.Errorf("%s was told of", got)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if !r.mount.isRevoked(issued.Serial) {
		t.Error("the mount wasn't told")
	}
	if got := r.kinds(t, issued.Serial); !slices.Contains(got, "mount.settled") {
		t.Errorf("entries %v", got)
	}
}

// revocations hears of them.
type revocations struct{ seen chan string }

func (w *revocations) Revoked(_, serial string) { w.seen <- serial }
func (w *revocations) Changed()                 {}

// A certificate whose answer was lost is found at the mount by its key, put on record
// and revoked there; one being issued for the same key isn't touched.
func TestLostAnswerIsFound(t *testing.T) {
	t.Parallel()
	r := inUse(t, "stations")
	r.mount.lose = true
	o := order(t, newKey(t))
	if _, err := r.try(t, o); !errors.Is(err, keys.ErrUnavailable) {
		t.Fatalf("%v, want ErrUnavailable", err)
	}
	r.mount.lose = false
	r.ahead.Add(int64(100 * time.Second)) // Vault's own limit is 90
	if err := r.SettleMounts(t.Context()); err == nil {
		t.Error("settled while the mount may still issue it")
	}
	r.ahead.Add(int64(20 * time.Second))
	if _, err := r.Prepare(t.Context(), o); err != nil { // and a run that ends here
		t.Fatal(err)
	}
	if err := r.SettleMounts(t.Context()); err == nil {
		t.Error("settled while one is issued for the key")
	}
	r.restart(t)
	r.ahead.Add(int64(2 * time.Minute))
	good, err := r.try(t, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.SettleMounts(t.Context()); err != nil {
		t.Fatal(err)
	}
	states, found := map[ca.State]int{}, 0
	for _, record := range r.records(t, "cs1") {
		states[record.State]++
		if record.State != ca.StateOrphaned || record.DER == nil {
			continue
		}
		found++
		if !r.mount.isRevoked(record.Serial) {
			t.Errorf("%s isn't revoked at the mount", record.Serial)
		}
	}
	// None is revoked: a key with a revoked certificate gets no other.
	if found != 1 || states[ca.StateOrphaned] != 3 || states[ca.StateIssued] != 1 || len(states) != 2 {
		t.Errorf("%d found, records %v", found, states)
	}
	if r.mount.isRevoked(good.Serial) {
		t.Error("the good one is revoked")
	}
	if n, err := r.db.Unsettled(t.Context(), "csms-issuing-2", 10); err != nil || len(n) != 0 {
		t.Errorf("%d left, %v", len(n), err)
	}
}

// While nothing, or another CA, is at a mount's path nothing is found there: what has to
// be revoked or looked for stays so, until the mount is back.
func TestNothingIsSettledWithoutTheMount(t *testing.T) {
	t.Parallel()
	r := inUse(t, "stations")
	issued, err := r.try(t, order(t, newKey(t)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Revoke(t.Context(), issued.Serial, "keyCompromise", "operator"); err != nil {
		t.Fatal(err)
	}
	r.mount.lose = true
	if _, err := r.try(t, order(t, newKey(t))); !errors.Is(err, keys.ErrUnavailable) {
		t.Fatalf("%v, want ErrUnavailable", err)
	}
	r.mount.lose = false
	r.ahead.Add(int64(2 * time.Minute))
	waits := func(what string) {
		t.Helper()
		if err := r.SettleMounts(t.Context()); err == nil {
			t.Errorf("%s: settled", what)
		}
		if list, err := r.db.Unsettled(t.Context(), "csms-issuing-2", 10); err != nil || len(list) != 2 {
			t.Errorf("%s: %d to be settled, %v", what, len(list), err)
		}
	}
	r.mount.gone = true
	waits("nothing there")
	r.mount.gone = false
	cert, all := r.mount.cert, r.mount.issued
	r.mount.cert, r.mount.issued = r.Roots(ca.KindCSMS)[0], map[string][]byte{}
	waits("another CA there")
	r.mount.cert, r.mount.issued = cert, all
	if err := r.SettleMounts(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(r.mount.revoked) != 2 {
		t.Errorf("%d certificates are revoked", len(r.mount.revoked))
	}
}

// A mount that keeps nothing is shown what it has to revoke.
func TestMountThatKeepsNothing(t *testing.T) {
	t.Parallel()
	r := inUse(t, "stations")
	r.mount.keeps = false
	issued, err := r.try(t, order(t, newKey(t)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Revoke(t.Context(), issued.Serial, "keyCompromise", "operator"); err != nil {
		t.Fatal(err)
	}
	if err := r.SettleMounts(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !r.mount.isRevoked(issued.Serial) {
		t.Error("it isn't revoked at the mount")
	}
}

// fullStore doesn't write what follows an answer, as on a full disk.
type fullStore struct {
	*store.Store
	full atomic.Bool
}

var errFull = errors.New("disk is full")

func (s *fullStore) Renumber(ctx context.Context, serial string, to ca.Intent, events ...ledger.Event) error {
	if s.full.Load() {
		return errFull
	}
	return s.Store.Renumber(ctx, serial, to, events...)
}

func (s *fullStore) GiveUp(ctx context.Context, serial string, at time.Time, events ...ledger.Event) error {
	if s.full.Load() {
		return errFull
	}
	return s.Store.GiveUp(ctx, serial, at, events...)
}

// What a mount issued and couldn't be recorded is looked for without a restart, and an
// order that was left lying that long isn't gone on with.
func TestUnrecordedAnswerIsFound(t *testing.T) {
	t.Parallel()
	r := inUse(t, "stations")
	full := &fullStore{Store: r.db}
	r.cfg.Store = full
	r.restart(t)
	full.full.Store(true)
	if issued, err := r.try(t, order(t, newKey(t))); !errors.Is(err, errFull) {
		t.Fatalf("%v, %v, want %v", issued, err, errFull)
	}
	full.full.Store(false)
	left, err := r.Prepare(t.Context(), order(t, newKey(t)))
	if err != nil {
		t.Fatal(err)
	}
	r.ahead.Add(int64(11 * time.Minute))
	if err := r.SettleMounts(t.Context()); err == nil { // given up now
		t.Error("settled at once")
	}
	r.ahead.Add(int64(2 * time.Minute))
	if err := r.SettleMounts(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := len(r.mount.issued)
	if issued, err := r.Issue(t.Context(), left); err == nil || len(r.mount.issued) != before {
		t.Errorf("%v was asked for after it was given up: %v", issued, err)
	}
	if len(r.mount.revoked) != 1 {
		t.Errorf("%d certificates are revoked", len(r.mount.revoked))
	}
	if list, err := r.db.Unsettled(t.Context(), "csms-issuing-2", 10); err != nil || len(list) != 0 {
		t.Errorf("%d left, %v", len(list), err)
	}
}
