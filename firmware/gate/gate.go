// Package gate stands between a back end that wants a station's firmware updated
// and the station.
//
// It promises that a station is given nothing but a release that was published
// for it, newer than what it ever ran, with the signature its manufacturer made,
// from this depot; that each step is on disk before anybody outside learns of it;
// and that the back end is told what its version of OCPP has for it.
package gate

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"bollard/approval"
	"bollard/firmware/catalogue"
	"bollard/firmware/depot"
	"bollard/firmware/job"
	"bollard/firmware/origin"
	"bollard/firmware/release"
	"bollard/internal/failpoint"
	"bollard/internal/tally"
	"bollard/ledger"
	"bollard/ocpp"
)

// Errors callers branch on.
var (
	// ErrBusy is a store's for a station that has an update which isn't over.
	ErrBusy    = errors.New("station has an update that isn't over")
	ErrUnknown = errors.New("no such firmware update")
)

// Session is a station's live connection, as far as updates need it.
type Session interface {
	Version() ocpp.Version
	Backend() string
	// Call sends a CALL to the station. A CALLERROR comes back as *ocpp.CallFailure.
	Call(ctx context.Context, action string, payload any) (json.RawMessage, error)
	// Go runs f beside the session, which waits for it when it ends.
	Go(f func(ctx context.Context))
}

// Station is whose session it is.
type Station struct {
	Key           string
	Vendor, Model string // of its record
	Hardware      string // revision, or ""
	Site          string // where it stands, or ""
	Firmware      string // version its newest boot showed, or ""
	Unread        error  // its record couldn't be: nothing is sent to it
}

// Level says how strict the gate is with a model.
type Level string

// The levels.
const (
	Observe Level = "observe" // pass, and record what would have been refused
	Enforce Level = "enforce"
	Strict  Level = "strict" // as Enforce, and the release must be in a transparency log
)

// Rule is what holds for a station.
type Rule struct {
	Level   Level
	Dialect release.Dialect // that it verifies; "": the first its release has
	// SignFill completes an unsigned UpdateFirmware of 2.x from the release.
	SignFill bool
	// Upgrade makes a SignedUpdateFirmware of an UpdateFirmware of 1.6.
	Upgrade bool
	Place   Place // where it downloads
	// Chain sends the CAs above the signing certificate with it.
	Chain bool
	// Refusal is how one of 1.6 is refused, whose answer has no status; "": SecurityError.
	Refusal ocpp.ErrorCode
}

// Store keeps updates. Every write is durable, together with its ledger events,
// before the method returns.
type Store interface {
	// AddJob gives a job its number; ErrBusy while the station has an open one.
	AddJob(ctx context.Context, j job.Job, events ...ledger.Event) (job.Job, error)
	// UpdateJob changes one in one transaction; a job that is done raises the
	// station's floor in it, one that is quarantined puts the station there.
	UpdateJob(ctx context.Context, id string, change func(*job.Job) ([]ledger.Event, error)) (job.Job, error)
	// ReportJob is UpdateJob with a copy for the station's back end in the outbox: both
	// or neither.
	ReportJob(ctx context.Context, id string, c Copy, change func(*job.Job) ([]ledger.Event, error)) (job.Job, error)
	OpenJobs(ctx context.Context, station string) ([]job.Job, error)        // of all with ""
	Deadlines(ctx context.Context) (map[string]time.Time, error)            // of those, by ID; zero: none
	Jobs(ctx context.Context, station string, limit int) ([]job.Job, error) // newest first, of all with ""
	// InQuarantine and the floors outlive a station's record.
	InQuarantine(ctx context.Context, station string) (bool, error)
	Quarantined(ctx context.Context) ([]string, error) // the stations, by name
	// EndQuarantine lets a station out, and marks the updates that put it there as
	// cleared, in one transaction.
	EndQuarantine(ctx context.Context, station string, at time.Time, events ...ledger.Event) error
	// Unverified are the updates, however they ended, whose stations verified nothing of
	// the version they may run for it.
	Unverified(ctx context.Context) ([]job.Job, error)
	// Visits are the updates, however they ended, with a job.Visit.
	Visits(ctx context.Context) ([]job.Job, error)
	// Publications are the jobs in the state job.Published.
	Publications(ctx context.Context) ([]job.Job, error)
	Floor(ctx context.Context, station, component string) (job.Floor, error)
	RaiseFloor(ctx context.Context, station, component string, by job.Floor, events ...ledger.Event) error
}

// Copy is what a back end is told in place of a station's own message. It is
// delivered at least once, and in order.
type Copy struct {
	Action  string
	Payload json.RawMessage
	At      time.Time
}

// Catalogue is where releases are; *catalogue.Catalogue is one.
type Catalogue interface {
	List(ctx context.Context) ([]catalogue.Entry, error)
	Verify(ctx context.Context, e *catalogue.Entry) error
	Trusted(ctx context.Context, signer *x509.Certificate) error
	Proven(ctx context.Context, e *catalogue.Entry) error // in a transparency log
	// Grant tells that enough people agreed to an action on a release, here for a station.
	Grant(ctx context.Context, action catalogue.Action, e *catalogue.Entry, station string) (approval.Grant, error)
}

// Door is where stations download; *depot.Door is one.
type Door interface {
	URL(g depot.Grant, name string) (string, error)
	Digest(location string) (digest string, ok bool)
	Served(job int64) depot.Served
	Forget(job int64)
}

// Origins know what back ends' locations lead to; *origin.Origins are.
type Origins interface {
	// Find waits as long as ctx lets it: *origin.Underway then, *origin.Fault where it
	// can't be known. With want that image is in the depot when it returns none.
	Find(ctx context.Context, location string, want *depot.Image) (origin.Lead, error)
	// Since is Find where what was known before a time doesn't count.
	Since(ctx context.Context, location string, since time.Time) (origin.Lead, error)
}

// Config of a Gate.
type Config struct {
	Store     Store
	Catalogue Catalogue
	Depot     *depot.Depot
	Door      Door // nil: stations have nowhere to download, and nothing is sent
	// Origins are asked what a back end's location leads to; nil: releases are known
	// by their signature and by locations of the door's only.
	Origins Origins
	Locker  Locker // nil: nobody is sent to SFTP
	// Outside has people look at a station that is about to be sent elsewhere than here
	// for its image. May be nil.
	Outside func(ctx context.Context, station string) error
	// Swapped has people look at a station that downloaded where another image is now. May
	// be nil.
	Swapped func(ctx context.Context, station string) error
	// Unseen has people look at a station that downloaded where nothing can be looked at.
	// May be nil.
	Unseen func(ctx context.Context, station string) error
	// Excepted has people look at a station that is about to be given what an exception
	// lets it have. May be nil.
	Excepted func(ctx context.Context, station string) error
	Rule     func(s Station) Rule
	// Site are the stations of one, for whom a local controller publishes; nil: nobody is.
	Site func(ctx context.Context, site string) ([]Station, error)
	// Turn says why a rollout keeps a release from a station whose back end asks for
	// it, or ""; nil: nothing is rolled out.
	Turn func(release, station string) Block
	// Attests says whether a quote of a station's TPM has to end its updates; nil: of none.
	Attests func(ctx context.Context, station string) (bool, error)
	// Tell lets back ends see the statuses of updates that Bollard started.
	Tell bool
	// Over is told of updates that ended, and of ended ones whose release their station
	// condemns later; it must not wait. May be nil.
	Over func(j job.Job)
	// Alarm has people look at a station that was put into quarantine. May be nil.
	Alarm  func(ctx context.Context, station string) error
	Record func(ctx context.Context, e ledger.Event) error
	Clock  func() time.Time
	// CheckClock fails while Clock is behind what is on record; nil: it never is.
	CheckClock func(ctx context.Context) error
	Log        *slog.Logger
}

// Gate is safe for concurrent use.
type Gate struct {
	cfg   Config
	notes *tally.Tally[note]
	left  []string // updates of an earlier run that aren't taken up yet; Resume's

	mu   sync.Mutex
	open map[string]string // the job of each station that has one, by station
	ran  map[string]string // version of each station's newest boot since the start
	// rightAt is when it was looked last what a clock that was ahead began.
	rightAt time.Time
	// visits are of the updates whose stations were sent elsewhere, and of what local
	// controllers offer.
	visits map[string]*visit
}

// note is one kind of refusal, for the ledger.
type note struct{ kind, station, action string }

// New needs Store, Catalogue, Depot, Rule and Record. Run does
// the rest of its work.
func New(ctx context.Context, cfg Config) (*Gate, error) {
	if cfg.Store == nil || cfg.Catalogue == nil || cfg.Depot == nil || cfg.Rule == nil || cfg.Record == nil {
		return nil, errors.New("a firmware gate needs Store, Catalogue, Depot, Rule and Record")
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.CheckClock == nil {
		cfg.CheckClock = func(context.Context) error { return nil }
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Turn == nil {
		cfg.Turn = func(string, string) Block { return "" }
	}
	if cfg.Site == nil {
		cfg.Site = func(context.Context, string) ([]Station, error) { return nil, nil }
	}
	if cfg.Attests == nil {
		cfg.Attests = func(context.Context, string) (bool, error) { return false, nil }
	}
	if cfg.Over == nil {
		cfg.Over = func(job.Job) {}
	}
	if cfg.Alarm == nil {
		cfg.Alarm = func(context.Context, string) error { return nil }
	}
	g := &Gate{cfg: cfg, notes: tally.New[note](), open: map[string]string{}, ran: map[string]string{}, visits: map[string]*visit{}}
	list, err := cfg.Store.OpenJobs(ctx, "")
	if err != nil {
		return nil, err
	}
	for _, j := range list {
		g.open[j.Station] = j.ID
		g.left = append(g.left, j.ID)
	}
	return g, nil
}

// guarded are the actions of a back end that the gate looks at, whatever the
// version and the spelling: peers exist that would obey it.
func guarded(action string) string {
	action = strings.TrimSpace(action)
	for _, known := range []string{ocpp.ActionUpdateFirmware, ocpp.ActionSignedUpdateFirmware, ocpp.ActionPublishFirmware, ocpp.ActionUnpublishFirmware, ocpp.ActionReset} {
		if strings.EqualFold(action, known) {
			return known
		}
	}
	return ""
}

// Interest says which messages the gate is to be asked about.
func (g *Gate) Interest(d ocpp.Direction, action string) bool {
	if d == ocpp.FromCSMS {
		return guarded(action) != ""
	}
	switch action {
	case ocpp.ActionFirmwareStatus, ocpp.ActionSignedFirmwareStatus, ocpp.ActionPublishStatus, ocpp.ActionBootNotification:
		return true
	}
	return false
}

// Verdict says what becomes of a message; the zero value lets it pass.
type Verdict struct {
	Answer  any             // the CALLRESULT's payload
	Code    ocpp.ErrorCode  // of a CALLERROR
	Rewrite json.RawMessage // passes with this payload
	Reason  string
	// Told: a copy for the back end is in the outbox.
	Told bool
	// Later works the verdict out; it answers or refuses.
	Later func(ctx context.Context) Verdict
}

// Run ends updates whose station said no more, until ctx ends. What a stop of the
// server left open it takes up first; where that can't be written, such as on a full
// disk, it tries again.
func (g *Gate) Run(ctx context.Context) error {
	resumed := false
	look := func(ctx context.Context) {
		var err error
		if !resumed {
			err = g.Resume(ctx)
			resumed = err == nil
		} else {
			err = g.Look(ctx)
		}
		if err != nil && ctx.Err() == nil {
			g.cfg.Log.Warn("couldn't look after firmware updates", slog.Any("err", err))
		}
	}
	look(ctx)
	tally.Run(ctx, 10*time.Second, func(ctx context.Context, all bool) {
		if g.flush(ctx, all); !all {
			look(ctx)
		}
	})
	return nil
}

// Resume takes up what was open when the server stopped: what wasn't sent never
// will be, its back end's CALL is gone; the rest goes on. Run begins with it.
func (g *Gate) Resume(ctx context.Context) error {
	for len(g.left) > 0 {
		_, err := g.change(ctx, g.left[0], "bollard", func(j *job.Job, now time.Time) error {
			if j.State == job.Approved {
				return j.Cancel("the server stopped before it was sent", now)
			}
			j.Restarted(now)
			return nil
		})
		if err != nil && !errors.Is(err, ErrUnknown) { // its station was removed
			return err
		}
		g.left = g.left[1:]
	}
	if err := g.takeUpVisits(ctx); err != nil {
		return err
	}
	// A kill may have come before the alarm.
	jailed, err := g.cfg.Store.Quarantined(ctx)
	if err != nil {
		return err
	}
	for _, station := range jailed {
		if err := g.cfg.Alarm(ctx, station); err != nil {
			return err
		}
	}
	return g.Withdraw(ctx, "bollard")
}

// Look ends what has run out of time, and what a revocation left open, and looks again
// where stations downloaded elsewhere, and where a local controller's place wasn't seen.
func (g *Gate) Look(ctx context.Context) error {
	failed := errors.Join(g.Withdraw(ctx, "bollard"), g.revisit(ctx), g.setRight(ctx))
	g.mu.Lock()
	ids := slices.Collect(maps.Values(g.open))
	g.mu.Unlock()
	deadlines, err := g.cfg.Store.Deadlines(ctx)
	if err != nil {
		return errors.Join(failed, err)
	}
	for _, id := range ids {
		if _, open := deadlines[id]; !open { // its station was removed
			g.drop(id)
		}
	}
	now := g.cfg.Clock()
	for id, deadline := range deadlines {
		if deadline.IsZero() || now.Before(deadline) {
			continue
		}
		_, err := g.change(ctx, id, "bollard", func(j *job.Job, now time.Time) error {
			j.Expire(g.served(j).Last, now)
			return nil
		})
		if !errors.Is(err, ErrUnknown) {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

// served is what the door gave for a job.
func (g *Gate) served(j *job.Job) job.Served {
	if g.cfg.Door == nil {
		return job.Served{}
	}
	s := g.cfg.Door.Served(j.Number)
	return job.Served{Whole: s.Whole, Last: s.Last}
}

// errNothing leaves a job as it is.
var errNothing = errors.New("nothing to do")

// change changes a job, records where it went, and looks after what follows.
func (g *Gate) change(ctx context.Context, id, actor string, f func(j *job.Job, now time.Time) error) (job.Job, error) {
	return g.changeBy(ctx, id, actor, g.cfg.Store.UpdateJob, f)
}

// changeBy is change with a way of its own to write.
func (g *Gate) changeBy(ctx context.Context, id, actor string, write func(context.Context, string, func(*job.Job) ([]ledger.Event, error)) (job.Job, error), f func(j *job.Job, now time.Time) error) (job.Job, error) {
	now := g.cfg.Clock()
	var before job.State
	condemned := false
	j, err := write(ctx, id, func(j *job.Job) ([]ledger.Event, error) {
		before, condemned = j.State, !j.CondemnedAt.IsZero()
		if err := f(j, now); err != nil {
			return nil, err
		}
		if j.Visit != nil && j.Visit.Since.IsZero() && !j.State.Open() { // it downloaded nothing
			j.Visit = nil
		}
		if j.State == before || j.Crowded() && before.Underway() && j.State.Underway() { // it may go to and fro
			return nil, nil
		}
		return []ledger.Event{event(j, actor)}, nil
	})
	if errors.Is(err, ErrUnknown) || before != "" && !before.Open() {
		g.drop(id) // its station was removed, or it ended before it stood there
	}
	if errors.Is(err, errNothing) {
		return j, nil
	}
	if err != nil {
		return j, err
	}
	if j.State == job.Quarantined && before != j.State {
		g.cfg.Log.Warn("a station installs firmware that it didn't verify", slog.String("station", j.Station), slog.String("release", j.Release), slog.String("reason", j.Reason))
		if err := g.cfg.Alarm(ctx, j.Station); err != nil && ctx.Err() == nil { // Run repeats it at the next start
			g.cfg.Log.Error("couldn't record an alarm about a station in quarantine", slog.String("station", j.Station), slog.Any("err", err))
		}
	}
	if !j.State.Open() && (before != j.State || !j.CondemnedAt.IsZero() && !condemned) {
		g.cfg.Over(j)
	}
	if !j.State.Open() && before.Open() {
		failpoint.Hit("gate.over")
		g.drop(id)
		if g.cfg.Door != nil {
			g.cfg.Door.Forget(j.Number)
		}
		g.cfg.Log.Info("firmware update is over", slog.String("station", j.Station), slog.String("release", j.Release), slog.String("state", string(j.State)), slog.String("reason", j.Reason))
	}
	return j, nil
}

// openJob is the update of a station that isn't over, or "".
func (g *Gate) openJob(station string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open[station]
}

// Open says whether a station has an update that isn't over.
func (g *Gate) Open(station string) bool { return g.openJob(station) != "" }

// Wants says whether a job still wants its image, and may have it
// (depot.DoorConfig.Open).
func (g *Gate) Wants(ctx context.Context, grant depot.Grant) bool {
	id := g.openJob(grant.Station)
	if id == "" {
		return false
	}
	list, err := g.cfg.Store.OpenJobs(ctx, grant.Station)
	return err == nil && len(list) == 1 && list[0].Number == grant.Job && list[0].SHA256 == grant.SHA256 && list[0].State.Underway() &&
		g.stands(ctx, list[0].Release, true) == nil
}

// Downloaded records what a station was given (depot.DoorConfig.Served).
func (g *Gate) Downloaded(ctx context.Context, grant depot.Grant, s depot.Span) {
	if err := g.cfg.Record(ctx, served(grant, s)); err != nil {
		g.cfg.Log.Warn("couldn't record a firmware download", slog.String("station", grant.Station), slog.Any("err", err))
	}
}
