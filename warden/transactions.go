package warden

import (
	"encoding/json"
	"slices"
	"strconv"

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

// maxOwners bounds who is remembered of one id.
const maxOwners = 8

// transactions remembers whose the running ones are.
type transactions struct{ young, old map[transaction][]string }

type transaction struct{ backend, id string }

func (t *transactions) owners(tx transaction) []string {
	if owners, known := t.young[tx]; known {
		return owners
	}
	return t.old[tx]
}

func (t *transactions) add(tx transaction, station string) {
	owners := t.owners(tx)
	if slices.Contains(owners, station) {
		return
	}
	if len(owners) >= maxOwners {
		owners = owners[1:]
	}
	if t.young == nil || len(t.young) >= maxTransactions {
		t.young, t.old = map[transaction][]string{}, t.young
	}
	t.young[tx] = append(slices.Clone(owners), station)
}

func (t *transactions) remove(tx transaction, station string) {
	owners := slices.DeleteFunc(slices.Clone(t.owners(tx)), func(s string) bool { return s == station })
	delete(t.old, tx)
	if delete(t.young, tx); len(owners) > 0 {
		t.young[tx] = owners
	}
}

// owner says whose a transaction is, as far as its beginning was seen.
func (w *Warden) owner(s fleet.Session, id string) policy.Owner {
	w.mu.Lock()
	owners := w.transactions.owners(transaction{s.Backend(), id})
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
	tx := transaction{s.Backend(), strconv.FormatInt(n, 10)}
	w.mu.Lock()
	defer w.mu.Unlock()
	if call.Action == stopTransaction {
		for _, station := range w.transactions.owners(tx) { // it is over, whoever stopped it
			w.transactions.remove(tx, station)
		}
		return
	}
	w.transactions.add(tx, keyOf(s))
}

// transactionTold takes note of a transaction of 2.x that goes to the back end.
// One whose beginning wasn't seen, as after a restart of ours, is who names it first's.
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
	tx := transaction{s.Backend(), body.TransactionInfo.TransactionID}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case body.EventType == "Ended":
		w.transactions.remove(tx, keyOf(s))
	case body.EventType == "Started" || len(w.transactions.owners(tx)) == 0:
		w.transactions.add(tx, keyOf(s))
	}
}
