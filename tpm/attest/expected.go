package attest

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Expected is what the registers of a machine are that booted what it was given; one
// that isn't named may be anything.
type Expected struct {
	Values map[int][][]byte // by register: one of these
	// Events are the digests of all that is measured into a register: each at least once,
	// nothing else, in any order. A log has to tell of them.
	Events map[int][][]byte
}

// Indexes of the registers it says something of, in rising order.
func (e Expected) Indexes() []int {
	list := slices.AppendSeq(slices.Collect(maps.Keys(e.Values)), maps.Keys(e.Events))
	slices.Sort(list)
	return slices.Compact(list)
}

// Judge says whether the registers of a quote that was verified are what is expected: a
// register that isn't quoted is wrong. A log that comes has to tell of all that are
// quoted, whether it is needed or not.
func (e Expected) Judge(r Registers, log []byte) error {
	var wrong []string
	for _, i := range slices.Sorted(maps.Keys(e.Values)) {
		got, quoted := r[i]
		if !quoted || !slices.ContainsFunc(e.Values[i], func(v []byte) bool { return bytes.Equal(v, got) }) {
			wrong = append(wrong, strconv.Itoa(i))
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("%w: %s", ErrRegister, strings.Join(wrong, ", "))
	}
	if len(log) == 0 && len(e.Events) == 0 {
		return nil
	}
	events, err := replay(log, r)
	if err != nil {
		return err
	}
	for _, i := range slices.Sorted(maps.Keys(e.Events)) {
		seen := map[string]bool{}
		for _, ev := range events {
			if ev.Index != i {
				continue
			}
			if !slices.ContainsFunc(e.Events[i], func(v []byte) bool { return bytes.Equal(v, ev.Digest) }) {
				return fmt.Errorf("%w: something was measured into %d that doesn't belong there, %x", ErrRegister, i, ev.Digest)
			}
			seen[string(ev.Digest)] = true
		}
		if missing := len(e.Events[i]) - len(seen); missing > 0 {
			return fmt.Errorf("%w: %d of what belongs into %d weren't measured", ErrRegister, missing, i)
		}
	}
	return nil
}
