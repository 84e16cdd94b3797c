// Package ws is the WebSocket layer: upgrade, dial, read and write of whole
// text messages within limits. It alone imports gorilla/websocket.
//
// It promises RFC 6455's rules (valid UTF-8 or close 1007, binary refused with
// 1003, oversize with 1009), limits that count inflated bytes, and that no
// write outlasts its deadline.
package ws

import (
	"errors"
	"fmt"
	"time"

	"github.com/gorilla/websocket"
)

// Close codes of RFC 6455 §7.4.1 that Bollard sends.
const (
	CloseNormal          = 1000
	CloseGoingAway       = 1001
	CloseProtocolError   = 1002
	CloseUnsupportedData = 1003
	CloseInvalidPayload  = 1007
	ClosePolicyViolation = 1008
	CloseTooBig          = 1009
	CloseInternalError   = 1011
)

// Limits bound one connection.
type Limits struct {
	MaxMessage   int           // bytes of one message after inflation; 0: 1 MiB
	WriteTimeout time.Duration // 0: 10 s
	PingInterval time.Duration // own pings; 0: none
	PongTimeout  time.Duration // peer is gone after this without any byte; 0: 2 × PingInterval
	Compression  bool          // offer or accept permessage-deflate, no context takeover
}

// withDefaults fills the zero values.
func (l Limits) withDefaults() Limits {
	if l.MaxMessage <= 0 {
		l.MaxMessage = 1 << 20
	}
	if l.WriteTimeout <= 0 {
		l.WriteTimeout = 10 * time.Second
	}
	if l.PongTimeout <= 0 {
		l.PongTimeout = 2 * l.PingInterval
	}
	return l
}

// ErrClosed is what Read, Write and Ping return after Close of this side.
var ErrClosed = errors.New("the WebSocket was closed by this side")

// ViolationError is a rule the peer broke. It was told so with a close frame.
type ViolationError struct {
	Code   int // close code sent
	Reason string
}

func (e *ViolationError) Error() string {
	return fmt.Sprintf("the peer broke the WebSocket rules: %s (close %d)", e.Reason, e.Code)
}

// CloseStatus returns the close code of the peer that an error of Read carries:
// 1005 if its close frame had none, 1006 if the connection broke without one,
// -1 if the error is another one.
func CloseStatus(err error) int {
	var closed *websocket.CloseError
	if errors.As(err, &closed) {
		return closed.Code
	}
	return -1
}
