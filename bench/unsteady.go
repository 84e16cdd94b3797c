package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"bollard/e2e/rawws"
)

// How often a line breaks: once in so many messages, on either side.
const (
	stationBreaks = 1000
	backendBreaks = 4000
)

// receipts are what the back end of a soak got of each station.
type receipts struct {
	mu     sync.Mutex
	newest map[int]receipt
	lines  int    // so far
	wrong  string // the first thing that was
}

// receipt is a station's newest message and the line it came over.
type receipt struct{ n, line int }

// take holds that each message follows the one before, or is that one again
// because its answer got lost. A line that is dead may still deliver what the
// next one delivered meanwhile.
func (r *receipts) take(station, n, line int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last, known := r.newest[station]
	if !known {
		last.n = -1
	}
	switch {
	case n == last.n+1, n == last.n && line >= last.line:
		r.newest[station] = receipt{n, max(line, last.line)}
	case n <= last.n && line < last.line:
	case r.wrong == "":
		r.wrong = fmt.Sprintf("message %d of station %d came after message %d", n, station, last.n)
	}
}

// stats counts each message once.
func (r *receipts) stats() backendStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := backendStats{Wrong: r.wrong}
	for _, last := range r.newest {
		s.Messages += int64(last.n) + 1
	}
	return s
}

// serveUnsteady is the back end of a soak: it breaks lines itself.
func serveUnsteady(stdin io.Reader, stdout io.Writer) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("couldn't listen: %w", err)
	}
	got := &receipts{newest: map[int]receipt{}}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				err := got.serve(conn)
				if unexpected(err) {
					got.mu.Lock()
					defer got.mu.Unlock()
					got.wrong = err.Error()
				}
			}()
		}
	}()
	enc := json.NewEncoder(stdout)
	err = enc.Encode(backendStats{Address: ln.Addr().String()})
	lines := bufio.NewScanner(stdin)
	for err == nil && lines.Scan() {
		err = enc.Encode(got.stats())
	}
	return err
}

func (r *receipts) serve(conn net.Conn) error {
	c, _, err := rawws.Server(conn, func(*http.Request) (string, int) { return "ocpp1.6", http.StatusSwitchingProtocols })
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.lines++
	line := r.lines
	r.mu.Unlock()
	var out []byte
	for {
		msg, err := c.ReadMessage()
		if err != nil {
			return err
		}
		out, err = response(out, msg)
		if err != nil {
			return fmt.Errorf("%w: %.60q", err, msg)
		}
		station, n, err := numbers(msg)
		if err != nil {
			return err
		}
		r.take(station, n, line)
		if rand.IntN(backendBreaks) == 0 {
			return nil
		}
		err = c.WriteText(out)
		if err != nil {
			return err
		}
	}
}

// numbers reads station and message number out of a request's id.
func numbers(msg []byte) (station, n int, err error) {
	id := callID(msg)
	left, right, _ := bytes.Cut([]byte(id), []byte{'-'})
	station, err = strconv.Atoi(string(left))
	if err == nil {
		n, err = strconv.Atoi(string(right))
	}
	if err != nil {
		return 0, 0, fmt.Errorf("a message with the id %q", id)
	}
	return station, n, nil
}

// soak lets stations talk at a fixed rate in all, for so long, whatever becomes
// of their lines: each breaks its own at random places and comes back, and
// sends what got no answer again. Counted is what was answered.
func (g *generator) soak(o order) (outcome, error) {
	err := g.inRange(o)
	if err != nil || o.Rate < 1 {
		return outcome{}, errors.Join(err, failIf(o.Rate < 1, "no rate"))
	}
	if g.reached == nil {
		g.reached = make([]int, len(g.known))
	}
	period := time.Duration(o.Count) * time.Second / time.Duration(o.Rate)
	began := time.Now()
	end := began.Add(time.Duration(o.Seconds * float64(time.Second)))
	var answered, broken atomic.Int64
	err = each(o.From, o.Count, o.Count, func(ctx context.Context, i int) error {
		v := visitor{g: g, number: i, order: o}
		defer v.leave()
		first := g.reached[i]
		at := began.Add(period * time.Duration(i-o.From) / time.Duration(o.Count))
		for ; at.Before(end) && ctx.Err() == nil; at = at.Add(period) {
			if late := time.Since(at); late > time.Second {
				at = at.Add(late) // what a break cost isn't made up for by a burst
			}
			time.Sleep(time.Until(at))
			err := v.deliver(ctx, g.reached[i])
			if err != nil {
				return fmt.Errorf("station %s, message %d: %w", g.known[i].Identity, g.reached[i], err)
			}
			g.reached[i]++
		}
		answered.Add(int64(g.reached[i] - first))
		broken.Add(int64(v.broken))
		return nil
	})
	return outcome{Count: int(answered.Load()), Broken: int(broken.Load())}, err
}

// visitor is a station that comes back.
type visitor struct {
	g      *generator
	number int
	order  order
	line   *station // nil: none
	broken int
}

func (v *visitor) leave() {
	if v.line != nil {
		v.line.close()
		v.line = nil
	}
}

// snap ends the line without a word.
func (v *visitor) snap() {
	_ = v.line.conn.Net.Close()
	v.line = nil
	v.broken++
}

// deliver repeats a message until it is answered. A wrong answer is an error.
func (v *visitor) deliver(ctx context.Context, n int) error {
	for deadline := time.Now().Add(ioTimeout); ; {
		err := v.connect(ctx, deadline)
		if err != nil {
			return err
		}
		v.line.sent = n
		if rand.IntN(stationBreaks) == 0 {
			v.breakOff(n)
			continue
		}
		_, err = v.line.roundTrip()
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errWrongBytes):
			return err
		case time.Now().After(deadline):
			return fmt.Errorf("not answered for %s: %w", ioTimeout, err)
		}
		v.snap() // the other side broke it
	}
}

// breakOff ends the line before, in the middle of, or after a message.
func (v *visitor) breakOff(n int) {
	msg := request(nil, v.number, n)
	switch rand.IntN(3) {
	case 1:
		_ = v.line.conn.WriteFrame(rawws.Frame{Op: rawws.Text, Payload: msg[:len(msg)/2]}) // the rest never comes
	case 2:
		_ = v.line.conn.WriteText(msg)
	}
	v.snap()
}

// connect comes back. The server may take its time to see that the old line is
// dead: a station tries again.
func (v *visitor) connect(ctx context.Context, deadline time.Time) error {
	for v.line == nil {
		s, err := dial(ctx, v.number, &v.g.known[v.number], v.order.manner, v.order.Address, v.g.roots)
		if err == nil {
			v.line = s
			return nil
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			return errors.Join(err, context.Cause(ctx))
		}
		time.Sleep(time.Duration(50+rand.IntN(100)) * time.Millisecond)
	}
	return nil
}
