package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"time"
)

// domain separates an entry's hash from every other use of SHA-256. A change
// of the encoding below needs a new version in it.
const domain = "bollard ledger v1\n"

// Next is the entry that follows prev; the zero Entry precedes the first. The
// time is cut to whole milliseconds in UTC, since that is what is stored.
func Next(prev Entry, at time.Time, event Event) Entry {
	event.Data = maps.Clone(event.Data)
	e := Entry{
		Seq:   prev.Seq + 1,
		Time:  time.UnixMilli(at.UnixMilli()).UTC(),
		Event: event,
		Prev:  prev.Hash,
	}
	e.Hash = e.Digest()
	return e
}

// Digest computes what Hash has to be: SHA-256 over
//
//	"bollard ledger v1\n"
//	seq, time in Unix milliseconds   8 bytes each, big-endian
//	prev                             32 bytes
//	kind, subject, actor             each its length in 4 bytes, then itself
//	number of data pairs             4 bytes
//	key, value of each pair          in byte order of keys, each with its length
//
// Every part has a fixed or a stated length, so that no two entries have the
// same encoding. An absent Data and an empty one are the same.
func (e Entry) Digest() [32]byte {
	b := make([]byte, 0, 512)
	b = append(b, domain...)
	b = binary.BigEndian.AppendUint64(b, e.Seq)
	b = binary.BigEndian.AppendUint64(b, uint64(e.Time.UnixMilli()))
	b = append(b, e.Prev[:]...)
	b = appendText(b, e.Kind)
	b = appendText(b, e.Subject)
	b = appendText(b, e.Actor)
	b = binary.BigEndian.AppendUint32(b, uint32(len(e.Data)))
	for _, key := range slices.Sorted(maps.Keys(e.Data)) {
		b = appendText(b, key)
		b = appendText(b, e.Data[key])
	}
	return sha256.Sum256(b)
}

func appendText(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}
