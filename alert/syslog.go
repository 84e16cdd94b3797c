package alert

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"bollard/detect"
	"bollard/internal/syslog"
)

// Syslog sends alerts to a syslog receiver. It has no receipt: what was sent
// may be lost behind the first hop.
type Syslog struct {
	name   string
	sender *syslog.Sender
}

// NewSyslog names a sender. Its facility should be syslog.Auth.
func NewSyslog(name string, sender *syslog.Sender) *Syslog { return &Syslog{name, sender} }

// Name is the receiver's.
func (s *Syslog) Name() string { return s.name }

// Send sends the alert as one message with structured data.
func (s *Syslog) Send(ctx context.Context, a Alert) error {
	var m Message
	if err := json.Unmarshal(a.Body, &m); err != nil {
		return fmt.Errorf("an alert in the queue can't be read: %w: %w", err, ErrRefused)
	}
	f := m.Finding
	severity := map[detect.Criticality]syslog.Severity{detect.Critical: syslog.Critical, detect.Warning: syslog.Warning}[f.Criticality]
	if severity == 0 {
		severity = syslog.Notice
	}
	data := []syslog.Param{{Name: "id", Value: m.ID}, {Name: "finding", Value: f.Name}, {Name: "count", Value: strconv.Itoa(f.Count)},
		{Name: "first", Value: f.First.UTC().Format("2006-01-02T15:04:05Z")}}
	for _, p := range []syslog.Param{{Name: "station", Value: f.Station}, {Name: "source", Value: f.Source}} {
		if p.Value != "" {
			data = append(data, p)
		}
	}
	if m.Test {
		data = append(data, syslog.Param{Name: "test", Value: "true"})
	}
	return s.sender.Send(ctx, syslog.Message{Time: f.Last, Severity: severity, ID: "finding", Data: data, Text: f.Reason})
}
