package fleet

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"bollard/ca"
	"bollard/internal/tally"
	"bollard/internal/turns"
	"bollard/ledger"
	"bollard/ocpp"
)

// Sessions is the directory of live connections; the gateway is one.
type Sessions interface {
	Session(key string) (Session, bool)
	Sessions() []Session
	// EndIf ends every live session for which why returns a reason.
	EndIf(why func(Admission) (reason string, end bool)) int
}

// Config of a Service.
type Config struct {
	Store     Store
	Authority *ca.Authority
	// Revocation learns what stations ask about certificates.
	Revocation   Revocation
	Record       func(ctx context.Context, e ledger.Event) error // decisions without another write
	Organisation string
	// PublicURL is the OCPP endpoint without the identity, such as
	// wss://HOST:8443/ocpp: what SetNetworkProfile tells stations.
	PublicURL string
	// RolloverURL is that of the listener that serves the chain of the next CSMS
	// root while it is changed; "": there is none.
	RolloverURL     string
	UnknownIdentity int // 401, or 404 where configured
	Clock           func() time.Time
	Log             *slog.Logger
	// RenewalsPerMinute is how many stations are asked to renew in a minute
	// because their certificates are due; 0: 60. What the operator asks for, first
	// certificates and those about to expire don't wait.
	RenewalsPerMinute int
	// RevokeSuperseded revokes a station's older certificate as superseded once
	// it was seen with the new one. It can't fall back to it then (A02.FR.28).
	RevokeSuperseded bool
	// Rollover, if set, returns the root that follows the present CSMS root while
	// it is being brought to the stations (M05), or nil. Not set: the authority's.
	Rollover func(ctx context.Context) (*Rollover, error)
	// ServedRoots, if set, are the roots the server certificates lead to; nil:
	// the own CSMS roots. Where a root isn't at hand, the certificate it signed
	// stands for it. A station's last way to check the server is never deleted.
	ServedRoots func(ctx context.Context) ([]*x509.Certificate, error)
	// Watcher, if set, looks for attacks in what is noticed.
	Watcher Watcher
	// Approved, if set, tells what people have agreed to; nil: to nothing.
	Approved Approved
	// Guard changes, model by model, what back ends may not write.
	Guard []GuardRule
	// P224 are the models whose stations may have keys on that curve (A00.FR.503).
	P224 []Model
	// KeepUpstream, if set, keeps a password that a back end sets for a station
	// (A01) as Bollard's secret toward that back end, together with the event. ok
	// is false where Bollard doesn't log in there as each station.
	KeepUpstream func(ctx context.Context, backend, station string, password []byte, e ledger.Event) (ok bool, err error)
	// AnswersCars, if set, says whether requests of cars are answered here: stations are
	// asked then how long an answer they take.
	AnswersCars func() bool
	// VerdictKey, if set, authenticates the verdicts on signatures that are kept beside
	// certificates' records: a secret of VerdictKeySize bytes that isn't in the Store.
	VerdictKey []byte
	// Refused, if set, is called with the class of each refused claim, for
	// metrics. The classes are few and fixed.
	Refused func(class string)
}

// Background work of Run.
const (
	tickEvery  = time.Second      // refusals and late records are flushed
	sweepEvery = 30 * time.Second // live sessions' certificates are looked at (promise: 60 s)
	planEvery  = time.Hour        // renewals and upgrades of long-lived sessions
)

// Service is the fleet: it admits claims (gateway.Door), acts on security
// messages (gateway.Guard) and serves the operator's commands.
type Service struct {
	cfg       Config
	store     Store
	log       *slog.Logger
	base      context.Context // of work that no caller's context covers
	secrets   *verifier
	budget    *budget
	refusals  *refusals
	watcher   Watcher
	overruled *tally.Tally[overruledKey] // what the back end was refused and isn't written down yet
	entrances *tally.Tally[entrance]     // what came to and fro and isn't written down yet
	putOffs   *tally.Tally[putOffKey]    // who was put off
	doubts    *tally.Tally[doubt]        // which certificates were doubted
	verified  verified
	swept     *uint64 // epoch of the last whole sweep, which owns it; nil: none yet
	standings standings
	verdicts  *verdicts
	sightings sightings
	openings  openings
	groups    groupShelf
	// after runs f once d has passed, unless stopped; tests replace it.
	after func(d time.Duration, f func()) (stop func() bool)

	turns *turns.Turns // by station key: who works on its orders

	mu       sync.Mutex
	sessions Sessions          // nil before Attach
	lives    map[string]*live  // by session id
	csrs     *buckets          // SignCertificate budget by station key
	asked    *buckets          // budget of questions about certificates, by station key
	quoted   *buckets          // budget of quotes, by station key
	warnings *buckets          // budget of records about checks that only warn, by station key and check
	noted    map[string]string // by station key: warnings recorded last
	logs     *Logs             // nil before AttachLogs
	// renewNext is the first turn to renew nobody has.
	renewNext time.Time
}

// New needs no live sessions; Attach connects them once the gateway exists.
func New(ctx context.Context, cfg Config) (*Service, error) {
	switch {
	case cfg.Store == nil || cfg.Authority == nil || cfg.Revocation == nil || cfg.Record == nil:
		return nil, errors.New("fleet needs Store, Authority, Revocation and Record")
	case cfg.Organisation == "":
		return nil, errors.New("fleet needs Organisation: A00.FR.404 compares it with each certificate's O")
	case cfg.VerdictKey != nil && len(cfg.VerdictKey) != VerdictKeySize:
		return nil, fmt.Errorf("fleet needs a VerdictKey of %d bytes or none", VerdictKeySize)
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Watcher == nil {
		cfg.Watcher = unwatched{}
	}
	s := &Service{
		cfg: cfg, store: cfg.Store, log: cfg.Log,
		base:      context.WithoutCancel(ctx),
		secrets:   newVerifier(),
		budget:    newBudget(cfg.Clock),
		refusals:  newRefusals(),
		verdicts:  &verdicts{key: cfg.VerdictKey},
		watcher:   cfg.Watcher,
		overruled: tally.New[overruledKey](),
		entrances: tally.NewLong[entrance](),
		putOffs:   tally.NewLong[putOffKey](),
		doubts:    tally.NewLong[doubt](),
		after:     func(d time.Duration, f func()) func() bool { return time.AfterFunc(d, f).Stop },
		lives:     make(map[string]*live),
		turns:     turns.New(1),
		csrs:      newBuckets(csrBurst, csrRefill),
		asked:     newBuckets(statusBurst, statusRefill),
		quoted:    newBuckets(quoteBurst, quoteRefill),
		warnings:  newBuckets(warnBurst, warnRefill),
		noted:     make(map[string]string),
	}
	// The operator's own come first: what they allow is let through.
	s.cfg.Guard = append(slices.Clone(cfg.Guard), DefaultGuard()...)
	if err := s.learnSecrets(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// learnSecrets tells the verifier which kinds of secrets exist.
func (s *Service) learnSecrets(ctx context.Context) error {
	oldest, err := s.store.OldestSecret(ctx, kindHuman)
	if err != nil {
		return err
	}
	s.secrets.learn(oldest)
	return nil
}

// Attach gives the service the directory of live sessions.
func (s *Service) Attach(live Sessions) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions = live
}

// Run does the background work until ctx ends: it writes down what was refused,
// ends sessions whose certificate was revoked elsewhere and lets long-lived
// sessions renew. It returns when all of it has stopped.
func (s *Service) Run(ctx context.Context) error {
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	plan := time.NewTicker(planEvery)
	defer plan.Stop()
	logs := time.NewTicker(logLook)
	defer logs.Stop()
	s.sweepLogs(ctx)
	s.sumAdmissions(ctx)
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			s.flushRefusals(last, true)
			s.flushSightings(last, time.Time{})
			s.flushVerdicts(last, time.Time{})
			s.flushOverruled(last, true)
			s.flushEntrances(last, true)
			s.flushPutOffs(last, true)
			s.flushDoubts(last, true)
			return nil
		case <-tick.C:
			s.flushRefusals(ctx, false)
			s.flushSightings(ctx, s.clock())
			s.flushVerdicts(ctx, s.clock())
			s.flushOverruled(ctx, false)
			s.flushEntrances(ctx, false)
			s.flushPutOffs(ctx, false)
			s.flushDoubts(ctx, false)
			s.retrySeen(ctx)
		case <-sweep.C:
			s.sweep(ctx)
		case <-logs.C:
			s.lookLogs(ctx)
		case <-plan.C:
			s.sweepLogs(ctx)
			s.sweepOutbox(ctx)
			s.sumAdmissions(ctx)
			for _, l := range s.allLive() {
				l.poke(s)
			}
		}
	}
}

// sweep ends live sessions whose certificate isn't good any more. Each was looked
// up when it was opened, so that nothing is to be found as long as no record has
// changed.
func (s *Service) sweep(ctx context.Context) {
	epoch, counted := s.cfg.Authority.Epoch() // before the look-ups: what comes between is of another epoch
	if counted && s.swept != nil && *s.swept == epoch {
		return
	}
	for _, l := range s.allLive() {
		adm := l.session.Admission()
		if adm.Leaf == nil {
			continue
		}
		rec, known, err := s.cfg.Authority.StatusOf(ctx, adm.Leaf)
		if err != nil {
			if ctx.Err() == nil {
				s.log.Warn("couldn't look up a live session's certificate", slog.String("station", l.key), slog.Any("err", err))
			}
			return
		}
		if known && rec.State != ca.StateIssued {
			l.session.End(fmt.Sprintf("certificate %s is %s", rec.Serial, rec.State))
		}
	}
	s.swept = &epoch
}

func (s *Service) clock() time.Time { return s.cfg.Clock() }

func (s *Service) count(class string) {
	if s.cfg.Refused != nil {
		s.cfg.Refused(class)
	}
}

func (s *Service) record(ctx context.Context, e ledger.Event) error { return s.cfg.Record(ctx, e) }

// endIf ends live sessions, if there is a directory of them yet.
func (s *Service) endIf(why func(Admission) (string, bool)) int {
	s.mu.Lock()
	sessions := s.sessions
	s.mu.Unlock()
	if sessions == nil {
		return 0
	}
	return sessions.EndIf(why)
}

// key turns what an operator typed into a station key.
func (s *Service) key(identity string) (string, error) {
	id, err := ocpp.ParseIdentity(identity)
	if err != nil {
		return "", fmt.Errorf("identity %q: %w", capped(identity), err)
	}
	return id.Key(), nil
}
