package store_test

import (
	"bytes"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bollard/approval"
	"bollard/approval/docket"
	"bollard/ledger"
	"bollard/store"
)

const person = "zoe-the-operator"

func forgotten(pseudonym string) ledger.Event {
	return ledger.Event{Kind: "ledger.forgot", Subject: pseudonym, Actor: "operator:" + person}
}

// entry is the newest of a kind.
func entry(t *testing.T, s *store.Store, kind string) ledger.Entry {
	t.Helper()
	var found ledger.Entry
	for e, err := range s.Entries(t.Context(), 1) {
		must(t, err)
		if e.Kind == kind {
			found = e
		}
	}
	return found
}

func TestPeopleHavePseudonymsInTheLedger(t *testing.T) {
	t.Parallel()
	s := open(t)
	must(t, s.Record(t.Context(),
		ledger.Event{Kind: "station.added", Actor: "operator:" + person},
		ledger.Event{Kind: "approval.signed", Actor: "operator:root", Data: map[string]string{"by": person}, People: []string{"by"}}))
	pseudonym, err := s.Pseudonym(t.Context(), person)
	must(t, err)
	if e := entry(t, s, "station.added"); e.Actor != "operator:"+pseudonym {
		t.Errorf("actor %q, want operator:%s", e.Actor, pseudonym)
	}
	if e := entry(t, s, "approval.signed"); e.Data["by"] != pseudonym || strings.Contains(e.Actor, "root") {
		t.Errorf("%+v", e)
	}
	record := intent("0a")
	record.Requester = "operator:" + person
	must(t, s.PutIntent(t.Context(), record, event("certificate.intent")))
	if r, err := s.Certificate(t.Context(), "0a"); err != nil || r.Requester != "operator:"+pseudonym {
		t.Errorf("the certificate was asked for by %q, %v", r.Requester, err)
	}
	if _, err := s.Pseudonym(t.Context(), "nobody"); !errors.Is(err, ledger.ErrNobody) {
		t.Errorf("somebody who did nothing: %v", err)
	}
}

// After Forget no file of the database has the name or the key, the entries are
// what they were, and the person's next deed can't be tied to the ones before.
func TestForgetLeavesNothingOfAPerson(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "bollard.db")
	s := reopen(t, path)
	must(t, s.Record(t.Context(), ledger.Event{Kind: "station.added", Actor: "operator:" + person}))
	must(t, s.AddMatter(t.Context(), matter("n1", noon.Add(-time.Hour)), event("approval.requested")))
	must(t, s.PutIntent(t.Context(), intent("0a"), event("certificate.intent")))
	rawSQL(t, path, "UPDATE certificates SET requester = 'operator:"+person+"'") // as older versions wrote it
	before := entry(t, s, "station.added")
	key := keyOfPerson(t, path)
	if len(found(t, path, key)) == 0 || len(found(t, path, []byte(person))) == 0 {
		t.Fatal("the key and the name aren't in the files: the test sees nothing")
	}
	pseudonym, err := s.Forget(t.Context(), person, forgotten)
	must(t, err)
	for what, bytes := range map[string][]byte{"key": key, "name": []byte(person)} {
		if files := found(t, path, bytes); len(files) > 0 {
			t.Errorf("the %s is in %v", what, files)
		}
	}
	if after := entry(t, s, "station.added"); after.LeafHash() != before.LeafHash() || after.Actor != "operator:"+pseudonym {
		t.Errorf("the entry was %+v and is %+v", before, after)
	}
	kinds(t, s) // verifies
	if e := entry(t, s, "ledger.forgot"); e.Subject != pseudonym || e.Actor != "operator:"+pseudonym || e.Data["approvals"] != "1" {
		t.Errorf("recorded as %+v", e)
	}
	if _, err := s.Forget(t.Context(), person, forgotten); !errors.Is(err, ledger.ErrNobody) {
		t.Errorf("forgotten twice: %v", err)
	}
	must(t, s.Record(t.Context(), ledger.Event{Kind: "station.removed", Actor: "operator:" + person}))
	if e := entry(t, s, "station.removed"); e.Actor == before.Actor {
		t.Error("a later deed has the pseudonym of before")
	}
}

func TestForgetWaitsForOpenApprovals(t *testing.T) {
	t.Parallel()
	s := open(t)
	must(t, s.Record(t.Context(), ledger.Event{Kind: "station.added", Actor: "operator:" + person}))
	must(t, s.AddMatter(t.Context(), matter("n1", noon.Add(time.Hour)), event("approval.requested")))
	if _, err := s.Forget(t.Context(), person, forgotten); !errors.Is(err, store.ErrNeeded) {
		t.Fatalf("with an open approval: %v", err)
	}
	if _, err := s.Pseudonym(t.Context(), person); err != nil {
		t.Errorf("half forgotten: %v", err)
	}
	if e := entry(t, s, "ledger.forgot"); e.Seq != 0 {
		t.Errorf("recorded: %+v", e)
	}
}

func matter(nonce string, expires time.Time) docket.Matter {
	return docket.Matter{Request: approval.Request{Nonce: nonce, Author: "operator:root:" + person, Expires: expires}}
}

func keyOfPerson(t *testing.T, path string) []byte {
	t.Helper()
	db, err := sql.Open("sqlite3", "file:"+path+"?mode=ro")
	must(t, err)
	var key []byte
	must(t, errors.Join(db.QueryRowContext(t.Context(), "SELECT key FROM people WHERE name = ?", person).Scan(&key), db.Close()))
	return key
}

// found are the files of the database that have the bytes.
func found(t *testing.T, path string, text []byte) []string {
	t.Helper()
	var files []string
	for _, suffix := range []string{"", "-wal"} {
		raw, err := os.ReadFile(path + suffix)
		must(t, err)
		if bytes.Contains(raw, text) {
			files = append(files, filepath.Base(path+suffix))
		}
	}
	return files
}
