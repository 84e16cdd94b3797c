package warden_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"bollard/fleet"
	"bollard/ocpp"
	"bollard/store"
	"bollard/warden"
)

const ownershipRules = `
rules:
  - {name: event, reason: x, mode: enforce, direction: from-station, action: TransactionEvent, when: 'payload.eventType != "Started" && transaction.owner == "other"', then: refuse, error: SecurityError}
  - {name: stop, reason: x, mode: enforce, direction: from-station, action: StopTransaction, when: transaction.owner == "other", then: refuse, error: SecurityError}
`

// Whose a running transaction is is known after a restart, from a second after it
// began until it ends, or a month later; its id isn't kept.
func TestTransactionsOutliveARestart(t *testing.T) {
	t.Parallel()
	const id = "0b5f4a3e-1c2d-4e5f-canary"
	path := filepath.Join(t.TempDir(), "bollard.db")
	now := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	db, err := store.Open(t.Context(), store.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var r *rig
	restart := func() {
		t.Helper()
		r = newRigWith(t, ownershipRules, func(cfg *warden.Config) {
			cfg.Transactions, cfg.Clock = db, func() time.Time { return now }
		})
	}
	event := func(station, kind, id string) fleet.Act {
		return r.send(r.open(station, ocpp.V201), ocpp.FromStation, "TransactionEvent",
			fmt.Sprintf(`{"eventType":%q,"transactionInfo":{"transactionId":%q}}`, kind, id)).Act
	}
	stop := func(station, id string) fleet.Act {
		return r.send(r.open(station, ocpp.V16), ocpp.FromStation, "StopTransaction", `{"transactionId":`+id+`}`).Act
	}
	answered := func(station, action, call, answer string) {
		r.Answered(t.Context(), r.open(station, ocpp.V16), message(ocpp.FromStation, action, call), ocpp.Head{Type: ocpp.CallResult, Payload: []byte(answer)})
	}
	check := func(what string, got, want fleet.Act) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}

	restart()
	event("a", "Started", id)
	answered("a", "StartTransaction", `{"connectorId":1}`, `{"transactionId":7}`)
	event("a", "Started", id+"2") // and over, within one batch
	event("a", "Ended", id+"2")
	r.Flush(t.Context(), false)
	restart()
	check("another's of 2.x", event("b", "Updated", id), fleet.Refuse)
	check("its own of 2.x", event("a", "Updated", id), fleet.Pass)
	check("one that is over", event("b", "Updated", id+"2"), fleet.Pass)
	check("another's of 1.6", stop("b", "7"), fleet.Refuse)
	check("its own of 1.6", stop("a", "7"), fleet.Pass)
	answered("a", "StopTransaction", `{"transactionId":7}`, `{}`)
	event("a", "Ended", id)
	r.Flush(t.Context(), false)
	restart()
	check("2.x after its end", event("b", "Updated", id), fleet.Pass)
	check("1.6 after its end", stop("b", "7"), fleet.Pass)

	event("a", "Started", id+"3")
	r.Flush(t.Context(), false)
	now = now.Add(31 * 24 * time.Hour)
	event("a", "Started", id+"4")
	r.Flush(t.Context(), false)
	restart()
	check("one of last month", event("b", "Updated", id+"3"), fleet.Pass)
	check("a new one", event("b", "Updated", id+"4"), fleet.Refuse)

	for _, file := range []string{path, path + "-wal"} {
		if data, err := os.ReadFile(file); err != nil || bytes.Contains(data, []byte("canary")) {
			t.Errorf("%s holds an id, or can't be read: %v", file, err)
		}
	}
}

// A station that begins transactions without end has its own forgotten, nobody else's,
// here and on disk.
func TestTransactionsOfAFlood(t *testing.T) {
	t.Parallel()
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "bollard.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	r := newRigWith(t, ownershipRules, func(cfg *warden.Config) { cfg.Transactions = db })
	victim, hostile := r.open("a", ocpp.V16), r.open("b", ocpp.V16)
	stop := func(s *session, id int) fleet.Act {
		return r.send(s, ocpp.FromStation, "StopTransaction", fmt.Sprintf(`{"transactionId":%d}`, id)).Act
	}
	warden.Begin(r.Warden, victim.Backend(), "a", 7, 1)
	const flood = 300
	warden.Begin(r.Warden, victim.Backend(), "b", 1000, flood)
	r.Flush(t.Context(), false)
	list, err := db.Transactions(t.Context())
	if err != nil || len(list) != 256+1 || !slices.ContainsFunc(list, func(o warden.Owned) bool { return o.Station == "a" }) {
		t.Errorf("%d on disk, %v", len(list), err)
	}
	const more = 2 * warden.MaxTransactions // than are remembered of all
	warden.Begin(r.Warden, victim.Backend(), "b", 1000+flood, more)
	if got := stop(hostile, 7); got != fleet.Refuse {
		t.Errorf("another's transaction after a flood: %v", got)
	}
	if got := stop(victim, 1000); got != fleet.Pass {
		t.Errorf("the first of the flood is remembered: %v", got)
	}
	if got := stop(victim, 1000+flood+more-1); got != fleet.Refuse {
		t.Errorf("the last of the flood is forgotten: %v", got)
	}
}

// failing is a disk that takes nothing for a while.
type failing struct {
	warden.TransactionStore
	fails bool
}

func (f *failing) PutTransactions(ctx context.Context, changed []warden.Owned, before time.Time, most int) error {
	if f.fails {
		return store.ErrFull
	}
	return f.TransactionStore.PutTransactions(ctx, changed, before, most)
}

// What the disk doesn't take is written with the next batch.
func TestTransactionsOnAFailingDisk(t *testing.T) {
	t.Parallel()
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "bollard.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	disk := &failing{TransactionStore: db, fails: true}
	r := newRigWith(t, ownershipRules, func(cfg *warden.Config) { cfg.Transactions = disk })
	event := func(kind, id string) {
		r.send(r.open("a", ocpp.V201), ocpp.FromStation, "TransactionEvent", fmt.Sprintf(`{"eventType":%q,"transactionInfo":{"transactionId":%q}}`, kind, id))
	}
	event("Started", "one")
	event("Started", "two")
	r.Flush(t.Context(), false)
	event("Ended", "one")
	disk.fails = false
	r.Flush(t.Context(), false)
	list, err := db.Transactions(t.Context())
	if err != nil || len(list) != 1 || list[0].Station != "a" {
		t.Errorf("kept: %v, %v", list, err)
	}
}

// However much waits for the disk, the end of what waits already isn't lost.
func TestTransactionsAtTheCap(t *testing.T) {
	t.Parallel()
	if since, waits, oneMore := warden.PendingAtTheCap(time.Unix(1780315200, 0)); !waits || !since.IsZero() || oneMore {
		t.Errorf("the first waits: %v, since %v; one more: %v", waits, since, oneMore)
	}
}
