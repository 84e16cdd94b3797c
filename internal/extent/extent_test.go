package extent_test

import (
	"testing"

	"pgregory.net/rapid"

	"bollard/internal/extent"
)

// Whatever pieces come, the set says what a map of every byte says.
func TestSetIsWhatItsPiecesCover(t *testing.T) {
	t.Parallel()
	const size = 40
	rapid.Check(t, func(t *rapid.T) {
		var s extent.Set
		var there [size + 1]bool // the last stays false
		for range rapid.IntRange(0, 12).Draw(t, "pieces") {
			from := rapid.IntRange(0, size).Draw(t, "from")
			to := rapid.IntRange(from, size).Draw(t, "to")
			s.Add(int64(from), int64(to))
			for i := from; i < to; i++ {
				there[i] = true
			}
		}
		parts, bytes, head := 0, int64(0), int64(0)
		for i, is := range there {
			if is {
				bytes++
				if i == 0 || !there[i-1] {
					parts++
				}
			}
			if is && head == int64(i) {
				head++
			}
		}
		if s.Parts() != parts || s.Bytes() != bytes {
			t.Fatalf("%d parts, %d bytes; want %d and %d", s.Parts(), s.Bytes(), parts, bytes)
		}
		for n := range int64(size + 1) {
			if want := bytes == head && head == n; s.Whole(n) != want {
				t.Fatalf("whole with %d bytes: %v", n, !want)
			}
		}
	})
}
