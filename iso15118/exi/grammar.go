package exi

// place is where in an element's content the next event is expected: after
// the attributes before attr, and after seen elements of member. In mixed content
// and text the member counts nothing.
type place struct{ attr, member, seen int }

// event is one thing that may come next.
type event struct {
	kind   eventKind
	attr   int          // of the type's attributes
	member int          // of the type's members
	decl   *declaration // eventElement
}

type eventKind uint8

const (
	eventAttribute eventKind = iota
	eventElement
	eventText
	eventEnd
	eventForbidden // has a code, and isn't allowed by ISO 15118
)

// events lists what may come next; the place in the list is the event code. In a
// schema-informed grammar that isn't strict one code more leads to deviations
// from the schema, which ISO 15118 doesn't have (EXI 1.0 §8.5.4.4).
func (t *complex) events(p place, buf []event) []event {
	out := buf[:0]
	for i := p.attr; i < len(t.attrs); i++ {
		out = append(out, event{kind: eventAttribute, attr: i})
		if t.attrs[i].required {
			return out
		}
	}
	switch {
	case t.text != nil:
		return append(out, event{kind: eventText})
	case t.mixed > 0:
		for range t.mixed {
			out = append(out, event{kind: eventForbidden})
		}
		return append(out, event{kind: eventEnd}, event{kind: eventForbidden})
	}
	for i := p.member; i < len(t.members); i++ {
		m, seen := &t.members[i], 0
		if i == p.member {
			seen = p.seen
		}
		if m.max == unbounded || seen < m.max {
			for _, d := range m.choices {
				out = append(out, event{kind: eventElement, member: i, decl: d})
			}
		}
		if seen < m.min {
			return out
		}
	}
	return append(out, event{kind: eventEnd})
}

// after is the place behind an event.
func (p place) after(e event, t *complex) place {
	switch e.kind {
	case eventAttribute:
		p.attr = e.attr + 1
	case eventElement:
		p.attr = len(t.attrs)
		if e.member != p.member {
			p.member, p.seen = e.member, 0
		}
		p.seen++
	}
	return p
}

// attributeText is the type of each attribute carried: ID, anyURI or string.
var attributeText = simple{kind: kindText}
