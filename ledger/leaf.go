package ledger

import (
	"encoding/binary"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// domain separates a leaf from every other use of SHA-256. A change of the
// encoding below needs a new version in it.
const domain = "bollard ledger v2\n"

// Leaf is what the tree commits to:
//
//	"bollard ledger v2\n"
//	seq, time in Unix milliseconds   8 bytes each, big-endian
//	kind, subject, actor             each its length in 4 bytes, then itself
//	number of data pairs             4 bytes
//	key, value of each pair          in byte order of keys, each with its length
//
// Every part has a fixed or a stated length, so that no two entries have the
// same encoding. An absent Data and an empty one are the same.
func (e Entry) Leaf() []byte { return e.appendLeaf(nil) }

func (e Entry) appendLeaf(b []byte) []byte {
	b = append(b, domain...)
	b = binary.BigEndian.AppendUint64(b, e.Seq)
	b = binary.BigEndian.AppendUint64(b, uint64(e.Time.UnixMilli()))
	b = appendText(b, e.Kind)
	b = appendText(b, e.Subject)
	b = appendText(b, e.Actor)
	b = binary.BigEndian.AppendUint32(b, uint32(len(e.Data)))
	if len(e.Data) == 0 {
		return b
	}
	var room [MaxPairs]string
	for _, key := range e.AppendKeys(room[:0]) {
		b = appendText(b, key)
		b = appendText(b, e.Data[key])
	}
	return b
}

// AppendKeys appends the keys of Data in byte order.
func (e Event) AppendKeys(to []string) []string {
	n := len(to)
	for key := range e.Data {
		to = append(to, key)
	}
	slices.Sort(to[n:])
	return to
}

// LeafHash is the hash of the entry's content, whatever Hashes says.
func (e Entry) LeafHash() tlog.Hash {
	var room [1024]byte // on the stack, for nearly all
	return tlog.RecordHash(e.appendLeaf(room[:0]))
}

func appendText(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}
