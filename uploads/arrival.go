package uploads

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"bollard/internal/extent"
	"bollard/internal/failpoint"
	"bollard/internal/ticket"
)

// arrival is an upload that is coming.
type arrival struct {
	u    *Uploads
	t    ticket.Ticket
	name string
	out  *os.File
	size int64 // once it is kept
	kept bool
}

// receive makes room for an upload and opens a file beside its name.
func (u *Uploads) receive(t ticket.Ticket) (*arrival, error) {
	a := &arrival{u: u, t: t, name: nameOf(t)}
	if err := u.reserve(a.name); err != nil {
		return nil, err
	}
	var err error
	if a.out, err = u.root.OpenFile(a.name+partial, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
		u.release(a.name, 0, false)
		return nil, fmt.Errorf("couldn't write an upload: %w", err)
	}
	return a, nil
}

// keep gives it its name once all of it is on disk, and tells of it.
func (a *arrival) keep(ctx context.Context, size int64, sum string) (File, error) {
	f := File{Name: a.name, Size: size, SHA256: sum}
	if err := errors.Join(a.out.Sync(), a.out.Close()); err != nil {
		return f, fmt.Errorf("couldn't write an upload: %w", err)
	}
	failpoint.Hit("uploads.before-name")
	if err := a.u.root.Rename(a.name+partial, a.name); err != nil {
		return f, fmt.Errorf("couldn't name an upload: %w", err)
	}
	if err := a.u.sync(); err != nil {
		return f, err
	}
	if err := a.u.cfg.Arrived(ctx, a.t, f); err != nil {
		return f, fmt.Errorf("couldn't record an upload: %w", err)
	}
	a.size, a.kept = size, true
	return f, nil
}

// end leaves nothing behind of what wasn't kept.
func (a *arrival) end() {
	if !a.kept {
		_ = a.out.Close() // it is thrown away
		_ = a.u.root.Remove(a.name + partial)
		_ = a.u.root.Remove(a.name)
	}
	a.u.release(a.name, a.size, a.kept)
}

// maxParts bounds the pieces of a parcel with gaps between them.
const maxParts = 1000

// Parcel is an upload that comes in pieces of any order. Close keeps it, if it is
// whole; Drop doesn't, nor does one that comes slower than an upload by HTTP may.
type Parcel struct {
	ctx  context.Context
	u    *Uploads
	from time.Time

	mu    sync.Mutex
	a     *arrival // nil: it is over
	came  extent.Set
	end   int64 // of the last of them
	timer *time.Timer
}

// errOver: a parcel was closed already.
var errOver = errors.New("the upload is over")

// Pass lets a station upload by Bring what URL lets it by HTTP: neither does for the
// other.
func (u *Uploads) Pass(station string, request int64, expires time.Time) (string, error) {
	return u.cfg.Tickets.Issue(ticket.Ticket{Purpose: u.passPurpose(), Station: station, Request: request, Expires: expires})
}

func (u *Uploads) passPurpose() string { return u.cfg.Purpose + "-pass" }

// Holds says whether a text is a pass for an upload, now.
func (u *Uploads) Holds(text string) error {
	_, err := u.cfg.Tickets.Read(text, u.passPurpose(), u.cfg.Clock())
	return err
}

// Bring takes an upload for whoever has its pass and doesn't come by HTTP, one of a
// station at a time. ctx is of the connection it comes over.
func (u *Uploads) Bring(ctx context.Context, pass string) (*Parcel, error) {
	t, err := u.cfg.Tickets.Read(pass, u.passPurpose(), u.cfg.Clock())
	if err != nil {
		return nil, err
	}
	t.Purpose = u.cfg.Purpose // it is the same upload, however it comes
	if !u.begins(t.Station) {
		return nil, errors.New("the station brings another already")
	}
	select {
	case u.desks <- struct{}{}:
	default:
		u.brought(t.Station)
		return nil, errors.New("too many uploads at once")
	}
	a, err := u.receive(t)
	if err != nil {
		<-u.desks
		u.brought(t.Station)
		return nil, err
	}
	p := &Parcel{ctx: ctx, u: u, a: a, from: time.Now()}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = time.AfterFunc(patience, p.late)
	return p, nil
}

func (u *Uploads) begins(station string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.bring[station] {
		return false
	}
	u.bring[station] = true
	return true
}

func (u *Uploads) brought(station string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.bring, station)
}

// WriteAt writes a piece, within the bound.
func (p *Parcel) WriteAt(b []byte, off int64) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.a == nil {
		return 0, errOver
	}
	if off < 0 || off > p.u.cfg.MaxBytes-int64(len(b)) {
		return 0, errors.New("too large")
	}
	if p.came.Parts() > maxParts {
		return 0, errors.New("too many gaps")
	}
	n, err := p.a.out.WriteAt(b, off)
	p.came.Add(off, off+int64(n))
	p.end = max(p.end, off+int64(n))
	return n, err
}

// late throws it away if too little came by now: each holds one of few places.
func (p *Parcel) late() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.a == nil {
		return
	}
	if wait := time.Until(deadline(p.from, p.came.Bytes())); wait > 0 {
		p.timer.Reset(wait)
		return
	}
	p.u.tell(p.a.t, errors.New("it came too slowly"))
	p.over()
}

// Close keeps it: on disk, whole, and told of when it returns nil.
func (p *Parcel) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.a == nil {
		return errOver
	}
	defer p.over()
	if !p.came.Whole(p.end) {
		return errors.New("it came in part only")
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(p.a.out, 0, p.end)); err != nil {
		return fmt.Errorf("couldn't read an upload: %w", err)
	}
	f, err := p.a.keep(p.ctx, p.end, hex.EncodeToString(sum.Sum(nil)))
	if err != nil {
		p.u.tell(p.a.t, err)
		return err
	}
	p.u.arrived(p.a.t, f)
	return nil
}

// Drop throws away what came.
func (p *Parcel) Drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.a != nil {
		p.over()
	}
}

// over ends it. The caller holds mu.
func (p *Parcel) over() {
	p.timer.Stop()
	p.a.end()
	p.u.brought(p.a.t.Station)
	p.a = nil
	<-p.u.desks
}
