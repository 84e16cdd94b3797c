// Package origin learns which image a back end's location leads to.
//
// It promises that a location is fetched once for all who ask, beside the messages
// that wait for it and on after a restart, few at a time and within bounds; that
// what it led to is known by its digest; and that it is told when it leads to
// something else later.
package origin

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"bollard/firmware/depot"
	"bollard/internal/safehttp"
	"bollard/internal/tally"
	"bollard/ledger"
)

const (
	// atOnce are fetched, waiting wait for one of their places.
	atOnce  = 4
	waiting = 32
	// kept is how many locations are remembered.
	kept = 200
	// Fresh is how long what a location led to is taken for what it leads to.
	Fresh = time.Hour
	// again is how long after a failure a location isn't tried anew.
	again = time.Minute
	// tries of a fetch that breaks off, and the pause between two.
	tries = 10
	pause = 2 * time.Second
	// patience is for the next byte; slowest is the pace of all of them, in bytes a
	// second: whoever drips holds one of few places.
	patience = time.Minute
	slowest  = 4 << 10
	// noteEvery is how many bytes are fetched between two records of how far it is.
	noteEvery = 16 << 20
	// flushEvery is how often it is looked which counts of fetches are due.
	flushEvery = 10 * time.Second
)

// State is how far a location is known.
type State string

// The states.
const (
	Fetching State = "fetching"
	Known    State = "known"
	Failed   State = "failed"
)

// Lead is what is known of a location.
type Lead struct {
	Key      string `json:"key"`                // SHA-256 of the location
	Location string `json:"location,omitempty"` // while it is fetched: it may hold a secret
	Where    string `json:"where"`              // its scheme, host and port
	State    State  `json:"state"`
	Here     int64  `json:"here"`           // bytes that were fetched
	Size     int64  `json:"size,omitempty"` // as its server says; 0: it doesn't
	// SHA256 is of what it led to when it was known last, at FetchedAt.
	SHA256    string        `json:"sha256,omitempty"`
	FetchedAt time.Time     `json:"fetched_at,omitzero"`
	Release   bool          `json:"release,omitempty"` // that was a release's image
	Rule      safehttp.Rule `json:"rule,omitempty"`    // why it failed
	Reason    string        `json:"reason,omitempty"`
	ChangedAt time.Time     `json:"changed_at"`
	// Want is what is taken into the depot, if that is what is there.
	Want *depot.Image `json:"want,omitempty"`
	// ETag and Sum let a fetch go on: SHA-256 in the middle of its work.
	ETag string `json:"etag,omitempty"`
	Sum  []byte `json:"sum,omitempty"`
}

// Underway is the answer to whoever waits no longer for a location.
type Underway struct{ Lead Lead }

func (u *Underway) Error() string {
	if u.Lead.Size > 0 {
		return fmt.Sprintf("it is being fetched, %d of %d bytes are here: ask again", u.Lead.Here, u.Lead.Size)
	}
	return fmt.Sprintf("it is being fetched, %d bytes are here: ask again", u.Lead.Here)
}

// Fault is why a location can't be known.
type Fault struct {
	Rule   safehttp.Rule // "": it leads to another image than is wanted
	Reason string
}

func (f *Fault) Error() string {
	if f.Rule == "" {
		return f.Reason
	}
	return f.Reason + " (rule " + string(f.Rule) + ")"
}

// ErrCrowded says nothing of the location: nothing is noted, so that it is tried again
// when it is asked for.
var ErrCrowded = &Fault{Rule: safehttp.RuleTime, Reason: "too many locations are being fetched: ask again"}

// Store keeps leads. Every write is durable before the method returns.
type Store interface {
	// PutLead keeps one in place of what was known of its location, and drops those whose
	// keys are gone.
	PutLead(ctx context.Context, l Lead, gone []string, events ...ledger.Event) error
	Leads(ctx context.Context) ([]Lead, error)
}

// Config of Origins.
type Config struct {
	Store Store
	Depot *depot.Depot
	// Check says why a location may not be fetched, without fetching it.
	Check func(location string) error
	// Fetch is safehttp.Client.GetOn.
	Fetch func(ctx context.Context, location string, from safehttp.Mark, begin safehttp.Begin) error
	// Known says whether a digest is of a release's image; nil: none is.
	Known func(ctx context.Context, sha256 string) (bool, error)
	// Record keeps counts of fetches; nil: nobody does.
	Record func(ctx context.Context, e ledger.Event) error
	Clock  func() time.Time
	Log    *slog.Logger
}

// Origins is safe for concurrent use. Run does its work.
type Origins struct {
	cfg     Config
	queue   chan string
	fetched *tally.Tally[source]

	mu    sync.Mutex
	leads map[string]*Lead
	ended map[string]chan struct{} // of those that are fetched: closed when they aren't any more
}

// source is what fetches are counted by: a place, and a release that is there. What is
// no release's is counted together.
type source struct{ where, release string }

// New needs Store, Depot, Check and Fetch.
func New(ctx context.Context, cfg Config) (*Origins, error) {
	if cfg.Store == nil || cfg.Depot == nil || cfg.Check == nil || cfg.Fetch == nil {
		return nil, errors.New("origins of firmware need Store, Depot, Check and Fetch")
	}
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Known == nil {
		cfg.Known = func(context.Context, string) (bool, error) { return false, nil }
	}
	if cfg.Record == nil {
		cfg.Record = func(context.Context, ledger.Event) error { return nil }
	}
	o := &Origins{cfg: cfg, fetched: tally.New[source](), queue: make(chan string, atOnce+waiting), leads: map[string]*Lead{}, ended: map[string]chan struct{}{}}
	list, err := cfg.Store.Leads(ctx)
	if err != nil {
		return nil, err
	}
	for _, l := range list {
		if l.State == Fetching { // the server stopped meanwhile
			select {
			case o.queue <- l.Key:
				o.ended[l.Key] = make(chan struct{})
			default:
				l.State, l.Reason = Failed, ErrCrowded.Reason
			}
		}
		o.leads[l.Key] = &l
	}
	return o, nil
}

// Run fetches until ctx ends. What it leaves open goes on with the next start.
func (o *Origins) Run(ctx context.Context) error {
	var workers sync.WaitGroup
	for range atOnce {
		workers.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case key := <-o.queue:
					o.work(ctx, key)
				}
			}
		})
	}
	// It is counted until the last worker has ended.
	counted, end := context.WithCancel(context.WithoutCancel(ctx))
	go func() { workers.Wait(); end() }()
	tally.Run(counted, flushEvery, o.flush)
	return nil
}

// flush records counts of fetches that weren't recorded one by one.
func (o *Origins) flush(ctx context.Context, all bool) {
	o.fetched.Flush(o.cfg.Clock(), all, func(of source, n tally.Count) error {
		err := o.cfg.Record(ctx, ledger.Event{Kind: "firmware.fetched", Subject: of.where, Actor: "bollard", Data: map[string]string{
			"image-sha256": n.Text, "count": fmt.Sprint(n.Count),
		}})
		if err != nil && ctx.Err() == nil {
			o.cfg.Log.Warn("couldn't record how much firmware was fetched; it is tried again", slog.String("from", of.where), slog.Any("err", err))
		}
		return err
	})
}

// List returns what is known, newest first.
func (o *Origins) List() []Lead {
	o.mu.Lock()
	defer o.mu.Unlock()
	list := make([]Lead, 0, len(o.leads))
	for _, l := range o.leads {
		list = append(list, *l)
	}
	slices.SortFunc(list, func(a, b Lead) int { return b.ChangedAt.Compare(a.ChangedAt) })
	return list
}

// Find says what a location leads to. It waits as long as ctx lets it: an Underway
// says that it isn't known by then, a Fault that it can't be. With want, what it
// leads to has to be that image, which is in the depot then.
func (o *Origins) Find(ctx context.Context, location string, want *depot.Image) (Lead, error) {
	return o.find(ctx, location, want, o.cfg.Clock().Add(1-Fresh))
}

// Since is Find where what was known before a time doesn't count.
func (o *Origins) Since(ctx context.Context, location string, since time.Time) (Lead, error) {
	return o.find(ctx, location, nil, since)
}

func (o *Origins) find(ctx context.Context, location string, want *depot.Image, since time.Time) (Lead, error) {
	if err := o.cfg.Check(location); err != nil {
		return Lead{}, faultOf(err)
	}
	for {
		l, ended, err := o.look(ctx, location, want, since)
		if ended == nil {
			return l, err
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return l, &Underway{o.lead(l.Key)}
		}
	}
}

func (o *Origins) lead(key string) Lead {
	o.mu.Lock()
	defer o.mu.Unlock()
	return *o.leads[key]
}

// look says what is known of a location, or begins to fetch it: then ended is closed
// once it isn't fetched any more.
func (o *Origins) look(ctx context.Context, location string, want *depot.Image, since time.Time) (Lead, <-chan struct{}, error) {
	key := hexSum([]byte(location))
	o.mu.Lock()
	defer o.mu.Unlock()
	l := o.leads[key]
	if l == nil {
		l = &Lead{Key: key, Where: where(location)}
	}
	now := o.cfg.Clock()
	age := now.Sub(l.ChangedAt)
	switch {
	case l.State == Fetching:
		return *l, o.ended[key], nil
	case l.State == Failed && age >= 0 && age < again:
		return *l, nil, &Fault{l.Rule, l.Reason}
	case l.State == Known && age >= 0 && !l.ChangedAt.Before(since):
		switch {
		case want == nil:
			return *l, nil, nil
		case want.SHA256 != l.SHA256:
			return *l, nil, &Fault{Reason: "it leads to another image: sha256 " + l.SHA256}
		}
		if _, err := o.cfg.Depot.Has(want.SHA256); err == nil {
			return *l, nil, nil
		}
	}
	next := *l
	next.State, next.Location, next.ChangedAt, next.Want = Fetching, location, now, want
	next.Here, next.Size, next.ETag, next.Sum, next.Rule, next.Reason = 0, 0, "", nil, "", ""
	if len(o.queue) >= waiting {
		return *l, nil, ErrCrowded
	}
	gone := o.victims(key)
	if err := o.cfg.Store.PutLead(ctx, next, gone); err != nil {
		return *l, nil, err
	}
	o.leads[key] = &next
	for _, key := range gone {
		delete(o.leads, key)
	}
	ended := make(chan struct{})
	o.ended[key] = ended
	o.queue <- key // has room: only here is it filled, under mu
	return next, ended, nil
}

// victims are whom a further location takes the place of: the oldest of those that led
// to no release, since a back end may name as many as it likes; then the oldest of the
// release that most lead to. What is fetched stays. The caller holds mu.
func (o *Origins) victims(comes string) (gone []string) {
	if o.leads[comes] != nil {
		return nil
	}
	for n := len(o.leads) + 1; n > kept; n-- {
		of := map[string]int{}
		for key, l := range o.leads {
			if l.Release && !slices.Contains(gone, key) {
				of[l.SHA256]++
			}
		}
		most := 0
		for _, n := range of {
			most = max(most, n)
		}
		rank := func(l *Lead) int {
			switch {
			case !l.Release:
				return 0
			case of[l.SHA256] == most:
				return 1
			}
			return 2
		}
		worst := ""
		for key, l := range o.leads {
			if l.State == Fetching || slices.Contains(gone, key) {
				continue
			}
			if w := o.leads[worst]; w == nil || cmp.Or(cmp.Compare(rank(l), rank(w)), l.ChangedAt.Compare(w.ChangedAt)) < 0 {
				worst = key
			}
		}
		if worst == "" {
			break
		}
		gone = append(gone, worst)
	}
	return gone
}

// work fetches one location, and says so to who waits.
func (o *Origins) work(ctx context.Context, key string) {
	before := o.lead(key)
	sum, err := o.fetch(ctx, key, &before)
	if ctx.Err() != nil {
		return // the next start goes on
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	l := *o.leads[key]
	l.ChangedAt, l.Location, l.ETag, l.Sum, l.Want = o.cfg.Clock(), "", "", nil, nil
	var events []ledger.Event
	var told source // its fetch has an entry of its own
	if err != nil {
		fault := faultOf(err)
		l.State, l.Rule, l.Reason = Failed, fault.Rule, fault.Reason
		o.cfg.Log.Warn("couldn't fetch firmware", slog.String("from", l.Where), slog.Any("err", err))
	}
	if sum != "" {
		if err == nil {
			l.State = Known
		}
		var failed error
		if l.Release, failed = o.cfg.Known(ctx, sum); failed != nil {
			o.cfg.Log.Warn("couldn't look whether what was fetched is a release", slog.Any("err", failed))
		}
		of := source{where: l.Where}
		if l.Release {
			of.release = sum
		}
		if o.fetched.Add(of, sum, l.ChangedAt) {
			events, told = append(events, event("firmware.fetched", &l, sum)), of
		}
		if l.SHA256 != "" && l.SHA256 != sum {
			changed := event("firmware.origin-changed", &l, sum)
			changed.Data["before"], changed.Data["before-at"] = l.SHA256, l.FetchedAt.UTC().Format(time.RFC3339)
			events = append(events, changed)
			o.cfg.Log.Warn("a location leads to other firmware than before", slog.String("from", l.Where), slog.String("before", l.SHA256), slog.String("sha256", sum))
		}
		l.SHA256, l.FetchedAt = sum, l.ChangedAt
	}
	// What isn't on disk is fetched again after a restart; until then it is known.
	if err := o.cfg.Store.PutLead(ctx, l, nil, events...); err != nil {
		if told != (source{}) {
			o.fetched.Back(told, tally.Count{Text: sum, Count: 1})
		}
		if ctx.Err() == nil {
			o.cfg.Log.Error("couldn't record what firmware was fetched", slog.String("from", l.Where), slog.Any("err", err))
		}
	}
	o.leads[key] = &l
	close(o.ended[key])
	delete(o.ended, key)
}

func event(kind string, l *Lead, sum string) ledger.Event {
	return ledger.Event{Kind: kind, Subject: l.Where, Actor: "bollard", Data: map[string]string{
		"location-sha256": l.Key, "image-sha256": sum, "bytes": fmt.Sprint(l.Here),
	}}
}

// fetch returns the SHA-256 of what a location leads to, also beside a Fault that it
// is another one than is wanted.
func (o *Origins) fetch(ctx context.Context, key string, l *Lead) (string, error) {
	if l.Want == nil {
		p := &pull{o: o, key: key, location: l.Location, mark: safehttp.Mark{At: l.Here, ETag: l.ETag}}
		if !p.restore(l.Sum) {
			p.begin()
		}
		err := p.run(ctx)
		if err != nil {
			return "", err
		}
		return hex.EncodeToString(p.sum.Sum(nil)), nil
	}
	// What goes into the depot can't go on with a file of before.
	p := &pull{o: o, key: key, location: l.Location}
	p.begin()
	_, err := o.cfg.Depot.Add(ctx, *l.Want, func(to io.Writer) error {
		p.into = to
		return p.run(ctx)
	})
	sum := ""
	if p.whole {
		sum = hex.EncodeToString(p.sum.Sum(nil))
	}
	switch {
	case errors.Is(err, depot.ErrDigest):
		return sum, &Fault{Reason: "it leads to another image: sha256 " + sum}
	case errors.Is(err, depot.ErrSize):
		return sum, &Fault{Rule: safehttp.RuleSize, Reason: "it leads to another image, or there is no room for it"}
	}
	return sum, err
}

func faultOf(err error) *Fault {
	if fault, ok := errors.AsType[*Fault](err); ok {
		return fault
	}
	if refused, ok := errors.AsType[*safehttp.Error](err); ok {
		return &Fault{refused.Rule, refused.Reason}
	}
	return &Fault{safehttp.RuleHTTP, "it couldn't be kept"}
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
