package exi

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Namespaces of elements.
const (
	NamespaceSignature = "http://www.w3.org/2000/09/xmldsig#"

	nsDef    = "urn:iso:15118:2:2013:MsgDef"
	nsHeader = "urn:iso:15118:2:2013:MsgHeader"
	nsBody   = "urn:iso:15118:2:2013:MsgBody"
	nsTypes  = "urn:iso:15118:2:2013:MsgDataTypes"

	ns20Messages = "urn:iso:std:iso:15118:-20:CommonMessages"
	ns20Types    = "urn:iso:std:iso:15118:-20:CommonTypes"
)

// unbounded is the max of a member that may come any number of times.
const unbounded = 0

// complex is the type of an element: attributes, then either text or members.
// An element of a simple type has text and no attributes.
type complex struct {
	name    string
	attrs   []attribute // by local name, as EXI 1.0 §8.5.4.1.3 sorts them
	text    *simple
	members []member
	// mixed counts the productions before the end of an element of mixed content:
	// declared children and the wildcard, both of which [V2G2-771] and
	// [V2G20-771] forbid. 0: the content isn't mixed.
	mixed int
}

type attribute struct {
	name     string
	required bool
}

// member is one place in a sequence: an element, or one of several.
type member struct {
	min, max int
	choices  []*declaration // in the order of their event codes
}

// declaration is an element as it is declared.
type declaration struct {
	space, name string
	typ         *complex // nil: not carried
}

// declared lists the names of one namespace of a schema set, global elements
// and those inside types, separated by spaces.
type declared struct{ space, global, local string }

// builder makes the types of one set. Types are named by what the schema calls
// them and resolved at the end, so that their order doesn't matter.
type builder struct {
	space   string // of the elements that follow
	types   map[string]*complex
	pending []pending
	roots   []*declaration
}

type pending struct {
	d    *declaration
	name string
}

func newBuilder() *builder { return &builder{types: map[string]*complex{}} }

// value names a simple type.
func (b *builder) value(name string, t simple) {
	b.types[name] = &complex{name: name, text: &t}
}

// part is an argument of typ.
type part func(*builder, *complex)

// typ defines a complex type.
func (b *builder) typ(name string, parts ...part) {
	t := &complex{name: name}
	for _, p := range parts {
		p(b, t)
	}
	b.types[name] = t
}

// root declares an element that may stand alone in a document.
func (b *builder) root(name, typ string) { b.roots = append(b.roots, b.declare(b.space, name, typ)) }

func (b *builder) declare(space, name, typ string) *declaration {
	d := &declaration{space: space, name: name}
	if typ != "" {
		b.pending = append(b.pending, pending{d, typ})
	}
	return d
}

// id is the optional Id that a reference may point to; needID a required one.
func id(b *builder, t *complex)     { attr("Id", false)(b, t) }
func needID(b *builder, t *complex) { attr("Id", true)(b, t) }

func attr(name string, required bool) part {
	return func(_ *builder, t *complex) { t.attrs = append(t.attrs, attribute{name, required}) }
}

// content is text of a simple type beside attributes.
func content(typ string) part {
	return func(b *builder, t *complex) { t.text = b.types[typ].text }
}

func mixed(before int) part { return func(_ *builder, t *complex) { t.mixed = before } }

func one(name, typ string) part { return times(name, typ, 1, 1) }
func opt(name, typ string) part { return times(name, typ, 0, 1) }

// many is a list of 1 to max elements.
func many(name, typ string, max int) part { return times(name, typ, 1, max) }

func times(name, typ string, min, max int) part {
	return func(b *builder, t *complex) {
		t.members = append(t.members, member{min, max, []*declaration{b.declare(b.space, name, typ)}})
	}
}

// signature is the reference to xmldsig's Signature that headers have.
func signature(b *builder, t *complex) {
	t.members = append(t.members, member{0, 1, []*declaration{b.declare(NamespaceSignature, "Signature", "SignatureType")}})
}

// choice is one of the named elements, "name type" each, in the schema's order.
// A substitution group is one too, sorted by name, its head among them (EXI 1.0
// §8.5.4.1.6). "name" alone isn't carried.
func choice(min int, space string, alternatives ...string) part {
	return func(b *builder, t *complex) {
		m := member{min: min, max: 1}
		for _, a := range alternatives {
			name, typ, _ := strings.Cut(a, " ")
			m.choices = append(m.choices, b.declare(cmp.Or(space, b.space), name, typ))
		}
		t.members = append(t.members, m)
	}
}

// extends takes over what another type, defined before, has.
func extends(name string) part {
	return func(b *builder, t *complex) {
		base := b.types[name]
		t.attrs = append(t.attrs, base.attrs...)
		t.members = append(t.members, base.members...)
	}
}

// set resolves the type names and numbers the elements.
func (b *builder) set(name string, names []declared, relaxed string) *Set {
	s := &Set{name: name, relaxed: relaxed}
	for _, p := range b.pending {
		t := b.types[p.name]
		if t == nil {
			panic("internal error: exi type " + p.name + " isn't defined")
		}
		p.d.typ = t
	}
	types := map[Name]*complex{}
	for _, p := range b.pending {
		name := Name{p.d.space, p.d.name}
		other := types[name]
		if other != nil && other != p.d.typ && name.Local != relaxed {
			panic("internal error: exi element " + name.Local + " has two types")
		}
		if other == nil || len(p.d.typ.attrs) > len(other.attrs) {
			types[name] = p.d.typ
		}
	}
	add := func(list *[]root, space, text string, carried bool) {
		for local := range strings.FieldsSeq(text) {
			r := root{Name: Name{space, local}}
			if carried {
				r.typ = types[r.Name]
			}
			*list = append(*list, r)
		}
	}
	for _, n := range names {
		add(&s.fragments, n.space, n.global+" "+n.local, true)
		add(&s.documents, n.space, n.global, false)
	}
	for _, list := range [][]root{s.documents, s.fragments} {
		slices.SortFunc(list, func(a, b root) int { return a.Name.compare(b.Name) })
	}
	for _, d := range b.roots {
		i, ok := find(s.documents, Name{d.space, d.name})
		if !ok {
			panic("internal error: exi root " + d.name + " isn't declared")
		}
		s.documents[i].typ = d.typ
	}
	return s
}

// Name is the qualified name of an element.
type Name struct{ Space, Local string }

// compare sorts by local name, then by namespace (EXI 1.0 §8.5.4.1.6).
func (n Name) compare(other Name) int {
	if c := strings.Compare(n.Local, other.Local); c != 0 {
		return c
	}
	return strings.Compare(n.Space, other.Space)
}

// Set is a schema set: an entry schema with all it imports, from which event
// codes follow. It is immutable.
type Set struct {
	name      string
	relaxed   string // name declared with two types, whose fragments are relaxed; "" is none
	documents []root // by name: the place is the event code
	fragments []root
}

// root is an element that a document or fragment may begin with.
type root struct {
	Name
	typ *complex // nil: not carried
}

// String returns the name that Sets knows the set by.
func (s *Set) String() string { return s.name }

// Roots are the elements that Decode and Encode take at the top, by name.
func (s *Set) Roots(g Grammar) []Name {
	var out []Name
	for _, r := range s.roots(g) {
		if r.typ != nil {
			out = append(out, r.Name)
		}
	}
	return out
}

func (s *Set) roots(g Grammar) []root {
	if g == Fragment {
		return s.fragments
	}
	return s.documents
}

// Lookup returns the name of a root element by its local name. More than one
// namespace may declare it: then the namespace must be given, else "".
func (s *Set) Lookup(g Grammar, space, local string) (Name, error) {
	var found []Name
	for _, r := range s.roots(g) {
		if r.Local == local && (space == "" || r.Space == space) {
			found = append(found, r.Name)
		}
	}
	switch len(found) {
	case 0:
		return Name{}, fmt.Errorf("the %s %s has no element %s", s.name, g, local)
	case 1:
		return found[0], nil
	}
	return Name{}, fmt.Errorf("%s is declared in %s and %s: name the namespace", local, found[0].Space, found[1].Space)
}

func find(list []root, name Name) (int, bool) {
	return slices.BinarySearchFunc(list, name, func(r root, n Name) int { return r.Name.compare(n) })
}
