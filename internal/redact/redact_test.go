package redact_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"bollard/internal/redact"
)

const canary = "CANARY0815"

// Whatever prints it, the value isn't in what is printed.
func TestNothingPrintsTheValue(t *testing.T) {
	t.Parallel()
	type inner struct {
		Secret   redact.Secret
		Personal redact.Personal
	}
	type outer struct {
		inner
		In  inner
		All []redact.Secret
		By  map[string]redact.Personal
	}
	in := inner{redact.Secret(canary), canary}
	for name, value := range map[string]any{
		"secret": in.Secret, "personal": in.Personal, "pointer": &in.Secret, "struct": in,
		"deep": outer{in, in, []redact.Secret{in.Secret}, map[string]redact.Personal{"k": in.Personal}},
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%c", "%08b"} {
			check(t, name+" "+verb, fmt.Sprintf(verb, value))
		}
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "value", value)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "value", value)
		check(t, name+" in slog", log.String())
		raw, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		check(t, name+" as JSON", string(raw))
	}
	check(t, "error", fmt.Errorf("couldn't use %v of %s: %w", in.Secret, in.Personal, fmt.Errorf("%q", in)).Error())
}

func check(t *testing.T, name, text string) {
	t.Helper()
	decimal := strings.Trim(fmt.Sprint([]byte(canary)), "[]")
	for _, form := range []string{canary, hex.EncodeToString([]byte(canary)), strings.ToUpper(hex.EncodeToString([]byte(canary))), decimal, "Q0FOQVJZ"} {
		if strings.Contains(text, form) {
			t.Errorf("%s: %s", name, text)
		}
	}
}
