// Package detect finds attacks and faults in what is noticed at the door and
// in messages: single signs, such as a wrong password or a CSR for somebody
// else, become findings where there are too many of them or one is too much.
//
// It promises that what it remembers is bounded whoever causes the signs, that
// a flood of one kind neither hides another nor becomes a flood of findings,
// and that a finding holds no text of a peer and no personal data: names and
// reasons are the program's own words.
package detect

import (
	"sync"
	"time"
)

// Criticality of a finding.
type Criticality string

// A warning can have an innocent cause; what is critical wants somebody to look.
const (
	Info     Criticality = "info"
	Warning  Criticality = "warning"
	Critical Criticality = "critical"
)

// AtLeast says whether c is as critical as least.
func (c Criticality) AtLeast(least Criticality) bool { return c.rank() >= least.rank() }

func (c Criticality) rank() int {
	switch c {
	case Critical:
		return 2
	case Warning:
		return 1
	}
	return 0
}

// Sign is one thing noticed.
type Sign struct {
	Kind Kind
	// Station is the key of an enrolled station, "" if there is none: an
	// identity nobody enrolled is a stranger's text.
	Station string
	Source  string // the peer's address, an IPv6 one as its /64; "" if that says nothing
	Live    bool   // the station has a live session
	// Detail tells signs of a kind apart, in words of the standard or Bollard's, with
	// nothing that a peer may choose: a security event's name, a CA here, the serial
	// number of one that a trusted root has certified. "" without any.
	Detail string
}

// Finding is what signs add up to. It is told anew, with the same First, each
// time Count has doubled: whoever keeps findings replaces the older.
type Finding struct {
	Name        string      `json:"name"`
	Criticality Criticality `json:"criticality"`
	Station     string      `json:"station,omitempty"` // key; "" if it is about a source, or Bollard itself
	Source      string      `json:"source,omitempty"`  // of the newest sign
	Count       int         `json:"count"`             // signs so far
	Again       bool        `json:"again,omitempty"`   // this episode was told before
	First       time.Time   `json:"first"`
	Last        time.Time   `json:"last"`
	Reason      string      `json:"reason"`
}

// Bounds of what is remembered: of stations there are as many as are enrolled
// and have signs, of sources as many as an attacker has.
const (
	stationsKept = 1 << 15
	sourcesKept  = 1 << 13
)

// Detector correlates signs. Its methods are safe for concurrent use and take
// no longer than a few look-ups.
type Detector struct {
	mu       sync.Mutex
	stations *memory
	sources  *memory
}

// New remembers nothing yet: counts begin anew with the process.
func New() *Detector {
	return &Detector{stations: newMemory(stationsKept), sources: newMemory(sourcesKept)}
}

// Observe takes a sign and returns the findings it completes, mostly none.
func (d *Detector) Observe(s Sign, now time.Time) []Finding {
	d.mu.Lock()
	defer d.mu.Unlock()
	var found []Finding
	for i := range rules {
		r := &rules[i]
		if !r.concerns(&s) {
			continue
		}
		subject, among := s.Station, d.stations
		switch {
		case r.bySource:
			subject, among = s.Source, d.sources
		case r.own:
			subject = string(s.Kind)
		}
		if subject == "" {
			continue
		}
		key := key{rule: r.name, subject: subject}
		if r.apart {
			key.detail = s.Detail
		}
		e := among.of(key, now)
		if e.add(r, now) {
			found = append(found, r.finding(e, &s))
		}
	}
	return found
}

// Forget drops what is remembered of a removed station.
func (d *Detector) Forget(station string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stations.forget(station)
}
