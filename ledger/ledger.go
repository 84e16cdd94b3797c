// Package ledger is the append-only, hash-chained evidence of every decision.
//
// It promises that any entry flipped, dropped, reordered or inserted is found,
// and named, by Verify. What it can't see by itself is a cut tail, or a chain
// forged anew from some entry on: both show only against a checkpoint (Seq and
// Hash of an entry) kept elsewhere. It is pure: the store appends entries in
// the same transaction as the effect they record.
package ledger

import "time"

// Event is what a service wants recorded. Data holds no secret and no personal
// datum: keys and values are chosen by the caller from identities, serials,
// reasons and counts.
type Event struct {
	Kind    string            // dotted noun and verb, such as "certificate.intent"
	Subject string            // what it is about: a station key, a certificate serial
	Actor   string            // who decided: "operator", "station:<key>", "bollard"
	Data    map[string]string // small facts, such as "reason"
}

// Entry is an event with its place in the chain.
type Entry struct {
	Seq  uint64
	Time time.Time // UTC, whole milliseconds
	Event
	Prev [32]byte // Hash of entry Seq-1; zero for the first
	Hash [32]byte
}
