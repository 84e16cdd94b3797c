package fleet_test

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"bollard/ca"
	"bollard/fleet"
	"bollard/ocpp"
)

// crowdDir names the directory of a process that is to be killed.
const crowdDir = "BOLLARD_TEST_CROWD_DIR"

// crowd is a fleet whose certificates were all made on one day. Its stations
// answer in memory, and have on disk what they got before they say so; the
// database, the authority and every certificate are real.
type crowd struct {
	*rig
	n, pace int // stations, and how many are asked to renew in a minute
	journal *os.File
	killAt  int // the process dies when so many got their certificate; 0: never

	mu        sync.Mutex
	asked     map[string]int   // triggers by station
	total     int              // triggers
	perMinute map[int64]int    // triggers by minute
	chains    map[string]chain // what stations were sent last
	serials   map[string]string
}

type chain = []*x509.Certificate

// crowdLine is one line of what stations wrote down.
type crowdLine struct {
	Station string
	Minute  int64    // in which it was asked, or
	Chain   [][]byte // what it was sent
}

func crowdName(n int) string { return fmt.Sprintf("CS-%05d", n) }

// crowdSize is smaller under the race detector; `make torture` has 10,000.
func crowdSize(t *testing.T) (n, pace int) {
	t.Helper()
	n = 300
	if raceDetector {
		n = 120
	} else if text := os.Getenv(lifeSize); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	return n, n / 10
}

// openCrowd takes up what is in a directory, a minute after it was left.
func openCrowd(t *testing.T, dir string) *crowd {
	t.Helper()
	c := &crowd{rig: reopenRig(t, dir), asked: map[string]int{}, perMinute: map[int64]int{}, chains: map[string]chain{}, serials: map[string]string{}}
	c.n, c.pace = crowdSize(t)
	c.renewals = c.pace
	newest, err := c.store.NewestTime(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.rig.mu.Lock()
	c.now = c.old(0).NotBefore.AddDate(0, 9, 0) // after every jitter
	if next := newest.Add(time.Minute); next.After(c.now) {
		c.now = next
	}
	c.rig.mu.Unlock()
	c.restart()
	if c.journal, err = os.OpenFile(filepath.Join(dir, "crowd"), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.journal.Close() })
	lines := bufio.NewScanner(c.journal)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line crowdLine
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		c.apply(line)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return c
}

// keep has on disk, as far as a kill goes, what a station was told.
func (c *crowd) keep(line crowdLine) {
	text, err := json.Marshal(line)
	if err == nil {
		_, err = c.journal.Write(append(text, '\n'))
	}
	if err != nil {
		c.t.Error(err)
	}
	c.apply(line)
}

func (c *crowd) apply(line crowdLine) {
	if len(line.Chain) == 0 {
		c.asked[line.Station]++
		c.total++
		c.perMinute[line.Minute]++
		return
	}
	var got chain
	for _, der := range line.Chain {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			c.t.Error(err)
			return
		}
		got = append(got, cert)
	}
	if before := c.chains[line.Station]; before != nil && !before[0].Equal(got[0]) {
		c.t.Errorf("%s got a second certificate", line.Station)
	}
	if other, known := c.serials[serialOf(got[0])]; known && other != line.Station {
		c.t.Errorf("serial of %s given to %s too", other, line.Station)
	}
	c.chains[line.Station], c.serials[serialOf(got[0])] = got, line.Station
}

// old is a certificate of the day: the plan looks only at its dates and serial.
func (c *crowd) old(n int) *x509.Certificate {
	made := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	serial := new(big.Int).Lsh(big.NewInt(int64(n)+1), 64)
	return &x509.Certificate{SerialNumber: serial, NotBefore: made, NotAfter: made.AddDate(1, 0, 0), Raw: []byte(crowdName(n))}
}

// each runs f for all stations, many at a time: their records share transactions.
func (c *crowd) each(f func(n int)) {
	var all sync.WaitGroup
	gate := make(chan struct{}, 256)
	for n := range c.n {
		all.Go(func() {
			gate <- struct{}{}
			defer func() { <-gate }()
			f(n)
		})
	}
	all.Wait()
}

// connect has all come back at once, as after an outage.
func (c *crowd) connect() {
	c.t.Helper()
	stations, err := c.svc.Stations(c.t.Context())
	if err != nil || len(stations) != c.n {
		c.t.Fatalf("%d stations: %v", len(stations), err)
	}
	c.each(func(n int) {
		c.mu.Lock()
		renewed := c.chains[stations[n].Identity]
		c.mu.Unlock()
		leaf := c.old(n)
		if renewed != nil {
			leaf = renewed[0]
		}
		c.member(fleet.Admission{Station: stations[n].Proven(), Profile: 3, Leaf: ca.LeafOf(leaf)}).ready()
	})
}

func (c *crowd) member(adm fleet.Admission) *fakeSession {
	var s *fakeSession
	name, serial := adm.Station.Identity, adm.Station.Serial
	s = c.openWith(adm, ocpp.V201, fleet.SecurityBollard, func(action string, payload json.RawMessage) (any, error) {
		switch action {
		case "TriggerMessage":
			c.mu.Lock()
			c.keep(crowdLine{Station: name, Minute: c.clock().Unix() / 60})
			c.mu.Unlock()
			csr := csrPayload(c.t, newKey(c.t), serial)
			s.Go(func(context.Context) { s.message(ocpp.FromStation, "SignCertificate", csr) })
		case "CertificateSigned":
			line := crowdLine{Station: name}
			for _, cert := range chainOf(c.t, payload) {
				line.Chain = append(line.Chain, cert.Raw)
			}
			c.mu.Lock()
			if c.killAt > 0 && len(c.chains) >= c.killAt {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
			c.keep(line)
			c.mu.Unlock()
		}
		return obedient(nil)(action, payload)
	})
	return s
}

// within waits for what the stations of one minute bring about: their work, done
// for real, must not outlast a minute of this clock.
func (c *crowd) within(what string, ok func() bool) {
	c.t.Helper()
	for end := time.Now().Add(3 * time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			c.t.Fatalf("never came about: %s; %d of %d asked, %d have their certificate", what, c.stations(), c.n, c.renewed())
		}
	}
}

// A fleet whose certificates are all due on the day it comes back is asked at
// the configured pace; the process is killed while certificates are on their
// way, and the next one goes on where it was. Every station gets one, is let in
// with it, and what was signed is on record.
func TestFleetRenewsAtItsPace(t *testing.T) { // A02, A03, promises 7 and 9
	if dir := os.Getenv(crowdDir); dir != "" {
		killedCrowd(t, dir)
		return
	}
	t.Parallel()
	r := newRig(t)
	n, pace := crowdSize(t)
	list := make([]fleet.Enrolment, n)
	for i := range list {
		list[i] = fleet.Enrolment{Identity: crowdName(i), Serial: "SN-" + crowdName(i), Profile: 3}
	}
	if _, err := r.svc.Add(t.Context(), "operator", list); err != nil {
		t.Fatal(err)
	}
	if err := r.store.Close(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFleetRenewsAtItsPace$", "-test.timeout=30m")
	cmd.Env = append(os.Environ(), crowdDir+"="+r.dir)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("process ended with %v, want it killed\n%s", err, out)
	}
	c := openCrowd(t, r.dir)
	before, had := c.triggers(), c.renewed()
	few := pace/20 + 10
	c.connect()
	for k := 0; c.renewed() < n; k++ {
		if k > n/pace+60 {
			t.Fatalf("%d stations were never renewed", n-c.renewed())
		}
		reached := c.triggers()
		c.advance(time.Minute)
		c.within("the turns after the kill", func() bool { return c.triggers() >= reached+pace-1 || c.stations() == n })
		c.within("certificates of those asked", func() bool { return c.unanswered() == 0 || k < 2 })
	}
	t.Logf("%d certificates in %s, %d of them before the kill; %d triggers", n, time.Since(began).Round(time.Second), had, c.triggers())
	c.mu.Lock()
	for at, asked := range c.perMinute {
		if asked > pace+few {
			t.Errorf("%d stations were asked in minute %d, want at most %d", asked, at, pace)
		}
	}
	c.mu.Unlock()
	if again := c.triggers() - n; again < 0 || had == 0 || before >= n || again > pace {
		t.Errorf("%d triggers for %d stations, %d before the kill; %d had their certificate then", c.triggers(), n, before, had)
	}
	c.check()
}

// check wants one certificate on record for each station, and it in use.
func (c *crowd) check() {
	issued, err := c.store.Certificates(c.t.Context(), ca.Filter{Profile: ca.ProfileStation, State: ca.StateIssued})
	if err != nil || len(issued) != c.n {
		c.t.Errorf("%d certificates are on record as issued, want %d: %v", len(issued), c.n, err)
	}
	for _, s := range c.Sessions() {
		s.(*fakeSession).close()
	}
	c.each(func(n int) {
		name := crowdName(n)
		rec, known, err := c.auth.Status(c.t.Context(), c.chains[name][0])
		if err != nil || !known || rec.State != ca.StateIssued || rec.Station != keyOf(name) {
			c.t.Errorf("%s: %+v, %v", name, rec, err)
		}
		adm, err := c.svc.Admit(c.t.Context(), withCertificates(claim(c.t, name), c.chains[name]...))
		if err != nil {
			c.t.Errorf("%s isn't let in with its new certificate: %v", name, err)
			return
		}
		c.member(adm)
		if orders, err := c.svc.Orders(c.t.Context(), name); err != nil || len(orders) == 0 || orders[0].State != fleet.OrderConfirmed {
			c.t.Errorf("%s: orders %+v, %v", name, orders, err)
		}
	})
}

// killedCrowd is the process that dies half-way through a minute.
func killedCrowd(t *testing.T, dir string) {
	c := openCrowd(t, dir)
	c.killAt = c.n * 9 / 20
	c.connect()
	for k := 1; k <= c.n/c.pace; k++ {
		c.advance(time.Minute)
		c.within(fmt.Sprintf("the turn of minute %d", k), func() bool { return c.triggers() >= min(c.n, k*c.pace) && c.unanswered() == 0 })
	}
	t.Fatal("nobody killed this process")
}

func (c *crowd) triggers() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.total
}

// stations that were asked.
func (c *crowd) stations() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.asked)
}

// renewed are stations that have their certificate.
func (c *crowd) renewed() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.chains)
}

// unanswered are stations that were asked and have nothing yet.
func (c *crowd) unanswered() int { return c.stations() - c.renewed() }

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
