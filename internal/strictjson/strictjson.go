// Package strictjson reads JSON objects that two parsers can't read differently.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// Object reads one object, each of whose members stands there once, with nothing behind
// it.
func Object(data []byte) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("it is no object")
	}
	found := map[string]json.RawMessage{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, errors.New("it is no JSON")
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, errors.New("it is no JSON")
		}
		if _, twice := found[name.(string)]; twice {
			return nil, errors.New("a member stands there twice")
		}
		found[name.(string)] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, errors.New("it is no JSON")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows it")
	}
	return found, nil
}
