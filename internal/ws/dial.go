package ws

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/gorilla/websocket"
)

// DialConfig of a back-end or station connection.
type DialConfig struct {
	// URL is ws:// or wss:// with the escaped identity as its last segment. Its
	// path goes out as it is spelled, except that a raw "|" becomes %7C.
	URL          string
	Subprotocols []string
	Header       http.Header
	TLS          *tls.Config   // wss; nil: system roots
	Timeout      time.Duration // whole handshake; 0: 10 s
	Limits       Limits
}

// DialError is a handshake the server answered with something else than 101,
// or that got no answer.
type DialError struct {
	Status int // HTTP status, 0 without an answer
	Err    error
}

func (e *DialError) Error() string {
	if e.Status != 0 {
		return fmt.Sprintf("couldn't open the WebSocket: the server answered %d: %v", e.Status, e.Err)
	}
	return fmt.Sprintf("couldn't open the WebSocket: %v", e.Err)
}

func (e *DialError) Unwrap() error { return e.Err }

// Dial opens a client connection. It follows no redirect and uses no proxy. A
// server that chooses a subprotocol or extension it wasn't offered is refused (RFC
// 6455 §4.1); one that chooses none is not. The error is a *DialError.
func Dial(ctx context.Context, cfg DialConfig) (*Conn, error) {
	limits := cfg.Limits.withDefaults()
	if cfg.Timeout <= 0 {
		cfg.Timeout = 10 * time.Second
	}
	deadline := time.Now().Add(cfg.Timeout)
	if sooner, ok := ctx.Deadline(); ok && sooner.Before(deadline) {
		deadline = sooner
	}
	bounded := until{ctx, deadline}

	var sock *socket
	// gorilla looks at ctx only while it dials; afterwards the connection
	// itself must be told.
	stop := func() bool { return true }
	var dialer net.Dialer
	if limits.PingInterval > 0 {
		dialer.KeepAlive = -1 // pings find a dead peer; TCP's own would cost four system calls
	}
	dial := func(network, addr string) (net.Conn, error) {
		conn, err := connect(bounded, &dialer, network, addr)
		if err != nil {
			return nil, err
		}
		stop = context.AfterFunc(ctx, func() { _ = conn.Close() })
		if err := conn.SetDeadline(deadline); err != nil {
			_ = conn.Close()
			return nil, err
		}
		return NewLine(conn), nil
	}
	d := websocket.Dialer{
		Subprotocols:      cfg.Subprotocols,
		ReadBufferSize:    readBuffer,
		WriteBufferSize:   clientWriteBuffer,
		WriteBufferPool:   &clientBuffers,
		EnableCompression: limits.Compression,
		NetDialContext: func(_ context.Context, network, addr string) (net.Conn, error) {
			conn, err := dial(network, addr)
			if err != nil {
				return nil, err
			}
			sock = newSocket(conn)
			sock.awaits()
			return sock, nil
		},
		NetDialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dial(network, addr)
			if err != nil {
				return nil, err
			}
			secure := tls.Client(conn, tlsConfig(cfg.TLS, addr))
			if err := secure.HandshakeContext(ctx); err != nil {
				_ = conn.Close()
				return nil, fmt.Errorf("TLS handshake: %w", err)
			}
			sock = newSocket(secure)
			sock.awaits()
			return sock, nil
		},
	}
	conn, resp, err := d.DialContext(bounded, cfg.URL, cfg.Header) //nolint:bodyclose // gorilla has read the body and closed the connection
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err == nil {
		if p := conn.Subprotocol(); p != "" && !slices.Contains(cfg.Subprotocols, p) {
			err = errors.New("it chose a subprotocol that was not offered")
		} else if !chosenOnly(resp.Header, limits.Compression) {
			err = errUnasked
		}
	}
	if err != nil {
		e := &DialError{Err: err}
		if resp != nil {
			e.Status = resp.StatusCode
		}
		if cause := ctx.Err(); cause != nil {
			e.Err = cause
		} else if errors.Is(err, os.ErrDeadlineExceeded) || !time.Now().Before(deadline) {
			e.Err = context.DeadlineExceeded
		}
		if conn != nil {
			_ = conn.Close()
		}
		return nil, e
	}
	c := newConn(conn, sock, limits)
	c.client = true
	c.compressed = resp.Header.Get("Sec-Websocket-Extensions") != ""
	return c, nil
}

// until has a deadline for those who ask, and no timer that ends it: a socket has its own.
type until struct {
	context.Context
	deadline time.Time
}

func (u until) Deadline() (time.Time, bool) { return u.deadline, true }

// connect has a timer for a name alone: who resolves it may heed nothing but the context's end.
func connect(ctx until, dialer *net.Dialer, network, addr string) (net.Conn, error) {
	if _, err := netip.ParseAddrPort(addr); err == nil {
		return dialer.DialContext(ctx, network, addr)
	}
	timed, cancel := context.WithDeadline(ctx.Context, ctx.deadline)
	defer cancel()
	return dialer.DialContext(timed, network, addr)
}

// tlsConfig names the server unless the caller has.
func tlsConfig(cfg *tls.Config, addr string) *tls.Config {
	if cfg == nil {
		cfg = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	cfg = cfg.Clone()
	if cfg.ServerName == "" {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			host = addr
		}
		cfg.ServerName = host
	}
	cfg.DynamicRecordSizingDisabled = true // one record a message
	return cfg
}
