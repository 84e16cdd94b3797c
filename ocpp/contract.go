package ocpp

// This file is the contract other packages build on while this one is
// written; each declaration moves to the file of its topic.

// ParseHead judges one whole frame. It walks all of it: balanced, nothing
// behind the closing bracket, no deeper than MaxDepth, type an integer spelled
// canonically, id a string (a number is tolerated), action a string.
// The error is a *FrameError.
func ParseHead(frame []byte) (Head, error) { panic("internal error: contract only") }

// BaseAction returns the action without "-Signed" (OCPP 2.1 part 4 §7) and
// whether it was there.
func (h Head) BaseAction() (string, bool) { panic("internal error: contract only") }

// FrameError says why a frame was not understood and, when the id could be
// read, which one it had.
type FrameError struct {
	Code   ErrorCode
	RawID  []byte // nil: unreadable; answers use "-1"
	Reason string
	Type   int // message type if it was readable, for "unknown type"
}

func (e *FrameError) Error() string { return e.Reason }

// ErrorCode is a CALLERROR code. The wire spelling depends on the version.
type ErrorCode string

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

// Spell returns the code as the version spells it: 1.6 has FormationViolation
// and OccurenceConstraintViolation, kept on purpose by its errata (5.1, 5.2).
func (c ErrorCode) Spell(v Version) string { panic("internal error: contract only") }

// ParseErrorCode accepts every spelling of every version.
func ParseErrorCode(s string) ErrorCode { panic("internal error: contract only") }

// CallFailure is a CALLERROR received as the answer to a CALL.
type CallFailure struct {
	Code        ErrorCode
	Description string
}

func (e *CallFailure) Error() string { panic("internal error: contract only") }

// ParseCallFailure reads the code and description of a CALLERROR frame.
func ParseCallFailure(frame []byte) (*CallFailure, error) { panic("internal error: contract only") }

// AppendCall, AppendResult and AppendError encode frames. rawID is JSON as it
// came (Head.RawID); payload is marshalled unless it is json.RawMessage.
func AppendCall(dst []byte, id, action string, payload any) ([]byte, error) {
	panic("internal error: contract only")
}
func AppendResult(dst, rawID []byte, payload any) ([]byte, error) {
	panic("internal error: contract only")
}
func AppendError(dst, rawID []byte, v Version, code ErrorCode, description string) []byte {
	panic("internal error: contract only")
}

// Identity is a station's OCPP identity, taken from the URL and judged.
type Identity struct {
	Name    string // as the station spells it, unescaped once
	Escaped string // the escaped path segment as it came
}

// Key is the identity for comparison: lower-cased (identifierString is
// case-insensitive, OCPP 2.0.1 part 2 §2.1).
func (id Identity) Key() string { panic("internal error: contract only") }

// NeedsEnrolment says that the escaped spelling differs from the name: only a
// station enrolled with exactly this spelling may use it (1.6).
func (id Identity) NeedsEnrolment() bool { return id.Name != id.Escaped }

// ParsePath judges a request target as it stood in the request line, such as
// "/ocpp/CS-1": see the hostile-path table of the tests. prefix is "/ocpp/".
func ParsePath(target, prefix string) (Identity, error) { panic("internal error: contract only") }

// ParseIdentity judges a plain identity, as an operator types it.
func ParseIdentity(name string) (Identity, error) { panic("internal error: contract only") }

// DecodeStrict unmarshals a payload Bollard acts on: no duplicate key, no key
// that differs from a field only by case, no trailing data. Unknown keys are
// tolerated (real stations send them).
func DecodeStrict(payload []byte, into any) error { panic("internal error: contract only") }
