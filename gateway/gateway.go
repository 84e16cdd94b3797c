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
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bollard/detect"
	"bollard/fleet"
	"bollard/internal/pace"
	"bollard/internal/ws"
	"bollard/ocpp"
)

// Door decides who may connect. *fleet.Service is one.
type Door interface {
	// Admit proves a claim; the error is a *fleet.Refusal, anything else is a 503.
	Admit(ctx context.Context, claim fleet.Claim) (fleet.Admission, error)
	// Adopted takes the back end's answer about an Admission that is Adopting:
	// whether it gave its own 101 to the station's password. What it returns is
	// the proof; errors are those of Admit.
	Adopted(ctx context.Context, claim fleet.Claim, a fleet.Admission, accepted bool) (fleet.Admission, error)
	// Subjects are the CA names sent in TLS CertificateRequest.
	Subjects(ctx context.Context) (*x509.CertPool, error)
}

// Judge is a Door that looks at a chain before anybody is claimed. It is asked
// while the handshake still has its desk, so that what strangers have verified is
// bounded like their handshakes; for what it finds the Door is asked again, by
// Admit, with the claim. A reason not to trust the chain stands: it is
// Claim.Untrusted. *fleet.Service is one.
type Judge interface {
	Judge(ctx context.Context, chain []*x509.Certificate, trust []string) (untrusted string)
}

// Book is a Door that keeps who was proven and had to wait all the same: why is
// "alive", for an older connection of the identity is, or "flapping", for it replaced
// its session too often. *fleet.Service is one.
type Book interface {
	PutOff(ctx context.Context, a fleet.Admission, why string)
}

// Guard acts on the messages that concern security. *fleet.Service is one.
type Guard interface {
	// Interest says whether Message wants to see this base action. It is asked
	// once per action and version, until Reconsider, and must not depend on
	// anything else.
	Interest(v ocpp.Version, d ocpp.Direction, action string) bool
	// Opened is called when both sides are up, before any frame is handed on.
	Opened(s fleet.Session)
	// Message judges one CALL or SEND of an action Interest named. It holds up
	// the frames behind it, and must not wait for Session.Call. It may keep m;
	// ctx ends after Limits.CallTimeout, not with the session.
	Message(ctx context.Context, s fleet.Session, m fleet.Message) fleet.Verdict
	// Answered sees the answer (CALLRESULT or CALLERROR) of a watched CALL
	// before it is handed on, under the same conditions. What it returns, if
	// anything, runs once the answer is written: a CALL that the answer allows
	// must not overtake it (OCPP 2.0.1 B01, B02).
	Answered(ctx context.Context, s fleet.Session, call fleet.Message, answer ocpp.Head) (then func())
	// Closed is called last: nothing of the session runs any more.
	Closed(s fleet.Session)
}

// Limits bound what one station, one identity and one source can cost. Zero
// values mean the number in the comment.
type Limits struct {
	WS               ws.Limits
	Handshake        time.Duration // TLS; 10 s
	Header           time.Duration // HTTP head; 5 s
	HandshakesAtOnce int           // that compute, GOMAXPROCS; one that waits for its peer doesn't count
	PerSource        int           // half-open connections of one source address (IPv6: /64); 256
	CallTimeout      time.Duration // 30 s (OCPP 2.0.1 part 2 §3.2)
	QueuedCalls      int           // back-end CALLs waiting for the station's slot; 16
	Outstanding      int           // station CALLs not answered yet; 64
	Alive            time.Duration // in which a live profile 1 session answers a ping; 5 s
	TakeoversPerMin  int           // sessions of one identity replaced per minute; 6
	RetryAfter       time.Duration // told with 503; 10 s
	DrainTimeout     time.Duration // 10 s
}

func (l Limits) withDefaults() Limits {
	for _, d := range []struct {
		have *time.Duration
		want time.Duration
	}{
		{&l.Handshake, 10 * time.Second}, {&l.Header, 5 * time.Second}, {&l.CallTimeout, 30 * time.Second},
		{&l.Alive, 5 * time.Second},
		{&l.RetryAfter, 10 * time.Second}, {&l.DrainTimeout, 10 * time.Second},
	} {
		if *d.have <= 0 {
			*d.have = d.want
		}
	}
	for _, n := range []struct {
		have *int
		want int
	}{
		{&l.HandshakesAtOnce, runtime.GOMAXPROCS(0)}, {&l.PerSource, 256}, {&l.QueuedCalls, 16}, {&l.Outstanding, 64}, {&l.TakeoversPerMin, 6},
	} {
		if *n.have <= 0 {
			*n.have = n.want
		}
	}
	return l
}

// Config of a Gateway.
type Config struct {
	Listeners       []Listener
	Path            string // "/ocpp/"
	UnknownIdentity int    // 401 or 404: what the Door was told; here for checking only
	Door            Door
	Guard           Guard
	Backends        []Backend
	Limits          Limits
	DefaultVersion  map[string]ocpp.Version // station key → version for stations that offer no subprotocol
	Log             *slog.Logger
	Metrics         prometheus.Registerer
	// Notice, if set, is told of signs of attacks; it must not block.
	Notice func(detect.Sign)
	Clock  func() time.Time
}

func (cfg *Config) complete() error {
	switch {
	case cfg.Door == nil || cfg.Guard == nil:
		return errors.New("gateway: Door and Guard must be set")
	case len(cfg.Listeners) == 0:
		return errors.New("gateway: at least one listener is needed")
	}
	if cfg.Path == "" {
		cfg.Path = "/ocpp/"
	}
	if !strings.HasPrefix(cfg.Path, "/") || !strings.HasSuffix(cfg.Path, "/") {
		return fmt.Errorf("gateway: path %q must begin and end with a slash", cfg.Path)
	}
	if u := cfg.UnknownIdentity; u != 0 && u != 401 && u != 404 {
		return fmt.Errorf("gateway: status for unknown identities is %d; use 401 or 404", u)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Notice == nil {
		cfg.Notice = func(detect.Sign) {}
	}
	for i := range cfg.Listeners {
		if err := cfg.Listeners[i].check(); err != nil {
			return err
		}
	}
	return nil
}

// Gateway accepts stations until its Serve ends.
type Gateway struct {
	cfg       Config
	log       *slog.Logger
	metrics   *metrics
	interests *interests
	made      time.Time
	registry  *registry
	settings  atomic.Pointer[settings]
	strangers *pace.Lines // log lines about peers that proved nothing
	proven    *pace.Lines // log lines about those that did, apart: no stranger mutes them
	influx    *influx
	failures  failures

	tickets  atomic.Pointer[[][]byte] // see UseTickets; nil: none
	loops    atomic.Pointer[ws.Loops] // nil before Serve
	running  sync.WaitGroup           // sessions, until their last goroutine
	work     context.Context
	stopWork context.CancelFunc
}

// settings is what Reload replaces.
type settings struct {
	backends []*backend
	limits   Limits
}

// New checks the configuration. Nothing is served before Serve.
func New(ctx context.Context, cfg Config) (*Gateway, error) {
	cfg.Listeners = slices.Clone(cfg.Listeners)
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, err
	}
	g := &Gateway{
		cfg: cfg, log: cfg.Log, metrics: m, made: time.Now(),
		interests: newInterests(cfg.Guard),
		registry:  newRegistry(cfg.Clock),
		strangers: pace.NewLines(cfg.Clock), proven: pace.NewLines(cfg.Clock),
		influx: newInflux(cfg.Clock),
	}
	if err := g.Reload(cfg.Backends, cfg.Limits); err != nil {
		return nil, err
	}
	g.work, g.stopWork = context.WithCancel(context.WithoutCancel(ctx))
	return g, nil
}

// Reload takes new back ends and limits for sessions opened from now on. Of the
// limits, Header and HandshakesAtOnce stay as they were at the start.
func (g *Gateway) Reload(backends []Backend, limits Limits) error {
	compiled, err := compileBackends(backends)
	if err != nil {
		return err
	}
	g.settings.Store(&settings{backends: compiled, limits: limits.withDefaults()})
	return nil
}

// Reconsider has the Guard asked anew which actions it wants to see: live
// sessions follow with their next frame.
func (g *Gateway) Reconsider() { g.interests.forget() }

// Session returns the live session of a station key.
func (g *Gateway) Session(key string) (fleet.Session, bool) {
	if s := g.registry.live(key); s != nil {
		return s, true
	}
	return nil, false
}

// Sessions returns all live sessions.
func (g *Gateway) Sessions() []fleet.Session {
	var list []fleet.Session
	for _, s := range g.registry.all() {
		list = append(list, s)
	}
	return list
}

// EndIf ends every live session for which why returns a reason, and returns how
// many. A connection that is being admitted meanwhile is asked about before it
// becomes live, so that it can't slip through.
func (g *Gateway) EndIf(why func(fleet.Admission) (reason string, end bool)) int {
	g.registry.haunt(why)
	n := 0
	for _, s := range g.registry.all() {
		if reason, end := why(s.Admission()); end {
			s.End(reason)
			n++
		}
	}
	return n
}

// capped keeps text for the log short.
func capped(text string) string {
	const most = 200
	if len(text) > most {
		return text[:most] + "…"
	}
	return text
}
