package ws

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"time"
)

// Line is a TCP connection that can change hands once: from the runtime's
// poller, where reads and writes block, to a Stream. crypto/tls above it doesn't
// notice. Until then it is its Conn.
type Line struct {
	net.Conn
	direct *direct // reads and writes Conn, if there is one

	// Owned by the reader.
	stream *Stream
	record int32 // bytes still to come of the TLS record under way
	head   [recordHeader]byte
	heads  uint8 // bytes of head seen
	astray bool  // what came can't be records: where they end isn't known
	eof    bool
}

const (
	recordHeader  = 5 // RFC 8446 §5.1
	recordVersion = 3 // ibid.: the first byte of a record's version, whatever it is
)

// NewLine wraps a fresh connection.
func NewLine(c net.Conn) *Line {
	l := &Line{Conn: c}
	if !seen {
		l.direct = newDirect(c)
	}
	return l
}

// Line returns the line itself. Wrappers of a line offer this method, so that
// the line below can be found.
func (l *Line) Line() *Line { return l }

// errAgain says that more must come first. It is temporary, so crypto/tls keeps
// its state and can be asked again.
var errAgain net.Error = again{}

type again struct{}

func (again) Error() string   { return "no more bytes for now" }
func (again) Timeout() bool   { return true }
func (again) Temporary() bool { return true }

// Read serves crypto/tls what the loop has read, one record at a time: its
// buffer grows with what it is given and never shrinks.
func (l *Line) Read(p []byte) (int, error) {
	switch {
	case l.stream != nil:
	case l.direct != nil:
		n, err := l.direct.read(p)
		l.follow(p[:n])
		return n, err
	default:
		n, err := l.Conn.Read(p)
		l.follow(p[:n])
		return n, err
	}
	in := l.stream.loop.in
	if len(in) == 0 {
		if l.eof {
			return 0, io.EOF
		}
		return 0, errAgain
	}
	n := copy(p, in[:l.rest(in)])
	l.follow(in[:n])
	l.stream.loop.in = in[n:]
	return n, nil
}

// rest is how many of the bytes in belong to the record under way.
func (l *Line) rest(in []byte) int {
	if l.record > 0 {
		return min(len(in), int(l.record))
	}
	heads := int(l.heads)
	head := append(l.head[:heads:heads], in[:min(len(in), recordHeader-heads)]...)
	if len(head) < recordHeader {
		return len(in)
	}
	return min(len(in), recordHeader-heads+int(binary.BigEndian.Uint16(head[3:])))
}

// follow keeps count of the records in what goes to the layer above.
func (l *Line) follow(b []byte) {
	for len(b) > 0 {
		if l.record > 0 {
			n := min(len(b), int(l.record))
			l.record -= int32(n) //nolint:gosec // no more than record
			b = b[n:]
			continue
		}
		n := copy(l.head[l.heads:], b)
		b = b[n:]
		if l.heads += uint8(n); l.heads == recordHeader { //nolint:gosec // no more than a header
			l.heads = 0
			l.record = int32(binary.BigEndian.Uint16(l.head[3:]))
			l.astray = l.astray || l.head[1] != recordVersion
		}
	}
}

// settled reports whether the layer above was given whole records and nothing of
// what the loop has read is left for it.
func (l *Line) settled() bool {
	return len(l.stream.loop.in) == 0 && l.record == 0 && l.heads == 0 && !l.astray
}

// Write sends at once or queues; it never waits for the peer.
func (l *Line) Write(p []byte) (int, error) {
	switch {
	case l.stream != nil:
		return l.stream.put(p)
	case l.direct != nil:
		return l.direct.write(p)
	}
	return l.Conn.Write(p)
}

// CloseWrite ends the sending half.
func (l *Line) CloseWrite() error {
	if half, ok := l.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// handed is the Conn of a line that a stream has.
type handed struct{}

func (handed) Read([]byte) (int, error)         { return 0, net.ErrClosed }
func (handed) Write([]byte) (int, error)        { return 0, net.ErrClosed }
func (handed) Close() error                     { return nil }
func (handed) LocalAddr() net.Addr              { return nil }
func (handed) RemoteAddr() net.Addr             { return nil }
func (handed) SetDeadline(time.Time) error      { return nil }
func (handed) SetReadDeadline(time.Time) error  { return nil }
func (handed) SetWriteDeadline(time.Time) error { return nil }

// lineOf finds the line below a connection, and the TLS above it if any.
func lineOf(c net.Conn) (*Line, *tls.Conn) {
	secure, ok := c.(*tls.Conn)
	if ok {
		c = secure.NetConn()
	}
	if w, ok := c.(interface{ Line() *Line }); ok {
		return w.Line(), secure
	}
	return nil, secure
}
