package main

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"bollard/detect"
	"bollard/firmware/campaign"
	"bollard/firmware/gate"
	"bollard/fleet"
	"bollard/internal/config"
	"bollard/internal/window"
)

// openRollouts goes on with the rollouts of firmware; without a server nobody is there.
func (a *app) openRollouts(ctx context.Context) error {
	windows, err := parseWindows(a.dir, a.cfg.Firmware.Windows)
	if err != nil {
		return err
	}
	a.rollouts, err = campaign.New(ctx, campaign.Config{
		Store: a.store, Releases: a.releases, Gate: a.updates, Fleet: firmwareFleet{a}, Windows: windows.of,
		Halted: func(ctx context.Context, station string) error {
			return a.alerts.Record(ctx, detect.Sign{Kind: detect.FirmwareHalted, Station: station})
		},
		Changed: func() {
			if a.reconsider != nil {
				a.reconsider()
			}
		},
		Clock: time.Now, CheckClock: a.authority.CheckClock, Log: a.log,
	})
	return err
}

// firmwareFleet is the fleet as rollouts of firmware see it.
type firmwareFleet struct{ app *app }

// Stations are all that are enrolled, with what they run.
func (f firmwareFleet) Stations(ctx context.Context) ([]campaign.Station, error) {
	stations, err := f.app.store.Stations(ctx)
	if err != nil {
		return nil, err
	}
	plans, err := f.app.store.Plans(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]campaign.Station, len(stations))
	for i := range stations {
		plan := plans[stationKey(&stations[i])]
		if list[i], err = f.station(ctx, &stations[i], &plan); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// Station is one of them.
func (f firmwareFleet) Station(ctx context.Context, key string) (campaign.Station, bool, error) {
	st, err := f.app.store.Station(ctx, key)
	if errors.Is(err, fleet.ErrUnknownStation) {
		return campaign.Station{}, false, nil
	}
	if err != nil {
		return campaign.Station{}, false, err
	}
	plan, err := f.app.store.Plan(ctx, key)
	if err != nil {
		return campaign.Station{}, false, err
	}
	out, err := f.station(ctx, &st, &plan)
	return out, err == nil, err
}

func (f firmwareFleet) station(ctx context.Context, st *fleet.Station, plan *fleet.Plan) (campaign.Station, error) {
	group, err := f.app.controller.GroupOfStation(ctx, st)
	if group == "" {
		group = st.Group // a label that nothing is wanted of
	}
	return campaign.Station{Station: updated(st, plan), Site: st.Site, Group: group}, err
}

// Session is a station's that may be sent CALLs.
func (f firmwareFleet) Session(key string) (gate.Session, bool) {
	sess, ok := f.app.fleet.Ready(key)
	return sess, ok
}

// siteWindows are the maintenance windows of sites and groups.
type siteWindows []siteWindow

type siteWindow struct {
	site, group string // patterns
	open        window.Windows
}

func parseWindows(dir string, list []config.FirmwareWindow) (siteWindows, error) {
	var out siteWindows
	for i, one := range list {
		open, err := window.ParseAll(one.Open)
		if err != nil {
			return nil, configFault(dir, fmt.Sprintf("firmware.windows[%d].open", i), err)
		}
		for _, w := range open {
			if w.Length() < campaign.LeastRoom {
				return nil, configFault(dir, fmt.Sprintf("firmware.windows[%d].open", i),
					fmt.Errorf("window %q is too short: stations begin while at least %s of it are left", w, campaign.LeastRoom))
			}
		}
		out = append(out, siteWindow{strings.ToLower(one.Site), strings.ToLower(one.Group), open})
	}
	return out, nil
}

// of are a station's: those of the first entry that fits it.
func (w siteWindows) of(st campaign.Station) window.Windows {
	matches := func(pattern, text string) bool {
		ok, err := path.Match(pattern, strings.ToLower(text))
		return pattern == "" || err == nil && ok
	}
	for _, one := range w {
		if matches(one.site, st.Site) && matches(one.group, st.Group) {
			return one.open
		}
	}
	return nil
}
