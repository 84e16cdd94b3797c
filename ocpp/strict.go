package ocpp

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
)

// DecodeStrict unmarshals a payload Bollard acts on, so that nobody behind it
// can read it differently: no object has a key twice, none has a key that
// differs from a known field only by case, strings are valid Unicode, known
// strings hold no U+0000 (some peers' end there), nothing follows. Unknown keys are tolerated (real stations send them), null is an
// empty object. The error is a *FrameError with the code for a CALLERROR and no
// id; its reason holds nothing from the payload.
//
// encoding/json alone takes the last of {"csr":…,"CSR":…,"Csr":…}.
func DecodeStrict(payload []byte, into any) error {
	s := scanner{b: payload}
	if c := s.space(); c != '{' && c != 'n' {
		return &FrameError{Code: FormatViolation, Reason: "payload is not an object"}
	}
	if err := (strictWalk{&s}).value(1, reflect.TypeOf(into)); err != nil {
		return &FrameError{Code: FormatViolation, Reason: "payload: " + err.Error()}
	}
	if err := s.end(); err != nil {
		return &FrameError{Code: FormatViolation, Reason: "payload: " + err.Error()}
	}
	if err := json.Unmarshal(payload, into); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) && wrong.Field != "" {
			return &FrameError{Code: TypeConstraintViolation, Reason: "payload: " + wrong.Field + " has the wrong type"}
		}
		return &FrameError{Code: TypeConstraintViolation, Reason: "payload: a member has the wrong type"}
	}
	return nil
}

// DecodeSigned returns the payload inside a signed message, a flattened JWS
// (RFC 7515 §7.2.2, OCPP 2.1 part 4 §7), for policy to look at. It proves
// nothing about the signature.
func DecodeSigned(payload []byte) ([]byte, error) {
	var jws struct {
		Payload   string `json:"payload"`
		Protected string `json:"protected"`
		Signature string `json:"signature"`
	}
	if err := DecodeStrict(payload, &jws); err != nil {
		return nil, err
	}
	inner, err := base64.RawURLEncoding.Strict().DecodeString(jws.Payload)
	if err != nil || len(inner) == 0 {
		return nil, &FrameError{Code: FormatViolation, Reason: "payload of a signed message is not base64url"}
	}
	s := scanner{b: inner}
	if s.space() != '{' {
		return nil, &FrameError{Code: FormatViolation, Reason: "payload of a signed message is not an object"}
	}
	if _, err := s.value(1); err != nil {
		return nil, &FrameError{Code: FormatViolation, Reason: "payload of a signed message: " + err.Error()}
	}
	if err := s.end(); err != nil {
		return nil, &FrameError{Code: FormatViolation, Reason: "payload of a signed message: " + err.Error()}
	}
	return inner, nil
}

// strictWalk walks a value beside the type it will be decoded into.
type strictWalk struct{ s *scanner }

// value walks one value. t is nil where no known type is left.
func (w strictWalk) value(depth int, t reflect.Type) error {
	t = target(t)
	switch w.s.space() {
	case '{':
		var fields map[string]reflect.Type
		if t != nil && t.Kind() == reflect.Struct {
			fields = map[string]reflect.Type{}
			jsonFields(t, fields)
		}
		seen := map[string]bool{}
		return w.s.object(depth+1, func(rawKey []byte) error {
			key, err := decode(rawKey)
			if err != nil {
				return err
			}
			if seen[key] {
				return errDuplicate
			}
			seen[key] = true
			if fields != nil && strings.IndexByte(key, 0) >= 0 {
				return errNUL
			}
			member, known := fields[key]
			if !known {
				for name := range fields {
					if strings.EqualFold(name, key) {
						return errKeyVariant
					}
				}
				if t != nil && t.Kind() == reflect.Map {
					member = t.Elem()
				}
			}
			return w.value(depth+1, member)
		})
	case '[':
		var element reflect.Type
		if t != nil && (t.Kind() == reflect.Slice || t.Kind() == reflect.Array) {
			element = t.Elem()
		}
		return w.s.array(depth+1, func() error { return w.value(depth+1, element) })
	case '"':
		raw, _, err := w.s.str()
		if err != nil {
			return err
		}
		text, err := decode(raw)
		if err == nil && t != nil && strings.IndexByte(text, 0) >= 0 {
			return errNUL
		}
		return err
	}
	_, err := w.s.value(depth)
	return err
}

// target removes pointers. A type that decodes itself has no known fields.
func target(t reflect.Type) reflect.Type {
	unmarshaler := reflect.TypeFor[json.Unmarshaler]()
	for t != nil {
		if t.Implements(unmarshaler) || reflect.PointerTo(t).Implements(unmarshaler) {
			return nil
		}
		if t.Kind() != reflect.Pointer {
			return t
		}
		t = t.Elem()
	}
	return nil
}

// jsonFields collects the keys encoding/json would fill.
func jsonFields(t reflect.Type, into map[string]reflect.Type) {
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if inner := target(f.Type); f.Anonymous && name == "" && inner != nil && inner.Kind() == reflect.Struct {
			jsonFields(inner, into)
			continue
		}
		if !f.IsExported() || name == "-" {
			continue
		}
		if name == "" {
			name = f.Name
		}
		into[name] = f.Type
	}
}
