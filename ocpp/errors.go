package ocpp

import (
	"fmt"
	"strings"
)

// FrameError says why a frame was not understood and, when the id could be
// read, which one it had.
type FrameError struct {
	Code   ErrorCode
	RawID  []byte // nil: unreadable; answers use "-1"
	Reason string // fit for a log: never holds bytes of the frame
	// Type is the message type if it could be read, else 0. With Code
	// MessageTypeNotSupported it is a number outside 2–6: OCPP 2.0.1 part 4
	// §4.4 answers it, 1.6 and 2.1 ignore the frame.
	Type int
}

func (e *FrameError) Error() string { return e.Reason }

// ErrorCode is a CALLERROR code. The wire spelling depends on the version.
type ErrorCode string

// The codes of OCPP 2.1 part 4 §4.3, in its spelling.
const (
	FormatViolation               ErrorCode = "FormatViolation"
	OccurrenceConstraintViolation ErrorCode = "OccurrenceConstraintViolation"
	PropertyConstraintViolation   ErrorCode = "PropertyConstraintViolation"
	TypeConstraintViolation       ErrorCode = "TypeConstraintViolation"
	NotImplemented                ErrorCode = "NotImplemented"
	NotSupported                  ErrorCode = "NotSupported"
	InternalError                 ErrorCode = "InternalError"
	GenericError                  ErrorCode = "GenericError"
	SecurityError                 ErrorCode = "SecurityError"
	ProtocolError                 ErrorCode = "ProtocolError"
	MessageTypeNotSupported       ErrorCode = "MessageTypeNotSupported"
	RPCFrameworkError             ErrorCode = "RpcFrameworkError"
)

// errorCodes lists every code once, for ParseErrorCode.
var errorCodes = [...]ErrorCode{
	FormatViolation, OccurrenceConstraintViolation, PropertyConstraintViolation,
	TypeConstraintViolation, NotImplemented, NotSupported, InternalError,
	GenericError, SecurityError, ProtocolError, MessageTypeNotSupported,
	RPCFrameworkError,
}

// Spell returns the code as the version spells it: 1.6 has FormationViolation
// and OccurenceConstraintViolation, kept on purpose by its errata (5.1, 5.2).
// The two codes 1.6 lacks become the nearest ones it has.
func (c ErrorCode) Spell(v Version) string {
	if v == V16 {
		switch c {
		case FormatViolation:
			return "FormationViolation"
		case OccurrenceConstraintViolation:
			return "OccurenceConstraintViolation"
		case RPCFrameworkError:
			return string(ProtocolError)
		case MessageTypeNotSupported:
			return string(GenericError)
		}
	}
	return string(c)
}

// ParseErrorCode accepts every spelling of every version, in any case. What is
// no code of OCPP becomes GenericError, so that a result is always safe to log.
func ParseErrorCode(s string) ErrorCode {
	switch {
	case strings.EqualFold(s, "FormationViolation"):
		return FormatViolation
	case strings.EqualFold(s, "OccurenceConstraintViolation"):
		return OccurrenceConstraintViolation
	}
	for _, c := range errorCodes {
		if strings.EqualFold(s, string(c)) {
			return c
		}
	}
	return GenericError
}

// maxDescription is the length of errorDescription in characters (OCPP 2.1
// part 4 §4.2.3).
const maxDescription = 255

// CallFailure is a CALLERROR received as the answer to a CALL.
type CallFailure struct {
	Code        ErrorCode
	Description string // as the peer wrote it, at most 255 characters
}

// Error names the code alone: the words are the peer's, and may repeat a secret
// it was sent.
func (e *CallFailure) Error() string { return fmt.Sprintf("the peer answered %s", e.Code) }

// truncate cuts s to at most n characters, never inside one.
func truncate(s string, n int) string {
	count := 0
	for i := range s {
		if count == n {
			return s[:i]
		}
		count++
	}
	return s
}
