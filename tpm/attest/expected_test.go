package attest_test

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"testing"

	"bollard/tpm/attest"
)

// Registers are what is expected by their values, or by all that was measured into them
// as a log tells that leads to what they are.
func TestExpected(t *testing.T) {
	t.Parallel()
	digest := func(what string) []byte { d := sha256.Sum256([]byte(what)); return d[:] }
	extended := func(measured ...string) []byte {
		register := make([]byte, sha256.Size)
		for _, what := range measured {
			register = digest(string(register) + string(digest(what)))
		}
		return register
	}
	quoted := attest.Registers{4: extended("loader", "kernel"), 8: extended("image")}
	loader, kernel, image := [2]any{4, "loader"}, [2]any{4, "kernel"}, [2]any{8, "image"}
	log := eventLog(loader, kernel, image)
	value := func(i int, measured ...string) attest.Expected {
		return attest.Expected{Values: map[int][][]byte{i: {digest("another"), extended(measured...)}}}
	}
	events := func(i int, measured ...string) attest.Expected {
		e := attest.Expected{Events: map[int][][]byte{i: {}}}
		for _, what := range measured {
			e.Events[i] = append(e.Events[i], digest(what))
		}
		return e
	}
	both := value(8, "image")
	both.Events = events(4, "kernel", "loader").Events
	if got := both.Indexes(); !slices.Equal(got, []int{4, 8}) {
		t.Errorf("registers %v", got)
	}
	for name, tt := range map[string]struct {
		want attest.Expected
		log  []byte
		kind error
	}{
		"nothing":                          {attest.Expected{}, nil, nil},
		"one of two values":                {value(8, "image"), nil, nil},
		"another value":                    {value(8, "other"), nil, attest.ErrRegister},
		"a value of one that isn't quoted": {value(9), nil, attest.ErrRegister},
		"values and events":                {both, log, nil},
		"events in another order":          {events(4, "kernel", "loader"), log, nil},
		"an event more":                    {events(4, "loader"), log, attest.ErrRegister},
		"an event less":                    {events(4, "loader", "kernel", "more"), log, attest.ErrRegister},
		"events of one that isn't quoted":  {events(9, "loader"), log, attest.ErrRegister},
		"events without a log":             {events(4, "loader", "kernel"), nil, attest.ErrMalformed},
		"events of a log that lies":        {events(4, "loader"), eventLog(loader, image), attest.ErrLog},
		"values with a log that lies":      {value(8, "image"), eventLog(kernel, loader, image), attest.ErrLog},
		"values with a log of its own":     {value(8, "image"), log, nil},
		"something that isn't a log":       {value(8, "image"), bytes.Repeat([]byte{7}, 99), attest.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wants(t, tt.want.Judge(quoted, tt.log), tt.kind)
		})
	}
}
