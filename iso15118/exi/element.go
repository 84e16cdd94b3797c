package exi

// Element is an element with what stands in it, in the schema's order.
type Element struct {
	Name
	Attributes []Attribute
	// Value is the text of an element that has any: string (enumerations too),
	// []byte (base64Binary and hexBinary), bool, int64, or *big.Int for an
	// integer that doesn't fit.
	Value    any
	Children []Element
}

// Attribute is always text in the schemas carried. Its namespace is left out:
// typed grammars don't write it.
type Attribute struct{ Name, Value string }

// New returns an element without content.
func New(space, local string) Element { return Element{Name: Name{Space: space, Local: local}} }

// Child returns the first child of the name; nil if there is none.
func (e *Element) Child(local string) *Element {
	for i := range e.Children {
		if e.Children[i].Local == local {
			return &e.Children[i]
		}
	}
	return nil
}

// Find follows a path of children's names; nil if it ends early.
func (e *Element) Find(path ...string) *Element {
	for _, local := range path {
		if e = e.Child(local); e == nil {
			return nil
		}
	}
	return e
}

// Attribute returns the value of an attribute, "" if there is none: none is empty.
func (e *Element) Attribute(name string) string {
	for _, a := range e.Attributes {
		if a.Name == name {
			return a.Value
		}
	}
	return ""
}
