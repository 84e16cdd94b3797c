package ws_test

import (
	"bufio"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"bollard/internal/ws"
)

// Opcodes of RFC 6455 §5.2.
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA
	fin            = 0x80
	rsv1           = 0x40
)

// frame spells one masked client frame by hand.
func frame(first byte, payload []byte) []byte {
	b := append(header(first, uint64(len(payload))), 1, 2, 3, 4)
	for i, c := range payload {
		b = append(b, c^byte(i%4+1))
	}
	return b
}

// header spells the head of a masked frame, without the mask.
func header(first byte, length uint64) []byte {
	switch {
	case length < 126:
		return []byte{first, 0x80 | byte(length)}
	case length < 1<<16:
		return binary.BigEndian.AppendUint16([]byte{first, 0x80 | 126}, uint16(length))
	}
	return binary.BigEndian.AppendUint64([]byte{first, 0x80 | 127}, length)
}

// A rawClient has shaken hands and writes bytes as it likes.
type rawClient struct {
	net.Conn
	r *bufio.Reader
}

const handshake = "GET /ocpp/CS-1 HTTP/1.1\r\nHost: bollard\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

func dialRaw(t *testing.T, addr, more string, early ...byte) *rawClient {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(append([]byte(handshake+more+"\r\n"), early...)); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Sec-Websocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Fatalf("handshake answered %s", resp.Status)
	}
	return &rawClient{conn, r}
}

func (c *rawClient) send(t *testing.T, frames ...[]byte) {
	t.Helper()
	for _, f := range frames {
		if _, err := c.Write(f); err != nil {
			t.Fatal(err)
		}
	}
}

// next reads one unmasked server frame.
func (c *rawClient) next() (first byte, payload []byte, err error) {
	var h [2]byte
	if _, err := io.ReadFull(c.r, h[:]); err != nil {
		return 0, nil, err
	}
	n := uint64(h[1])
	switch n {
	case 126:
		var l [2]byte
		if _, err := io.ReadFull(c.r, l[:]); err != nil {
			return 0, nil, err
		}
		n = uint64(binary.BigEndian.Uint16(l[:]))
	case 127:
		var l [8]byte
		if _, err := io.ReadFull(c.r, l[:]); err != nil {
			return 0, nil, err
		}
		n = binary.BigEndian.Uint64(l[:])
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(c.r, payload)
	return h[0], payload, err
}

// wantClose reads until a close frame and compares its code.
func (c *rawClient) wantClose(t *testing.T, code int) {
	t.Helper()
	for {
		first, payload, err := c.next()
		if err != nil {
			t.Fatalf("no close frame: %v", err)
		}
		if first == fin|opClose {
			if len(payload) < 2 || int(binary.BigEndian.Uint16(payload)) != code {
				t.Fatalf("close frame % x, want %d", payload, code)
			}
			return
		}
	}
}

func deflated(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte{0, 0, 0xff, 0xff}) // RFC 7692 §7.2.1
}

func TestFramesAreJoined(t *testing.T) {
	t.Parallel()
	call := []byte(`[2,"1","Heartbeat",{"é":1}]`)
	table := map[string][][]byte{
		"one frame":     {frame(fin|opText, call)},
		"empty message": {frame(fin|opText, nil)},
		"empty fragments": {
			frame(opText, nil), frame(opContinuation, call), frame(opContinuation, nil), frame(fin|opContinuation, nil),
		},
		"control frames between fragments": {
			frame(opText, call[:5]), frame(fin|opPing, []byte("hi")), frame(opContinuation, call[5:9]),
			frame(fin|opPong, nil), frame(fin|opContinuation, call[9:]),
		},
	}
	for i := range call { // also inside the é: UTF-8 is judged over the whole message
		table[fmt.Sprintf("cut at %d", i)] = [][]byte{frame(opText, call[:i]), frame(fin|opContinuation, call[i:])}
	}
	r := newRig(t, false, ws.Limits{}, "")
	for name, frames := range table {
		want := string(call)
		if name == "empty message" {
			want = ""
		}
		raw := dialRaw(t, r.Addr, "")
		server := r.accept(t)
		raw.send(t, frames...)
		if got, err := server.Read(nil); err != nil || string(got) != want {
			t.Errorf("%s: read %q, %v", name, got, err)
		}
		if name == "control frames between fragments" {
			if first, payload, err := raw.next(); err != nil || first != fin|opPong || string(payload) != "hi" {
				t.Errorf("%s: ping was answered %#x %q, %v", name, first, payload, err)
			}
		}
		raw.Close()
	}
}

// A frame whose bytes trickle in one by one is one message still.
func TestFramesArriveByteByByte(t *testing.T) {
	t.Parallel()
	r := newRig(t, false, ws.Limits{}, "")
	raw := dialRaw(t, r.Addr, "")
	server := r.accept(t)
	go func() {
		for _, b := range append(frame(opText, []byte(`[2,"1",`)), frame(fin|opContinuation, []byte(`"Heartbeat",{}]`))...) {
			if _, err := raw.Write([]byte{b}); err != nil {
				return
			}
		}
	}()
	if got, err := server.Read(nil); err != nil || string(got) != `[2,"1","Heartbeat",{}]` {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestViolationsAreClosedWithTheirCode(t *testing.T) {
	t.Parallel()
	const limit = 1000
	big := bytes.Repeat([]byte("x"), limit+1)
	for name, tc := range map[string]struct {
		frames     [][]byte
		compressed bool
		code       int
	}{
		"binary":                 {frames: [][]byte{frame(fin|opBinary, []byte("x"))}, code: ws.CloseUnsupportedData},
		"empty binary":           {frames: [][]byte{frame(fin|opBinary, nil)}, code: ws.CloseUnsupportedData},
		"invalid UTF-8":          {frames: [][]byte{frame(fin|opText, []byte("a\xff"))}, code: ws.CloseInvalidPayload},
		"surrogate in UTF-8":     {frames: [][]byte{frame(fin|opText, []byte("\xed\xa0\x80"))}, code: ws.CloseInvalidPayload},
		"invalid over fragments": {frames: [][]byte{frame(opText, []byte("\xc3")), frame(fin|opContinuation, []byte("a"))}, code: ws.CloseInvalidPayload},
		"cut character":          {frames: [][]byte{frame(fin|opText, []byte("a\xc3"))}, code: ws.CloseInvalidPayload},
		"one byte too big":       {frames: [][]byte{frame(fin|opText, big)}, code: ws.CloseTooBig},
		"too big in fragments":   {frames: [][]byte{frame(opText, big[:limit/2]), frame(opContinuation, big[:limit/2]), frame(fin|opContinuation, big[:1])}, code: ws.CloseTooBig},
		"1 GiB declared":         {frames: [][]byte{header(fin|opText, 1<<30), {1, 2, 3, 4}, []byte("abc")}, code: ws.CloseTooBig},
		"negative length":        {frames: [][]byte{header(fin|opText, 1<<63), {1, 2, 3, 4}}, code: ws.CloseTooBig},
		"bomb":                   {frames: [][]byte{frame(fin|rsv1|opText, deflated(t, make([]byte, 500_000)))}, compressed: true, code: ws.CloseTooBig},
		"bomb, one byte":         {frames: [][]byte{frame(fin|rsv1|opText, deflated(t, big))}, compressed: true, code: ws.CloseTooBig},
		"corrupt deflate":        {frames: [][]byte{frame(fin|rsv1|opText, []byte{0xff, 0xff, 0xff})}, compressed: true, code: ws.CloseInvalidPayload},
		"invalid UTF-8 deflated": {frames: [][]byte{frame(fin|rsv1|opText, deflated(t, []byte("\xff")))}, compressed: true, code: ws.CloseInvalidPayload},
		"compressed unasked":     {frames: [][]byte{frame(fin|rsv1|opText, deflated(t, []byte("{}")))}, code: ws.CloseProtocolError},
		"unmasked":               {frames: [][]byte{{fin | opText, 1, 'x'}}, code: ws.CloseProtocolError},
		"unknown opcode":         {frames: [][]byte{frame(fin|0x3, nil)}, code: ws.CloseProtocolError},
		"text inside fragments":  {frames: [][]byte{frame(opText, nil), frame(fin|opText, nil)}, code: ws.CloseProtocolError},
		"stray continuation":     {frames: [][]byte{frame(fin|opContinuation, nil)}, code: ws.CloseProtocolError},
		"long ping":              {frames: [][]byte{frame(fin|opPing, make([]byte, 126))}, code: ws.CloseProtocolError},
		"fragmented ping":        {frames: [][]byte{frame(opPing, nil)}, code: ws.CloseProtocolError},
		"close code 1005":        {frames: [][]byte{frame(fin|opClose, []byte{3, 237})}, code: ws.CloseProtocolError},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, false, ws.Limits{MaxMessage: limit, Compression: true}, "")
			more := ""
			if tc.compressed {
				more = "Sec-WebSocket-Extensions: permessage-deflate\r\n"
			}
			raw := dialRaw(t, r.Addr, more)
			server := r.accept(t)
			raw.send(t, tc.frames...)
			_, err := server.Read(nil)
			var violation *ws.ViolationError
			if !errors.As(err, &violation) || violation.Code != tc.code {
				t.Errorf("Read gave %v, want code %d", err, tc.code)
			}
			if ws.CloseStatus(err) != -1 {
				t.Errorf("our own verdict passes for a close code of the peer: %v", err)
			}
			raw.wantClose(t, tc.code) // before Close is called
			if _, again := server.Read(nil); again == nil {
				t.Error("the next Read succeeded")
			}
			raw.Close() // or our Close would wait for an answer
		})
	}
}

// The limit itself is allowed, however it is packed.
func TestMessageOfTheLimit(t *testing.T) {
	t.Parallel()
	const limit = 1000
	r := newRig(t, false, ws.Limits{MaxMessage: limit, Compression: true}, "")
	raw := dialRaw(t, r.Addr, "Sec-WebSocket-Extensions: permessage-deflate\r\n")
	server := r.accept(t)
	want := strings.Repeat("y", limit)
	raw.send(t, frame(fin|opText, []byte(want)), frame(fin|rsv1|opText, deflated(t, []byte(want))))
	buf := make([]byte, 0, 16)
	for range 2 {
		var err error
		if buf, err = server.Read(buf); err != nil || string(buf) != want {
			t.Fatalf("read %d bytes, %v", len(buf), err)
		}
	}
	raw.Close()
}

// A declared length reserves nothing: memory follows the bytes that came.
func TestDeclaredLengthReservesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, false, ws.Limits{MaxMessage: 1 << 30}, "")
	raw := dialRaw(t, r.Addr, "")
	server := r.accept(t)
	raw.send(t, header(fin|opText, 1<<30), []byte{0, 0, 0, 0}, []byte("abc"))
	if err := raw.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	buf, err := server.Read(nil)
	if ws.CloseStatus(err) != 1006 || cap(buf) > 1<<16 {
		t.Errorf("cap %d, %v", cap(buf), err)
	}
}

// Bytes a station sends before it has seen our 101 are not lost.
func TestEarlyBytesAreKept(t *testing.T) {
	t.Parallel()
	r := newRig(t, false, ws.Limits{}, "")
	raw := dialRaw(t, r.Addr, "", append(frame(fin|opText, []byte("early")), frame(fin|opText, []byte("late"))...)...)
	server := r.accept(t)
	for _, want := range []string{"early", "late"} {
		if got, err := server.Read(nil); err != nil || string(got) != want {
			t.Errorf("read %q, %v; want %q", got, err, want)
		}
	}
	raw.Close()
}

func TestPeersCloseCode(t *testing.T) {
	t.Parallel()
	r := newRig(t, false, ws.Limits{}, "")
	for name, tc := range map[string]struct {
		frames [][]byte
		code   int
	}{
		"with code":    {[][]byte{frame(fin|opClose, []byte{3, 233, 'b', 'y', 'e'})}, 1001},
		"without code": {[][]byte{frame(fin|opClose, nil)}, 1005},
		"no frame":     {nil, 1006},
	} {
		raw := dialRaw(t, r.Addr, "")
		server := r.accept(t)
		raw.send(t, tc.frames...)
		if tc.frames == nil {
			raw.Close()
		}
		if _, err := server.Read(nil); ws.CloseStatus(err) != tc.code {
			t.Errorf("%s: %v, want %d", name, err, tc.code)
		}
		if tc.frames != nil {
			if first, _, err := raw.next(); err != nil || first != fin|opClose {
				t.Errorf("%s: the close frame was not echoed: %#x %v", name, first, err)
			}
		}
	}
}
