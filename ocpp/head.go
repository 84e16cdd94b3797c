package ocpp

import (
	"strings"
	"unicode/utf8"
)

// ParseHead judges one whole frame in one pass, and decodes only type, id and
// action: what stays is what every conforming JSON decoder would read.
//
// It walks the rest too: well-formed, no deeper than MaxDepth (the frame's own
// array counts as one), nothing but white space behind the last bracket. The
// type must be an integer in its shortest spelling. The id is a string, or an
// integer of at most 15 digits because real stations send them; the action is a
// string, judged after decoding. CALL and SEND have four elements, CALLRESULT
// three; the error types have five, of which real stations leave out the last
// two. A payload is an object, or null. The error is a *FrameError.
func ParseHead(frame []byte) (Head, error) {
	p := headParser{s: scanner{b: frame}}
	if err := p.start(); err != nil {
		return Head{}, err
	}
	var err *FrameError
	switch p.h.Type {
	case Call, Send:
		err = p.call()
	case CallResult:
		err = p.result()
	default:
		err = p.failure(nil)
	}
	if err != nil {
		return Head{}, err
	}
	return p.h, nil
}

// signedSuffix marks a signed message (OCPP 2.1 part 4 §7).
const signedSuffix = "-Signed"

// BaseAction returns the action without "-Signed" (OCPP 2.1 part 4 §7) and
// whether it was there.
func (h Head) BaseAction() (string, bool) { return strings.CutSuffix(h.Action, signedSuffix) }

type headParser struct {
	s   scanner
	typ int // as read
	h   Head
}

func (p *headParser) fail(code ErrorCode, reason string) *FrameError {
	return &FrameError{Code: code, RawID: p.h.RawID, Reason: reason, Type: p.typ}
}

// start reads "[type,id" and judges both. A frame without a readable id is no
// RPC request at all (RpcFrameworkError, OCPP 2.1 part 4 §4.3).
func (p *headParser) start() error {
	if p.s.expect('[') != nil {
		return p.fail(RPCFrameworkError, "frame is not a JSON array")
	}
	p.s.space()
	raw, err := p.s.number()
	if err != nil {
		return p.fail(RPCFrameworkError, "message type is not an integer")
	}
	typ, ok := canonicalInt(raw)
	if !ok || len(raw) > 9 {
		return p.fail(RPCFrameworkError, "message type is not an integer in its shortest spelling")
	}
	p.typ = typ
	if p.s.expect(',') != nil {
		return p.fail(RPCFrameworkError, "frame ends behind the message type")
	}
	if err := p.id(); err != nil {
		return err
	}
	if typ < int(Call) || typ > int(Send) {
		return p.fail(MessageTypeNotSupported, "unknown message type")
	}
	p.h.Type = MessageType(typ)
	return nil
}

func (p *headParser) id() error {
	if p.s.space() != '"' {
		raw, err := p.s.number()
		if err != nil {
			return p.fail(RPCFrameworkError, "message id is neither a string nor an integer")
		}
		// 15 digits survive a decoder that reads numbers as doubles, and so
		// come back in the answer as they went out.
		if _, ok := canonicalInt(raw); !ok || len(raw) > 15 {
			return p.fail(RPCFrameworkError, "message id is a number that decoders read differently")
		}
		p.h.ID, p.h.RawID = raw, raw
		return nil
	}
	raw, escaped, err := p.s.str()
	if err != nil {
		return p.fail(RPCFrameworkError, "message id: "+err.Error())
	}
	id, err := text(raw, escaped, MaxIDLength)
	if err != nil {
		return p.fail(RPCFrameworkError, "message id: "+err.Error())
	}
	p.h.ID, p.h.RawID = id, raw
	return nil
}

// call reads ",action,payload]" of CALL and SEND.
func (p *headParser) call() *FrameError {
	if p.s.expect(',') != nil {
		return p.fail(ProtocolError, "frame has no action")
	}
	raw, escaped, err := p.s.str()
	if err != nil {
		return p.fail(ProtocolError, "action is not a string")
	}
	if known, ok := actionNames[string(raw[1:len(raw)-1])]; ok { // costs no copy; none of them has an escape
		p.h.Action = known
	} else {
		action, err := text(raw, escaped, MaxAction)
		if err != nil {
			return p.fail(ProtocolError, "action: "+err.Error())
		}
		p.h.Action = string(action)
	}
	if p.h.Action == "" {
		return p.fail(ProtocolError, "action is empty")
	}
	return p.result()
}

// result reads ",payload]".
func (p *headParser) result() *FrameError {
	if p.s.expect(',') != nil {
		return p.fail(ProtocolError, "frame has no payload")
	}
	payload, err := p.s.value(1)
	if err != nil {
		return p.fail(FormatViolation, "payload: "+err.Error())
	}
	if payload[0] != '{' && payload[0] != 'n' {
		return p.fail(FormatViolation, "payload is not an object")
	}
	p.h.Payload = payload
	return p.finish()
}

// failure reads ",code[,description[,details]]]" of the two error types and
// gives the raw code and description to keep.
func (p *headParser) failure(keep func(code, description []byte)) *FrameError {
	if p.s.expect(',') != nil {
		return p.fail(ProtocolError, "error frame has no code")
	}
	code, _, err := p.s.str()
	if err != nil {
		return p.fail(ProtocolError, "error code is not a string")
	}
	var description []byte
	for element := 4; p.s.space() == ','; element++ {
		if element > 5 {
			return p.fail(ProtocolError, "frame has too many elements")
		}
		p.s.i++
		value, err := p.s.value(1)
		if err != nil {
			return p.fail(FormatViolation, "error details: "+err.Error())
		}
		if element == 4 {
			description = value
		}
	}
	if keep != nil {
		keep(code, description)
	}
	return p.finish()
}

func (p *headParser) finish() *FrameError {
	if p.s.space() == ',' {
		return p.fail(ProtocolError, "frame has too many elements")
	}
	if err := p.s.expect(']'); err != nil {
		return p.fail(FormatViolation, "frame: "+err.Error())
	}
	if err := p.s.end(); err != nil {
		return p.fail(FormatViolation, "frame: "+err.Error())
	}
	return nil
}

// ParseCallFailure reads the code and description of a CALLERROR or
// CALLRESULTERROR frame, also of one that lacks description or details, or has
// a description that is no string.
func ParseCallFailure(frame []byte) (*CallFailure, error) {
	p := headParser{s: scanner{b: frame}}
	if err := p.start(); err != nil {
		return nil, err
	}
	if p.h.Type != CallError && p.h.Type != CallResultError {
		return nil, p.fail(ProtocolError, "frame is no CALLERROR")
	}
	failure := &CallFailure{Code: GenericError}
	err := p.failure(func(code, description []byte) {
		if s, err := decode(code); err == nil {
			failure.Code = ParseErrorCode(s)
		}
		if len(description) > 0 && description[0] == '"' {
			if s, err := decode(description); err == nil {
				failure.Description = truncate(s, maxDescription)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return failure, nil
}

// text decodes a raw string of at most limit bytes, in place if there is nothing to
// decode. U+0000 is refused: a peer whose strings end there would read another id or
// action than we judged.
func text(raw []byte, escaped bool, limit int) ([]byte, error) {
	if len(raw) > 6*limit+2 {
		return nil, errLong
	}
	plain := raw[1 : len(raw)-1]
	switch {
	case escaped:
		s, err := decode(raw)
		if err != nil {
			return nil, err
		}
		if strings.IndexByte(s, 0) >= 0 {
			return nil, errNUL
		}
		plain = []byte(s)
	case !utf8.Valid(raw):
		return nil, errUTF8
	}
	if len(plain) > limit {
		return nil, errLong
	}
	return plain, nil
}

// canonicalInt reads an integer in its only canonical spelling: no fraction, no
// exponent, no minus zero (leading zeros are no JSON).
func canonicalInt(raw []byte) (int, bool) {
	n, sign := 0, 1
	digits := raw
	if raw[0] == '-' {
		sign, digits = -1, raw[1:]
		if digits[0] == '0' {
			return 0, false
		}
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
		if n < 1e17 {
			n = n*10 + int(c-'0')
		}
	}
	return sign * n, true
}
