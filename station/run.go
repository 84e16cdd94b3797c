package station

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"bollard/ocpp"
)

// Run lives the life of a station until ctx ends or the station is closed:
// connect, boot when it has to, send heartbeats, and connect again whenever
// the connection ends; at once when the station itself ended it, with the
// standard's back-off otherwise.
func (s *Station) Run(ctx context.Context) error {
	if s.cfg.TPM != nil && s.cfg.PKI != "" {
		s.background(s.keepShowing)
	}
	failures := 0
	for {
		if err := s.Connect(ctx); err == nil {
			failures = 0
			if l := s.live(); l != nil {
				s.attend(ctx, l)
				<-l.done
			}
		} else {
			failures++
			s.cfg.Log.Debug("couldn't connect", "station", s.cfg.Identity, "err", err)
		}
		s.mu.Lock()
		own := s.why != ""
		s.why = ""
		s.mu.Unlock()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if s.ctx.Err() != nil {
			return errors.New("station closed")
		}
		if own && failures == 0 {
			continue
		}
		s.pause(ctx, s.backOff().wait(max(failures-1, 0), rand.Float64()))
	}
}

// attend boots and keeps the heart beating until the link or ctx ends.
func (s *Station) attend(ctx context.Context, l *link) {
	both, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.ctx, cancel)() //nolint:contextcheck // joins the link's life to the caller's

	for {
		s.mu.Lock()
		needed := s.boot != ""
		s.mu.Unlock()
		if !needed {
			break
		}
		status, interval, err := s.bootOnce(both)
		if err == nil && status == accepted {
			break
		}
		if interval <= 0 {
			interval = s.backOff().Minimum // the station chooses (B02, B03)
		}
		if both.Err() != nil || !s.pause(both, interval) {
			break
		}
	}
	for both.Err() == nil {
		s.mu.Lock()
		interval := s.set.heartbeat
		s.mu.Unlock()
		if interval <= 0 {
			interval = 24 * time.Hour // one a day at least, for the clock
		}
		if s.pause(both, interval) {
			_, _ = s.Call(both, "Heartbeat", struct{}{}) // a lost one shows as a lost link
		}
	}
	if ctx.Err() != nil || s.ctx.Err() != nil {
		s.drop("stopped")
	}
}

// Statuses that several messages share.
const (
	accepted = "Accepted"
	pending  = "Pending"
	rejected = "Rejected"
)

// Boot sends one BootNotification and returns its status.
func (s *Station) Boot(ctx context.Context) (status string, err error) {
	status, _, err = s.bootOnce(ctx)
	return status, err
}

func (s *Station) bootOnce(ctx context.Context) (status string, interval time.Duration, err error) {
	var answer struct {
		Status   string `json:"status"`
		Interval int    `json:"interval"`
	}
	if err := s.ask(ctx, "BootNotification", s.bootNotification(), &answer); err != nil {
		return "", 0, err
	}
	interval = time.Duration(answer.Interval) * time.Second
	s.update(func() {
		s.state.Registration = answer.Status
		if answer.Status == accepted {
			s.boot = ""
			if interval > 0 {
				s.set.heartbeat = interval
			}
		}
	})
	if answer.Status == accepted {
		select {
		case s.booted <- struct{}{}:
		default:
		}
	}
	if l := s.live(); l != nil {
		s.flushEvents(l)
	}
	return answer.Status, interval, nil
}

func (s *Station) bootNotification() any {
	dev := s.deviations()
	serial := s.cfg.Serial
	if dev.BootSerial != "" {
		serial = dev.BootSerial
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.Version == ocpp.V16 {
		return object{
			"chargePointVendor":       s.cfg.Vendor,
			"chargePointModel":        s.cfg.Model,
			"chargePointSerialNumber": serial,
			"firmwareVersion":         s.firmware,
		}
	}
	reason := s.boot
	if reason == "" {
		reason = "Triggered"
	}
	return object{
		"reason": reason,
		"chargingStation": object{
			"vendorName":      s.cfg.Vendor,
			"model":           s.cfg.Model,
			"serialNumber":    serial,
			"firmwareVersion": s.firmware,
		},
	}
}

// object is a JSON object of a message.
type object = map[string]any

// ask is Call with the answer decoded.
func (s *Station) ask(ctx context.Context, action string, payload, answer any) error {
	raw, err := s.Call(ctx, action, payload)
	if err != nil {
		return fmt.Errorf("%s: %w", action, err)
	}
	return decodeAnswer(action, raw, answer)
}
