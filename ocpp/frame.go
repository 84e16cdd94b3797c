package ocpp

// MessageType is the first element of a frame (OCPP 2.1 part 4 §4.1.3).
type MessageType uint8

// The message types. CallResultError and Send exist in OCPP 2.1 only.
const (
	Call            MessageType = 2
	CallResult      MessageType = 3
	CallError       MessageType = 4
	CallResultError MessageType = 5
	Send            MessageType = 6
)

// Head is the judged beginning of one frame. Its byte slices point into the
// frame and live as long as it does.
type Head struct {
	Type   MessageType
	ID     []byte // message id after JSON decoding, a number id as its text; part of the frame, as RawID and Payload are
	RawID  []byte // the id as it was spelled, quotes included, for answers
	Action string // after JSON decoding; CALL and SEND only
	// Payload is the raw element a service would act on: the payload of
	// CALL, SEND and CALLRESULT; empty for the two error types.
	Payload []byte
}

// Frame limits. Depth 32 bounds what any decoder behind us has to stack;
// 36 is the longest message id (OCPP 2.1 part 4 §4.1.4); longer ones are
// tolerated up to MaxIDLength because real stations send them.
const (
	MaxDepth    = 32
	MaxIDLength = 128
	MaxAction   = 128
)
