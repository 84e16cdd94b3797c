package ledger_test

import (
	"crypto/ed25519"
	"iter"
	"testing"
	"time"

	"bollard/ledger"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 123_456_789, time.FixedZone("", 3600))

const origin = "gate.example/ledger/0a1b2c3d"

// book is a ledger in memory, with the key that signs it.
type book struct {
	tree    ledger.Tree
	entries []ledger.Entry
	signer  *ledger.Signer
	epoch   ledger.Epoch
}

// newBook begins with the entry that opens the first epoch.
func newBook(t interface{ Fatal(...any) }) *book {
	vkey, err := ledger.VerifierKey(origin, bookKey().Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	b := &book{signer: signerOf(t, origin), epoch: ledger.Epoch{Number: 1, Origin: origin, Key: vkey}}
	b.add(b.epoch.Event("bollard"))
	return b
}

func (b *book) add(events ...ledger.Event) {
	for _, e := range events {
		b.entries = append(b.entries, b.tree.Append(noon, e))
	}
}

// grow adds events until there are n entries.
func (b *book) grow(n int) *book {
	for len(b.entries) < n {
		b.add(ledger.Event{Kind: "a.b", Actor: "x", Subject: string(rune('a' + len(b.entries)%26))})
	}
	return b
}

func bookKey() ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte("0123456789abcdef0123456789abcdef"))
}

func signerOf(t interface{ Fatal(...any) }, origin string) *ledger.Signer {
	key := bookKey()
	signer, err := ledger.NewSigner(origin, key.Public().(ed25519.PublicKey), func(m []byte) ([]byte, error) { return ed25519.Sign(key, m), nil })
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// checkpoint is of the newest epoch.
func (b *book) checkpoint(t interface{ Fatal(...any) }) ledger.Note {
	n, err := ledger.Checkpoint{Origin: b.epoch.Origin, Size: b.tree.Size(), Root: b.tree.Root()}.Sign(signerOf(t, b.epoch.Origin))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// random adds events drawn by rapid.
func (b *book) random(t *rapid.T, least int) *book {
	word := rapid.StringMatching(`[a-z]{1,6}`)
	for range rapid.IntRange(least, 20).Draw(t, "entries") {
		at := noon.Add(time.Duration(rapid.IntRange(-5000, 5000).Draw(t, "ms")) * time.Millisecond)
		b.entries = append(b.entries, b.tree.Append(at, ledger.Event{
			Kind:    word.Draw(t, "noun") + "." + word.Draw(t, "verb"),
			Subject: word.Draw(t, "subject"),
			Actor:   word.Draw(t, "actor"),
			Data:    rapid.MapOfN(word, word, 0, 3).Draw(t, "data"),
		}))
	}
	return b
}

func sequence(list []ledger.Entry) iter.Seq2[ledger.Entry, error] {
	return func(yield func(ledger.Entry, error) bool) {
		for _, e := range list {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// hashes reads the tree's hashes from the entries that keep them.
func (b *book) hashes() tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var list []tlog.Hash
		for _, i := range indexes {
			seq, at := ledger.Place(i)
			list = append(list, b.entries[seq-1].Hashes[at])
		}
		return list, nil
	})
}
