package origin

import (
	"context"
	"crypto/sha256"
	"encoding"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"net/url"
	"time"

	"bollard/internal/safehttp"
)

// pull is one fetch, over as many connections as it takes.
type pull struct {
	o        *Origins
	key      string
	location string
	into     io.Writer // beside the sum, or nil

	mark  safehttp.Mark
	sum   hash.Hash
	size  int64
	noted int64 // bytes that were here when it was recorded last
	whole bool
	full  error // of into: it takes no more
}

// Causes of an end that the wire didn't make.
var (
	errSlow    = &Fault{Rule: safehttp.RuleTime, Reason: "it comes too slowly"}
	errChanged = &Fault{Rule: safehttp.RuleRange, Reason: "it changed while it was fetched"}
)

// begin begins with nothing.
func (p *pull) begin() { p.mark, p.sum, p.noted = safehttp.Mark{}, sha256.New(), 0 }

// restore goes on from what was recorded.
func (p *pull) restore(sum []byte) bool {
	p.sum, p.noted = sha256.New(), p.mark.At
	state, ok := p.sum.(encoding.BinaryUnmarshaler)
	return ok && len(sum) > 0 && p.mark.ETag != "" && state.UnmarshalBinary(sum) == nil
}

// run fetches all of it. Who gave more bytes before it broke off is asked for the
// rest; who didn't isn't asked again.
func (p *pull) run(ctx context.Context) error {
	for n := 1; ; n++ {
		before := p.mark.At
		err := p.once(ctx)
		switch {
		case err == nil:
			p.whole = true
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case p.full != nil:
			return p.full
		case n == tries || p.mark.At <= before || !broken(err):
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// broken: the line was, and what was there may be there still.
func broken(err error) bool {
	refused, ok := errors.AsType[*safehttp.Error](err)
	return ok && (refused.Rule == safehttp.RuleHTTP || refused.Rule == safehttp.RuleTime)
}

// once is one connection.
func (p *pull) once(ctx context.Context) error {
	limited, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	idle := time.AfterFunc(patience, func() { cancel(errSlow) })
	defer idle.Stop()
	began, came := time.Now(), int64(0)
	err := p.o.cfg.Fetch(limited, p.location, p.mark, func(at safehttp.Mark, size int64) (io.Writer, error) {
		if at.At == 0 && p.mark.At > 0 {
			if p.into != nil {
				return nil, errChanged // what was written can't be taken back
			}
			p.begin()
		}
		p.mark.ETag, p.size = at.ETag, max(size, 0)
		return writer(func(b []byte) (int, error) {
			idle.Reset(patience)
			if came += int64(len(b)); time.Since(began) > patience && came < slowest*int64(time.Since(began)/time.Second) {
				return 0, errSlow
			}
			return p.take(ctx, b)
		}), nil
	})
	if errors.Is(context.Cause(limited), errSlow) || errors.Is(err, errSlow) {
		return errSlow
	}
	return err
}

// take keeps bytes that came, and records how far it is, now and then.
func (p *pull) take(ctx context.Context, b []byte) (int, error) {
	if p.into != nil {
		if n, err := p.into.Write(b); err != nil {
			p.full = err
			return n, err
		}
	}
	_, _ = p.sum.Write(b) // a hash takes everything
	p.mark.At += int64(len(b))
	p.o.mu.Lock()
	defer p.o.mu.Unlock()
	l := *p.o.leads[p.key]
	l.Here, l.Size = p.mark.At, p.size
	if p.mark.At-p.noted >= noteEvery {
		p.noted = p.mark.At
		state, ok := p.sum.(encoding.BinaryMarshaler)
		if !ok {
			return 0, errors.New("internal error: SHA-256 can't be kept half done")
		}
		var err error
		if l.Sum, err = state.MarshalBinary(); err != nil {
			return 0, fmt.Errorf("couldn't keep how far a fetch is: %w", err)
		}
		l.ETag = p.mark.ETag
		if err := p.o.cfg.Store.PutLead(ctx, l, nil); err != nil {
			p.o.cfg.Log.Warn("couldn't record how far a fetch is", slog.String("from", l.Where), slog.Any("err", err))
		}
	}
	p.o.leads[p.key] = &l
	return len(b), nil
}

// writer is a function that is one.
type writer func(b []byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

// where is what people may see of a location: no path and no query, which may be
// secret.
func where(location string) string {
	u, err := url.Parse(location)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}
