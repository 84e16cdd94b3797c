// Package ws is the WebSocket layer: upgrade, dial, read and write of whole
// text messages within limits. It alone imports gorilla/websocket.
//
// It promises RFC 6455's rules (valid UTF-8 or close 1007, binary refused with
// 1003, oversize with 1009), limits that count inflated bytes, and that no
// write outlasts its deadline.
package ws

import (
	"context"
	"crypto/tls"
	"net/http"
	"time"
)

// Close codes of RFC 6455 §7.4.1 that Bollard sends.
const (
	CloseNormal          = 1000
	CloseGoingAway       = 1001
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

// Conn is one WebSocket. One goroutine reads; any number may write.
type Conn struct{}

// Upgrade answers 101 with the given subprotocol ("": none).
func Upgrade(w http.ResponseWriter, r *http.Request, subprotocol string, limits Limits) (*Conn, error) {
	panic("internal error: contract only")
}

// DialConfig of a back-end or station connection.
type DialConfig struct {
	URL          string // with the escaped identity as its last segment
	Subprotocols []string
	Header       http.Header
	TLS          *tls.Config
	Timeout      time.Duration // whole handshake; 0: 10 s
	Limits       Limits
}

// DialError is a handshake the server answered with something else than 101.
type DialError struct {
	Status int // HTTP status, 0 without an answer
	Err    error
}

func (e *DialError) Error() string { panic("internal error: contract only") }
func (e *DialError) Unwrap() error { return e.Err }

// Dial opens a client connection. The error is a *DialError.
func Dial(ctx context.Context, cfg DialConfig) (*Conn, error) { panic("internal error: contract only") }

// Subprotocol negotiated, or "".
func (c *Conn) Subprotocol() string { panic("internal error: contract only") }

// Read returns the next text message, appended to buf[:0]. A violation is
// answered with its close code before the error returns. CloseStatus tells the
// peer's code from the error.
func (c *Conn) Read(buf []byte) ([]byte, error) { panic("internal error: contract only") }

// Write sends one text message within the write timeout.
func (c *Conn) Write(msg []byte) error { panic("internal error: contract only") }

// Ping sends a ping and waits for any frame of the peer that proves it alive.
func (c *Conn) Ping(ctx context.Context) error { panic("internal error: contract only") }

// Close sends a close frame, waits shortly for the peer's and closes. Safe to
// call from any goroutine, more than once; the first call's code wins.
func (c *Conn) Close(code int, reason string) { panic("internal error: contract only") }

// CloseStatus returns the close code an error of Read carries, or -1.
func CloseStatus(err error) int { panic("internal error: contract only") }
