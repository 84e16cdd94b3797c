// Package rawws speaks RFC 6455 by hand, one frame at a time, for tests and
// benchmarks: it can cut, compress and misuse frames as no library would. It
// shares no code with the product.
package rawws

import (
	"bufio"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
)

// Opcodes of RFC 6455 §5.2.
const (
	Continuation = 0x0
	Text         = 0x1
	Binary       = 0x2
	Close        = 0x8
	Ping         = 0x9
	Pong         = 0xA
)

// MaxMessage bounds what a Conn reads.
const MaxMessage = 8 << 20

// Frame is one WebSocket frame, unmasked.
type Frame struct {
	Fin     bool
	RSV1    bool // compressed (RFC 7692 §6)
	Op      byte
	Payload []byte
}

// CloseError is a close frame of the peer.
type CloseError struct {
	Code   int
	Reason string
}

func (e *CloseError) Error() string { return fmt.Sprintf("closed with %d %q", e.Code, e.Reason) }

// Conn is a WebSocket after the handshake. One goroutine reads; writes may
// come from any.
type Conn struct {
	Net         net.Conn
	Subprotocol string
	Extensions  string       // as the server chose them
	Pings       atomic.Int64 // pings this side has answered
	client      bool
	br          *bufio.Reader

	mu  sync.Mutex // guards out and the socket's write side
	out []byte
}

// WriteFrame sends one frame, masked if this is the client's side.
func (c *Conn) WriteFrame(f Frame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out = c.append(c.out[:0], f)
	_, err := c.Net.Write(c.out)
	return err
}

// WriteFrames sends several frames in one write.
func (c *Conn) WriteFrames(frames ...Frame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out = c.out[:0]
	for _, f := range frames {
		c.out = c.append(c.out, f)
	}
	_, err := c.Net.Write(c.out)
	return err
}

// WriteText sends one unfragmented text message.
func (c *Conn) WriteText(msg []byte) error {
	return c.WriteFrame(Frame{Fin: true, Op: Text, Payload: msg})
}

func (c *Conn) append(dst []byte, f Frame) []byte {
	first := f.Op
	if f.Fin {
		first |= 0x80
	}
	if f.RSV1 {
		first |= 0x40
	}
	mask := byte(0)
	if c.client {
		mask = 0x80
	}
	dst = append(dst, first)
	switch n := len(f.Payload); {
	case n < 126:
		dst = append(dst, mask|byte(n))
	case n < 1<<16:
		dst = append(dst, mask|126)
		dst = binary.BigEndian.AppendUint16(dst, uint16(n))
	default:
		dst = append(dst, mask|127)
		dst = binary.BigEndian.AppendUint64(dst, uint64(n))
	}
	if !c.client {
		return append(dst, f.Payload...)
	}
	var key [4]byte
	binary.LittleEndian.PutUint32(key[:], rand.Uint32())
	dst = append(dst, key[:]...)
	start := len(dst)
	dst = append(dst, f.Payload...)
	for i := range dst[start:] {
		dst[start+i] ^= key[i&3]
	}
	return dst
}

// ReadFrame returns the next frame as it came.
func (c *Conn) ReadFrame() (Frame, error) {
	var head [2]byte
	_, err := io.ReadFull(c.br, head[:])
	if err != nil {
		return Frame{}, err
	}
	f := Frame{Fin: head[0]&0x80 != 0, RSV1: head[0]&0x40 != 0, Op: head[0] & 0x0F}
	if head[0]&0x30 != 0 {
		return Frame{}, errors.New("reserved bits set")
	}
	length := uint64(head[1] & 0x7F)
	var ext [8]byte
	switch length {
	case 126:
		_, err = io.ReadFull(c.br, ext[:2])
		length = uint64(binary.BigEndian.Uint16(ext[:2]))
	case 127:
		_, err = io.ReadFull(c.br, ext[:])
		length = binary.BigEndian.Uint64(ext[:])
	}
	if err != nil {
		return Frame{}, err
	}
	if length > MaxMessage {
		return Frame{}, fmt.Errorf("frame of %d bytes", length)
	}
	masked := head[1]&0x80 != 0
	if masked == c.client {
		return Frame{}, errors.New("mask bit is wrong for this side (RFC 6455 §5.1)")
	}
	var key [4]byte
	if masked {
		_, err = io.ReadFull(c.br, key[:])
		if err != nil {
			return Frame{}, err
		}
	}
	f.Payload = make([]byte, length)
	_, err = io.ReadFull(c.br, f.Payload)
	if err != nil {
		return Frame{}, err
	}
	if masked {
		for i := range f.Payload {
			f.Payload[i] ^= key[i&3]
		}
	}
	return f, nil
}

// ReadMessage returns the next text message, whole and inflated. It answers
// pings and close frames; a close is a *CloseError.
func (c *Conn) ReadMessage() ([]byte, error) {
	var msg []byte
	compressed := false
	for {
		f, err := c.ReadFrame()
		if err != nil {
			return nil, err
		}
		switch f.Op {
		case Ping:
			c.Pings.Add(1)
			err = c.WriteFrame(Frame{Fin: true, Op: Pong, Payload: f.Payload})
			if err != nil {
				return nil, err
			}
		case Pong:
		case Close:
			_ = c.WriteFrame(Frame{Fin: true, Op: Close, Payload: f.Payload})
			closed := &CloseError{Code: 1005}
			if len(f.Payload) >= 2 {
				closed.Code = int(binary.BigEndian.Uint16(f.Payload))
				closed.Reason = string(f.Payload[2:])
			}
			return nil, closed
		case Text, Continuation:
			if f.Op == Text {
				compressed = f.RSV1
			}
			msg = append(msg, f.Payload...)
			if len(msg) > MaxMessage {
				return nil, errors.New("message is too long")
			}
			if !f.Fin {
				continue
			}
			if compressed {
				return Inflate(msg)
			}
			return msg, nil
		default:
			return nil, fmt.Errorf("opcode %#x", f.Op)
		}
	}
}

// CloseFrame is a close frame with a status code.
func CloseFrame(code int) Frame {
	return Frame{Fin: true, Op: Close, Payload: binary.BigEndian.AppendUint16(nil, uint16(code))}
}

var deflateTail = []byte{0, 0, 0xff, 0xff}

// Deflate compresses one message as RFC 7692 §7.2.1 has it.
func Deflate(msg []byte) []byte {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestSpeed)
	if err != nil {
		panic("internal error: " + err.Error())
	}
	_, _ = w.Write(msg)
	_ = w.Flush()
	return bytes.TrimSuffix(b.Bytes(), deflateTail)
}

// Inflate is the reverse of Deflate.
func Inflate(msg []byte) ([]byte, error) {
	final := []byte{1, 0, 0, 0xff, 0xff} // an empty last block, so that the reader sees an end
	r := flate.NewReader(io.MultiReader(bytes.NewReader(msg), bytes.NewReader(deflateTail), bytes.NewReader(final)))
	return io.ReadAll(io.LimitReader(r, MaxMessage))
}
