package admin

import (
	"context"
	"slices"
	"strings"
	"time"

	"bollard/detect"
)

const (
	findingsShown = 20 // on a station's page
	maxFindings   = 1000
)

// AlertFilter asks for findings.
type AlertFilter struct {
	Station string `json:"station,omitempty"` // identity; "": all
	Limit   int    `json:"limit,omitempty"`   // 0: 100
}

// Alerts are findings, newest first, and who is told of them.
type Alerts struct {
	Findings  []detect.Finding `json:"findings"`
	Receivers []AlertReceiver  `json:"receivers"`
}

// AlertReceiver is one of those who are told.
type AlertReceiver struct {
	Name    string     `json:"name"`
	Waiting int        `json:"waiting"`
	Oldest  *time.Time `json:"oldest,omitempty"` // of those waiting
	Lost    int        `json:"lost"`             // given up
}

// TestAlert asks for a test alert.
type TestAlert struct {
	Receiver string `json:"receiver,omitempty"` // "": all
}

// TestedAlerts says what became of it.
type TestedAlerts struct {
	Results []TestedAlert `json:"results"`
}

// TestedAlert is one receiver's part.
type TestedAlert struct {
	Receiver string `json:"receiver"`
	OK       bool   `json:"ok"`
	Text     string `json:"text,omitempty"`
}

func (o *operations) registerAlerts(r *Registry) {
	Register(r, "alert.list", o.alertList)
	Register(r, "alert.test", o.alertTest)
}

func (o *operations) alertList(ctx context.Context, in AlertFilter) (Alerts, error) {
	if in.Limit < 0 || in.Limit > maxFindings {
		return Alerts{}, Usagef("give a number from 1 to 1000", "%d findings can't be asked for", in.Limit)
	}
	if in.Limit == 0 {
		in.Limit = 100
	}
	key := ""
	if in.Station != "" {
		s, err := o.cfg.Fleet.Station(ctx, in.Station)
		if err != nil {
			return Alerts{}, err
		}
		key = stationKey(s.Identity)
	}
	out := Alerts{Receivers: []AlertReceiver{}}
	var err error
	if out.Findings, err = o.cfg.Alerts.Findings(ctx, key, in.Limit); err != nil {
		return Alerts{}, err
	}
	queues, err := o.cfg.Alerts.Queues(ctx)
	if err != nil {
		return Alerts{}, err
	}
	for _, q := range queues {
		out.Receivers = append(out.Receivers, AlertReceiver{Name: q.Receiver, Waiting: q.Waiting, Oldest: instant(q.Oldest), Lost: q.Lost})
	}
	return out, nil
}

func (o *operations) alertTest(ctx context.Context, in TestAlert) (TestedAlerts, error) {
	results, err := o.cfg.Alerts.Test(ctx, in.Receiver)
	if err != nil {
		return TestedAlerts{}, err
	}
	if len(results) == 0 {
		if in.Receiver != "" {
			return TestedAlerts{}, Refusedf("`bollard alert list` names them", "there is no receiver %q", in.Receiver)
		}
		return TestedAlerts{}, Refusedf("give a webhook or a syslog receiver under alerts: in bollard.yaml", "there is no receiver of alerts")
	}
	out := TestedAlerts{}
	for name, err := range results {
		t := TestedAlert{Receiver: name, OK: err == nil}
		if err != nil {
			t.Text = err.Error()
		}
		out.Results = append(out.Results, t)
	}
	slices.SortFunc(out.Results, func(a, b TestedAlert) int { return strings.Compare(a.Receiver, b.Receiver) })
	return out, nil
}
