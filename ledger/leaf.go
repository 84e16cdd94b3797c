package ledger

import (
	"encoding/binary"
	"maps"
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
func (e Entry) Leaf() []byte {
	b := make([]byte, 0, 512)
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
	keys := slices.AppendSeq(make([]string, 0, len(e.Data)), maps.Keys(e.Data))
	slices.Sort(keys)
	for _, key := range keys {
		b = appendText(b, key)
		b = appendText(b, e.Data[key])
	}
	return b
}

// LeafHash is the hash of the entry's content, whatever Hashes says.
func (e Entry) LeafHash() tlog.Hash { return tlog.RecordHash(e.Leaf()) }

func appendText(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}
