package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"bollard/ledger"
)

// page is how many entries Entries reads at a time: a slow reader holds no
// connection and keeps no old version of the database alive.
const page = 1000

const entryColumns = "seq, at, kind, subject, actor, data, hashes"

// Record appends events that accompany no other write, all or none.
func (s *Store) Record(ctx context.Context, events ...ledger.Event) error {
	if len(events) == 0 {
		return nil
	}
	return s.writeAgain(ctx, func(t *tx) error { return t.record(events...) })
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

// EntryAbout returns the entry a subject is best known by: that of its issuing,
// else its newest; false if there is none. It reads the whole ledger.
func (s *Store) EntryAbout(ctx context.Context, subject string) (ledger.Entry, bool, error) {
	db, err := s.reader()
	if err != nil {
		return ledger.Entry{}, false, err
	}
	e, err := scanEntry(db.QueryRowContext(ctx, "SELECT "+entryColumns+" FROM ledger WHERE subject = ? ORDER BY kind = 'certificate.issued' DESC, seq DESC LIMIT 1", subject))
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return ledger.Entry{}, false, nil
	case err != nil:
		return ledger.Entry{}, false, fmt.Errorf("couldn't read the ledger: %w", explain(s.path, err))
	}
	return e, true, nil
}

// Epochs returns the ledger's epochs in order; none before the first checkpoint.
func (s *Store) Epochs(ctx context.Context) ([]ledger.Epoch, error) {
	db, err := s.reader()
	if err != nil {
		return nil, err
	}
	// The condition is the partial index's: nothing else is read.
	rows, err := db.QueryContext(ctx, "SELECT "+entryColumns+" FROM ledger WHERE kind = 'ledger.epoch' ORDER BY seq")
	list, err := collect(rows, err, scanEntry)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the ledger's epochs: %w", explain(s.path, err))
	}
	var epochs []ledger.Epoch
	for _, e := range list {
		if epoch, ok := ledger.EpochOf(e); ok {
			epochs = append(epochs, epoch)
		}
	}
	return epochs, nil
}

// Tree is the ledger's tree as it stands.
func (s *Store) Tree(ctx context.Context) (*ledger.Tree, error) {
	size, err := s.newestSeq(ctx)
	if err != nil {
		return nil, err
	}
	return ledger.LoadTree(size, s.TreeHashes(ctx))
}

// TreeHashes reads hashes of the ledger's tree, for proofs.
func (s *Store) TreeHashes(ctx context.Context) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		db, err := s.reader()
		if err != nil {
			return nil, err
		}
		return readHashes(indexes, func(query string, args ...any) scanner { return db.QueryRowContext(ctx, query, args...) })
	})
}

func readHashes(indexes []int64, row func(query string, args ...any) scanner) ([]tlog.Hash, error) {
	list := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		seq, at := ledger.Place(index)
		var hash []byte
		if err := row("SELECT substr(hashes, ?, ?) FROM ledger WHERE seq = ?", at*tlog.HashSize+1, tlog.HashSize, int64(seq)).Scan(&hash); err != nil {
			return nil, fmt.Errorf("couldn't read a tree hash of ledger entry %d: %w", seq, err)
		}
		if copy(list[i][:], hash) != tlog.HashSize {
			return nil, fmt.Errorf("ledger entry %d lacks a hash of the tree", seq)
		}
	}
	return list, nil
}

// PutCheckpoint keeps a signed checkpoint, in place of one of the same size.
func (s *Store) PutCheckpoint(ctx context.Context, n ledger.Note) error {
	return s.write(ctx, func(t *tx) error {
		if _, err := t.exec(`INSERT INTO ledger_checkpoints (origin, size, note, at) VALUES (?, ?, ?, ?)
			ON CONFLICT (origin, size) DO UPDATE SET note = excluded.note, at = excluded.at`,
			n.Origin, int64(n.Size), n.Signed, t.w.clock().UnixMilli()); err != nil {
			return fmt.Errorf("couldn't keep the checkpoint of %d entries: %w", n.Size, err)
		}
		return nil
	})
}

// Checkpoints returns the signed checkpoints that are kept here, oldest first.
func (s *Store) Checkpoints(ctx context.Context) ([]ledger.Note, error) {
	return s.checkpoints(ctx, "ORDER BY size")
}

// NewestCheckpoint returns the one of the most entries under an origin; false
// without one.
func (s *Store) NewestCheckpoint(ctx context.Context, origin string) (ledger.Note, bool, error) {
	list, err := s.checkpoints(ctx, "WHERE origin = ? ORDER BY size DESC LIMIT 1", origin)
	if err != nil || len(list) == 0 {
		return ledger.Note{}, false, err
	}
	return list[0], true, nil
}

func (s *Store) checkpoints(ctx context.Context, clause string, args ...any) ([]ledger.Note, error) {
	db, err := s.reader()
	if err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, "SELECT note FROM ledger_checkpoints "+clause, args...)
	list, err := collect(rows, err, func(row scanner) (ledger.Note, error) {
		var text string
		if err := row.Scan(&text); err != nil {
			return ledger.Note{}, err
		}
		return ledger.ParseNote(text)
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't read the kept checkpoints: %w", explain(s.path, err))
	}
	return list, nil
}

func scanEntry(row scanner) (ledger.Entry, error) {
	var (
		e      ledger.Entry
		seq    int64
		data   string
		hashes []byte
	)
	if err := row.Scan(&seq, instant{&e.Time}, &e.Kind, &e.Subject, &e.Actor, &data, &hashes); err != nil {
		return ledger.Entry{}, err
	}
	if len(hashes)%tlog.HashSize != 0 {
		return ledger.Entry{}, fmt.Errorf("ledger entry %d was altered: its hashes have the wrong length", seq)
	}
	if data != "" {
		if err := json.Unmarshal([]byte(data), &e.Data); err != nil {
			return ledger.Entry{}, fmt.Errorf("ledger entry %d was altered: its data is unreadable: %w", seq, err)
		}
		// Another spelling of the same data would be a change nobody sees.
		if again, err := encodeData(e.Event); err != nil || again != data {
			return ledger.Entry{}, fmt.Errorf("ledger entry %d was altered: its data isn't spelled as it was written", seq)
		}
	}
	e.Seq = uint64(seq)
	e.Hashes = make([]tlog.Hash, len(hashes)/tlog.HashSize)
	for i := range e.Hashes {
		copy(e.Hashes[i][:], hashes[i*tlog.HashSize:])
	}
	return e, nil
}

// pending are ledger entries that are to be written: the values of entryColumns of each,
// one after the other.
type pending []any

// add adds what Tree.Append made.
func (p *pending) add(e ledger.Entry) error {
	data, err := encodeData(e.Event)
	if err != nil {
		return fmt.Errorf("couldn't encode a ledger entry's data: %w", err)
	}
	hashes := make([]byte, 0, len(e.Hashes)*tlog.HashSize)
	for _, h := range e.Hashes {
		hashes = append(hashes, h[:]...)
	}
	*p = append(*p, int64(e.Seq), e.Time.UnixMilli(), e.Kind, e.Subject, e.Actor, data, hashes)
	return nil
}

func (p *pending) forget() {
	clear(*p)
	*p = (*p)[:0]
}

// insertEntries write so many entries each: a statement costs as much as what it writes of
// one entry. They fail without undoing their own rows, for which SQLite would keep a copy
// of each page: all of the attempt is undone.
var insertEntries = []struct {
	entries   int
	statement string
}{{8, insertEntry + strings.Repeat(", "+entryValues, 7)}, {1, insertEntry}}

const (
	insertEntry = "INSERT OR FAIL INTO ledger (" + entryColumns + ") VALUES " + entryValues
	entryValues = "(?, ?, ?, ?, ?, ?, ?)"
)

// writeEntries writes what is pending.
func (t *tx) writeEntries() error {
	left, columns := t.w.pending, strings.Count(entryValues, "?")
	for _, insert := range insertEntries {
		for n := insert.entries * columns; len(left) >= n; left = left[n:] {
			if _, err := t.exec(insert.statement, left[:n]...); err != nil {
				return fmt.Errorf("couldn't append to the ledger: %w", err)
			}
		}
	}
	t.w.pending.forget()
	return nil
}
