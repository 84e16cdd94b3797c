package ledger

import (
	"fmt"
	"strconv"
)

// KindEpoch is the kind of entry that opens an epoch.
const KindEpoch = "ledger.epoch"

// Epoch is a stretch of the ledger without a break. A ledger begins with one;
// a restored backup opens the next, since what the ledger told others meanwhile
// is lost: going on under the old name would be a second history of it.
type Epoch struct {
	Number int    // from 1
	Origin string // of its checkpoints
	Key    string // its verifier key
	After  uint64 // entries before the one that opens it
}

// Event is what opens the epoch.
func (e Epoch) Event(actor string) Event {
	return Event{Kind: KindEpoch, Subject: e.Origin, Actor: actor, Data: map[string]string{"number": strconv.Itoa(e.Number), "key": e.Key}}
}

// Next is the epoch a restored backup of this one opens: the same key under
// another origin.
func (e Epoch) Next(after uint64) (Epoch, error) {
	base := e.Origin
	if e.Number > 1 {
		base = base[:len(base)-len(suffix(e.Number))]
	}
	next := Epoch{Number: e.Number + 1, Origin: base + suffix(e.Number+1), After: after}
	public, err := publicKey(e.Key)
	if err != nil {
		return next, err
	}
	next.Key, err = VerifierKey(next.Origin, public)
	return next, err
}

func suffix(number int) string { return fmt.Sprintf("/epoch-%d", number) }

// EpochOf reads the epoch an entry opens; false for other entries.
func EpochOf(e Entry) (Epoch, bool) {
	number, err := strconv.Atoi(e.Data["number"])
	return Epoch{Number: number, Origin: e.Subject, Key: e.Data["key"], After: e.Seq - 1}, e.Kind == KindEpoch && err == nil
}
