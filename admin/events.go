package admin

import (
	"context"
	"time"
)

// maxEvents bounds an answer.
const maxEvents = 1000

// StationEvents asks for a station's security events.
type StationEvents struct {
	Identity string `json:"identity"`
	Limit    int    `json:"limit,omitempty"` // 0: 100
}

// SecurityEvent is one of them. Type, unless it is listed, Timestamp, SentAs and
// TechInfo are the station's text: quote them.
type SecurityEvent struct {
	Type       string    `json:"type"`
	SentAs     string    `json:"sent_as,omitempty"`
	Listed     bool      `json:"listed"` // the type is one of the standard's
	Critical   bool      `json:"critical"`
	Timestamp  string    `json:"timestamp"` // as sent
	ReceivedAt time.Time `json:"received_at"`
	Version    string    `json:"ocpp_version"`
	TechInfo   string    `json:"tech_info,omitempty"`
}

// SecurityEvents are a station's newest, newest first.
type SecurityEvents struct {
	Events []SecurityEvent `json:"events"`
	// DroppedEvents were not kept for want of room, DroppedCopies never reached
	// the back end.
	DroppedEvents int `json:"dropped_events"`
	DroppedCopies int `json:"dropped_copies"`
}

func (o *operations) stationEvents(ctx context.Context, in StationEvents) (SecurityEvents, error) {
	if in.Limit < 0 || in.Limit > maxEvents {
		return SecurityEvents{}, Usagef("give a number from 1 to 1000", "%d events can't be asked for", in.Limit)
	}
	if in.Limit == 0 {
		in.Limit = 100
	}
	list, losses, err := o.cfg.Fleet.SecurityEvents(ctx, in.Identity, in.Limit)
	if err != nil {
		return SecurityEvents{}, err
	}
	out := SecurityEvents{Events: make([]SecurityEvent, len(list)), DroppedEvents: losses.Events, DroppedCopies: losses.Copies}
	for i, e := range list {
		out.Events[i] = SecurityEvent{Type: e.Type, SentAs: e.SentAs, Listed: e.Listed, Critical: e.Critical,
			Timestamp: e.Timestamp, ReceivedAt: e.ReceivedAt, Version: e.Version, TechInfo: string(e.TechInfo)}
	}
	return out, nil
}
