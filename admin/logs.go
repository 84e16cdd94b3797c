package admin

import (
	"context"
	"time"

	"bollard/fleet"
)

// StationLog is one log of a station.
type StationLog struct {
	Request   int        `json:"request"`
	Kind      string     `json:"kind"`
	Backend   string     `json:"backend,omitempty"` // that asked for it
	State     string     `json:"state"`
	AskedAt   time.Time  `json:"asked_at"`
	Note      string     `json:"note,omitempty"` // why it failed, or wasn't handed on
	File      string     `json:"file,omitempty"` // below uploads/ in the data directory
	Size      int64      `json:"size,omitempty"`
	SHA256    string     `json:"sha256,omitempty"`
	ArrivedAt *time.Time `json:"arrived_at,omitempty"`
	HandedAt  *time.Time `json:"handed_at,omitempty"` // to where its back end wanted it
}

// StationLogs are a station's, newest first.
type StationLogs struct {
	Logs []StationLog `json:"logs"`
}

func (o *operations) registerLogs(r *Registry) {
	Register(r, "station.logs", o.stationLogs)
	Register(r, "station.fetch-log", o.stationFetchLog)
}

func (o *operations) stationLogs(ctx context.Context, in StationRef) (StationLogs, error) {
	list, err := o.cfg.Fleet.StationLogs(ctx, in.Identity)
	if err != nil {
		return StationLogs{}, err
	}
	out := StationLogs{Logs: make([]StationLog, len(list))}
	for i, l := range list {
		out.Logs[i] = stationLog(l)
	}
	return out, nil
}

func (o *operations) stationFetchLog(ctx context.Context, in StationRef) (StationLog, error) {
	l, err := o.cfg.Fleet.FetchLog(ctx, in.Identity)
	return stationLog(l), err
}

func stationLog(l fleet.StationLog) StationLog {
	return StationLog{Request: l.Request, Kind: l.Kind, Backend: l.Backend, State: string(l.State), AskedAt: l.AskedAt, Note: l.Note, File: l.File, Size: l.Size, SHA256: l.SHA256, ArrivedAt: instant(l.ArrivedAt), HandedAt: instant(l.HandedAt)}
}
