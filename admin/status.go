package admin

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// Server describes a running server.
type Server struct {
	Version   string    `json:"version"`
	StartedAt time.Time `json:"started_at"`
	OCPP      []string  `json:"ocpp"` // addresses
	PKI       string    `json:"pki,omitempty"`
	Status    string    `json:"status,omitempty"`
	Admin     string    `json:"admin,omitempty"`
	// OpenFiles is the limit of its open files; 0: unknown.
	OpenFiles uint64 `json:"open_files,omitempty"`
}

// Status is how the server, or the data directory without one, stands.
type Status struct {
	Server   *Server   `json:"server,omitempty"` // nil: none runs
	Stations int       `json:"stations"`
	Sessions []Session `json:"sessions"`
	// Newest is the latest time anything recorded carries; a clock behind it
	// stops issuing.
	Newest *time.Time `json:"newest_record,omitempty"`
}

func (o *operations) registerStatus(r *Registry) {
	Register(r, "server.status", o.serverStatus)
}

func (o *operations) serverStatus(ctx context.Context, _ None) (Status, error) {
	stations, err := o.cfg.Fleet.Stations(ctx)
	if err != nil {
		return Status{}, err
	}
	newest, err := o.cfg.Store.NewestTime(ctx)
	if err != nil {
		return Status{}, err
	}
	out := Status{Stations: len(stations), Sessions: []Session{}, Newest: instant(newest)}
	if o.cfg.Server != nil {
		server := o.cfg.Server()
		out.Server = &server
	}
	if o.cfg.Live != nil {
		for _, live := range o.cfg.Live.Sessions() {
			out.Sessions = append(out.Sessions, session(live))
		}
		slices.SortFunc(out.Sessions, func(a, b Session) int { return cmp.Compare(a.Station, b.Station) })
	}
	return out, nil
}
