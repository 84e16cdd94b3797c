package ledger_test

import (
	"encoding/hex"
	"iter"
	"testing"
	"time"

	"bollard/ledger"

	"pgregory.net/rapid"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 123_456_789, time.FixedZone("", 3600))

// The encoding is fixed for ever: a ledger written today is verified by every
// later version.
func TestDigestOfKnownEntries(t *testing.T) {
	t.Parallel()
	first := ledger.Next(ledger.Entry{}, noon, ledger.Event{Kind: "server.started", Actor: "bollard"})
	second := ledger.Next(first, noon.Add(time.Second), ledger.Event{
		Kind: "certificate.intent", Subject: "0a1b", Actor: "station:cs-1",
		Data: map[string]string{"profile": "station", "issuer": "csms-issuing"},
	})
	for _, test := range []struct {
		name  string
		entry ledger.Entry
		want  string
	}{
		{"first", first, "b7fa4b9617a0fca23fcf342260c4231131a0f74d3292e98406360bbf9b486da8"},
		{"second", second, "0fb72ad72967f3d67349a46a2bd8aa327a1c5b098d5e1798ce90860103246275"},
	} {
		if got := hex.EncodeToString(test.entry.Hash[:]); got != test.want {
			t.Errorf("%s: hash %s, want %s", test.name, got, test.want)
		}
	}
	if second.Seq != 2 || second.Prev != first.Hash {
		t.Errorf("second entry doesn't continue the first: %+v", second)
	}
	if want := time.Date(2026, 11, 23, 11, 0, 0, 123_000_000, time.UTC); !first.Time.Equal(want) || first.Time.Location() != time.UTC {
		t.Errorf("time %v, want %v", first.Time, want)
	}
}

// Moving a byte from one part to the next must change the hash.
func TestDigestIsUnambiguous(t *testing.T) {
	t.Parallel()
	seen := map[[32]byte]string{}
	for name, event := range map[string]ledger.Event{
		"plain":          {Kind: "a.b", Subject: "cd", Actor: "e"},
		"kind longer":    {Kind: "a.bc", Subject: "d", Actor: "e"},
		"actor longer":   {Kind: "a.b", Subject: "c", Actor: "de"},
		"pair":           {Kind: "a.b", Subject: "cd", Actor: "e", Data: map[string]string{"x": "yz"}},
		"key longer":     {Kind: "a.b", Subject: "cd", Actor: "e", Data: map[string]string{"xy": "z"}},
		"two pairs":      {Kind: "a.b", Subject: "cd", Actor: "e", Data: map[string]string{"x": "y", "z": ""}},
		"pairs switched": {Kind: "a.b", Subject: "cd", Actor: "e", Data: map[string]string{"x": "", "z": "y"}},
	} {
		hash := ledger.Next(ledger.Entry{}, noon, event).Hash
		if other, ok := seen[hash]; ok {
			t.Errorf("%s and %s have one hash", name, other)
		}
		seen[hash] = name
	}
}

func TestNextKeepsNoReferenceToTheCallersData(t *testing.T) {
	t.Parallel()
	data := map[string]string{"reason": "superseded"}
	entry := ledger.Next(ledger.Entry{}, noon, ledger.Event{Kind: "a.b", Actor: "x", Data: data})
	data["reason"] = "keyCompromise"
	if entry.Digest() != entry.Hash {
		t.Error("the caller's later change reached the entry")
	}
}

// chain draws a chain of events with at least length entries.
func chain(t *rapid.T, length int) []ledger.Entry {
	word := rapid.StringMatching(`[a-z]{1,6}`)
	var list []ledger.Entry
	prev := ledger.Entry{}
	for range rapid.IntRange(length, 12).Draw(t, "entries") {
		prev = ledger.Next(prev, noon.Add(time.Duration(rapid.IntRange(-5000, 5000).Draw(t, "ms"))*time.Millisecond), ledger.Event{
			Kind:    word.Draw(t, "noun") + "." + word.Draw(t, "verb"),
			Subject: word.Draw(t, "subject"),
			Actor:   word.Draw(t, "actor"),
			Data:    rapid.MapOfN(word, word, 0, 3).Draw(t, "data"),
		})
		list = append(list, prev)
	}
	return list
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
