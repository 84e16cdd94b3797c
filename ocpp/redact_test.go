package ocpp_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"bollard/ocpp"
)

// planted fills every text of a message with a canary.
func planted(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				planted(v.Field(i))
			}
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		planted(v.Elem())
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte("CANARY"))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		planted(v.Index(0))
	case reflect.String:
		v.SetString("CANARY")
	}
}

// What may hold a password, an idTag or a station's free text prints nothing of
// it, alone or within another message.
func TestMessagesPrintNoSecrets(t *testing.T) {
	t.Parallel()
	for _, message := range []any{
		new(ocpp.ChangeConfigurationRequest16), new(ocpp.GetConfigurationResponse16), new(ocpp.SetVariablesRequest), new(ocpp.GetVariablesResponse),
		new(ocpp.SecurityEventRequest), new(ocpp.DataTransferRequest), new(ocpp.DataTransferResponse), new(ocpp.GetLogRequest), new(ocpp.Head),
	} {
		v := reflect.ValueOf(message).Elem()
		planted(v)
		if r, ok := message.(*ocpp.GetConfigurationResponse16); ok {
			r.UnknownKey = nil // names, no values
		}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
			for _, what := range []any{message, v.Interface()} {
				text := fmt.Sprintf(verb, what)
				if strings.Contains(text, "CANARY") || strings.Contains(text, fmt.Sprint([]byte("CANARY"))) || strings.Contains(text, "0x43, 0x41") {
					t.Errorf("%T with %s: %s", what, verb, text)
				}
			}
		}
	}
}

// A peer's words about an error are its own: they don't reach a log.
func TestCallFailurePrintsNoWords(t *testing.T) {
	t.Parallel()
	err := fmt.Errorf("couldn't: %w", &ocpp.CallFailure{Code: ocpp.GenericError, Description: "CANARY"})
	if got := err.Error(); strings.Contains(got, "CANARY") || !strings.Contains(got, "GenericError") {
		t.Error(got)
	}
}
