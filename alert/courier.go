package alert

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"bollard/internal/failpoint"
)

const (
	alertBatch    = 32
	sendPatience  = 15 * time.Second
	retryFirst    = time.Second // doubling up to retryMost, with jitter
	retryMost     = 5 * time.Minute
	refusedTries  = 5 // refusals before an alert is given up: those behind it must not wait for ever
	lookEvery     = time.Minute
	complainEvery = time.Hour
)

// courier delivers one receiver's queue, in order. Its fields belong to the
// goroutine of run.
type courier struct {
	s        *Service
	receiver Receiver
	bell     chan struct{} // has room for one

	failures   int // in a row
	complained time.Time
}

func newCourier(s *Service, r Receiver) *courier {
	return &courier{s: s, receiver: r, bell: make(chan struct{}, 1)}
}

// wake tells that there may be something to deliver.
func (c *courier) wake() {
	select {
	case c.bell <- struct{}{}:
	default:
	}
}

func (c *courier) run(ctx context.Context) {
	for ctx.Err() == nil {
		pause := time.Duration(0)
		if err := c.deliverAll(ctx); err != nil && ctx.Err() == nil {
			c.complain(err)
			c.failures++
			pause = delay(c.failures)
		}
		c.wait(ctx, pause)
	}
}

// wait waits for new alerts, or, after a failure, for the pause alone.
func (c *courier) wait(ctx context.Context, pause time.Duration) {
	bell := c.bell
	if pause > 0 {
		bell = nil
	} else {
		pause = lookEvery
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-bell:
	}
}

// delay is how long to wait after failures in a row.
func delay(failures int) time.Duration {
	d := min(retryFirst<<min(failures-1, 20), retryMost)
	return d + rand.N(d/4)
}

// deliverAll hands over alerts until none waits.
func (c *courier) deliverAll(ctx context.Context) error {
	for {
		list, err := c.s.cfg.Store.Alerts(ctx, c.receiver.Name(), alertBatch)
		if err != nil || len(list) == 0 {
			return err
		}
		for _, a := range list {
			if err := c.deliver(ctx, a); err != nil {
				return err
			}
			c.failures = 0
		}
	}
}

// deliver sends one alert. It leaves the queue after the receiver has it, so
// that it arrives at least once.
func (c *courier) deliver(ctx context.Context, a Alert) error {
	sending, cancel := context.WithTimeout(ctx, sendPatience)
	defer cancel()
	failpoint.Hit("alert.before-send")
	err := c.receiver.Send(sending, a)
	failpoint.Hit("alert.after-send")
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if c.s.cfg.Observer != nil {
		c.s.cfg.Observer.Delivered(c.receiver.Name(), err)
	}
	switch {
	case err == nil:
		return c.s.cfg.Store.RemoveAlert(ctx, a.ID)
	case !errors.Is(err, ErrRefused):
		return err
	case a.Tries+1 < refusedTries:
		return errors.Join(err, c.s.cfg.Store.TriedAlert(ctx, a.ID))
	}
	c.s.log.Warn("an alert was given up: its receiver keeps refusing it", slog.String("receiver", c.receiver.Name()), slog.Any("err", err))
	return c.s.cfg.Store.LoseAlert(ctx, a.ID)
}

// complain logs a failure, the first in a row and then once in a while.
func (c *courier) complain(err error) {
	now := c.s.cfg.Clock()
	if c.failures > 0 && now.Sub(c.complained) < complainEvery {
		return
	}
	c.complained = now
	c.s.log.Error("couldn't deliver an alert; it waits", slog.String("receiver", c.receiver.Name()), slog.Any("err", err))
}
