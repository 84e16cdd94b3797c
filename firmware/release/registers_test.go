package release_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bollard/firmware/release"
)

// What a release says of registers is signed with it, in one spelling; a release that
// says nothing is as it always was (TestCanonicalIsTheGoldenFile).
func TestRegistersOfARelease(t *testing.T) {
	t.Parallel()
	r := full()
	r.PCRs = &release.Registers{
		SHA256: map[string][]string{"8": {digest(0x11, 32), digest(0x22, 32)}, "12": {digest(0x33, 32)}},
		Events: map[string][]string{"9": {digest(0x44, 32)}},
	}
	text, err := r.Canonical()
	must(t, err)
	if part := `"pcrs":{"events":{"9":["` + digest(0x44, 32) + `"]},"sha256":{"12":["`; !strings.Contains(string(text), part) {
		t.Errorf("%s isn't in %s", part, text)
	}
	back, err := release.Parse(text)
	must(t, err)
	if diff := cmp.Diff(r, back); diff != "" {
		t.Error(diff)
	}
	if named := r.PCRs.Named(); !slices.Equal(named, []int{8, 9, 12}) {
		t.Errorf("registers %v are named", named)
	}
	for name, wrong := range map[string]string{
		"twice":           strings.Replace(string(text), `"12":`, `"8":`, 1),
		"another bank":    strings.Replace(string(text), `"sha256":{"12"`, `"sha1":{"12"`, 1),
		"another number":  strings.Replace(string(text), `"12":`, `"012":`, 1),
		"no such":         strings.Replace(string(text), `"12":`, `"24":`, 1),
		"empty":           strings.Replace(string(text), `"12":["`+digest(0x33, 32)+`"]`, `"12":[]`, 1),
		"nothing demands": string(text[:strings.Index(string(text), `"pcrs":{`)]) + `"pcrs":{}` + string(text[strings.Index(string(text), `,"provenance`):]),
	} {
		if _, err := release.Parse([]byte(wrong)); err == nil || wrong == string(text) {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestParseRegisters(t *testing.T) {
	t.Parallel()
	v := `"` + digest(0xab, 32) + `"`
	for text, want := range map[string]string{
		`{"sha256": {"8": [` + v + `]}}`:    "",
		`{"events":{"0":[` + v + `]}}`:      "",
		`{}`:                                "no register is named",
		`null`:                              "no register is named",
		`[]`:                                "aren't JSON such as",
		`{"sha256": {"8": [` + v + `]}} {}`: "aren't JSON such as",
		`{"sha256": {"8": [` + v + `], "8": []}}`:               "each key once",
		`{"sha256": {"8": [` + v + `]}, "SHA256": {}}`:          "each key once",
		`{"sha256": {"8": [` + v + `]}, "sha384": {}}`:          "unknown field",
		`{"sha256": {"8": ` + v + `}}`:                          "aren't JSON such as",
		`{"sha256": {"8": [` + v + `, ` + v + `]}}`:             "something stands there twice",
		`{"sha256": {"8": [` + strings.ToUpper(v) + `]}}`:       "lower-case hex",
		`{"sha256": {"8": ["abcd"]}}`:                           "lower-case hex",
		`{"sha256": {"8": []}}`:                                 "at least one",
		`{"sha256": {"-1": [` + v + `]}}`:                       "isn't a register",
		`{"events": {"24": [` + v + `]}}`:                       "isn't a register",
		`{"sha256": {"+8": [` + v + `]}}`:                       "isn't a register",
		`{"sha256": {"8": [` + v + strings.Repeat(" ", 128<<10): "at most",
	} {
		_, err := release.ParseRegisters([]byte(text))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%.80s: %v, want %q", text, err, want)
		}
	}
}
