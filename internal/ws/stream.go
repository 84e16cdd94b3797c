package ws

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gorilla/websocket"
)

// Handler takes what a Stream reads. Its methods run on the loop that carries
// thousands of other streams: they must not wait for anything.
type Handler interface {
	// Message takes one text message. raw is the frame it came in, if that may
	// be sent on as it is, else nil. Both are valid until Message returns. If it
	// returns true, nothing more is read until Resume.
	Message(msg, raw []byte) (stop bool)
	// Lost is told once that the peer will say no more, with an error as Conn.Read
	// returns it; not after Close.
	Lost(err error)
}

// highWater is how many unsent bytes toward the one peer stop the reading of the
// other.
const highWater = 64 << 10

// turnFrames is how many frames of one stream are handled before others have
// their turn: small ones that have to be answered cost more than their bytes.
const turnFrames = 256

// loopBuffer is how much one stream may read before others have their turn.
const loopBuffer = 64 << 10

// receiptSize is how much a read ahead may take: few messages are larger.
const receiptSize = 4 << 10

// receipt is the outcome of a read that was made ahead, with those of others.
type receipt struct {
	made bool
	b    []byte // nothing without an error: the end
	err  error
}

// Stream is a WebSocket without compression whose reading is done by a Loop.
// Writes come from any goroutine and don't wait: what the peer doesn't take is
// queued, and while much is queued the pair's other side isn't read.
//
// An idle stream holds no buffer and no goroutine but what crypto/tls knows of its
// connection. Whoever has a Stream must Close it.
type Stream struct {
	loop    *Loop
	line    *Line
	secure  *tls.Conn // nil without TLS
	handler Handler
	other   *Stream // the pair's other side
	pace    *pace

	reading  sync.Mutex // guards the reader's state, and the descriptor against Close
	frames   frameReader
	held     []byte // decrypted bytes that wait behind a stopped message, or for the next turn
	budget   int32  // frames that may still be handled in this turn
	linger   int32  // bytes dropped since it is over
	place    int32  // among the loop's; never changes
	client   bool   // our frames are masked; never changes
	fresh    bool   // crypto/tls may hold bytes of its own
	stopped  bool   // until Resume
	begun    bool   // Resume was called once
	readable bool   // the socket may have more
	hangup   bool   // its end was signalled
	over     bool   // the reader looks at nothing any more
	closed   bool   // the descriptor is gone
	polite   bool   // the peer's close frame or end was seen

	closeSent bool // under sending

	full    atomic.Bool // back-pressure stopped the reader
	closing atomic.Bool // Close was called
	peer    Latch       // the peer will say no more
	ended   Latch       // the connection's end was read
	done    Latch       // the first Close has finished

	heard  atomic.Int64         // when the last bytes came
	pinged atomic.Int64         // when we last pinged
	ears   atomic.Pointer[ears] // nil until the first Ping

	sending sync.Mutex // one frame at a time

	out   outbox
	alarm alarm // the clock's
}

// pace is what a stream needs of Limits beside what its frames do.
type pace struct{ write, ping, pong time.Duration }

// paces has streams with the same limits share them: all there are, but for those
// from before the last change of the settings.
type paces struct{ last atomic.Pointer[pace] }

func (p *paces) of(l *Limits) *pace {
	want := pace{write: l.WriteTimeout, ping: l.PingInterval, pong: l.PongTimeout}
	if last := p.last.Load(); last != nil && *last == want {
		return last
	}
	p.last.Store(&want)
	return &want
}

// ears are the Pings that wait.
type ears struct {
	mu      sync.Mutex
	waiting []chan struct{}
}

// Pair moves two connections, of which nobody has read or written anything since
// their handshakes, to one of the loops. It reports false, and leaves both as
// they are, if one of them can't be moved: it is compressed, or no TCP socket of
// this process, or there is no descriptor left. Nothing is read before Resume.
func (l *Loops) Pair(a *Conn, ha Handler, b *Conn, hb Handler) (sa, sb *Stream, ok bool) {
	if l == nil || len(l.loops) == 0 || a.compressed || b.compressed {
		return nil, nil, false
	}
	loop := l.loops[int(l.next.Add(1))%len(l.loops)]
	fa, okA := duplicate(a)
	fb, okB := duplicate(b)
	if !okA || !okB || !a.release() || !b.release() {
		closeFD(fa)
		closeFD(fb)
		return nil, nil, false
	}
	pair := new([2]Stream)
	sa, sb = &pair[0], &pair[1]
	sa.carry(loop, a, fa, ha)
	sb.carry(loop, b, fb, hb)
	sa.other, sb.other = sb, sa
	loop.enter(sa)
	loop.enter(sb)
	return sa, sb, true
}

// carry takes a connection over; fd is its socket's, and s is new.
func (s *Stream) carry(loop *Loop, c *Conn, fd int, h Handler) {
	line, secure := lineOf(c.sock.Conn)
	s.loop, s.line, s.secure, s.client, s.handler = loop, line, secure, c.client, h
	s.stopped, s.readable, s.fresh, s.held = true, true, secure != nil, c.sock.early
	s.pace = loop.paces.of(&c.limits)
	s.frames = frameReader{masked: !c.client, max: c.limits.MaxMessage}
	s.out.fd = int32(fd)  //nolint:gosec // the kernel's are no larger
	_ = line.Conn.Close() // the duplicate lives on; the runtime's poller forgets the connection
	line.Conn, line.direct, line.stream = handed{}, nil, s
	c.giveBack()
	if secure != nil && !c.client {
		// The connection state shares its elements with crypto/tls, which would
		// keep the parsed certificates for nothing: 4 KB a station.
		clear(secure.ConnectionState().PeerCertificates)
	}
}

// Resume lets the loop read on. The first call starts the clocks.
func (s *Stream) Resume() {
	now := s.loop.clock.now()
	s.heard.Store(now)
	s.reading.Lock()
	s.stopped = false
	first := !s.begun
	s.begun = true
	s.reading.Unlock()
	if first {
		s.begin(now)
	}
	s.loop.again(s)
}

// serve handles one event of the socket on the loop.
func (s *Stream) serve(ev uint32, now int64, ahead receipt) {
	defer s.survive()
	if ev&(evOut|evErr|evHup) != 0 && s.out.waiting() > 0 {
		s.flush(now)
	}
	if ev&(evIn|evEnd|evErr|evHup) == 0 {
		return
	}
	s.reading.Lock()
	defer s.reading.Unlock()
	s.readable = true
	if ev&(evEnd|evErr|evHup) != 0 {
		s.hangup = true
	}
	s.read(now, ahead)
}

// run goes on with what was left, on the loop.
func (s *Stream) run(now int64) {
	defer s.survive()
	s.reading.Lock()
	defer s.reading.Unlock()
	s.read(now, receipt{})
}

// survive keeps a panic from taking all other streams with it.
func (s *Stream) survive() {
	p := recover()
	if p == nil {
		return
	}
	s.reading.Lock()
	defer s.reading.Unlock()
	s.lose(fmt.Errorf("internal error: panic: %v\n%s", p, debug.Stack()))
}

// listens reports whether nothing stands between the socket and the handler. The
// caller holds reading.
func (s *Stream) listens() bool {
	return !s.closed && !s.over && !s.fresh && len(s.held) == 0 && !s.blocked()
}

// blocked reports whether the reader must leave everything where it is.
func (s *Stream) blocked() bool {
	if s.closing.Load() {
		return false
	}
	if s.stopped {
		return true
	}
	if !s.tooMuch() {
		return false
	}
	s.full.Store(true)
	// It may have been sent meanwhile, by the loop itself: then nobody would call.
	if !s.tooMuch() {
		s.full.Store(false)
		return false
	}
	return true
}

// tooMuch reports whether too much is unsent for reading on. Toward the peer
// itself a message of any size may be under way, which it perhaps takes only
// after what it sends: just answers to its own frames must not pile up.
func (s *Stream) tooMuch() bool {
	return s.other.out.waiting() > highWater || s.out.waiting() > s.frames.max+highWater
}

// read takes what the socket has, one buffer at a time, after what was read ahead.
// The caller holds reading.
func (s *Stream) read(now int64, ahead receipt) {
	defer s.frames.idle()
	if s.closed {
		return
	}
	s.loop.in = nil // a stream that panicked may have left some
	s.budget = turnFrames
	if ahead.made && !s.over && !s.received(ahead.b, ahead.err, receiptSize, now) {
		return
	}
	if s.blocked() && !s.over {
		return
	}
	s.full.Store(false)
	if !s.over {
		s.held = s.consume(s.held)
	}
	if s.fresh && !s.over {
		s.decrypt() // what crypto/tls holds since the handshake
	}
	for s.readable && !s.over && len(s.held) == 0 && !s.blocked() {
		n, err := recv(int(s.out.fd), s.loop.buf)
		if !s.received(s.loop.buf[:n], err, len(s.loop.buf), now) {
			return
		}
	}
	switch {
	case s.over:
		s.drop()
	case len(s.held) > 0 && !s.blocked():
		s.loop.again(s) // others first
	}
}

// received takes the outcome of a read that had so much room, and reports whether
// the stream's turn goes on.
func (s *Stream) received(b []byte, err error, room int, now int64) bool {
	switch {
	case len(b) > 0:
		s.hear(now)
		s.loop.in = b
		if s.secure != nil {
			s.decrypt()
		} else {
			s.take(b)
		}
		s.loop.in = nil
		switch {
		case len(b) == loopBuffer:
			s.loop.again(s) // others first
			return false
		case len(b) < room && !s.hangup:
			s.readable = false // edge-triggered: the next byte is a new event
		}
		return true
	case errors.Is(err, syscall.EAGAIN):
		s.readable = false
		return true
	}
	s.line.eof = true
	s.ended.Open()
	switch {
	case s.over:
	case err != nil:
		s.lose(fmt.Errorf("couldn't read from the WebSocket: %w", err))
	case s.secure != nil:
		s.decrypt()
	}
	if !s.over {
		s.broke()
	}
	return false
}

// drop reads on behind the end, so that the connection isn't reset before the
// peer has seen our close frame, but not for ever.
func (s *Stream) drop() {
	for s.readable && !s.line.eof {
		n, err := recv(int(s.out.fd), s.loop.buf)
		switch {
		case n > 0:
			if s.linger += int32(n); s.linger > lingerBytes { //nolint:gosec // no more than a loop's buffer
				err = syscall.EMSGSIZE
			}
		case errors.Is(err, syscall.EAGAIN):
			s.readable = false
			return
		}
		if n <= 0 || err != nil {
			s.line.eof = true
			s.ended.Open()
		}
	}
}

// broke ends the reader where the peer said nothing about it.
func (s *Stream) broke() {
	s.polite = true // there is nobody to wait for
	s.lose(fmt.Errorf("the connection broke off: %w", &websocket.CloseError{Code: websocket.CloseAbnormalClosure, Text: "unexpected EOF"}))
}

// decrypt takes what crypto/tls can give. It isn't asked once more when it has
// given what was in whole records: that it has nothing costs as much to hear. Only
// what it holds since the handshake may be more than one record.
func (s *Stream) decrypt() {
	s.loop.records.lend(s.secure)
	defer func() { s.loop.records.takeBack(s.secure, int(s.line.record)) }()
	for !s.over {
		n, err := s.secure.Read(s.loop.plain)
		if n > 0 {
			s.take(s.loop.plain[:n])
		}
		var more again
		switch {
		case err == nil && (s.fresh || n == len(s.loop.plain) || !s.line.settled()):
			continue
		case err == nil:
			return
		case errors.As(err, &more):
			s.fresh = false
			return
		case s.over:
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			s.broke()
		default:
			s.lose(fmt.Errorf("couldn't read from the WebSocket: %w", err))
		}
		return
	}
}

// take follows decrypted bytes that are the loop's: what can't be handled now is
// copied.
func (s *Stream) take(b []byte) {
	if len(s.held) == 0 {
		b = s.consume(b)
	}
	s.held = append(s.held, b...)
}

// consume follows decrypted bytes and returns those behind a message that stops
// the reader, or behind the last frame of this turn.
func (s *Stream) consume(b []byte) []byte {
	for len(b) > 0 && !s.over {
		if s.budget == 0 || s.blocked() {
			return b
		}
		s.budget--
		used, ev, err := s.frames.next(b)
		b = b[used:]
		if err != nil {
			var violation *ViolationError
			errors.As(err, &violation)
			s.sendClose(violation.Code, violation.Reason)
			s.lose(err)
			return nil
		}
		switch ev.op {
		case opText:
			if s.closing.Load() {
				continue
			}
			if s.handler.Message(ev.payload, ev.raw) {
				s.stopped = true
			}
		case opPing:
			if err := s.send(opPong, ev.payload); err != nil && !errors.Is(err, ErrClosed) {
				s.lose(fmt.Errorf("couldn't answer a ping: %w", err))
			}
		case opClose:
			code := ev.code
			if code == 1005 {
				s.sendClose(0, "")
			} else {
				s.sendClose(code, "")
			}
			s.polite = true
			s.lose(fmt.Errorf("the peer closed the WebSocket: %w", &websocket.CloseError{Code: code}))
		}
	}
	return nil
}

// lose ends the reader. The caller holds reading.
func (s *Stream) lose(err error) {
	if s.over {
		return
	}
	s.over, s.held = true, nil
	if s.line.eof {
		s.polite = true
	}
	s.peer.Open()
	if !s.closing.Load() {
		s.handler.Lost(err)
	}
	s.loop.again(s)
}

// hear notes that the peer lives.
func (s *Stream) hear(now int64) {
	s.heard.Store(now)
	e := s.ears.Load()
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, ch := range e.waiting {
		close(ch)
	}
	e.waiting = nil
}

// Ping sends a ping and waits for any byte of the peer that proves it alive. While
// this side doesn't listen, the peer can't be found dead.
func (s *Stream) Ping(ctx context.Context) error {
	heard := make(chan struct{})
	s.ears.CompareAndSwap(nil, &ears{})
	e := s.ears.Load()
	e.mu.Lock()
	e.waiting = append(e.waiting, heard)
	e.mu.Unlock()
	if err := s.send(opPing, nil); err != nil {
		return err
	}
	select {
	case <-heard:
		return nil
	case <-s.done.Opened():
		return ErrClosed
	case <-ctx.Done():
		e.mu.Lock()
		e.waiting = slices.DeleteFunc(e.waiting, func(ch chan struct{}) bool { return ch == heard })
		e.mu.Unlock() // before reading is taken: who reads hears
		if s.deaf() {
			return nil
		}
		return fmt.Errorf("no answer to a ping: %w", ctx.Err())
	}
}

// deaf reports whether this side leaves the peer's bytes where they are.
func (s *Stream) deaf() bool {
	s.reading.Lock()
	defer s.reading.Unlock()
	return !s.over && (s.stopped || s.full.Load())
}
