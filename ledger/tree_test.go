package ledger_test

import (
	"encoding/hex"
	"fmt"
	"testing"
	"time"

	"bollard/ledger"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

// The encoding is fixed for ever: a ledger written today is verified by every
// later version.
func TestLeafOfAKnownEntry(t *testing.T) {
	t.Parallel()
	var tree ledger.Tree
	tree.Append(noon, ledger.Event{Kind: "server.started", Actor: "bollard"})
	e := tree.Append(noon.Add(time.Second), ledger.Event{
		Kind: "certificate.intent", Subject: "0a1b", Actor: "station:cs-1",
		Data: map[string]string{"profile": "station", "issuer": "csms-issuing"},
	})
	want := "626f6c6c617264206c65646765722076320a" + // bollard ledger v2\n
		"0000000000000002" + fmt.Sprintf("%016x", noon.UnixMilli()+1000) +
		"00000012" + hex.EncodeToString([]byte("certificate.intent")) +
		"00000004" + hex.EncodeToString([]byte("0a1b")) +
		"0000000c" + hex.EncodeToString([]byte("station:cs-1")) +
		"00000002" +
		"00000006" + hex.EncodeToString([]byte("issuer")) + "0000000c" + hex.EncodeToString([]byte("csms-issuing")) +
		"00000007" + hex.EncodeToString([]byte("profile")) + "00000007" + hex.EncodeToString([]byte("station"))
	if got := hex.EncodeToString(e.Leaf()); got != want {
		t.Errorf("leaf %s\nwant %s", got, want)
	}
	if e.Hashes[0] != tlog.RecordHash(e.Leaf()) || len(e.Hashes) != 2 {
		t.Errorf("hashes %v", e.Hashes)
	}
	if want := time.Date(2026, 11, 23, 11, 0, 1, 123_000_000, time.UTC); !e.Time.Equal(want) || e.Time.Location() != time.UTC {
		t.Errorf("time %v, want %v", e.Time, want)
	}
}

// Moving a byte from one part to the next must change the hash.
func TestLeafIsUnambiguous(t *testing.T) {
	t.Parallel()
	seen := map[tlog.Hash]string{}
	for name, event := range map[string]ledger.Event{
		"plain":          {Kind: "a.b", Subject: "cd", Actor: "e"},
		"kind longer":    {Kind: "a.bc", Subject: "d", Actor: "e"},
		"actor longer":   {Kind: "a.b", Subject: "c", Actor: "de"},
		"pair":           {Kind: "a.b", Subject: "cd", Actor: "e", Data: map[string]string{"x": "yz"}},
		"key longer":     {Kind: "a.b", Subject: "cd", Actor: "e", Data: map[string]string{"xy": "z"}},
		"two pairs":      {Kind: "a.b", Subject: "cd", Actor: "e", Data: map[string]string{"x": "y", "z": ""}},
		"pairs switched": {Kind: "a.b", Subject: "cd", Actor: "e", Data: map[string]string{"x": "", "z": "y"}},
	} {
		hash := new(ledger.Tree).Append(noon, event).LeafHash()
		if other, ok := seen[hash]; ok {
			t.Errorf("%s and %s have one hash", name, other)
		}
		seen[hash] = name
	}
}

// tlog's own storage of the same leaves has the same hashes in the same places
// and the same root, at every size, whether the tree was kept or loaded.
func TestTreeIsTheOneOfTlog(t *testing.T) {
	t.Parallel()
	const most = 140
	var (
		stored []tlog.Hash // by tlog's index
		tree   ledger.Tree
		rows   [][]tlog.Hash
	)
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var list []tlog.Hash
		for _, i := range indexes {
			list = append(list, stored[i])
		}
		return list, nil
	})
	kept := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var list []tlog.Hash
		for _, i := range indexes {
			seq, at := ledger.Place(i)
			list = append(list, rows[seq-1][at])
		}
		return list, nil
	})
	for n := range int64(most) {
		e := tree.Append(noon, ledger.Event{Kind: "a.b", Actor: "x"})
		more, err := tlog.StoredHashes(n, e.Leaf(), reader)
		must(t, err)
		stored, rows = append(stored, more...), append(rows, e.Hashes)
		root, err := tlog.TreeHash(n+1, reader)
		must(t, err)
		loaded, err := ledger.LoadTree(uint64(n+1), kept)
		must(t, err)
		if tree.Root() != root || loaded.Root() != root || loaded.Size() != tree.Size() {
			t.Fatalf("size %d: root %v, loaded %v, tlog's %v", n+1, tree.Root(), loaded.Root(), root)
		}
		a, b := loaded.Append(noon, e.Event), rows
		if n+1 < most && len(b) > 0 && a.Seq != uint64(n+2) {
			t.Fatalf("the loaded tree goes on at %d", a.Seq)
		}
	}
	for i := range stored {
		got, err := kept.ReadHashes([]int64{int64(i)})
		must(t, err)
		if got[0] != stored[i] {
			t.Fatalf("hash %d isn't the one tlog stores", i)
		}
	}
}

func TestEmptyTree(t *testing.T) {
	t.Parallel()
	want, err := tlog.TreeHash(0, nil)
	must(t, err)
	if got := new(ledger.Tree).Root(); got != want {
		t.Errorf("root %v, want %v", got, want)
	}
	sum, err := ledger.Verify(sequence(nil))
	if err != nil || sum.Count != 0 || sum.Root != want {
		t.Errorf("%+v, %v", sum, err)
	}
}

func TestVerifyAcceptsEveryLedger(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b := newBook(t)
		early := b.checkpoint(t)
		b.random(t, 0)
		late := b.checkpoint(t)
		sum, err := ledger.Verify(sequence(b.entries), late, early)
		if err != nil {
			t.Fatal(err)
		}
		last := b.entries[len(b.entries)-1]
		if sum.Count != last.Seq || sum.Root != b.tree.Root() || !sum.LastTime.Equal(last.Time) || !sum.FirstTime.Equal(b.entries[0].Time) || len(sum.Epochs) != 1 || sum.Epochs[0] != b.epoch {
			t.Fatalf("%+v", sum)
		}
	})
}
