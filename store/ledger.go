package store

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"

	"bollard/ledger"
)

// page is how many entries Entries reads at a time: a slow reader holds no
// connection and keeps no old version of the database alive.
const page = 1000

const entryColumns = "seq, at, kind, subject, actor, data, prev, hash"

// Record appends events that accompany no other write, all or none.
func (s *Store) Record(ctx context.Context, events ...ledger.Event) error {
	if len(events) == 0 {
		return nil
	}
	return s.write(ctx, func(t *tx) error { return t.record(events...) })
}

// Entries streams the ledger from a sequence number on, up to the entry that
// is the newest when the reading begins. Entries come as they are stored:
// ledger.Verify judges them.
func (s *Store) Entries(ctx context.Context, from uint64) iter.Seq2[ledger.Entry, error] {
	return func(yield func(ledger.Entry, error) bool) {
		newest, err := s.newestSeq(ctx)
		if err != nil {
			yield(ledger.Entry{}, err)
			return
		}
		for from <= newest {
			list, err := s.entries(ctx, from, newest)
			if err != nil {
				yield(ledger.Entry{}, err)
				return
			}
			if len(list) == 0 {
				return
			}
			for _, entry := range list {
				if !yield(entry, nil) {
					return
				}
			}
			from = list[len(list)-1].Seq + 1
		}
	}
}

func (s *Store) newestSeq(ctx context.Context) (uint64, error) {
	db, err := s.reader()
	if err != nil {
		return 0, err
	}
	var seq int64
	if err := db.QueryRowContext(ctx, "SELECT COALESCE(MAX(seq), 0) FROM ledger").Scan(&seq); err != nil {
		return 0, fmt.Errorf("couldn't read the ledger: %w", explain(s.path, err))
	}
	return uint64(seq), nil
}

func (s *Store) entries(ctx context.Context, from, to uint64) ([]ledger.Entry, error) {
	db, err := s.reader()
	if err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, "SELECT "+entryColumns+" FROM ledger WHERE seq >= ? AND seq <= ? ORDER BY seq LIMIT ?", int64(from), int64(to), page)
	list, err := collect(rows, err, scanEntry)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the ledger from entry %d on: %w", from, explain(s.path, err))
	}
	return list, nil
}

func scanEntry(row scanner) (ledger.Entry, error) {
	var (
		e          ledger.Entry
		seq        int64
		data       string
		prev, hash []byte
	)
	if err := row.Scan(&seq, instant{&e.Time}, &e.Kind, &e.Subject, &e.Actor, &data, &prev, &hash); err != nil {
		return ledger.Entry{}, err
	}
	if len(prev) != len(e.Prev) || len(hash) != len(e.Hash) {
		return ledger.Entry{}, fmt.Errorf("ledger entry %d has a hash of the wrong length", seq)
	}
	if data != "" {
		if err := json.Unmarshal([]byte(data), &e.Data); err != nil {
			return ledger.Entry{}, fmt.Errorf("ledger entry %d has unreadable data: %w", seq, err)
		}
	}
	e.Seq = uint64(seq)
	copy(e.Prev[:], prev)
	copy(e.Hash[:], hash)
	return e, nil
}
