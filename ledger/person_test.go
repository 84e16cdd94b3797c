package ledger_test

import (
	"errors"
	"testing"

	"bollard/ledger"

	"github.com/google/go-cmp/cmp"
)

func TestPseudonym(t *testing.T) {
	t.Parallel()
	key, other := make([]byte, ledger.PersonKeySize), make([]byte, ledger.PersonKeySize)
	other[0] = 1
	alice := ledger.Pseudonym(key, "alice")
	if alice != ledger.Pseudonym(key, "alice") {
		t.Error("one person has two pseudonyms")
	}
	if alice == ledger.Pseudonym(other, "alice") {
		t.Error("the key doesn't matter")
	}
	if alice == ledger.Pseudonym(key, "bob") {
		t.Error("the name doesn't matter")
	}
}

func TestWithPseudonyms(t *testing.T) {
	t.Parallel()
	hide := func(name string) (string, error) { return "<" + name + ">", nil }
	tests := map[string]struct{ event, want ledger.Event }{
		"an operator":    {ledger.Event{Actor: "operator:alice"}, ledger.Event{Actor: "operator:<alice>"}},
		"behind another": {ledger.Event{Actor: "operator:root:alice"}, ledger.Event{Actor: "operator:<root>:<alice>"}},
		"nobody":         {ledger.Event{Actor: "operator"}, ledger.Event{Actor: "operator"}},
		"a station":      {ledger.Event{Actor: "station:alice"}, ledger.Event{Actor: "station:alice"}},
		"facts": {
			ledger.Event{Actor: "bollard", Data: map[string]string{"by": "alice,bob", "author": "operator:root:carol", "serial": "alice", "none": ""}, People: []string{"by", "author", "none", "absent"}},
			ledger.Event{Actor: "bollard", Data: map[string]string{"by": "<alice>,<bob>", "author": "operator:<root>:<carol>", "serial": "alice", "none": "", "absent": ""}},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := tt.event.WithPseudonyms(hide)
			must(t, err)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	broken := errors.New("no key")
	for _, e := range []ledger.Event{{Actor: "operator:alice"}, {Data: map[string]string{"by": "alice"}, People: []string{"by"}}, {Data: map[string]string{"by": "operator:a"}, People: []string{"by"}}} {
		if _, err := e.WithPseudonyms(func(string) (string, error) { return "", broken }); !errors.Is(err, broken) {
			t.Errorf("%+v: %v", e, err)
		}
	}
}
