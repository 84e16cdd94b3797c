package ws

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// socket sits between gorilla and the network connection (above TLS). It knows
// when the peer was last heard, owns the read deadline, and bounds how many
// bytes a server's handshake answer may have.
type socket struct {
	net.Conn
	heard atomic.Int64 // bytes read so far

	early []byte // bytes that came before the upgrade; owned by the reader

	// request is a client's, gathered until its answer is awaited: net/http would take
	// a buffer of its own for each. nil: what is written is sent.
	request *bytes.Buffer

	// hold is set while a server's answer is awaited: what comes behind its head
	// is kept in early, where it can be found if a Stream takes over.
	hold bool
	tail [3]byte // of what was read so far

	// budget is how many bytes may still be read; negative: any number.
	budget int

	mu      sync.Mutex
	idle    time.Duration // read deadline after each byte; 0: none
	final   time.Time     // not zero: the deadline Close has set for everything
	waiters []chan struct{}
}

var errHandshakeSize = errors.New("the server's handshake answer is too long")

// headEnd is what an HTTP head ends with (RFC 9112 §2.1).
var headEnd = []byte("\r\n\r\n")

// handshakeBytes bounds the HTTP head of a server's answer.
const handshakeBytes = 64 << 10

func newSocket(c net.Conn) *socket { return &socket{Conn: c, budget: -1} }

func (s *socket) Read(b []byte) (int, error) {
	if len(s.early) > 0 {
		n := copy(b, s.early)
		s.early = s.early[n:]
		return n, nil
	}
	if s.budget == 0 {
		return 0, errHandshakeSize
	}
	if s.budget > 0 && len(b) > s.budget {
		b = b[:s.budget]
	}
	if err := s.extend(); err != nil {
		return 0, err
	}
	if s.request != nil {
		if err := s.sendRequest(); err != nil {
			return 0, err
		}
	}
	n, err := s.Conn.Read(b)
	if n > 0 {
		if s.budget > 0 {
			s.budget -= n
		}
		if s.hold {
			n = s.keepRest(b[:n])
		}
		s.heard.Add(int64(n))
		s.wake()
	}
	return n, err
}

// requests are spare buffers.
var requests = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// awaits has a client's request gathered, and its answer bounded.
func (s *socket) awaits() {
	s.budget, s.hold = handshakeBytes, true
	s.request = requests.Get().(*bytes.Buffer) //nolint:forcetypeassert // the pool's New makes nothing else
}

// Write sends, or gathers what is part of the request.
func (s *socket) Write(b []byte) (int, error) {
	if s.request != nil {
		return s.request.Write(b)
	}
	return s.Conn.Write(b)
}

// WriteString is Write.
func (s *socket) WriteString(text string) (int, error) {
	if s.request != nil {
		return s.request.WriteString(text)
	}
	return s.Conn.Write([]byte(text))
}

// WriteByte tells net/http that no buffer is needed here.
func (s *socket) WriteByte(b byte) error {
	_, err := s.Write([]byte{b})
	return err
}

// sendRequest sends it in one piece, and forgets it: there may be a password in it.
func (s *socket) sendRequest() error {
	request := s.request
	s.request = nil
	_, err := s.Conn.Write(request.Bytes())
	clear(request.Bytes())
	request.Reset()
	requests.Put(request)
	return err
}

// keepRest looks for the end of the head and returns how many bytes reach up to it.
func (s *socket) keepRest(b []byte) int {
	var room [2 * len(s.tail)]byte // where the two meet
	copy(room[:], s.tail[:])
	seam := room[:len(s.tail)+copy(room[len(s.tail):], b)]
	n := len(b)
	if i := bytes.Index(seam, headEnd); i >= 0 {
		s.hold, n = false, i+len(headEnd)-len(s.tail)
	} else if i := bytes.Index(b, headEnd); i >= 0 {
		s.hold, n = false, i+len(headEnd)
	}
	if len(b) > len(s.tail) {
		seam = b
	}
	s.tail = [3]byte(seam[len(seam)-len(s.tail):])
	if n < len(b) {
		s.early = bytes.Clone(b[n:])
	}
	return n
}

// extend moves the read deadline, unless Close has set the last one.
func (s *socket) extend() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.idle == 0 || !s.final.IsZero() {
		return nil
	}
	return s.Conn.SetReadDeadline(time.Now().Add(s.idle))
}

// SetWriteDeadline is called by gorilla before each write.
func (s *socket) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.final.IsZero() && (t.IsZero() || t.After(s.final)) {
		t = s.final
	}
	return s.Conn.SetWriteDeadline(t)
}

// end sets the last deadline of all reads and writes, also of those under way.
// Past it the connection is cut, which interrupts even crypto/tls: that would
// wait 5 s for a stuck peer to take its close_notify. The caller stops the
// timer.
func (s *socket) end(deadline time.Time) *time.Timer {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.final = deadline
	// An error means that the connection is gone: all fails by itself.
	_ = s.Conn.SetDeadline(deadline)
	below := s.Conn
	if t, ok := below.(*tls.Conn); ok {
		below = t.NetConn()
	}
	return time.AfterFunc(time.Until(deadline), func() { _ = below.Close() })
}

// listen returns a channel that is closed by the next bytes of the peer.
func (s *socket) listen() chan struct{} {
	ch := make(chan struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiters = append(s.waiters, ch)
	return ch
}

// forget removes a waiter that gave up.
func (s *socket) forget(ch chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, w := range s.waiters {
		if w == ch {
			s.waiters = append(s.waiters[:i], s.waiters[i+1:]...)
			return
		}
	}
}

func (s *socket) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ch := range s.waiters {
		close(ch)
	}
	s.waiters = nil
}

// closeWrite ends the sending half, so that the peer reads all that was sent
// before it sees the end.
func (s *socket) closeWrite() {
	if half, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // the close that follows does the rest
	}
}
