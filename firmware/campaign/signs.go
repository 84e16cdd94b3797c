package campaign

import (
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
)

// Actions of stations whose messages may be signs.
const (
	actionStatus      = "StatusNotification"
	actionEvent       = "NotifyEvent"
	actionStop        = "StopTransaction" // 1.6
	actionTransaction = "TransactionEvent"
)

// aborts are the reasons for the end of a transaction that nobody wanted (Reason of
// OCPP 1.6, ReasonEnumType of 2.x).
func aborts(reason string) bool {
	return slices.Contains([]string{"EmergencyStop", "GroundFault", "Other", "OvercurrentFault", "PowerLoss", "PowerQuality", "Reboot"}, reason)
}

// Tells says whether messages of an action may be signs.
func Tells(d ocpp.Direction, action string) bool {
	return d == ocpp.FromStation && slices.Contains([]string{actionStatus, actionEvent, actionStop, actionTransaction}, action)
}

// Interest says whether messages of an action may be signs, and signs count now. That
// isn't always so: Config.Changed.
func (s *Service) Interest(d ocpp.Direction, action string) bool {
	return s.soaks.Load() && Tells(d, action)
}

// Message counts what a station's message shows. Whatever it is, it goes on.
func (s *Service) Message(station, action string, payload []byte) {
	var m struct {
		Status          string `json:"status"`          // 1.6
		ConnectorStatus string `json:"connectorStatus"` // 2.x
		Reason          string `json:"reason"`          // 1.6
		EventType       string `json:"eventType"`
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
			s.Saw(station, Fault)
		}
	case actionEvent: // in place of StatusNotification (G01 [2.x])
		for _, e := range m.EventData {
			if e.Variable.Name == "AvailabilityState" && e.ActualValue == faulted {
				s.Saw(station, Fault)
			}
		}
	case actionStop:
		if aborts(m.Reason) {
			s.Saw(station, Aborted)
		}
	case actionTransaction:
		if m.EventType == "Ended" && aborts(m.TransactionInfo.StoppedReason) {
			s.Saw(station, Aborted)
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
	mu sync.Mutex
	by map[string]map[Sign]int // by station
}

func (s *seen) add(station string, sign Sign) {
	s.mu.Lock()
	defer s.mu.Unlock()
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
