package main

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"bollard/ca"
	"bollard/detect"
	"bollard/firmware/bundle"
	"bollard/firmware/campaign"
	"bollard/firmware/catalogue"
	"bollard/firmware/depot"
	"bollard/firmware/gate"
	"bollard/firmware/job"
	"bollard/firmware/origin"
	"bollard/firmware/release"
	"bollard/firmware/tuf"
	"bollard/fleet"
	"bollard/internal/safehttp"
	"bollard/ledger"
	"bollard/ocpp"
)

// depotName is the folder of images in the data directory.
const depotName = "firmware"

const (
	// imageCheck is how often every image is read again; which ones it is time for
	// is looked at more often, since servers are restarted.
	imageCheck = 24 * time.Hour
	imageLook  = 10 * time.Minute
	// fetchTime bounds one connection that fetches an image from a back end's location.
	fetchTime = 6 * time.Hour
)

// openFirmware opens depot, releases and updates; without a server nothing is
// downloaded from it.
func (a *app) openFirmware(ctx context.Context) error {
	var err error
	if a.depot, err = depot.Open(depot.Config{
		Dir: filepath.Join(a.dir, depotName), MaxBytes: int64(a.cfg.Firmware.MaxBytes), MaxTotal: int64(a.cfg.Firmware.TotalBytes),
	}); err != nil {
		return err
	}
	makers, err := a.makers()
	if err != nil {
		return err
	}
	logs, err := a.firmwareLogs()
	if err != nil {
		return err
	}
	if a.releases, err = catalogue.New(catalogue.Config{
		Store: a.store, Depot: a.depot, Trust: a.trustsSigner, Makers: makers, Logs: logs, Keep: a.cfg.Firmware.Keep, Approved: a.docket.Grant, Station: a.exceptedStation, Clock: time.Now,
	}); err != nil {
		return err
	}
	if a.updates, err = gate.New(ctx, a.gateConfig()); err != nil {
		return err
	}
	return a.openRollouts(ctx)
}

func (a *app) gateConfig() gate.Config {
	return gate.Config{
		Store: a.store, Catalogue: a.releases, Depot: a.depot, Rule: a.updateRule,
		Outside: func(ctx context.Context, station string) error {
			return a.alerts.Record(ctx, detect.Sign{Kind: detect.Outside, Station: station})
		},
		Site: a.siteStations,
		Swapped: func(ctx context.Context, station string) error {
			return a.alerts.Record(ctx, detect.Sign{Kind: detect.Swapped, Station: station})
		},
		Unseen: func(ctx context.Context, station string) error {
			return a.alerts.Record(ctx, detect.Sign{Kind: detect.Unseen, Station: station})
		},
		Excepted: func(ctx context.Context, station string) error {
			return a.alerts.Record(ctx, detect.Sign{Kind: detect.Excepted, Station: station})
		},
		Attests: a.attests,
		Turn:    func(release, station string) gate.Block { return a.rollouts.Turn(release, station) },
		Over:    func(j job.Job) { a.rollouts.Over(j) },
		Tell:    a.cfg.Firmware.TellBackends,
		Alarm: func(ctx context.Context, station string) error {
			return a.alerts.Record(ctx, detect.Sign{Kind: detect.Quarantined, Station: station})
		},
		Record: func(ctx context.Context, e ledger.Event) error { return a.store.Record(ctx, e) },
		Clock:  time.Now, CheckClock: a.authority.CheckClock, Log: a.log,
	}
}

// trustsSigner judges who signed firmware: under an outside root trusted for the
// use manufacturer, or the own hierarchy of that name, over CAs that came with a
// release, none of them revoked here.
func (a *app) trustsSigner(ctx context.Context, signer *x509.Certificate, between []*x509.Certificate) (catalogue.Anchor, error) {
	var none catalogue.Anchor
	anchors, err := a.authority.Anchors(ctx, "manufacturer")
	if err != nil {
		return none, fmt.Errorf("%w: %w", catalogue.ErrUnjudged, err)
	}
	own := a.authority.Roots(ca.KindManufacturer)
	roots := slices.Clone(own)
	for _, t := range anchors {
		cert, err := x509.ParseCertificate(t.DER)
		if err != nil {
			return none, fmt.Errorf("%w: root %s; remove it and add it again: %w", catalogue.ErrUnjudged, t.Hash, err)
		}
		roots = append(roots, cert)
	}
	between = append(slices.Clone(between), a.authority.Intermediates(ca.KindManufacturer)...)
	chains, err := release.VerifyChain(signer, between, roots, time.Now())
	if err != nil {
		return none, fmt.Errorf("signing certificate isn't of a trusted manufacturer (`bollard ca trust add --use manufacturer`): %w", err)
	}
	for _, chain := range chains {
		if err = a.standing(ctx, chain); err == nil {
			root := chain[len(chain)-1]
			return catalogue.Anchor{Root: root, Own: slices.ContainsFunc(own, root.Equal)}, nil
		}
		if errors.Is(err, catalogue.ErrUnjudged) {
			return none, err
		}
	}
	return none, err
}

// standing says which certificate of a chain counts no more.
func (a *app) standing(ctx context.Context, chain []*x509.Certificate) error {
	for _, cert := range chain {
		if sum := release.Fingerprint(cert); slices.Contains(a.cfg.Firmware.Revoked, sum) {
			return fmt.Errorf("certificate %q is in firmware.revoked of bollard.yaml: sha256 %s", cert.Subject, sum)
		}
		rec, known, err := a.authority.Status(ctx, cert)
		if err != nil {
			return fmt.Errorf("%w: %w", catalogue.ErrUnjudged, err)
		}
		if known && rec.State != ca.StateIssued {
			return fmt.Errorf("certificate %s of the signer's chain is %s", rec.Serial, rec.State)
		}
	}
	return nil
}

// makers are the manufacturers of bollard.yaml, with the roots of their metadata.
func (a *app) makers() ([]catalogue.Maker, error) {
	var list []catalogue.Maker
	for i, m := range a.cfg.Firmware.Makers {
		maker := catalogue.Maker{Name: m.Name, Roots: m.Roots, Vendors: m.Vendors, Models: m.Models}
		if m.Metadata != "" {
			var err error
			if maker.Metadata, err = os.ReadFile(within(a.dir, m.Metadata)); err == nil {
				_, err = tuf.Begin(maker.Metadata)
			}
			if err != nil {
				return nil, configFault(a.dir, fmt.Sprintf("firmware.makers[%d].metadata", i), err)
			}
		}
		list = append(list, maker)
	}
	return list, nil
}

// firmwareLogs are the transparency logs of bollard.yaml.
func (a *app) firmwareLogs() ([]bundle.Log, error) {
	var list []bundle.Log
	for i, l := range a.cfg.Firmware.Logs {
		key, err := ledger.NewVerifier(l.Key)
		if err != nil {
			return nil, configFault(a.dir, fmt.Sprintf("firmware.logs[%d].key", i), err)
		}
		log := bundle.Log{Key: key, Needed: l.Needed}
		for j, w := range l.Witnesses {
			v, err := ledger.NewVerifier(w)
			if err != nil {
				return nil, configFault(a.dir, fmt.Sprintf("firmware.logs[%d].witnesses[%d]", i, j), err)
			}
			log.Witnesses = append(log.Witnesses, v)
		}
		list = append(list, log)
	}
	return list, nil
}

// updateRule is what bollard.yaml says of a station's updates. Which model a
// station is may only be known from its first boot: until then it could be any,
// and the strictest level holds.
func (a *app) updateRule(st gate.Station) gate.Rule {
	rule := gate.Rule{Level: gate.Level(a.cfg.Firmware.Level)}
	if st.Vendor == "" || st.Model == "" {
		for _, m := range a.cfg.Firmware.Models {
			if levels := []gate.Level{gate.Observe, gate.Enforce, gate.Strict}; slices.Index(levels, gate.Level(m.Level)) > slices.Index(levels, rule.Level) {
				rule.Level = gate.Level(m.Level)
			}
		}
		return rule
	}
	for _, m := range a.cfg.Firmware.Models {
		if !(fleet.Model{Vendor: m.Vendor, Model: m.Model}).Fits(st.Vendor, st.Model) {
			continue
		}
		if m.Level != "" {
			rule.Level = gate.Level(m.Level)
		}
		rule.Dialect, rule.SignFill, rule.Upgrade = release.Dialect(m.Signature), m.SignFill, m.Upgrade
		if m.Location != "ours" {
			rule.Place = gate.Place(m.Location)
		}
		rule.Refusal, rule.Chain = ocpp.ErrorCode(m.Refusal), m.Chain
		break
	}
	return rule
}

// openDoor lets stations download, where there is a listener.
func (s *server) openDoor(ctx context.Context) error {
	if s.doors.files == nil {
		return nil
	}
	keeper, err := s.seal.tickets()
	if err != nil {
		return err
	}
	f := s.cfg.Firmware
	s.downloads, err = depot.NewDoor(depot.DoorConfig{
		Depot: s.depot, Base: s.cfg.FirmwareURL(), Tickets: keeper,
		Open:   func(ctx context.Context, g depot.Grant) bool { return s.updates.Wants(ctx, g) },
		Served: func(ctx context.Context, g depot.Grant, span depot.Span) { s.updates.Downloaded(ctx, g, span) },
		Total:  int64(f.Rate), PerSite: int64(f.SiteRate), PerStation: int64(f.StationRate),
		Site: func(ctx context.Context, station string) string {
			st, err := s.store.Station(ctx, station)
			if err != nil {
				return ""
			}
			return st.Site
		},
		Clock: time.Now, Log: s.log,
	})
	if err != nil {
		return err
	}
	cfg := s.gateConfig()
	cfg.Door = s.downloads
	if err := s.openOrigins(ctx); err != nil {
		return err
	}
	cfg.Origins = s.origins
	if err := s.openLockers(ctx); err != nil {
		return err
	}
	if s.lockers != nil {
		cfg.Locker = s.lockers
	}
	if s.updates, err = gate.New(ctx, cfg); err != nil {
		return err
	}
	return s.openRollouts(ctx)
}

// openOrigins lets images be fetched from where back ends send stations, under the
// rules in force.
func (s *server) openOrigins(ctx context.Context) error {
	cfg, err := s.reach()
	if err != nil {
		return err
	}
	cfg.MaxBytes, cfg.Timeout = int64(s.cfg.Firmware.MaxBytes), fetchTime
	s.origins, err = origin.New(ctx, origin.Config{
		Store: s.store, Depot: s.depot, Clock: time.Now, Log: s.log,
		Record: func(ctx context.Context, e ledger.Event) error { return s.store.Record(ctx, e) },
		Known: func(ctx context.Context, sha256 string) (bool, error) {
			list, err := s.releases.List(ctx)
			return slices.ContainsFunc(list, func(e catalogue.Entry) bool { return e.Release.SHA256 == sha256 }), err
		},
		Check: func(location string) error {
			_, err := s.stationClient(cfg, location)
			return err
		},
		Fetch: func(ctx context.Context, location string, from safehttp.Mark, begin safehttp.Begin) error {
			client, err := s.stationClient(cfg, location)
			if err != nil {
				return err
			}
			return client.GetOn(ctx, location, from, begin)
		},
	})
	return err
}

// reach is what Bollard may reach of the places stations are sent to, beside what the
// rules say.
func (s *server) reach() (safehttp.Config, error) {
	cfg := safehttp.Config{Clock: time.Now}
	for i, n := range s.cfg.Firmware.Networks {
		network, err := netip.ParsePrefix(n)
		if err != nil {
			return cfg, configFault(s.dir, fmt.Sprintf("firmware.networks[%d]", i), err)
		}
		cfg.AllowPrivate = append(cfg.AllowPrivate, network.Masked())
	}
	var err error
	if cfg.RootCAs, err = trusted(s.dir, s.cfg.Firmware.Trust); err != nil {
		return cfg, configFault(s.dir, "firmware.trust", err)
	}
	return cfg, nil
}

// stationClient reaches the hosts that the rules in force let stations be sent to.
func (s *server) stationClient(cfg safehttp.Config, location string) (*safehttp.Client, error) {
	ports, err := safehttp.ByPort(s.warden.Rules().StationHosts())
	if err != nil {
		return nil, err
	}
	refused := error(&safehttp.Error{Rule: safehttp.RuleAllow, Reason: "its host isn't in lists.station_hosts of DIR/policy"})
	for port, hosts := range ports {
		one := cfg
		if one.Hosts = hosts; port != 0 {
			one.Ports = []int{port}
		}
		client, err := safehttp.New(one)
		if err != nil {
			return nil, err
		}
		if err := client.Check(location); err == nil {
			return client, nil
		} else if fault, ok := errors.AsType[*safehttp.Error](err); ok && fault.Rule != safehttp.RuleAllow && fault.Rule != safehttp.RulePort {
			refused = err
		}
	}
	return nil, refused
}

// checkImages reads every image again, now and then, until ctx ends.
func (s *server) checkImages(ctx context.Context) error {
	tick := time.NewTicker(imageLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := time.Now()
		bad, err := s.depot.Check(ctx, now.Add(-imageCheck), now)
		for _, digest := range bad {
			s.log.Error("an image in the depot isn't what it was: it is given to nobody any more; add its release again", slog.String("sha256", digest))
		}
		if err != nil && ctx.Err() == nil {
			s.log.Warn("couldn't read the images in the depot again", slog.Any("err", err))
		}
	}
}

// updateGuard lets the gate of firmware see its messages before the fleet does.
type updateGuard struct {
	*fleet.Service
	app *app
}

// Interest is the gate's, the rollouts' and the fleet's.
func (u *updateGuard) Interest(v ocpp.Version, d ocpp.Direction, action string) bool {
	return u.app.updates.Interest(d, action) || u.app.rollouts.Interest(d, action) || u.Service.Interest(v, d, action)
}

// Opened begins a session.
func (u *updateGuard) Opened(s fleet.Session) {
	u.Service.Opened(s)
	key := stationOf(s)
	u.app.rollouts.Saw(key, campaign.Reconnect)
	u.app.updates.Opened(s, key)
}

// Closed ends one.
func (u *updateGuard) Closed(s fleet.Session) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	u.app.updates.Closed(ctx, stationOf(s))
	u.Service.Closed(s)
}

// Message asks the gate, then the fleet. The rollouts only watch.
func (u *updateGuard) Message(ctx context.Context, s fleet.Session, m fleet.Message) fleet.Verdict {
	if campaign.Tells(m.Direction, m.Action) {
		adm := s.Admission()
		u.app.rollouts.Message(adm.Station.Key(), m.Action, m.Payload)
		if !u.Service.Interest(s.Version(), m.Direction, m.Action) {
			return fleet.Verdict{Act: fleet.Pass}
		}
	}
	if m.Head.Type == ocpp.Send || !u.app.updates.Interest(m.Direction, m.Action) {
		return u.Service.Message(ctx, s, m)
	}
	st := u.station(ctx, s)
	if m.Direction == ocpp.FromCSMS {
		if u.Service.Interest(s.Version(), m.Direction, m.Action) { // a Reset concerns both
			if told := u.Service.Message(ctx, s, m); told.Act != fleet.Pass {
				return told
			}
			of, kept := s, fleet.Message{Direction: m.Direction, Head: ocpp.Head{Type: m.Head.Type, Action: m.Action}, Action: m.Action, Payload: slices.Clone(m.Payload)}
			s = judged{s, func(ctx context.Context) fleet.Verdict { return u.Service.Message(ctx, of, kept) }}
		}
		if s.Security() == fleet.SecurityObserve { // nothing of such a back end is refused
			return fleet.Verdict{Act: fleet.Pass}
		}
		_, signed := m.Head.BaseAction()
		return updateVerdict(u.app.updates.Request(ctx, s, st, m.Action, m.Payload, signed))
	}
	var v gate.Verdict
	if m.Action == ocpp.ActionBootNotification {
		v = u.app.updates.Boot(ctx, s, st, m.Payload)
	} else {
		v = u.app.updates.Report(ctx, s, st, m.Action, m.Payload)
	}
	told := fleet.Verdict{Act: fleet.Pass}
	if u.Service.Interest(s.Version(), m.Direction, m.Action) {
		told = u.Service.Message(ctx, s, m)
	}
	if told.Act != fleet.Pass || v.Code == "" && v.Answer == nil && v.Rewrite == nil && v.Later == nil {
		return told
	}
	mine := updateVerdict(v)
	mine.Watch, mine.Merge, mine.After = told.Watch, told.Merge, told.After
	if v.Told {
		mine.After = func(context.Context) { u.HandOver(s) }
	}
	return mine
}

// judged is a session with what the fleet says of one CALL at a later time (gate.Judge).
type judged struct {
	fleet.Session
	again func(ctx context.Context) fleet.Verdict
}

// Anew judges it again.
func (j judged) Anew(ctx context.Context) gate.Verdict {
	switch v := j.again(ctx); v.Act {
	case fleet.Pass:
		return gate.Verdict{}
	case fleet.Answer:
		return gate.Verdict{Answer: v.Payload, Reason: v.Reason}
	default:
		return gate.Verdict{Code: cmp.Or(v.Code, ocpp.SecurityError), Reason: v.Reason}
	}
}

// stationOf is the key of a session's station.
func stationOf(s fleet.Session) string {
	adm := s.Admission()
	return adm.Station.Key()
}

// station is what the gate may know of a session's station.
func (u *updateGuard) station(ctx context.Context, s fleet.Session) gate.Station {
	adm := s.Admission()
	st, err := u.app.store.Station(ctx, adm.Station.Key())
	if err != nil {
		st = fleet.Station{Identity: adm.Station.Identity, Vendor: adm.Station.Vendor, Model: adm.Station.Model}
	}
	plan, unread := u.app.store.Plan(ctx, stationKey(&st))
	out := updated(&st, &plan)
	out.Unread = errors.Join(err, unread)
	return out
}

// updated is what the gate may know of a station.
func updated(st *fleet.Station, plan *fleet.Plan) gate.Station {
	return gate.Station{Key: stationKey(st), Vendor: st.Vendor, Model: st.Model, Hardware: st.Hardware, Site: st.Site, Firmware: plan.Firmware}
}

// siteStations are who a local controller of a site may publish for.
func (a *app) siteStations(ctx context.Context, site string) ([]gate.Station, error) {
	list, err := a.store.Stations(ctx)
	if err != nil {
		return nil, err
	}
	var out []gate.Station
	for i := range list {
		if list[i].Site == site {
			out = append(out, updated(&list[i], &fleet.Plan{}))
		}
	}
	return out, nil
}

func stationKey(st *fleet.Station) string { return ocpp.Identity{Name: st.Identity}.Key() }

// updateVerdict is the gate's, as the gateway carries it out.
func updateVerdict(v gate.Verdict) fleet.Verdict {
	out := fleet.Verdict{Act: fleet.Pass, Reason: v.Reason, Rewrite: v.Rewrite}
	switch {
	case v.Later != nil:
		out.Later = func(ctx context.Context) fleet.Verdict { return updateVerdict(v.Later(ctx)) }
	case v.Code != "":
		out.Act, out.Code = fleet.Refuse, v.Code
	case v.Answer != nil:
		out.Act, out.Payload = fleet.Answer, v.Answer
	}
	return out
}
