package ledger

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
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
// another origin. A backup may be restored twice: tag, random letters and digits, keeps
// the two apart. seen are checkpoints that are to be lost with it: its number is above
// those of their epochs.
func (e Epoch) Next(after uint64, tag string, seen ...Note) (Epoch, error) {
	next := Epoch{Number: e.Number + 1, After: after}
	for _, n := range seen {
		if number, ok := e.related(n.Origin); ok {
			next.Number = max(next.Number, number+1)
		}
	}
	next.Origin = e.base() + suffix(next.Number) + "-" + tag
	public, err := publicKey(e.Key)
	if err != nil {
		return next, err
	}
	next.Key, err = VerifierKey(next.Origin, public)
	return next, err
}

func suffix(number int) string { return fmt.Sprintf("/epoch-%d", number) }

// base is the origin that the ledger began with.
func (e Epoch) base() string {
	if i := strings.LastIndex(e.Origin, suffix(e.Number)); e.Number > 1 && i >= 0 {
		return e.Origin[:i]
	}
	return e.Origin
}

// related is the number of another epoch of the same ledger, one of a restored backup.
func (e Epoch) related(origin string) (number int, ok bool) {
	rest, ok := strings.CutPrefix(origin, e.base()+"/epoch-")
	digits, _, _ := strings.Cut(rest, "-") // versions before had no tag
	number, err := strconv.Atoi(digits)
	return number, ok && err == nil && number > 1
}

// parted is after how many entries a ledger was restored that gave up the one of a
// checkpoint, which went on from another restore of a backup, signed by the same key; more
// than the checkpoint has, where that restore was of an older backup. Epochs that come later
// than all there are may be this ledger's own: it was set back.
func (n Note) parted(epochs []Epoch) (after uint64, ok bool) {
	if len(epochs) == 0 {
		return 0, false
	}
	number, ok := epochs[len(epochs)-1].related(n.Origin)
	at := slices.IndexFunc(epochs, func(e Epoch) bool { return e.Number >= number })
	if !ok || at < 1 {
		return 0, false
	}
	return epochs[at].After, n.of(epochs[at].Key)
}

// of says whether the key of an epoch signed the checkpoint, under the checkpoint's origin.
func (n Note) of(epochKey string) bool {
	public, err := publicKey(epochKey)
	if err != nil {
		return false
	}
	vkey, err := VerifierKey(n.Origin, public)
	if err != nil {
		return false
	}
	key, err := NewVerifier(vkey)
	return err == nil && n.SignedBy(key)
}

// Later says whether a checkpoint is of what another restored backup of this ledger became
// afterwards: of an epoch that isn't among these.
func (n Note) Later(epochs []Epoch) bool {
	if len(epochs) == 0 || slices.ContainsFunc(epochs, func(e Epoch) bool { return e.Origin == n.Origin }) {
		return false
	}
	last := epochs[len(epochs)-1]
	_, ok := last.related(n.Origin)
	return ok && n.of(last.Key)
}

// EpochOf reads the epoch an entry opens; false for other entries.
func EpochOf(e Entry) (Epoch, bool) {
	number, err := strconv.Atoi(e.Data["number"])
	return Epoch{Number: number, Origin: e.Subject, Key: e.Data["key"], After: e.Seq - 1}, e.Kind == KindEpoch && err == nil
}
