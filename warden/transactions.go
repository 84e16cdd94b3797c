package warden

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"bollard/fleet"
	"bollard/ocpp"
	"bollard/policy"
)

const (
	startTransaction = "StartTransaction"
	stopTransaction  = "StopTransaction"
	transactionEvent = "TransactionEvent"
)

// Whose a transaction is follows from who began it. In 1.6 the back end gives ids
// and counts them up: a station can guess another's (CVE-2026-28230). In 2.x a
// station makes its own (E01), unique to itself alone: that two have the same is
// legal, and both own it. An id short enough to be the same by chance is nobody
// else's there; a longer one (UUIDs are recommended) that the station never
// began, and another did, was learnt from that other.
const ownID = 16

// maxTransactions bounds each half of what is remembered; the older half goes first.
const maxTransactions = 100_000

// maxOwned bounds the running transactions of one station, whose own oldest goes
// first: a station that begins one after the other must not have those of all others
// forgotten, which it could stop then. None has so many connectors.
const maxOwned = 256

// maxOwners bounds who is remembered of one id.
const maxOwners = 8

// ownedFor is how long a transaction that is never ended is kept on disk.
const ownedFor = 30 * 24 * time.Hour

// TransactionStore keeps whose the running transactions are over restarts.
type TransactionStore interface {
	// Transactions returns all, those that began first first.
	Transactions(ctx context.Context) ([]Owned, error)
	// PutTransactions stores the ones that began and deletes those that ended,
	// whose Since is zero, in one write; then whatever began before a time, and all
	// but the newest most.
	PutTransactions(ctx context.Context, changed []Owned, before time.Time, most int) error
}

// Owned is a running transaction and whose it is.
type Owned struct {
	Transaction Transaction
	Station     string
	Since       time.Time
}

// Transaction stands for the id of one within a back end. It is a digest, so that
// no text of a peer is kept; a number, as 1.6 has, can be found from it by trying.
type Transaction [16]byte

func transactionOf(backend, id string) Transaction {
	sum := sha256.Sum256([]byte(backend + "\x00" + id))
	return Transaction(sum[:16])
}

// transactions remembers whose the running ones are.
type transactions struct {
	young, old map[Transaction][]string
	of         map[string][]Transaction // by station, those that began first first; some may be forgotten above
	changed    map[ownership]time.Time  // since the last write: since when; zero: it ended
}

type ownership struct {
	tx      Transaction
	station string
}

func (t *transactions) owners(tx Transaction) []string {
	if owners, known := t.young[tx]; known {
		return owners
	}
	return t.old[tx]
}

func (t *transactions) add(tx Transaction, station string) {
	owners := t.owners(tx)
	if slices.Contains(owners, station) {
		return
	}
	if len(owners) >= maxOwners {
		owners = owners[1:]
	}
	if t.young == nil || len(t.young) >= maxTransactions {
		t.young, t.old = map[Transaction][]string{}, t.young
	}
	t.young[tx] = append(slices.Clone(owners), station)
	if t.of == nil {
		t.of = map[string][]Transaction{}
	}
	t.of[station] = append(t.of[station], tx)
	if len(t.of[station]) > maxOwned {
		oldest := t.of[station][0]
		t.remove(oldest, station)
		t.note(oldest, station, time.Time{})
	}
}

func (t *transactions) remove(tx Transaction, station string) {
	if t.of[station] = slices.DeleteFunc(t.of[station], func(own Transaction) bool { return own == tx }); len(t.of[station]) == 0 {
		delete(t.of, station)
	}
	owners := slices.DeleteFunc(slices.Clone(t.owners(tx)), func(s string) bool { return s == station })
	delete(t.old, tx)
	if delete(t.young, tx); len(owners) > 0 {
		t.young[tx] = owners
	}
}

// note has a change written with the next batch. On a disk that takes none for
// long, what doesn't fit is forgotten with the process.
func (t *transactions) note(tx Transaction, station string, since time.Time) {
	if t.changed == nil {
		t.changed = map[ownership]time.Time{}
	}
	key := ownership{tx, station}
	if _, pending := t.changed[key]; pending || len(t.changed) < maxTransactions {
		t.changed[key] = since
	}
}

// begin and end are called with mu held.
func (w *Warden) begin(tx Transaction, station string) {
	if !slices.Contains(w.transactions.owners(tx), station) {
		w.transactions.add(tx, station)
		w.transactions.note(tx, station, w.cfg.Clock())
	}
}

func (w *Warden) end(tx Transaction, station string) {
	if slices.Contains(w.transactions.owners(tx), station) {
		w.transactions.remove(tx, station)
		w.transactions.note(tx, station, time.Time{})
	}
}

// loadTransactions takes over what an earlier process knew.
func (w *Warden) loadTransactions(ctx context.Context) error {
	if w.cfg.Transactions == nil {
		return nil
	}
	list, err := w.cfg.Transactions.Transactions(ctx)
	if err != nil {
		return fmt.Errorf("couldn't read whose the running transactions are: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, o := range list {
		w.transactions.add(o.Transaction, o.Station)
	}
	return nil
}

// keepTransactions writes what changed since the last time: all of a second in one
// write. A crash loses no more than that second, of which nobody owns anything then.
func (w *Warden) keepTransactions(ctx context.Context) {
	w.mu.Lock()
	changed := w.transactions.changed
	w.transactions.changed = nil
	w.mu.Unlock()
	if len(changed) == 0 || w.cfg.Transactions == nil {
		return
	}
	list := make([]Owned, 0, len(changed))
	for o, since := range changed {
		list = append(list, Owned{o.tx, o.station, since})
	}
	err := w.cfg.Transactions.PutTransactions(ctx, list, w.cfg.Clock().Add(-ownedFor), 2*maxTransactions)
	if err == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	newer := w.transactions.changed
	w.transactions.changed = changed
	for o, since := range newer {
		w.transactions.note(o.tx, o.station, since)
	}
	if ctx.Err() == nil {
		w.cfg.Log.Warn("couldn't record whose transactions are; it is tried again", "transactions", len(list), "err", err)
	}
}

// owner says whose a transaction is, as far as its beginning was seen.
func (w *Warden) owner(s fleet.Session, id string) policy.Owner {
	w.mu.Lock()
	owners := w.transactions.owners(transactionOf(s.Backend(), id))
	w.mu.Unlock()
	switch {
	case slices.Contains(owners, keyOf(s)):
		return policy.OwnerThis
	case len(owners) == 0 || s.Version() != ocpp.V16 && len(id) < ownID:
		return policy.OwnerUnknown
	}
	return policy.OwnerOther
}

// transactionAnswered takes note of a transaction of 1.6 that began or ended.
func (w *Warden) transactionAnswered(s fleet.Session, call fleet.Message, answer ocpp.Head) {
	if answer.Type != ocpp.CallResult {
		return
	}
	var body struct {
		TransactionID json.Number `json:"transactionId"`
	}
	payload := answer.Payload
	if call.Action == stopTransaction {
		payload = call.Payload
	}
	if ocpp.DecodeStrict(payload, &body) != nil {
		return
	}
	n, err := body.TransactionID.Int64()
	if err != nil {
		return
	}
	tx := transactionOf(s.Backend(), strconv.FormatInt(n, 10))
	w.mu.Lock()
	defer w.mu.Unlock()
	if call.Action == stopTransaction {
		for _, station := range w.transactions.owners(tx) { // it is over, whoever stopped it
			w.end(tx, station)
		}
		return
	}
	w.begin(tx, keyOf(s))
}

// transactionTold takes note of a transaction of 2.x that goes to the back end.
// One whose beginning wasn't seen is who names it first's.
func (w *Warden) transactionTold(s fleet.Session, m fleet.Message) {
	var body struct {
		EventType       string `json:"eventType"`
		TransactionInfo struct {
			TransactionID string `json:"transactionId"`
		} `json:"transactionInfo"`
	}
	if ocpp.DecodeStrict(m.Payload, &body) != nil || body.TransactionInfo.TransactionID == "" {
		return
	}
	tx := transactionOf(s.Backend(), body.TransactionInfo.TransactionID)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case body.EventType == "Ended":
		w.end(tx, keyOf(s))
	case body.EventType == "Started" || len(w.transactions.owners(tx)) == 0:
		w.begin(tx, keyOf(s))
	}
}
