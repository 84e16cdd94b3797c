package ws

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"unicode/utf8"
)

// Opcodes of RFC 6455 §5.2.
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA
)

// Bits of a frame's first two bytes.
const (
	bitFin  = 0x80
	bitsRSV = 0x70
	bitMask = 0x80
)

// maxControl is the longest payload of a control frame (RFC 6455 §5.5).
const maxControl = 125

// keepPooled is the largest buffer that goes back to the pool.
const keepPooled = 64 << 10

// buffer holds a frame or message that isn't whole yet, or waits to be sent. A
// connection has none while it is idle.
type buffer struct{ b []byte }

var buffers = sync.Pool{New: func() any { return &buffer{make([]byte, 0, 4<<10)} }}

func takeBuffer() *buffer {
	b, _ := buffers.Get().(*buffer)
	return b
}

// give lets others have the buffer; nil has nothing to give.
func (b *buffer) give() {
	if b != nil && cap(b.b) <= keepPooled {
		b.b = b.b[:0]
		buffers.Put(b)
	}
}

// bytes are what it holds; nil holds nothing.
func (b *buffer) bytes() []byte {
	if b == nil {
		return nil
	}
	return b.b
}

// event is what a frameReader has found.
type event struct {
	op      byte   // opText, opPing, opPong, opClose; opContinuation: nothing yet
	payload []byte // message or control payload, unmasked
	// raw is the frame as it came, if it is the whole message and its header the
	// one we would write: it may then be sent on as it is, mask included.
	raw  []byte
	code int // of a close frame; 1005 if it had none
}

// frameReader follows the frames of one peer (RFC 6455 §5) through whatever
// pieces they come in. It does no I/O. Extensions are not known to it: RSV bits
// are violations.
type frameReader struct {
	max int // bytes of a message

	part   *buffer // an incomplete frame, as it came; nil: none
	text   *buffer // the fragments so far, or the message last returned; nil: none
	masked bool    // the peer is a client
	open   bool    // a message's last fragment is still to come
	spent  bool    // part belongs to the event last returned
	told   bool    // text belongs to the event last returned
}

// next takes bytes from in until a message or control frame is whole, and
// returns how many it took. What the event refers to is valid until the next
// call. The error is a *ViolationError and final.
func (f *frameReader) next(in []byte) (used int, ev event, err error) {
	if f.spent {
		f.part.b, f.spent = f.part.b[:0], false
	}
	if f.told {
		f.text.b, f.told = f.text.b[:0], false
	}
	frame := in
	collected := len(f.part.bytes()) > 0
	if collected {
		if used, err = f.collect(in); err != nil {
			return used, event{}, err
		}
		frame = f.part.b
	}
	h, ok, err := f.header(frame)
	switch {
	case err != nil:
		return used, event{}, err
	case !ok || len(frame) < h.size+h.length:
		if !collected && len(in) > 0 {
			if f.part == nil {
				f.part = takeBuffer()
			}
			f.part.b = append(f.part.b, in...)
			used = len(in)
		}
		return used, event{}, nil
	}
	whole := h.size + h.length
	if collected {
		f.spent = true
	} else {
		used = whole
	}
	ev, err = f.take(h, frame[:whole:whole])
	return used, ev, err
}

// collect completes the incomplete frame as far as in goes, never beyond it.
func (f *frameReader) collect(in []byte) (int, error) {
	used := 0
	for {
		h, ok, err := f.header(f.part.b)
		if err != nil {
			return used, err
		}
		want := len(f.part.b) + 1 // headers are short
		if ok {
			want = h.size + h.length
		}
		n := min(want-len(f.part.b), len(in)-used)
		if n <= 0 {
			return used, nil
		}
		// Grown by what has come, never by what was announced.
		f.part.b = append(f.part.b, in[used:used+n]...)
		used += n
	}
}

// frameHeader is the head of one frame.
type frameHeader struct {
	op     byte
	fin    bool
	size   int // of the header with the mask
	length int // of the payload
	tight  bool
	mask   [4]byte
}

// header reads a frame's head as far as it has come; ok says that it is whole.
// What is wrong is told as early as it shows.
func (f *frameReader) header(b []byte) (h frameHeader, ok bool, err error) {
	if len(b) < 2 {
		return h, false, nil
	}
	h.op, h.fin = b[0]&0xf, b[0]&bitFin != 0
	short := int(b[1] &^ bitMask)
	protocol := func(reason string) error { return &ViolationError{CloseProtocolError, reason} }
	switch {
	case b[0]&bitsRSV != 0:
		return h, false, protocol("RSV bit set")
	case (b[1]&bitMask != 0) != f.masked:
		return h, false, protocol("bad MASK")
	case h.op >= opClose && (short > maxControl || !h.fin):
		return h, false, protocol("control frame too long or in fragments")
	case h.op > opPong || h.op > opBinary && h.op < opClose:
		return h, false, protocol("unknown opcode")
	case h.op == opContinuation && !f.open:
		return h, false, protocol("continuation of nothing")
	case (h.op == opText || h.op == opBinary) && f.open:
		return h, false, protocol("new message inside another")
	case h.op == opBinary:
		return h, false, &ViolationError{CloseUnsupportedData, "binary message"}
	}
	h.size, h.tight = 2, true
	length := uint64(short)
	switch short {
	case 126:
		h.size = 4
		if len(b) < h.size {
			return h, false, nil
		}
		length = uint64(binary.BigEndian.Uint16(b[2:]))
		h.tight = length >= 126
	case 127:
		h.size = 10
		if len(b) < h.size {
			return h, false, nil
		}
		length = binary.BigEndian.Uint64(b[2:])
		h.tight = length >= 1<<16
	}
	if h.op < opClose {
		so := 0
		if h.op == opContinuation {
			so = len(f.text.bytes())
		}
		if length > uint64(f.max-so) {
			return h, false, &ViolationError{CloseTooBig, "message too big"}
		}
	}
	h.length = int(length)
	if f.masked {
		if len(b) < h.size+4 {
			return h, false, nil
		}
		h.mask = [4]byte(b[h.size:])
		h.size += 4
	}
	return h, true, nil
}

// take reads one whole frame.
func (f *frameReader) take(h frameHeader, frame []byte) (event, error) {
	payload := frame[h.size:]
	if h.op >= opClose {
		if f.masked {
			payload = slices.Clone(payload) // rare; the message under way owns the buffer
			xorMask(payload, payload, h.mask)
		}
		return control(h.op, payload)
	}
	if h.op == opText && h.fin && !f.masked {
		return whole(event{op: opText, payload: payload, raw: asIs(h, frame)})
	}
	if f.text == nil {
		f.text = takeBuffer()
	}
	from := len(f.text.b)
	f.text.b = append(f.text.b, payload...)
	if f.masked {
		xorMask(f.text.b[from:], payload, h.mask)
	}
	if f.open = !h.fin; f.open {
		return event{}, nil
	}
	f.told = true
	ev := event{op: opText, payload: f.text.b}
	if h.op == opText {
		ev.raw = asIs(h, frame)
	}
	return whole(ev)
}

// asIs returns the frame if its length is spelled in the fewest bytes, as RFC
// 6455 §5.2 wants it.
func asIs(h frameHeader, frame []byte) []byte {
	if !h.tight {
		return nil
	}
	return frame
}

func whole(ev event) (event, error) {
	if !utf8.Valid(ev.payload) {
		return event{}, &ViolationError{CloseInvalidPayload, "text is not valid UTF-8"}
	}
	return ev, nil
}

// control reads the payload of a control frame (RFC 6455 §5.5).
func control(op byte, payload []byte) (event, error) {
	ev := event{op: op, payload: payload}
	if op != opClose {
		return ev, nil
	}
	switch {
	case len(payload) == 0:
		ev.code = 1005
		return ev, nil
	case len(payload) == 1:
		return event{}, &ViolationError{CloseProtocolError, "close frame with half a code"}
	}
	ev.code = int(binary.BigEndian.Uint16(payload))
	switch {
	case ev.code < 1000, ev.code >= 1004 && ev.code <= 1006, ev.code >= 1015 && ev.code <= 2999, ev.code > 4999:
		return event{}, &ViolationError{CloseProtocolError, fmt.Sprintf("bad close code %d", ev.code)}
	case !utf8.Valid(payload[2:]):
		return event{}, &ViolationError{CloseProtocolError, "reason of a close frame is not valid UTF-8"}
	}
	return ev, nil
}

// idle gives back the buffers no unfinished frame or message needs. What the
// last event referred to is gone.
func (f *frameReader) idle() {
	if f.part != nil && (f.spent || len(f.part.b) == 0) {
		f.part.give()
		f.part, f.spent = nil, false
	}
	if f.text != nil && (f.told || !f.open) {
		f.text.give()
		f.text, f.told = nil, false
	}
}

// drop gives back all buffers.
func (f *frameReader) drop() {
	f.part.give()
	f.text.give()
	f.part, f.text, f.spent, f.told = nil, nil, false, false
}

// xorMask masks or unmasks a payload (RFC 6455 §5.3). dst may be src.
func xorMask(dst, src []byte, key [4]byte) {
	dst = dst[:len(src)]
	word := uint64(binary.LittleEndian.Uint32(key[:]))
	word |= word << 32
	i := 0
	for ; i+8 <= len(src); i += 8 {
		binary.LittleEndian.PutUint64(dst[i:], binary.LittleEndian.Uint64(src[i:])^word)
	}
	for ; i < len(src); i++ {
		dst[i] = src[i] ^ key[i&3]
	}
}

// appendFrame appends a whole frame, masked if mask isn't nil.
func appendFrame(b []byte, op byte, payload []byte, mask *[4]byte) []byte {
	bit := byte(0)
	if mask != nil {
		bit = bitMask
	}
	b = append(b, bitFin|op)
	switch n := len(payload); {
	case n < 126:
		b = append(b, bit|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, bit|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, bit|127), uint64(n))
	}
	if mask == nil {
		return append(b, payload...)
	}
	b = append(b, mask[:]...)
	from := len(b)
	b = append(b, payload...)
	xorMask(b[from:], payload, *mask)
	return b
}
