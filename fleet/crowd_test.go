package fleet_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"math/big"
	"sync"
	"testing"
	"time"

	"bollard/ca"
	"bollard/fleet"
	"bollard/ocpp"
)

// crowd is a fleet whose certificates were all made on one day. Its stations
// answer in memory; the database, the authority and what they keep are real.
// Every two hundredth takes part in all of it; the others leave once they were asked.
type crowd struct {
	*rig
	n int

	mu        sync.Mutex
	asked     map[string]int   // triggers by station
	total     int              // triggers
	perMinute map[int64]int    // triggers by minute
	chains    map[string]chain // what full members were sent last
	serials   map[string]string
}

// full is of how many stations one takes part in everything.
const full = 200

type chain = []*x509.Certificate

func crowdName(n int) string { return fmt.Sprintf("CS-%05d", n) }

// old is a certificate of the day: the plan looks only at its dates and serial.
func (c *crowd) old(n int) *x509.Certificate {
	made := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	serial := new(big.Int).Lsh(big.NewInt(int64(n)+1), 64)
	return &x509.Certificate{SerialNumber: serial, NotBefore: made, NotAfter: made.AddDate(1, 0, 0), Raw: []byte(crowdName(n))}
}

// connect has all come back at once, as after an outage, but those that left.
func (c *crowd) connect() {
	c.t.Helper()
	stations, err := c.svc.Stations(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	var all sync.WaitGroup
	gate := make(chan struct{}, 256) // their records share transactions
	for n, st := range stations {
		c.mu.Lock()
		left, renewed := n%full != 0 && c.asked[st.Identity] > 0, c.chains[st.Identity]
		c.mu.Unlock()
		if left {
			continue
		}
		leaf := c.old(n)
		if renewed != nil {
			leaf = renewed[0]
		}
		all.Go(func() {
			gate <- struct{}{}
			defer func() { <-gate }()
			c.member(n, st, leaf).ready()
		})
	}
	all.Wait()
}

func (c *crowd) member(n int, st fleet.Station, leaf *x509.Certificate) *fakeSession {
	var s *fakeSession
	s = c.openWith(fleet.Admission{Station: st, Profile: 3, Leaf: leaf}, ocpp.V201, fleet.SecurityBollard, func(action string, payload json.RawMessage) (any, error) {
		switch action {
		case "TriggerMessage":
			c.mu.Lock()
			c.asked[st.Identity]++
			c.total++
			c.perMinute[c.clock().Unix()/60]++
			c.mu.Unlock()
			if n%full == 0 {
				csr := csrPayload(c.t, newKey(c.t), st.Serial)
				s.Go(func(context.Context) { s.message(ocpp.FromStation, "SignCertificate", csr) })
			}
		case "CertificateSigned":
			got := chainOf(c.t, payload)
			c.mu.Lock()
			if before := c.chains[st.Identity]; before != nil && !before[0].Equal(got[0]) {
				c.t.Errorf("%s got a second certificate", st.Identity)
			}
			if other, known := c.serials[serialOf(got[0])]; known && other != st.Identity {
				c.t.Errorf("serial of %s given to %s too", other, st.Identity)
			}
			c.chains[st.Identity], c.serials[serialOf(got[0])] = got, st.Identity
			c.mu.Unlock()
		}
		return obedient(nil)(action, payload)
	})
	return s
}

func (c *crowd) triggers() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.total
}

// A fleet whose certificates are all due on the day it comes back is asked at
// the configured pace, and after a crash goes on where it was.
func TestFleetRenewsAtItsPace(t *testing.T) { // A02, A03
	t.Parallel()
	const perMinute, crashAt = 1000, 8 // of ten minutes
	c := &crowd{rig: newRig(t), n: 10_000, asked: map[string]int{}, perMinute: map[int64]int{}, chains: map[string]chain{}, serials: map[string]string{}}
	pace := perMinute
	if raceDetector {
		c.n, pace = 300, 30
	}
	c.renewals = pace
	c.restart()
	list := make([]fleet.Enrolment, c.n)
	for n := range list {
		list[n] = fleet.Enrolment{Identity: crowdName(n), Serial: "SN-" + crowdName(n), Profile: 3}
	}
	if _, err := c.svc.Add(t.Context(), "operator", list); err != nil {
		t.Fatal(err)
	}
	c.rig.mu.Lock()
	c.now = c.old(0).NotBefore.AddDate(0, 9, 0) // after every jitter
	c.rig.mu.Unlock()
	c.connect()
	minute := func(k int) {
		t.Helper()
		c.advance(time.Minute)
		// A second's work of real stations must not outlast a minute of this clock.
		eventually(t, fmt.Sprintf("the turn of minute %d", k), func() bool { return c.triggers() >= min(c.n, k*pace) && (k == crashAt || c.unanswered() == 0) })
	}
	for k := 1; k <= crashAt; k++ {
		minute(k)
	}
	c.crash()
	before, reached := c.triggers(), c.stations()
	few := pace/20 + 10 // turns are repetitions of what the crash cut off
	c.connect()
	for k := 0; c.stragglers() > 0; k++ {
		if k > c.n/pace+60 {
			t.Fatalf("%d stations were never renewed", c.stragglers())
		}
		c.advance(time.Minute)
		eventually(t, "the turns after the crash", func() bool { return c.stations() >= min(c.n, reached+(k+1)*pace-few) })
		c.rest()
		eventually(t, "certificates of those asked", func() bool { return c.unanswered() == 0 || k < 2 })
	}
	for at, n := range c.perMinute {
		if n > pace+few {
			t.Errorf("%d stations were asked in minute %d, want at most %d", n, at, pace)
		}
	}
	if again := c.triggers() - c.n; again < 0 || before < crashAt*pace || again > pace+few {
		t.Errorf("%d triggers for %d stations, %d before the crash", c.triggers(), c.n, before)
	}
	// What was renewed is on record, and no station was given two.
	for identity, got := range c.chains {
		if rec, known, err := c.auth.Status(t.Context(), got[0]); err != nil || !known || rec.State != ca.StateIssued || rec.Station != keyOf(identity) {
			t.Fatalf("%s: %+v, %v", identity, rec, err)
		}
	}
}

// stations that were asked.
func (c *crowd) stations() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.asked)
}

// crash takes the process away in the middle of whatever it does.
func (c *crowd) crash() { c.restart() }

// stragglers are stations that weren't asked, or took part and have nothing new.
func (c *crowd) stragglers() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	missing := 0
	for n := range c.n {
		if c.asked[crowdName(n)] == 0 || n%full == 0 && c.chains[crowdName(n)] == nil {
			missing++
		}
	}
	return missing
}

// unanswered are stations that were asked, take part and have nothing yet.
func (c *crowd) unanswered() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	missing := 0
	for n := 0; n < c.n; n += full {
		if c.asked[crowdName(n)] > 0 && c.chains[crowdName(n)] == nil {
			missing++
		}
	}
	return missing
}

// rest waits until nothing moves any more.
func (c *crowd) rest() {
	for last := -1; last != c.triggers(); {
		last = c.triggers()
		time.Sleep(50 * time.Millisecond)
	}
}

// Certificates made on one day fall due over weeks, and never
// after two thirds of it.
func TestRenewalsAreSpreadByJitter(t *testing.T) { // A03
	t.Parallel()
	c := &crowd{}
	days := map[int]int{}
	const n = 10_000
	for i := range n {
		cert := c.old(i)
		at := ca.RenewAt(cert)
		if life := cert.NotAfter.Sub(cert.NotBefore); at.Sub(cert.NotBefore) > life*2/3 {
			t.Fatalf("due after %s of %s", at.Sub(cert.NotBefore), life)
		}
		days[int(at.Sub(cert.NotBefore).Hours()/24)]++
	}
	for day, due := range days {
		if due > n/15 {
			t.Errorf("%d of %d fall due on day %d", due, n, day)
		}
	}
	if len(days) < 20 {
		t.Errorf("all fall due within %d days", len(days))
	}
}
