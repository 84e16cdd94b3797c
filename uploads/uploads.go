// Package uploads takes files that stations were asked to send, such as their
// security logs.
//
// It promises that an upload is kept whole or not at all, once for each ticket,
// on disk before it is answered; that nobody without a ticket costs more than
// the reading of a request's head; and that uploads are bounded: each, how many
// at once, and all together.
package uploads

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"bollard/internal/ticket"
)

// Path begins the URL of every upload.
const Path = "/uploads/"

const (
	atOnce = 16
	// slowest is what an upload must bring, at least: a connection that drips
	// holds one of few places.
	slowest = 1 << 10 // bytes a second, after the first patience
	// patience is for the start, and for stations that pause.
	patience = 30 * time.Second
	partial  = ".part" // suffix of what isn't whole yet
)

// File is an upload that has arrived.
type File struct {
	Name   string // below Config.Dir
	Size   int64
	SHA256 string // lower-case hex
}

// Config of Uploads.
type Config struct {
	Dir     string // of the files; made, 0700, if it isn't there
	Base    string // URL stations reach the handler under, such as https://HOST:8445
	Purpose string // of the tickets taken here
	Tickets *ticket.Keeper
	// MaxBytes bounds one upload, MaxTotal all files together.
	MaxBytes, MaxTotal int64
	// Arrived is told of an upload that is whole and on disk, before the station
	// is: its error refuses the upload, and the file goes.
	Arrived func(ctx context.Context, t ticket.Ticket, f File) error
	Clock   func() time.Time
	Log     *slog.Logger
}

// Uploads is the handler of Path.
type Uploads struct {
	cfg   Config
	root  *os.Root
	desks chan struct{} // a token for each upload that runs

	mu    sync.Mutex
	total int64           // of all files
	busy  map[string]bool // names being written
	bring map[string]bool // stations that bring something
}

// New opens the folder and removes what isn't whole.
func New(cfg Config) (*Uploads, error) {
	if cfg.Tickets == nil || cfg.Arrived == nil || cfg.Purpose == "" || cfg.MaxBytes <= 0 || cfg.MaxTotal <= 0 {
		return nil, errors.New("uploads need Tickets, Arrived, Purpose, MaxBytes and MaxTotal")
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("couldn't make the folder of uploads: %w", err)
	}
	root, err := os.OpenRoot(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("couldn't open the folder of uploads: %w", err)
	}
	return &Uploads{cfg: cfg, root: root, desks: make(chan struct{}, atOnce), busy: map[string]bool{}, bring: map[string]bool{}}, nil
}

// URL is where a station may upload, once, what belongs to a request.
func (u *Uploads) URL(station string, request int64, expires time.Time) (string, error) {
	text, err := u.cfg.Tickets.Issue(ticket.Ticket{Purpose: u.cfg.Purpose, Station: station, Request: request, Expires: expires})
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(u.cfg.Base, "/") + Path + text, nil
}

// ServeHTTP takes PUT and POST (N01.FR.18). A station may have appended a file
// name to the URL (N01.FR.21); it names nothing here.
func (u *Uploads) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Connection", "close")
	text, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, Path), "/")
	t, err := u.cfg.Tickets.Read(text, u.cfg.Purpose, u.cfg.Clock())
	switch {
	case err != nil:
		http.Error(w, "no such upload", http.StatusNotFound)
		return
	case r.Method != http.MethodPut && r.Method != http.MethodPost:
		w.Header().Set("Allow", "PUT, POST")
		http.Error(w, "use PUT or POST", http.StatusMethodNotAllowed)
		return
	case r.Header.Get("Content-Range") != "":
		http.Error(w, "send it in one piece", http.StatusBadRequest)
		return
	case r.ContentLength > u.cfg.MaxBytes:
		http.Error(w, "too large", http.StatusRequestEntityTooLarge)
		return
	}
	select {
	case u.desks <- struct{}{}:
		defer func() { <-u.desks }()
	default:
		w.Header().Set("Retry-After", "30")
		http.Error(w, "busy", http.StatusServiceUnavailable)
		return
	}
	f, err := u.take(w, r, t)
	if err != nil {
		u.refuse(w, t, err)
		return
	}
	u.arrived(t, f)
	w.WriteHeader(http.StatusCreated)
}

func (u *Uploads) arrived(t ticket.Ticket, f File) {
	u.cfg.Log.Info("upload received", slog.String("station", t.Station), slog.Int64("request", t.Request), slog.Int64("bytes", f.Size))
}

func (u *Uploads) tell(t ticket.Ticket, err error) {
	u.cfg.Log.Warn("an upload was not kept", slog.String("station", t.Station), slog.Int64("request", t.Request), slog.Any("err", err))
}

// fault is an error with the status the station is told.
type fault struct {
	status int
	text   string
}

func (f *fault) Error() string { return f.text }

func (u *Uploads) refuse(w http.ResponseWriter, t ticket.Ticket, err error) {
	u.tell(t, err)
	var told *fault
	if errors.As(err, &told) {
		http.Error(w, told.text, told.status)
		return
	}
	http.Error(w, "couldn't keep it", http.StatusInternalServerError)
}

// take writes the body beside its name, and gives it the name once all of it is
// on disk.
func (u *Uploads) take(w http.ResponseWriter, r *http.Request, t ticket.Ticket) (File, error) {
	a, err := u.receive(t)
	if err != nil {
		return File{}, err
	}
	defer a.end()
	sum := sha256.New()
	body := &paced{r: http.MaxBytesReader(w, r.Body, u.cfg.MaxBytes), control: http.NewResponseController(w), from: time.Now()}
	size, err := io.Copy(io.MultiWriter(a.out, sum), body)
	var long *http.MaxBytesError
	switch {
	case errors.As(err, &long):
		return File{}, &fault{http.StatusRequestEntityTooLarge, "too large"}
	case err != nil:
		return File{}, fmt.Errorf("it came in part only: %w", err)
	}
	return a.keep(r.Context(), size, hex.EncodeToString(sum.Sum(nil)))
}

// reserve takes a name for one upload, if there is room.
func (u *Uploads) reserve(name string) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.busy[name] {
		return &fault{http.StatusConflict, "it is being sent already"}
	}
	if _, err := u.root.Stat(name); err == nil {
		return &fault{http.StatusConflict, "it is here already"}
	}
	if u.total+u.cfg.MaxBytes > u.cfg.MaxTotal {
		return &fault{http.StatusInsufficientStorage, "no room"}
	}
	u.busy[name] = true
	u.total += u.cfg.MaxBytes // as much as it may become
	return nil
}

func (u *Uploads) release(name string, size int64, kept bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.busy, name)
	u.total -= u.cfg.MaxBytes
	if kept {
		u.total += size
	}
}

// nameOf is the name of a ticket's file: nothing of a station's choice.
func nameOf(t ticket.Ticket) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %d", t.Purpose, t.Station, t.Request))
	return t.Purpose + "-" + hex.EncodeToString(sum[:16])
}

// sync makes names durable.
func (u *Uploads) sync() error {
	d, err := u.root.Open(".")
	if err != nil {
		return fmt.Errorf("couldn't sync the folder of uploads: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("couldn't sync the folder of uploads: %w", err)
	}
	return nil
}

// Sweep removes the files nobody knows of, but for those being written, and counts the
// others. known is asked once it was looked what there is: an upload that arrives
// meanwhile is no leftover.
func (u *Uploads) Sweep(known func() (map[string]bool, error)) error {
	before, err := u.idle()
	if err != nil {
		return err
	}
	keep, err := known()
	if err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	now, err := u.idleLocked()
	if err != nil {
		return err
	}
	total := int64(len(u.busy)) * u.cfg.MaxBytes
	for name, size := range now {
		if _, there := before[name]; !there || keep[name] {
			total += size
			continue
		}
		if err := u.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("couldn't remove a former upload: %w", err)
		}
	}
	u.total = total
	return nil
}

func (u *Uploads) idle() (map[string]int64, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.idleLocked()
}

// idleLocked are the files that aren't being written, with their sizes. The caller holds mu.
func (u *Uploads) idleLocked() (map[string]int64, error) {
	entries, err := fs.ReadDir(u.root.FS(), ".")
	if err != nil {
		return nil, fmt.Errorf("couldn't look at the uploads: %w", err)
	}
	list := map[string]int64{}
	for _, e := range entries {
		name := path.Base(e.Name())
		if u.busy[strings.TrimSuffix(name, partial)] {
			continue
		}
		list[name] = 0
		if info, err := e.Info(); err == nil {
			list[name] = info.Size()
		}
	}
	return list, nil
}

// Open reads the file of an upload that arrived.
func (u *Uploads) Open(name string) (*os.File, error) { return u.root.Open(name) }

// Close closes the folder.
func (u *Uploads) Close() error { return u.root.Close() }

// paced reads a body that must come at a pace.
type paced struct {
	r       io.Reader
	control *http.ResponseController
	from    time.Time
	n       int64
}

func (p *paced) Read(b []byte) (int, error) {
	// Setting a deadline fails only where there is none to set.
	_ = p.control.SetReadDeadline(deadline(p.from, p.n))
	n, err := p.r.Read(b)
	p.n += int64(n)
	return n, err
}

// deadline is how long an upload has for more, of which so much came.
func deadline(from time.Time, came int64) time.Time {
	return from.Add(patience + time.Duration(came/slowest)*time.Second)
}
