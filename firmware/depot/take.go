package depot

import (
	"context"
	"os"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"bollard/internal/ticket"
)

// passPurpose is what the passwords are for: none is a capability of a URL, nor the
// other way round.
const passPurpose = "firmware-pass"

// Pass is a password that does what a URL does, for who downloads otherwise: for one
// station and one update, until a time.
func (d *Door) Pass(g Grant) (string, error) {
	return d.cfg.Tickets.Issue(ticket.Ticket{Purpose: passPurpose, Station: g.Station, Request: g.Job, Expires: g.Expires})
}

// Holder is whose a password is; the image is its update's.
func (d *Door) Holder(pass string) (Grant, error) {
	t, err := d.cfg.Tickets.Read(pass, passPurpose, d.cfg.Clock())
	return Grant{Station: t.Station, Job: t.Request, Expires: t.Expires}, err
}

// Take opens the image of a grant for reading, in pieces of any order, at the pace and
// within the bounds of downloads by URL. It is one download, told when it is closed.
func (d *Door) Take(ctx context.Context, g Grant) (*Taking, error) {
	file, size, toll, refused := d.admit(ctx, g)
	if refused != nil {
		return nil, refused
	}
	limits, done := d.limits(ctx, g.Station)
	return &Taking{Size: size, ctx: ctx, door: d, grant: g, file: file, toll: toll, limits: limits, done: done, at: d.cfg.Clock()}, nil
}

// Taking is an image that is being read. It is safe for concurrent use.
type Taking struct {
	Size int64

	ctx    context.Context
	door   *Door
	grant  Grant
	file   *os.File
	toll   *toll
	limits []*rate.Limiter
	done   func()
	at     time.Time

	mu   sync.Mutex
	span Span
}

// ReadAt reads as an outlet does: noted before it is handed out. Each call counts as
// a request by URL does.
func (t *Taking) ReadAt(p []byte, off int64) (int, error) {
	if !t.toll.enter(t.Size) {
		return 0, errOver
	}
	read := 0
	for read < len(p) {
		n, err := t.file.ReadAt(p[read:min(len(p), read+chunk)], off+int64(read))
		if n > 0 {
			for _, l := range t.limits {
				if err := l.WaitN(t.ctx, n); err != nil {
					return read, err
				}
			}
			if from := off + int64(read); !t.pay(from, from+int64(n)) {
				return read, errOver
			}
			read += n
		}
		if err != nil {
			return read, err
		}
	}
	return read, nil
}

func (t *Taking) pay(from, to int64) bool {
	if !t.toll.pay(from, to, t.Size) {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.span.Requests == 0 {
		t.span = Span{From: from, To: to, Requests: 1, At: t.at}
	}
	t.span.From, t.span.To, t.span.Bytes = min(t.span.From, from), max(t.span.To, to), t.span.Bytes+to-from
	return true
}

// Close ends the download and tells of it.
func (t *Taking) Close() error {
	t.done()
	t.mu.Lock()
	span := t.span
	t.mu.Unlock()
	if span.Requests > 0 {
		t.door.tell(context.WithoutCancel(t.ctx), entry{t.grant, t.toll.took(span)})
	}
	return t.file.Close()
}
