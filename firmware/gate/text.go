package gate

import (
	"strings"
	"unicode"
)

// text makes a peer's words fit for the ledger.
func text(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "")
	}
	return s
}

// word is a status, or that it is none of the standard's.
func word(status string) string {
	for _, r := range status {
		if r < 'A' || r > 'z' {
			return "unknown"
		}
	}
	if len(status) > 40 {
		return "unknown"
	}
	return status
}
