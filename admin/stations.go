package admin

import (
	"context"
	"slices"
	"time"

	"bollard/ca"
	"bollard/detect"
	"bollard/firmware/quote"
	"bollard/fleet"
	"bollard/internal/redact"
	"bollard/ledger"
	"bollard/ocpp"
)

// Secret is a password on its way to where it is hashed or sealed. It prints
// as a mask; only JSON carries it, over the 0600 socket.
type Secret []byte

// String masks the secret in logs and errors.
func (Secret) String() string { return "[secret]" }

// GoString masks the secret for %#v.
func (Secret) GoString() string { return "[secret]" }

// Enrolment is one station to add.
type Enrolment struct {
	Identity    string       `json:"identity"`
	Serial      string       `json:"serial"`
	Profile     int          `json:"profile"`
	Vendor      string       `json:"vendor,omitempty"`
	Model       string       `json:"model,omitempty"`
	Alias       string       `json:"alias,omitempty"`
	Group       string       `json:"group,omitempty"`
	Site        string       `json:"site,omitempty"`
	Hardware    string       `json:"hardware,omitempty"`
	SECCs       []fleet.SECC `json:"seccs,omitempty"`       // what cars may know it by
	FactoryHash string       `json:"cert_sha256,omitempty"` // pinned factory certificate
	FactoryKey  string       `json:"key_sha256,omitempty"`  // pinned key of the factory certificate
	EK          string       `json:"ek_sha256,omitempty"`   // endorsement key of its TPM
	Password    Secret       `json:"password,omitempty"`    // empty: generated for profiles 1 and 2
	NoPassword  bool         `json:"no_password,omitempty"` // left to adoption by the back end
	OneTime     bool         `json:"one_time,omitempty"`    // replaced by another at first contact
	Reuse       bool         `json:"reuse,omitempty"`       // of a decommissioned identity
	Line        int          `json:"line,omitempty"`        // of the import file
}

// Enrolled is an added station, with its password if Bollard generated one:
// it is told here and never again.
type Enrolled struct {
	Identity string `json:"identity"`
	Serial   string `json:"serial"`
	Profile  int    `json:"profile"`
	Password string `json:"password,omitempty"`
}

// Import adds stations, all or none.
type Import struct {
	Stations []Enrolment `json:"stations"`
}

// Imported are the added stations in the order given.
type Imported struct {
	Stations []Enrolled `json:"stations"`
}

// StationRef names one station.
type StationRef struct {
	Identity string `json:"identity"`
}

// Station is what an operator sees of a station.
type Station struct {
	Identity      string        `json:"identity"`
	Serial        string        `json:"serial"`
	Aliases       []string      `json:"aliases,omitempty"`
	Vendor        string        `json:"vendor,omitempty"`
	Model         string        `json:"model,omitempty"`
	Group         string        `json:"group,omitempty"`
	Site          string        `json:"site,omitempty"`
	Hardware      string        `json:"hardware,omitempty"`
	SECCs         []fleet.SECC  `json:"seccs,omitempty"`     // what cars may know it by
	EK            string        `json:"ek_sha256,omitempty"` // endorsement key of its TPM
	Backend       string        `json:"backend,omitempty"`   // wanted by name
	SeenBackend   string        `json:"seen_backend,omitempty"`
	WantedProfile int           `json:"wanted_profile"`
	FloorProfile  int           `json:"floor_profile"`
	SeenProfile   int           `json:"seen_profile"`
	LowerUntil    *time.Time    `json:"lower_until,omitempty"` // it may come down to the wanted profile, as approved
	PasswordSet   bool          `json:"password_set"`
	FactoryHash   string        `json:"cert_sha256,omitempty"`
	FactoryKey    string        `json:"key_sha256,omitempty"`
	LostAt        *time.Time    `json:"lost_at,omitempty"`
	LostReason    string        `json:"lost_reason,omitempty"`
	Warn          []fleet.Check `json:"warn,omitempty"`
	AllowExpired  *time.Time    `json:"allow_expired_until,omitempty"`
	RenewWanted   bool          `json:"renew_wanted,omitempty"`
	RotateWanted  bool          `json:"rotate_wanted,omitempty"`
	Pending       bool          `json:"password_pending,omitempty"` // sent to the station, not yet seen in use
	PlanNote      string        `json:"plan_note,omitempty"`        // why a renewal or profile change hasn't come about yet
	Version       string        `json:"ocpp_version,omitempty"`
	CreatedAt     time.Time     `json:"created_at"`
	SeenAt        *time.Time    `json:"seen_at,omitempty"`
	LastRefusal   string        `json:"last_refusal,omitempty"`
	RefusedAt     *time.Time    `json:"refused_at,omitempty"`
	Online        bool          `json:"online"` // false too when no server runs
}

// Session is a live connection.
type Session struct {
	ID       string   `json:"id"`
	Station  string   `json:"station"`
	Profile  int      `json:"profile"`
	Version  string   `json:"ocpp_version"`
	Security string   `json:"security"`
	Factory  bool     `json:"factory_certificate,omitempty"`
	Notes    []string `json:"notes,omitempty"` // checks that failed but only warn
}

// Order is one certificate request of a station.
type Order struct {
	ID        string    `json:"id"`
	State     string    `json:"state"`
	Serial    string    `json:"serial,omitempty"`
	SECC      string    `json:"secc,omitempty"` // whose certificate toward cars it is, and of which
	Type      string    `json:"type,omitempty"` // certificateType
	Reason    string    `json:"reason,omitempty"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// StationDetail is everything known of one station.
type StationDetail struct {
	Station     Station      `json:"station"`
	Session     *Session     `json:"session,omitempty"`
	Certificate *Certificate `json:"certificate,omitempty"` // its newest one not revoked that lets it in here
	Orders      []Order      `json:"orders"`
	// Failure is why the station, let in, got no session when it last tried,
	// such as a back end that is down; "" if it has had one since.
	Failure  string        `json:"failure,omitempty"`
	FailedAt *time.Time    `json:"failed_at,omitempty"`
	Steps    []PlanStep    `json:"steps,omitempty"` // of what is still to come, as far as tried
	Roots    []Root        `json:"roots,omitempty"` // as the station reported them
	Quote    *quote.Record `json:"quote,omitempty"` // of its TPM; nil: none came and none is wanted
	// Findings are the newest about the station, newest first.
	Findings []detect.Finding `json:"findings,omitempty"`
}

// Stations is a list.
type Stations struct {
	Stations []Station `json:"stations"`
}

// SetPassword sets a station's password; empty: generate one.
type SetPassword struct {
	Identity string `json:"identity"`
	Password Secret `json:"password,omitempty"`
}

// NewPassword tells a generated password, once.
type NewPassword struct {
	Identity string `json:"identity"`
	Password string `json:"password,omitempty"`
}

// SetProfile sets the wanted security profile.
type SetProfile struct {
	Identity string `json:"identity"`
	Profile  int    `json:"profile"`
}

// Renew asks for a new certificate.
type Renew struct {
	Identity string `json:"identity"`
	// AllowExpired lets the expired certificate in for so long.
	AllowExpired time.Duration `json:"allow_expired,omitempty"`
}

// SetCheck makes one check of a station warn only, or enforce again.
type SetCheck struct {
	Identity string      `json:"identity"`
	Check    fleet.Check `json:"check"`
	Warn     bool        `json:"warn"`
}

// None is the answer of operations that have nothing to tell.
type None struct{}

func (o *operations) registerStations(r *Registry) {
	Register(r, "station.add", o.stationAdd)
	Register(r, "station.import", o.stationImport)
	Register(r, "station.list", o.stationList)
	Register(r, "station.show", o.stationShow)
	Register(r, "station.remove", o.stationRemove)
	Register(r, "station.password", o.stationPassword)
	Register(r, "station.rotate", o.stationRotate)
	Register(r, "station.roots", o.stationRoots)
	Register(r, "station.profile", o.stationProfile)
	Register(r, "station.renew", o.stationRenew)
	Register(r, "station.secc", o.stationSECC)
	Register(r, "station.tpm", o.stationTPM)
	Register(r, "station.check", o.stationCheck)
	Register(r, "station.events", o.stationEvents)
	Register(r, "station.lost", o.stationLost)
	Register(r, "station.replace", o.stationReplace)
	Register(r, "station.decommission", o.stationDecommission)
	Register(r, "backend.password", o.backendPassword)
}

func (o *operations) stationAdd(ctx context.Context, in Enrolment) (Enrolled, error) {
	out, err := o.stationImport(ctx, Import{Stations: []Enrolment{in}})
	if err != nil {
		return Enrolled{}, err
	}
	return out.Stations[0], nil
}

func (o *operations) stationImport(ctx context.Context, in Import) (Imported, error) {
	if len(in.Stations) == 0 {
		return Imported{}, Usagef("give at least one station", "there is no station to add")
	}
	list := make([]fleet.Enrolment, len(in.Stations))
	for i, s := range in.Stations {
		list[i] = fleet.Enrolment{
			Identity: s.Identity, Serial: s.Serial, Profile: s.Profile, Vendor: s.Vendor, Model: s.Model, Group: s.Group, Site: s.Site, Hardware: s.Hardware,
			SECCs: s.SECCs, Alias: s.Alias, FactoryHash: s.FactoryHash, FactoryKey: s.FactoryKey, EK: s.EK, Password: redact.Secret(s.Password), NoPassword: s.NoPassword,
			OneTime: s.OneTime, Reuse: s.Reuse, Line: s.Line,
		}
	}
	added, err := o.cfg.Fleet.Add(ctx, Actor(ctx), list)
	if err != nil {
		return Imported{}, err
	}
	out := Imported{Stations: make([]Enrolled, len(added))}
	for i, e := range added {
		out.Stations[i] = Enrolled{Identity: e.Station.Identity, Serial: e.Station.Serial, Profile: e.Station.WantedProfile, Password: e.Password}
	}
	return out, nil
}

func (o *operations) stationList(ctx context.Context, _ None) (Stations, error) {
	list, err := o.cfg.Fleet.Stations(ctx)
	if err != nil {
		return Stations{}, err
	}
	out := Stations{Stations: make([]Station, len(list))}
	for i, s := range list {
		out.Stations[i] = o.station(s)
	}
	return out, nil
}

func (o *operations) stationShow(ctx context.Context, in StationRef) (StationDetail, error) {
	s, err := o.cfg.Fleet.Station(ctx, in.Identity)
	if err != nil {
		return StationDetail{}, err
	}
	orders, err := o.cfg.Fleet.Orders(ctx, in.Identity)
	if err != nil {
		return StationDetail{}, err
	}
	key := stationKey(s.Identity)
	records, err := o.cfg.Store.Certificates(ctx, ca.Filter{Station: key})
	if err != nil {
		return StationDetail{}, err
	}
	out := StationDetail{Station: o.station(s), Orders: make([]Order, len(orders))}
	for n, order := range orders {
		out.Orders[n] = shownOrder(&s, &order, records)
	}
	plan, err := o.cfg.Fleet.Plan(ctx, in.Identity)
	if err != nil {
		return StationDetail{}, err
	}
	if q, err := o.cfg.Store.Quote(ctx, key); err != nil {
		return StationDetail{}, err
	} else if !q.At.IsZero() || !q.DemandedAt.IsZero() {
		out.Quote = &q
	}
	out.Steps, out.Roots = planSteps(&plan), seenRoots(&plan)
	if out.Findings, err = o.cfg.Alerts.Findings(ctx, key, findingsShown); err != nil {
		return StationDetail{}, err
	}
	if i := slices.IndexFunc(records, func(r ca.Record) bool { return r.State == ca.StateIssued && !aside(&r) }); i >= 0 {
		c := o.certificate(records[i], false)
		out.Certificate = &c
	}
	if o.cfg.Failed != nil {
		reason, at := o.cfg.Failed(key)
		out.Failure, out.FailedAt = reason, instant(at)
	}
	if o.cfg.Live != nil {
		if live, ok := o.cfg.Live.Session(key); ok {
			view := session(live)
			out.Session = &view
		}
	}
	return out, nil
}

// aside: a certificate that lets nobody in here, toward cars or of a TPM's key.
func aside(r *ca.Record) bool {
	return r.Profile == ca.ProfileSECC || r.Profile == ca.ProfileSECC20 || r.Profile == ca.ProfileSECC448 || r.Profile == ca.ProfileAttestation
}

// shownOrder is an order with what became of its certificate since.
func shownOrder(s *fleet.Station, order *fleet.Order, records []ca.Record) Order {
	out := Order{
		ID: order.ID, State: string(order.State), Serial: order.Serial, SECC: order.SECC, Type: order.Type, Reason: order.Reason,
		CreatedAt: order.CreatedAt, UpdatedAt: order.UpdatedAt,
	}
	revoked := func(r ca.Record) bool { return r.Serial == order.Serial && r.State == ca.StateRevoked }
	if order.Serial != "" && slices.ContainsFunc(records, revoked) {
		out.State, out.Reason = string(ca.StateRevoked), ""
		if order.SECC == "" && !slices.ContainsFunc(records, func(r ca.Record) bool { return r.State == ca.StateIssued && !aside(&r) }) {
			out.Reason = wayBack(s)
		}
	}
	return out
}

// wayBack says how a station whose certificate was revoked gets another.
func wayBack(s *fleet.Station) string {
	if s.FloorProfile < 3 {
		return "station comes back with its password; `bollard station renew " + s.Identity + "` then asks it for a new certificate"
	}
	return "certificate no longer lets the station in: `bollard station enrol-secret " + s.Identity + "` gives it a new one over EST, " +
		"or remove it and add it anew with a password"
}

func (o *operations) stationRemove(ctx context.Context, in StationRef) (None, error) {
	if err := o.cfg.Fleet.Remove(ctx, Actor(ctx), in.Identity); err != nil {
		return None{}, err
	}
	return None{}, nil
}

func (o *operations) stationPassword(ctx context.Context, in SetPassword) (NewPassword, error) {
	generated, err := o.cfg.Fleet.SetPassword(ctx, Actor(ctx), in.Identity, in.Password)
	return NewPassword{Identity: in.Identity, Password: generated}, err
}

func (o *operations) stationProfile(ctx context.Context, in SetProfile) (Station, error) {
	if in.Profile < 1 || in.Profile > 3 {
		return Station{}, Usagef("security profiles are 1, 2 and 3", "there is no security profile %d", in.Profile)
	}
	s, err := o.cfg.Fleet.SetProfile(ctx, Actor(ctx), in.Identity, in.Profile)
	return o.station(s), err
}

func (o *operations) stationRenew(ctx context.Context, in Renew) (Station, error) {
	if in.AllowExpired < 0 {
		return Station{}, Usagef("give a duration such as 48h", "the time an expired certificate is let in can't be negative")
	}
	s, err := o.cfg.Fleet.Renew(ctx, Actor(ctx), in.Identity, in.AllowExpired)
	return o.station(s), err
}

func (o *operations) stationCheck(ctx context.Context, in SetCheck) (Station, error) {
	if !slices.Contains(fleet.Checks(), in.Check) {
		return Station{}, Usagef("`bollard station check --help` lists the checks", "there is no check %q", in.Check)
	}
	s, err := o.cfg.Fleet.SetCheck(ctx, Actor(ctx), in.Identity, in.Check, in.Warn)
	return o.station(s), err
}

// backendPassword keeps the secret with which Bollard authenticates as this
// station toward a back end with auth: basic-per-station.
func (o *operations) backendPassword(ctx context.Context, in SetPassword) (None, error) {
	s, err := o.cfg.Fleet.Station(ctx, in.Identity)
	if err != nil {
		return None{}, err
	}
	if len(in.Password) == 0 {
		return None{}, Usagef("give it on standard input", "there is no password")
	}
	key := stationKey(s.Identity)
	name := UpstreamSecret(key)
	sealed, err := o.cfg.Seal(name, in.Password)
	if err != nil {
		return None{}, err
	}
	return None{}, o.cfg.Store.SetSecret(ctx, name, sealed, ledger.Event{
		Kind: "backend.password", Subject: key, Actor: Actor(ctx),
	})
}

// UpstreamSecret is the name under which a station's back-end password is kept.
func UpstreamSecret(key string) string { return "upstream:" + key }

// stationKey is the key of an enrolled identity, which has been judged before.
func stationKey(identity string) string { return ocpp.Identity{Name: identity}.Key() }

func (o *operations) station(s fleet.Station) Station {
	view := Station{
		Identity: s.Identity, Serial: s.Serial, Aliases: s.Aliases, Vendor: s.Vendor, Model: s.Model,
		Group: s.Group, Site: s.Site, Hardware: s.Hardware, SECCs: s.SECCs, EK: s.EK, Backend: s.Backend, SeenBackend: s.SeenBackend,
		WantedProfile: s.WantedProfile, FloorProfile: s.FloorProfile, SeenProfile: s.SeenProfile, LowerUntil: instant(s.LowerUntil),
		PasswordSet: s.Password != nil, FactoryHash: s.FactoryHash, FactoryKey: s.FactoryKey, LostAt: instant(s.LostAt), LostReason: s.LostReason, Warn: s.Warn,
		AllowExpired: instant(s.AllowExpired), RenewWanted: s.RenewWanted, RotateWanted: s.RotateWanted, Pending: s.Pending != nil, PlanNote: s.PlanNote, Version: s.Version,
		CreatedAt: s.CreatedAt, SeenAt: instant(s.SeenAt), LastRefusal: s.LastRefusal, RefusedAt: instant(s.RefusedAt),
	}
	if o.cfg.Live != nil && s.Identity != "" {
		_, view.Online = o.cfg.Live.Session(stationKey(s.Identity))
	}
	return view
}

func session(s fleet.Session) Session {
	a := s.Admission()
	return Session{
		ID: s.ID(), Station: a.Station.Identity, Profile: a.Profile, Version: s.Version().String(),
		Security: string(s.Security()), Factory: a.Factory, Notes: a.Notes,
	}
}

// instant is nil for the zero time, which JSON would print as the year 1.
func instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
