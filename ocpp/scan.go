package ocpp

import (
	"encoding/hex"
	"errors"
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
	for ; s.i < len(s.b); s.i++ {
		switch c := s.b[s.i]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

// fault tells a truncated text from a wrong one.
func (s *scanner) fault() error {
	if s.i >= len(s.b) {
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
	for s.i++; s.i < len(s.b); s.i++ {
		switch c := s.b[s.i]; {
		case c == '"':
			s.i++
			return s.b[start:s.i], escaped, nil
		case c == '\\':
			escaped = true
			s.i++
			if err := s.escape(); err != nil {
				return nil, false, err
			}
		case c < 0x20:
			return nil, false, errSyntax
		}
	}
	return nil, false, errCut
}

// escape judges what stands behind a backslash and stops on its last byte.
func (s *scanner) escape() error {
	if s.i >= len(s.b) {
		return errCut
	}
	switch s.b[s.i] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return nil
	case 'u':
		for range 4 {
			s.i++
			if s.i >= len(s.b) {
				return errCut
			}
			if !isHex(s.b[s.i]) {
				return errSyntax
			}
		}
		return nil
	}
	return errSyntax
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
	s.space()
	start, base := s.i, depth
	var objects uint64 // bit d: the container at depth d is an object
	for {
		opened := false
		var err error
		switch c := s.space(); c {
		case '{', '[':
			if depth++; depth > MaxDepth {
				return nil, errDepth
			}
			s.i++
			opened = true
			objects &^= 1 << depth
			if c == '{' {
				objects |= 1 << depth
			}
		case '"':
			_, _, err = s.str()
		case 't':
			err = s.literal("true")
		case 'f':
			err = s.literal("false")
		case 'n':
			err = s.literal("null")
		default:
			_, err = s.number()
		}
		if err != nil {
			return nil, err
		}
		// Close what ends here, then stand before the next value.
		for depth > base {
			object := objects>>depth&1 == 1
			c := s.space()
			if object && c == '}' || !object && c == ']' {
				s.i++
				depth--
				opened = false
				continue
			}
			if !opened {
				if err := s.expect(','); err != nil {
					return nil, err
				}
			}
			if object {
				if err := s.key(); err != nil {
					return nil, err
				}
			}
			break
		}
		if depth == base {
			return s.b[start:s.i], nil
		}
	}
}

// key consumes a key and its colon.
func (s *scanner) key() error {
	if _, _, err := s.str(); err != nil {
		return err
	}
	return s.expect(':')
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
