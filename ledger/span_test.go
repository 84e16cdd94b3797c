package ledger_test

import (
	"slices"
	"testing"

	"bollard/ledger"

	"pgregory.net/rapid"
)

// Every run of every small ledger is proven, and with few hashes.
func TestSpanProvesEveryRun(t *testing.T) {
	t.Parallel()
	for size := 1; size <= 20; size++ {
		b := newBook(t).grow(size)
		n := b.checkpoint(t)
		for first := 1; first <= size; first++ {
			for last := first; last <= size; last++ {
				s, err := ledger.ProveSpan(uint64(first), uint64(last-first+1), n, b.hashes())
				must(t, err)
				if err := s.Check(b.entries[first-1 : last]); err != nil {
					t.Errorf("entries %d to %d of %d: %v", first, last, size, err)
				}
				if len(s.Hashes) > 2*5 {
					t.Errorf("entries %d to %d of %d need %d hashes", first, last, size, len(s.Hashes))
				}
			}
		}
	}
}

func TestSpanOutsideTheLedger(t *testing.T) {
	t.Parallel()
	b := newBook(t).grow(5)
	n := b.checkpoint(t)
	for _, tt := range []struct{ first, count uint64 }{{0, 1}, {1, 0}, {1, 6}, {6, 1}, {5, 2}, {2, 1<<64 - 1}, {1<<64 - 1, 2}} {
		if _, err := ledger.ProveSpan(tt.first, tt.count, n, b.hashes()); err == nil {
			t.Errorf("%d entries from %d on were proven", tt.count, tt.first)
		}
	}
	for _, first := range []uint64{0, 5, 6, 1<<64 - 1} {
		if err := (ledger.Span{First: first, Note: n}).Check(b.entries[:2]); err == nil {
			t.Errorf("two entries from %d on were taken", first)
		}
	}
}

// Whatever is changed in a proven run is found.
func TestSpanFindsEveryMutation(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b := newBook(t).random(t, 3)
		n := b.checkpoint(t)
		first := rapid.IntRange(1, len(b.entries)-1).Draw(t, "first")
		last := rapid.IntRange(first+1, len(b.entries)).Draw(t, "last")
		s, err := ledger.ProveSpan(uint64(first), uint64(last-first+1), n, b.hashes())
		if err != nil {
			t.Fatal(err)
		}
		run := slices.Clone(b.entries[first-1 : last])
		if err := s.Check(run); err != nil {
			t.Fatal(err)
		}
		at := rapid.IntRange(0, len(run)-1).Draw(t, "at")
		mutations := []string{"subject", "time", "drop", "swap", "repeat", "more hashes", "first", "root"}
		if len(s.Hashes) > 0 { // it isn't the whole ledger
			mutations = append(mutations, "hash", "fewer hashes")
		}
		switch rapid.SampledFrom(mutations).Draw(t, "mutation") {
		case "subject":
			run[at].Subject += "x"
		case "time":
			run[at].Time = run[at].Time.Add(1_000_000)
		case "drop":
			run = slices.Delete(run, at, at+1)
		case "swap":
			run[0], run[1] = run[1], run[0]
		case "repeat":
			run = slices.Insert(run, at, run[at])
		case "hash":
			s.Hashes[len(s.Hashes)-1][0] ^= 1
		case "fewer hashes":
			s.Hashes = s.Hashes[1:]
		case "more hashes":
			s.Hashes = append(s.Hashes, s.Note.Root)
		case "first":
			s.First++
		case "root":
			s.Note.Root[3] ^= 1
		}
		if s.Check(run) == nil {
			t.Error("a changed run was taken")
		}
	})
}
