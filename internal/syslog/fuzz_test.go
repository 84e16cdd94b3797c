package syslog_test

import (
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"bollard/internal/syslog"
)

// form is RFC 5424 §6 as a receiver may read it, with one element of one
// parameter.
var form = regexp.MustCompile(`^<[0-9]{1,3}>1 [0-9TZ:.-]+ [!-~]+ [!-~]+ [!-~]+ - \[bollard@32473 x="((?:[^"\\\]]|\\["\\\]])*)"\](?: \x{feff}(.*))?$`)

// Whatever the value and the text, a receiver reads one message of one line
// with one element, and the value as it was.
func FuzzNoTextEscapes(f *testing.F) {
	f.Add("value", "text")
	f.Add(`"] [x y="`, "\n<0>1 ")
	f.Add(`\`, "\u2028")
	f.Add("\xff\\\"", "\x00")
	s, receive := sender(f)
	f.Fuzz(func(t *testing.T, value, text string) {
		if len(value) > 400 || len(text) > 1000 {
			return // cut, or refused
		}
		if err := s.Send(t.Context(), syslog.Message{Data: []syslog.Param{{Name: "x", Value: value}}, Text: text}); err != nil {
			t.Fatal(err)
		}
		got := receive(t)
		read := form.FindStringSubmatch(got)
		if read == nil || !utf8.ValidString(got) || strings.ContainsFunc(got, unicode.IsControl) {
			t.Fatalf("%q isn't one message", got)
		}
		unescaped := strings.NewReplacer(`\"`, `"`, `\\`, `\`, `\]`, `]`).Replace(read[1])
		plain := !strings.ContainsFunc(value, func(r rune) bool { return !unicode.IsPrint(r) }) && utf8.ValidString(value)
		if plain && unescaped != value {
			t.Fatalf("value %q arrived as %q", value, unescaped)
		}
	})
}
