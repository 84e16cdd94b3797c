// Package csms is a small CSMS on real sockets, for the demo, tests and
// benchmarks: it answers the messages of a charging session in OCPP 1.6, 2.0.1
// and 2.1, knows nothing of certificates, and keeps the exact bytes of every
// frame. What it answers can be scripted, lies included.
package csms

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"bollard/internal/ws"
	"bollard/ocpp"
)

// Hello is what a station shows before it is let in.
type Hello struct {
	Identity string // last segment of the URL, unescaped
	Path     string // as it came
	Basic    bool
	User     string
	Password []byte
	TLS      bool
	Peer     *x509.Certificate // client certificate, verified if TLS asks for that; nil without
	Offered  []string
}

// Request is one CALL or SEND of a station.
type Request struct {
	Identity string
	Version  ocpp.Version
	Action   string
	Payload  json.RawMessage
	// ID is the message id as it was spelled, for scripted frames.
	ID []byte
}

// Handler answers a CALL: a payload for the CALLRESULT, a *ocpp.CallFailure as
// error for a CALLERROR, Raw for any other frame, or Silence.
type Handler func(ctx context.Context, r Request) (payload any, err error)

// Raw is an answer sent as it is, whatever it says.
type Raw []byte

// Silence is the answer that is never given.
var Silence = silence{}

type silence struct{}

// Config of a Server.
type Config struct {
	// Address to listen on; "": 127.0.0.1 and any free port.
	Address string
	// TLS of a wss endpoint; nil: ws. Its ClientAuth decides about mutual TLS.
	TLS      *tls.Config
	Versions []ocpp.Version // supported; nil: all. The station's order decides.
	// Admit returns the HTTP status for a station that is not let in, or 0; nil: all are.
	Admit       func(Hello) int
	Interval    int  // heartbeat interval told at boot; 0: 300 s
	Compression bool // accept permessage-deflate
	// NoRecord switches Frames and Events off, for benchmarks.
	NoRecord bool
	// CallTimeout of the server's own CALLs; 0: 30 s.
	CallTimeout time.Duration
	Clock       func() time.Time
	Log         *slog.Logger
}

// Server is a running CSMS. Its methods are safe for concurrent use.
type Server struct {
	cfg    Config
	listen net.Listener
	http   *http.Server
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	book   book

	mu           sync.Mutex // guards what follows
	live         map[string]*connection
	handlers     map[string]Handler
	transactions int
	changed      chan struct{}
}

// New listens and serves until Close or the end of ctx.
func New(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Address == "" {
		cfg.Address = "127.0.0.1:0"
	}
	if cfg.Versions == nil {
		cfg.Versions = []ocpp.Version{ocpp.V16, ocpp.V201, ocpp.V21}
	}
	if cfg.Interval == 0 {
		cfg.Interval = 300
	}
	if cfg.CallTimeout == 0 {
		cfg.CallTimeout = 30 * time.Second
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	listen, err := new(net.ListenConfig).Listen(ctx, "tcp", cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("couldn't open the CSMS: %w", err)
	}
	s := &Server{
		cfg: cfg, listen: listen,
		book:     book{off: cfg.NoRecord, clock: cfg.Clock},
		live:     map[string]*connection{},
		handlers: map[string]Handler{},
		changed:  make(chan struct{}),
	}
	s.ctx, s.cancel = context.WithCancel(ctx)
	s.http = &http.Server{
		Handler:           http.HandlerFunc(s.accept),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
	}
	on := listen
	if cfg.TLS != nil {
		secure := cfg.TLS.Clone()
		secure.NextProtos = []string{"http/1.1"}
		on = tls.NewListener(listen, secure)
	}
	s.wg.Go(func() { _ = s.http.Serve(on) })                // ends with Close
	context.AfterFunc(s.ctx, func() { _ = s.http.Close() }) //nolint:contextcheck // s.ctx is ctx's child
	return s, nil
}

// URL is the endpoint without the identity. Its host is 127.0.0.1.
func (s *Server) URL() string {
	scheme := "ws"
	if s.cfg.TLS != nil {
		scheme = "wss"
	}
	return scheme + "://" + s.listen.Addr().String() + "/ocpp"
}

// Close ends every connection and waits.
func (s *Server) Close() {
	s.mu.Lock() // no new connection after this
	s.cancel()
	s.mu.Unlock()
	_ = s.http.Close()
	for _, c := range s.connections() {
		c.conn.Close(ws.CloseGoingAway, "")
	}
	s.wg.Wait()
}

func (s *Server) connections() []*connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*connection
	for _, c := range s.live {
		out = append(out, c)
	}
	return out
}

// Handle scripts the answer to an action; nil restores the built-in one.
func (s *Server) Handle(action string, h Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h == nil {
		delete(s.handlers, action)
		return
	}
	s.handlers[action] = h
}

// Connected says whether a station has a live connection.
func (s *Server) Connected(identity string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.live[identity] != nil
}

// AwaitStation returns once the station is connected (or, with false, is not).
func (s *Server) AwaitStation(ctx context.Context, identity string, connected bool) error {
	for {
		s.mu.Lock()
		now, changed := s.live[identity] != nil, s.changed
		s.mu.Unlock()
		if now == connected {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("waiting for station %s: %w", identity, context.Cause(ctx))
		}
	}
}

// Drop closes a station's connection with a close code; code 0 cuts the
// WebSocket with "going away".
func (s *Server) Drop(identity string, code int) {
	s.mu.Lock()
	c := s.live[identity]
	s.mu.Unlock()
	if c == nil {
		return
	}
	if code == 0 {
		code = ws.CloseGoingAway
	}
	c.conn.Close(code, "")
	<-c.done
}

// ErrUnknownStation is returned for stations that are not connected.
var ErrUnknownStation = errors.New("the station is not connected to the CSMS")

// Call sends a CALL to a station and returns the CALLRESULT's payload; a
// CALLERROR comes back as *ocpp.CallFailure.
func (s *Server) Call(ctx context.Context, identity, action string, payload any) (json.RawMessage, error) {
	s.mu.Lock()
	c := s.live[identity]
	s.mu.Unlock()
	if c == nil {
		return nil, ErrUnknownStation
	}
	return c.call(ctx, action, payload)
}

// Send writes a raw frame to a station, valid or not.
func (s *Server) Send(identity string, frame []byte) error {
	s.mu.Lock()
	c := s.live[identity]
	s.mu.Unlock()
	if c == nil {
		return ErrUnknownStation
	}
	return c.send(frame)
}

func (s *Server) accept(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	if s.ctx.Err() != nil {
		s.mu.Unlock()
		return
	}
	s.wg.Add(1)
	s.mu.Unlock()
	defer s.wg.Done()
	hello, err := greet(r)
	if err != nil {
		http.Error(w, "bad path", http.StatusBadRequest)
		return
	}
	if s.cfg.Admit != nil {
		if code := s.cfg.Admit(hello); code != 0 {
			s.book.event(Event{Kind: Refused, Identity: hello.Identity, Hello: hello, Status: code})
			http.Error(w, http.StatusText(code), code)
			return
		}
	}
	version := s.choose(hello.Offered)
	conn, err := ws.Upgrade(w, r, version.Subprotocol(), ws.Limits{MaxMessage: 4 << 20, Compression: s.cfg.Compression})
	if err != nil {
		return // Upgrade has answered
	}
	if version == 0 && len(hello.Offered) > 0 {
		conn.Close(ws.CloseProtocolError, "no common OCPP version")
		return
	}
	s.serve(conn, hello, version)
}

// choose picks the first version in the station's order of preference.
func (s *Server) choose(offered []string) ocpp.Version {
	for _, name := range offered {
		v, ok := ocpp.ParseSubprotocol(name)
		if !ok {
			continue
		}
		for _, own := range s.cfg.Versions {
			if v == own {
				return v
			}
		}
	}
	return 0
}

func greet(r *http.Request) (Hello, error) {
	path := r.URL.EscapedPath()
	identity, err := url.PathUnescape(path[strings.LastIndexByte(path, '/')+1:])
	if err != nil || identity == "" {
		return Hello{}, errors.New("no identity in the path")
	}
	h := Hello{Identity: identity, Path: path, TLS: r.TLS != nil}
	var password string
	h.User, password, h.Basic = r.BasicAuth()
	h.Password = []byte(password)
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		h.Peer = r.TLS.PeerCertificates[0]
	}
	for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
		for name := range strings.SplitSeq(line, ",") {
			h.Offered = append(h.Offered, strings.TrimSpace(name))
		}
	}
	return h, nil
}
