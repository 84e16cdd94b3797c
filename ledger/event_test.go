package ledger_test

import (
	"fmt"
	"strings"
	"testing"

	"bollard/ledger"
)

func TestValidate(t *testing.T) {
	t.Parallel()
	many := map[string]string{}
	for i := range ledger.MaxPairs + 1 {
		many[fmt.Sprint("k", i)] = ""
	}
	for _, test := range []struct {
		name  string
		event ledger.Event
		want  string // part of the error, "" if valid
	}{
		{"whole", ledger.Event{Kind: "certificate.intent", Subject: "0a", Actor: "station:cs-ü", Data: map[string]string{"reason": "übergroß"}}, ""},
		{"no subject", ledger.Event{Kind: "server.started", Actor: "bollard"}, ""},
		{"three words", ledger.Event{Kind: "station.profile-2.set", Actor: "operator"}, ""},
		{"limits", ledger.Event{Kind: "a." + strings.Repeat("b", 62), Subject: strings.Repeat("s", 512), Actor: strings.Repeat("a", 512), Data: map[string]string{strings.Repeat("k", 64): strings.Repeat("v", 1024)}}, ""},
		{"no kind", ledger.Event{Actor: "x"}, "kind"},
		{"one word", ledger.Event{Kind: "revoked", Actor: "x"}, "dotted"},
		{"upper case", ledger.Event{Kind: "Cert.issued", Actor: "x"}, "dotted"},
		{"empty word", ledger.Event{Kind: "cert..issued", Actor: "x"}, "dotted"},
		{"digit first", ledger.Event{Kind: "cert.2issued", Actor: "x"}, "dotted"},
		{"long kind", ledger.Event{Kind: "a." + strings.Repeat("b", 63), Actor: "x"}, "kind has 65 bytes"},
		{"no actor", ledger.Event{Kind: "a.b"}, "no actor"},
		{"long actor", ledger.Event{Kind: "a.b", Actor: strings.Repeat("a", 513)}, "actor has 513 bytes"},
		{"long subject", ledger.Event{Kind: "a.b", Actor: "x", Subject: strings.Repeat("a", 513)}, "subject has 513 bytes"},
		{"line break in subject", ledger.Event{Kind: "a.b", Actor: "x", Subject: "cs\n1"}, "subject has control"},
		{"not UTF-8", ledger.Event{Kind: "a.b", Actor: "\xff"}, "actor isn't UTF-8"},
		{"too many pairs", ledger.Event{Kind: "a.b", Actor: "x", Data: many}, "33 data pairs"},
		{"empty key", ledger.Event{Kind: "a.b", Actor: "x", Data: map[string]string{"": "v"}}, "empty data key"},
		{"long key", ledger.Event{Kind: "a.b", Actor: "x", Data: map[string]string{strings.Repeat("k", 65): ""}}, "data key has 65 bytes"},
		{"long value", ledger.Event{Kind: "a.b", Actor: "x", Data: map[string]string{"k": strings.Repeat("v", 1025)}}, "value of k has 1025 bytes"},
		{"escape in value", ledger.Event{Kind: "a.b", Actor: "x", Data: map[string]string{"k": "\x1b[31m"}}, "value of k has control"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			err := test.event.Validate()
			if test.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want %q in it", err, test.want)
			}
		})
	}
}
