// Package store keeps what Bollard knows in SQLite. It is the only importer of
// the driver and implements the Store interfaces that ca and fleet declare.
//
// It promises that a write is on disk, whole and with its ledger entries,
// before the call returns, and that readers never wait for the writer.
package store

import (
	"context"
	"iter"
	"time"

	"bollard/ca"
	"bollard/fleet"
	"bollard/ledger"
)

// Store is one open database.
type Store struct{}

// Config of a Store.
type Config struct {
	Path  string
	Clock func() time.Time
}

// Open opens or creates the database and migrates it. A corrupt or newer
// database is refused with what to do.
func Open(ctx context.Context, cfg Config) (*Store, error) { panic("internal error: contract only") }

// Close waits for the writer.
func (s *Store) Close() error { panic("internal error: contract only") }

// Record appends events that accompany no other write.
func (s *Store) Record(ctx context.Context, events ...ledger.Event) error {
	panic("internal error: contract only")
}

// Entries streams the ledger from a sequence number on.
func (s *Store) Entries(ctx context.Context, from uint64) iter.Seq2[ledger.Entry, error] {
	panic("internal error: contract only")
}

// Secret and SetSecret keep small encrypted values, such as upstream passwords.
func (s *Store) Secret(ctx context.Context, name string) (ciphertext []byte, ok bool, err error) {
	panic("internal error: contract only")
}
func (s *Store) SetSecret(ctx context.Context, name string, ciphertext []byte, events ...ledger.Event) error {
	panic("internal error: contract only")
}

type needs interface {
	ca.Store
	fleet.Store
}
