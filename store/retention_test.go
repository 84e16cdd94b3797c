package store_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bollard/approval"
	"bollard/approval/docket"
	"bollard/contract"
	"bollard/detect"
	"bollard/fleet"
	"bollard/internal/rollout"
	"bollard/iso15118/identifier"
	"bollard/ledger"
	"bollard/store"
)

const day = 24 * time.Hour

// aged fills a database with records of one kind each that is two days old, one
// of an hour, and what may not go at any age.
func aged(t *testing.T, s *store.Store) {
	t.Helper()
	ctx := t.Context()
	must(t, s.AddStations(ctx, []fleet.Station{station("CS-1", "S1")}))
	old, young := noon.Add(-2*day), noon.Add(-time.Hour)
	for i, at := range []time.Time{old, young} {
		must(t, s.AddEvent(ctx, fleet.SecurityEvent{Station: "cs-1", Type: "X", ReceivedAt: at}, nil, nil))
		must(t, s.KeepFinding(ctx, detect.Finding{Name: "flapping", Station: "cs-1", Reason: fmt.Sprint(i), First: at, Last: at}, nil))
		header := rollout.Header{Phase: rollout.Finished}
		must(t, s.PutRollout(ctx, rollout.Record{ID: fmt.Sprint("over", i), Kind: "fleet", At: at, Header: header, Detail: json.RawMessage(`{}`)}, []rollout.Member{{ID: "cs-1", At: at}}))
		must(t, s.AddMatter(ctx, docket.Matter{Request: approval.Request{Nonce: fmt.Sprint("expired", i), Expires: at}}))
		must(t, s.AddOrder(ctx, fleet.Order{ID: fmt.Sprint("closed", i), Station: "cs-1", State: fleet.OrderConfirmed, CreatedAt: at, UpdatedAt: at}))
	}
	must(t, s.PutRollout(ctx, rollout.Record{ID: "halted", Kind: "fleet", At: old, Header: rollout.Header{Phase: rollout.Halted}, Detail: json.RawMessage(`{}`)}, nil))
	must(t, s.AddMatter(ctx, docket.Matter{Request: approval.Request{Nonce: "open", Expires: noon.Add(time.Hour)}, AskedAt: old}))
	must(t, s.AddOrder(ctx, fleet.Order{ID: "open", Station: "cs-1", State: fleet.OrderIssued, CreatedAt: old, UpdatedAt: old}))
	must(t, s.AddOrder(ctx, fleet.Order{ID: "newest", Station: "cs-1", State: fleet.OrderRejected, CreatedAt: old, UpdatedAt: old}))
}

// left says what is there of each kind.
func left(t *testing.T, s *store.Store) map[string]string {
	t.Helper()
	ctx := t.Context()
	out := map[string]string{}
	note := func(kind, id string) { out[kind] = strings.TrimSpace(out[kind] + " " + id) }
	events, err := s.SecurityEvents(ctx, "cs-1", 10)
	must(t, err)
	for range events {
		note("security_events", "1")
	}
	findings, err := s.Findings(ctx, "", 10)
	must(t, err)
	for _, f := range findings {
		note("findings", f.Reason)
	}
	rollouts, err := s.Rollouts(ctx, "fleet")
	must(t, err)
	for _, r := range rollouts {
		members, err := s.RolloutMembers(ctx, r.ID)
		must(t, err)
		note("rollouts", fmt.Sprint(r.ID, len(members)))
	}
	if gone, err := s.RolloutMembers(ctx, "over0"); err != nil || len(gone) == 1 != strings.Contains(out["rollouts"], "over0") {
		t.Errorf("members without their rollout: %+v, %v", gone, err)
	}
	matters, err := s.Matters(ctx)
	must(t, err)
	for _, m := range matters {
		note("approvals", m.Nonce)
	}
	orders, err := s.Orders(ctx, "cs-1", 10)
	must(t, err)
	for _, o := range orders {
		note("orders", o.ID)
	}
	return out
}

// Each rule deletes the old records of its kind, but for what is open or still
// needed, and nothing else; what went is in the ledger.
func TestExpire(t *testing.T) {
	t.Parallel()
	all := map[string]string{"security_events": "1 1", "findings": "1 0", "rollouts": "halted0 over11 over01", "approvals": "open expired1 expired0",
		"orders": "newest open closed1 closed0"}
	for kind, tt := range map[string]struct {
		rules store.Retention
		left  string
	}{
		"security_events": {store.Retention{SecurityEvents: day}, "1"},
		"findings":        {store.Retention{Findings: day}, "1"},
		"rollouts":        {store.Retention{Rollouts: day}, "halted0 over11"},
		"approvals":       {store.Retention{Approvals: day}, "open expired1"},
		"orders":          {store.Retention{Orders: day}, "newest open closed1"},
		"none":            {store.Retention{}, ""},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			aged(t, s)
			if diff := cmp.Diff(all, left(t, s)); diff != "" {
				t.Fatal(diff)
			}
			gone, err := s.Expire(t.Context(), tt.rules)
			must(t, err)
			want := map[string]string{}
			for k, v := range all {
				want[k] = v
			}
			events := []string{}
			if kind != "none" {
				want[kind], events = tt.left, []string{"retention.expired"}
			}
			if diff := cmp.Diff(want, left(t, s)); diff != "" || gone[kind] != len(events) {
				t.Errorf("%d went: %s", gone[kind], diff)
			}
			if diff := cmp.Diff(events, kinds(t, s)); diff != "" {
				t.Error(diff)
			}
			if again, err := s.Expire(t.Context(), tt.rules); err != nil || len(again) != 0 {
				t.Errorf("a second time: %v, %v", again, err)
			}
		})
	}
}

// Of the checkpoints kept beside the ledger each origin's newest stays, and the
// ledger's own entries stay at any age.
func TestExpireCheckpoints(t *testing.T) {
	t.Parallel()
	var late atomic.Int64 // the writer looks at the clock, too
	s, err := store.Open(t.Context(), store.Config{Path: t.TempDir() + "/db", Clock: func() time.Time { return noon.Add(time.Duration(late.Load())) }})
	must(t, err)
	t.Cleanup(func() { _ = s.Close() })
	must(t, s.Record(t.Context(), event("station.added"), event("station.removed")))
	for _, origin := range []string{"a.example/one", "a.example/two"} {
		for size := range 2 {
			must(t, s.PutCheckpoint(t.Context(), note(t, origin, fmt.Sprint(size+1))))
		}
	}
	late.Store(int64(2 * day))
	gone, err := s.Expire(t.Context(), store.Retention{Checkpoints: day})
	must(t, err)
	list, err := s.Checkpoints(t.Context())
	must(t, err)
	if len(list) != 2 || list[0].Size != 2 || list[1].Size != 2 || gone["checkpoints"] != 2 {
		t.Errorf("%v went, left %+v", gone, list)
	}
	if diff := cmp.Diff([]string{"station.added", "station.removed", "retention.expired"}, kinds(t, s)); diff != "" {
		t.Error(diff)
	}
}

// Contract data of other providers goes once it has ended, without a rule for it, and not
// before.
func TestEndedContractDataGoes(t *testing.T) {
	t.Parallel()
	s := open(t)
	for id, until := range map[string]time.Time{"ended": noon, "lasting": noon.Add(time.Hour)} {
		must(t, s.PutKept(t.Context(), contract.Kept{ID: id, PCID: "WP0TESTA00000001A3", EMAID: identifier.EMAID("NLEXA12345678" + id[:1]), Until: until, KeptAt: noon.Add(-time.Hour)}))
	}
	gone, err := s.Expire(t.Context(), store.Retention{})
	must(t, err)
	left, err := s.AllKept(t.Context())
	must(t, err)
	if len(left) != 1 || left[0].ID != "lasting" || gone["kept_contracts"] != 1 {
		t.Errorf("%v went, left %+v", gone, left)
	}
	if e := entry(t, s, "retention.expired"); e.Subject != "kept_contracts" {
		t.Errorf("recorded as %+v", e)
	}
}

// More than one transaction's worth goes, each with its entry.
func TestExpireInBatches(t *testing.T) {
	t.Parallel()
	s := open(t)
	must(t, s.AddStations(t.Context(), []fleet.Station{station("CS-1", "S1")}))
	old := noon.Add(-2 * day)
	const n = 502 // one stays, one more than a batch goes
	for i := range n {
		must(t, s.AddOrder(t.Context(), fleet.Order{ID: fmt.Sprint(i), Station: "cs-1", State: fleet.OrderRejected, CreatedAt: old, UpdatedAt: old}))
	}
	gone, err := s.Expire(t.Context(), store.Retention{Orders: day})
	must(t, err)
	if gone["orders"] != n-1 {
		t.Errorf("%v went", gone)
	}
	var entries []ledger.Entry
	for e, err := range s.Entries(t.Context(), 1) {
		must(t, err)
		entries = append(entries, e)
	}
	if len(entries) != 2 || entries[0].Data["rows"] != "500" || entries[1].Data["rows"] != "1" || entries[0].Subject != "orders" {
		t.Errorf("recorded %+v", entries)
	}
}

// Who hasn't stood in the ledger for the age is forgotten as by `ledger forget`;
// who has, or is named by a kept approval, is not: no approval goes with a person,
// least of all one that others used yesterday.
func TestExpirePeople(t *testing.T) {
	t.Parallel()
	var late atomic.Int64
	path := filepath.Join(t.TempDir(), "bollard.db")
	s, err := store.Open(t.Context(), store.Config{Path: path, Clock: func() time.Time { return noon.Add(time.Duration(late.Load())) }})
	must(t, err)
	t.Cleanup(func() { _ = s.Close() })
	by := func(name string) ledger.Event { return ledger.Event{Kind: "station.added", Actor: "operator:" + name} }
	must(t, s.Record(t.Context(), by(person), by("active"), by("author"), by("eligible")))
	must(t, s.AddMatter(t.Context(), docket.Matter{Request: approval.Request{Nonce: "closed", Author: "operator:author", Expires: noon}}))
	must(t, s.AddMatter(t.Context(), docket.Matter{Request: approval.Request{Nonce: "open", Author: "operator:author", Expires: noon.Add(9 * day)}}))
	used := approval.Grant{Request: approval.Request{Nonce: "used"}}
	must(t, s.AddMatter(t.Context(), docket.Matter{Request: approval.Request{Nonce: "used", Author: "operator:active", Expires: noon.Add(9 * day)},
		People: []approval.Approver{{Name: "eligible"}}}))
	old, err := s.Pseudonym(t.Context(), person)
	must(t, err)
	key := keyOfPerson(t, path)
	late.Store(int64(2 * day))
	must(t, s.Record(t.Context(), by("active"), used.Used("operator:active")))
	gone, err := s.Expire(t.Context(), store.Retention{People: day})
	must(t, err)
	if diff := cmp.Diff(map[string]int{"people": 1}, gone); diff != "" {
		t.Error(diff)
	}
	for what, bytes := range map[string][]byte{"key": key, "name": []byte(person)} {
		if files := found(t, path, bytes); len(files) > 0 {
			t.Errorf("the %s is in %v", what, files)
		}
	}
	if _, err := s.Pseudonym(t.Context(), person); !errors.Is(err, ledger.ErrNobody) {
		t.Errorf("who was away: %v", err)
	}
	for _, name := range []string{"active", "author", "eligible"} {
		if _, err := s.Pseudonym(t.Context(), name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if matters, err := s.Matters(t.Context()); err != nil || len(matters) != 3 {
		t.Errorf("approvals of who is needed: %+v, %v", matters, err)
	}
	if e := entry(t, s, "ledger.forgot"); e.Subject != old || e.Actor != "bollard" {
		t.Errorf("recorded as %+v", e)
	}
	if again, err := s.Expire(t.Context(), store.Retention{People: day}); err != nil || len(again) != 0 {
		t.Errorf("a second time: %v, %v", again, err)
	}
	kinds(t, s) // verifies
}

// A key that the write-ahead log still had, because somebody read it when its
// person was forgotten, is gone with the next look.
func TestExpirePeopleOverwritesWhatWasLeft(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "bollard.db")
	s := reopen(t, path)
	must(t, s.Record(t.Context(), ledger.Event{Kind: "station.added", Actor: "operator:" + person}))
	key := keyOfPerson(t, path)
	rawSQL(t, path, "PRAGMA secure_delete = ON; DELETE FROM people")
	if len(found(t, path, key)) == 0 {
		t.Fatal("the key isn't in the files: the test sees nothing")
	}
	if gone, err := s.Expire(t.Context(), store.Retention{People: day}); err != nil || len(gone) != 0 {
		t.Errorf("%v, %v", gone, err)
	}
	if files := found(t, path, key); len(files) > 0 {
		t.Errorf("the key is in %v", files)
	}
}
