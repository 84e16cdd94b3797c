package ocpp_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"bollard/ocpp"
)

func TestAppend(t *testing.T) {
	t.Parallel()
	call, err := ocpp.AppendCall([]byte("x"), "a\"\n\x7f", "A", ocpp.ResetRequest{Type: "<&>"})
	if err != nil || string(call) != `x[2,"a\"\u000a\u007f","A",{"type":"<&>"}]` {
		t.Errorf("%s, %v", call, err)
	}
	send, err := ocpp.AppendRequest(nil, ocpp.Head{Type: ocpp.Send, RawID: []byte(`"1"`), Action: "A"}, nil)
	if err != nil || string(send) != `[6,"1","A",{}]` {
		t.Errorf("%s, %v", send, err)
	}
	result, err := ocpp.AppendResult(nil, []byte(`"\u0031"`), json.RawMessage(` {"a": 1}`))
	if err != nil || string(result) != `[3,"\u0031", {"a": 1}]` {
		t.Errorf("%s, %v", result, err)
	}
	for _, bad := range []any{json.RawMessage(``), json.RawMessage(`{`), json.RawMessage(`{}]`), json.RawMessage(`[]`), "x", func() {}} {
		if got, err := ocpp.AppendResult([]byte("x"), []byte("1"), bad); err == nil || string(got) != "x" {
			t.Errorf("%v gave %s", bad, got)
		}
	}
}

func TestAppendError(t *testing.T) {
	t.Parallel()
	if got := string(ocpp.AppendError(nil, nil, ocpp.V201, ocpp.RPCFrameworkError, "")); got != `[4,"-1","RpcFrameworkError","",{}]` {
		t.Error(got)
	}
	frame := ocpp.AppendError(nil, []byte("17"), ocpp.V16, ocpp.FormatViolation, "\xff\""+strings.Repeat("é", 400))
	h, err := ocpp.ParseHead(frame)
	if err != nil || h.Type != ocpp.CallError || string(h.ID) != "17" {
		t.Fatalf("%+v, %v", h, err)
	}
	failure, err := ocpp.ParseCallFailure(frame)
	if err != nil || failure.Code != ocpp.FormatViolation || utf8.RuneCountInString(failure.Description) != 255 {
		t.Errorf("%+v, %v", failure, err)
	}
	if len(failure.Error()) > 300 {
		t.Errorf("the error is %d bytes long", len(failure.Error()))
	}
	if !strings.Contains(string(frame), "FormationViolation") {
		t.Errorf("%s", frame)
	}
}

func TestErrorCodeSpellings(t *testing.T) {
	t.Parallel()
	for code, want := range map[ocpp.ErrorCode][2]string{
		ocpp.FormatViolation:               {"FormationViolation", "FormatViolation"},
		ocpp.OccurrenceConstraintViolation: {"OccurenceConstraintViolation", "OccurrenceConstraintViolation"},
		ocpp.RPCFrameworkError:             {"ProtocolError", "RpcFrameworkError"},
		ocpp.MessageTypeNotSupported:       {"GenericError", "MessageTypeNotSupported"},
		ocpp.SecurityError:                 {"SecurityError", "SecurityError"},
	} {
		if got := [2]string{code.Spell(ocpp.V16), code.Spell(ocpp.V21)}; got != want {
			t.Errorf("%s is spelled %v", code, got)
		}
		if ocpp.ParseErrorCode(want[1]) != code {
			t.Errorf("%s is read as %s", want[1], ocpp.ParseErrorCode(want[1]))
		}
	}
	for spelled, want := range map[string]ocpp.ErrorCode{
		"FormationViolation": ocpp.FormatViolation, "OccurenceConstraintViolation": ocpp.OccurrenceConstraintViolation,
		"securityerror": ocpp.SecurityError, "Made\nUp": ocpp.GenericError, "": ocpp.GenericError,
	} {
		if got := ocpp.ParseErrorCode(spelled); got != want {
			t.Errorf("%q is read as %s", spelled, got)
		}
	}
}

func TestParseCallFailure(t *testing.T) {
	t.Parallel()
	for frame, want := range map[string]ocpp.CallFailure{
		`[4,"1","NotImplemented","x",{}]`:    {Code: ocpp.NotImplemented, Description: "x"},
		`[4,"1","NotImplemented"]`:           {Code: ocpp.NotImplemented},
		`[4,"1","\u004eotImplemented",null]`: {Code: ocpp.NotImplemented},
		`[5,"1","Odd",5,[]]`:                 {Code: ocpp.GenericError},
		`[4,"1","GenericError","\ud800",{}]`: {Code: ocpp.GenericError},
	} {
		got, err := ocpp.ParseCallFailure([]byte(frame))
		if err != nil || *got != want {
			t.Errorf("%s: %+v, %v", frame, got, err)
		}
	}
	for _, frame := range []string{`[3,"1",{}]`, `[4,"1"]`, `[4,"1",1]`, `x`} {
		if got, err := ocpp.ParseCallFailure([]byte(frame)); err == nil {
			t.Errorf("%s: %+v", frame, got)
		}
	}
}
