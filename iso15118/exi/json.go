package exi

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strings"
)

// The JSON form of an element: {"NAME": CONTENT}. Content is an object with
// "@NAME" for attributes, "#" for text beside them, and a member for each child,
// an array where the schema allows more than one. Text alone stands for its
// element: a string, a number, true or false, or {"hex": "..."} for bytes.

// ElementJSON writes a root element in the JSON form.
func (s *Set) ElementJSON(g Grammar, root Element) ([]byte, error) {
	t, err := s.rootType(g, root.Name)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	out.WriteByte('{')
	writeKey(&out, root.Local, false)
	err = writeJSON(&out, &root, t)
	out.WriteByte('}')
	return out.Bytes(), err
}

func (s *Set) rootType(g Grammar, name Name) (*complex, error) {
	list := s.roots(g)
	i, ok := find(list, name)
	if !ok {
		return nil, fmt.Errorf("the %s %s has no element %s of namespace %q", s.name, g, name.Local, name.Space)
	}
	if list[i].typ == nil {
		return nil, fmt.Errorf("element %s %w", name.Local, ErrNotCarried)
	}
	return list[i].typ, nil
}

func writeKey(out *bytes.Buffer, key string, comma bool) {
	if comma {
		out.WriteByte(',')
	}
	writeString(out, key)
	out.WriteByte(':')
}

func writeString(out *bytes.Buffer, s string) {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a buffer and a string can't fail
	out.Truncate(out.Len() - 1)
}

func writeJSON(out *bytes.Buffer, el *Element, t *complex) error {
	if t.text != nil && len(el.Attributes) == 0 {
		return writeValue(out, el.Value)
	}
	out.WriteByte('{')
	comma := false
	for _, a := range el.Attributes {
		writeKey(out, "@"+a.Name, comma)
		writeString(out, a.Value)
		comma = true
	}
	if t.text != nil {
		writeKey(out, "#", comma)
		if err := writeValue(out, el.Value); err != nil {
			return err
		}
	}
	for i := 0; i < len(el.Children); {
		name := el.Children[i].Name
		m, d := t.memberOf(name.Local)
		if d == nil || d.typ == nil {
			return fmt.Errorf("element %s %w", name.Local, ErrNotCarried)
		}
		writeKey(out, name.Local, comma)
		comma = true
		n := i + 1
		if t.members[m].max != 1 {
			out.WriteByte('[')
			for n < len(el.Children) && el.Children[n].Name == name {
				n++
			}
		}
		for j := i; j < n; j++ {
			if j > i {
				out.WriteByte(',')
			}
			if err := writeJSON(out, &el.Children[j], d.typ); err != nil {
				return within(name.Local, err)
			}
		}
		if t.members[m].max != 1 {
			out.WriteByte(']')
		}
		i = n
	}
	out.WriteByte('}')
	return nil
}

func writeValue(out *bytes.Buffer, v any) error {
	switch v := v.(type) {
	case string:
		writeString(out, v)
	case []byte:
		fmt.Fprintf(out, `{"hex":"%x"}`, v)
	case bool, int64, *big.Int:
		fmt.Fprint(out, v)
	default:
		return fmt.Errorf("a value of type %T", v)
	}
	return nil
}

// memberOf finds a child's place by its local name, which no type declares twice.
func (t *complex) memberOf(local string) (int, *declaration) {
	for i, m := range t.members {
		for _, d := range m.choices {
			if d.name == local {
				return i, d
			}
		}
	}
	return 0, nil
}

// ParseElement reads the JSON form of the root element. Members may
// stand in any order; unknown and repeated ones are refused.
func (s *Set) ParseElement(g Grammar, name Name, data []byte) (Element, error) {
	t, err := s.rootType(g, name)
	if err != nil {
		return Element{}, err
	}
	in := json.NewDecoder(bytes.NewReader(data))
	in.UseNumber()
	root := Element{Name: name}
	found := false
	err = object(in, func(key string) error {
		if key != name.Local {
			return fmt.Errorf("%q, where %q is wanted", key, name.Local)
		}
		found = true
		return readJSON(in, &root, t)
	})
	if err == nil && !found {
		err = fmt.Errorf("%q is missing", name.Local)
	}
	if err == nil {
		if _, more := in.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("something follows the content")
		}
	}
	if err != nil {
		return Element{}, fmt.Errorf("couldn't read the content: %w", err)
	}
	return root, nil
}

// object reads an object; member reads what follows a key.
func object(in *json.Decoder, member func(key string) error) error {
	token, err := in.Token()
	if err != nil {
		return ending(err)
	}
	if token != json.Delim('{') {
		return errors.New("an object is wanted")
	}
	return members(in, member)
}

// members reads the rest of an object.
func members(in *json.Decoder, member func(key string) error) error {
	seen := map[string]bool{}
	for in.More() {
		token, err := in.Token()
		if err != nil {
			return ending(err)
		}
		key, _ := token.(string)
		if seen[key] {
			return fmt.Errorf("%q is there twice", key)
		}
		seen[key] = true
		if err := member(key); err != nil {
			return err
		}
	}
	_, err := in.Token()
	return ending(err)
}

func ending(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// readJSON reads what stands for an element.
func readJSON(in *json.Decoder, el *Element, t *complex) error {
	if err := readContent(in, el, t); err != nil {
		return within(el.Local, err)
	}
	return nil
}

func readContent(in *json.Decoder, el *Element, t *complex) error {
	token, err := in.Token()
	if err != nil {
		return ending(err)
	}
	if token != json.Delim('{') {
		if t.text == nil {
			return errors.New("an object is wanted")
		}
		el.Value, err = scalar(token)
		return err
	}
	if t.text != nil {
		return readText(in, el, t)
	}
	at := map[string]int{} // places of members
	err = members(in, func(key string) error {
		if name, ok := strings.CutPrefix(key, "@"); ok {
			return readAttribute(in, el, t, name)
		}
		m, d := t.memberOf(key)
		switch {
		case d == nil:
			return fmt.Errorf("it has no element %q", key)
		case d.typ == nil:
			return fmt.Errorf("element %s %w", key, ErrNotCarried)
		}
		at[key] = m
		if t.members[m].max == 1 {
			return readChild(in, el, d)
		}
		token, err := in.Token()
		if err != nil {
			return ending(err)
		}
		if token != json.Delim('[') {
			return fmt.Errorf("%s is a list: an array is wanted", key)
		}
		for in.More() {
			if err := readChild(in, el, d); err != nil {
				return err
			}
		}
		_, err = in.Token()
		return ending(err)
	})
	slices.SortStableFunc(el.Children, func(a, b Element) int { return at[a.Local] - at[b.Local] })
	sortAttributes(el, t)
	return err
}

func readChild(in *json.Decoder, el *Element, d *declaration) error {
	child := Element{Name: Name{d.space, d.name}}
	if err := readJSON(in, &child, d.typ); err != nil {
		return err
	}
	el.Children = append(el.Children, child)
	return nil
}

func readAttribute(in *json.Decoder, el *Element, t *complex, name string) error {
	if !slices.ContainsFunc(t.attrs, func(a attribute) bool { return a.name == name }) {
		return fmt.Errorf("it has no attribute %q", name)
	}
	token, err := in.Token()
	if err != nil {
		return ending(err)
	}
	text, ok := token.(string)
	if !ok {
		return fmt.Errorf("attribute %s: text is wanted", name)
	}
	el.Attributes = append(el.Attributes, Attribute{name, text})
	return nil
}

func sortAttributes(el *Element, t *complex) {
	place := func(a Attribute) int {
		return slices.IndexFunc(t.attrs, func(b attribute) bool { return b.name == a.Name })
	}
	slices.SortFunc(el.Attributes, func(a, b Attribute) int { return place(a) - place(b) })
}

// readText reads the rest of an object that stands for text.
func readText(in *json.Decoder, el *Element, t *complex) error {
	err := members(in, func(key string) error {
		if name, ok := strings.CutPrefix(key, "@"); ok {
			return readAttribute(in, el, t, name)
		}
		token, err := in.Token()
		switch {
		case err != nil:
			return ending(err)
		case key == "hex" && el.Value == nil:
			el.Value, err = unhex(token)
			return err
		case key != "#" || el.Value != nil:
			return fmt.Errorf("%q beside text", key)
		case token != json.Delim('{'):
			el.Value, err = scalar(token)
			return err
		}
		return members(in, func(key string) error {
			token, err := in.Token()
			if err != nil || key != "hex" {
				return fmt.Errorf("%q, where \"hex\" is wanted", key)
			}
			el.Value, err = unhex(token)
			return err
		})
	})
	sortAttributes(el, t)
	return err
}

func unhex(token json.Token) (any, error) {
	text, ok := token.(string)
	if !ok {
		return nil, errors.New("hex is text")
	}
	b, err := hex.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("hex: %w", err)
	}
	return b, nil
}

func scalar(token json.Token) (any, error) {
	switch v := token.(type) {
	case string, bool:
		return v, nil
	case json.Number:
		if len(v) > 200 { // xs:integer has 155 digits here
			return nil, errors.New("a number of more than 200 digits")
		}
		n, ok := new(big.Int).SetString(v.String(), 10)
		if !ok {
			return nil, fmt.Errorf("%s is no integer", v)
		}
		return number(n), nil
	}
	return nil, errors.New("text, a number, true, false or {\"hex\": ...} is wanted")
}
