package exi

import (
	"bytes"
	"math"
	"math/big"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

// drawElement draws what the type allows, members that aren't carried left out.
func drawElement(rt *rapid.T, name Name, t *complex) Element {
	el := Element{Name: name}
	for _, a := range t.attrs {
		if a.required || rapid.Bool().Draw(rt, "attribute "+a.name) {
			text, _ := drawValue(rt, &attributeText).(string)
			el.Attributes = append(el.Attributes, Attribute{a.name, text})
		}
	}
	if t.text != nil {
		el.Value = drawValue(rt, t.text)
		return el
	}
	for _, m := range t.members {
		var carried []*declaration
		for _, d := range m.choices {
			if d.typ != nil {
				carried = append(carried, d)
			}
		}
		if len(carried) == 0 {
			continue
		}
		most := m.max
		if most == unbounded || most > 5 {
			most = 5
		}
		for range rapid.IntRange(m.min, most).Draw(rt, "times") {
			d := rapid.SampledFrom(carried).Draw(rt, "choice")
			el.Children = append(el.Children, drawElement(rt, Name{d.space, d.name}, d.typ))
		}
	}
	return el
}

func drawValue(rt *rapid.T, t *simple) any {
	most := int(t.max)
	if most == 0 || most > 40 {
		most = max(40, int(t.min))
	}
	least := max(1, int(t.min))
	switch t.kind {
	case kindText:
		char := rapid.OneOf(rapid.RuneFrom([]rune("aZ0 <&-ü€")), rapid.Rune().Filter(xmlChar))
		return rapid.StringOfN(char, least, max(least, most), -1).Draw(rt, "text")
	case kindEnum:
		return rapid.SampledFrom(t.names).Draw(rt, "name")
	case kindBytes:
		return rapid.SliceOfN(rapid.Byte(), least, max(least, most)).Draw(rt, "bytes")
	case kindBool:
		return rapid.Bool().Draw(rt, "bool")
	case kindSmall, kindInteger:
		return rapid.Int64Range(t.min, t.max).Draw(rt, "integer")
	case kindNatural:
		top := uint64(t.max)
		if top == 0 {
			top = math.MaxUint64
		}
		return number(new(big.Int).SetUint64(rapid.Uint64Range(uint64(t.min), top).Draw(rt, "natural")))
	}
	n := new(big.Int).SetBytes(rapid.SliceOfN(rapid.Byte(), 0, maxBigBits/8).Draw(rt, "big"))
	if rapid.Bool().Draw(rt, "negative") {
		n.Neg(n)
	}
	if n.BitLen() > maxBigBits-1 {
		n.Rsh(n, 1)
	}
	return number(n)
}

// Whatever the types allow comes back as it was, from EXI and from JSON.
func TestRandomTreesComeBack(t *testing.T) {
	t.Parallel()
	for _, s := range []*Set{ISO2(), ISO20Common(), Signature()} {
		for _, g := range []Grammar{Document, Fragment} {
			for _, r := range s.roots(g) {
				if r.typ == nil {
					continue
				}
				t.Run(s.name+" "+g.String()+" "+r.Space+" "+r.Local, func(t *testing.T) {
					t.Parallel()
					rapid.Check(t, func(rt *rapid.T) {
						el := drawElement(rt, r.Name, r.typ)
						comesBack(rt, s, g, el)
					})
				})
			}
		}
	}
}

func comesBack(t rapid.TB, s *Set, g Grammar, el Element) {
	data, err := s.Encode(g, el)
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Decode(g, data)
	if err != nil {
		t.Fatalf("%x: %v", data, err)
	}
	if !reflect.DeepEqual(got, el) {
		t.Fatalf("from EXI %+v, want %+v", got, el)
	}
	text, err := s.ElementJSON(g, el)
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.ParseElement(g, el.Name, text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if out, err := s.Encode(g, again); err != nil || !bytes.Equal(out, data) {
		t.Fatalf("from JSON %+v (%v), want %+v", again, err, el)
	}
}

// The types are the schemas': a name has one type but the eMAID, and no type
// contains itself, so that nothing nests deeper than the table.
func TestTypesAreFinite(t *testing.T) {
	t.Parallel()
	for _, s := range []*Set{ISO2(), ISO20Common(), Signature()} {
		var walk func(t *complex, path []*complex) int
		walk = func(typ *complex, path []*complex) int {
			deepest := 0
			for _, p := range path {
				if p == typ {
					t.Fatalf("%s: type %s contains itself", s, typ.name)
				}
			}
			for _, m := range typ.members {
				for _, d := range m.choices {
					if d.typ != nil {
						deepest = max(deepest, walk(d.typ, append(path, typ)))
					}
				}
			}
			return deepest + 1
		}
		for _, r := range s.fragments {
			if r.typ != nil {
				if depth := walk(r.typ, nil); depth > 12 {
					t.Errorf("%s: %s nests %d deep", s, r.Local, depth)
				}
			}
		}
	}
}
