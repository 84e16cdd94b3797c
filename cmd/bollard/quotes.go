package main

import (
	"cmp"
	"context"
	"fmt"

	"bollard/firmware/quote"
)

// openQuotes judges what stations' TPMs quote.
func (s *server) openQuotes() error {
	var err error
	s.quotes, err = quote.New(quote.Config{
		Store: s.store, Releases: s.releases, Updates: s.updates, May: s.fleet.MayQuote, Keys: s.fleet.AttestationKeys,
		Demand: s.controller.QuotesOf, Demands: s.controller.Quotes, Alarm: s.alerts.Record,
		Station: func(ctx context.Context, key string) (quote.Station, error) {
			st, err := s.store.Station(ctx, key)
			if err != nil {
				return quote.Station{}, err
			}
			plan, err := s.store.Plan(ctx, key)
			return quote.Station{Vendor: st.Vendor, Model: st.Model, Hardware: st.Hardware, Firmware: cmp.Or(s.updates.Ran(key), plan.Firmware)}, err
		},
		Clock: s.clock, CheckClock: s.authority.CheckClock, Log: s.log,
	})
	return err
}

// attests says whether a quote has to end an update of a station: its TPM can show what
// it runs, and it is wanted of it, or was done before. A certified key alone doesn't say
// that its client knows quotes.
func (a *app) attests(ctx context.Context, station string) (bool, error) {
	if a.cfg.Listen.PKI == "" {
		return false, nil
	}
	_, keys, err := a.fleet.AttestationKeys(ctx, station)
	if err != nil || len(keys) == 0 {
		return false, err
	}
	if every, err := a.controller.QuotesOf(ctx, station); err != nil || every > 0 {
		return every > 0, err
	}
	r, err := a.store.Quote(ctx, station)
	return r.Outcome != "", err
}

// quoted is a line about what a station showed.
func quoted(r *quote.Record) string {
	text := "wanted, and none came"
	if !r.At.IsZero() {
		text = fmt.Sprintf("%s %s", when(&r.At), map[quote.Outcome]string{
			quote.Delivered: "runs what was delivered", quote.Unknown: "shows nothing", quote.Wrong: "is WRONG",
		}[r.Outcome])
		if r.Release != "" {
			text += fmt.Sprintf(", release %s (%s)", r.Release, r.Version)
		}
		if r.Reason != "" {
			text += ": " + r.Reason
		}
	}
	if r.Outcome != quote.Delivered && !r.ShownAt.IsZero() {
		text += "; last ran what was delivered at " + when(&r.ShownAt)
	}
	if !r.OverdueAt.IsZero() {
		text += "; OVERDUE"
	}
	return text
}
