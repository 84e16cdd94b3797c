// Package syslog sends messages in the form of RFC 5424 over TLS (RFC 5425),
// TCP (RFC 6587 §3.4.1) or UDP (RFC 5426).
//
// It promises that no text, whoever chose it, begins a message, a line or a
// structured element of its own at the receiver, and that a message is sent
// whole, in one piece, or an error is returned. Syslog has no receipt: what
// was sent may still be lost on the way, with UDP without a trace.
package syslog

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strconv"
	"sync"
	"time"
)

// DefaultTimeout bounds one Send where its context doesn't.
const DefaultTimeout = 10 * time.Second

// Ports a URL needn't name (RFC 5425 §4.1, RFC 5426 §3.3). Plain TCP has none
// of its own; receivers use that of UDP.
const (
	portTLS   = "6514"
	portPlain = "514"
)

// Config of a Sender.
type Config struct {
	URL      string         // tls://HOST[:PORT], tcp://… or udp://…
	Facility Facility       // of every message; 0: Audit
	Hostname string         // of this machine; "": what the system says
	AppName  string         // "": bollard
	RootCAs  *x509.CertPool // what a tls receiver is judged by; nil: the system's
	// Certificate shows who sends to a tls receiver that asks; may be nil.
	Certificate *tls.Certificate
	Timeout     time.Duration    // of one Send; 0: DefaultTimeout
	Clock       func() time.Time // nil: time.Now
}

// Sender sends to one receiver. Its methods are safe for concurrent use.
type Sender struct {
	network string // tls, tcp or udp
	address string
	tls     *tls.Config
	header  header
	timeout time.Duration
	clock   func() time.Time

	mu   sync.Mutex
	line *line // nil: none is open
}

// line is a connection, and whether the receiver has ended it.
type line struct {
	net.Conn
	ended chan struct{}
	why   error // valid once ended is closed
}

// New checks the configuration; nothing is dialled before the first Send.
func New(cfg Config) (*Sender, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Path != "" && u.Path != "/" {
		return nil, fmt.Errorf("syslog receiver %q isn't tls://HOST:PORT, tcp://HOST:PORT or udp://HOST:PORT", cfg.URL)
	}
	port := u.Port()
	switch {
	case u.Scheme != "tls" && u.Scheme != "tcp" && u.Scheme != "udp":
		return nil, fmt.Errorf("syslog receiver %q: the scheme isn't tls, tcp or udp", cfg.URL)
	case port == "" && u.Scheme == "tls":
		port = portTLS
	case port == "":
		port = portPlain
	}
	s := &Sender{network: u.Scheme, address: net.JoinHostPort(u.Hostname(), port), timeout: cfg.Timeout, clock: cfg.Clock}
	if s.timeout == 0 {
		s.timeout = DefaultTimeout
	}
	if s.clock == nil {
		s.clock = time.Now
	}
	if s.header, err = newHeader(cfg); err != nil {
		return nil, err
	}
	s.tls = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: u.Hostname(), RootCAs: cfg.RootCAs, Time: s.clock}
	if cfg.Certificate != nil {
		s.tls.Certificates = []tls.Certificate{*cfg.Certificate}
	}
	return s, nil
}

func newHeader(cfg Config) (header, error) {
	h := header{facility: cfg.Facility, host: cfg.Hostname, app: cfg.AppName, process: strconv.Itoa(os.Getpid())}
	if h.facility == 0 {
		h.facility = Audit
	}
	if h.facility < 0 || h.facility > 23 {
		return h, fmt.Errorf("syslog facility %d isn't 0 to 23", h.facility)
	}
	if h.app == "" {
		h.app = "bollard"
	}
	if h.host == "" {
		h.host, _ = os.Hostname() // without one it stays unknown
	}
	if h.host == "" {
		h.host = "-"
	}
	if !printable(h.host, 255) {
		return h, fmt.Errorf("syslog host name %q isn't 1 to 255 printable ASCII characters", h.host)
	}
	if !printable(h.app, 48) {
		return h, fmt.Errorf("syslog app name %q isn't 1 to 48 printable ASCII characters", h.app)
	}
	return h, nil
}

// String names the receiver.
func (s *Sender) String() string { return s.network + "://" + s.address }

// Send sends one message. A connection the receiver has ended meanwhile is
// opened anew. An error means that the message wasn't sent whole.
func (s *Sender) Send(ctx context.Context, m Message) error {
	limit := streamLimit
	if s.network == "udp" {
		limit = datagramLimit
	}
	if m.Time.IsZero() {
		m.Time = s.clock()
	}
	text, err := m.encode(s.header, limit)
	if err != nil {
		return err
	}
	if s.network != "udp" {
		// RFC 5425 §4.3, RFC 6587 §3.4.1: the length, a space, the message.
		text = append(append(strconv.AppendInt(nil, int64(len(text)), 10), ' '), text...)
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.send(ctx, text); err != nil {
		return fmt.Errorf("couldn't send to the syslog receiver %s: %w", s, err)
	}
	return nil
}

func (s *Sender) send(ctx context.Context, text []byte) error {
	if err := ctx.Err(); err != nil {
		return err // the lock took too long
	}
	if s.line != nil {
		select {
		case <-s.line.ended:
			why := s.line.why
			s.drop()
			// With TLS 1.3 a receiver refuses our certificate only after the
			// first message seemed sent: unsaid, none would ever arrive.
			var refused *net.OpError
			if errors.As(why, &refused) && refused.Op == "remote error" {
				return fmt.Errorf("it ended the connection before: %w", why)
			}
		default:
		}
	}
	if s.line == nil {
		if err := s.open(ctx); err != nil {
			return err
		}
	}
	deadline, _ := ctx.Deadline()
	err := s.line.SetWriteDeadline(deadline)
	if err == nil {
		_, err = s.line.Write(text)
	}
	if err != nil {
		s.drop() // a message cut short must not become the beginning of the next
	}
	return err
}

func (s *Sender) open(ctx context.Context) error {
	var (
		conn net.Conn
		err  error
	)
	if s.network == "tls" {
		conn, err = (&tls.Dialer{Config: s.tls}).DialContext(ctx, "tcp", s.address)
	} else {
		conn, err = (&net.Dialer{}).DialContext(ctx, s.network, s.address)
	}
	if err != nil {
		return err
	}
	s.line = &line{Conn: conn, ended: make(chan struct{})}
	if s.network == "udp" {
		return nil
	}
	// A receiver says nothing; reading is how its going away is noticed.
	go func(l *line) {
		defer close(l.ended)
		_, l.why = io.Copy(io.Discard, l)
	}(s.line)
	return nil
}

// drop closes the connection and waits for its reader.
func (s *Sender) drop() {
	_ = s.line.Close()
	if s.network != "udp" {
		<-s.line.ended
	}
	s.line = nil
}

// Close ends the connection; a later Send opens a new one.
func (s *Sender) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.line == nil {
		return nil
	}
	err := s.line.Close()
	s.drop()
	return err
}
