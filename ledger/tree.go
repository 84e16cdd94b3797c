package ledger

import (
	"fmt"
	"math/bits"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// Tree is the right edge of the ledger's Merkle tree, which is all that
// appending needs. The zero Tree is empty. It isn't safe for concurrent use.
type Tree struct {
	size int64
	// edge are the roots of the complete subtrees, the largest first: one for
	// each bit of size that is set.
	edge []tlog.Hash
}

// LoadTree reads the edge of a tree of the given size.
func LoadTree(size uint64, r tlog.HashReader) (*Tree, error) {
	t := &Tree{size: int64(size)}
	var places []int64
	for level := bits.Len64(size) - 1; level >= 0; level-- {
		if n := size >> level; n&1 == 1 {
			places = append(places, tlog.StoredHashIndex(level, int64(n-1)))
		}
	}
	if len(places) == 0 {
		return t, nil
	}
	var err error
	if t.edge, err = r.ReadHashes(places); err != nil {
		return nil, fmt.Errorf("couldn't read the ledger's tree of %d entries: %w", size, err)
	}
	return t, nil
}

// Place says with which entry a stored hash of the tree is kept, and where in
// its Hashes.
func Place(index int64) (seq uint64, at int) {
	level, n := tlog.SplitStoredHashIndex(index)
	return uint64(n+1) << level, level
}

// Size is the number of entries.
func (t *Tree) Size() uint64 { return uint64(t.size) }

// Root is the tree's hash (RFC 6962 §2.1).
func (t *Tree) Root() tlog.Hash {
	root, err := tlog.TreeHash(t.size, tlog.HashReaderFunc(t.read))
	if err != nil {
		panic("internal error: " + err.Error()) // the edge has what the root is made of
	}
	return root
}

// Append makes the event the next entry. The time is cut to whole milliseconds
// in UTC, since that is what is stored. The entry has the event's Data, not a copy.
func (t *Tree) Append(at time.Time, event Event) Entry {
	e := Entry{Seq: uint64(t.size) + 1, Time: time.UnixMilli(at.UnixMilli()).UTC(), Event: event}
	e.Hashes = t.add(e.LeafHash())
	return e
}

// add appends a leaf and returns the hashes the tree gains by it.
func (t *Tree) add(leaf tlog.Hash) []tlog.Hash {
	gained, err := tlog.StoredHashesForRecordHash(t.size, leaf, tlog.HashReaderFunc(t.read))
	if err != nil {
		panic("internal error: " + err.Error()) // the edge has what the new subtrees are made of
	}
	// Each complete subtree took in one root of the edge.
	t.edge = append(t.edge[:len(t.edge)-(len(gained)-1)], gained[len(gained)-1])
	t.size++
	return gained
}

// read serves hashes of the edge by their place in tlog's storage.
func (t *Tree) read(indexes []int64) ([]tlog.Hash, error) {
	list := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		level, n := tlog.SplitStoredHashIndex(index)
		above := t.size >> level
		if above&1 == 0 || n != above-1 {
			return nil, fmt.Errorf("hash %d isn't on the edge of a tree of %d entries", index, t.size)
		}
		list[i] = t.edge[bits.OnesCount64(uint64(above>>1))]
	}
	return list, nil
}
