package fleet_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bollard/ca"
	"bollard/fleet"
	"bollard/keys"
	"bollard/ledger"
	"bollard/ocpp"
	"bollard/store"
)

const (
	mainURL     = "wss://bollard.example:8443/ocpp"
	rolloverURL = "wss://bollard.example:8453/ocpp"
	simLook     = 5 * time.Second
)

// sim is a fleet of simulated stations in a bubble of its own time: messages go
// as encoded frames, database, authority and certificates are real. Stations
// write down what they are before they answer, so that they outlive a process.
type sim struct {
	t       testing.TB
	dir     string
	store   *store.Store
	keys    *keys.Keeper
	auth    *ca.Authority
	svc     *fleet.Service
	ctl     *fleet.Controller
	servers *ca.ServerCertificates
	journal *os.File
	// lookEvery is how often rollouts are looked at and stations come back.
	lookEvery time.Duration
	ahead     time.Duration // of the clock
	watcher   fleet.Watcher // of begin

	mu       sync.Mutex
	stations map[string]*simStation // by key
	live     map[string]*simSession // by key
	sessions int
	verified map[string]bool // what was worked out about chains
	onCall   func()          // before each answer of a station
}

// newSim makes a sim in a bubble, or takes up what another process left in dir.
func newSim(t testing.TB, dir string) *sim {
	t.Helper()
	f := &sim{t: t, dir: dir, stations: map[string]*simStation{}, live: map[string]*simSession{}, verified: map[string]bool{}, lookEvery: simLook}
	if now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC); time.Now().Before(now) {
		time.Sleep(time.Until(now)) // bubbles begin in 2000
	}
	var err error
	if f.keys, err = keys.New(keys.Config{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	_, missing := os.Stat(filepath.Join(dir, "bollard.db"))
	f.openStore()
	if missing != nil {
		if err := ca.Init(t.Context(), ca.InitConfig{Store: f.store, Keeper: f.keys, Organisation: organisation, Country: "NL", Clock: time.Now}); err != nil {
			t.Fatal(err)
		}
	} else {
		newest, err := f.store.NewestTime(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Until(newest.Add(time.Minute))) // the clock goes on
	}
	if f.journal, err = os.OpenFile(filepath.Join(dir, "stations"), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600); err != nil {
		t.Fatal(err)
	}
	f.begin()
	f.recall()
	return f
}

func (f *sim) openStore() {
	f.t.Helper()
	var err error
	if f.store, err = store.Open(f.t.Context(), store.Config{Path: filepath.Join(f.dir, "bollard.db"), Clock: time.Now}); err != nil {
		f.t.Fatal(err)
	}
}

// clock is of authority and service.
func (f *sim) clock() time.Time { return time.Now().Add(f.ahead) }

// begin makes authority, service and controller, as a process does.
func (f *sim) begin() {
	f.t.Helper()
	var err error
	f.auth, err = ca.New(f.t.Context(), ca.Config{Store: f.store, Organisation: organisation, Country: "NL", Clock: f.clock, Keeper: f.keys,
		Keys: func(ctx context.Context, uri string) (crypto.Signer, error) {
			return f.keys.Open(ctx, uri, keys.RoleCA)
		}})
	if err != nil {
		f.t.Fatal(err)
	}
	f.svc, err = fleet.New(f.t.Context(), fleet.Config{
		Store: f.store, Authority: f.auth, Revocation: asking{}, Organisation: organisation, PublicURL: mainURL, RolloverURL: rolloverURL, Watcher: f.watcher,
		Record: func(ctx context.Context, e ledger.Event) error { return f.store.Record(ctx, e) },
		Clock:  f.clock, UnknownIdentity: 401,
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.svc.Attach(f)
	f.ctl = fleet.NewController(f.svc, f.store)
	f.servers, err = f.auth.ServerCertificates(f.t.Context(), ca.ServerNames{DNS: []string{"bollard.example"}}, filepath.Join(f.dir, "server"))
	if err != nil {
		f.t.Fatal(err)
	}
}

// served is what a listener shows: leaf and chain.
func (f *sim) served(url string) []*x509.Certificate {
	get := f.servers.GetCertificate
	if url == rolloverURL {
		get = f.servers.GetFollowing
	}
	pair, err := get(&tls.ClientHelloInfo{SupportedVersions: []uint16{tls.VersionTLS13}, SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}})
	if err != nil {
		panic(err)
	}
	var list []*x509.Certificate
	for _, der := range pair.Certificate {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			panic(err)
		}
		list = append(list, cert)
	}
	return list
}

// follows says whether a station's roots lead to the server's certificate over
// these certificates.
func (f *sim) follows(s *simStation, chain []*x509.Certificate) bool {
	return f.verify(f.served(mainURL)[0], chain, s.Roots)
}

// verify is worked out once for each chain and set of roots.
func (f *sim) verify(leaf *x509.Certificate, chain []*x509.Certificate, roots [][]byte) bool {
	sum := sha256.New()
	sum.Write(leaf.Raw)
	for _, c := range chain {
		sum.Write(c.Raw)
	}
	for _, r := range roots {
		sum.Write(r)
	}
	key := string(sum.Sum(nil))
	f.mu.Lock()
	known, ok := f.verified[key]
	f.mu.Unlock()
	if ok {
		return known
	}
	opts := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: time.Now()}
	for _, c := range chain {
		opts.Intermediates.AddCert(c)
	}
	for _, der := range roots {
		root, err := x509.ParseCertificate(der)
		if err != nil {
			panic(err)
		}
		opts.Roots.AddCert(root)
	}
	_, err := leaf.Verify(opts)
	f.mu.Lock()
	f.verified[key] = err == nil
	f.mu.Unlock()
	return err == nil
}

// restart takes the process away and begins another.
func (f *sim) restart() {
	f.t.Helper()
	f.disconnect()
	if err := f.store.Close(); err != nil {
		f.t.Fatal(err)
	}
	f.openStore()
	f.begin()
}

func (f *sim) disconnect() {
	f.mu.Lock()
	var list []*simSession
	for _, s := range f.live {
		list = append(list, s)
	}
	f.mu.Unlock()
	for _, s := range list {
		s.close()
	}
}

func (f *sim) close() {
	f.disconnect()
	if err := errors.Join(f.store.Close(), f.journal.Close()); err != nil {
		f.t.Error(err)
	}
}

// add enrols stations, each with what simStation says of it.
func (f *sim) add(list ...*simStation) {
	f.t.Helper()
	var enrolments []fleet.Enrolment
	for _, s := range list {
		if s.Serial == "" {
			s.Serial = "SN-" + s.Identity
		}
		enrolments = append(enrolments, fleet.Enrolment{Identity: s.Identity, Serial: s.Serial, Profile: 2, Group: s.Group, Site: s.Site})
	}
	added, err := f.svc.Add(f.t.Context(), "operator", enrolments)
	if err != nil {
		f.t.Fatal(err)
	}
	root := f.auth.Roots(ca.KindCSMS)[0].Raw
	for i, s := range list {
		s.f, s.Password, s.Active, s.Priority = f, added[i].Password, "1", []string{"1"}
		s.Slots = map[string]simSlot{"1": {mainURL, 2}}
		s.Roots = [][]byte{root}
		s.save()
		f.stations[keyOf(s.Identity)] = s
	}
}

// recall brings the stations back that another process worked with. A last line
// that the kill cut off was never answered: the station doesn't have it.
func (f *sim) recall() {
	f.t.Helper()
	data, err := os.ReadFile(f.journal.Name())
	if err == nil {
		data = data[:bytes.LastIndexByte(data, '\n')+1]
		err = f.journal.Truncate(int64(len(data)))
	}
	if err != nil {
		f.t.Fatal(err)
	}
	for line := range bytes.Lines(data) {
		s := &simStation{f: f}
		if err := json.Unmarshal(line, s); err != nil {
			f.t.Fatal(err)
		}
		f.stations[keyOf(s.Identity)] = s // the last line of each counts
	}
}

// connect brings everybody up that has no session, many at a time.
func (f *sim) connect() {
	var all sync.WaitGroup
	gate := make(chan struct{}, 256)
	for _, s := range f.stations {
		f.mu.Lock()
		up := f.live[keyOf(s.Identity)] != nil
		f.mu.Unlock()
		if up && !s.takeReboot() || s.Fault == "silent" {
			continue
		}
		all.Go(func() {
			gate <- struct{}{}
			defer func() { <-gate }()
			s.connect()
		})
	}
	all.Wait()
}

// pass lets time go by: rollouts are looked at, stations that were told to
// reboot come back.
func (f *sim) pass(d time.Duration) {
	f.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); {
		f.tick()
	}
}

func (f *sim) tick() {
	f.t.Helper()
	time.Sleep(f.lookEvery)
	if err := f.ctl.Look(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
	synctest.Wait()
	f.connect()
	synctest.Wait()
}

// until lets time go by until something has come about.
func (f *sim) until(what string, most time.Duration, done func() bool) {
	f.t.Helper()
	for end := time.Now().Add(most); !done(); f.tick() {
		if time.Now().After(end) {
			f.t.Fatalf("not within %s: %s", most, what)
		}
	}
}

func (f *sim) station(identity string) fleet.Station {
	f.t.Helper()
	st, err := f.svc.Station(f.t.Context(), identity)
	if err != nil {
		f.t.Fatal(err)
	}
	return st
}

func (f *sim) rollout(id string) fleet.Progress {
	f.t.Helper()
	p, err := f.ctl.Rollout(f.t.Context(), id)
	if err != nil {
		f.t.Fatal(err)
	}
	return p
}

// Session, Sessions and EndIf make the sim a fleet.Sessions.
func (f *sim) Session(key string) (fleet.Session, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, ok := f.live[key]
	return s, ok
}

func (f *sim) Sessions() []fleet.Session {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []fleet.Session
	for _, s := range f.live {
		list = append(list, s)
	}
	return list
}

func (f *sim) EndIf(why func(fleet.Admission) (string, bool)) int { return endIf(f.Sessions(), why) }

// simSession is one connection of a simulated station.
type simSession struct {
	s      *simStation
	id     string
	adm    fleet.Admission
	ctx    context.Context
	cancel context.CancelFunc
	wg     tasks
	one    sync.Mutex // one CALL at a time
	n      int
}

func (s *simSession) ID() string                   { return s.id }
func (s *simSession) Admission() fleet.Admission   { return s.adm }
func (s *simSession) Version() ocpp.Version        { return s.s.Version }
func (s *simSession) Security() fleet.SecurityMode { return fleet.SecurityBollard }
func (s *simSession) Backend() string              { return s.s.backend(&s.adm) }
func (s *simSession) Go(f func(context.Context))   { s.wg.Go(func() { f(s.ctx) }) }
func (s *simSession) Upstream(context.Context, string, any) (json.RawMessage, error) {
	return json.RawMessage("{}"), nil
}

// End drops the connection; the station comes back by itself.
func (s *simSession) End(string) {
	s.s.mu.Lock()
	s.s.reboot = true
	s.s.mu.Unlock()
	s.cancel()
}

func (s *simSession) close() {
	s.cancel()
	s.wg.Wait()
	s.s.f.svc.Closed(s)
	s.s.f.mu.Lock()
	if key := keyOf(s.s.Identity); s.s.f.live[key] == s {
		delete(s.s.f.live, key)
	}
	s.s.f.mu.Unlock()
}

// Call sends an encoded frame and takes one back.
func (s *simSession) Call(ctx context.Context, action string, payload any) (json.RawMessage, error) {
	s.one.Lock()
	defer s.one.Unlock()
	if ctx.Err() != nil || s.ctx.Err() != nil {
		return nil, context.Canceled
	}
	s.n++
	frame, err := ocpp.AppendCall(nil, fmt.Sprintf("%s-%d", s.id, s.n), action, payload)
	if err != nil {
		return nil, err
	}
	if f := s.s.f.onCall; f != nil {
		f()
	}
	answer := s.s.handle(s, frame)
	if answer == nil {
		time.Sleep(30 * time.Second)
		return nil, errors.New("station didn't answer within 30s")
	}
	head, err := ocpp.ParseHead(answer)
	switch {
	case err != nil:
		return nil, err
	case head.Type == ocpp.CallError:
		failure, err := ocpp.ParseCallFailure(answer)
		if err != nil {
			return nil, err
		}
		return nil, failure
	}
	return json.RawMessage(head.Payload), nil
}

// send is a CALL of the station's; it returns the answer's payload.
func (s *simSession) send(action string, payload any) json.RawMessage {
	frame, err := ocpp.AppendCall(nil, "station-1", action, payload)
	if err != nil {
		panic(err)
	}
	head, err := ocpp.ParseHead(frame)
	if err != nil {
		panic(err)
	}
	v := s.s.f.svc.Message(s.ctx, s, fleet.Message{Direction: ocpp.FromStation, Head: head, Action: head.Action, Payload: json.RawMessage(head.Payload)})
	if v.After != nil {
		s.Go(v.After)
	}
	if v.Act != fleet.Answer {
		return nil
	}
	out, err := json.Marshal(v.Payload)
	if err != nil {
		panic(err)
	}
	return out
}
