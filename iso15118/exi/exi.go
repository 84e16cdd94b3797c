// Package exi reads and writes the EXI that ISO 15118-2 and ISO 15118-20 put
// on the wire and sign: schema-informed, bit-packed, not strict, without a
// string table (W3C Efficient XML Interchange 1.0; [V2G2-099], [V2G2-600]).
//
// It promises one spelling. What it decodes, it would have encoded to the same
// bytes: anything else, and anything the profile leaves out, is an error and
// never a guess. Digests may therefore be taken over what it encodes again.
//
// It carries the messages and the signed elements of provisioning,
// authorisation and tariffs. Another element of the schemas is refused with its
// name. Facets of the schemas are checked before anything of their size is
// allocated, in both directions.
package exi

import (
	"bytes"
	"errors"
	"fmt"
)

// Grammar says what the bytes are: a whole message, or one element of it as
// signatures digest it.
type Grammar uint8

// The two built-in grammars of EXI 1.0 §8.4.
const (
	Document Grammar = iota
	Fragment
)

// String returns "document" or "fragment".
func (g Grammar) String() string {
	if g == Fragment {
		return "fragment"
	}
	return "document"
}

// ParseGrammar reads what String returns.
func ParseGrammar(text string) (Grammar, error) {
	switch text {
	case "document":
		return Document, nil
	case "fragment":
		return Fragment, nil
	}
	return 0, fmt.Errorf("grammar %q is neither document nor fragment", text)
}

// MaxInput is the longest EXI that Decode looks at, in bytes. The longest
// message with every list full is a CertificateInstallationRes of some 17 KB; a
// price schedule of 1,024 stacks may be longer.
const MaxInput = 1 << 20

// header is the one byte before the body: distinguishing bits 10, no options,
// final version 1 (EXI 1.0 §5).
const header = 0x80

// Decode reads one message or element. What it returns encodes to exactly data.
func (s *Set) Decode(g Grammar, data []byte) (Element, error) {
	root, err := s.decode(g, data)
	if err != nil {
		return Element{}, fmt.Errorf("couldn't decode the %s %s: %w", s.name, g, err)
	}
	again, err := s.encode(g, root)
	if err != nil {
		return Element{}, fmt.Errorf("couldn't decode the %s %s: %w", s.name, g, err)
	}
	if !bytes.Equal(again, data) {
		return Element{}, fmt.Errorf("couldn't decode the %s %s: it isn't spelled in the one way ISO 15118 allows", s.name, g)
	}
	return root, nil
}

func (s *Set) decode(g Grammar, data []byte) (Element, error) {
	switch {
	case len(data) == 0:
		return Element{}, errEnd
	case len(data) > MaxInput:
		return Element{}, fmt.Errorf("%d bytes, at most %d are read", len(data), MaxInput)
	case data[0] != header:
		return Element{}, fmt.Errorf("the first byte is %02x, ISO 15118 has 80: no cookie, no options, version 1", data[0])
	}
	d := decoder{set: s, in: bitReader{data: data, pos: 8}}
	root, err := d.root(g)
	if err != nil {
		return Element{}, err
	}
	if left := len(data)*8 - d.in.pos; left >= 8 {
		return Element{}, fmt.Errorf("%d bytes follow the end", left/8)
	}
	return root, nil
}

// Encode writes one message or element. The root must be named with its
// namespace. The eMAID fragment of ISO 15118-2 gets the relaxed form that its two
// declarations demand (EXI 1.0 §8.5.3).
func (s *Set) Encode(g Grammar, root Element) ([]byte, error) {
	out, err := s.encode(g, root)
	if err != nil {
		return nil, fmt.Errorf("couldn't encode the %s %s: %w", s.name, g, err)
	}
	return out, nil
}

func (s *Set) encode(g Grammar, root Element) ([]byte, error) {
	e := encoder{set: s}
	e.out.write(header, 8)
	if err := e.root(g, root, true); err != nil {
		return nil, err
	}
	return e.out.bytes(), nil
}

// EncodeDeclared writes a fragment as its element is declared, even where the
// standard wants the relaxed form: some stations and cars sign the eMAID of
// ISO 15118-2 so. For verifying only; what Bollard signs comes from Encode.
func (s *Set) EncodeDeclared(root Element) ([]byte, error) {
	e := encoder{set: s}
	e.out.write(header, 8)
	if err := e.root(Fragment, root, false); err != nil {
		return nil, fmt.Errorf("couldn't encode the %s fragment as declared: %w", s.name, err)
	}
	return e.out.bytes(), nil
}

// ErrNotCarried is returned, wrapped with the name, for elements of the schemas
// that this package has no types of.
var ErrNotCarried = errors.New("isn't carried")

var errEnd = errors.New("the input ends early")
