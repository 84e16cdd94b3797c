package warden

import (
	"encoding/json"
	"strconv"

	"bollard/fleet"
	"bollard/ocpp"
	"bollard/policy"
)

// The transactions of 1.6 have ids that the back end counts up: a station can
// guess another's (CVE-2026-28230). In 2.x a station makes its own.
const (
	startTransaction = "StartTransaction"
	stopTransaction  = "StopTransaction"
)

// maxTransactions bounds each half of what is remembered; the older half goes first.
const maxTransactions = 100_000

// transactions remembers whose the running ones are.
type transactions struct{ young, old map[transaction]string }

type transaction struct{ backend, id string }

func (t *transactions) add(tx transaction, station string) {
	if t.young == nil || len(t.young) >= maxTransactions {
		t.young, t.old = map[transaction]string{}, t.young
	}
	t.young[tx] = station
}

func (t *transactions) owner(tx transaction) (station string, known bool) {
	if station, known = t.young[tx]; known {
		return station, true
	}
	station, known = t.old[tx]
	return station, known
}

func (t *transactions) remove(tx transaction) {
	delete(t.young, tx)
	delete(t.old, tx)
}

// owner says whose a transaction is, as far as its start was seen.
func (w *Warden) owner(s fleet.Session, id string) policy.Owner {
	w.mu.Lock()
	station, known := w.transactions.owner(transaction{s.Backend(), id})
	w.mu.Unlock()
	switch {
	case !known:
		return policy.OwnerUnknown
	case station == keyOf(s):
		return policy.OwnerThis
	}
	return policy.OwnerOther
}

// transactionAnswered takes note of a transaction that began or ended.
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
		w.transactions.remove(tx)
		return
	}
	w.transactions.add(tx, keyOf(s))
}
