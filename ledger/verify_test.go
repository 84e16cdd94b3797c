package ledger_test

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"bollard/ledger"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

// Promise 15: any single change is found and its place named; a cut tail, and
// an entry forged together with its hashes, against the checkpoint.
func TestVerifyFindsEverySingleMutation(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b := newBook(t).random(t, 3)
		list, kept := slices.Clone(b.entries), b.checkpoint(t)
		at := rapid.IntRange(0, len(list)-1).Draw(t, "at")
		mutation := rapid.SampledFrom([]string{"flip", "forge", "drop", "swap", "repeat", "insert", "cut"}).Draw(t, "mutation")
		firstBad := at
		switch mutation {
		case "flip":
			flip(t, &list[at])
		case "forge": // with hashes that fit: a later entry shows it, or the checkpoint
			forged := list[at]
			forged.Actor += "x"
			forged.Hashes = slices.Clone(forged.Hashes)
			forged.Hashes[0] = forged.LeafHash()
			list[at] = forged
		case "drop":
			list = slices.Delete(list, at, at+1)
		case "swap":
			other := (at + 1) % len(list)
			firstBad = min(at, other)
			list[at], list[other] = list[other], list[at]
		case "repeat":
			firstBad = at + 1
			list = slices.Insert(list, at, list[at])
		case "insert": // somebody else's entry, sound in itself
			var alien ledger.Tree
			for range list[at].Seq {
				alien.Append(noon, ledger.Event{Kind: "alien.entry", Actor: "alien"})
			}
			list = slices.Insert(list, at, alien.Append(noon, ledger.Event{Kind: "alien.entry", Actor: "alien"}))
			list[at].Seq--
		case "cut":
			list = list[:at]
		}
		sum, err := ledger.Verify(sequence(list), kept)
		var (
			broken *ledger.BrokenError
			lost   *ledger.CheckpointError
		)
		switch {
		case errors.As(err, &broken) && broken.Problem == ledger.Replaced:
			if from, to := int(broken.From)-1, int(broken.Seq)-1; at < from || at > to {
				t.Fatalf("%s at %d: named %d to %d: %v", mutation, at, from, to, err)
			}
		case errors.As(err, &broken):
			if broken.Want != uint64(firstBad+1) || sum.Count != uint64(firstBad) {
				t.Fatalf("%s at %d: first bad place %d after %d sound entries, want %d: %v", mutation, at, broken.Want, sum.Count, firstBad+1, err)
			}
		case errors.As(err, &lost):
			if ok := mutation == "cut" || mutation == "forge" || mutation == "drop" && at == len(list); !ok {
				t.Fatalf("%s at %d was found by the checkpoint only: %v", mutation, at, err)
			}
		default:
			t.Fatalf("%s at %d: %v", mutation, at, err)
		}
	})
}

// flip changes one fact of an entry and leaves its hashes, or flips one of those.
func flip(t *rapid.T, e *ledger.Entry) {
	bit := rapid.IntRange(0, 255).Draw(t, "bit")
	switch rapid.IntRange(0, 6).Draw(t, "field") {
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
		e.Data = maps.Clone(e.Data)
		if e.Data == nil {
			e.Data = map[string]string{}
		}
		e.Data["added"] = "x"
	case 6:
		e.Hashes = slices.Clone(e.Hashes)
		e.Hashes[bit%len(e.Hashes)][bit/8] ^= 1 << (bit % 8)
	}
}

func TestVerifyNamesTheProblem(t *testing.T) {
	t.Parallel()
	list := newBook(t).grow(5).entries
	altered := slices.Clone(list)
	altered[1].Actor = "y"
	replaced := slices.Clone(list)
	replaced[2].Actor = "y"
	replaced[2].Hashes = []tlog.Hash{replaced[2].LeafHash()}
	bare := slices.Clone(list)
	bare[3].Hashes = bare[3].Hashes[:1]
	for _, test := range []struct {
		name string
		list []ledger.Entry
		want ledger.BrokenError
		text string
	}{
		{"altered", altered, ledger.BrokenError{Seq: 2, Want: 2, Problem: ledger.Altered}, "ledger entry 2 was altered: its hash isn't that of its content"},
		{"hash missing", bare, ledger.BrokenError{Seq: 4, Want: 4, Problem: ledger.Altered}, "ledger entry 4 was altered: its hash isn't that of its content"},
		{"gap", slices.Delete(slices.Clone(list), 1, 3), ledger.BrokenError{Seq: 4, Want: 2, Problem: ledger.Gap}, "ledger entry 4 stands where entry 2 belongs: entries are missing"},
		{"first missing", list[1:], ledger.BrokenError{Seq: 2, Want: 1, Problem: ledger.Gap}, "ledger entry 2 stands where entry 1 belongs: entries are missing"},
		{"repeated", slices.Insert(slices.Clone(list), 2, list[0]), ledger.BrokenError{Seq: 1, Want: 3, Problem: ledger.Reordered}, "ledger entry 1 stands where entry 3 belongs: entries were reordered or repeated"},
		{"replaced", replaced, ledger.BrokenError{Seq: 4, Want: 4, From: 3, Problem: ledger.Replaced}, "the tree's hashes kept with ledger entry 4 don't fit: one of the entries 3 to 4 was replaced"},
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

// rewritten is the same ledger with another third entry, sound in itself.
func rewritten(t *testing.T, size int) *book {
	b := newBook(t).grow(2)
	b.add(ledger.Event{Kind: "a.b", Actor: "forger"})
	return b.grow(size)
}

// What only a checkpoint kept elsewhere shows.
func TestCheckpointKeptElsewhere(t *testing.T) {
	t.Parallel()
	b := newBook(t).grow(2)
	two := b.checkpoint(t)
	four := b.grow(4).checkpoint(t)
	six := b.grow(6).checkpoint(t)
	foreign, forged := six, six
	foreign.Origin = "other.example/ledger"
	other := newBook(t)
	forged.Signed = other.checkpoint(t).Signed
	for _, test := range []struct {
		name string
		list []ledger.Entry
		kept []ledger.Note
		want ledger.Problem
		text string
	}{
		{"whole", b.entries, []ledger.Note{six, two, four}, "", ""},
		{"gone on since", b.grow(9).entries, []ledger.Note{six}, "", ""},
		{"no checkpoint", b.entries[:4], nil, "", ""},
		{"cut", b.entries[:5], []ledger.Note{two, six}, ledger.Cut, "the ledger ends at entry 5, before the checkpoint of 6: its tail was cut off"},
		{"cut with the checkpoint beside it", b.entries[:4], []ledger.Note{two, four, six}, ledger.Cut, "the ledger ends at entry 4, before the checkpoint of 6: its tail was cut off"},
		{"all cut", nil, []ledger.Note{two}, ledger.Cut, "the ledger ends at entry 0, before the checkpoint of 2: its tail was cut off"},
		{"rewritten", rewritten(t, 9).entries, []ledger.Note{two, six}, ledger.Rewritten, "the ledger was written anew: of the entries 3 to 6 one isn't what the checkpoint of 6 was made of"},
		{"foreign", b.entries, []ledger.Note{foreign}, ledger.Foreign, "the checkpoint is of another ledger, other.example/ledger"},
		{"foreign and larger", b.entries[:5], []ledger.Note{foreign}, ledger.Foreign, "the checkpoint is of another ledger, other.example/ledger"},
		{"forged", b.entries, []ledger.Note{forged}, ledger.Forged, "the checkpoint of 6 entries isn't signed by the ledger's key"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := ledger.Verify(sequence(test.list), test.kept...)
			if test.want == "" {
				must(t, err)
				return
			}
			var lost *ledger.CheckpointError
			if !errors.As(err, &lost) || lost.Problem != test.want || err.Error() != test.text {
				t.Fatalf("got %v, want %s: %s", err, test.want, test.text)
			}
		})
	}
}

// A restored backup goes on as another epoch: what its old checkpoints said
// beyond the backup is lost, not rewritten, and what they said before stays so.
func TestRestoredLedgerOpensAnEpoch(t *testing.T) {
	t.Parallel()
	old := newBook(t).grow(4)
	four := old.checkpoint(t)
	backup := slices.Clone(old.entries)
	seven := old.grow(7).checkpoint(t)

	next, err := old.epoch.Next(4, "abc")
	must(t, err)
	if next.Origin != origin+"/epoch-2-abc" || next.Number != 2 {
		t.Errorf("%+v", next)
	}
	if third, err := next.Next(9, "def"); err != nil || third.Origin != origin+"/epoch-3-def" {
		t.Errorf("%+v, %v", third, err)
	}
	b := newBook(t).grow(4)
	b.add(next.Event("operator"))
	b.grow(9)
	if !slices.EqualFunc(b.entries[:4], backup, func(a, b ledger.Entry) bool { return a.LeafHash() == b.LeafHash() }) {
		t.Fatal("the rig's ledgers differ")
	}
	sum, err := ledger.Verify(sequence(b.entries), four)
	must(t, err)
	if len(sum.Epochs) != 2 || sum.Epochs[1] != next {
		t.Errorf("epochs %+v", sum.Epochs)
	}
	for _, list := range [][]ledger.Entry{b.entries, b.entries[:5]} { // grown past the lost size, or not yet
		_, err = ledger.Verify(sequence(list), seven)
		if want := "the entries 5 to 7 of the checkpoint were lost when a backup was restored, as entry 5 records"; err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// A backup is restored twice, one after the other: what the first restore told others is
// lost with the second, and isn't taken for its own.
func TestBackupRestoredTwice(t *testing.T) {
	t.Parallel()
	restored := func(tag string, seen ...ledger.Note) *book {
		b := newBook(t).grow(4)
		next, err := b.epoch.Next(4, tag, seen...)
		must(t, err)
		b.epoch = next
		b.add(next.Event("operator"))
		return b
	}
	first := restored("abc").grow(9)
	nine := first.checkpoint(t)
	third, err := first.epoch.Next(9, "ghi")
	must(t, err)
	first.epoch = third
	first.add(third.Event("operator"))
	eleven := first.grow(11).checkpoint(t) // the first restore was backed up and restored, too

	lost := func(b *book, n ledger.Note) string {
		t.Helper()
		if _, err := ledger.Verify(sequence(b.entries), n); err != nil {
			return err.Error()
		}
		t.Fatalf("%s is taken for the ledger's own", n.Origin)
		return ""
	}
	const restoredOver = "the entries 5 to 9 of the checkpoint were lost when a backup was restored, as entry 5 records"
	for _, size := range []int{6, 20} { // grown past what is lost, or not yet
		second := restored("def").grow(size)
		if got := lost(second, nine); got != restoredOver {
			t.Error(got)
		}
		// A later epoch may be the ledger's own, which was set back.
		if got := lost(second, eleven); got != "the checkpoint is of another ledger, "+eleven.Origin {
			t.Error(got)
		}
		if got := lost(restored("def", eleven).grow(size), eleven); got != strings.Replace(restoredOver, "9", "11", 1) {
			t.Error(got)
		}
	}
	// The second may be of a newer backup than the first, and begin after it.
	newer := newBook(t).grow(12)
	if !nine.Later([]ledger.Epoch{newer.epoch}) {
		t.Error("a restore of a newer backup wouldn't know an older one's checkpoint")
	}
	for name, seen := range map[string][]ledger.Note{"unseen": nil, "seen": {nine}} {
		second := &book{tree: newer.tree, entries: slices.Clone(newer.entries)}
		next, err := newer.epoch.Next(12, "def", seen...)
		must(t, err)
		second.add(next.Event("operator"))
		const want = "the last of the 9 entries of the checkpoint, those of " + origin + "/epoch-2-abc, were lost when another backup was restored, as entry 13 records"
		if got := lost(second, nine); got != want {
			t.Errorf("%s: %s", name, got)
		}
		if err := nine.Judge(second.tree.Size(), second.hashes(), []ledger.Epoch{newer.epoch, next}); err == nil || err.Error() != want {
			t.Errorf("%s, judged: %v", name, err)
		}
	}
	if b := newBook(t); !nine.Later([]ledger.Epoch{b.epoch}) || !eleven.Later([]ledger.Epoch{b.epoch}) || b.checkpoint(t).Later([]ledger.Epoch{b.epoch}) {
		t.Error("a restore wouldn't know its own backup's later checkpoints")
	}
	if got := lost(newBook(t).grow(20), nine); got != "the checkpoint is of another ledger, "+nine.Origin {
		t.Errorf("a directory that was set back: %s", got)
	}
	forged := nine
	forged.Signed = strings.Replace(forged.Signed, "\n9\n", "\n8\n", 1)
	if got := lost(restored("def").grow(6), forged); got != "the checkpoint is of another ledger, "+nine.Origin {
		t.Errorf("forged: %s", got)
	}
	if forged.Later([]ledger.Epoch{newBook(t).epoch}) {
		t.Error("forged, and later")
	}
}

func TestJudgeAgreesWithVerify(t *testing.T) {
	t.Parallel()
	b := newBook(t).grow(6)
	six := b.checkpoint(t)
	for name, list := range map[string][]ledger.Entry{
		"whole": b.entries, "gone on": newBook(t).grow(11).entries, "cut": b.entries[:5], "rewritten": rewritten(t, 7).entries,
	} {
		sum, want := ledger.Verify(sequence(list), six)
		if want != nil {
			sum, _ = ledger.Verify(sequence(list))
		}
		got := six.Judge(sum.Count, tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
			var hashes []tlog.Hash
			for _, i := range indexes {
				seq, at := ledger.Place(i)
				hashes = append(hashes, list[seq-1].Hashes[at])
			}
			return hashes, nil
		}), sum.Epochs)
		if (got == nil) != (want == nil) || got != nil && got.Error() != want.Error() {
			t.Errorf("%s: judged %v, verified %v", name, got, want)
		}
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
