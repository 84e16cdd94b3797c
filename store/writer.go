package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync/atomic"
	"time"

	"bollard/ledger"
)

// maxBatch is how many writes share one transaction, and so one sync of the
// disk, at most.
const maxBatch = 256

// op is one write on its way to the writer goroutine. Whoever swaps claimed
// first owns it: the writer, to run it, or the caller, to take it back.
type op struct {
	ctx     context.Context
	run     func(*tx) error
	again   bool // run may be called more than once
	claimed atomic.Bool
	err     error      // what became of it; the writer's
	answer  chan error // one, buffered
}

// write hands run to the writer goroutine and waits until its transaction is
// committed. run is called at most once; its error undoes what it did and
// nothing else. It must not call methods of the store: the writer would wait
// for itself.
func (s *Store) write(ctx context.Context, run func(*tx) error) error {
	return s.hand(&op{ctx: ctx, run: run, answer: make(chan error, 1)})
}

// writeAgain is write for a run that may be called more than once, each time but
// the last undone: it must leave nothing behind but what it does with its tx, and
// give the same events whenever it finds the same. Such writes need no savepoint
// each, which costs a copy of every page they touch.
func (s *Store) writeAgain(ctx context.Context, run func(*tx) error) error {
	return s.hand(&op{ctx: ctx, run: run, again: true, answer: make(chan error, 1)})
}

func (s *Store) hand(o *op) error {
	ctx := o.ctx
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-s.closing: // even if the writer is still there to receive
		return ErrClosed
	default:
	}
	select {
	case s.ops <- o:
	case <-s.closing:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-o.answer:
		return err
	case <-ctx.Done():
		if o.claimed.CompareAndSwap(false, true) {
			return ctx.Err()
		}
		return <-o.answer // it runs: only its outcome tells whether it happened
	}
}

// writer owns the one connection that writes. All fields but newest belong to
// the writer goroutine.
type writer struct {
	path  string
	clock func() time.Time
	db    *sql.DB
	conn  *sql.Conn
	ops   chan *op // unbuffered: what was received is always answered

	// tree is where the ledger goes on; nil: read it. It is forgotten after
	// every rollback, whole or partial.
	tree    *ledger.Tree
	pending pending // of its entries

	// newest is the latest time on disk, in milliseconds: anybody may read it.
	newest atomic.Int64

	recents map[string]forgetter // by table: what readers remember
	touched map[string]bool      // of those, by the transaction under way

	answer answer // to the statement under way

	log    *slog.Logger
	fullAt time.Time // when the log was last told that the disk is full; zero: it isn't
}

func newWriter(ctx context.Context, db *sql.DB, path string, clock func() time.Time, log *slog.Logger) (*writer, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	conn, err := writing(ctx, db)
	if err != nil {
		return nil, explain(path, err)
	}
	w := &writer{path: path, clock: clock, db: db, conn: conn, ops: make(chan *op), log: log, touched: map[string]bool{}}
	var newest int64
	if err := conn.QueryRowContext(ctx, "SELECT value FROM meta WHERE name = 'newest'").Scan(&newest); err != nil {
		return nil, fmt.Errorf("couldn't read the newest time: %w", errors.Join(explain(path, err), conn.Close()))
	}
	w.newest.Store(newest)
	return w, nil
}

// writing returns the connection that writes. What a savepoint may have to put
// back stays in memory: of more than a few pages SQLite would make a file, in a
// directory of other programs, and write to it page by page.
func writing(ctx context.Context, db *sql.DB) (*sql.Conn, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := conn.ExecContext(ctx, "PRAGMA temp_store = MEMORY"); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if err := keepLog(conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

func (w *writer) close() error {
	err := explain(w.path, emptyLog(context.Background(), w.conn))
	return errors.Join(err, w.conn.Close(), w.db.Close())
}

// run serves writes until closing is closed and no caller is left waiting.
func (w *writer) run(closing <-chan struct{}) {
	for {
		select {
		case o := <-w.ops:
			w.serve(o)
		case <-closing:
			for {
				select {
				case o := <-w.ops:
					w.serve(o)
				default:
					return
				}
			}
		}
	}
}

// serve runs first and all writes that wait behind it in one transaction.
func (w *writer) serve(first *op) {
	batch := w.gather([]*op{first})
	// Whoever the last transaction answered is about to write again: what can run
	// now comes along, instead of making a transaction of its own, and so does what
	// can run because that did.
	for before := 0; before < len(batch) && len(batch) < maxBatch; {
		before = len(batch)
		runtime.Gosched()
		batch = w.gather(batch)
	}
	err := w.commit(batch)
	for table := range w.touched { // committed or not: nobody must remember what may be old
		w.recents[table].forget()
	}
	clear(w.touched)
	for _, o := range batch {
		// What an op found may have been another's, which isn't kept either.
		if o.err == nil || err != nil && o.ctx.Err() == nil {
			o.err = err
		}
		o.answer <- o.err
	}
	w.watchDisk(batch)
}

// gather adds the writes that wait.
func (w *writer) gather(batch []*op) []*op {
	for len(batch) < maxBatch {
		select {
		case o := <-w.ops:
			batch = append(batch, o)
		default:
			return batch
		}
	}
	return batch
}

// fullPause is the shortest time between two log lines about a full disk,
// which every write meets.
const fullPause = 10 * time.Minute

// watchDisk tells the operator when the disk is full, and when it no longer is.
func (w *writer) watchDisk(batch []*op) {
	var full error
	done := false
	for _, o := range batch {
		if errors.Is(o.err, ErrFull) {
			full = o.err
		}
		done = done || o.err == nil
	}
	now := w.clock()
	switch {
	case full != nil && (w.fullAt.IsZero() || now.Sub(w.fullAt) >= fullPause):
		w.fullAt = now
		w.log.Error("the disk is full: nothing is issued, revoked or recorded until there is room; traffic goes on", "database", w.path, "err", full)
	case full == nil && done && !w.fullAt.IsZero():
		w.fullAt = time.Time{}
		w.log.Info("the disk has room again: writes work", "database", w.path)
	}
}

// commit runs all writes in one transaction. Each has its own error; if the
// transaction's isn't nil nothing was kept.
func (w *writer) commit(ops []*op) error {
	// The connection is never used with a caller's context: an interrupt in
	// the middle would take the other callers' writes with it.
	b := &batch{w: w, ctx: context.Background()}
	err := b.begin()
	for len(ops) > 0 && err == nil {
		n := together(ops)
		err = b.run(ops[:n])
		ops = ops[n:]
	}
	if err == nil {
		err = w.finish(b.ctx, b.newest)
	}
	if err != nil {
		w.rollback(b.ctx)
	}
	return err
}

// finish records the newest time and commits; when it returns nil the batch is
// on disk.
func (w *writer) finish(ctx context.Context, newest int64) error {
	if newest != 0 {
		if _, err := w.conn.ExecContext(ctx, "UPDATE meta SET value = ? WHERE name = 'newest' AND value < ?", newest, newest); err != nil {
			return fmt.Errorf("couldn't record the newest time: %w", explain(w.path, err))
		}
	}
	if err := w.exec(ctx, "COMMIT"); err != nil {
		return fmt.Errorf("couldn't commit: %w", err)
	}
	w.newest.Store(max(newest, w.newest.Load()))
	return nil
}

// rollback ends a failed transaction. A connection that can't even do that is
// thrown away: its memory may differ from the disk.
func (w *writer) rollback(ctx context.Context) {
	w.tree = nil
	var autocommit bool
	err := w.conn.Raw(func(c any) error {
		autocommit = c.(interface{ AutoCommit() bool }).AutoCommit()
		return nil
	})
	if err == nil && (autocommit || w.exec(ctx, "ROLLBACK") == nil) {
		return
	}
	w.reconnect(ctx)
}

// reconnect replaces the connection. If that fails, so does the next BEGIN,
// and it is tried again.
func (w *writer) reconnect(ctx context.Context) {
	_ = w.conn.Raw(func(any) error { return driver.ErrBadConn }) // makes the pool close it
	_ = w.conn.Close()
	if conn, err := writing(ctx, w.db); err == nil {
		w.conn = conn
	}
}

func (w *writer) ask(ctx context.Context, query string, args []any, take func(*answer) error) error {
	return w.conn.Raw(func(conn any) error { return w.answer.ask(ctx, conn, query, args, take) })
}

func (w *writer) exec(ctx context.Context, statement string) error {
	_, err := w.conn.ExecContext(ctx, statement)
	return explain(w.path, err)
}
