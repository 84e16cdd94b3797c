package store

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"bollard/ledger"
)

// Retention says how old records may grow; 0: as old as they like. What is open
// or still needed stays at any age, and so do the ledger's entries, certificates
// and identities that are used up. Contract data of others goes once it has ended.
type Retention struct {
	SecurityEvents time.Duration
	Findings       time.Duration
	Orders         time.Duration // of certificates: closed, and not a station's newest
	Rollouts       time.Duration // that are over, with their members
	Approvals      time.Duration // that can be neither signed nor used any more
	Checkpoints    time.Duration // kept beside the ledger, but for each origin's newest
	People         time.Duration // keys behind pseudonyms, since the person stood in an entry
}

// expireBatch is how many rows go in one transaction: others write in between.
const expireBatch = 500

// expiry is one table's rule. old is asked with the time before which its rows
// go, in milliseconds, twice: to find them, and once more as they are deleted.
type expiry struct {
	name, table, key, old string
	age                   time.Duration
	always                bool // of any age: old is what has ended
}

func (r *Retention) rules() []expiry {
	return []expiry{
		{name: "security_events", table: "security_events", key: "position", old: "received_at < ?", age: r.SecurityEvents},
		{name: "findings", table: "findings", key: "position", old: "last_at < ?", age: r.Findings},
		{name: "orders", table: "orders", key: "id", age: r.Orders, old: "updated_at < ? AND (state NOT IN ('accepted', 'issued') OR wire = 'est') AND " +
			"position < (SELECT MAX(position) FROM orders newer WHERE newer.station = orders.station AND newer.secc = orders.secc AND (newer.secc = '' OR newer.type = orders.type))"},
		{name: "rollouts", table: "rollouts", key: "id", age: r.Rollouts, old: "at < ? AND json_extract(header, '$.phase') IN ('finished', 'cancelled')"},
		{name: "approvals", table: "approvals", key: "nonce", age: r.Approvals, old: "unixepoch(json_extract(record, '$.expires')) * 1000 < ?"},
		{name: "checkpoints", table: "ledger_checkpoints", key: "rowid", age: r.Checkpoints, old: "at < ? AND " +
			"size < (SELECT MAX(size) FROM ledger_checkpoints newer WHERE newer.origin = ledger_checkpoints.origin)"},
		{name: "kept_contracts", table: "kept_contracts", key: "position", old: "until <= ?", always: true},
	}
}

// Expire deletes what has grown older than it may, each batch with its entry, and
// returns how many rows went by rule.
func (s *Store) Expire(ctx context.Context, r Retention) (map[string]int, error) {
	gone := map[string]int{}
	for _, rule := range r.rules() {
		if rule.age <= 0 && !rule.always {
			continue
		}
		before := s.clock().Add(-rule.age)
		for {
			keys, err := s.expired(ctx, &rule, before)
			if err != nil {
				return gone, err
			}
			if len(keys) == 0 {
				break
			}
			n, err := s.expire(ctx, &rule, before, keys)
			if err != nil {
				return gone, err
			}
			if gone[rule.name] += n; n == 0 {
				break // they are needed again
			}
		}
	}
	if r.People > 0 {
		n, err := s.expirePeople(ctx, r.People)
		if n > 0 {
			gone["people"] = n
		}
		return gone, err
	}
	return gone, nil
}

// expired finds rows beside the writer, which has others to serve.
func (s *Store) expired(ctx context.Context, rule *expiry, before time.Time) ([]any, error) {
	db, err := s.reader()
	if err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, "SELECT "+rule.key+" FROM "+rule.table+" WHERE "+rule.old+" LIMIT ?", before.UnixMilli(), expireBatch)
	keys, err := collect(rows, err, func(row scanner) (any, error) {
		var key any
		err := row.Scan(&key)
		return key, err
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't look for old %s: %w", rule.name, explain(s.path, err))
	}
	return keys, nil
}

func (s *Store) expire(ctx context.Context, rule *expiry, before time.Time, keys []any) (int, error) {
	n := int64(0)
	err := s.write(ctx, func(t *tx) error {
		marks := strings.TrimSuffix(strings.Repeat("?, ", len(keys)), ", ")
		var err error
		n, err = t.exec("DELETE FROM "+rule.table+" WHERE "+rule.key+" IN ("+marks+") AND "+rule.old, append(keys, before.UnixMilli())...)
		if err != nil {
			return fmt.Errorf("couldn't delete old %s: %w", rule.name, err)
		}
		if n == 0 {
			return nil
		}
		return t.record(ledger.Event{Kind: "retention.expired", Subject: rule.name, Actor: "bollard", Data: map[string]string{
			"rows": strconv.FormatInt(n, 10), "before": before.UTC().Format(time.RFC3339), "age": rule.age.String(),
		}})
	})
	return int(n), err
}
