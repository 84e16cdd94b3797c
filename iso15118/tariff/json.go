package tariff

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"bollard/iso15118/exi"
)

// customData is what OCPP lets stand everywhere and EXI has no place for.
const customData = "customData"

// fill makes an element's content of an object's members.
func fill(el *exi.Element, raw json.RawMessage, of []member) error {
	members, err := object(raw)
	if err != nil {
		return err
	}
	for name := range members {
		if name != customData && !slices.ContainsFunc(of, func(m member) bool { return m.json == name }) {
			return fmt.Errorf("%q isn't carried in EXI", name)
		}
	}
	for _, m := range of {
		raw, ok := members[m.json]
		if !ok {
			continue
		}
		children, err := m.read(raw)
		if err != nil {
			return within(m.json, err)
		}
		if m.within != "" {
			around := exi.New("", m.within)
			around.Children, children = children, nil
			children = append(children, around)
		}
		el.Children = append(el.Children, children...)
	}
	return nil
}

// read makes the elements of a member.
func (m member) read(raw json.RawMessage) ([]exi.Element, error) {
	values := []json.RawMessage{raw}
	if m.list {
		var err error
		if values, err = array(raw); err != nil || len(values) == 0 {
			return nil, errors.New("an array of one or more is wanted")
		}
	}
	out := make([]exi.Element, 0, len(values))
	for i, value := range values {
		el := exi.New("", m.local)
		err := m.one(&el, value)
		if err != nil && m.list {
			err = within(fmt.Sprintf("[%d]", i), err)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, el)
	}
	return out, nil
}

func (m member) one(el *exi.Element, raw json.RawMessage) (err error) {
	switch m.kind {
	case nested:
		return fill(el, raw, m.of)
	case text:
		el.Value, err = str(raw)
	case integer:
		el.Value, err = number(raw)
	case boolean:
		el.Value, err = truth(raw)
	case instant:
		el.Value, err = seconds(raw)
	case physical:
		el.Children, err = watt(raw)
	case costKind:
		el.Value, err = cost(raw)
	}
	return err
}

func str(raw json.RawMessage) (string, error) {
	var s *string
	if !utf8.Valid(raw) || json.Unmarshal(raw, &s) != nil || s == nil {
		return "", errors.New("text is wanted")
	}
	// A lone surrogate becomes one: what a station makes of it nobody knows.
	if strings.ContainsRune(*s, utf8.RuneError) {
		return "", errors.New("it isn't valid Unicode")
	}
	return *s, nil
}

func number(raw json.RawMessage) (int64, error) {
	var n *int64
	if json.Unmarshal(raw, &n) != nil || n == nil {
		return 0, errors.New("a whole number is wanted")
	}
	return *n, nil
}

func truth(raw json.RawMessage) (bool, error) {
	var b *bool
	if json.Unmarshal(raw, &b) != nil || b == nil {
		return false, errors.New("true or false is wanted")
	}
	return *b, nil
}

// seconds is TimeAnchor of ISO 15118-20, Unix time. What is between seconds would be
// lost.
func seconds(raw json.RawMessage) (int64, error) {
	s, err := str(raw)
	if err != nil {
		return 0, err
	}
	at, err := time.Parse(time.RFC3339, s)
	switch {
	case err != nil:
		return 0, errors.New("a date-time is wanted, such as 2026-11-26T12:00:00Z")
	case at.Nanosecond() != 0 || at.Unix() < 0:
		return 0, errors.New("EXI carries whole seconds since 1970")
	}
	return at.Unix(), nil
}

// cost is the kind of a cost, as ISO 15118-2 spells it.
func cost(raw json.RawMessage) (string, error) {
	s, err := str(raw)
	if err != nil {
		return "", err
	}
	if s == "RelativePricePercentage" {
		return "relativePricePercentage", nil
	}
	return s, nil // the others are spelled alike, and EXI knows no more
}

// watt is startValue, a number, as value times a power of ten in watt (ISO 15118-2
// SalesTariffType). The multiplier that is closest to none is taken, a positive one
// before a negative.
func watt(raw json.RawMessage) ([]exi.Element, error) {
	var n json.Number
	if json.Unmarshal(raw, &n) != nil || n == "" || raw[0] == '"' || len(n) > 20 || strings.ContainsAny(n.String(), "eE") {
		return nil, errors.New("a number is wanted, without exponent")
	}
	exact, ok := new(big.Rat).SetString(n.String())
	if !ok {
		return nil, errors.New("a number is wanted")
	}
	for _, multiplier := range []int64{0, 1, 2, 3, -1, -2, -3} {
		scale := new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(max(multiplier, -multiplier)), nil))
		if multiplier > 0 {
			scale.Inv(scale)
		}
		if value := new(big.Rat).Mul(exact, scale); value.IsInt() && value.Num().IsInt64() {
			if v := value.Num().Int64(); v >= math.MinInt16 && v <= math.MaxInt16 {
				return []exi.Element{leaf("Multiplier", multiplier), leaf("Unit", "W"), leaf("Value", v)}, nil
			}
		}
	}
	return nil, fmt.Errorf("%s isn't a number of 16 bits times a power of ten from -3 to 3", n)
}

func leaf(local string, v any) exi.Element {
	el := exi.New("", local)
	el.Value = v
	return el
}

// object reads an object's members. A name twice, or in two cases, is refused: a
// station may take the other.
func object(raw json.RawMessage) (map[string]json.RawMessage, error) {
	in := json.NewDecoder(bytes.NewReader(raw))
	if token, err := in.Token(); err != nil || token != json.Delim('{') {
		return nil, errors.New("an object is wanted")
	}
	out, folded := map[string]json.RawMessage{}, map[string]bool{}
	for in.More() {
		token, err := in.Token()
		if err != nil {
			return nil, errors.New("it isn't JSON")
		}
		name, _ := token.(string)
		if folded[strings.ToLower(name)] {
			return nil, fmt.Errorf("%q is there twice", name)
		}
		folded[strings.ToLower(name)] = true
		var value json.RawMessage
		if err := in.Decode(&value); err != nil {
			return nil, errors.New("it isn't JSON")
		}
		out[name] = value
	}
	if _, err := in.Token(); err != nil {
		return nil, errors.New("it isn't JSON")
	}
	if _, err := in.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the object")
	}
	return out, nil
}

func array(raw json.RawMessage) ([]json.RawMessage, error) {
	var list []json.RawMessage
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, err
	}
	return list, nil
}

// within names the member an error is in.
func within(name string, err error) error { return fmt.Errorf("%s: %w", name, err) }
