package ledger

import (
	"fmt"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// Span shows that a run of entries, from First on, is in the tree of a
// checkpoint as it stands there: none is missing in the middle.
type Span struct {
	First  uint64
	Hashes []tlog.Hash // of the complete subtrees beside the run, from the left
	Note   Note
}

// ProveSpan reads what shows that count entries from first on are in the tree
// of a checkpoint. It needs two hashes a level of the tree at most.
func ProveSpan(first, count uint64, n Note, r tlog.HashReader) (Span, error) {
	if first == 0 || count == 0 || count > n.Size || first > n.Size-count+1 {
		return Span{}, fmt.Errorf("the ledger of %d entries has no %d entries from %d on", n.Size, count, first)
	}
	var places []int64
	walk(0, n.Size, first-1, first-1+count, &visit{
		beside: func(level int, index int64) tlog.Hash {
			places = append(places, tlog.StoredHashIndex(level, index))
			return tlog.Hash{}
		},
		leaf: func(uint64) tlog.Hash { return tlog.Hash{} },
	})
	s := Span{First: first, Note: n}
	if len(places) == 0 {
		return s, nil
	}
	var err error
	if s.Hashes, err = r.ReadHashes(places); err != nil {
		return Span{}, fmt.Errorf("couldn't prove the entries %d to %d of a ledger of %d: %w", first, first+count-1, n.Size, err)
	}
	return s, nil
}

// Check says whether the entries are the run.
func (s Span) Check(entries []Entry) error {
	count := uint64(len(entries))
	if s.First == 0 || count == 0 || count > s.Note.Size || s.First > s.Note.Size-count+1 {
		return fmt.Errorf("a checkpoint of %d entries can't have %d entries from %d on", s.Note.Size, count, s.First)
	}
	for i, e := range entries {
		if want := s.First + uint64(i); e.Seq != want {
			return &BrokenError{Seq: e.Seq, Want: want, Problem: misplaced(e.Seq, want)}
		}
	}
	rest := s.Hashes
	root := walk(0, s.Note.Size, s.First-1, s.First-1+count, &visit{
		beside: func(int, int64) tlog.Hash {
			if len(rest) == 0 {
				return tlog.Hash{} // the root won't be right
			}
			h := rest[0]
			rest = rest[1:]
			return h
		},
		leaf: func(n uint64) tlog.Hash { return entries[n-(s.First-1)].LeafHash() },
	})
	if root != s.Note.Root || len(rest) > 0 {
		return fmt.Errorf("the proof doesn't show that the entries %d to %d are in the ledger of %d entries: an entry, the hashes or the checkpoint was altered",
			s.First, s.First+count-1, s.Note.Size)
	}
	return nil
}

func misplaced(seq, want uint64) Problem {
	if seq > want {
		return Gap
	}
	return Reordered
}

// visit gives walk its hashes.
type visit struct {
	beside func(level int, index int64) tlog.Hash // of a complete subtree outside the run
	leaf   func(n uint64) tlog.Hash               // of an entry of the run, counted from 0
}

// walk computes the hash of the leaves lo to hi, hi excluded, of which those
// from first to end are given one by one (RFC 6962 §2.1: the left subtree has
// the largest power of two that is smaller than the whole).
func walk(lo, hi, first, end uint64, v *visit) tlog.Hash {
	size := hi - lo
	if size&(size-1) == 0 && (hi <= first || lo >= end) {
		level := bits.TrailingZeros64(size)
		return v.beside(level, int64(lo>>level))
	}
	if size == 1 {
		return v.leaf(lo)
	}
	half := uint64(1) << (bits.Len64(size-1) - 1)
	left := walk(lo, lo+half, first, end, v)
	return tlog.NodeHash(left, walk(lo+half, hi, first, end, v))
}
