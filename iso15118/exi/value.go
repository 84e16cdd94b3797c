package exi

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/bits"
	"slices"
	"unicode/utf8"
)

// kind is how a value is written (EXI 1.0 §7.1).
type kind uint8

const (
	kindText    kind = iota // string, anyURI, ID and their restrictions
	kindEnum                // index in the schema's order
	kindBytes               // base64Binary and hexBinary
	kindBool                // one bit
	kindSmall               // integer of at most 4,096 values: a fixed number of bits (EXI 1.0 §7.1.9)
	kindNatural             // integer whose lower bound isn't negative
	kindInteger             // any other integer that fits 64 bits
	kindBig                 // xs:integer
)

// maxBigBits bounds xs:integer, which has no bound: serial numbers have at most
// 20 octets (RFC 5280 §4.1.2.2), some real ones a few more.
const maxBigBits = 512

// simple is a simple type with its facets.
type simple struct {
	kind     kind
	min, max int64    // integers: the range; text: code points; bytes: octets. max 0 of text and bytes: no bound
	names    []string // of an enumeration
}

// width of an event code or index out of n.
func width(n int) int { return bits.Len(uint(n - 1)) }

// check refuses what the type doesn't allow, whichever way it goes.
func (t *simple) check(v any) error {
	switch t.kind {
	case kindText:
		s, ok := v.(string)
		if !ok {
			return wants("text", v)
		}
		return t.checkText(s)
	case kindEnum:
		s, ok := v.(string)
		if !ok {
			return wants("a name", v)
		}
		if !slices.Contains(t.names, s) {
			return fmt.Errorf("%q is none of the values the schema has", s)
		}
	case kindBytes:
		b, ok := v.([]byte)
		if !ok {
			return wants("bytes", v)
		}
		return t.length(uint64(len(b)), "bytes")
	case kindBool:
		if _, ok := v.(bool); !ok {
			return wants("true or false", v)
		}
	case kindSmall, kindInteger:
		n, ok := v.(int64)
		if !ok {
			return wants("an integer", v)
		}
		if n < t.min || n > t.max {
			return fmt.Errorf("%d isn't within %d and %d", n, t.min, t.max)
		}
	case kindNatural:
		n, err := natural(v)
		if err != nil {
			return err
		}
		if n < uint64(t.min) || t.max > 0 && n > uint64(t.max) {
			return fmt.Errorf("%d isn't within %d and %d", n, t.min, t.max)
		}
	case kindBig:
		n, ok := integer(v)
		if !ok {
			return wants("an integer", v)
		}
		if n.BitLen() > maxBigBits {
			return fmt.Errorf("an integer of more than %d bits", maxBigBits)
		}
	}
	return nil
}

func wants(what string, v any) error {
	if v == nil {
		return fmt.Errorf("it has no value, it wants %s", what)
	}
	return fmt.Errorf("it wants %s", what)
}

// length checks the number of code points or octets. Encoders disagree on empty
// content, so that no digest over it is safe: it is refused.
func (t *simple) length(n uint64, unit string) error {
	switch {
	case n == 0:
		return errors.New("it is empty")
	case n < uint64(t.min):
		return fmt.Errorf("%d %s, at least %d are wanted", n, unit, t.min)
	case t.max > 0 && n > uint64(t.max):
		return fmt.Errorf("%d %s, at most %d are allowed", n, unit, t.max)
	}
	return nil
}

func (t *simple) checkText(s string) error {
	if !utf8.ValidString(s) {
		return errors.New("it isn't UTF-8")
	}
	for _, r := range s {
		if !xmlChar(r) {
			return fmt.Errorf("character U+%04X isn't allowed in XML", r)
		}
	}
	return t.length(uint64(utf8.RuneCountInString(s)), "characters")
}

// xmlChar reports whether XML 1.0 §2.2 allows the character.
func xmlChar(r rune) bool {
	switch {
	case r == '\t', r == '\n', r == '\r':
		return true
	case r < ' ', r >= 0xd800 && r <= 0xdfff, r == 0xfffe, r == 0xffff:
		return false
	}
	return r <= utf8.MaxRune
}

// natural is an integer that isn't negative and fits 64 bits.
func natural(v any) (uint64, error) {
	n, ok := integer(v)
	if !ok {
		return 0, wants("an integer", v)
	}
	if !n.IsUint64() {
		return 0, fmt.Errorf("%s isn't within 0 and %d", n, uint64(math.MaxUint64))
	}
	return n.Uint64(), nil
}

func integer(v any) (*big.Int, bool) {
	switch v := v.(type) {
	case int64:
		return big.NewInt(v), true
	case *big.Int:
		return v, v != nil
	}
	return nil, false
}

// number is how integers are kept: int64 if it fits.
func number(n *big.Int) any {
	if n.IsInt64() {
		return n.Int64()
	}
	return n
}

// encode writes a value that check has let pass.
func (t *simple) encode(w *bitWriter, v any) {
	switch t.kind {
	case kindText:
		s := v.(string)
		// 0 and 1 would be hits of the string table, which isn't used.
		w.unsigned(uint64(utf8.RuneCountInString(s)) + 2)
		for _, r := range s {
			w.unsigned(uint64(r))
		}
	case kindEnum:
		w.write(uint32(slices.Index(t.names, v.(string))), width(len(t.names)))
	case kindBytes:
		b := v.([]byte)
		w.unsigned(uint64(len(b)))
		w.octets(b)
	case kindBool:
		var bit uint32
		if v.(bool) {
			bit = 1
		}
		w.write(bit, 1)
	case kindSmall:
		w.write(uint32(v.(int64)-t.min), width(int(t.max-t.min)+1))
	case kindNatural:
		n, _ := natural(v)
		w.unsigned(n)
	case kindInteger, kindBig:
		n, _ := integer(v)
		if n.Sign() < 0 {
			w.write(1, 1)
			n = new(big.Int).Not(n) // -n-1
		} else {
			w.write(0, 1)
		}
		w.bigUnsigned(n)
	}
}

// decode reads a value and checks it.
func (t *simple) decode(r *bitReader) (any, error) {
	v, err := t.read(r)
	if err != nil {
		return nil, err
	}
	return v, t.check(v)
}

func (t *simple) read(r *bitReader) (any, error) {
	switch t.kind {
	case kindText:
		return t.readText(r)
	case kindEnum:
		i, err := r.read(width(len(t.names)))
		if err != nil {
			return nil, err
		}
		if int(i) >= len(t.names) {
			return nil, fmt.Errorf("value %d of %d", i, len(t.names))
		}
		return t.names[i], nil
	case kindBytes:
		n, err := r.unsigned()
		if err != nil {
			return nil, err
		}
		if err := t.length(n, "bytes"); err != nil {
			return nil, err
		}
		if n > uint64(r.left()) {
			return nil, errEnd
		}
		return r.octets(int(n))
	case kindBool:
		bit, err := r.read(1)
		return bit == 1, err
	case kindSmall:
		n, err := r.read(width(int(t.max-t.min) + 1))
		return int64(n) + t.min, err
	case kindNatural:
		n, err := r.unsigned()
		return number(new(big.Int).SetUint64(n)), err
	}
	limit := maxBigBits
	if t.kind == kindInteger {
		limit = 63
	}
	sign, err := r.read(1)
	if err != nil {
		return nil, err
	}
	n, err := r.bigUnsigned(limit)
	if err != nil {
		return nil, err
	}
	if sign == 1 {
		n.Not(n)
	}
	return number(n), nil
}

func (t *simple) readText(r *bitReader) (any, error) {
	n, err := r.unsigned()
	if err != nil {
		return nil, err
	}
	if n < 2 {
		return nil, errors.New("a hit in the string table, which ISO 15118 has no use of ([V2G2-600])")
	}
	n -= 2
	if err := t.length(n, "characters"); err != nil {
		return nil, err
	}
	if n > uint64(r.left()) { // each takes a byte or more
		return nil, errEnd
	}
	out := make([]byte, 0, n)
	for range n {
		c, err := r.unsigned()
		if err != nil {
			return nil, err
		}
		if c > utf8.MaxRune || !xmlChar(rune(c)) {
			return nil, fmt.Errorf("character U+%04X isn't allowed in XML", c)
		}
		out = utf8.AppendRune(out, rune(c))
	}
	return string(out), nil
}
