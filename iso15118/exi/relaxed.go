package exi

import (
	"errors"
	"fmt"
)

// A name that is declared with two types gets the element fragment grammar, which
// allows every declared attribute and element (EXI 1.0 §8.5.3). Of the three
// sets only the eMAID of ISO 15118-2 is such a name: an Id at most, then text.

// The attributes of the set iso15118-2 by name and namespace: Algorithm, Encoding,
// Id, Id of MsgBody, Id of MsgDataTypes, MimeType, Name, Target, Type, URI.
const (
	relaxedAttributes = 10
	relaxedID         = 4 // Id of MsgDataTypes, which EMAIDType has
)

// relaxedWidths are the event codes of both states: attributes with their
// wildcard, then elements with theirs, the end, text.
func (s *Set) relaxedCodes() (first, second relaxedState) {
	elements := len(s.fragments)
	second = relaxedState{end: elements + 1, text: elements + 2, count: elements + 3}
	more := relaxedAttributes + 1
	first = relaxedState{end: second.end + more, text: second.text + more, count: second.count + more}
	return first, second
}

type relaxedState struct{ end, text, count int }

func (r relaxedState) bits() int { return width(r.count + 1) }

func (e *encoder) relaxed(el *Element, t *complex) error {
	first, second := e.set.relaxedCodes()
	switch {
	case len(el.Children) > 0:
		return within(el.Local, errors.New("it has text, not elements"))
	case len(el.Attributes) > 1 || len(el.Attributes) == 1 && el.Attributes[0].Name != "Id":
		return within(el.Local, errors.New("it may have an Id and no other attribute"))
	}
	for _, a := range el.Attributes {
		if err := attributeText.check(a.Value); err != nil {
			return within(el.Local, fmt.Errorf("attribute %s: %w", a.Name, err))
		}
		e.out.write(relaxedID, first.bits())
		attributeText.encode(&e.out, a.Value)
	}
	if err := t.text.check(el.Value); err != nil {
		return within(el.Local, err)
	}
	e.out.write(uint32(first.text), first.bits())
	t.text.encode(&e.out, el.Value)
	e.out.write(uint32(second.end), second.bits())
	return nil
}

func (d *decoder) relaxed(el *Element, t *complex) error {
	first, second := d.set.relaxedCodes()
	code, err := d.in.read(first.bits())
	if err != nil {
		return within(el.Local, err)
	}
	if code == relaxedID {
		v, err := attributeText.decode(&d.in)
		if err != nil {
			return within(el.Local, fmt.Errorf("attribute Id: %w", err))
		}
		id, _ := v.(string)
		el.Attributes = []Attribute{{"Id", id}}
		if code, err = d.in.read(first.bits()); err != nil {
			return within(el.Local, err)
		}
	}
	if int(code) != first.text {
		return within(el.Local, errors.New("it may have an Id and text only"))
	}
	if el.Value, err = t.text.decode(&d.in); err != nil {
		return within(el.Local, err)
	}
	end, err := d.in.read(second.bits())
	if err == nil && int(end) != second.end {
		err = errors.New("something follows its text")
	}
	if err != nil {
		return within(el.Local, err)
	}
	return nil
}
