package fleet_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"bollard/ca"
	"bollard/ca/catest"
	"bollard/ca/revocation"
	"bollard/fleet"
	"bollard/keys"
	"bollard/ledger"
	"bollard/ocpp"
	"bollard/store"
)

const organisation = "Example CPO"

var source = netip.MustParseAddr("192.0.2.7")

// rig is a fleet over a real database and a real authority, with a clock and
// timers the test moves.
type rig struct {
	t       testing.TB
	dir     string
	path    string
	store   *store.Store
	auth    *ca.Authority
	keys    *keys.Keeper
	svc     *fleet.Service
	checker asking // of the service
	log     *bytes.Buffer
	dirty   func(crypto.Signer) crypto.Signer // wraps the issuing key
	unk     int
	org     string // of the service

	rollover    func(context.Context) (*fleet.Rollover, error)
	rolloverURL string
	served      func(context.Context) ([]*x509.Certificate, error)
	keep        func(ctx context.Context, backend, station string, password []byte, e ledger.Event) (bool, error)
	guard       []fleet.GuardRule
	approved    fleet.Approved
	p224        []fleet.Model
	cars        func() bool
	renewals    int  // a minute; 0: as by default
	revoke      bool // superseded certificates
	verdictKey  []byte
	watcher     fleet.Watcher
	wrap        func(fleet.Store) fleet.Store // the service's; nil: it is store

	mu     sync.Mutex
	now    time.Time
	timers []*timer
	live   []*fakeSession
	serial int
	counts map[string]int
}

type timer struct {
	at   time.Time
	f    func()
	done bool
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := rigIn(t, t.TempDir(), time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC))
	err := ca.Init(t.Context(), ca.InitConfig{Store: r.store, Keeper: r.keys, Organisation: organisation, Country: "NL", Clock: r.clock})
	if err != nil {
		t.Fatal(err)
	}
	r.start()
	return r
}

// reopenRig is a rig on what another process left.
func reopenRig(t testing.TB, dir string) *rig {
	t.Helper()
	r := rigIn(t, dir, time.Date(2026, 6, 1, 13, 0, 0, 0, time.UTC))
	r.start()
	return r
}

// rigIn is a rig that hasn't started.
func rigIn(t testing.TB, dir string, now time.Time) *rig {
	t.Helper()
	r := &rig{t: t, dir: dir, path: filepath.Join(dir, "bollard.db"), now: now, log: &bytes.Buffer{}, unk: 401, org: organisation, counts: map[string]int{}}
	var err error
	if r.keys, err = keys.New(keys.Config{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	r.openStore()
	t.Cleanup(func() { _ = r.store.Close() })
	return r
}

func (r *rig) openStore() {
	r.t.Helper()
	var err error
	if r.store, err = store.Open(r.t.Context(), store.Config{Path: r.path, Clock: r.clock}); err != nil {
		r.t.Fatal(err)
	}
}

// start makes authority and service anew, as a process does.
func (r *rig) start() {
	r.t.Helper()
	var err error
	r.auth, err = ca.New(r.t.Context(), ca.Config{Store: r.store, Organisation: organisation, Country: "NL", Clock: r.clock, Keeper: r.keys,
		Keys: func(ctx context.Context, uri string) (crypto.Signer, error) {
			s, err := r.keys.Open(ctx, uri, keys.RoleCA)
			if err == nil && r.dirty != nil {
				return r.dirty(s), nil
			}
			return s, err
		}})
	if err != nil {
		r.t.Fatal(err)
	}
	disk := fleet.Store(r.store)
	if r.wrap != nil {
		disk = r.wrap(disk)
	}
	r.svc, err = fleet.New(r.t.Context(), fleet.Config{
		Store: disk, Authority: r.auth, Revocation: &r.checker, Organisation: r.org, PublicURL: "wss://bollard.example:8443/ocpp", RolloverURL: r.rolloverURL,
		Record:       func(ctx context.Context, e ledger.Event) error { return r.store.Record(ctx, e) },
		KeepUpstream: r.keep, Guard: r.guard, Approved: r.approved, P224: r.p224,
		Rollover: r.rollover, ServedRoots: r.served, RenewalsPerMinute: r.renewals, RevokeSuperseded: r.revoke, Watcher: r.watcher,
		Clock: r.clock, UnknownIdentity: r.unk, Log: slog.New(slog.NewTextHandler(&lockedWriter{r: r}, nil)),
		AnswersCars: r.cars, VerdictKey: r.verdictKey,
		Refused: func(class string) { r.mu.Lock(); r.counts[class]++; r.mu.Unlock() },
	})
	if err != nil {
		r.t.Fatal(err)
	}
	fleet.SetAfter(r.svc, r.after)
	r.svc.Attach(r)
}

// asking is whom the service asks about certificates, once there is somebody.
type asking struct{ *revocation.Checker }

// restart is a crash and a new process.
func (r *rig) restart() {
	r.t.Helper()
	for _, s := range r.Sessions() {
		s.(*fakeSession).close()
	}
	if err := r.store.Close(); err != nil {
		r.t.Fatal(err)
	}
	r.openStore()
	r.start()
}

type lockedWriter struct{ r *rig }

func (w *lockedWriter) Write(p []byte) (int, error) {
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	return w.r.log.Write(p)
}

func (r *rig) logged() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.String()
}

func (r *rig) clock() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

func (r *rig) after(d time.Duration, f func()) func() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := &timer{at: r.now.Add(d), f: f}
	r.timers = append(r.timers, t)
	return func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		stopped := !t.done
		t.done = true
		return stopped
	}
}

// advance moves the clock and runs what falls due.
func (r *rig) advance(d time.Duration) {
	r.mu.Lock()
	r.now = r.now.Add(d)
	var due []func()
	for _, t := range r.timers {
		if !t.done && !t.at.After(r.now) {
			t.done = true
			due = append(due, t.f)
		}
	}
	r.mu.Unlock()
	for _, f := range due {
		f()
	}
}

// Session, Sessions and EndIf make the rig a fleet.Sessions.
func (r *rig) Session(key string) (fleet.Session, bool) {
	for _, s := range r.Sessions() {
		if adm := s.Admission(); keyOf(adm.Station.Identity) == key {
			return s, true
		}
	}
	return nil, false
}

func (r *rig) Sessions() []fleet.Session {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []fleet.Session
	for _, s := range r.live {
		list = append(list, s)
	}
	return list
}

func (r *rig) EndIf(why func(fleet.Admission) (string, bool)) int { return endIf(r.Sessions(), why) }

func endIf(list []fleet.Session, why func(fleet.Admission) (string, bool)) int {
	n := 0
	for _, s := range list {
		if reason, end := why(s.Admission()); end {
			s.End(reason)
			n++
		}
	}
	return n
}

func keyOf(identity string) string { return ocpp.Identity{Name: identity}.Key() }

// add enrols a station and returns its password.
func (r *rig) add(e fleet.Enrolment) string {
	r.t.Helper()
	if e.Identity == "" {
		e.Identity = "CS-1"
	}
	if e.Serial == "" {
		e.Serial = "SN-" + e.Identity
	}
	if e.Profile == 0 {
		e.Profile = 2
	}
	added, err := r.svc.Add(r.t.Context(), "operator", []fleet.Enrolment{e})
	if err != nil {
		r.t.Fatal(err)
	}
	return added[0].Password
}

func (r *rig) station(identity string) fleet.Station {
	r.t.Helper()
	st, err := r.svc.Station(r.t.Context(), identity)
	if err != nil {
		r.t.Fatal(err)
	}
	return st
}

// proven is what its sessions keep of a station's record.
func (r *rig) proven(identity string) fleet.Proven {
	r.t.Helper()
	st := r.station(identity)
	return st.Proven()
}

// pseudonym is what stands for a person in the ledger.
func (r *rig) pseudonym(name string) string {
	r.t.Helper()
	p, err := r.store.Pseudonym(r.t.Context(), name)
	if err != nil {
		r.t.Fatal(err)
	}
	return p
}

func (r *rig) events(kind string) []ledger.Entry {
	r.t.Helper()
	var list []ledger.Entry
	for e, err := range r.store.Entries(r.t.Context(), 1) {
		if err != nil {
			r.t.Fatal(err)
		}
		if e.Kind == kind {
			list = append(list, e)
		}
	}
	return list
}

func identity(t testing.TB, path string) ocpp.Identity {
	t.Helper()
	id, err := ocpp.ParsePath("/ocpp/"+path, "/ocpp/")
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func claim(t testing.TB, path string) fleet.Claim {
	return fleet.Claim{Identity: identity(t, path), Source: source, Listener: "main", Profiles: []int{2, 3}, TLS: true}
}

func withPassword(c fleet.Claim, password string) fleet.Claim {
	c.Basic = &fleet.Basic{User: c.Identity.Name, Password: []byte(password)}
	return c
}

func withCertificates(c fleet.Claim, certs ...*x509.Certificate) fleet.Claim {
	c.Certificates = certs
	return c
}

// refusal wants a claim refused.
func (r *rig) refusal(c fleet.Claim) *fleet.Refusal {
	r.t.Helper()
	adm, err := r.svc.Admit(r.t.Context(), c)
	var refused *fleet.Refusal
	if !errors.As(err, &refused) {
		r.t.Fatalf("Admit = profile %d, %v; want a refusal", adm.Profile, err)
	}
	return refused
}

func (r *rig) admit(c fleet.Claim) fleet.Admission {
	r.t.Helper()
	adm, err := r.svc.Admit(r.t.Context(), c)
	if err != nil {
		r.t.Fatalf("Admit: %v", err)
	}
	return adm
}

func newKey(t testing.TB) *ecdsa.PrivateKey { t.Helper(); return catest.NewKey(t) }

func csrPEM(t testing.TB, key crypto.Signer, cn, org string) string {
	t.Helper()
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csrDER(t, key, cn, org)}))
}

func csrDER(t testing.TB, key crypto.Signer, cn, org string) []byte {
	t.Helper()
	name := pkix.Name{CommonName: cn}
	if org != "" {
		name.Organization = []string{org}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: name}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// issue makes a station certificate of the own hierarchy.
func (r *rig) issue(identity, serial string) []*x509.Certificate {
	r.t.Helper()
	csr, err := ca.ParseCSR(csrDER(r.t, newKey(r.t), serial, organisation))
	if err != nil {
		r.t.Fatal(err)
	}
	p, err := r.auth.Prepare(r.t.Context(), ca.Order{Profile: ca.ProfileStation, Key: csr.Key, Subject: ca.Subject{CommonName: serial},
		Station: keyOf(identity), Requester: "test"})
	if err != nil {
		r.t.Fatal(err)
	}
	issued, err := r.auth.Issue(r.t.Context(), p)
	if err != nil {
		r.t.Fatal(err)
	}
	return append([]*x509.Certificate{issued.Certificate}, issued.Chain...)
}

// maker is an outside root for factory certificates.
type maker struct{ *catest.Outside }

func newMaker(t testing.TB, now time.Time) *maker {
	t.Helper()
	return &maker{catest.NewOutside(t, now)}
}

func (r *rig) trust(m *maker) { r.trustFor("station", m) }

func (r *rig) trustFor(use string, m *maker) {
	r.t.Helper()
	data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: m.Cert.Raw})
	if _, err := r.auth.AddAnchor(r.t.Context(), use, data, "operator"); err != nil {
		r.t.Fatal(err)
	}
}

// eventually waits for a condition with a deadline, which only a test that fails
// comes to: the machine may have much else to do.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never came about: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func serialOf(cert *x509.Certificate) string { return ca.SerialOf(cert) }

// attribute is one more common name.
func attribute(cn string) pkix.AttributeTypeAndValue {
	return pkix.AttributeTypeAndValue{Type: []int{2, 5, 4, 3}, Value: cn}
}

// presented is the certificate that proved an admission.
func (r *rig) presented(adm fleet.Admission) *x509.Certificate {
	r.t.Helper()
	rec, err := r.auth.Lookup(r.t.Context(), adm.Leaf.Serial)
	if err != nil {
		r.t.Fatal(err)
	}
	return rec.Certificate
}
