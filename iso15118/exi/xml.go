package exi

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strings"
)

// hexType is the only type carried whose bytes are hex in XML; those of all others
// are base64.
const hexType = "sessionIDType"

// xsi is where schema locations stand, which say nothing here.
const xsi = "http://www.w3.org/2001/XMLSchema-instance"

// ParseXML reads a document that stands in XML: what the schema declares and nothing
// else. Its facets and order are checked when it is encoded. White space between
// elements and declarations of namespaces count for nothing; comments, directives and
// processing instructions are refused.
func (s *Set) ParseXML(data []byte) (Element, error) {
	in := xml.NewDecoder(bytes.NewReader(data))
	var root Element
	for found := false; ; {
		token, err := in.Token()
		switch {
		case errors.Is(err, io.EOF) && found:
			return root, nil
		case err != nil:
			return Element{}, fmt.Errorf("couldn't read the XML: %w", ending(err))
		}
		start, isStart := token.(xml.StartElement)
		switch {
		case isStart && !found:
			found = true
			t, err := s.rootType(Document, Name{start.Name.Space, start.Name.Local})
			if err == nil {
				root, err = readXML(in, start, t)
			}
			if err != nil {
				return Element{}, fmt.Errorf("couldn't read the XML: %w", err)
			}
		case isStart || !isBlank(token) && !isDeclaration(token, found):
			return Element{}, errors.New("couldn't read the XML: there is something beside its element")
		}
	}
}

func isBlank(token xml.Token) bool {
	text, ok := token.(xml.CharData)
	return ok && len(bytes.TrimSpace(text)) == 0
}

func isDeclaration(token xml.Token, found bool) bool {
	p, ok := token.(xml.ProcInst)
	return ok && p.Target == "xml" && !found
}

// readXML reads an element to its end. Types nest in no circle, so that depth is bounded.
func readXML(in *xml.Decoder, start xml.StartElement, t *complex) (Element, error) {
	el := Element{Name: Name{start.Name.Space, start.Name.Local}}
	for _, a := range start.Attr {
		if a.Name.Space == "xmlns" || a.Name.Space == "" && a.Name.Local == "xmlns" || a.Name.Space == xsi {
			continue
		}
		if !slices.ContainsFunc(t.attrs, func(b attribute) bool { return b.name == a.Name.Local }) || el.Attribute(a.Name.Local) != "" {
			return el, within(el.Local, fmt.Errorf("it has no attribute %q, or has it twice", a.Name.Local))
		}
		el.Attributes = append(el.Attributes, Attribute{a.Name.Local, a.Value})
	}
	sortAttributes(&el, t)
	var text strings.Builder
	for {
		token, err := in.Token()
		if err != nil {
			return el, ending(err)
		}
		switch token := token.(type) {
		case xml.CharData:
			text.Write(token)
		case xml.StartElement:
			_, d := t.memberOf(token.Name.Local)
			if d == nil || d.space != token.Name.Space {
				return el, within(el.Local, fmt.Errorf("it has no element %q of namespace %q", token.Name.Local, token.Name.Space))
			}
			if d.typ == nil {
				return el, within(el.Local, fmt.Errorf("element %s %w", token.Name.Local, ErrNotCarried))
			}
			child, err := readXML(in, token, d.typ)
			if err != nil {
				return el, within(el.Local, err)
			}
			el.Children = append(el.Children, child)
		case xml.EndElement:
			if t.text == nil {
				if strings.TrimSpace(text.String()) != "" {
					return el, within(el.Local, errors.New("it has text"))
				}
				return el, nil
			}
			if el.Value, err = t.parseText(text.String()); err != nil {
				return el, within(el.Local, err)
			}
			return el, nil
		default:
			return el, within(el.Local, errors.New("it has a comment or an instruction"))
		}
	}
}

// parseText reads the text of an element.
func (t *complex) parseText(text string) (any, error) {
	plain := strings.TrimSpace(text)
	switch t.text.kind {
	case kindText:
		return text, nil
	case kindEnum:
		return plain, nil
	case kindBool:
		if !slices.Contains([]string{"true", "false", "1", "0"}, plain) {
			return nil, errors.New("true or false is wanted")
		}
		return plain == "true" || plain == "1", nil
	case kindBytes:
		if t.name == hexType {
			return hex.DecodeString(plain)
		}
		return base64.StdEncoding.Strict().DecodeString(strings.Join(strings.Fields(text), ""))
	}
	if len(plain) > 200 { // as in JSON
		return nil, errors.New("a number of more than 200 digits")
	}
	n, ok := new(big.Int).SetString(plain, 10)
	if !ok {
		return nil, errors.New("an integer is wanted")
	}
	return number(n), nil
}

// ElementXML writes a document in XML.
func (s *Set) ElementXML(root Element) ([]byte, error) {
	t, err := s.rootType(Document, root.Name)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	out.WriteString(xml.Header)
	err = writeXML(&out, &root, t, "")
	return out.Bytes(), err
}

// writeXML writes an element whose namespace is the default one, and that of its
// attributes, which ISO 15118-2 declares for all with its types.
func writeXML(out *bytes.Buffer, el *Element, t *complex, outer string) error {
	out.WriteString("<" + el.Local)
	if el.Space != outer {
		fmt.Fprintf(out, ` xmlns="%s"`, el.Space)
	}
	for _, a := range el.Attributes {
		name := a.Name
		if a.Name == "Id" && el.Space != NamespaceSignature {
			fmt.Fprintf(out, ` xmlns:t="%s"`, nsTypes)
			name = "t:Id"
		}
		out.WriteString(" " + name + `="`)
		if err := xml.EscapeText(out, []byte(a.Value)); err != nil {
			return err
		}
		out.WriteString(`"`)
	}
	out.WriteString(">")
	if t.text != nil {
		text := fmt.Sprint(el.Value)
		if b, ok := el.Value.([]byte); ok && t.name == hexType {
			text = strings.ToUpper(hex.EncodeToString(b))
		} else if ok {
			text = base64.StdEncoding.EncodeToString(b)
		}
		if err := xml.EscapeText(out, []byte(text)); err != nil {
			return err
		}
	}
	for i := range el.Children {
		_, d := t.memberOf(el.Children[i].Local)
		if d == nil || d.typ == nil {
			return fmt.Errorf("element %s %w", el.Children[i].Local, ErrNotCarried)
		}
		if err := writeXML(out, &el.Children[i], d.typ, el.Space); err != nil {
			return within(el.Local, err)
		}
	}
	out.WriteString("</" + el.Local + ">")
	return nil
}
