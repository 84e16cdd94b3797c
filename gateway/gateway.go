// Package gateway is the front end: TLS and WebSocket toward stations, one
// upstream socket per proven station, and the judging of every frame between.
//
// It promises that no byte of an unproven station reaches a back end, that one
// identity has one live session, that every frame's head is judged before it is
// handed on, and that what no service is interested in arrives byte for byte,
// in order, in both directions.
package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bollard/fleet"
	"bollard/internal/ws"
	"bollard/ocpp"
)

// Door decides who may connect. *fleet.Service is one.
type Door interface {
	// Admit proves a claim; the error is a *fleet.Refusal, anything else is a 503.
	Admit(ctx context.Context, claim fleet.Claim) (fleet.Admission, error)
	// Subjects are the CA names sent in TLS CertificateRequest.
	Subjects(ctx context.Context) (*x509.CertPool, error)
}

// Guard acts on the messages that concern security. *fleet.Service is one.
type Guard interface {
	// Interest says whether Message wants to see this base action. It is asked
	// once per action and version and must not depend on anything else.
	Interest(v ocpp.Version, d ocpp.Direction, action string) bool
	// Opened is called when both sides are up, before any frame is handed on.
	Opened(s fleet.Session)
	// Message judges one CALL or SEND of an action Interest named.
	Message(ctx context.Context, s fleet.Session, m fleet.Message) fleet.Verdict
	// Answered sees the answer (CALLRESULT or CALLERROR) of a watched CALL.
	Answered(ctx context.Context, s fleet.Session, call fleet.Message, answer ocpp.Head)
	Closed(s fleet.Session)
}

// Listener is one front door.
type Listener struct {
	Name     string
	Net      net.Listener // already bound; TLS is added here
	Profiles []int        // accepted security profiles; 1 means plain ws and stands alone
	Allow    []string     // identities this listener is limited to; empty: all
	// Certificate picks the server certificate; nil on a profile 1 listener.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Legacy allows TLS 1.0/1.1 and TLS_RSA_WITH_AES_128_CBC_SHA (A00.FR.324 [1.6]).
	Legacy       bool
	RefuseOrigin bool // refuse handshakes that carry an Origin header
}

// Backend is one CSMS.
type Backend struct {
	Name     string
	URL      string // "/<identity>" is appended
	Match    Match
	Security fleet.SecurityMode
	// Auth: none, basic-shared, basic-per-station, mtls. The Basic user is
	// always the station's identity.
	Auth     string
	Password func(ctx context.Context, station string) ([]byte, error) // for the two basic kinds
	TLS      *tls.Config                                               // trust and client certificate; nil: system trust
	// CNOnly accepts a back-end certificate that has only a CN (A00.FR.510).
	CNOnly bool
}

// Match selects the stations of a back end; empty fields match all. The first
// matching back end is taken.
type Match struct {
	Identity string // path.Match pattern, compared without case
	Vendor   string
	Model    string
	Profile  int
}

// Limits bound what one station, one identity and one source can cost.
type Limits struct {
	WS               ws.Limits
	Handshake        time.Duration // TLS; 10 s
	Header           time.Duration // HTTP head; 5 s
	HandshakesAtOnce int           // 64
	PerSource        int           // half-open connections of one source address; 256
	CallTimeout      time.Duration // 30 s (OCPP 2.0.1 part 2 §3.2)
	QueuedCalls      int           // back-end CALLs waiting for the station's slot; 16
	Outstanding      int           // station CALLs not answered yet; 64
	TakeoversPerMin  int           // sessions of one identity replaced per minute; 6
	RetryAfter       time.Duration // told with 503; 10 s
	DrainTimeout     time.Duration // 10 s
}

// Config of a Gateway.
type Config struct {
	Listeners       []Listener
	Path            string // "/ocpp/"
	UnknownIdentity int    // 401 or 404
	Door            Door
	Guard           Guard
	Backends        []Backend
	Limits          Limits
	DefaultVersion  map[string]ocpp.Version // station key → version for stations that offer no subprotocol
	Log             *slog.Logger
	Metrics         prometheus.Registerer
	Clock           func() time.Time
}

// Gateway accepts stations until Shutdown.
type Gateway struct{}

// New checks the configuration. Nothing is served before Serve.
func New(ctx context.Context, cfg Config) (*Gateway, error) { panic("internal error: contract only") }

// Serve accepts on all listeners until ctx ends, then drains.
func (g *Gateway) Serve(ctx context.Context) error { panic("internal error: contract only") }

// Reload takes new back ends and limits for sessions opened from now on.
func (g *Gateway) Reload(backends []Backend, limits Limits) error {
	panic("internal error: contract only")
}

// Session returns the live session of a station key.
func (g *Gateway) Session(key string) (fleet.Session, bool) { panic("internal error: contract only") }

// Sessions returns all live sessions.
func (g *Gateway) Sessions() []fleet.Session { panic("internal error: contract only") }

// EndIf ends every live session for which why returns a reason, and returns how many.
func (g *Gateway) EndIf(why func(fleet.Admission) (reason string, end bool)) int {
	panic("internal error: contract only")
}
