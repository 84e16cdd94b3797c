// Package ledger is the append-only evidence of every decision: the leaves of a
// Merkle tree (RFC 6962 §2) whose root, signed, is a checkpoint.
//
// It promises that any entry flipped, dropped, reordered or inserted is found,
// and named, by Verify, and that a tail cut off or written anew is found against
// any checkpoint kept elsewhere, and only against one. The tree is the one of
// golang.org/x/mod/sumdb/tlog; checkpoints, proofs and cosignatures have the
// forms of c2sp.org, so that others' programs judge them too.
//
// It is pure: the store appends entries in the same transaction as the effect
// they record, and keeps the tree's hashes beside them.
package ledger

import (
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// Event is what a service wants recorded. Data holds no secret and no personal
// datum: keys and values are chosen by the caller from identities, serials,
// reasons and counts. What stands for a person becomes a Pseudonym.
type Event struct {
	Kind    string            // dotted noun and verb, such as "certificate.intent"
	Subject string            // what it is about: a station key, a certificate serial
	Actor   string            // who decided: "operator", "station:<key>", "bollard"
	Data    map[string]string // small facts, such as "reason"
	// People are keys of Data whose values name people, separated by commas. The
	// store puts pseudonyms there, and for an actor that is a person.
	People []string
}

// Entry is an event with its place in the tree: leaf Seq-1.
type Entry struct {
	Seq  uint64
	Time time.Time // UTC, whole milliseconds
	Event
	// Hashes are what the tree gains by the entry: its leaf's hash, then the
	// hash of each subtree that is complete with it, from the smallest up.
	Hashes []tlog.Hash
}
