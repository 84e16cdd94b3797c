package store_test

import (
	"database/sql"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"bollard/ca"
	"bollard/fleet"
	"bollard/store"

	"github.com/google/go-cmp/cmp"
)

// What is taken of a row without database/sql is what was stored, or refused.
func TestAnswers(t *testing.T) {
	t.Parallel()
	s := open(t)
	for _, test := range []struct {
		name, query string
		scan        func(*store.Columns) any
		want        any // nil: refused
	}{
		{"text", "SELECT 'text'", store.Text, "text"},
		{"no text", "SELECT ''", store.Text, ""},
		{"text that is NULL", "SELECT NULL", store.Text, nil},
		{"text that is a number", "SELECT 1", store.Text, nil},
		{"bytes", "SELECT x'00ff'", store.Blob, []byte{0, 0xff}},
		{"no bytes", "SELECT x''", store.Blob, []byte{}},
		{"bytes of text", "SELECT 'text'", store.Blob, []byte("text")},
		{"bytes that are NULL", "SELECT NULL", store.Blob, []byte(nil)},
		{"bytes that are a number", "SELECT 1", store.Blob, nil},
		{"a number", "SELECT -9223372036854775808", store.Number, int64(-1 << 63)},
		{"a number that is NULL", "SELECT NULL", store.Number, nil},
		{"a number that is text", "SELECT '1'", store.Number, nil},
		{"true", "SELECT 1", store.Truth, true},
		{"false", "SELECT 0", store.Truth, false},
		{"a time", "SELECT 1764158400123", store.Instant, time.UnixMilli(1764158400123).UTC()},
		{"no time", "SELECT NULL", store.Instant, time.Time{}},
		{"a time that is text", "SELECT 'noon'", store.Instant, nil},
		{"the first of two rows", "SELECT 1 UNION SELECT 2 ORDER BY 1", store.Number, int64(1)},
		{"more columns", "SELECT 1, 2", store.Number, nil},
		{"fewer columns", "SELECT 1", func(c *store.Columns) any { return []any{store.Number(c), store.Number(c)} }, nil},
		{"no table", "SELECT 1 FROM nothing", store.Number, nil},
		{"no row", "SELECT 1 WHERE 0", store.Number, nil},
	} {
		got, err := s.LookUp(t.Context(), test.query, test.scan)
		if test.want == nil {
			if err == nil || errors.Is(err, sql.ErrNoRows) != (test.name == "no row") {
				t.Errorf("%s: got %v, %v", test.name, got, err)
			}
			continue
		}
		if diff := cmp.Diff(test.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v %s", test.name, err, diff)
		}
	}
}

// What a read by key began with is let go with its last row, whatever came of it: else
// the write-ahead log could never be moved into the database.
func TestKeyedReadsHoldNothing(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "bollard.db")
	s := reopen(t, path)
	ctx := t.Context()
	must(t, s.AddStations(ctx, []fleet.Station{station("CS-1", "SN-1")}))
	for _, serial := range []string{"01", "02"} {
		must(t, s.PutIntent(ctx, intent(serial)))
	}
	for name, read := range map[string]func() error{
		"a row": func() error { _, err := s.Station(ctx, "cs-1"); return err },
		"none": func() error {
			_, ok, err := s.UnconfirmedOrder(ctx, "cs-1", "01")
			return errors.Join(err, unless(!ok))
		},
		"all": func() error {
			list, err := s.CertificatesByKey(ctx, "")
			return errors.Join(err, unless(len(list) >= 2))
		},
		"one of two": func() error { _, err := s.LookUp(ctx, "SELECT serial FROM certificates", store.Text); return err },
		"one unusable": func() error {
			_, err := s.LookUp(ctx, "SELECT NULL FROM certificates", store.Text)
			return unless(err != nil)
		},
	} {
		must(t, read())
		must(t, s.PutIntent(ctx, intent("after "+name))) // which a snapshot from before would keep in the log
		db, err := sql.Open("sqlite3", path)
		must(t, err)
		var busy, frames, moved int
		must(t, errors.Join(db.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &frames, &moved), db.Close()))
		if busy != 0 || frames != 0 {
			t.Errorf("after %s: busy %d, %d frames left in the log", name, busy, frames)
		}
	}
}

func unless(ok bool) error {
	if ok {
		return nil
	}
	return errors.New("found something else")
}

// More reads at once than there are connections wait for each other, and those that come
// while the store is closed find it closed or what they look for.
func TestClosingBesideReaders(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "bollard.db")
	s := reopen(t, path)
	ctx := t.Context()
	must(t, s.AddStations(ctx, []fleet.Station{station("CS-1", "SN-1")}))
	must(t, s.PutIntent(ctx, intent("01")))
	var begun, ended sync.WaitGroup
	for range 16 {
		begun.Add(1)
		ended.Go(func() {
			for n := 0; ; n++ {
				if n == 20 {
					begun.Done()
				}
				_, unknown := s.Certificate(ctx, "02")
				list, err := s.CertificatesByKey(ctx, "")
				if errors.Is(err, store.ErrClosed) && n >= 20 {
					return
				}
				if err != nil || len(list) != 1 || !errors.Is(unknown, ca.ErrUnknownSerial) && !errors.Is(unknown, store.ErrClosed) {
					t.Errorf("read %d: %v, %v, %v", n, unknown, list, err)
					return
				}
			}
		})
	}
	begun.Wait()
	must(t, s.Close())
	ended.Wait()
	must(t, reopen(t, path).Close())
}
