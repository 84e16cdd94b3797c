package depot

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"bollard/internal/ticket"
)

// Path begins the URL of every download.
const Path = "/d/"

// purpose is what the capabilities are for.
const purpose = "firmware"

// maxLocation is the longest location OCPP 1.6 and 2.0.1 have.
const maxLocation = 512

// DefaultUses is how many times over a station may take its file: retries, and
// what it fetches again after a lost connection.
const DefaultUses = 8

const (
	// patience is how long a station may take for one chunk, on the average of those
	// that are written at once.
	patience = time.Minute
	// chunk is what is handed to a connection at a time.
	chunk = 32 << 10
	// lookEvery is how often what wasn't told is looked for.
	lookEvery = 10 * time.Second
)

// Grant lets one station take one image for one job, until a time.
type Grant struct {
	Station string
	Job     int64
	SHA256  string
	Expires time.Time
}

// DoorConfig of a Door.
type DoorConfig struct {
	Depot   *Depot
	Base    string // URL stations reach the handler under, such as https://HOST:8445
	Tickets *ticket.Keeper
	// Open is asked before a byte is sent whether the job still wants it; Forget
	// tells that it doesn't while bytes are sent.
	Open func(ctx context.Context, g Grant) bool
	// Served is told what downloads took as they end, also those that broke off: of
	// small ones together, so that their number is bounded. Run tells the rest.
	Served func(ctx context.Context, g Grant, s Span)
	// Bytes a second, of all downloads, of a site's, and of one station's; 0: as
	// fast as it goes.
	Total, PerSite, PerStation int64
	Site                       func(ctx context.Context, station string) string // "": none
	Uses                       int                                              // 0: DefaultUses
	Clock                      func() time.Time
	Log                        *slog.Logger
}

// Door is the handler of Path.
type Door struct {
	cfg    DoorConfig
	total  *rate.Limiter
	shares shares

	mu    sync.Mutex
	tolls map[int64]*toll // by job
	late  []entry         // of jobs that are over, not told yet
}

// entry is what was taken for a job.
type entry struct {
	grant Grant
	span  Span
}

// NewDoor needs Depot, Tickets, Open and Served.
func NewDoor(cfg DoorConfig) (*Door, error) {
	if cfg.Depot == nil || cfg.Tickets == nil || cfg.Open == nil || cfg.Served == nil {
		return nil, errors.New("a door of the depot needs Depot, Tickets, Open and Served")
	}
	if cfg.Uses == 0 {
		cfg.Uses = DefaultUses
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Door{cfg: cfg, total: limiter(cfg.Total), tolls: map[int64]*toll{}}, nil
}

var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

// URL is where a station finds its image. Stations hand it to shells and options
// (EVerest's to curl): it has letters, digits and : / . - _ only.
func (d *Door) URL(g Grant, name string) (string, error) {
	if !digestForm.MatchString(g.SHA256) || !nameForm.MatchString(name) {
		return "", fmt.Errorf("%.80q of %.80q can't stand in a URL", name, g.SHA256)
	}
	text, err := d.cfg.Tickets.For(g.SHA256).Issue(ticket.Ticket{Purpose: purpose, Station: g.Station, Request: g.Job, Expires: g.Expires})
	if err != nil {
		return "", err
	}
	at := strings.TrimSuffix(d.cfg.Base, "/") + Path + g.SHA256 + "/" + text + "/" + name
	if len(at) > maxLocation {
		return "", fmt.Errorf("the URL of a download would have %d characters, and OCPP takes %d: shorten the host name or the identity", len(at), maxLocation)
	}
	return at, nil
}

// Digest of the image that a location of this door leads to, whoever it is for;
// ok is false for every other location.
func (d *Door) Digest(location string) (digest string, ok bool) {
	rest, ok := strings.CutPrefix(location, strings.TrimSuffix(d.cfg.Base, "/")+Path)
	digest, _, _ = strings.Cut(rest, "/")
	return digest, ok && digestForm.MatchString(digest)
}

// ServeHTTP takes GET and HEAD, with at most one range.
func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	digest, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, Path), "/")
	text, _, _ := strings.Cut(rest, "/")
	t, err := d.cfg.Tickets.For(digest).Read(text, purpose, d.cfg.Clock())
	g := Grant{Station: t.Station, Job: t.Request, SHA256: digest, Expires: t.Expires}
	switch {
	case err != nil:
		http.Error(w, "no such file", http.StatusNotFound)
		return
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "use GET", http.StatusMethodNotAllowed)
		return
	}
	file, size, toll, refused := d.admit(r.Context(), g)
	if refused != nil {
		http.Error(w, refused.text, refused.status)
		return
	}
	defer file.Close()
	out := &outlet{ctx: r.Context(), file: file, size: size, toll: toll, control: http.NewResponseController(w)}
	if r.Method == http.MethodGet {
		limits, done := d.limits(r.Context(), g.Station)
		defer done()
		out.limits = limits
		if out.gather = gathering(r.Context()); out.gather != nil {
			defer out.gather.begin()()
		}
	}
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("ETag", `"`+digest+`"`)
	h.Set("Cache-Control", "private, no-transform")
	raw, _ := hex.DecodeString(digest) // its form was checked by its capability
	h.Set("Repr-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(raw)+":")
	if strings.Contains(r.Header.Get("Range"), ",") {
		r.Header.Del("Range") // several at once: RFC 9110 §14.2 lets that be ignored
	}
	at := d.cfg.Clock()
	http.ServeContent(w, r, "", time.Time{}, out)
	if out.sent {
		// The request's context ends with the connection; what was sent was.
		d.tell(context.WithoutCancel(r.Context()), entry{g, toll.took(Span{From: out.from, To: out.at, Bytes: out.at - out.from, Requests: 1, At: at})})
	}
}

// refusal is why an image isn't handed out, as an answer of HTTP.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string { return r.text }

// admit opens the image of a grant, if it may be taken now.
func (d *Door) admit(ctx context.Context, g Grant) (*os.File, int64, *toll, *refusal) {
	toll := d.toll(g) // before Open is asked: who ends the job later ends this, too
	if !d.cfg.Open(ctx, g) {
		if toll.unpaid() {
			d.Forget(g.Job)
		}
		return nil, 0, nil, &refusal{http.StatusGone, "gone"}
	}
	file, size, err := d.cfg.Depot.Open(g.SHA256)
	if err != nil {
		d.cfg.Log.Error("an image can't be given to a station", slog.String("station", g.Station), slog.String("sha256", g.SHA256), slog.Any("err", err))
		return nil, 0, nil, &refusal{http.StatusNotFound, "no such file"}
	}
	if !toll.enter(size) {
		_ = file.Close() // it was only read
		return nil, 0, nil, &refusal{http.StatusForbidden, "taken too often"}
	}
	return file, size, toll, nil
}

// limits of what a station downloads now, until done is called.
func (d *Door) limits(ctx context.Context, station string) (list []*rate.Limiter, done func()) {
	list = []*rate.Limiter{d.total}
	site := ""
	if d.cfg.Site != nil {
		site = d.cfg.Site(ctx, station)
	}
	var taken []string
	for _, s := range []struct {
		key   string
		bytes int64
	}{{"station " + station, d.cfg.PerStation}, {"site " + site, d.cfg.PerSite}} {
		if s.bytes > 0 && s.key != "site " {
			list, taken = append(list, d.shares.take(s.key, s.bytes)), append(taken, s.key)
		}
	}
	return list, func() {
		for _, key := range taken {
			d.shares.give(key)
		}
	}
}

func (d *Door) tell(ctx context.Context, e entry) {
	if e.span.Requests > 0 {
		d.cfg.Served(ctx, e.grant, e.span)
	}
}

// Run tells what downloads took that wasn't told as they ended, until ctx ends.
func (d *Door) Run(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			d.flush(last, true)
			return
		case <-tick.C:
			d.flush(ctx, false)
		}
	}
}

func (d *Door) flush(ctx context.Context, all bool) {
	d.mu.Lock()
	list := d.late
	d.late = nil
	for _, t := range d.tolls {
		list = append(list, entry{t.grant, t.due(all)})
	}
	d.mu.Unlock()
	for _, e := range list {
		d.tell(ctx, e)
	}
}

// Served is what was handed out for a job since the start.
func (d *Door) Served(job int64) Served {
	d.mu.Lock()
	t := d.tolls[job]
	d.mu.Unlock()
	if t == nil {
		return Served{}
	}
	return t.served()
}

// Forget drops what is known of a job that is over; downloads of it break off.
func (d *Door) Forget(job int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if t := d.tolls[job]; t != nil {
		if e := (entry{t.grant, t.end()}); e.span.Requests > 0 {
			d.late = append(d.late, e)
		}
	}
	delete(d.tolls, job)
}

func (d *Door) toll(g Grant) *toll {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.tolls[g.Job]
	if t == nil {
		t = &toll{clock: d.cfg.Clock, grant: g, uses: d.cfg.Uses}
		d.tolls[g.Job] = t
	}
	return t
}

// errOver breaks off a download.
var errOver = errors.New("the update is over, or its image was taken too often")

// outlet is a file as http.ServeContent reads it: at a pace, and noted before it
// is handed to the connection, so that a station never has more than is known.
type outlet struct {
	ctx     context.Context
	file    io.ReadSeeker
	size    int64
	toll    *toll
	control *http.ResponseController
	limits  []*rate.Limiter
	gather  *gathered // nil: what is written is sent at once

	from, at int64
	sent     bool
	set      time.Time // when the deadline was
}

func (o *outlet) Seek(offset int64, whence int) (int64, error) {
	at, err := o.file.Seek(offset, whence)
	if !o.sent {
		o.from, o.at = at, at
	}
	return at, err
}

func (o *outlet) Read(p []byte) (int, error) {
	n, err := o.file.Read(p[:min(len(p), chunk)])
	if n > 0 {
		if err := o.wait(n); err != nil {
			return 0, err
		}
		if !o.toll.pay(o.at, o.at+int64(n), o.size) {
			return 0, errOver
		}
		o.at += int64(n)
		o.sent = true
		if now := time.Now(); now.Sub(o.set) >= time.Second {
			until := now.Add(patience)
			if o.gather != nil {
				until = now.Add(patience * (gatherSize / chunk))
			}
			_ = o.control.SetWriteDeadline(until) // fails only where there is none to set
			o.set = now
		}
	}
	return n, err
}

// wait until n bytes are within the limits. What is kept leaves first: a station that
// gets little at a time shall see it come.
func (o *outlet) wait(n int) error {
	for _, l := range o.limits {
		if l.AllowN(time.Now(), n) {
			continue
		}
		if o.gather != nil {
			o.gather.flush()
		}
		if err := l.WaitN(o.ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// limiter of so many bytes a second, at least a chunk at a time.
func limiter(bytes int64) *rate.Limiter {
	if bytes <= 0 {
		return rate.NewLimiter(rate.Inf, 0)
	}
	return rate.NewLimiter(rate.Limit(bytes), chunk)
}

// shares are the limiters of what is downloading now.
type shares struct {
	mu  sync.Mutex
	all map[string]*share
}

type share struct {
	*rate.Limiter
	users int
}

func (s *shares) take(key string, bytes int64) *rate.Limiter {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[string]*share{}
	}
	one := s.all[key]
	if one == nil {
		one = &share{Limiter: limiter(bytes)}
		s.all[key] = one
	}
	one.users++
	return one.Limiter
}

func (s *shares) give(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if one := s.all[key]; one != nil {
		if one.users--; one.users == 0 {
			delete(s.all, key)
		}
	}
}
