package ledger_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"bollard/ledger"

	"pgregory.net/rapid"
)

func TestVerifyAcceptsEveryChain(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		list := chain(t, 0)
		sum, err := ledger.Verify(sequence(list))
		if err != nil {
			t.Fatal(err)
		}
		if sum.Count != uint64(len(list)) {
			t.Fatalf("%d entries counted, want %d", sum.Count, len(list))
		}
		if len(list) == 0 {
			return
		}
		first, last := list[0], list[len(list)-1]
		want := ledger.Summary{
			Count: uint64(len(list)), FirstSeq: 1, FirstTime: first.Time,
			LastSeq: last.Seq, LastTime: last.Time, LastHash: last.Hash,
		}
		if sum != want {
			t.Fatalf("summary %+v, want %+v", sum, want)
		}
		cut := rapid.IntRange(0, len(list)-1).Draw(t, "checkpoint")
		if _, err := ledger.VerifyAfter(list[cut], sequence(list[cut+1:])); err != nil {
			t.Fatalf("after checkpoint %d: %v", cut+1, err)
		}
	})
}

// Promise 15: any single change but a cut tail is found.
func TestVerifyFindsEverySingleMutation(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		list := chain(t, 3)
		at := rapid.IntRange(0, len(list)-1).Draw(t, "at")
		mutation := rapid.SampledFrom([]string{"flip", "forge", "drop", "swap", "repeat", "insert"}).Draw(t, "mutation")
		firstBad := at
		switch mutation {
		case "flip":
			flip(t, &list[at])
		case "forge": // with a hash that fits: the next entry shows it
			if at == len(list)-1 {
				at--
			}
			firstBad = at + 1
			forged := list[at]
			forged.Actor += "x"
			forged.Hash = forged.Digest()
			list[at] = forged
		case "drop":
			if at == len(list)-1 {
				at-- // else it were a cut tail
			}
			firstBad = at
			list = slices.Delete(list, at, at+1)
		case "swap":
			other := (at + 1) % len(list)
			firstBad = min(at, other)
			list[at], list[other] = list[other], list[at]
		case "repeat":
			firstBad = at + 1
			list = slices.Insert(list, at, list[at])
		case "insert": // somebody else's entry, sound in itself
			alien := ledger.Next(list[at], noon, ledger.Event{Kind: "alien.entry", Actor: "alien"})
			alien.Seq = list[at].Seq
			alien.Hash = alien.Digest()
			list = slices.Insert(list, at, alien)
		}
		sum, err := ledger.Verify(sequence(list))
		var broken *ledger.BrokenError
		if !errors.As(err, &broken) {
			t.Fatalf("%s at %d: %v", mutation, at, err)
		}
		if broken.Want != uint64(firstBad+1) || sum.Count != uint64(firstBad) {
			t.Fatalf("%s at %d: first bad place %d after %d sound entries, want %d: %v", mutation, at, broken.Want, sum.Count, firstBad+1, err)
		}
	})
}

// flip changes one fact of an entry and leaves its hash, or flips the hash.
func flip(t *rapid.T, e *ledger.Entry) {
	bit := rapid.IntRange(0, 255).Draw(t, "bit")
	data := map[string]string{"added": "x"}
	for k, v := range e.Data {
		data[k] = v
	}
	switch rapid.IntRange(0, 7).Draw(t, "field") {
	case 0:
		e.Seq ^= 1 << (bit % 64)
	case 1:
		e.Time = e.Time.Add(time.Millisecond)
	case 2:
		e.Kind += "x"
	case 3:
		e.Subject += "x"
	case 4:
		e.Actor += "x"
	case 5:
		e.Data = data
	case 6:
		e.Prev[bit/8] ^= 1 << (bit % 8)
	case 7:
		e.Hash[bit/8] ^= 1 << (bit % 8)
	}
}

func TestVerifyNamesTheProblem(t *testing.T) {
	t.Parallel()
	list := []ledger.Entry{}
	prev := ledger.Entry{}
	for range 4 {
		prev = ledger.Next(prev, noon, ledger.Event{Kind: "a.b", Actor: "x"})
		list = append(list, prev)
	}
	altered := slices.Clone(list)
	altered[1].Actor = "y"
	replaced := slices.Clone(list)
	replaced[1].Actor = "y"
	replaced[1].Hash = replaced[1].Digest()
	for _, test := range []struct {
		name string
		list []ledger.Entry
		want ledger.BrokenError
		text string
	}{
		{"altered", altered, ledger.BrokenError{Seq: 2, Want: 2, Problem: ledger.Altered}, "ledger entry 2 was altered: its hash isn't that of its content"},
		{"gap", slices.Delete(slices.Clone(list), 1, 3), ledger.BrokenError{Seq: 4, Want: 2, Problem: ledger.Gap}, "ledger entry 4 stands where entry 2 belongs: entries are missing"},
		{"first missing", list[1:], ledger.BrokenError{Seq: 2, Want: 1, Problem: ledger.Gap}, "ledger entry 2 stands where entry 1 belongs: entries are missing"},
		{"repeated", slices.Insert(slices.Clone(list), 2, list[0]), ledger.BrokenError{Seq: 1, Want: 3, Problem: ledger.Reordered}, "ledger entry 1 stands where entry 3 belongs: entries were reordered or repeated"},
		{"replaced", replaced, ledger.BrokenError{Seq: 3, Want: 3, Problem: ledger.Unlinked}, "ledger entry 3 doesn't continue entry 2: an entry was replaced"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := ledger.Verify(sequence(test.list))
			var broken *ledger.BrokenError
			if !errors.As(err, &broken) || *broken != test.want {
				t.Fatalf("got %v, want %+v", err, test.want)
			}
			if err.Error() != test.text {
				t.Errorf("text %q, want %q", err, test.text)
			}
		})
	}
}

// What only a checkpoint kept elsewhere shows.
func TestCutTailNeedsACheckpoint(t *testing.T) {
	t.Parallel()
	first := ledger.Next(ledger.Entry{}, noon, ledger.Event{Kind: "a.b", Actor: "x"})
	second := ledger.Next(first, noon, ledger.Event{Kind: "a.b", Actor: "x"})
	sum, err := ledger.Verify(sequence([]ledger.Entry{first}))
	if err != nil {
		t.Fatal(err)
	}
	if sum.LastSeq == second.Seq || sum.LastHash == second.Hash {
		t.Error("the summary doesn't tell the cut chain from the whole one")
	}
}

func TestVerifyPassesOnReadErrors(t *testing.T) {
	t.Parallel()
	disk := errors.New("disk on fire")
	_, err := ledger.Verify(func(yield func(ledger.Entry, error) bool) { yield(ledger.Entry{}, disk) })
	if !errors.Is(err, disk) {
		t.Errorf("got %v", err)
	}
}
