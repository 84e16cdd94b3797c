package campaign

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"bollard/ocpp"
)

// Limit is one that the grid's operator has set a station, by the station's word (OCPP
// 2.x): a charging limit from outside (K12), an alarm or a control of distributed energy
// resources (2.1, R04). While it lasts no station of the site begins an update.
type Limit struct {
	Station string
	What    string // the limit, of several
	At      time.Time
}

const (
	// mostLimit is how long one counts whose end isn't told.
	mostLimit = 24 * time.Hour
	// limitsPerStation bounds what one station may have.
	limitsPerStation = 32
	// longestID is a controlId's (2.1, identifierString[36]); names of kinds and sources
	// are shorter.
	longestID = 36
)

// Actions of stations that tell of the grid.
const (
	actionLimit      = "NotifyChargingLimit"
	actionLimitEnds  = "ClearedChargingLimit"
	actionGridAlarm  = "NotifyDERAlarm"     // 2.1
	actionGridDevice = "NotifyDERStartStop" // 2.1
)

// tellsOfGrid says whether an action does. It always counts: a limit may be older than
// the rollout that has to wait for its end.
func tellsOfGrid(action string) bool {
	return action == actionLimit || action == actionLimitEnds || action == actionGridAlarm || action == actionGridDevice
}

// grid has the limits in force. Stations' messages wait for no disk: a look writes down
// what changed, before anybody begins.
type grid struct {
	mu      sync.Mutex
	by      map[string]map[string]time.Time // station, limit
	changed map[[2]string]bool
}

// message takes what a station says of the grid.
func (g *grid) message(station, action string, payload []byte, now time.Time) {
	var m struct {
		EVSE          *int `json:"evseId"`
		ChargingLimit struct {
			Source   string `json:"chargingLimitSource"`
			Critical bool   `json:"isGridCritical"`
		} `json:"chargingLimit"`
		Source     string   `json:"chargingLimitSource"`
		Control    string   `json:"controlType"`
		Ended      bool     `json:"alarmEnded"`
		ID         string   `json:"controlId"`
		Started    bool     `json:"started"`
		Superseded []string `json:"supersededIds"`
	}
	if ocpp.DecodeStrict(payload, &m) != nil || max(len(m.ChargingLimit.Source), len(m.Control), len(m.ID)) > longestID {
		return
	}
	evse := 0
	if m.EVSE != nil {
		evse = *m.EVSE
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch action {
	case actionLimit:
		// SO is the system operator (ChargingLimitSourceEnumType). What an energy management
		// system or the back end limits is the site's daily business.
		if m.ChargingLimit.Source == "SO" || m.ChargingLimit.Critical {
			g.put(station, fmt.Sprintf("limit %s %d", m.ChargingLimit.Source, evse), now)
		}
	case actionLimitEnds:
		for what := range g.by[station] {
			if what == fmt.Sprintf("limit %s %d", m.Source, evse) || m.EVSE == nil && strings.HasPrefix(what, "limit "+m.Source+" ") {
				g.drop(station, what)
			}
		}
	case actionGridAlarm:
		if what := "alarm " + m.Control; m.Ended {
			g.drop(station, what)
		} else {
			g.put(station, what, now)
		}
	case actionGridDevice:
		for _, id := range m.Superseded {
			g.drop(station, "control "+id)
		}
		if what := "control " + m.ID; m.Started {
			g.put(station, what, now)
		} else {
			g.drop(station, what)
		}
	}
}

// put is under the lock.
func (g *grid) put(station, what string, at time.Time) {
	list := g.by[station]
	if list == nil {
		list = map[string]time.Time{}
		g.by[station] = list
	}
	if _, known := list[what]; known || len(list) < limitsPerStation {
		list[what], g.changed[[2]string{station, what}] = at, true
	}
}

// drop is under the lock.
func (g *grid) drop(station, what string) {
	if _, known := g.by[station][what]; !known {
		return
	}
	g.changed[[2]string{station, what}] = true
	if delete(g.by[station], what); len(g.by[station]) == 0 {
		delete(g.by, station)
	}
}

// limits says whether a station has any.
func (g *grid) limits(station string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.by[station]) > 0
}

// keep drops what lasted too long, and writes down what changed since.
func (g *grid) keep(ctx context.Context, store Store, now time.Time) error {
	g.mu.Lock()
	for station, list := range g.by {
		for what, at := range list {
			switch {
			case now.Sub(at) >= mostLimit:
				g.drop(station, what)
			case at.After(now): // told by a clock that was ahead
				g.put(station, what, now)
			}
		}
	}
	var put, ended []Limit
	changed := g.changed
	for key := range changed {
		one := Limit{Station: key[0], What: key[1]}
		if at, lasts := g.by[one.Station][one.What]; lasts {
			one.At = at
			put = append(put, one)
		} else {
			ended = append(ended, one)
		}
	}
	g.changed = map[[2]string]bool{}
	g.mu.Unlock()
	if len(changed) == 0 {
		return nil
	}
	err := store.PutLimits(ctx, put, ended)
	if err != nil { // the next look writes it
		g.mu.Lock()
		defer g.mu.Unlock()
		for key := range changed {
			g.changed[key] = true
		}
	}
	return err
}

// loadGrid reads the limits in force.
func (s *Service) loadGrid(ctx context.Context) error {
	list, err := s.cfg.Store.Limits(ctx)
	if err != nil {
		return err
	}
	s.grid.by, s.grid.changed = map[string]map[string]time.Time{}, map[[2]string]bool{}
	for _, l := range list {
		s.grid.put(l.Station, l.What, l.At)
	}
	clear(s.grid.changed)
	return nil
}

// limited says whether the grid limits a station, or another of its site.
func (s *Service) limited(st Station) bool {
	at := s.at[st.Site]
	return s.grid.limits(st.Key) || at != nil && at.limited
}
