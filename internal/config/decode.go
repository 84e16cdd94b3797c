package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Decode fills a struct from a YAML file as strictly as Load does a File from
// bollard.yaml; path is for errors, which are *Error. It returns the line of
// each key that was set, such as rules[2].name, also with an error. The struct's
// tags: yaml is the key; number:"ok" lets a bare number be text; lines:"ok" lets
// text have line breaks; one:"ok" lets a single value be a list of one.
func Decode(path string, data []byte, into any) (lines map[string]int, err error) {
	d := decoder{path: path, lines: map[string]int{}}
	return d.lines, d.document(data, into)
}

// A decoder fills a struct from YAML nodes, so that each fault has its line. It
// knows only what configuration needs: no anchors, tags, merges or second
// documents, each key once and spelled as documented.
type decoder struct {
	path  string
	lines map[string]int // line of each key that was set, for later checks
}

func (d *decoder) fail(line int, key, format string, args ...any) error {
	return &Error{Path: d.path, Line: line, Key: key, Text: fmt.Sprintf(format, args...)}
}

func (d *decoder) document(data []byte, into any) error {
	if len(data) > maxBytes {
		return d.fail(0, "", "the file is longer than 1 MiB")
	}
	if !utf8.Valid(data) {
		return d.fail(0, "", "the file is not valid UTF-8")
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			if _, whole := into.(*File); !whole {
				return nil // nothing but comments, perhaps
			}
			return d.fail(0, "", "the file is empty; `bollard init` writes one")
		}
		return d.syntax(err)
	}
	var second yaml.Node
	switch err := dec.Decode(&second); {
	case err == nil:
		return d.fail(second.Line, "", "the file has a second document; delete the line ---")
	case !errors.Is(err, io.EOF):
		return d.syntax(err)
	}
	return d.value(doc.Content[0], reflect.ValueOf(into).Elem(), "", "")
}

// syntax takes the line out of a message such as "yaml: line 3: found …".
func (d *decoder) syntax(err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 0
	if m := regexp.MustCompile(`^line (\d+): `).FindStringSubmatch(text); m != nil {
		text = strings.TrimPrefix(text, m[0])
		line, err = strconv.Atoi(m[1])
		if err != nil {
			line = 0
		}
	}
	return d.fail(line, "", "no YAML: %s; indent with blanks, not tabs", text)
}

// value decodes one node. The tag is that of the field it is for.
func (d *decoder) value(n *yaml.Node, v reflect.Value, key string, tag reflect.StructTag) error {
	d.lines[key] = n.Line
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		return d.fail(n.Line, key, "anchors and aliases are not supported; write the value out")
	case n.Style&yaml.TaggedStyle != 0:
		return d.fail(n.Line, key, "tags are not supported; delete %.40q", n.Tag)
	case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null":
		return d.fail(n.Line, key, "has no value; give one, or delete the line")
	}
	if v.Type() == reflect.TypeFor[time.Duration]() {
		return d.duration(n, v, key)
	}
	switch v.Kind() {
	case reflect.Struct:
		return d.mapping(n, v, key)
	case reflect.Slice:
		return d.sequence(n, v, key, tag)
	case reflect.Map:
		return d.names(n, v, key, tag)
	}
	if n.Kind != yaml.ScalarNode {
		return d.fail(n.Line, key, "wants a single value, not %s", kindName(n))
	}
	switch v.Kind() {
	case reflect.String:
		number := tag.Get("number") == "ok"
		if kind := n.ShortTag(); kind != "!!str" && !(number && (kind == "!!int" || kind == "!!float" || kind == "!!timestamp")) {
			return d.fail(n.Line, key, "wants text, not %s; put it in quotes", tagName(kind))
		}
		broken := tag.Get("lines") == "ok"
		if strings.ContainsFunc(n.Value, func(r rune) bool { return (r < 0x20 || r == 0x7f) && (r != '\n' || !broken) }) {
			return d.fail(n.Line, key, "has a line break or another control character")
		}
		if n.Value == "" {
			return d.fail(n.Line, key, "is empty; give a value, or delete the line")
		}
		v.SetString(n.Value)
	case reflect.Int:
		i, err := strconv.Atoi(n.Value)
		if err != nil || n.ShortTag() != "!!int" {
			return d.fail(n.Line, key, "wants a whole number")
		}
		if i <= 0 && strings.HasPrefix(key, "limits.") {
			return d.fail(n.Line, key, "must be more than 0") // else it would pass for the default
		}
		v.SetInt(int64(i))
	case reflect.Bool:
		if n.ShortTag() != "!!bool" {
			return d.fail(n.Line, key, "wants true or false")
		}
		v.SetBool(strings.EqualFold(n.Value, "true"))
	default:
		panic("internal error: config has a field of kind " + v.Kind().String())
	}
	return nil
}

func (d *decoder) duration(n *yaml.Node, v reflect.Value, key string) error {
	t, err := time.ParseDuration(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil {
		return d.fail(n.Line, key, "wants a duration with its unit, such as 10s, 500ms or 2m")
	}
	if t <= 0 {
		return d.fail(n.Line, key, "must be more than 0") // else it would pass for the default
	}
	v.SetInt(int64(t))
	return nil
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, key string) error {
	if n.Kind != yaml.MappingNode {
		return d.fail(n.Line, key, "wants keys with values, not %s", kindName(n))
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, value := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode || k.Anchor != "" || k.Style&yaml.TaggedStyle != 0 {
			return d.fail(k.Line, key, "has a key that is no plain word")
		}
		if k.Value == "<<" {
			return d.fail(k.Line, key, "merges (<<) are not supported; write the keys out")
		}
		name := join(key, k.Value)
		if line, twice := seen[k.Value]; twice {
			return d.fail(k.Line, clip(name), "stands here a second time, after line %d; delete one", line)
		}
		seen[k.Value] = k.Line
		field, ok := fieldOf(v.Type(), k.Value)
		if !ok {
			text := "is no key of " + filepath.Base(d.path) + " here"
			if near := nearest(v.Type(), k.Value); near != "" {
				text += "; did you mean " + near + "?"
			} else {
				text += "; known are " + strings.Join(keysOf(v.Type()), ", ")
			}
			return d.fail(k.Line, clip(name), "%s", text)
		}
		if err := d.value(value, v.FieldByIndex(field.Index), name, field.Tag); err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) sequence(n *yaml.Node, v reflect.Value, key string, tag reflect.StructTag) error {
	if n.Kind == yaml.ScalarNode && tag.Get("one") == "ok" {
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		return d.value(n, v.Index(0), key+"[0]", tag)
	}
	if n.Kind != yaml.SequenceNode {
		return d.fail(n.Line, key, "wants a list, not %s", kindName(n))
	}
	// Also an empty one: that isn't the default. Set before it is filled, so that
	// what stands before a fault can be told.
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, element := range n.Content {
		if err := d.value(element, v.Index(i), fmt.Sprintf("%s[%d]", key, i), tag); err != nil {
			return err
		}
	}
	return nil
}

// names decodes a mapping whose keys are the file's own words.
func (d *decoder) names(n *yaml.Node, v reflect.Value, key string, tag reflect.StructTag) error {
	if n.Kind != yaml.MappingNode {
		return d.fail(n.Line, key, "wants keys with values, not %s", kindName(n))
	}
	v.Set(reflect.MakeMap(v.Type()))
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, value := n.Content[i], n.Content[i+1]
		name := clip(join(key, k.Value))
		if !plainName(k.Value) || k.Kind != yaml.ScalarNode || k.Anchor != "" || k.Style&yaml.TaggedStyle != 0 {
			return d.fail(k.Line, name, "must be a name of lower-case letters, digits and _, at most 64, that begins with a letter")
		}
		if v.MapIndex(reflect.ValueOf(k.Value)).IsValid() {
			return d.fail(k.Line, name, "stands here a second time, after line %d; delete one", d.lines[name])
		}
		element := reflect.New(v.Type().Elem()).Elem()
		if err := d.value(value, element, name, tag); err != nil {
			return err
		}
		d.lines[name] = k.Line
		v.SetMapIndex(reflect.ValueOf(k.Value), element)
	}
	return nil
}

func plainName(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (i == 0 || (c < '0' || c > '9') && c != '_') {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

func join(parent, key string) string {
	if parent == "" {
		return key
	}
	return parent + "." + key
}

// clip keeps an unknown key printable.
func clip(name string) string {
	return strings.Trim(strconv.Quote(name[:min(len(name), 80)]), `"`)
}

func fieldOf(t reflect.Type, key string) (reflect.StructField, bool) {
	for f := range t.Fields() {
		if f.Tag.Get("yaml") == key {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

func keysOf(t reflect.Type) []string {
	var keys []string
	for f := range t.Fields() {
		keys = append(keys, f.Tag.Get("yaml"))
	}
	return keys
}

// nearest is the known key that is at most two edits away.
func nearest(t reflect.Type, key string) string {
	best, least := "", 3
	if len(key) > 40 {
		return ""
	}
	for _, known := range keysOf(t) {
		if n := distance(strings.ToLower(key), known); n < least && n < len(known) {
			best, least = known, n
		}
	}
	return best
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "keys with values"
	case yaml.SequenceNode:
		return "a list"
	}
	return tagName(n.ShortTag())
}

func tagName(tag string) string {
	switch tag {
	case "!!str":
		return "text"
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "true or false"
	}
	return "this"
}
