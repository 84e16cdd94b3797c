// Package extent knows which parts of a file are there.
//
// It promises that pieces in any order, also such that overlap, add up to the parts
// they cover, and that no two of these touch.
package extent

import (
	"cmp"
	"slices"
)

// Set is the parts of a file. The zero value has none.
type Set struct {
	parts []part // in order, apart from each other
	bytes int64
}

type part struct{ from, to int64 }

// Add has what is from one place to before another.
func (s *Set) Add(from, to int64) {
	if from >= to {
		return
	}
	// Those it touches become one with it.
	first, _ := slices.BinarySearchFunc(s.parts, from, func(p part, at int64) int { return cmp.Compare(p.to, at) })
	end := first
	for end < len(s.parts) && s.parts[end].from <= to {
		s.bytes -= s.parts[end].to - s.parts[end].from
		from, to = min(from, s.parts[end].from), max(to, s.parts[end].to)
		end++
	}
	s.parts = slices.Replace(s.parts, first, end, part{from, to})
	s.bytes += to - from
}

// Parts is how many there are, with gaps between them.
func (s *Set) Parts() int { return len(s.parts) }

// Bytes is how many are there, each counted once.
func (s *Set) Bytes() int64 { return s.bytes }

// Whole says whether every byte of a file of that size is there, and none beyond.
func (s *Set) Whole(size int64) bool {
	return size == 0 && len(s.parts) == 0 || len(s.parts) == 1 && s.parts[0] == part{0, size}
}
