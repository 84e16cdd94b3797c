package e2e_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bollard/e2e/rawws"
)

// rawStation is a station that writes its frames by hand.
type rawStation struct {
	t      *testing.T
	conn   *rawws.Conn
	frames chan string // every message received
	ended  chan struct{}

	mu  sync.Mutex
	err error // why reading ended
}

// rawOptions of a connection.
type rawOptions struct {
	password string // "": the enlisted one's
	cert     string // PEM files; "": the enlisted one's
	key      string
	noAuth   bool // neither password nor certificate
	compress bool
	versions []string // subprotocols; nil: ocpp2.0.1
	tickets  tls.ClientSessionCache
}

// dialRaw connects as the given identity. The error is rawws's or TLS's.
func dialRaw(t *testing.T, srv *server, e enlisted, o rawOptions) (*rawStation, error) {
	t.Helper()
	roots := x509.NewCertPool()
	root, err := os.ReadFile(srv.root)
	if err != nil {
		t.Fatal(err)
	}
	roots.AppendCertsFromPEM(root)
	conf := &tls.Config{RootCAs: roots, ServerName: "localhost", ClientSessionCache: o.tickets}
	if o.versions == nil {
		o.versions = []string{"ocpp2.0.1"}
	}
	req := rawws.Request{Host: "localhost", Target: "/ocpp/" + e.identity, Subprotocols: o.versions, Compress: o.compress}
	if o.cert == "" && o.password == "" && !o.noAuth {
		o.cert, o.key, o.password = e.cert, e.key, e.password
	}
	if o.cert != "" {
		pair, err := tls.LoadX509KeyPair(o.cert, o.key)
		if err != nil {
			t.Fatal(err)
		}
		conf.Certificates = []tls.Certificate{pair}
	} else if o.password != "" {
		req.User, req.Password = e.identity, []byte(o.password)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := (&tls.Dialer{Config: conf}).DialContext(ctx, "tcp", srv.ocpp)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	ws, err := rawws.Client(conn, req)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	_ = conn.SetDeadline(time.Time{})
	s := &rawStation{t: t, conn: ws, frames: make(chan string, 1024), ended: make(chan struct{})}
	go s.read()
	t.Cleanup(func() {
		_ = conn.Close()
		<-s.ended
	})
	return s, nil
}

func mustDial(t *testing.T, srv *server, e enlisted, o rawOptions) *rawStation {
	t.Helper()
	s, err := dialRaw(t, srv, e, o)
	if err != nil {
		t.Fatalf("station %s couldn't connect: %v", e.identity, err)
	}
	return s
}

func (s *rawStation) read() {
	defer close(s.ended)
	for {
		msg, err := s.conn.ReadMessage()
		s.mu.Lock()
		s.err = err
		s.mu.Unlock()
		if err != nil {
			_ = s.conn.Net.Close()
			return
		}
		select {
		case s.frames <- string(msg):
		default:
			return // nobody takes them: the test has a fault of its own
		}
	}
}

// next returns the next message.
func (s *rawStation) next() string {
	s.t.Helper()
	select {
	case f := <-s.frames:
		return f
	case <-s.ended:
		select {
		case f := <-s.frames:
			return f
		default:
		}
		s.t.Fatalf("the connection ended: %v", s.reason())
	case <-time.After(patience):
		s.t.Fatal("no message came")
	}
	return ""
}

func (s *rawStation) reason() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// closed waits for the connection's end and returns the close code, or 0.
func (s *rawStation) closed() int {
	s.t.Helper()
	select {
	case <-s.ended:
	case <-time.After(patience):
		s.t.Fatal("the connection still lives")
	}
	var c *rawws.CloseError
	if errors.As(s.reason(), &c) {
		return c.Code
	}
	return 0
}

func (s *rawStation) alive() bool {
	select {
	case <-s.ended:
		return false
	default:
		return true
	}
}

// send writes one text message.
func (s *rawStation) send(msg string) {
	s.t.Helper()
	err := s.conn.WriteText([]byte(msg))
	if err != nil {
		s.t.Fatalf("couldn't send: %v", err)
	}
}

// heartbeat makes one round trip to the back end.
func (s *rawStation) heartbeat(id string) {
	s.t.Helper()
	s.send(`[2,"` + id + `","Heartbeat",{}]`)
	if got := s.next(); !strings.HasPrefix(got, `[3,"`+id+`",`) {
		s.t.Fatalf("Heartbeat %s was answered with %s", id, got)
	}
}

// message is a decoded OCPP-J frame.
type message struct {
	kind    int
	id      string
	action  string
	payload json.RawMessage
}

func decode(t *testing.T, frame string) message {
	t.Helper()
	var parts []json.RawMessage
	err := json.Unmarshal([]byte(frame), &parts)
	if err != nil || len(parts) < 3 {
		t.Fatalf("unreadable frame %.200q: %v", frame, err)
	}
	var m message
	err = errors.Join(json.Unmarshal(parts[0], &m.kind), json.Unmarshal(parts[1], &m.id))
	if m.kind == 2 {
		err = errors.Join(err, json.Unmarshal(parts[2], &m.action))
	}
	if err != nil {
		t.Fatalf("unreadable frame %.200q: %v", frame, err)
	}
	m.payload = parts[len(parts)-1]
	return m
}

// rawBackend is a CSMS that keeps what it gets, byte for byte.
type rawBackend struct {
	t  *testing.T
	ln net.Listener

	mu          sync.Mutex
	connections []*backendConn
	accepted    int            // TCP connections, whatever came of them
	most        map[string]int // connections of one identity that were open at once
}

// backendConn is one station's connection at the back end.
type backendConn struct {
	identity string
	conn     *rawws.Conn
	mu       sync.Mutex
	frames   []string
	ended    bool
}

// startBackend listens on loopback and answers every CALL.
func startBackend(t *testing.T, subprotocols ...string) *rawBackend {
	t.Helper()
	if subprotocols == nil {
		subprotocols = []string{"ocpp2.0.1", "ocpp1.6", "ocpp2.1"}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &rawBackend{t: t, ln: ln, most: map[string]int{}}
	var workers sync.WaitGroup
	workers.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			b.mu.Lock()
			b.accepted++
			b.mu.Unlock()
			workers.Go(func() {
				defer conn.Close()
				b.serve(conn, subprotocols)
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		b.mu.Lock()
		for _, c := range b.connections {
			_ = c.conn.Net.Close()
		}
		b.mu.Unlock()
		workers.Wait()
	})
	return b
}

func (b *rawBackend) url() string { return "ws://" + b.ln.Addr().String() + "/ocpp" }

func (b *rawBackend) conf() map[string]any { return map[string]any{"url": b.url()} }

func (b *rawBackend) serve(conn net.Conn, subprotocols []string) {
	ws, req, err := rawws.Server(conn, func(r *http.Request) (string, int) {
		for _, want := range strings.Split(r.Header.Get("Sec-WebSocket-Protocol"), ",") {
			if slices.Contains(subprotocols, strings.TrimSpace(want)) {
				return strings.TrimSpace(want), http.StatusSwitchingProtocols
			}
		}
		return "", http.StatusSwitchingProtocols
	})
	if err != nil {
		return
	}
	c := &backendConn{identity: path.Base(req.URL.Path), conn: ws}
	b.mu.Lock()
	b.connections = append(b.connections, c)
	open := 0
	for _, other := range b.connections {
		if other.identity == c.identity && established(other.conn.Net) {
			open++
		}
	}
	b.most[c.identity] = max(b.most[c.identity], open)
	b.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.ended = true
		c.mu.Unlock()
	}()
	for {
		msg, err := ws.ReadMessage()
		if err != nil {
			return
		}
		c.mu.Lock()
		c.frames = append(c.frames, string(msg))
		c.mu.Unlock()
		var parts []json.RawMessage
		if json.Unmarshal(msg, &parts) != nil || len(parts) < 3 || string(parts[0]) != "2" {
			continue
		}
		answer := `{"status":"Accepted","currentTime":"2026-01-01T00:00:00Z","interval":300}`
		if string(parts[2]) == `"Authorize"` {
			answer = `{"idTokenInfo":{"status":"Accepted"}}`
		}
		_ = ws.WriteText(fmt.Appendf(nil, `[3,%s,%s]`, parts[1], answer))
	}
}

// established tells whether neither side has ended a connection. The kernel
// knows that before the goroutine which reads it.
func established(conn net.Conn) bool {
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return false
	}
	open := false
	_ = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		open = err == nil && info.State == 1 // TCP_ESTABLISHED
	})
	return open
}

// of returns the connections of an identity, oldest first.
func (b *rawBackend) of(identity string) []*backendConn {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []*backendConn
	for _, c := range b.connections {
		if c.identity == identity {
			out = append(out, c)
		}
	}
	return out
}

// session connects a station and returns both ends of its way.
func (b *rawBackend) session(t *testing.T, srv *server, e enlisted, o rawOptions) (*rawStation, *backendConn) {
	t.Helper()
	before := len(b.of(e.identity))
	s := mustDial(t, srv, e, o)
	eventually(t, e.identity+" has reached the back end", func() bool { return len(b.of(e.identity)) > before })
	return s, b.of(e.identity)[before]
}

// acceptedConnections counts TCP connections from the gateway.
func (b *rawBackend) acceptedConnections() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.accepted
}

func (c *backendConn) received() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.frames)
}
