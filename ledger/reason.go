package ledger

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxReason bounds, in bytes, why a person decided something.
const maxReason = 500

// ErrReason says that a person's reason is missing, or can't stand in the ledger.
var ErrReason = fmt.Errorf("give a reason, in one line of at most %d bytes: it stands in the ledger", maxReason)

// Reason is why a person decided something, as it is recorded: without space around
// it. It fails with ErrReason where there is none, or one of more than 500 bytes, with
// control characters, or not UTF-8.
func Reason(text string) (string, error) {
	text = strings.TrimSpace(text)
	if text == "" || len(text) > maxReason || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		return "", ErrReason
	}
	return text, nil
}
