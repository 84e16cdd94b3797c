package identifier_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"bollard/iso15118/identifier"
)

func TestCheckCharacters(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("testdata/emaid-check.json")
	if err != nil {
		t.Fatal(err)
	}
	var in struct {
		Vectors []struct{ Body, Check, Standard string }
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		t.Fatal(err)
	}
	iso, din := 0, 0
	for _, v := range in.Vectors {
		id, err := identifier.ParseEMAID(v.Body + v.Check)
		switch {
		case err != nil:
			t.Errorf("%s%s: %v", v.Body, v.Check, err)
		case len(v.Body) == 11:
			din++
			if want := v.Body[:5] + "00" + v.Body[5:] + v.Check; string(id) != want {
				t.Errorf("%s became %s", v.Body, string(id))
			}
		default:
			iso++
			if got := string(id.Full()); got != v.Body+v.Check {
				t.Errorf("%s: check %q, want %s", v.Body, got, v.Check)
			}
		}
		for _, wrong := range "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ" {
			if string(wrong) == v.Check {
				continue
			}
			if _, err := identifier.ParseEMAID(v.Body + string(wrong)); err == nil {
				t.Errorf("%s%c is taken", v.Body, wrong)
			}
		}
	}
	if iso != 73 || din != 35 {
		t.Errorf("%d and %d vectors", iso, din)
	}
}

func TestEMAID(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ in, want string }{
		"plain":           {"NN123ABCDEFGHI", "NN123ABCDEFGHI"},
		"separators":      {"nn-123-abcdefghi-t", "NN123ABCDEFGHIT"},
		"stars":           {"NN*123*ABCDEFGHI", "NN123ABCDEFGHI"},
		"short":           {"NN123ABCDEFGH-", ""},
		"long":            {"NN123ABCDEFGHITT", ""},
		"country":         {"1N123ABCDEFGHI", ""},
		"sign":            {"NN123ABCDEFG!I", ""},
		"other alphabet":  {"NN123ABCDEFGHİ", ""},
		"long s":          {"NN123ABCDEFGHſ", ""},
		"dotless i":       {"NN123ABCDEFGHı", ""},
		"empty":           {"", ""},
		"separators only": {strings.Repeat("-", 14), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := identifier.ParseEMAID(tt.in)
			if string(got) != tt.want || (err != nil) != (tt.want == "") {
				t.Errorf("%q, %v", string(got), err)
			}
		})
	}
	a, _ := identifier.ParseEMAID("NN123ABCDEFGHI")
	b, _ := identifier.ParseEMAID("NN123ABCDEFGHIT")
	if !a.Same(b) || a.Full() != b || b.Bare() != a {
		t.Error("with and without check character are two accounts")
	}
	if out := fmt.Sprintf("%v %s %+v %#v %q", a, a, a, a, a); strings.Contains(out, "ABCDEF") {
		t.Errorf("printed: %s", out)
	}
}

func TestPCID(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"WP0TESTA00000001A3":        "WP0TESTA00000001A3",
		"wp0-testa00000001a3":       "WP0TESTA00000001A3",
		"WP0TESTA00000001A":         "WP0TESTA00000001A",
		"WP0TESTA00000001":          "",
		"WP0TESTA0000000IA3":        "",
		"WP0TESTA0000000OA3":        "",
		"WP0TESTA00000001A3 ":       "",
		strings.Repeat("A", 255):    strings.Repeat("A", 255),
		strings.Repeat("A", 256):    "",
		"WP0TESTA00000001A3\n":      "",
		"../../../../../../../etc1": "",
	} {
		got, err := identifier.ParsePCID(in)
		if string(got) != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q, %v", in, string(got), err)
		}
	}
	if out := fmt.Sprint(identifier.PCID("WP0TESTA00000001A3")); strings.Contains(out, "WP0") {
		t.Errorf("printed: %s", out)
	}
}

func TestSECC(t *testing.T) {
	t.Parallel()
	for in, ok := range map[string]bool{
		"DE*ABC*S*0123456789ABCDEF0123456789ABCDEF": true, "DEABCE0001": true, "": false, "CN=x": false, strings.Repeat("A", 65): false, "a b": false,
	} {
		if err := identifier.CheckSECC(in); (err == nil) != ok {
			t.Errorf("%q: %v", in, err)
		}
	}
}
