package ocpp

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// A scanner walks JSON (RFC 8259) once, forwards, without decoding what nobody
// asked for. It accepts exactly what encoding/json accepts, less what is deeper
// than MaxDepth. It does not judge UTF-8: the WebSocket layer has done that.
type scanner struct {
	b []byte
	i int
}

// The faults of a walk. Their texts reach logs and CALLERROR descriptions.
var (
	errSyntax     = errors.New("malformed JSON")
	errCut        = errors.New("JSON ends too early")
	errDepth      = errors.New("JSON is nested too deeply")
	errTrailing   = errors.New("data behind the end of the JSON")
	errSurrogate  = errors.New("string holds a lone surrogate")
	errUTF8       = errors.New("string is not valid UTF-8")
	errLong       = errors.New("string is too long")
	errNUL        = errors.New("string holds U+0000")
	errDuplicate  = errors.New("an object has the same key twice")
	errKeyVariant = errors.New("an object has a key that differs from a known one only by case")
)

// space skips white space. It returns the next byte, 0 at the end: a NUL byte
// is legal nowhere outside strings, so nothing takes it for a token.
func (s *scanner) space() byte {
	s.i = behindSpace(s.b, s.i)
	return at(s.b, s.i)
}

// behindSpace returns where from i on the first byte of b stands that is no white
// space; len(b) if there is none. Most messages have no white space at all.
func behindSpace(b []byte, i int) int {
	for i < len(b) && b[i] <= ' ' && (b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r') {
		i++
	}
	return i
}

// at is the byte at i, or 0 behind the end.
func at(b []byte, i int) byte {
	if i < len(b) {
		return b[i]
	}
	return 0
}

// fault tells a truncated text from a wrong one.
func (s *scanner) fault() error { return faultAt(s.b, s.i) }

func faultAt(b []byte, i int) error {
	if i >= len(b) {
		return errCut
	}
	return errSyntax
}

// expect consumes one structural byte after white space.
func (s *scanner) expect(c byte) error {
	if s.space() != c {
		return s.fault()
	}
	s.i++
	return nil
}

// end wants nothing but white space.
func (s *scanner) end() error {
	s.space()
	if s.i < len(s.b) {
		return errTrailing
	}
	return nil
}

// str consumes a string and returns it raw, with its quotes, and whether it
// holds an escape.
func (s *scanner) str() (raw []byte, escaped bool, err error) {
	if s.space() != '"' {
		return nil, false, s.fault()
	}
	start := s.i
	s.i, escaped, err = behindString(s.b, start)
	return s.b[start:s.i], escaped, err
}

// behindString returns where the string ends whose first quote stands at i, and
// whether it holds an escape; with an error, where that shows.
func behindString(b []byte, i int) (end int, escaped bool, err error) {
	for i = ordinary(b, i+1); i < len(b); i = ordinary(b, i+1) {
		switch b[i] {
		case '"':
			return i + 1, escaped, nil
		case '\\':
			escaped = true
			if i, err = escapeEnd(b, i+1); err != nil {
				return i, escaped, err
			}
		default:
			return i, escaped, errSyntax
		}
	}
	return i, escaped, errCut
}

// Eight bytes of the same value.
const (
	ones        = 0x0101010101010101
	highBits    = 0x80 * ones
	spaces      = ' ' * ones
	quotes      = '"' * ones
	backslashes = '\\' * ones
)

// special marks in eight bytes, the first of them lowest, those that mean
// something in a string: a quote, a backslash, or a control character, which may
// not stand there. Only the lowest mark counts: bytes above it may have been lent to.
func special(w uint64) uint64 {
	q, e := w^quotes, w^backslashes
	return ((q-ones)&^q | (e-ones)&^e | (w-spaces)&^w) & highBits
}

// ordinary returns where from i on the first such byte of b stands; len(b) if
// there is none. It looks at eight bytes at once: strings are most of a message.
func ordinary(b []byte, i int) int {
	for ; i+8 <= len(b); i += 8 {
		if found := special(binary.LittleEndian.Uint64(b[i:])); found != 0 {
			return i + bits.TrailingZeros64(found)/8
		}
	}
	for ; i < len(b); i++ {
		if c := b[i]; c == '"' || c == '\\' || c < ' ' {
			return i
		}
	}
	return i
}

// escapeEnd judges what stands at i, after a backslash, and returns where its last
// byte is.
func escapeEnd(b []byte, i int) (int, error) {
	switch at(b, i) {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i, nil
	case 'u':
		for range 4 {
			i++
			if i >= len(b) {
				return i, errCut
			}
			if !isHex(b[i]) {
				return i, errSyntax
			}
		}
		return i, nil
	}
	if i >= len(b) {
		return i, errCut
	}
	return i, errSyntax
}

// number consumes a number and returns it raw.
func (s *scanner) number() ([]byte, error) {
	start := s.i
	if s.peek() == '-' {
		s.i++
	}
	switch c := s.peek(); {
	case c == '0':
		s.i++
	case '1' <= c && c <= '9':
		s.digits()
	default:
		return nil, s.fault()
	}
	if s.peek() == '.' {
		s.i++
		if !s.digits() {
			return nil, s.fault()
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.i++
		if c := s.peek(); c == '+' || c == '-' {
			s.i++
		}
		if !s.digits() {
			return nil, s.fault()
		}
	}
	return s.b[start:s.i], nil
}

func (s *scanner) peek() byte {
	if s.i < len(s.b) {
		return s.b[s.i]
	}
	return 0
}

// digits consumes digits and says whether there was one.
func (s *scanner) digits() bool {
	start := s.i
	for s.i < len(s.b) && '0' <= s.b[s.i] && s.b[s.i] <= '9' {
		s.i++
	}
	return s.i > start
}

func (s *scanner) literal(word string) error {
	for k := range len(word) {
		if s.i >= len(s.b) {
			return errCut
		}
		if s.b[s.i] != word[k] {
			return errSyntax
		}
		s.i++
	}
	return nil
}

// value consumes any value and returns it raw. depth is how many containers
// stand around it. It keeps no stack but one bit for each open container.
func (s *scanner) value(depth int) ([]byte, error) {
	i := behindSpace(s.b, s.i)
	b, start, base := s.b, i, depth
	var objects uint64 // bit d: the container at depth d is an object
	var err error
values:
	for {
		switch at(b, i) {
		case '"':
			i, _, err = behindString(b, i)
		case '{':
			depth++
			objects |= 1 << depth
			if i = behindSpace(b, i+1); at(b, i) != '}' {
				i, err = behindKey(b, i)
				if err == nil && depth <= MaxDepth {
					continue
				}
			}
		case '[':
			depth++
			objects &^= 1 << depth
			if i = behindSpace(b, i+1); at(b, i) != ']' && depth <= MaxDepth {
				continue
			}
		default:
			i, err = behindScalar(b, i)
		}
		if depth > MaxDepth {
			return nil, errDepth
		}
		// A value has ended, or is empty: what it stands in ends too, or goes on.
		for err == nil {
			if depth == base {
				s.i = i
				return b[start:i], nil
			}
			i = behindSpace(b, i)
			object := objects>>depth&1 == 1
			switch c := at(b, i); {
			case c == ',':
				i = behindSpace(b, i+1)
				if object {
					i, err = behindKey(b, i)
				}
				if err == nil {
					continue values
				}
			case object && c == '}', !object && c == ']':
				i++
				depth--
			default:
				err = faultAt(b, i)
			}
		}
		return nil, err
	}
}

// behindKey returns where the value of the key begins that stands at i.
func behindKey(b []byte, i int) (int, error) {
	if at(b, i) != '"' {
		return i, faultAt(b, i)
	}
	i, _, err := behindString(b, i)
	if err != nil {
		return i, err
	}
	if i = behindSpace(b, i); at(b, i) != ':' {
		return i, faultAt(b, i)
	}
	return behindSpace(b, i+1), nil
}

// behindScalar returns where the number or literal ends that stands at i.
func behindScalar(b []byte, i int) (int, error) {
	s := scanner{b, i}
	var err error
	switch at(b, i) {
	case 't':
		err = s.literal("true")
	case 'f':
		err = s.literal("false")
	case 'n':
		err = s.literal("null")
	default:
		_, err = s.number()
	}
	return s.i, err
}

// object consumes an object; member consumes each value, given its raw key.
func (s *scanner) object(depth int, member func(rawKey []byte) error) error {
	if depth > MaxDepth {
		return errDepth
	}
	s.i++ // the brace the caller has seen
	if s.space() == '}' {
		s.i++
		return nil
	}
	for {
		key, _, err := s.str()
		if err != nil {
			return err
		}
		if err := s.expect(':'); err != nil {
			return err
		}
		if err := member(key); err != nil {
			return err
		}
		if s.space() == '}' {
			s.i++
			return nil
		}
		if err := s.expect(','); err != nil {
			return err
		}
	}
}

// array consumes an array; element consumes each element.
func (s *scanner) array(depth int, element func() error) error {
	if depth > MaxDepth {
		return errDepth
	}
	s.i++ // the bracket the caller has seen
	if s.space() == ']' {
		s.i++
		return nil
	}
	for {
		if err := element(); err != nil {
			return err
		}
		if s.space() == ']' {
			s.i++
			return nil
		}
		if err := s.expect(','); err != nil {
			return err
		}
	}
}

// decode returns what a raw string (with quotes, already walked by str) means.
// Decoders disagree about lone surrogates and invalid UTF-8, so both are
// refused where a decision hangs on the string.
func decode(raw []byte) (string, error) {
	in := raw[1 : len(raw)-1]
	out := make([]byte, 0, len(in))
	for i := 0; i < len(in); i++ {
		if in[i] != '\\' {
			out = append(out, in[i])
			continue
		}
		i++
		switch in[i] {
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r := hex4(in[i+1:])
			i += 4
			if utf16.IsSurrogate(r) {
				if len(in) < i+7 || in[i+1] != '\\' || in[i+2] != 'u' {
					return "", errSurrogate
				}
				if r = utf16.DecodeRune(r, hex4(in[i+3:])); r == utf8.RuneError {
					return "", errSurrogate
				}
				i += 6
			}
			out = utf8.AppendRune(out, r)
		default: // quote, backslash, slash
			out = append(out, in[i])
		}
	}
	if !utf8.Valid(out) {
		return "", errUTF8
	}
	return string(out), nil
}

// hex4 reads the four digits str has already judged.
func hex4(b []byte) rune {
	var n [2]byte
	if _, err := hex.Decode(n[:], b[:4]); err != nil {
		return utf8.RuneError
	}
	return rune(n[0])<<8 | rune(n[1])
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}
