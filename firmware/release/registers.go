package release

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"bollard/ocpp"
)

// Registers are what the TPM of a station shows that booted a release: platform
// configuration registers in the SHA-256 bank, by number. A register that isn't named
// may be anything.
type Registers struct {
	// SHA256 are the values a register may have, lower-case hex.
	SHA256 map[string][]string `json:"sha256,omitempty"`
	// Events are the digests of all that is measured into a register, in any order, each
	// at least once: for registers that come to another value on each board. It takes the
	// station's event log.
	Events map[string][]string `json:"events,omitempty"`
}

// Bounds of registers: a PC client's TPM has 24, and a register is told by as many
// events as a boot has.
const (
	registerCount                = 24
	maxRegisterValues, maxEvents = 16, 256
	maxRegisters                 = 128 << 10 // bytes of ParseRegisters
)

// ParseRegisters reads what `bollard firmware sign --pcrs` takes: the same as stands in
// a release, in any spelling of JSON, but with nothing unknown and nothing twice.
func ParseRegisters(text []byte) (*Registers, error) {
	if len(text) > maxRegisters {
		return nil, fmt.Errorf("registers have %d bytes, and at most %d are read", len(text), maxRegisters)
	}
	if err := ocpp.DecodeStrict(text, &Registers{}); err != nil {
		return nil, fmt.Errorf(`registers aren't JSON such as {"sha256": {"8": ["HEX"]}, "events": {"9": ["HEX"]}}, with each key once: %w`, err)
	}
	r := &Registers{}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(r); err != nil {
		return nil, fmt.Errorf("couldn't read the registers: %w", err)
	}
	return r, r.check()
}

// Named are the registers of which something is said, in rising order.
func (r *Registers) Named() []int {
	var list []int
	for _, of := range []map[string][]string{r.SHA256, r.Events} {
		for number := range of {
			if n, ok := registerNumber(number); ok && !slices.Contains(list, n) {
				list = append(list, n)
			}
		}
	}
	slices.Sort(list)
	return list
}

// Forgeable says whether whoever runs on a station can bring all registers named to any
// value that a boot gave them, at any time: those of debugging and of applications are
// reset from any locality (TCG PC Client Platform TPM Profile §4.6.2).
func (r *Registers) Forgeable() bool {
	return !slices.ContainsFunc(r.Named(), func(n int) bool { return n != 16 && n != 23 })
}

func (r *Registers) check() error {
	if len(r.SHA256)+len(r.Events) == 0 {
		return errors.New("pcrs: no register is named: leave pcrs out where nothing is demanded")
	}
	for _, of := range []struct {
		field  string
		values map[string][]string
		most   int
	}{{"pcrs sha256", r.SHA256, maxRegisterValues}, {"pcrs events", r.Events, maxEvents}} {
		for _, number := range slices.Sorted(maps.Keys(of.values)) {
			if _, ok := registerNumber(number); !ok {
				return fmt.Errorf("%s: %.40q isn't a register: give 0 to %d", of.field, number, registerCount-1)
			}
			field := of.field + " of register " + number
			list := of.values[number]
			if len(list) == 0 {
				return fmt.Errorf("%s: give at least one, or leave the register out", field)
			}
			if err := distinct(field, list, of.most); err != nil {
				return err
			}
			if slices.ContainsFunc(list, func(v string) bool { return !isHex(v, 32) }) {
				return fmt.Errorf("%s: give SHA-256 in lower-case hex", field)
			}
		}
	}
	return nil
}

// registerNumber reads a register's number in its one spelling.
func registerNumber(text string) (int, bool) {
	n, err := strconv.Atoi(text)
	return n, err == nil && n >= 0 && n < registerCount && strconv.Itoa(n) == text
}
