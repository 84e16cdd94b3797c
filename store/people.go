package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"bollard/approval/docket"
	"bollard/ledger"
)

// ErrNeeded says that a person can't be forgotten yet.
var ErrNeeded = errors.New("an open approval needs the name")

// pseudonym returns what stands for a person, whose key is made the first time.
func (t *tx) pseudonym(name string) (string, error) {
	now := t.w.clock().UnixMilli()
	var key []byte
	err := t.row("UPDATE people SET used_at = ? WHERE name = ? RETURNING key", now, name).Scan(&key)
	if errors.Is(err, sql.ErrNoRows) {
		key = make([]byte, ledger.PersonKeySize)
		_, _ = rand.Read(key) // it never fails
		_, err = t.exec("INSERT INTO people (name, key, used_at) VALUES (?, ?, ?)", name, key, now)
	}
	if err != nil {
		return "", fmt.Errorf("couldn't make a pseudonym: %w", err)
	}
	return ledger.Pseudonym(key, name), nil
}

// Pseudonym returns what stands for a person in the ledger, or ledger.ErrNobody.
func (s *Store) Pseudonym(ctx context.Context, name string) (string, error) {
	db, err := s.reader()
	if err != nil {
		return "", err
	}
	var key []byte
	err = db.QueryRowContext(ctx, "SELECT key FROM people WHERE name = ?", name).Scan(&key)
	if errors.Is(err, sql.ErrNoRows) {
		return "", ledger.ErrNobody
	}
	if err != nil {
		return "", fmt.Errorf("couldn't read a person's key: %w", explain(s.path, err))
	}
	return ledger.Pseudonym(key, name), nil
}

// Forget destroys a person's key, and the name wherever else the database has
// it: in the authors of rollouts, and with the approvals that are closed, whose
// number the entry tells. While an open approval has the name it is ErrNeeded;
// without a pseudonym ledger.ErrNobody. The bytes are overwritten, in the
// write-ahead log too.
func (s *Store) Forget(ctx context.Context, name string, event func(pseudonym string) ledger.Event) (string, error) {
	var pseudonym string
	err := s.write(ctx, func(t *tx) error {
		var known int
		if err := t.row("SELECT COUNT(*) FROM people WHERE name = ?", name).Scan(&known); err != nil {
			return fmt.Errorf("couldn't read a person's key: %w", err)
		}
		if known == 0 {
			return ledger.ErrNobody
		}
		var err error
		if pseudonym, err = t.pseudonym(name); err != nil {
			return err
		}
		matters, err := t.closedMatters(name)
		if err != nil {
			return err
		}
		e := event(pseudonym)
		if e.Data == nil {
			e.Data = map[string]string{}
		}
		e.Data["approvals"] = strconv.Itoa(len(matters))
		// The actor may be who is forgotten: the entry needs the key once more.
		if err := t.record(e); err != nil {
			return err
		}
		for _, m := range matters {
			if _, err := t.exec("DELETE FROM approvals WHERE nonce = ?", m.Nonce); err != nil {
				return fmt.Errorf("couldn't remove approval %s: %w", m.Nonce, err)
			}
		}
		return t.erase(name, pseudonym)
	})
	if err != nil {
		return "", err
	}
	return pseudonym, s.overwritten(ctx)
}

// erase removes the name from all but approvals. The writer overwrites what it deletes.
func (t *tx) erase(name, pseudonym string) error {
	quoted := func(name string) string { return `"by":"operator:` + name + `"` }
	if _, err := t.exec("UPDATE rollouts SET detail = replace(detail, ?, ?)", quoted(name), quoted(pseudonym)); err != nil {
		return fmt.Errorf("couldn't remove a name from the rollouts: %w", err)
	}
	// Records made by versions before pseudonyms.
	if _, err := t.exec("UPDATE certificates SET requester = ? WHERE requester = ?", "operator:"+pseudonym, "operator:"+name); err != nil {
		return fmt.Errorf("couldn't remove a name from the certificates: %w", err)
	}
	if _, err := t.exec("DELETE FROM people WHERE name = ?", name); err != nil {
		return fmt.Errorf("couldn't destroy a person's key: %w", err)
	}
	return nil
}

// expirePeople forgets who hasn't stood in the ledger since a time, but for those
// whom a kept approval names, be it as one who could have signed: by its signatures
// people account for what others did yesterday. The write-ahead log is emptied
// again each time: somebody may have read it when the last one was forgotten.
func (s *Store) expirePeople(ctx context.Context, age time.Duration) (int, error) {
	before, n := s.clock().Add(-age), 0
	err := s.write(ctx, func(t *tx) error {
		rows, err := t.rows("SELECT name, key FROM people WHERE used_at < ? ORDER BY name", before.UnixMilli())
		type old struct {
			name string
			key  []byte
		}
		list, err := collect(rows, err, func(row scanner) (p old, err error) { return p, row.Scan(&p.name, &p.key) })
		if err != nil {
			return fmt.Errorf("couldn't look for people whose keys are old: %w", err)
		}
		if len(list) == 0 {
			return nil
		}
		matters, err := t.matters()
		if err != nil {
			return err
		}
		for _, p := range list {
			if slices.ContainsFunc(matters, func(m docket.Matter) bool { return names(&m, p.name) }) {
				continue
			}
			pseudonym := ledger.Pseudonym(p.key, p.name)
			if err := t.erase(p.name, pseudonym); err != nil {
				return err
			}
			n++
			if err := t.record(ledger.Event{Kind: "ledger.forgot", Subject: pseudonym, Actor: "bollard", Data: map[string]string{
				"before": before.UTC().Format(time.RFC3339), "age": age.String(),
			}}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return n, s.overwritten(ctx)
}

func (t *tx) matters() ([]docket.Matter, error) {
	rows, err := t.rows("SELECT " + matterColumns + " FROM approvals")
	list, err := collect(rows, err, scanMatter)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the approvals: %w", err)
	}
	return list, nil
}

// closedMatters are those with a name, or ErrNeeded if one of them is open.
func (t *tx) closedMatters(name string) ([]docket.Matter, error) {
	list, err := t.matters()
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(m docket.Matter) bool { return !names(&m, name) })
	for _, m := range list {
		if m.UsedAt.IsZero() && m.WithdrawnAt.IsZero() && m.Expires.After(t.w.clock()) {
			return nil, fmt.Errorf("approval %s: %w", m.Nonce, ErrNeeded)
		}
	}
	return list, nil
}

func names(m *docket.Matter, name string) bool {
	for _, part := range strings.Split(m.Author, ":") {
		if part == name {
			return true
		}
	}
	for _, p := range m.People {
		if p.Name == name {
			return true
		}
	}
	return false
}

// overwritten moves the write-ahead log into the database and empties it: what
// was overwritten in the one still stands in the other. It waits for the writer
// and for whoever reads.
func (s *Store) overwritten(ctx context.Context) error {
	db, err := sql.Open("sqlite3", dsn(s.path, url.Values{"_busy_timeout": {"5000"}, "_synchronous": {"FULL"}}))
	if err != nil {
		return fmt.Errorf("couldn't open database %s: %w", s.path, err)
	}
	busy := 1
	err = errors.Join(db.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, new(int), new(int)), db.Close())
	if err == nil && busy != 0 {
		err = errors.New("somebody reads it all the time")
	}
	if err != nil {
		return fmt.Errorf("the write-ahead log may have the keys of people who are forgotten, until the server stops: %w", err)
	}
	return nil
}
