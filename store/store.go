// Package store keeps what Bollard knows in SQLite. It is the only importer of
// the driver and implements the Store interfaces that the packages above it declare.
//
// It promises that a write is on disk, whole and with its ledger entries,
// before the call returns, and that readers never wait for the writer.
//
// One process at a time may have a database open: the caller holds the data
// directory's lock.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"bollard/ca"
	"bollard/firmware/catalogue"
	"bollard/fleet"
)

// Errors callers branch on.
var (
	// ErrFull is in the chain of every write's error when the disk, the quota
	// or the file system's limit is reached. Reading goes on.
	ErrFull = errors.New("disk is full")
	// ErrClosed is what every method returns after Close.
	ErrClosed = errors.New("the store is closed")
	// ErrUnknownOrder is UpdateOrder's for an id that was never added.
	ErrUnknownOrder = errors.New("no such order")
)

var (
	_ ca.Store    = (*Store)(nil)
	_ fleet.Store = (*Store)(nil)
)

// readers is the number of connections reads share; they never block each
// other or the writer (WAL), so it bounds memory and file handles only.
const readers = 4

// Config of a Store.
type Config struct {
	Path  string           // of the database file; its directory must exist
	Clock func() time.Time // nil: time.Now
	// Log tells, once in a while, that the disk is full; nil: discarded.
	Log *slog.Logger
}

// Store is one open database. Its methods are safe for concurrent use. A
// method whose context is cancelled before its turn came has no effect; after
// that it waits for the outcome, so that an error always means "not done".
type Store struct {
	path  string
	clock func() time.Time
	read  *sql.DB
	spare sync.Pool // of *answer

	// What was read lately, by key.
	recentStations     recent[fleet.Station]
	recentPlans        recent[string] // JSON; "": none
	recentCertificates recent[ca.Record]
	recentOrders       recent[[]fleet.Order]
	recentAnchors      recent[[]ca.TrustAnchor]
	recentReleases     recent[[]catalogue.Entry]

	newest *atomic.Int64 // see NewestTime; the writer's

	ops     chan *op      // to the writer goroutine
	closing chan struct{} // closed by Close: no new writes
	done    chan struct{} // closed by the writer goroutine when it has ended

	closeOnce sync.Once
	closeErr  error
}

// Open opens or creates the database and migrates it. A corrupt or newer
// database, or one of another program, is refused with what to do and left as
// it is.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	path, err := filepath.Abs(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("couldn't resolve database path %s: %w", cfg.Path, err)
	}
	if err := prepareFile(path); err != nil {
		return nil, err
	}
	if err := inspect(ctx, path); err != nil {
		return nil, err
	}
	db, err := openWriter(ctx, path)
	if err != nil {
		return nil, err
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if err := migrate(ctx, db, path, cfg.Clock); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	w, err := newWriter(ctx, db, path, cfg.Clock, cfg.Log)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	read, err := openReaders(ctx, path)
	if err != nil {
		return nil, errors.Join(err, w.close())
	}
	s := &Store{
		path:    path,
		clock:   w.clock,
		read:    read,
		newest:  &w.newest,
		ops:     w.ops,
		closing: make(chan struct{}),
		done:    make(chan struct{}),
	}
	w.recents = map[string]forgetter{
		"stations": forgetters{&s.recentStations, &s.recentPlans}, // with a station goes its plan
		"plans":    &s.recentPlans, "certificates": &s.recentCertificates, "orders": &s.recentOrders, "anchors": &s.recentAnchors,
		"firmware_releases": &s.recentReleases,
	}
	go func() {
		defer close(s.done)
		w.run(s.closing)
		// The writer last: only a connection that may write can move the log
		// into the database when it is the last one.
		s.closeErr = errors.Join(read.Close(), w.close())
	}()
	return s, nil
}

// Close waits for the writes under way, then closes the database. Methods
// called later return ErrClosed. It may be called more than once.
func (s *Store) Close() error {
	s.closeOnce.Do(func() { close(s.closing) })
	<-s.done
	return s.closeErr
}

// reader is the pool for reading, or ErrClosed.
func (s *Store) reader() (*sql.DB, error) {
	select {
	case <-s.closing:
		return nil, ErrClosed
	default:
		return s.read, nil
	}
}
