package ledger

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of an event, in bytes. They bound what one decision can cost.
const (
	MaxKind    = 64
	MaxSubject = 512
	MaxActor   = 512
	MaxPairs   = 32
	MaxKey     = 64
	MaxValue   = 1024
)

// Validate names the first thing wrong with the event: a kind that isn't dotted
// lower-case words ("certificate.intent"), no actor, or text that is too long,
// not UTF-8 or has control characters.
func (e Event) Validate() error {
	if len(e.Kind) > MaxKind {
		return fmt.Errorf("ledger event: kind has %d bytes, at most %d are allowed", len(e.Kind), MaxKind)
	}
	if !dotted(e.Kind) {
		return fmt.Errorf("ledger event: kind %q isn't dotted lower-case words such as certificate.intent", e.Kind)
	}
	if e.Actor == "" {
		return fmt.Errorf("ledger event %s: no actor", e.Kind)
	}
	if err := text(e.Kind, "subject", e.Subject, MaxSubject); err != nil {
		return err
	}
	if err := text(e.Kind, "actor", e.Actor, MaxActor); err != nil {
		return err
	}
	if len(e.Data) > MaxPairs {
		return fmt.Errorf("ledger event %s: %d data pairs, at most %d are allowed", e.Kind, len(e.Data), MaxPairs)
	}
	var first error // by key
	least := ""
	for key, value := range e.Data {
		if err := pair(e.Kind, key, value); err != nil && (first == nil || key < least) {
			first, least = err, key
		}
	}
	return first
}

func pair(kind, key, value string) error {
	if key == "" {
		return fmt.Errorf("ledger event %s: empty data key", kind)
	}
	if err := text(kind, "data key", key, MaxKey); err != nil {
		return err
	}
	if len(value) <= MaxValue && printable(value) {
		return nil // without naming it
	}
	// A value is never repeated in the error: it may be the thing that
	// shouldn't have been recorded.
	return text(kind, "value of "+key, value, MaxValue)
}

// printable: nothing but printable ASCII, as nearly all text is.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// dotted: two lower-case words or more, with dots between them.
func dotted(kind string) bool {
	words := 0
	for word := range strings.SplitSeq(kind, ".") {
		if notWord(word) {
			return false
		}
		words++
	}
	return words > 1
}

// notWord says whether s isn't a lower-case word: a letter, then letters,
// digits, "-" and "_".
func notWord(s string) bool {
	for i, r := range s {
		letter := r >= 'a' && r <= 'z'
		if !letter && (i == 0 || !strings.ContainsRune("0123456789-_", r)) {
			return true
		}
	}
	return s == ""
}

func text(kind, name, s string, limit int) error {
	switch {
	case len(s) <= limit && printable(s):
		return nil
	case len(s) > limit:
		return fmt.Errorf("ledger event %s: %s has %d bytes, at most %d are allowed", kind, name, len(s), limit)
	case !utf8.ValidString(s):
		return fmt.Errorf("ledger event %s: %s isn't UTF-8", kind, name)
	case strings.ContainsFunc(s, unicode.IsControl):
		return fmt.Errorf("ledger event %s: %s has control characters", kind, name)
	}
	return nil
}
