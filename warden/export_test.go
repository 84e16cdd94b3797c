package warden

import (
	"encoding/binary"
	"strconv"
	"time"
)

// Begin has a station's transactions from .. from+n-1 begin.
func Begin(w *Warden, backend, station string, from, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range n {
		w.begin(transactionOf(backend, strconv.Itoa(from+i)), station)
	}
}

// MaxTransactions is how many are remembered in each half.
const MaxTransactions = maxTransactions

// PendingAtTheCap has as many transactions begin as may wait for the disk, and one
// more; then the first and that one end. It returns since when they are to be
// written: zero is ended.
func PendingAtTheCap(began time.Time) (first time.Time, firstWaits, oneMoreWaits bool) {
	var t transactions
	tx := func(i int) (id Transaction) {
		binary.BigEndian.PutUint64(id[:], uint64(i)) //nolint:gosec // it counts up
		return id
	}
	for i := range maxTransactions + 1 {
		t.note(tx(i), "a", began)
	}
	t.note(tx(0), "a", time.Time{})
	t.note(tx(maxTransactions), "a", time.Time{})
	first, firstWaits = t.changed[ownership{tx(0), "a"}]
	_, oneMoreWaits = t.changed[ownership{tx(maxTransactions), "a"}]
	return first, firstWaits, oneMoreWaits
}
