package exi

import (
	"errors"
	"fmt"
)

// maxElements bounds how many elements one input becomes: the longest lists of
// the schemas hold 1,024 entries of some ten elements. An element takes a few
// bits of input, and some hundred bytes of memory.
const maxElements = 40_000

type decoder struct {
	set      *Set
	in       bitReader
	scratch  []event
	elements int
}

func (d *decoder) root(g Grammar) (Element, error) {
	list := d.set.roots(g)
	bits := width(len(list) + 1)
	if g == Fragment {
		bits = width(len(list) + 2)
	}
	code, err := d.in.read(bits)
	switch {
	case err != nil:
		return Element{}, err
	case int(code) == len(list):
		return Element{}, errors.New("the root is no element of the schema")
	case int(code) > len(list):
		return Element{}, fmt.Errorf("event code %d, the last of an element is %d", code, len(list)-1)
	case list[code].typ == nil:
		return Element{}, fmt.Errorf("element %s %w", list[code].Local, ErrNotCarried)
	}
	el := Element{Name: list[code].Name}
	if g == Document {
		return el, d.element(&el, list[code].typ)
	}
	if el.Local == d.set.relaxed {
		err = d.relaxed(&el, list[code].typ)
	} else {
		err = d.element(&el, list[code].typ)
	}
	if err != nil {
		return Element{}, err
	}
	end, err := d.in.read(bits)
	if err == nil && int(end) != len(list)+1 {
		err = errors.New("another element follows")
	}
	return el, err
}

func (d *decoder) element(el *Element, t *complex) error {
	if d.elements++; d.elements > maxElements {
		return fmt.Errorf("more than %d elements", maxElements)
	}
	if err := d.content(el, t); err != nil {
		return within(el.Local, err)
	}
	return nil
}

func (d *decoder) content(el *Element, t *complex) error {
	for p := (place{}); ; {
		ev, err := d.next(t, p)
		if err != nil {
			return err
		}
		switch ev.kind {
		case eventAttribute:
			a := Attribute{Name: t.attrs[ev.attr].name}
			v, err := attributeText.decode(&d.in)
			if err != nil {
				return fmt.Errorf("attribute %s: %w", a.Name, err)
			}
			a.Value, _ = v.(string)
			el.Attributes = append(el.Attributes, a)
		case eventElement:
			if ev.decl.typ == nil {
				return fmt.Errorf("element %s %w", ev.decl.name, ErrNotCarried)
			}
			el.Children = append(el.Children, Element{Name: Name{ev.decl.space, ev.decl.name}})
			if err := d.element(&el.Children[len(el.Children)-1], ev.decl.typ); err != nil {
				return err
			}
		case eventText:
			if el.Value, err = t.text.decode(&d.in); err != nil {
				return err
			}
			end, err := d.in.read(1)
			if err == nil && end != 0 {
				err = errDeviation
			}
			return err
		case eventEnd:
			return nil
		case eventForbidden:
			return errors.New("content that ISO 15118 forbids in signatures ([V2G2-771], [V2G20-771])")
		}
		p = p.after(ev, t)
	}
}

var errDeviation = errors.New("a deviation from the schema")

// next reads the code of the next event.
func (d *decoder) next(t *complex, p place) (event, error) {
	d.scratch = t.events(p, d.scratch)
	code, err := d.in.read(width(len(d.scratch) + 1))
	switch {
	case err != nil:
		return event{}, err
	case int(code) == len(d.scratch):
		return event{}, errDeviation
	case int(code) > len(d.scratch):
		return event{}, fmt.Errorf("event code %d of %d", code, len(d.scratch))
	}
	return d.scratch[code], nil
}
