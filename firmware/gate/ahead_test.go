package gate_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"bollard/firmware/gate"
	"bollard/firmware/job"
	"bollard/ledger"
	"bollard/ocpp"
)

const year = 365 * 24 * time.Hour

// An update that a clock began which was a year ahead waits for its station no longer than
// another one once that is set right: while the server runs, and when it starts.
func TestAfterAClockThatWasAhead(t *testing.T) {
	t.Parallel()
	for _, restarted := range []bool{false, true} {
		h := newHub(t)
		look := func() job.State {
			t.Helper()
			if err := h.g.Look(t.Context()); err != nil {
				t.Fatal(err)
			}
			return h.shelf.jobs[0].State
		}
		h.papers.list[0].Release.Expires = h.cfg.Clock().Add(2 * year)
		h.ahead = year
		if got := h.ask("1.0.0"); !strings.Contains(got, "Accepted") {
			t.Fatal(got)
		}
		look()
		if h.ahead = 0; restarted {
			h.restart(func(*gate.Config) {})
			if err := h.g.Resume(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if state := look(); state != job.Accepted {
			t.Errorf("restarted %t: %s once the clock is right", restarted, state)
		}
		h.ahead = 31 * time.Minute
		if state := look(); state != job.TimedOut {
			t.Errorf("restarted %t: %s half an hour later, until %s", restarted, state, h.shelf.jobs[0].Deadline)
		}
	}
}

// Nor does what is to be looked at where a station downloaded.
func TestVisitAfterAClockThatWasAhead(t *testing.T) { // promise 10
	t.Parallel()
	h := newHub(t)
	h.restart(func(c *gate.Config) {
		c.Rule = func(gate.Station) gate.Rule {
			return gate.Rule{Level: gate.Enforce, SignFill: true, Place: gate.Origin}
		}
	})
	h.at["https://x/y"] = h.papers.list[0].Release.SHA256
	st := gate.Station{Key: "cs-1", Vendor: "V", Model: "M"}
	h.papers.list[0].Release.Expires = h.cfg.Clock().Add(2 * year)
	h.ahead = year
	if got := h.update(st, "https://x/y"); !strings.Contains(got, "Accepted") {
		t.Fatal(got)
	}
	for _, status := range []string{"Downloading", "Downloaded"} {
		h.g.Report(t.Context(), h, st, ocpp.ActionFirmwareStatus, []byte(`{"status":"`+status+`"}`))
	}
	h.ahead = 0
	h.restart(func(*gate.Config) {})
	if err := h.g.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := h.g.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(h.events, func(e ledger.Event) bool {
		return e.Kind == "firmware.outside-checked" && e.Data["found"] == "the image"
	}) {
		t.Errorf("it isn't looked at: %+v", h.events)
	}
}

// One that is behind for a moment, as before its first NTP answer, sets nothing right that
// isn't wrong: the update isn't late once it is right again.
func TestAfterAClockThatWasBehind(t *testing.T) {
	t.Parallel()
	for _, restarted := range []bool{false, true} {
		h := newHub(t)
		h.restart(func(c *gate.Config) {
			c.CheckClock = func(context.Context) error {
				if h.ahead < 0 {
					return errors.New("behind")
				}
				return nil
			}
		})
		if got := h.ask("1.0.0"); !strings.Contains(got, "Accepted") {
			t.Fatal(got)
		}
		for _, h.ahead = range []time.Duration{0, -year, 0} {
			if restarted {
				h.restart(func(*gate.Config) {})
				if err := h.g.Resume(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if err := h.g.Look(t.Context()); err != nil {
				t.Fatal(err)
			}
			if j := h.shelf.jobs[0]; j.State != job.Accepted {
				t.Errorf("restarted %t: %s with the clock ahead by %s, until %s", restarted, j.State, h.ahead, j.Deadline)
			}
		}
	}
}
