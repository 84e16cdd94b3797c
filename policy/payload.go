package policy

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"

	"bollard/ocpp"
)

// decode reads a payload so that no peer can read it differently: strictly JSON,
// no key twice, and none that differs only by case or white space from another or
// from one the rules look at. The error is an *ocpp.FrameError.
func decode(payload []byte, fields map[string]string) (map[string]any, error) {
	var raw json.RawMessage
	if err := ocpp.DecodeStrict(payload, &raw); err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(payload))
	d.UseNumber()
	var tree any
	if err := d.Decode(&tree); err != nil {
		return nil, &ocpp.FrameError{Code: ocpp.FormatViolation, Reason: "payload isn't readable"}
	}
	if tree == nil {
		return map[string]any{}, nil
	}
	object, ok := tree.(map[string]any)
	if !ok {
		return nil, &ocpp.FrameError{Code: ocpp.FormatViolation, Reason: "payload is not an object"}
	}
	if reason := settle(object, fields); reason != "" {
		return nil, &ocpp.FrameError{Code: ocpp.FormatViolation, Reason: "payload: " + reason}
	}
	return object, nil
}

// settle checks keys and texts, and makes numbers of json.Numbers, in place.
func settle(object map[string]any, fields map[string]string) (reason string) {
	seen := make(map[string]bool, len(object))
	for key, value := range object {
		folded := fold(key)
		known, named := fields[folded]
		switch {
		case strings.IndexByte(key, 0) >= 0:
			return "a key holds U+0000"
		case seen[folded]:
			return "two keys differ only by case"
		case named && known != key:
			return "a key differs from " + known + " only by case or white space"
		}
		seen[folded] = true
		settled, reason := settleValue(value, fields)
		if reason != "" {
			return reason
		}
		object[key] = settled
	}
	return ""
}

func settleValue(value any, fields map[string]string) (settled any, reason string) {
	switch v := value.(type) {
	case map[string]any:
		return v, settle(v, fields)
	case []any:
		for i := range v {
			if v[i], reason = settleValue(v[i], fields); reason != "" {
				return nil, reason
			}
		}
	case string:
		if strings.IndexByte(v, 0) >= 0 {
			return nil, "a text holds U+0000" // some peers' texts end there
		}
	case json.Number:
		if n, err := strconv.ParseInt(v.String(), 10, 64); err == nil {
			return n, ""
		}
		f, err := strconv.ParseFloat(v.String(), 64)
		if err != nil {
			return nil, "a number is out of range"
		}
		return f, ""
	}
	return value, ""
}

// encode is the reverse of decode, with sorted keys.
func encode(tree map[string]any) (json.RawMessage, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(tree); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// pncVendor marks the plug & charge form of 2.0.1 messages in a 1.6 DataTransfer
// (OCA application note "Using ISO 15118 Plug & Charge with OCPP 1.6").
const pncVendor = "org.openchargealliance.iso15118pnc"

// unwrap takes the message out of a plug & charge DataTransfer; ok is false for
// any other transfer. What claims to be one and can't be read is an error.
func unwrap(payload []byte) (action string, inner []byte, ok bool, err error) {
	var transfer ocpp.DataTransferRequest
	if err := ocpp.DecodeStrict(payload, &transfer); err != nil {
		return "", nil, false, err
	}
	if fold(transfer.VendorID) != pncVendor {
		return "", nil, false, nil
	}
	action = strings.TrimSpace(transfer.MessageID)
	if len(transfer.Data) == 0 {
		return action, []byte("{}"), true, nil
	}
	var text string
	if err := json.Unmarshal(transfer.Data, &text); err != nil {
		return action, nil, true, &ocpp.FrameError{Code: ocpp.TypeConstraintViolation, Reason: "data of a plug & charge transfer is not a string"}
	}
	return action, []byte(text), true, nil
}
