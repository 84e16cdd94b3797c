package ledger

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// Summary is what was verified.
type Summary struct {
	Count     uint64
	FirstTime time.Time
	LastTime  time.Time
	Root      tlog.Hash // of the tree of all entries
	Epochs    []Epoch   // in order; the last one is in force
}

// Problem is how an entry, or a checkpoint, doesn't fit.
type Problem string

// Of entries. Altered: the entry's hash isn't that of its content. Gap: one or
// more entries before it are missing. Reordered: it stands after a later one,
// or twice. Replaced: it is sound in itself, but a hash of the tree that is
// kept with it shows that it, or one right before it, isn't the one recorded.
const (
	Altered   Problem = "altered"
	Gap       Problem = "gap"
	Reordered Problem = "reordered"
	Replaced  Problem = "replaced"
)

// BrokenError names the first bad entry of a ledger.
type BrokenError struct {
	Seq     uint64 // as the entry says
	Want    uint64 // the sequence number that belongs at this place
	From    uint64 // Replaced: one of the entries From to Seq was
	Problem Problem
}

// Error says what is wrong with the entry in the operator's words.
func (e *BrokenError) Error() string {
	switch e.Problem {
	case Altered:
		return fmt.Sprintf("ledger entry %d was altered: its hash isn't that of its content", e.Seq)
	case Gap:
		return fmt.Sprintf("ledger entry %d stands where entry %d belongs: entries are missing", e.Seq, e.Want)
	case Reordered:
		return fmt.Sprintf("ledger entry %d stands where entry %d belongs: entries were reordered or repeated", e.Seq, e.Want)
	default:
		return fmt.Sprintf("the tree's hashes kept with ledger entry %d don't fit: one of the entries %d to %d was replaced", e.Seq, e.From, e.Seq)
	}
}

// Verify reads a whole ledger from entry 1 and stops at the first bad entry
// with a *BrokenError, at the first checkpoint it doesn't continue with a
// *CheckpointError, or at the first error of the sequence. The summary covers
// what was sound before it. A cut tail is seen only against a checkpoint.
func Verify(entries iter.Seq2[Entry, error], kept ...Note) (Summary, error) {
	kept = slices.SortedStableFunc(slices.Values(kept), func(a, b Note) int { return cmp.Compare(a.Size, b.Size) })
	var (
		sum  Summary
		tree Tree
		held uint64 // size of the newest checkpoint that fits
		// strange are those of an origin that the ledger hadn't up to their size: a
		// restore that comes later may be why.
		strange []Note
	)
	for e, err := range entries {
		if err != nil {
			return sum, fmt.Errorf("couldn't read the ledger after entry %d: %w", tree.Size(), err)
		}
		if err := tree.follow(e); err != nil {
			return sum, err
		}
		if epoch, opened := EpochOf(e); opened {
			sum.Epochs = append(sum.Epochs, epoch)
		}
		if sum.Count == 0 {
			sum.FirstTime = e.Time
		}
		sum.Count, sum.LastTime = tree.Size(), e.Time
		for len(kept) > 0 && kept[0].Size == tree.Size() {
			if !slices.ContainsFunc(sum.Epochs, func(e Epoch) bool { return e.Origin == kept[0].Origin }) {
				strange, kept = append(strange, kept[0]), kept[1:]
				continue
			}
			if err := kept[0].fits(tree.Root(), held, sum.Epochs); err != nil {
				return sum, err
			}
			kept, held = kept[1:], tree.Size()
		}
	}
	sum.Root = tree.Root()
	if len(strange) > 0 {
		return sum, strange[0].foreign(sum.Epochs)
	}
	if len(kept) > 0 {
		return sum, kept[0].beyond(sum.Count, sum.Epochs)
	}
	return sum, nil
}

// follow judges an entry by its content, its place and the tree's hashes that
// are kept with it.
func (t *Tree) follow(e Entry) error {
	want := t.Size() + 1
	broken := func(p Problem) error { return &BrokenError{Seq: e.Seq, Want: want, Problem: p} }
	leaf := e.LeafHash()
	switch {
	// The content is judged first: an altered sequence number is an
	// alteration, not a gap.
	case len(e.Hashes) == 0 || e.Hashes[0] != leaf:
		return broken(Altered)
	case e.Seq != want:
		return broken(misplaced(e.Seq, want))
	}
	gained := t.add(leaf)
	if len(gained) != len(e.Hashes) {
		return broken(Altered)
	}
	for level, hash := range gained {
		if hash != e.Hashes[level] {
			return &BrokenError{Seq: e.Seq, Want: want, From: e.Seq + 1 - 1<<level, Problem: Replaced}
		}
	}
	return nil
}

// Of checkpoints. Cut: the ledger ends before it. Rewritten: the entries up to
// it aren't the ones it was made of. Lost: it was made after the state a backup
// holds that was restored later. Foreign: another ledger's. Forged: the
// ledger's key didn't sign it.
const (
	Cut       Problem = "cut"
	Rewritten Problem = "rewritten"
	Lost      Problem = "lost"
	Foreign   Problem = "foreign"
	Forged    Problem = "forged"
)

// CheckpointError names a checkpoint that a ledger, sound in itself, doesn't
// fit.
type CheckpointError struct {
	Checkpoint
	Problem Problem
	// Cut: the ledger's size. Rewritten: the newest checkpoint that fits, or 0.
	// Lost: the size of the state that was restored, at least Size where the checkpoint
	// is of another restore, of an older backup.
	At uint64
}

// Error says what is wrong in the operator's words.
func (e *CheckpointError) Error() string {
	switch e.Problem {
	case Cut:
		return fmt.Sprintf("the ledger ends at entry %d, before the checkpoint of %d: its tail was cut off", e.At, e.Size)
	case Rewritten:
		return fmt.Sprintf("the ledger was written anew: of the entries %d to %d one isn't what the checkpoint of %d was made of", e.At+1, e.Size, e.Size)
	case Lost:
		if e.At >= e.Size {
			return fmt.Sprintf("the last of the %d entries of the checkpoint, those of %s, were lost when another backup was restored, as entry %d records", e.Size, e.Origin, e.At+1)
		}
		return fmt.Sprintf("the entries %d to %d of the checkpoint were lost when a backup was restored, as entry %d records", e.At+1, e.Size, e.At+1)
	case Foreign:
		return fmt.Sprintf("the checkpoint is of another ledger, %s", e.Origin)
	default:
		return fmt.Sprintf("the checkpoint of %d entries isn't signed by the ledger's key", e.Size)
	}
}

// Judge judges a checkpoint by a ledger whose hashes are taken as they are kept:
// that it continues it is shown, not that each entry is what it was.
func (n Note) Judge(size uint64, r tlog.HashReader, epochs []Epoch) error {
	if n.Size > size {
		return n.beyond(size, epochs)
	}
	tree, err := LoadTree(n.Size, r)
	if err != nil {
		return err
	}
	return n.fits(tree.Root(), 0, epochs)
}

// fits judges a checkpoint by the tree at its size.
func (n Note) fits(root tlog.Hash, held uint64, epochs []Epoch) error {
	at := slices.IndexFunc(epochs, func(e Epoch) bool { return e.Origin == n.Origin })
	switch {
	case at >= 0 && at+1 < len(epochs) && epochs[at+1].After < n.Size:
		return &CheckpointError{n.Checkpoint, Lost, epochs[at+1].After}
	case at < 0:
		return n.foreign(epochs)
	case root != n.Root:
		return &CheckpointError{n.Checkpoint, Rewritten, held}
	}
	key, err := NewVerifier(epochs[at].Key)
	if err != nil || !n.SignedBy(key) {
		return &CheckpointError{n.Checkpoint, Forged, 0}
	}
	return nil
}

// beyond judges a checkpoint of more entries than there are.
func (n Note) beyond(size uint64, epochs []Epoch) error {
	at := slices.IndexFunc(epochs, func(e Epoch) bool { return e.Origin == n.Origin })
	switch {
	case at < 0 && size > 0:
		return n.foreign(epochs)
	case at >= 0 && at+1 < len(epochs):
		return &CheckpointError{n.Checkpoint, Lost, epochs[at+1].After}
	}
	return &CheckpointError{n.Checkpoint, Cut, size}
}

// foreign judges a checkpoint of an origin that the ledger never had.
func (n Note) foreign(epochs []Epoch) error {
	if after, ok := n.parted(epochs); ok {
		return &CheckpointError{n.Checkpoint, Lost, after}
	}
	return &CheckpointError{n.Checkpoint, Foreign, 0}
}
