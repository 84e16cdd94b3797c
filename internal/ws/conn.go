package ws

import (
	"bufio"
	"compress/flate"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"
)

// closeWait bounds Close: the close frame, the peer's answer, the end.
const closeWait = time.Second

// lingerBytes bounds what is read from a peer that broke a rule and goes on
// sending, until it has seen the close frame.
const lingerBytes = 4 << 20

// compressFrom is the size from which a message is worth deflating.
const compressFrom = 512

// Conn is one WebSocket. One goroutine reads; any number may write.
//
// It starts no goroutine. Own pings are sent by a timer from the first Read on, which
// Close stops and waits for, so whoever has a Conn must Close it.
type Conn struct {
	ws     *websocket.Conn
	sock   *socket
	lent   *bufio.Reader // what gorilla reads with, if it is ours; a Stream needs none
	limits Limits

	client     bool // our frames are masked
	compressed bool // permessage-deflate may be in use

	writing sync.Mutex // one data frame at a time

	reading sync.Mutex // held by Read and, at the end, by Close
	readErr error      // sticky; under reading
	begun   bool       // it is read, so own pings are sent; under reading
	// peerDone says that the peer's close frame, or its end, was read: it will
	// say no more, and Close need not wait for it; under reading.
	peerDone bool

	state  sync.Mutex
	closed bool        // Close was called; under state
	timer  *time.Timer // next own ping, nil without; under state

	pinging sync.WaitGroup // ping timers that run
	done    Latch          // open when the first Close has finished
}

// newConn takes over a handshaken connection.
func newConn(w *websocket.Conn, sock *socket, limits Limits) *Conn {
	c := &Conn{ws: w, sock: sock, limits: limits}
	sock.budget = -1
	// gorilla counts bytes on the wire, and a deflated message can be a little
	// longer than its content; Read counts what comes out.
	w.SetReadLimit(int64(limits.MaxMessage) + int64(limits.MaxMessage)/1024 + 64)
	w.SetPingHandler(c.pong)
	sock.mu.Lock()
	sock.idle = limits.PongTimeout
	sock.mu.Unlock()
	return c
}

// begin starts the clock of own pings: only Read hears their answers. A connection that
// a Stream takes over never needs it. The caller holds c.reading.
func (c *Conn) begin() {
	c.begun = true
	c.state.Lock()
	defer c.state.Unlock()
	if c.limits.PingInterval > 0 && !c.closed {
		c.timer = time.AfterFunc(c.limits.PingInterval, c.keepAlive)
	}
}

// release stops everything that uses the connection, for a Stream to take it
// over. It reports false if it is closed.
func (c *Conn) release() bool {
	c.state.Lock()
	closed := c.closed
	c.closed = true
	if c.timer != nil {
		c.timer.Stop()
	}
	c.state.Unlock()
	c.pinging.Wait()
	return !closed
}

// giveBack ends gorilla's part in a released connection: its reader is for others.
func (c *Conn) giveBack() {
	c.ws = nil
	if c.lent != nil {
		c.lent.Reset(nil)
		readers.Put(c.lent)
		c.lent = nil
	}
}

// Subprotocol negotiated, or "".
func (c *Conn) Subprotocol() string { return c.ws.Subprotocol() }

// NetConn is the connection below, for its addresses and TLS state. Reading or
// writing it would corrupt the WebSocket.
func (c *Conn) NetConn() net.Conn { return c.sock.Conn }

// Read returns the next text message, appended to buf[:0]. A violation is
// answered with its close code before the error returns. CloseStatus tells the
// peer's code from the error. Errors are permanent.
//
// The buffer grows with the bytes that have come, never with a length that was
// only announced.
func (c *Conn) Read(buf []byte) ([]byte, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	if c.readErr != nil {
		return buf[:0], c.readErr
	}
	if !c.begun {
		c.begin()
	}
	msg, err := c.next(buf[:0])
	if err != nil {
		c.peerDone = CloseStatus(err) >= 0
		c.readErr = c.judge(err)
		return buf[:0], c.readErr
	}
	return msg, nil
}

// next reads one message. The caller holds c.reading.
func (c *Conn) next(buf []byte) ([]byte, error) {
	kind, r, err := c.ws.NextReader()
	if err != nil {
		return nil, err
	}
	if kind != websocket.TextMessage {
		return nil, &ViolationError{CloseUnsupportedData, "binary message"}
	}
	for {
		if len(buf) == cap(buf) {
			buf = slices.Grow(buf, max(512, min(len(buf), 64<<10)))
		}
		// One byte more than allowed tells "full" from "too big".
		room := buf[len(buf):min(cap(buf), c.limits.MaxMessage+1)]
		n, err := r.Read(room)
		buf = buf[:len(buf)+n]
		if len(buf) > c.limits.MaxMessage {
			return nil, &ViolationError{CloseTooBig, "message too big"}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	if !utf8.Valid(buf) {
		return nil, &ViolationError{CloseInvalidPayload, "text is not valid UTF-8"}
	}
	return buf, nil
}

// judge names an error of next and answers a violation.
func (c *Conn) judge(err error) error {
	c.state.Lock()
	closed := c.closed
	c.state.Unlock()
	if closed {
		return ErrClosed
	}
	var violation *ViolationError
	var corrupt flate.CorruptInputError
	var closeErr *websocket.CloseError
	var netErr net.Error
	switch {
	case errors.As(err, &violation):
	case errors.Is(err, websocket.ErrReadLimit):
		violation = &ViolationError{CloseTooBig, "message too big"}
	case errors.As(err, &corrupt):
		violation = &ViolationError{CloseInvalidPayload, "compressed data is corrupt"}
	case errors.Is(err, io.ErrUnexpectedEOF): // crypto/tls, without a close_notify
		closeErr = &websocket.CloseError{Code: websocket.CloseAbnormalClosure, Text: "unexpected EOF"}
		return fmt.Errorf("the connection broke off: %w", closeErr)
	case errors.As(err, &closeErr):
		return fmt.Errorf("the peer closed the WebSocket: %w", err)
	case errors.As(err, &netErr) && netErr.Timeout():
		return fmt.Errorf("no byte from the peer for %s: %w", c.limits.PongTimeout, err)
	case strings.HasPrefix(err.Error(), "websocket: "):
		// gorilla has sent 1002 and has no type for these.
		return &ViolationError{CloseProtocolError, strings.TrimPrefix(err.Error(), "websocket: ")}
	default:
		return fmt.Errorf("couldn't read from the WebSocket: %w", err)
	}
	c.sendClose(violation.Code, violation.Reason, time.Now().Add(closeWait))
	return violation
}

// Write sends one text message within the write timeout, which runs from the
// moment the writers before it are done. After an error the connection is
// useless: nothing more will be sent.
func (c *Conn) Write(msg []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.ws.EnableWriteCompression(len(msg) >= compressFrom)
	if err := c.ws.SetWriteDeadline(time.Now().Add(c.limits.WriteTimeout)); err != nil {
		return fmt.Errorf("couldn't set the write deadline: %w", err)
	}
	return c.writeError(c.ws.WriteMessage(websocket.TextMessage, msg))
}

func (c *Conn) writeError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, websocket.ErrCloseSent):
		return ErrClosed
	}
	return fmt.Errorf("couldn't write to the WebSocket: %w", err)
}

// Ping sends a ping and waits for any frame of the peer that proves it alive.
// Another goroutine must be in Read, which takes the answer; while none is, the peer
// can't be found dead.
func (c *Conn) Ping(ctx context.Context) error {
	heard := c.sock.listen()
	defer c.sock.forget(heard)
	deadline := time.Now().Add(c.limits.WriteTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := c.writeError(c.ws.WriteControl(websocket.PingMessage, nil, deadline)); err != nil {
		return err
	}
	select {
	case <-heard:
		return nil
	case <-c.done.Opened():
		return ErrClosed
	case <-ctx.Done():
		if c.deaf() {
			return nil
		}
		return fmt.Errorf("no answer to a ping: %w", ctx.Err())
	}
}

// deaf reports whether nobody reads: who does is at something else.
func (c *Conn) deaf() bool {
	if !c.reading.TryLock() {
		return false
	}
	defer c.reading.Unlock()
	return c.readErr == nil
}

// pong answers a ping of the peer, from inside Read.
func (c *Conn) pong(data string) error {
	err := c.ws.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(c.limits.WriteTimeout))
	if errors.Is(err, websocket.ErrCloseSent) {
		return nil // Close is waiting for the peer's close frame
	}
	return err
}

// keepAlive sends an own ping and sets the timer for the next one. A peer that
// doesn't answer is found by the read deadline.
func (c *Conn) keepAlive() {
	c.state.Lock()
	if c.closed {
		c.state.Unlock()
		return
	}
	c.pinging.Add(1)
	c.state.Unlock()
	defer c.pinging.Done()

	// A broken connection shows in Read; there is nobody here to tell.
	if c.ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(c.limits.WriteTimeout)) != nil {
		return
	}
	c.state.Lock()
	defer c.state.Unlock()
	if !c.closed {
		c.timer.Reset(c.limits.PingInterval)
	}
}

// Close sends a close frame, waits shortly for the peer's and closes. Safe to
// call from any goroutine, more than once; the first call's code wins. It
// returns when the connection is closed, after little more than a second at
// the latest.
func (c *Conn) Close(code int, reason string) {
	c.state.Lock()
	first := !c.closed
	c.closed = true
	if first && c.timer != nil {
		c.timer.Stop()
	}
	c.state.Unlock()
	if !first {
		<-c.done.Opened()
		return
	}
	deadline := time.Now().Add(closeWait)
	cut := c.sock.end(deadline)
	defer cut.Stop()
	c.sendClose(code, reason, deadline)
	c.awaitClose()
	_ = c.sock.Conn.Close() // nothing is left to do if it fails
	c.pinging.Wait()
	c.done.Open()
}

// awaitClose reads until the peer's close frame, the end or the deadline. A
// connection closed with unread bytes would be reset, and the reset may
// overtake our close frame.
func (c *Conn) awaitClose() {
	c.reading.Lock()
	defer c.reading.Unlock()
	for c.readErr == nil {
		_, r, err := c.ws.NextReader()
		if err == nil {
			_, err = io.Copy(io.Discard, r)
		}
		if err != nil {
			c.readErr = ErrClosed
			c.peerDone = CloseStatus(err) >= 0
		}
	}
	if c.peerDone {
		return
	}
	c.sock.closeWrite()
	_, _ = io.CopyN(io.Discard, c.sock.Conn, lingerBytes) // until the deadline at the latest
}

// sendClose sends a close frame, once per connection. Its error doesn't matter:
// the connection is closed next.
func (c *Conn) sendClose(code int, reason string, deadline time.Time) {
	const maxReason = 123 // RFC 6455 §5.5: 125 bytes with the code
	reason = strings.ToValidUTF8(reason, "")
	for len(reason) > maxReason {
		_, size := utf8.DecodeLastRuneInString(reason)
		reason = reason[:len(reason)-size]
	}
	_ = c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, reason), deadline)
}
