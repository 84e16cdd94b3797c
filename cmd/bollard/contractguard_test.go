package main

import (
	"encoding/json"
	"testing"

	"bollard/fleet"
	"bollard/ocpp"
)

// An Authorize that two readers may read differently reaches no back end.
func TestAmbiguousAuthorize(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		payload string
		code    ocpp.ErrorCode
	}{
		"a member twice":        {`{"idToken":{"idToken":"NLEXA123456789","type":"eMAID"},"idToken":{"idToken":"X","type":"Local"}}`, ocpp.FormatViolation},
		"a member in two cases": {`{"idToken":{"idToken":"NLEXA123456789","type":"eMAID"},"IDToken":{"idToken":"X","type":"Local"}}`, ocpp.FormatViolation},
		"a wrong type":          {`{"idToken":{"idToken":"NLEXA123456789","type":"eMAID"},"certificate":["x"]}`, ocpp.TypeConstraintViolation},
	} {
		if request, v := readAuthorize([]byte(tt.payload), nil); request != nil || v.Act != fleet.Refuse || v.Code != tt.code || v.Reason == "" {
			t.Errorf("%s: %+v", name, v)
		}
	}
	unread := &ocpp.FrameError{Code: ocpp.TypeConstraintViolation, Reason: "data is not a string"}
	if request, v := readAuthorize(nil, unread); request != nil || v.Act != fleet.Refuse || v.Code != unread.Code {
		t.Errorf("without a payload: %+v", v)
	}
}

// What a back end says of an account whose certificate is good, in both forms.
func TestAgreedWithTheBackEnd(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		wrapped    bool
		said, want string
	}{
		"2.x":                         {false, `{"idTokenInfo":{"status":"Blocked"}}`, `{"certificateStatus":"ContractCancelled","idTokenInfo":{"status":"Blocked"}}`},
		"1.6":                         {true, `{"status":"Accepted","data":"{\"idTokenInfo\":{\"status\":\"Accepted\"}}"}`, `{"status":"Accepted","data":"{\"certificateStatus\":\"Accepted\",\"idTokenInfo\":{\"status\":\"Accepted\"}}"}`},
		"1.6 without plug and charge": {true, `{"status":"UnknownVendorId"}`, `{"status":"UnknownVendorId"}`},
	} {
		got, err := agreed(test.wrapped)(json.RawMessage(test.said))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		text, err := json.Marshal(got)
		if err != nil || string(text) != test.want {
			t.Errorf("%s: %s, %v", name, text, err)
		}
	}
	if _, err := agreed(true)(json.RawMessage(`{"status":"Accepted","Status":"Rejected"}`)); err == nil {
		t.Error("an ambiguous answer was merged")
	}
}
