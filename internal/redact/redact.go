// Package redact has types for what must never be printed: secrets, and what
// may be personal data.
//
// It promises that a value of these types prints as a mask with every verb of
// fmt, in every slog handler and as JSON, also as a field of something else.
// Whoever needs the value converts it, which shows in the source.
package redact

import (
	"fmt"
	"io"
	"log/slog"
)

// Masks that are printed instead.
const (
	SecretMask   = "[secret]"
	PersonalMask = "[personal]"
)

// Secret is bytes that prove something, such as a password.
type Secret []byte

// Format masks the secret for every verb, %d and %x too.
func (Secret) Format(f fmt.State, _ rune) { mask(f, SecretMask) }

// String masks the secret.
func (Secret) String() string { return SecretMask }

// LogValue masks the secret in logs.
func (Secret) LogValue() slog.Value { return slog.StringValue(SecretMask) }

// MarshalText masks the secret in JSON and other encodings.
func (Secret) MarshalText() ([]byte, error) { return []byte(SecretMask), nil }

// Personal is text that may be about a person, such as an idTag, an eMAID, a
// VIN, or what a station put into a field of free text.
type Personal string

// Format masks the text for every verb.
func (Personal) Format(f fmt.State, _ rune) { mask(f, PersonalMask) }

// String masks the text.
func (Personal) String() string { return PersonalMask }

// LogValue masks the text in logs.
func (Personal) LogValue() slog.Value { return slog.StringValue(PersonalMask) }

// MarshalText masks the text in JSON and other encodings.
func (Personal) MarshalText() ([]byte, error) { return []byte(PersonalMask), nil }

func mask(f fmt.State, text string) {
	_, _ = io.WriteString(f, text) // there is nobody to tell
}
