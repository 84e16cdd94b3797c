package ws

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"
)

// serverEnds is how long a server may take to end the TCP connection after both
// close frames.
const serverEnds = 200 * time.Millisecond

// errSlow ends a stream whose peer takes nothing.
var errSlow = errors.New("the peer takes too few of the bytes sent to it")

// outbox is the sending half of a stream.
type outbox struct {
	mu      sync.Mutex
	fd      int32    // also the reader's; -1 once closed
	half    bool     // end the sending half once nothing is queued
	backlog *backlog // what the peer didn't take yet; nil: nothing
	err     error    // sticky
	empty   chan struct{}
	due     int64   // when tick runs next; 0 while it does
	batch   *buffer // what the loop sends with that of others; nothing is queued then
	size    atomic.Int64
}

// backlog is what is queued.
type backlog struct {
	parts [][]byte // at least one; the first may be sent in part
	since int64    // from when the first one's time runs
}

func (b *backlog) add(p []byte) { b.parts = append(b.parts, append([]byte(nil), p...)) }

// waiting is how many bytes the socket wasn't given yet.
func (o *outbox) waiting() int { return int(o.size.Load()) }

// put sends p, or queues what the socket doesn't take.
func (s *Stream) put(p []byte) (int, error) {
	queued, err := s.queue(p)
	if queued {
		s.wakeReaders()
	}
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

func (s *Stream) queue(p []byte) (queued bool, err error) {
	o := &s.out
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return false, o.err
	}
	if o.waiting()+len(p) > 2*s.frames.max+4*highWater {
		o.err = errSlow
		return false, o.err
	}
	switch {
	case o.backlog != nil:
		o.backlog.add(p)
		o.size.Add(int64(len(p)))
		return true, nil
	case o.batch == nil && !s.loop.batch.join(s):
		n, err := transmit(int(o.fd), p)
		if err != nil {
			o.err = err
			return false, err
		}
		if p = p[n:]; len(p) == 0 {
			return false, nil
		}
		o.size.Add(int64(len(p)))
		s.enqueue(p, s.loop.clock.now())
		return true, o.err
	case o.batch == nil:
		o.batch = takeBuffer()
	}
	o.batch.b = append(o.batch.b, p...)
	o.size.Add(int64(len(p)))
	return false, nil
}

// enqueue queues, as the first, what the socket didn't take and size has already.
// The caller holds out.mu.
func (s *Stream) enqueue(p []byte, now int64) {
	s.out.backlog = &backlog{since: now}
	s.out.backlog.add(p)
	s.wakeIn(s.pace.write)
	// The socket may have got room before the loop could see that something
	// waits, and says so only once.
	s.drain(now)
}

// flush sends what is queued, as far as it goes, on the loop.
func (s *Stream) flush(now int64) {
	func() {
		s.out.mu.Lock()
		defer s.out.mu.Unlock()
		s.drain(now)
	}()
	s.wakeReaders()
}

// drain is flush with the lock held.
func (s *Stream) drain(now int64) {
	o := &s.out
	for o.backlog != nil && o.err == nil {
		first := o.backlog.parts[0]
		n, err := transmit(int(o.fd), first)
		if err != nil {
			o.err = err
			s.wakeIn(time.Millisecond) // to say so
			break
		}
		o.size.Add(-int64(n))
		if n < len(first) {
			o.backlog.parts[0] = first[n:]
			break
		}
		o.backlog.parts[0] = nil
		o.backlog.parts, o.backlog.since = o.backlog.parts[1:], now
		if len(o.backlog.parts) == 0 {
			o.backlog = nil
		}
	}
	if o.backlog == nil || o.err != nil {
		o.settle()
	}
}

// wakeReaders lets those read on that were stopped by what waited here.
func (s *Stream) wakeReaders() {
	if s.out.waiting() > highWater/2 {
		return
	}
	for _, one := range []*Stream{s, s.other} {
		if one.full.CompareAndSwap(true, false) {
			s.loop.again(one)
		}
	}
}

// settle is called, with the lock held, when nothing is queued, or nothing of it
// will ever be sent. What waits for others is sent before anybody is told.
func (o *outbox) settle() {
	o.backlog = nil
	if o.batch != nil && o.err == nil {
		return
	}
	if o.empty != nil {
		close(o.empty)
		o.empty = nil
	}
	if o.half {
		halfClose(int(o.fd))
	}
}

// drained returns a channel that is closed when nothing is queued.
func (o *outbox) drained(half bool) <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.half = half
	ch := make(chan struct{})
	if o.waiting() == 0 || o.err != nil {
		o.settle()
		close(ch)
		return ch
	}
	if o.empty == nil {
		o.empty = ch
	}
	return o.empty
}

// send sends one frame.
func (s *Stream) send(op byte, payload []byte) error {
	buf := takeBuffer()
	var mask *[4]byte
	if s.client {
		mask = new([4]byte)
		_, _ = rand.Read(mask[:]) // never fails (crypto/rand)
	}
	buf.b = appendFrame(buf.b, op, payload, mask)
	err := s.ship(op, buf.b)
	buf.give()
	return err
}

// ship sends a frame as it is.
func (s *Stream) ship(op byte, frame []byte) error {
	s.sending.Lock()
	defer s.sending.Unlock()
	if s.closeSent {
		return ErrClosed
	}
	s.closeSent = op == opClose
	var err error
	if s.secure != nil {
		_, err = s.secure.Write(frame)
	} else {
		_, err = s.line.Write(frame)
	}
	if err != nil {
		return fmt.Errorf("couldn't write to the WebSocket: %w", err)
	}
	return nil
}

// Write sends one text message, or queues it. After an error the connection is
// useless.
func (s *Stream) Write(msg []byte) error { return s.send(opText, msg) }

// Pass sends on a message another stream has read: its frame as it came, if
// there is one. The mask toward a back end is then the station's: it is as
// unknown to the back end as one of ours would be.
func (s *Stream) Pass(msg, raw []byte) error {
	if raw == nil || s.client != s.other.frames.masked {
		return s.send(opText, msg)
	}
	return s.ship(opText, raw)
}

// Pass sends on a message another connection has read.
func (c *Conn) Pass(msg, _ []byte) error { return c.Write(msg) }

// sendClose sends a close frame, once; code 0 means one without a code.
func (s *Stream) sendClose(code int, reason string) {
	const maxReason = 123 // RFC 6455 §5.5: 125 bytes with the code
	reason = strings.ToValidUTF8(reason, "")
	for len(reason) > maxReason {
		_, size := utf8.DecodeLastRuneInString(reason)
		reason = reason[:len(reason)-size]
	}
	var payload []byte
	if code != 0 {
		payload = websocket.FormatCloseMessage(code, reason)
	}
	_ = s.send(opClose, payload) // the connection is closed next
}

// begin starts the clocks.
func (s *Stream) begin(now int64) {
	s.pinged.Store(now)
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	if s.out.err != nil {
		s.wakeIn(time.Millisecond) // to say so, from a goroutine of its own
		return
	}
	s.plan(now)
}

// spoil makes the stream useless before it began.
func (o *outbox) spoil(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.err = err
}

// wakeIn lets tick run in d or earlier; tick plans anew whatever is due. The
// caller holds out.mu.
func (s *Stream) wakeIn(d time.Duration) {
	at := s.loop.clock.now() + int64(d)
	if s.out.due == 0 || at < s.out.due {
		s.ringAt(at)
	}
}

func (s *Stream) ringAt(at int64) {
	s.out.due = at
	s.loop.clock.set(s, at)
}

// plan sets the clock to what is due next. Bytes that come in move what is due
// without touching the clock: that is found out when it rings. The caller holds out.mu.
func (s *Stream) plan(now int64) {
	if s.closing.Load() {
		return
	}
	due := int64(0)
	sooner := func(from int64, after time.Duration) {
		if at := from + int64(after); after > 0 && (due == 0 || at < due) {
			due = at
		}
	}
	sooner(s.pinged.Load(), s.pace.ping)
	sooner(s.heard.Load(), s.pace.pong)
	if queued := s.out.backlog; queued != nil {
		sooner(queued.since, s.pace.write)
	}
	if due == 0 {
		return
	}
	s.ringAt(max(due, now+int64(time.Millisecond)))
}

// tick does what is due, when the clock rings.
func (s *Stream) tick() {
	defer s.survive()
	if s.closing.Load() {
		return
	}
	now := s.loop.clock.now()
	past := func(from int64, d time.Duration) bool { return d > 0 && now-from >= int64(d) }
	s.out.mu.Lock()
	s.out.due = 0
	stuck := s.out.backlog != nil && past(s.out.backlog.since, s.pace.write)
	if stuck && s.out.err == nil {
		s.out.err = fmt.Errorf("couldn't write to the WebSocket: %w", os.ErrDeadlineExceeded)
	}
	err := s.out.err
	s.out.mu.Unlock()
	if err != nil {
		s.give(err)
		return
	}
	if past(s.heard.Load(), s.pace.pong) {
		if s.deaf() {
			s.heard.Store(now) // it is we who don't listen
		}
		if past(s.heard.Load(), s.pace.pong) {
			s.give(fmt.Errorf("no byte from the peer for %s: %w", s.pace.pong, os.ErrDeadlineExceeded))
			return
		}
	}
	if past(s.pinged.Load(), s.pace.ping) {
		s.pinged.Store(now)
		if err := s.send(opPing, nil); err != nil {
			s.give(err)
			return
		}
	}
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	s.plan(now)
}

// give ends the stream from outside the loop.
func (s *Stream) give(err error) {
	s.reading.Lock()
	defer s.reading.Unlock()
	if !s.closed {
		s.lose(err)
	}
}

// Close sends a close frame, waits shortly for the peer's and closes. Safe to
// call from any goroutine but the loop's, more than once; the first call's code
// wins. It returns when the connection is closed, after little more than a
// second at the latest. No method of the handler runs afterwards.
func (s *Stream) Close(code int, reason string) {
	if !s.closing.CompareAndSwap(false, true) {
		<-s.done.Opened()
		return
	}
	deadline := time.NewTimer(closeWait)
	defer deadline.Stop()
	s.sendClose(code, reason)
	s.loop.again(s) // whatever stopped the reader, now it looks for the peer's close frame
	late := false
	wait := func(ch <-chan struct{}) {
		if late {
			return
		}
		select {
		case <-ch:
		case <-deadline.C:
			late = true
		}
	}
	wait(s.peer.Opened())
	if s.secure != nil {
		_ = s.secure.CloseWrite() // close_notify
	}
	s.reading.Lock()
	polite := s.over && s.polite
	s.reading.Unlock()
	wait(s.out.drained(!polite))
	if !polite {
		wait(s.ended.Opened())
	} else if s.client && !late {
		// The server ends the connection first (RFC 6455 §7.1.1). A back end that
		// does has then forgotten the station, before its next connection comes.
		deadline.Reset(serverEnds)
		wait(s.ended.Opened())
	}
	s.shut()
	s.done.Open()
}

// shut closes the descriptor.
func (s *Stream) shut() {
	s.reading.Lock()
	defer s.reading.Unlock()
	s.closed, s.over, s.held = true, true, nil
	s.frames.drop()
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	s.loop.clock.drop(s)
	closeFD(int(s.out.fd))
	s.loop.leave(s) // its place is for others once no event can come any more
	s.out.batch.give()
	s.out.fd, s.out.backlog, s.out.batch = -1, nil, nil
	s.out.size.Store(0)
	if s.out.err == nil {
		s.out.err = ErrClosed
	}
}
