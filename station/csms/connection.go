package csms

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"bollard/internal/ws"
	"bollard/ocpp"
)

// connection is one station's WebSocket. The goroutine in serve reads.
type connection struct {
	s        *Server
	identity string
	version  ocpp.Version
	conn     *ws.Conn
	ctx      context.Context
	done     chan struct{}
	turn     chan struct{} // holds a token while a CALL is outstanding
	write    sync.Mutex    // orders the wire and its record

	mu      sync.Mutex // guards waiting
	waiting map[string]chan []byte
}

// handlersAtOnce bounds the answers one station can make the server work on;
// the reader waits beyond it.
const handlersAtOnce = 16

// serve reads a station's frames until the connection ends. A second
// connection of an identity takes the place of the first.
func (s *Server) serve(conn *ws.Conn, hello Hello, version ocpp.Version) {
	if version == 0 {
		version = s.cfg.Versions[0] // the station offered nothing
	}
	ctx, cancel := context.WithCancel(s.ctx)
	c := &connection{
		s: s, identity: hello.Identity, version: version, conn: conn, ctx: ctx,
		done: make(chan struct{}), turn: make(chan struct{}, 1), waiting: map[string]chan []byte{},
	}
	var old *connection
	s.swap(hello.Identity, func(now *connection) *connection {
		old = now
		return c
	})
	if old != nil {
		old.conn.Close(ws.CloseNormal, "replaced")
	}
	s.book.event(Event{Kind: Opened, Identity: hello.Identity, Hello: hello})
	var answers sync.WaitGroup
	defer func() {
		cancel()
		conn.Close(ws.CloseNormal, "")
		answers.Wait()
		s.book.event(Event{Kind: Closed, Identity: hello.Identity, Hello: hello})
		s.swap(hello.Identity, func(now *connection) *connection {
			if now == c {
				return nil
			}
			return now
		})
		close(c.done)
	}()
	defer context.AfterFunc(s.ctx, func() { conn.Close(ws.CloseGoingAway, "") })()

	room := make(chan struct{}, handlersAtOnce)
	for {
		frame, err := conn.Read(nil)
		if err != nil {
			return
		}
		s.book.frame(c.identity, ocpp.FromStation, frame)
		head, err := ocpp.ParseHead(frame)
		if err != nil {
			var bad *ocpp.FrameError
			if errors.As(err, &bad) && bad.RawID != nil && bad.Type == int(ocpp.Call) {
				_ = c.send(ocpp.AppendError(nil, bad.RawID, version, bad.Code, bad.Reason)) // the reader notices a dead peer
			}
			continue
		}
		switch head.Type {
		case ocpp.CallResult, ocpp.CallError:
			c.answered(string(head.ID), frame)
		case ocpp.Call:
			room <- struct{}{}
			answers.Go(func() {
				defer func() { <-room }()
				c.handle(head)
			})
		case ocpp.CallResultError, ocpp.Send: // recorded above; neither is answered
		}
	}
}

func (s *Server) swap(identity string, change func(*connection) *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := change(s.live[identity]); c != nil {
		s.live[identity] = c
	} else {
		delete(s.live, identity)
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

// send writes one frame; the record has the order of the wire.
func (c *connection) send(frame []byte) error {
	c.write.Lock()
	defer c.write.Unlock()
	c.s.book.frame(c.identity, ocpp.FromCSMS, frame)
	if err := c.conn.Write(frame); err != nil {
		return fmt.Errorf("couldn't write to station %s: %w", c.identity, err)
	}
	return nil
}

func (c *connection) handle(head ocpp.Head) {
	r := Request{Identity: c.identity, Version: c.version, Action: head.Action, Payload: head.Payload, ID: head.RawID}
	c.s.mu.Lock()
	h := c.s.handlers[head.Action]
	c.s.mu.Unlock()
	if h == nil {
		h = c.s.builtIn
	}
	payload, err := h(c.ctx, r)
	var frame []byte
	var wanted *ocpp.CallFailure
	switch raw := payload.(type) {
	case silence:
		return
	case Raw:
		frame = raw
	default:
		if err == nil {
			frame, err = ocpp.AppendResult(nil, head.RawID, payload)
		}
	}
	if errors.As(err, &wanted) {
		frame = ocpp.AppendError(nil, head.RawID, c.version, wanted.Code, wanted.Description)
	} else if err != nil {
		frame = ocpp.AppendError(nil, head.RawID, c.version, ocpp.InternalError, "")
	}
	_ = c.send(frame) // the reader notices a dead peer
}

func (c *connection) answered(id string, frame []byte) {
	c.mu.Lock()
	answer := c.waiting[id]
	delete(c.waiting, id)
	c.mu.Unlock()
	if answer != nil {
		answer <- frame
	}
}

func (c *connection) call(ctx context.Context, action string, payload any) (json.RawMessage, error) {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-c.done:
		return nil, ErrUnknownStation
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	id := rand.Text()
	frame, err := ocpp.AppendCall(nil, id, action, payload)
	if err != nil {
		return nil, fmt.Errorf("couldn't write %s: %w", action, err)
	}
	answer := make(chan []byte, 1)
	c.mu.Lock()
	c.waiting[id] = answer
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.waiting, id)
		c.mu.Unlock()
	}()
	if err := c.send(frame); err != nil {
		return nil, err
	}
	timeout := time.NewTimer(c.s.cfg.CallTimeout)
	defer timeout.Stop()
	select {
	case got := <-answer:
		return unpack(got)
	case <-c.done:
		select { // the answer may have been the last thing read
		case got := <-answer:
			return unpack(got)
		default:
		}
		return nil, ErrUnknownStation
	case <-timeout.C:
		return nil, fmt.Errorf("station %s did not answer %s within %s", c.identity, action, c.s.cfg.CallTimeout)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func unpack(frame []byte) (json.RawMessage, error) {
	head, err := ocpp.ParseHead(frame)
	if err != nil {
		return nil, fmt.Errorf("couldn't read an answer: %w", err)
	}
	if head.Type == ocpp.CallError {
		failure, err := ocpp.ParseCallFailure(frame)
		if err != nil {
			return nil, fmt.Errorf("couldn't read a CALLERROR: %w", err)
		}
		return nil, failure
	}
	return head.Payload, nil
}
