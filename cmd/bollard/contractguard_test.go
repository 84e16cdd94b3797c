package main

import (
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
		if v := (&contractGuard{}).authorize(t.Context(), []byte(tt.payload), false, nil); v.Act != fleet.Refuse || v.Code != tt.code || v.Reason == "" {
			t.Errorf("%s: %+v", name, v)
		}
	}
	unread := &ocpp.FrameError{Code: ocpp.TypeConstraintViolation, Reason: "data is not a string"}
	if v := (&contractGuard{}).authorize(t.Context(), nil, true, unread); v.Act != fleet.Refuse || v.Code != unread.Code {
		t.Errorf("without a payload: %+v", v)
	}
}
