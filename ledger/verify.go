package ledger

import (
	"fmt"
	"iter"
	"time"
)

// Summary is what a verified chain covers. Seq and Hash of its last entry are
// the checkpoint to keep elsewhere.
type Summary struct {
	Count     uint64
	FirstSeq  uint64 // 0 for an empty chain
	FirstTime time.Time
	LastSeq   uint64
	LastTime  time.Time
	LastHash  [32]byte
}

// Problem is how an entry breaks the chain.
type Problem string

// Altered: the entry's hash isn't that of its content. Gap: one or more entries
// before it are missing. Reordered: it stands after a later one, or twice.
// Unlinked: it is sound in itself but doesn't continue the entry before it.
const (
	Altered   Problem = "altered"
	Gap       Problem = "gap"
	Reordered Problem = "reordered"
	Unlinked  Problem = "unlinked"
)

// BrokenError names the first bad entry of a chain.
type BrokenError struct {
	Seq     uint64 // as the entry says
	Want    uint64 // the sequence number that belongs at this place
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
		return fmt.Sprintf("ledger entry %d doesn't continue entry %d: an entry was replaced", e.Seq, e.Want-1)
	}
}

// Verify reads a whole chain from entry 1 and stops at the first bad entry with
// a *BrokenError, or at the first error of the sequence. The summary covers
// what was sound before it. A cut tail isn't seen: compare the summary with a
// checkpoint kept elsewhere.
func Verify(entries iter.Seq2[Entry, error]) (Summary, error) {
	return VerifyAfter(Entry{}, entries)
}

// VerifyAfter is Verify for the part of a chain that follows prev, of which
// only Seq and Hash are used: a checkpoint.
func VerifyAfter(prev Entry, entries iter.Seq2[Entry, error]) (Summary, error) {
	var sum Summary
	for e, err := range entries {
		if err != nil {
			return sum, fmt.Errorf("couldn't read the ledger after entry %d: %w", prev.Seq, err)
		}
		want := prev.Seq + 1
		broken := func(p Problem) error { return &BrokenError{Seq: e.Seq, Want: want, Problem: p} }
		switch {
		// The content is judged first: an altered sequence number is an
		// alteration, not a gap.
		case e.Digest() != e.Hash:
			return sum, broken(Altered)
		case e.Seq > want:
			return sum, broken(Gap)
		case e.Seq < want:
			return sum, broken(Reordered)
		case e.Prev != prev.Hash:
			return sum, broken(Unlinked)
		}
		if sum.Count == 0 {
			sum.FirstSeq, sum.FirstTime = e.Seq, e.Time
		}
		sum.Count++
		sum.LastSeq, sum.LastTime, sum.LastHash = e.Seq, e.Time, e.Hash
		prev = e
	}
	return sum, nil
}
