package store

import (
	"context"
	"errors"
	"fmt"

	"bollard/internal/failpoint"
)

// batch is the writer's transaction under way.
type batch struct {
	w       *writer
	ctx     context.Context
	written bool  // it has writes that are to be kept
	newest  int64 // latest time those stored, in milliseconds
}

func (b *batch) begin() error {
	if err := b.w.exec(b.ctx, "BEGIN IMMEDIATE"); err != nil {
		return fmt.Errorf("couldn't begin a transaction: %w", err)
	}
	return nil
}

// together says how many of the first writes are tried as one: those that may run
// again if one of them fails.
func together(ops []*op) int {
	n := 1
	for ops[0].again && n < len(ops) && ops[n].again {
		n++
	}
	return n
}

// run tries writes as one and, if one of them fails, one by one, so that it fails
// for itself. Its error says that the whole transaction is lost.
func (b *batch) run(ops []*op) error {
	mine := make([]*op, 0, len(ops))
	for _, o := range ops {
		if !o.claimed.CompareAndSwap(false, true) {
			continue // its caller has gone
		}
		if o.err = o.ctx.Err(); o.err == nil {
			mine = append(mine, o)
		}
	}
	if len(mine) == 0 {
		return nil
	}
	done, err := b.attempt(mine)
	if done || err != nil || len(mine) == 1 {
		return err
	}
	failpoint.Hit("store.undone")
	for _, o := range mine {
		o.err = nil // what failed together says nothing of it alone
	}
	for _, o := range mine {
		if _, err := b.attempt([]*op{o}); err != nil {
			return err
		}
	}
	return nil
}

// attempt runs writes up to the first that fails, and then undoes them all. The
// error says that the whole transaction is lost.
func (b *batch) attempt(ops []*op) (done bool, err error) {
	saved := b.written // else all there is to undo is the transaction
	if saved {
		if err := b.w.exec(b.ctx, "SAVEPOINT op"); err != nil {
			return false, fmt.Errorf("couldn't set a savepoint: %w", err)
		}
	}
	var newest int64
	for i, o := range ops {
		t := &tx{ctx: b.ctx, w: b.w}
		if o.err = o.run(t); o.err == nil && i == len(ops)-1 {
			o.err = t.writeEntries() // of all of them
		}
		if o.err != nil {
			o.err = explain(b.w.path, o.err)
			return false, b.undo(saved, o.err)
		}
		newest = max(newest, t.newest)
	}
	if saved {
		if err := b.w.exec(b.ctx, "RELEASE op"); err != nil {
			return false, fmt.Errorf("couldn't release a savepoint: %w", err)
		}
	}
	b.written, b.newest = true, max(b.newest, newest)
	return true, nil
}

func (b *batch) undo(saved bool, failed error) error {
	b.w.pending.forget()
	if !saved {
		b.w.rollback(b.ctx)
		return b.begin()
	}
	b.w.tree = nil
	// On a full disk or a failing one SQLite may already have rolled
	// everything back; then there is no savepoint to return to.
	if err := b.w.exec(b.ctx, "ROLLBACK TO op"); err != nil {
		if errors.Is(failed, ErrFull) {
			err = failed // the cause, which callers look for
		}
		return fmt.Errorf("couldn't undo another write of the transaction: %w", err)
	}
	if err := b.w.exec(b.ctx, "RELEASE op"); err != nil {
		return fmt.Errorf("couldn't release a savepoint: %w", err)
	}
	return nil
}
