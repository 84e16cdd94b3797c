package campaign

import (
	"encoding/json"
	"slices"
	"sync"

	"bollard/ocpp"
)

// Sign is what a station shows that new firmware may be to blame for. Of the stations
// of a ring they are counted while it soaks, beside those whose turn hasn't come; of the
// last ring beside what they showed while the ring before soaked.
type Sign string

// The signs.
const (
	Reconnect Sign = "reconnects"
	Fault     Sign = "faults"
	Aborted   Sign = "failed transactions"
	// Unmetered is a transaction that no meter value came of between its beginning and
	// its end.
	Unmetered Sign = "transactions without meter values"
	// Of these a station is to show some if it did before its turn.
	Metered     Sign = "meter values"
	Transaction Sign = "transactions"
)

// Actions of stations whose messages may be signs.
const (
	actionStatus      = "StatusNotification"
	actionEvent       = "NotifyEvent"
	actionStop        = "StopTransaction" // 1.6
	actionTransaction = "TransactionEvent"
	actionStart       = "StartTransaction" // 1.6
	actionMeter       = "MeterValues"
)

// aborts are the reasons for the end of a transaction that nobody wanted (Reason of
// OCPP 1.6, ReasonEnumType of 2.x).
func aborts(reason string) bool {
	return slices.Contains([]string{"EmergencyStop", "GroundFault", "Other", "OvercurrentFault", "PowerLoss", "PowerQuality", "Reboot"}, reason)
}

// Tells says whether messages of an action may be signs, or tell of the grid.
func Tells(d ocpp.Direction, action string) bool {
	return d == ocpp.FromStation && (tellsOfGrid(action) || showsSigns(action))
}

func showsSigns(action string) bool {
	return slices.Contains([]string{actionStatus, actionEvent, actionStop, actionTransaction, actionStart, actionMeter}, action)
}

// Interest says whether messages of an action tell of the grid, or may be signs, and
// signs count now. That isn't always so: Config.Changed.
func (s *Service) Interest(d ocpp.Direction, action string) bool {
	return Tells(d, action) && (tellsOfGrid(action) || s.soaks.Load())
}

// Message counts what a station's message shows, if signs count now, and notes what it
// tells of the grid. Whatever it is, it goes on.
func (s *Service) Message(station, action string, payload []byte) {
	if tellsOfGrid(action) {
		s.grid.message(station, action, payload, s.cfg.Clock())
		return
	}
	if !s.soaks.Load() {
		return
	}
	var m struct {
		Status          string            `json:"status"`          // 1.6
		ConnectorStatus string            `json:"connectorStatus"` // 2.x
		Reason          string            `json:"reason"`          // 1.6
		EventType       string            `json:"eventType"`
		MeterValue      []json.RawMessage `json:"meterValue"`
		TransactionInfo struct {
			StoppedReason string `json:"stoppedReason"`
		} `json:"transactionInfo"`
		EventData []struct {
			ActualValue string `json:"actualValue"`
			Variable    struct {
				Name string `json:"name"`
			} `json:"variable"`
		} `json:"eventData"`
	}
	if ocpp.DecodeStrict(payload, &m) != nil {
		return // what can't be read in one way shows nothing
	}
	const faulted = "Faulted"
	switch action {
	case actionStatus:
		if m.Status == faulted || m.ConnectorStatus == faulted {
			s.seen.add(station, Fault)
		}
	case actionEvent: // in place of StatusNotification (G01 [2.x])
		for _, e := range m.EventData {
			if e.Variable.Name == "AvailabilityState" && e.ActualValue == faulted {
				s.seen.add(station, Fault)
			}
		}
	case actionStart:
		s.seen.begins(station)
	case actionMeter:
		s.seen.metered(station, len(m.MeterValue))
	case actionStop:
		s.seen.ends(station, m.Reason)
	case actionTransaction:
		switch m.EventType {
		case "Started":
			s.seen.begins(station)
		case "Updated":
			s.seen.metered(station, len(m.MeterValue))
		case "Ended":
			s.seen.ends(station, m.TransactionInfo.StoppedReason)
		}
	}
}

// Saw counts a sign of a station, if signs count now. It waits for no look.
func (s *Service) Saw(station string, sign Sign) {
	if s.soaks.Load() {
		s.seen.add(station, sign)
	}
}

// seen are signs that no look has taken.
type seen struct {
	mu     sync.Mutex
	by     map[string]map[Sign]int // by station
	meters map[string]metering     // by station
}

func (s *seen) add(station string, sign Sign) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count(station, sign)
}

// count is add under the lock.
func (s *seen) count(station string, sign Sign) {
	if s.by == nil {
		s.by = map[string]map[Sign]int{}
	}
	if s.by[station] == nil {
		s.by[station] = map[Sign]int{}
	}
	s.by[station][sign]++
}

func (s *seen) take() map[string]map[Sign]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.by
	s.by = nil
	return taken
}
