package ocpp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// AppendCall appends the frame of a CALL. payload is marshalled unless it is
// json.RawMessage; nil becomes {} (OCPP 2.1 part 4 §4.1.5).
func AppendCall(dst []byte, id, action string, payload any) ([]byte, error) {
	start := len(dst)
	dst = append(dst, "[2,"...)
	dst = appendString(dst, id)
	dst = append(dst, ',')
	dst = appendString(dst, action)
	dst = append(dst, ',')
	dst, err := appendPayload(dst, payload)
	if err != nil {
		return dst[:start], fmt.Errorf("couldn't encode the payload of a CALL: %w", err)
	}
	return append(dst, ']'), nil
}

// AppendRequest appends the frame of the CALL or SEND with this head, and
// another payload.
func AppendRequest(dst []byte, h Head, payload any) ([]byte, error) {
	start := len(dst)
	dst = append(dst, '[')
	dst = strconv.AppendUint(dst, uint64(h.Type), 10)
	dst = append(dst, ',')
	dst = appendID(dst, h.RawID)
	dst = append(dst, ',')
	dst = appendString(dst, h.Action)
	dst = append(dst, ',')
	dst, err := appendPayload(dst, payload)
	if err != nil {
		return dst[:start], fmt.Errorf("couldn't encode the payload of a request: %w", err)
	}
	return append(dst, ']'), nil
}

// AppendResult appends the frame of a CALLRESULT. rawID is JSON as it came
// (Head.RawID).
func AppendResult(dst, rawID []byte, payload any) ([]byte, error) {
	start := len(dst)
	dst = append(dst, "[3,"...)
	dst = appendID(dst, rawID)
	dst = append(dst, ',')
	dst, err := appendPayload(dst, payload)
	if err != nil {
		return dst[:start], fmt.Errorf("couldn't encode the payload of a CALLRESULT: %w", err)
	}
	return append(dst, ']'), nil
}

// AppendError appends the frame of a CALLERROR with empty details, the code in
// the version's spelling and the description cut to 255 characters. A nil rawID
// becomes "-1": the id could not be read (OCPP 2.1 part 4 §4.2.3).
func AppendError(dst, rawID []byte, v Version, code ErrorCode, description string) []byte {
	dst = append(dst, "[4,"...)
	dst = appendID(dst, rawID)
	dst = append(dst, ',')
	dst = appendString(dst, code.Spell(v))
	dst = append(dst, ',')
	dst = appendString(dst, truncate(strings.ToValidUTF8(description, "\uFFFD"), maxDescription))
	return append(dst, ",{}]"...)
}

func appendID(dst, rawID []byte) []byte {
	if len(rawID) == 0 {
		return append(dst, `"-1"`...)
	}
	return append(dst, rawID...)
}

// appendString appends a JSON string with only the escapes JSON demands.
func appendString(dst []byte, s string) []byte {
	s = strings.ToValidUTF8(s, "\uFFFD")
	dst = append(dst, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < 0x20 || c == 0x7f:
			const digits = "0123456789abcdef"
			dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

func appendPayload(dst []byte, payload any) ([]byte, error) {
	if payload == nil {
		return append(dst, "{}"...), nil
	}
	encoded, ok := payload.(json.RawMessage)
	if !ok {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(payload); err != nil {
			return dst, err
		}
		encoded = bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	}
	s := scanner{b: encoded}
	if s.space() != '{' {
		return dst, errors.New("a payload must be a JSON object")
	}
	if _, err := s.value(1); err != nil {
		return dst, err
	}
	if err := s.end(); err != nil {
		return dst, err
	}
	return append(dst, encoded...), nil
}
