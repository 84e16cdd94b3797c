package station

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"bollard/internal/ws"
	"bollard/ocpp"
)

// ErrDisconnected is returned for CALLs that lost their connection or never had one.
var ErrDisconnected = errors.New("the station is not connected")

// link is one live connection. Its reader goroutine owns the reading side.
type link struct {
	s         *Station
	number    int
	conn      *ws.Conn
	version   ocpp.Version
	tls       *tls.ConnectionState // nil on profile 1
	presented *x509.Certificate    // own certificate shown in the handshake

	ctx    context.Context // ends with the connection
	cancel context.CancelFunc
	done   chan struct{} // closed when the reader has ended
	turn   chan struct{} // holds a token while a CALL is outstanding (part 4 §4.1.1)

	write sync.Mutex // orders the wire and its record

	mu      sync.Mutex // guards waiting
	waiting map[string]chan []byte
}

func newLink(s *Station, number int) *link {
	l := &link{
		s: s, number: number,
		done: make(chan struct{}), turn: make(chan struct{}, 1),
		waiting: map[string]chan []byte{},
	}
	l.ctx, l.cancel = context.WithCancel(s.ctx)
	return l
}

// opened makes a link the live one and starts its reader.
func (s *Station) opened(l *link, e endpoint) {
	s.update(func() {
		s.state.Version = l.version
		if s.arrived(e) && s.isV2() && s.boot == "" {
			s.boot = "Unknown" // B10.FR.10: the CSMS behind a new profile has not seen a boot
		}
		s.reboot = false
		s.link = l
		s.state.Connected = true
		s.state.Connections++
		s.state.LastError = ""
		s.state.TLSVersion, s.state.CipherSuite, s.state.Presented = 0, 0, ""
		if l.tls != nil {
			s.state.TLSVersion, s.state.CipherSuite = l.tls.Version, l.tls.CipherSuite
		}
		if l.presented != nil {
			s.state.Presented = serialHex(l.presented)
		}
		s.state.Certificate = s.keys.newest()
		s.wg.Add(1)
	})
	go func() {
		defer s.wg.Done()
		l.read()
	}()
	s.flushEvents(l)
}

// live returns the live link, or nil.
func (s *Station) live() *link {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.link
}

// drop closes the live connection because the station wants to.
func (s *Station) drop(why string) {
	s.mu.Lock()
	l := s.link
	if l != nil {
		s.why = why
	}
	s.mu.Unlock()
	if l != nil {
		l.conn.Close(ws.CloseNormal, "")
		<-l.done
	}
}

// read handles frames until the connection ends.
func (l *link) read() {
	s := l.s
	defer func() {
		l.cancel()
		l.conn.Close(ws.CloseNormal, "")
		s.update(func() {
			if s.link == l {
				s.link = nil
				s.state.Connected = false
			}
		})
		close(l.done)
	}()
	for {
		// A fresh buffer each time: handlers and answers keep parts of it.
		frame, err := l.conn.Read(nil)
		if err != nil {
			s.cfg.Log.Debug("connection ended", "station", s.cfg.Identity, "err", err)
			return
		}
		s.rec.add(l.number, ocpp.FromCSMS, frame)
		l.handle(frame)
	}
}

// send writes one frame; the record has the order of the wire.
func (l *link) send(frame []byte) error {
	l.write.Lock()
	defer l.write.Unlock()
	l.s.rec.add(l.number, ocpp.FromStation, frame)
	if err := l.conn.Write(frame); err != nil {
		return fmt.Errorf("%w: %w", ErrDisconnected, err)
	}
	return nil
}

// Send writes a raw frame as it is, valid or not.
func (s *Station) Send(frame []byte) error {
	l := s.live()
	if l == nil {
		return ErrDisconnected
	}
	return l.send(frame)
}

// Call sends a CALL and waits for its answer: the payload of the CALLRESULT,
// or an *ocpp.CallFailure for a CALLERROR. One CALL is outstanding at a time;
// others wait their turn.
func (s *Station) Call(ctx context.Context, action string, payload any) (json.RawMessage, error) {
	return s.call(ctx, s.messageID(), action, payload)
}

func (s *Station) call(ctx context.Context, id, action string, payload any) (json.RawMessage, error) {
	l := s.live()
	if l == nil {
		return nil, ErrDisconnected
	}
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-l.ctx.Done():
		return nil, ErrDisconnected
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}

	var frame []byte
	var err error
	if s.deviations().NumberIDs {
		frame, err = numberCall(id, action, payload)
	} else {
		frame, err = ocpp.AppendCall(nil, id, action, payload)
	}
	if err != nil {
		return nil, fmt.Errorf("couldn't write %s: %w", action, err)
	}
	answer := make(chan []byte, 1)
	l.mu.Lock()
	l.waiting[id] = answer
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		delete(l.waiting, id)
		l.mu.Unlock()
	}()
	if err := l.send(frame); err != nil {
		return nil, err
	}

	timeout := time.NewTimer(s.cfg.CallTimeout)
	defer timeout.Stop()
	select {
	case frame := <-answer:
		return readAnswer(frame)
	case <-l.ctx.Done():
		select { // the answer may have been the last thing read
		case frame := <-answer:
			return readAnswer(frame)
		default:
			return nil, ErrDisconnected
		}
	case <-timeout.C:
		return nil, fmt.Errorf("no answer to %s within %s", action, s.cfg.CallTimeout)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func readAnswer(frame []byte) (json.RawMessage, error) {
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
	return json.RawMessage(head.Payload), nil
}

// answered hands an answer to the CALL that waits for it.
func (l *link) answered(id string, frame []byte) {
	l.mu.Lock()
	answer := l.waiting[id]
	delete(l.waiting, id)
	l.mu.Unlock()
	if answer == nil {
		l.s.update(func() { l.s.state.LateAnswers++ })
		return
	}
	answer <- frame
}

// messageID returns an id never used before: 36 characters at most (part 4
// §4.1.4), unique over all connections of the station.
func (s *Station) messageID() string {
	if s.deviations().NumberIDs {
		return strconv.Itoa(s.number())
	}
	return newUUID()
}

// number counts requestIds and number ids.
func (s *Station) number() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nextID++
	return s.nextID
}

// newUUID returns a random UUID (RFC 9562 §5.4).
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// numberCall writes a CALL whose id is a JSON number.
func numberCall(id, action string, payload any) ([]byte, error) {
	return json.Marshal([]any{ocpp.Call, json.Number(id), action, payload})
}
