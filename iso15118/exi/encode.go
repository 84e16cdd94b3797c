package exi

import (
	"errors"
	"fmt"
)

type encoder struct {
	set     *Set
	out     bitWriter
	scratch []event
}

// root writes the element and what stands around it (EXI 1.0 §8.4).
func (e *encoder) root(g Grammar, el Element, relax bool) error {
	list := e.set.roots(g)
	code, ok := find(list, el.Name)
	switch {
	case !ok:
		return fmt.Errorf("element %s of namespace %q isn't declared", el.Local, el.Space)
	case list[code].typ == nil:
		return fmt.Errorf("element %s %w", el.Local, ErrNotCarried)
	case g == Document:
		e.out.write(uint32(code), width(len(list)+1)) // and SE(*)
		return e.element(&el, list[code].typ)
	}
	bits := width(len(list) + 2) // and SE(*), ED
	e.out.write(uint32(code), bits)
	var err error
	if relax && el.Local == e.set.relaxed {
		err = e.relaxed(&el, list[code].typ)
	} else {
		err = e.element(&el, list[code].typ)
	}
	e.out.write(uint32(len(list)+1), bits)
	return err
}

// element writes what stands in an element.
func (e *encoder) element(el *Element, t *complex) error {
	if err := e.content(el, t); err != nil {
		return within(el.Local, err)
	}
	return nil
}

func (e *encoder) content(el *Element, t *complex) error {
	var p place
	for _, a := range el.Attributes {
		at, err := e.next(t, p, func(ev event) bool { return ev.kind == eventAttribute && t.attrs[ev.attr].name == a.Name }, "attribute "+a.Name)
		if err != nil {
			return err
		}
		if err := attributeText.check(a.Value); err != nil {
			return fmt.Errorf("attribute %s: %w", a.Name, err)
		}
		attributeText.encode(&e.out, a.Value)
		p = p.after(at, t)
	}
	switch {
	case t.text != nil:
		if len(el.Children) > 0 {
			return errors.New("it has text, not elements")
		}
		if _, err := e.next(t, p, func(ev event) bool { return ev.kind == eventText }, "text"); err != nil {
			return err
		}
		if err := t.text.check(el.Value); err != nil {
			return err
		}
		t.text.encode(&e.out, el.Value)
		e.out.write(0, 1) // the end is all that can come
		return nil
	case el.Value != nil:
		return errors.New("it has elements, not text")
	}
	for i := range el.Children {
		child := &el.Children[i]
		ev, err := e.next(t, p, func(ev event) bool { return ev.kind == eventElement && ev.decl.is(child.Name) }, "element "+child.Local)
		if err != nil {
			return err
		}
		if ev.decl.typ == nil {
			return fmt.Errorf("element %s %w", child.Local, ErrNotCarried)
		}
		if err := e.element(child, ev.decl.typ); err != nil {
			return err
		}
		p = p.after(ev, t)
	}
	_, err := e.next(t, p, func(ev event) bool { return ev.kind == eventEnd }, "the end")
	return err
}

// next writes the code of the event that is wanted and returns it.
func (e *encoder) next(t *complex, p place, wanted func(event) bool, what string) (event, error) {
	e.scratch = t.events(p, e.scratch)
	for code, ev := range e.scratch {
		if wanted(ev) {
			e.out.write(uint32(code), width(len(e.scratch)+1))
			return ev, nil
		}
	}
	return event{}, fmt.Errorf("%s, where %s is wanted", what, describe(t, e.scratch))
}

// is reports whether the declaration is of the name. Children may leave their
// namespace out: no two members of a type differ in it alone.
func (d *declaration) is(n Name) bool {
	return d.name == n.Local && (n.Space == "" || n.Space == d.space)
}

// within puts an element's name before an error.
func within(local string, err error) error {
	var at *pathError
	if errors.As(err, &at) {
		return &pathError{path: local + "/" + at.path, err: at.err}
	}
	return &pathError{path: local, err: err}
}

// pathError says where in a tree something is wrong.
type pathError struct {
	path string
	err  error
}

func (e *pathError) Error() string { return e.path + ": " + e.err.Error() }
func (e *pathError) Unwrap() error { return e.err }

func describe(t *complex, events []event) string {
	out := ""
	for _, ev := range events {
		one := ""
		switch ev.kind {
		case eventAttribute:
			one = "attribute " + t.attrs[ev.attr].name
		case eventElement:
			one = ev.decl.name
		case eventText:
			one = "text"
		case eventEnd:
			one = "the end"
		case eventForbidden:
			continue
		}
		if out != "" {
			out += " or "
		}
		out += one
	}
	return out
}
