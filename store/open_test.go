package store_test

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bollard/store"
)

func TestOpenCreatesAPrivateFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a b?c#d%41&mode=memory.db")
	s := reopen(t, path)
	must(t, s.Record(t.Context(), event("server.started")))
	for _, suffix := range []string{"", "-wal", "-shm"} {
		info, err := os.Stat(path + suffix)
		must(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", suffix, info.Mode())
		}
	}
}

func TestOpenKeepsOthersFromReading(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "bollard.db")
	must(t, reopen(t, path).Close())
	must(t, os.Chmod(path, 0o644))
	reopen(t, path)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestReopenKeepsEverything(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "bollard.db")
	for i := range 3 {
		s := reopen(t, path)
		must(t, s.Record(t.Context(), event("server.started")))
		if got := kinds(t, s); len(got) != i+1 {
			t.Errorf("%d entries after %d starts", len(got), i+1)
		}
		must(t, s.Close())
	}
}

// What sockets use up later can't keep anybody from reading: all descriptors are
// taken at the start.
func TestOpenTakesAllItsDescriptors(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "bollard.db")
	s := reopen(t, path)
	before := descriptors(t, path)
	var crowd sync.WaitGroup
	for range 32 {
		crowd.Go(func() {
			for range 20 {
				if _, _, err := s.Secret(t.Context(), "none"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	crowd.Wait()
	if after := descriptors(t, path); after != before {
		t.Errorf("%d descriptors of the database before a crowd reads, %d after", before, after)
	}
}

// descriptors counts those of this process which lead to the database and its
// log. The shared memory's isn't one of a connection.
func descriptors(t *testing.T, path string) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	n := 0
	for _, fd := range list {
		to, _ := os.Readlink(filepath.Join("/proc/self/fd", fd.Name())) // gone meanwhile: not ours
		if to == path || to == path+"-wal" {
			n++
		}
	}
	return n
}

// A copy of the file alone, taken after a stop, is a whole backup: the log that stays
// beside it is empty.
func TestCloseLeavesOneWholeFile(t *testing.T) {
	t.Parallel()
	path := filled(t)
	log, err := os.Stat(path + "-wal")
	must(t, err)
	if log.Size() != 0 || log.Mode().Perm() != 0o600 {
		t.Errorf("the log has %d bytes and mode %v", log.Size(), log.Mode())
	}
	raw, err := os.ReadFile(path)
	must(t, err)
	alone := filepath.Join(t.TempDir(), "bollard.db")
	must(t, os.WriteFile(alone, raw, 0o600))
	if secret, ok, err := reopen(t, alone).Secret(t.Context(), "secret-99"); err != nil || !ok || len(secret) != 3000 {
		t.Errorf("%d bytes, %v, %v", len(secret), ok, err)
	}
}

// filled is the path of a closed database of some hundred pages.
func filled(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bollard.db")
	s := reopen(t, path)
	for i := range 100 {
		must(t, s.SetSecret(t.Context(), fmt.Sprint("secret-", i), bytes.Repeat([]byte{byte(i)}, 3000), event("secret.set")))
	}
	must(t, s.Close())
	return path
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	damage := func(change func(raw []byte) []byte) func(*testing.T) string {
		return func(t *testing.T) string {
			path := filled(t)
			raw, err := os.ReadFile(path)
			must(t, err)
			must(t, os.WriteFile(path, change(raw), 0o600))
			return path
		}
	}
	statement := func(query string) func(*testing.T) string {
		return func(t *testing.T) string {
			path := filled(t)
			rawSQL(t, path, query)
			return path
		}
	}
	for _, test := range []struct {
		name string
		path func(*testing.T) string
		want []string
	}{
		{"a directory", func(t *testing.T) string { return t.TempDir() }, []string{"is a directory", "give the path of a file"}},
		{"a missing directory", func(t *testing.T) string { return filepath.Join(t.TempDir(), "no", "bollard.db") }, []string{"couldn't create database", "does its directory exist"}},
		{"a device", func(*testing.T) string { return os.DevNull }, []string{"not a regular file"}},
		{"a text file", func(t *testing.T) string {
			path := filepath.Join(t.TempDir(), "notes.txt")
			must(t, os.WriteFile(path, bytes.Repeat([]byte("dear diary "), 50), 0o600))
			return path
		}, []string{"is not a Bollard database", "restore a backup"}},
		{"a stump", damage(func(raw []byte) []byte { return raw[:50] }), []string{"is corrupt", "restore a backup"}},
		{"cut in half", damage(func(raw []byte) []byte { return raw[:len(raw)/8192*4096] }), []string{"is corrupt", "restore a backup"}},
		{"pages overwritten", damage(func(raw []byte) []byte {
			for i := len(raw) / 8192 * 4096; i < len(raw); i += 4096 { // none that opening itself reads
				copy(raw[i:], bytes.Repeat([]byte{0xff}, 64))
			}
			return raw
		}), []string{"is corrupt", "restore a backup"}},
		{"a flipped root page", damage(func(raw []byte) []byte {
			for i := 100; i < 300; i++ {
				raw[i] ^= 0x55
			}
			return raw
		}), []string{"is corrupt", "restore a backup"}},
		{"another program's", statement("PRAGMA application_id = 7"), []string{"another program's database"}},
		{"an unmarked program's", statement("PRAGMA application_id = 0"), []string{"another program's database"}},
		{"a newer schema", statement("INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1)"), []string{"schema version 9999", "knows up to", "newer bollard", "restore a backup"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			path := test.path(t)
			before, _ := os.ReadFile(path)
			s, err := store.Open(t.Context(), store.Config{Path: path})
			if err == nil {
				t.Fatal(errors.Join(errors.New("opened"), s.Close()))
			}
			for _, part := range append(test.want, path) {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q lacks %q", err, part)
				}
			}
			if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
				t.Error("the refused file was changed")
			}
		})
	}
}

// A crash between creating the file and the schema leaves something to go on from.
func TestOpenGoesOnFromAnEmptyFile(t *testing.T) {
	t.Parallel()
	for name, marked := range map[string]bool{"empty": false, "marked": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "bollard.db")
			must(t, os.WriteFile(path, nil, 0o600))
			if marked {
				rawSQL(t, path, "PRAGMA application_id = 1114598508")
			}
			must(t, reopen(t, path).Record(t.Context(), event("server.started")))
		})
	}
}

func TestWriteAheadLogIsSyncedAtEveryCommit(t *testing.T) {
	t.Parallel()
	s := open(t)
	if mode, sync := s.Durability(t.Context()); mode != "wal" || sync != 2 {
		t.Errorf("journal mode %s, synchronous %d; want wal and 2 (FULL)", mode, sync)
	}
}

// Two branches that each add a step meet in databases that have the later number.
func TestOpenTakesAStepThatCameLate(t *testing.T) {
	t.Parallel()
	path := filled(t)
	rawSQL(t, path, "DROP TABLE rollovers; DELETE FROM goose_db_version WHERE version_id = 10")
	rawSQL(t, path, `DROP TABLE plans; ALTER TABLE stations DROP COLUMN rotate_wanted; ALTER TABLE stations DROP COLUMN pending;
		DELETE FROM goose_db_version WHERE version_id = 2`)
	s := reopen(t, path)
	if list, err := s.Stations(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("%d stations, %v", len(list), err)
	}
}

// A new database is made at once, one of an older version step by step: both end with
// the same schema.
func TestNewDatabaseHasTheSchemaOfAGrownOne(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	schema := func(path string) (list []string) {
		t.Helper()
		must(t, reopen(t, path).Close())
		db, err := sql.Open("sqlite3", path)
		must(t, err)
		defer db.Close()
		rows, err := db.QueryContext(t.Context(), `SELECT coalesce(sql, name) FROM sqlite_schema WHERE name <> 'grown'
			UNION ALL SELECT 'step ' || version_id || ' ' || is_applied FROM goose_db_version ORDER BY 1`)
		must(t, err)
		defer rows.Close()
		for rows.Next() {
			var text string
			must(t, rows.Scan(&text))
			list = append(list, text)
		}
		must(t, rows.Err())
		return list
	}
	grown := filepath.Join(dir, "grown.db")
	rawSQL(t, grown, "PRAGMA application_id = 1114598508; CREATE TABLE grown (x)")
	want := schema(grown)
	if diff := cmp.Diff(want, schema(filepath.Join(dir, "new.db"))); diff != "" || len(want) < 100 {
		t.Errorf("of %d (-grown +new):\n%s", len(want), diff)
	}
}

func rawSQL(t *testing.T, path, query string) {
	t.Helper()
	db, err := sql.Open("sqlite3", path)
	must(t, err)
	_, err = db.ExecContext(t.Context(), query)
	must(t, errors.Join(err, db.Close()))
}
