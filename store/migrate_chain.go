package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"bollard/ledger"
)

// plantTree moves the entries of a ledger that was a hash chain (schema
// versions before 30) into the tree, once, in one transaction. The chain is
// verified on the way: an entry altered before would otherwise be vouched for
// from now on. What the chain's checkpoint was is recorded.
func plantTree(ctx context.Context, db *sql.DB, clock func() time.Time) error {
	var chained int
	if err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM sqlite_schema WHERE name = 'ledger_chain'").Scan(&chained); err != nil || chained == 0 {
		return err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	err = func() error {
		if _, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
			return err
		}
		err := moveChain(&tx{ctx: ctx, w: &writer{conn: conn, clock: clock, tree: &ledger.Tree{}}})
		if err == nil {
			_, err = conn.ExecContext(ctx, "COMMIT")
		}
		if err != nil {
			_, undo := conn.ExecContext(ctx, "ROLLBACK")
			return errors.Join(err, undo)
		}
		return nil
	}()
	return errors.Join(err, conn.Close())
}

// link is an entry of the old chain.
type link struct {
	seq, at    int64
	event      ledger.Event
	prev, hash []byte
}

func moveChain(t *tx) error {
	rows, err := t.rows("SELECT seq, at, kind, subject, actor, data, prev, hash FROM ledger_chain ORDER BY seq")
	chain, err := collect(rows, err, func(row scanner) (link, error) {
		var l link
		var data string
		err := row.Scan(&l.seq, &l.at, &l.event.Kind, &l.event.Subject, &l.event.Actor, &data, &l.prev, &l.hash)
		if err == nil && data != "" {
			err = json.Unmarshal([]byte(data), &l.event.Data)
		}
		return l, err
	})
	if err != nil {
		return err
	}
	last := make([]byte, sha256.Size)
	for i, l := range chain {
		if l.seq != int64(i)+1 || !bytes.Equal(l.prev, last) || !bytes.Equal(l.hash, l.digest()) {
			return fmt.Errorf("ledger entry %d was altered, or entries before it are missing: keep a copy of the database as it is, and restore a backup", l.seq)
		}
		if err := t.w.pending.add(t.w.tree.Append(time.UnixMilli(l.at), l.event)); err != nil {
			return err
		}
		last = l.hash
	}
	if len(chain) > 0 {
		if err := t.record(ledger.Event{Kind: "ledger.migrated", Subject: "chain", Actor: "bollard", Data: map[string]string{
			"entries": strconv.Itoa(len(chain)), "hash": fmt.Sprintf("%x", last),
		}}); err != nil {
			return err
		}
	}
	if err := t.writeEntries(); err != nil {
		return err
	}
	_, err = t.exec("DROP TABLE ledger_chain")
	return err
}

// digest is what hash had to be: over the entry and the hash before it.
func (l link) digest() []byte {
	b := []byte("bollard ledger v1\n")
	b = binary.BigEndian.AppendUint64(b, uint64(l.seq))
	b = binary.BigEndian.AppendUint64(b, uint64(l.at))
	b = append(b, l.prev...)
	text := func(s string) {
		b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
		b = append(b, s...)
	}
	text(l.event.Kind)
	text(l.event.Subject)
	text(l.event.Actor)
	b = binary.BigEndian.AppendUint32(b, uint32(len(l.event.Data)))
	for _, key := range slices.Sorted(maps.Keys(l.event.Data)) {
		text(key)
		text(l.event.Data[key])
	}
	sum := sha256.Sum256(b)
	return sum[:]
}
