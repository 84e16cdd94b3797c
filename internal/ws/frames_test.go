package ws

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"
)

// spell spells one frame, masked for a server, with the length in the given
// form (0: the shortest).
func spell(first byte, payload string, masked bool, form int) []byte {
	bit := byte(0)
	if masked {
		bit = bitMask
	}
	n := len(payload)
	b := []byte{first}
	switch {
	case form == 0 && n < 126:
		b = append(b, bit|byte(n))
	case form <= 2 && n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, bit|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, bit|127), uint64(n))
	}
	if masked {
		b = append(b, 1, 2, 3, 4)
	}
	for i := range n {
		c := payload[i]
		if masked {
			c ^= byte(i%4 + 1)
		}
		b = append(b, c)
	}
	return b
}

// found is what came out of a stream of frames.
type found struct {
	Texts    []string
	Pings    []string
	Verdict  int // close code of a violation
	PeerCode int // code of the peer's close frame
}

// follow reads a stream in pieces cut at cuts.
func follow(f *frameReader, pieces ...[]byte) found {
	var got found
	for _, b := range pieces {
		b = bytes.Clone(b) // as a shared buffer: nothing may refer to it later
		for whole := b; len(b) > 0; {
			used, ev, err := f.next(b)
			b = b[used:]
			var violation *ViolationError
			switch {
			case errors.As(err, &violation):
				got.Verdict = violation.Code
				return got
			case ev.op == opText:
				got.Texts = append(got.Texts, string(ev.payload))
			case ev.op == opPing:
				got.Pings = append(got.Pings, string(ev.payload))
			case ev.op == opClose:
				got.PeerCode = ev.code
				return got
			}
			if len(b) == 0 {
				f.idle()
				clear(whole)
			}
		}
	}
	return got
}

func TestFramesCutAtEveryByte(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("0123456789abcdef", 20)
	for _, masked := range []bool{true, false} {
		for name, tt := range map[string]struct {
			frames []string // first byte, then payload
			want   found
		}{
			"messages":        {[]string{"\x81one", "\x81", "\x81" + long}, found{Texts: []string{"one", "", long}}},
			"fragments":       {[]string{"\x01o", "\x00n", "\x80e", "\x81two"}, found{Texts: []string{"one", "two"}}},
			"empty fragments": {[]string{"\x01", "\x00", "\x80"}, found{Texts: []string{""}}},
			"rune cut":        {[]string{"\x01\xc3", "\x80\xa9"}, found{Texts: []string{"é"}}},
			"ping between":    {[]string{"\x01o", "\x89hi", "\x80ne", "\x8apong"}, found{Texts: []string{"one"}, Pings: []string{"hi"}}},
			"close":           {[]string{"\x81one", "\x88\x03\xe8bye", "\x81two"}, found{Texts: []string{"one"}, PeerCode: 1000}},
			"close bare":      {[]string{"\x88"}, found{PeerCode: 1005}},
			"close half":      {[]string{"\x88\x03"}, found{Verdict: 1002}},
			"close 1005":      {[]string{"\x88\x03\xed"}, found{Verdict: 1002}},
			"close 1006":      {[]string{"\x88\x03\xee"}, found{Verdict: 1002}},
			"close 1015":      {[]string{"\x88\x03\xf7"}, found{Verdict: 1002}},
			"close 999":       {[]string{"\x88\x03\xe7"}, found{Verdict: 1002}},
			"close 5000":      {[]string{"\x88\x13\x88"}, found{Verdict: 1002}},
			"close 4999":      {[]string{"\x88\x13\x87"}, found{PeerCode: 4999}},
			"close UTF-8":     {[]string{"\x88\x03\xe8\xff"}, found{Verdict: 1002}},
			"binary":          {[]string{"\x82one"}, found{Verdict: 1003}},
			"binary later":    {[]string{"\x81one", "\x02"}, found{Texts: []string{"one"}, Verdict: 1003}},
			"bad UTF-8":       {[]string{"\x81\xff"}, found{Verdict: 1007}},
			"bad UTF-8 cut":   {[]string{"\x01\xc3", "\x80x"}, found{Verdict: 1007}},
			"too big":         {[]string{"\x81" + long + "0"}, found{Verdict: 1009}},
			"too big in all":  {[]string{"\x01" + long, "\x80x"}, found{Verdict: 1009}},
			"RSV1":            {[]string{"\xc1x"}, found{Verdict: 1002}},
			"RSV2":            {[]string{"\xa1x"}, found{Verdict: 1002}},
			"RSV3 on a ping":  {[]string{"\x99x"}, found{Verdict: 1002}},
			"opcode 3":        {[]string{"\x83x"}, found{Verdict: 1002}},
			"opcode 11":       {[]string{"\x8bx"}, found{Verdict: 1002}},
			"stray":           {[]string{"\x80x"}, found{Verdict: 1002}},
			"inside another":  {[]string{"\x01x", "\x81y"}, found{Verdict: 1002}},
			"ping in pieces":  {[]string{"\x09x"}, found{Verdict: 1002}},
			"ping too long":   {[]string{"\x89" + long}, found{Verdict: 1002}},
		} {
			var stream []byte
			for _, frame := range tt.frames {
				stream = append(stream, spell(frame[0], frame[1:], masked, 0)...)
			}
			for cut := range len(stream) + 1 {
				got := follow(&frameReader{masked: masked, max: len(long)}, stream[:cut], stream[cut:])
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Fatalf("%s, masked %t, cut at %d: -want +got\n%s", name, masked, cut, diff)
				}
			}
			single := slices.Collect(slices.Chunk(stream, 1))
			if diff := cmp.Diff(tt.want, follow(&frameReader{masked: masked, max: len(long)}, single...)); diff != "" {
				t.Errorf("%s, masked %t, byte by byte: -want +got\n%s", name, masked, diff)
			}
			wrong := follow(&frameReader{masked: !masked, max: len(long)}, stream)
			if wrong.Verdict == 0 || wrong.Texts != nil {
				t.Errorf("%s: masked %t was accepted from the wrong side", name, masked)
			}
		}
	}
}

// Only what we would have written ourselves is sent on as it came.
func TestFrameThatMayPassAsItIs(t *testing.T) {
	t.Parallel()
	for _, masked := range []bool{true, false} {
		for name, tt := range map[string]struct {
			frames [][]byte
			pass   bool
		}{
			"whole":            {[][]byte{spell(0x81, "one", masked, 0)}, true},
			"126":              {[][]byte{spell(0x81, strings.Repeat("x", 126), masked, 0)}, true},
			"65536":            {[][]byte{spell(0x81, strings.Repeat("x", 65536), masked, 0)}, true},
			"long length":      {[][]byte{spell(0x81, "one", masked, 2)}, false},
			"very long length": {[][]byte{spell(0x81, strings.Repeat("x", 126), masked, 8)}, false},
			"fragments":        {[][]byte{spell(0x01, "one", masked, 0), spell(0x80, "", masked, 0)}, false},
		} {
			stream := bytes.Join(tt.frames, nil)
			for _, cut := range []int{0, 1, 2, len(stream) / 2, len(stream) - 1} {
				f := frameReader{masked: masked, max: 1 << 20}
				var last event
				for _, b := range [][]byte{stream[:cut], stream[cut:]} {
					for len(b) > 0 {
						used, ev, err := f.next(b)
						if err != nil {
							t.Fatal(err)
						}
						b, last = b[used:], ev
					}
				}
				if last.op != opText || (last.raw != nil) != tt.pass || tt.pass && !bytes.Equal(last.raw, stream) {
					t.Errorf("%s, masked %t, cut %d: op %d, raw %.20x", name, masked, cut, last.op, last.raw)
				}
			}
		}
	}
}

func TestIdleReaderHoldsNothing(t *testing.T) {
	t.Parallel()
	f := frameReader{masked: true, max: 1000}
	follow(&f, spell(0x81, "whole", true, 0), spell(0x01, "frag", true, 0), spell(0x80, "ments", true, 0)[:4])
	if f.part == nil || f.text == nil {
		t.Fatal("an unfinished message is forgotten")
	}
	if got := follow(&f, spell(0x80, "ments", true, 0)[4:]); !slices.Equal(got.Texts, []string{"fragments"}) {
		t.Fatalf("got %q", got.Texts)
	}
	if f.part != nil || f.text != nil {
		t.Error("an idle reader keeps its buffers")
	}
}

// What is only announced reserves nothing.
func TestAnnouncedFrameReservesNothing(t *testing.T) {
	t.Parallel()
	f := frameReader{masked: true, max: 1 << 30}
	follow(&f, []byte{0x81, 0x80 | 127, 0, 0, 0, 0, 0x3f, 0, 0, 0, 1, 2, 3, 4, 'x'})
	if cap(f.part.b) > 1<<16 {
		t.Errorf("%d bytes reserved", cap(f.part.b))
	}
}

func TestMaskMatchesTheDefinition(t *testing.T) {
	t.Parallel()
	key := [4]byte{0xa1, 0xb2, 0xc3, 0xd4}
	for n := range 40 {
		src := bytes.Repeat([]byte{0x5a}, n)
		got, want := make([]byte, n), make([]byte, n)
		for i := range want {
			want[i] = src[i] ^ key[i%4]
		}
		if xorMask(got, src, key); !bytes.Equal(got, want) {
			t.Errorf("%d bytes: %x, want %x", n, got, want)
		}
	}
}

// aside is a connection that reads from a buffer and forgets what is written.
type aside struct{ io.Reader }

func (aside) Write(b []byte) (int, error)      { return len(b), nil }
func (aside) Close() error                     { return nil }
func (aside) LocalAddr() net.Addr              { return nil }
func (aside) RemoteAddr() net.Addr             { return nil }
func (aside) SetDeadline(time.Time) error      { return nil }
func (aside) SetReadDeadline(time.Time) error  { return nil }
func (aside) SetWriteDeadline(time.Time) error { return nil }

// reference reads the same stream with gorilla, as Conn.Read does.
func reference(stream []byte, limit int) found {
	var got found
	sock := newSocket(aside{bytes.NewReader(stream)})
	raw := websocketServer(sock)
	raw.SetPingHandler(func(data string) error { got.Pings = append(got.Pings, data); return nil })
	c := newConn(raw, sock, Limits{MaxMessage: limit}.withDefaults())
	raw.SetPingHandler(func(data string) error { got.Pings = append(got.Pings, data); return nil })
	for {
		msg, err := c.Read(nil)
		var violation *ViolationError
		switch {
		case err == nil:
			got.Texts = append(got.Texts, string(msg))
			continue
		case errors.As(err, &violation):
			got.Verdict = violation.Code
		case CloseStatus(err) != 1006:
			got.PeerCode = CloseStatus(err)
		}
		return got
	}
}

// websocketServer makes gorilla's server side of a connection.
func websocketServer(c net.Conn) *websocket.Conn {
	// gorilla has no constructor but the deprecated NewClient and the handshakes.
	h := &fakeHijack{conn: c}
	conn, err := (&websocket.Upgrader{}).Upgrade(h, upgradeRequest(), nil)
	if err != nil {
		panic(err)
	}
	return conn
}

func FuzzFramesAgainstGorilla(f *testing.F) {
	f.Add([]byte("\x81one\n\x01a\n\x89hi\n\x80b\n\x88\x03\xe8"), uint8(3))
	f.Add([]byte("\x82x"), uint8(1))
	f.Add([]byte("\x01\xc3\n\x80\xa9\n\x81\xff"), uint8(2))
	f.Add([]byte("\xc1x\n\x81y"), uint8(0))
	f.Add([]byte("\x81"+strings.Repeat("x", 300)), uint8(5))
	f.Fuzz(func(t *testing.T, script []byte, step uint8) {
		const limit = 256
		// A line is a frame; half of the streams are cut short anywhere.
		var stream []byte
		for i, line := range bytes.Split(script, []byte{'\n'}) {
			if len(line) > 0 {
				stream = append(stream, spell(line[0], string(line[1:]), true, i%3)...)
			}
		}
		cut := step%2 == 1 && len(stream) > 0
		if cut {
			stream = stream[:len(stream)-int(step)%len(stream)]
		}
		want := reference(stream, limit)
		pieces := slices.Collect(slices.Chunk(stream, int(step)%7+1))
		got := follow(&frameReader{masked: true, max: limit}, pieces...)
		if deviates(want, got, cut) {
			t.Errorf("-gorilla +ours\n%s%x", cmp.Diff(want, got), stream)
		}
	})
}

// deviates compares with gorilla, whose verdicts come a little later or earlier
// in three cases: it takes a close frame with half a code, it judges a header only
// when it is whole, and it forgives a message some bytes over the limit until they
// are read.
func deviates(want, got found, cut bool) bool {
	if cut && want.Verdict == 0 && want.PeerCode == 0 {
		got.Verdict = 0 // told as early as it showed, before the header ended
	}
	if got.Verdict == CloseUnsupportedData && want.Verdict == CloseTooBig {
		got.Verdict = CloseTooBig // a binary message that is too big is both
	}
	if want.PeerCode == 1005 && got.Verdict == CloseProtocolError {
		want.PeerCode, got.Verdict = 0, 0
	}
	if got.Verdict == CloseTooBig && want.Verdict != CloseTooBig {
		got.Verdict, want.Verdict = 0, 0
		want.PeerCode = 0
		want.Texts = want.Texts[:min(len(got.Texts), len(want.Texts))]
		want.Pings = want.Pings[:min(len(got.Pings), len(want.Pings))]
	}
	return !cmp.Equal(want, got)
}
