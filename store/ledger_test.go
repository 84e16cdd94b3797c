package store_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bollard/ledger"
	"bollard/store"

	"golang.org/x/mod/sumdb/tlog"
)

func verify(s *store.Store) error {
	_, err := ledger.Verify(s.Entries(context.Background(), 1))
	return err
}

// Promise 15, on the database: whoever edits a field behind Bollard's back, at
// whatever byte, is found, and the entry is named.
func TestRowTornAtEveryByte(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "bollard.db")
	s, err := store.Open(t.Context(), store.Config{Path: path, Clock: func() time.Time { return noon }})
	must(t, err)
	for range 3 {
		must(t, s.Record(t.Context(), event("server.started")))
	}
	must(t, s.Record(t.Context(), ledger.Event{Kind: "station.added", Subject: "cs-1", Actor: "operator", Data: map[string]string{"a<b": "ü", "serial": "SN-1"}}))
	must(t, s.Record(t.Context(), event("server.drained")))
	must(t, verify(s))
	db, err := sql.Open("sqlite3", path)
	must(t, err)
	defer db.Close()
	ctx := t.Context()
	exec := func(query string, args ...any) {
		t.Helper()
		if _, err := db.ExecContext(ctx, query, args...); err != nil {
			t.Fatal(err)
		}
	}
	found := func(what string, seqs ...int) {
		t.Helper()
		err := verify(s)
		if err == nil || !slices.ContainsFunc(seqs, func(seq int) bool { return strings.Contains(err.Error(), fmt.Sprintf("entry %d ", seq)) }) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, column := range []string{"kind", "subject", "actor", "data", "hashes"} {
		var value []byte
		must(t, db.QueryRowContext(ctx, "SELECT CAST("+column+" AS BLOB) FROM ledger WHERE seq = 4").Scan(&value))
		cast := map[bool]string{true: "?", false: "CAST(? AS TEXT)"}[column == "hashes"]
		set := func(to []byte) { exec("UPDATE ledger SET "+column+" = "+cast+" WHERE seq = 4", to) }
		for i := range value {
			for _, bit := range []byte{0x01, 0x20} {
				torn := slices.Clone(value)
				torn[i] ^= bit
				set(torn)
				found(fmt.Sprintf("%s, byte %d", column, i), 4)
			}
			set(value[:i])
			found(fmt.Sprintf("%s, cut at %d", column, i), 4)
		}
		set(append(slices.Clone(value), ' '))
		found(column+", longer", 4)
		set(value)
	}
	for bit := range 40 {
		exec("UPDATE ledger SET at = at + ? WHERE seq = 4", int64(1)<<bit)
		found(fmt.Sprintf("time, bit %d", bit), 4)
		exec("UPDATE ledger SET at = at - ? WHERE seq = 4", int64(1)<<bit)
	}
	exec("UPDATE ledger SET seq = 9 WHERE seq = 4")
	found("renumbered", 5)
	exec("UPDATE ledger SET seq = 4 WHERE seq = 9")
	exec("UPDATE ledger SET seq = 9 WHERE seq = 2")
	exec("UPDATE ledger SET seq = 2 WHERE seq = 3")
	exec("UPDATE ledger SET seq = 3 WHERE seq = 9")
	found("swapped", 2)
	must(t, s.Close())
}

// The hashes beside the rows are the tree's, for proofs by tlog alone, and the
// writer goes on from them after a start and after a failed write.
func TestTreeIsKeptBesideTheEntries(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "bollard.db")
	s := openAt(t, path, nil)
	for i := range 40 {
		must(t, s.Record(t.Context(), event("server.started")))
		if i%7 == 3 {
			if err := s.Record(t.Context(), event("server.started"), event("")); err == nil {
				t.Fatal("an entry without a kind was taken")
			}
		}
		if i%11 == 5 {
			must(t, s.Close())
			s = openAt(t, path, nil)
		}
	}
	tree, err := s.Tree(t.Context())
	must(t, err)
	sum, err := ledger.Verify(s.Entries(t.Context(), 1))
	must(t, err)
	if sum.Count != 40 || sum.Root != tree.Root() {
		t.Errorf("%d entries with root %v; the tree kept has %d and %v", sum.Count, sum.Root, tree.Size(), tree.Root())
	}
	for e, err := range s.Entries(t.Context(), 1) {
		must(t, err)
		proof, err := tlog.ProveRecord(40, int64(e.Seq-1), s.TreeHashes(t.Context()))
		must(t, err)
		must(t, tlog.CheckRecord(proof, 40, tree.Root(), int64(e.Seq-1), tlog.RecordHash(e.Leaf())))
	}
}

// note is a checkpoint with a signature that nobody checks.
func note(t *testing.T, origin, size string) ledger.Note {
	t.Helper()
	n, err := ledger.ParseNote(origin + "\n" + size + "\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n\u2014 " + origin + " AAAAAAAA\n")
	must(t, err)
	return n
}

func TestCheckpointsAreKept(t *testing.T) {
	t.Parallel()
	s := open(t)
	note := func(origin, size string) ledger.Note { return note(t, origin, size) }
	for _, n := range []ledger.Note{note("a", "9"), note("a", "3"), note("b", "5"), note("a", "9")} {
		must(t, s.PutCheckpoint(t.Context(), n))
	}
	list, err := s.Checkpoints(t.Context())
	if err != nil || !slices.Equal(list, []ledger.Note{note("a", "3"), note("b", "5"), note("a", "9")}) {
		t.Errorf("%v, %v", list, err)
	}
	if n, ok, err := s.NewestCheckpoint(t.Context(), "a"); err != nil || !ok || n.Size != 9 {
		t.Errorf("%v, %v, %v", n, ok, err)
	}
	if _, ok, err := s.NewestCheckpoint(t.Context(), "c"); ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
}

func TestEpochsAndSubjects(t *testing.T) {
	t.Parallel()
	s := open(t)
	first := ledger.Epoch{Number: 1, Origin: "gate/ledger", Key: "k"}
	must(t, s.Record(t.Context(), first.Event("bollard"), event("server.started")))
	second := ledger.Epoch{Number: 2, Origin: "gate/ledger/epoch-2", Key: "k", After: 2}
	must(t, s.Record(t.Context(), second.Event("operator")))
	if list, err := s.Epochs(t.Context()); err != nil || !slices.Equal(list, []ledger.Epoch{first, second}) {
		t.Errorf("%+v, %v", list, err)
	}
	for _, kind := range []string{"certificate.intent", "certificate.issued", "certificate.revoked"} {
		must(t, s.Record(t.Context(), ledger.Event{Kind: kind, Subject: "0a", Actor: "x"}))
	}
	if e, ok, err := s.EntryAbout(t.Context(), "0a"); err != nil || !ok || e.Kind != "certificate.issued" {
		t.Errorf("%+v, %v, %v", e, ok, err)
	}
	if e, ok, err := s.EntryAbout(t.Context(), "gate/ledger"); err != nil || !ok || e.Seq != 1 {
		t.Errorf("%+v, %v, %v", e, ok, err)
	}
	if _, ok, err := s.EntryAbout(t.Context(), "0b"); ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
}

// A database of a schema before the tree is moved into it, once; a chain that
// was altered isn't vouched for.
func TestChainedLedgerBecomesATree(t *testing.T) {
	t.Parallel()
	for _, altered := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "bollard.db")
		must(t, openAt(t, path, nil).Close())
		// Two entries as the chain had them, hashes included.
		rawSQL(t, path, `DROP TABLE ledger; DROP TABLE ledger_checkpoints;
			DELETE FROM goose_db_version WHERE version_id = `+treeMigration+`;
			CREATE TABLE ledger (seq BIGINT PRIMARY KEY, at BIGINT NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL,
				actor TEXT NOT NULL, data TEXT NOT NULL, prev BYTEA NOT NULL, hash BYTEA NOT NULL);
			INSERT INTO ledger VALUES (1, 1795431600123, 'server.started', '', 'bollard', '', zeroblob(32),
				x'b7fa4b9617a0fca23fcf342260c4231131a0f74d3292e98406360bbf9b486da8');
			INSERT INTO ledger VALUES (2, 1795431601123, 'certificate.intent', '0a1b', 'station:cs-1',
				'{"issuer":"csms-issuing","profile":"station"}',
				x'b7fa4b9617a0fca23fcf342260c4231131a0f74d3292e98406360bbf9b486da8',
				x'0fb72ad72967f3d67349a46a2bd8aa327a1c5b098d5e1798ce90860103246275');`)
		if altered {
			rawSQL(t, path, "UPDATE ledger SET actor = 'nobody' WHERE seq = 2")
			for range 2 {
				if _, err := store.Open(t.Context(), store.Config{Path: path}); err == nil || !strings.Contains(err.Error(), "ledger entry 2 was altered") {
					t.Errorf("an altered chain: %v", err)
				}
			}
			continue
		}
		for range 2 {
			s := openAt(t, path, nil)
			var list []ledger.Entry
			for e, err := range s.Entries(t.Context(), 1) {
				must(t, err)
				list = append(list, e)
			}
			must(t, verify(s))
			if len(list) != 3 || list[1].Subject != "0a1b" || list[2].Kind != "ledger.migrated" ||
				list[2].Data["hash"] != "0fb72ad72967f3d67349a46a2bd8aa327a1c5b098d5e1798ce90860103246275" || list[2].Data["entries"] != "2" {
				t.Errorf("%+v", list)
			}
			must(t, s.Close())
		}
	}
}

const treeMigration = "30"

// What is stored is what encoding/json writes, to the byte: an entry that is spelled
// otherwise counts as altered.
func TestDataIsSpelledAsJSON(t *testing.T) {
	t.Parallel()
	texts := []string{"", "SN-0001", "übergroß", "\u2028", "\xff", "a\x7fb", "<&>", `"\`}
	for c := range 128 {
		texts = append(texts, string(rune(c)))
	}
	for _, text := range texts {
		for _, data := range []map[string]string{{text: "v"}, {"k": text}, {"b": "1", text: "2", "a": text}} {
			want, err := json.Marshal(data)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := store.EncodeData(data); err != nil || got != string(want) {
				t.Errorf("%q: %v, %s, want %s", data, err, got, want)
			}
		}
	}
}
