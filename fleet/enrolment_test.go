package fleet_test

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bollard/ca"
	"bollard/fleet"
	"bollard/ocpp"
	"bollard/store"
)

var _ fleet.EnrolmentStore = (*store.Store)(nil)

// RFC 7030 §4.2, §3.2.3: a one-time secret brings one certificate, whose request
// may be repeated as long as the answer gets lost.
func TestESTOneTimeSecret(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{Identity: "CS-1"})
	d := r.est()
	shown := d.secret("CS-1")
	// A request that gets no intent uses nothing up: here the clock has gone back.
	r.advance(-30 * time.Minute)
	d.wantStatus(d.ask("simpleenroll", csrDER(t, newKey(t), "SN-CS-1", organisation), shown), 202)
	r.advance(30 * time.Minute)
	key := newKey(t)
	csr := csrDER(t, key, "SN-CS-1", organisation)
	cert := d.certificate(d.ask("simpleenroll", csr, shown))
	if cert.Subject.CommonName != "SN-CS-1" || !key.PublicKey.Equal(cert.PublicKey) {
		t.Errorf("certificate for %s", cert.Subject)
	}
	order := r.waitOrder("CS-1", fleet.OrderDelivered)
	if order.Wire != fleet.WireEST || order.Serial != ca.SerialOf(cert) {
		t.Errorf("order %+v", order)
	}
	if rec := r.records("CS-1"); len(rec) != 1 || rec[0].Reference != order.ID || rec[0].State != ca.StateIssued {
		t.Errorf("records %+v", rec)
	}
	for kind, want := range map[string]map[string]string{
		"station.enrol-secret":      {"until": "2026-06-02T12:00:00Z"},
		"station.enrol-secret-used": {"key": r.records("CS-1")[0].KeyHash},
		"order.accepted":            {"station": "cs-1", "door": "est", "proof": "one-time secret"},
	} {
		if e := r.events(kind); len(e) != 1 || !cmp.Equal(e[0].Data, want) {
			t.Errorf("%s: %+v", kind, e)
		}
	}
	// The answer got lost: the same request, the same key in another request.
	for _, again := range [][]byte{csr, csrDER(t, key, "SN-CS-1", organisation)} {
		if got := d.certificate(d.ask("simpleenroll", again, shown)); !got.Equal(cert) {
			t.Error("another certificate for the same key")
		}
	}
	// Another key: used up.
	d.wantStatus(d.ask("simpleenroll", csrDER(t, newKey(t), "SN-CS-1", organisation), shown), 403)
	if n := len(r.records("CS-1")); n != 1 {
		t.Errorf("%d certificates were prepared", n)
	}
	// And it works at the front door, which closes the order.
	r.open(r.admit(withCertificates(claim(t, "CS-1"), cert)), ocpp.V201)
	r.waitOrder("CS-1", fleet.OrderConfirmed)
}

// One secret, one key, one certificate, however many ask at once.
func TestESTOneTimeSecretOnceInParallel(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{Identity: "CS-1"})
	d := r.est()
	shown := d.secret("CS-1")
	answers := make([]estAnswer, 8)
	var wait sync.WaitGroup
	same := csrDER(t, newKey(t), "SN-CS-1", organisation)
	for i := range answers {
		csr := same
		if i >= 4 {
			csr = csrDER(t, newKey(t), "SN-CS-1", organisation)
		}
		wait.Go(func() { answers[i] = d.ask("simpleenroll", csr, shown) })
	}
	wait.Wait()
	taken := map[string]bool{}
	for _, a := range answers {
		if a.status == 200 {
			taken[a.body] = true
		}
	}
	if rec := r.records("CS-1"); len(taken) != 1 || len(rec) != 1 {
		t.Errorf("%d different certificates were given, %d recorded", len(taken), len(rec))
	}
}

// A renewal that is repeated before its answer came is the same one: one
// request of a station at a time has its turn.
func TestESTRenewalOnceInParallel(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{Identity: "CS-1", Profile: 3})
	shown := r.ownCertificate("CS-1", "SN-CS-1")
	d := r.est()
	csr := csrDER(t, newKey(t), "SN-CS-1", organisation)
	answers := make([]estAnswer, 8)
	var wait sync.WaitGroup
	for i := range answers {
		wait.Go(func() { answers[i] = d.ask("simplereenroll", csr, shown) })
	}
	wait.Wait()
	for _, a := range answers {
		if a != answers[0] || a.status != 200 {
			t.Errorf("%d %s, another request got %d %s", a.status, a.body, answers[0].status, answers[0].body)
		}
	}
	if n := len(r.records("CS-1")); n != 2 {
		t.Errorf("%d certificates, want the one it had and one more", n)
	}
}

// What doesn't prove a station is refused, alike for known and unknown ones.
func TestESTUnproven(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{Identity: "CS-1"})
	r.add(fleet.Enrolment{Identity: "CS-2"})
	r.add(fleet.Enrolment{Identity: "CS-3"})
	d := r.est()
	expired := d.secret("CS-3")
	r.advance(24 * time.Hour)
	replaced := d.secret("CS-1")
	good := d.secret("CS-1")
	other := credentials{user: good.user, secret: good.secret}
	own := r.ownCertificate("CS-2", "SN-CS-2")
	other.cert, other.key = own.cert, own.key
	stranger := newMaker(t, r.clock())
	for name, tt := range map[string]struct {
		operation string
		shown     credentials
		status    int
		reason    string // in the log; "" if nothing is logged
	}{
		"nothing":                            {"simpleenroll", credentials{}, 401, ""},
		"a wrong secret":                     {"simpleenroll", credentials{user: "CS-1", secret: "no"}, 401, "wrong one-time secret"},
		"a replaced secret":                  {"simpleenroll", replaced, 401, "wrong one-time secret"},
		"an expired secret":                  {"simpleenroll", expired, 401, "one-time secret expired"},
		"another's secret":                   {"simpleenroll", credentials{user: "CS-2", secret: good.secret}, 401, "no one-time secret is set"},
		"an unknown identity":                {"simpleenroll", credentials{user: "CS-9", secret: good.secret}, 401, "identity is not enrolled"},
		"no identity":                        {"simpleenroll", credentials{user: "a/b", secret: good.secret}, 401, "identity is not enrolled"},
		"another's certificate beside it":    {"simpleenroll", other, 401, "another station's certificate beside"},
		"an untrusted certificate":           {"simpleenroll", stranger.factory(r, "SN-CS-1"), 403, "chains to no root"},
		"a secret for a renewal":             {"simplereenroll", good, 403, "a renewal without a certificate"},
		"an untrusted one to be renewed":     {"simplereenroll", stranger.factory(r, "SN-CS-1"), 403, "chains to no root"},
		"the secret, to have a counter-test": {"simpleenroll", good, 200, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r.advance(2 * time.Minute) // refusals are logged once a minute
			a := d.ask(tt.operation, csrDER(t, newKey(t), "SN-CS-1", organisation), tt.shown)
			d.wantStatus(a, tt.status)
			if !strings.Contains(r.logged(), tt.reason) {
				t.Errorf("the log lacks %q:\n%s", tt.reason, r.logged())
			}
			if a.status != 200 && (strings.Contains(a.body, "expired") || strings.Contains(a.body, "enrolled") || strings.Contains(a.body, "wrong")) {
				t.Errorf("the client was told %q", a.body)
			}
		})
	}
	r.advance(2 * time.Minute)
	eventually(t, "a refusal in the ledger", func() bool {
		fleet.FlushRefusals(t.Context(), r.svc)
		return len(r.events("claim.refused")) > 0
	})
	if strings.Contains(r.logged(), good.secret) || strings.Contains(r.logged(), expired.secret) {
		t.Error("a secret is in the log")
	}
}

// ownCertificate issues one of the own hierarchy, with its key.
func (r *rig) ownCertificate(identity, serial string) credentials {
	r.t.Helper()
	key := newKey(r.t)
	csr, err := ca.ParseCSR(csrDER(r.t, key, serial, organisation))
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
	return credentials{cert: issued.Certificate, key: key}
}

// Unknown identities cost what known ones do: one fast hash.
func TestESTEqualWork(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{Identity: "CS-1"})
	r.add(fleet.Enrolment{Identity: "CS-2"})
	d := r.est()
	d.secret("CS-1")
	answers := map[estAnswer]bool{}
	for _, identity := range []string{"CS-1", "CS-2", "CS-9", "a/b"} {
		fast, slow := fleet.Hashes(r.svc)
		answers[d.ask("simpleenroll", nil, credentials{user: identity, secret: "wrong"})] = true
		fastAfter, slowAfter := fleet.Hashes(r.svc)
		if fastAfter-fast != 1 || slowAfter != slow {
			t.Errorf("%s: %d fast and %d slow hashes", identity, fastAfter-fast, slowAfter-slow)
		}
	}
	if len(answers) != 1 {
		t.Errorf("answers differ: %+v", answers)
	}
}

// Guessing is slowed down, and doesn't keep the station out.
func TestESTFailureBudget(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{Identity: "CS-1"})
	d := r.est()
	shown := d.secret("CS-1")
	last := estAnswer{}
	for range 12 {
		last = d.ask("simpleenroll", nil, credentials{user: "CS-1", secret: "wrong"})
	}
	if last.status != 429 || last.retry == "" {
		t.Errorf("after twelve failures: %+v", last)
	}
	d.certificate(d.ask("simpleenroll", csrDER(t, newKey(t), "SN-CS-1", organisation), shown))
}

// A00.FR.406, A00.FR.405: the maker's certificate brings the station's first.
func TestESTFactoryCertificate(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	m := newMaker(t, r.clock())
	r.trust(m)
	pinned := m.factory(r, "whatever the maker wrote")
	r.add(fleet.Enrolment{Identity: "CS-1", Profile: 3})
	r.add(fleet.Enrolment{Identity: "CS-2", Profile: 3, Alias: "BOARD-2"})
	r.add(fleet.Enrolment{Identity: "CS-3", Profile: 3, FactoryHash: fingerprint(pinned.cert)})
	d := r.est()
	for name, tt := range map[string]struct {
		shown     credentials
		operation string
		serial    string
		status    int
		reason    string
	}{
		"by its serial number": {m.factory(r, "SN-CS-1"), "simpleenroll", "SN-CS-1", 200, ""},
		"by an alias":          {m.factory(r, "BOARD-2"), "simpleenroll", "SN-CS-2", 200, ""},
		"by its pin":           {pinned, "simpleenroll", "SN-CS-3", 200, ""},
		"another than pinned":  {m.factory(r, "SN-CS-3"), "simpleenroll", "SN-CS-3", 403, "not the pinned one"},
		"of nobody":            {m.factory(r, "SN-9"), "simpleenroll", "SN-9", 403, "belongs to no enrolled station"},
		"not for a renewal":    {m.factory(r, "SN-CS-1"), "simplereenroll", "SN-CS-1", 403, "a renewal was asked for with the factory certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			r.advance(2 * time.Minute)
			a := d.ask(tt.operation, csrDER(t, newKey(t), tt.serial, ""), tt.shown)
			d.wantStatus(a, tt.status)
			if tt.status == 200 {
				if cert := d.certificate(a); cert.Subject.CommonName != tt.serial || cert.Subject.Organization[0] != organisation {
					t.Errorf("certificate for %s", cert.Subject)
				}
			}
			if !strings.Contains(r.logged(), tt.reason) {
				t.Errorf("the log lacks %q:\n%s", tt.reason, r.logged())
			}
		})
	}
	// The key of the factory certificate stays the factory certificate's.
	f := m.factory(r, "SN-CS-1")
	d.wantStatus(d.ask("simpleenroll", csrDER(t, f.key, "SN-CS-1", ""), f), 400)
}

// Threat C13, RFC 7030 §4.2.2: a renewal is proven by the certificate it
// renews, and brings a new key.
func TestESTRenewal(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{Identity: "CS-1", Profile: 3})
	r.add(fleet.Enrolment{Identity: "CS-2", Profile: 3})
	d := r.est()
	first := r.ownCertificate("CS-1", "SN-CS-1")
	revoked := r.ownCertificate("CS-1", "SN-CS-1")
	if _, err := r.svc.Revoke(t.Context(), "operator", ca.SerialOf(revoked.cert), "superseded"); err != nil {
		t.Fatal(err)
	}
	foreign := r.ownCertificate("CS-2", "SN-CS-2")
	request := func(key crypto.Signer) []byte { return csrDER(t, key, "SN-CS-1", organisation) }

	t.Run("same key", func(t *testing.T) { // A02.FR.02
		d.wantStatus(d.ask("simplereenroll", request(first.key), first), 400)
	})
	t.Run("revoked", func(t *testing.T) {
		d.wantStatus(d.ask("simplereenroll", request(newKey(t)), revoked), 403)
		d.wantStatus(d.ask("simpleenroll", request(newKey(t)), revoked), 403)
	})
	t.Run("key of a revoked one", func(t *testing.T) {
		d.wantStatus(d.ask("simplereenroll", request(revoked.key), first), 400)
	})
	t.Run("for another station", func(t *testing.T) {
		d.wantStatus(d.ask("simplereenroll", request(newKey(t)), foreign), 400) // CN of CS-1
	})
	t.Run("another station's key", func(t *testing.T) {
		d.wantStatus(d.ask("simplereenroll", request(foreign.key), first), 400)
	})
	second := credentials{key: newKey(t)}
	t.Run("new key", func(t *testing.T) {
		csr := request(second.key)
		second.cert = d.certificate(d.ask("simplereenroll", csr, first))
		// Asked again because the answer got lost, with the old one.
		if got := d.certificate(d.ask("simplereenroll", csr, first)); !got.Equal(second.cert) {
			t.Error("a second certificate for one request")
		}
	})
	r.advance(300 * 24 * time.Hour)
	d = r.est() // with a server certificate of today
	t.Run("key of one that is due", func(t *testing.T) {
		d.wantStatus(d.ask("simplereenroll", request(second.key), first), 400)
	})
	r.advance(80 * 24 * time.Hour)
	d = r.est()                           // with a server certificate of today
	t.Run("expired", func(t *testing.T) { // A00.FR.429
		d.wantStatus(d.ask("simplereenroll", request(newKey(t)), second), 403)
		d.wantStatus(d.ask("simpleenroll", request(newKey(t)), second), 403)
	})
	t.Run("expired and let in", func(t *testing.T) {
		if _, err := r.svc.Renew(t.Context(), "operator", "CS-1", 48*time.Hour); err != nil {
			t.Fatal(err)
		}
		d.certificate(d.ask("simplereenroll", request(newKey(t)), second))
		if r.station("CS-1").RenewWanted {
			t.Error("the station is still to be asked for a CSR")
		}
		d.wantStatus(d.ask("simplereenroll", request(newKey(t)), revoked), 403)
	})
	t.Run("removed", func(t *testing.T) {
		if err := r.svc.Remove(t.Context(), "operator", "CS-2"); err != nil {
			t.Fatal(err)
		}
		d.wantStatus(d.ask("simplereenroll", csrDER(t, newKey(t), "SN-CS-2", organisation), foreign), 403)
	})
}

// An outside certificate with the operator's organisation proves its station,
// but one that isn't on record is not renewed.
func TestESTRenewsOnlyWhatIsOnRecord(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	m := newMaker(t, r.clock())
	r.trust(m)
	r.add(fleet.Enrolment{Identity: "CS-1", Profile: 3})
	d := r.est()
	shown := credentials{key: newKey(t)}
	shown.cert = m.Issue(&x509.Certificate{
		Subject: pkix.Name{CommonName: "SN-CS-1", Organization: []string{organisation}}, NotBefore: r.clock().AddDate(0, -1, 0),
		NotAfter: r.clock().AddDate(1, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}, shown.key)
	d.wantStatus(d.ask("simplereenroll", csrDER(t, newKey(t), "SN-CS-1", organisation), shown), 403)
	if err := r.auth.RecordExternal(t.Context(), shown.cert, "cs-1", "operator"); err != nil {
		t.Fatal(err)
	}
	d.certificate(d.ask("simplereenroll", csrDER(t, newKey(t), "SN-CS-1", organisation), shown))
}

// A station is asked to repeat its request while nothing can be signed, and the
// request it repeats is the same order.
func TestESTWaitsForSigning(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	broken := &faultySigner{}
	r.dirty = func(s crypto.Signer) crypto.Signer { broken.Signer = s; return broken }
	r.start()
	r.add(fleet.Enrolment{Identity: "CS-1"})
	d := r.est()
	shown := d.secret("CS-1")
	csr := csrDER(t, newKey(t), "SN-CS-1", organisation)

	broken.set(true)
	if a := d.ask("simpleenroll", csr, shown); a.status != 202 || a.retry != "60" {
		t.Errorf("without the CA's key: %+v", a)
	}
	order := r.waitOrder("CS-1", fleet.OrderAccepted)
	// An OCPP session in between doesn't get what was asked for over EST.
	password, err := r.svc.SetPassword(t.Context(), "operator", "CS-1", nil)
	if err != nil {
		t.Fatal(err)
	}
	broken.set(false)
	if _, err := r.svc.Renew(t.Context(), "operator", "CS-1", 0); err != nil {
		t.Fatal(err)
	}
	s := r.open(r.admit(withPassword(claim(t, "CS-1"), password)), ocpp.V16)
	r.advance(time.Minute) // the session counts as accepted
	// Open orders are taken up before a CSR is asked for; this one doesn't keep
	// the session from asking.
	eventually(t, "the plan runs", func() bool { return len(s.actions()) > 0 })
	s.close()
	if n := len(s.sent("CertificateSigned")); n != 0 {
		t.Errorf("%d CertificateSigned for an EST request", n)
	}
	// The clock went back.
	r.advance(-30 * time.Minute)
	if a := d.ask("simpleenroll", csr, shown); a.status != 202 {
		t.Errorf("with a wrong clock: %+v", a)
	}
	r.advance(30 * time.Minute)
	// The process is killed, and is back.
	r.restart()
	d = r.est()
	cert := d.certificate(d.ask("simpleenroll", csr, shown))
	if got := r.waitOrder("CS-1", fleet.OrderDelivered); got.ID != order.ID {
		t.Error("another order")
	}
	issued := 0
	for _, rec := range r.records("CS-1") {
		if rec.State == ca.StateIssued {
			issued++
			if rec.Serial != ca.SerialOf(cert) || rec.Reference != order.ID {
				t.Errorf("record %+v", rec)
			}
		}
	}
	if issued != 1 {
		t.Errorf("%d certificates issued", issued)
	}
	// The database is gone: nobody can be judged.
	if err := r.store.Close(); err != nil {
		t.Fatal(err)
	}
	if a := d.ask("simpleenroll", csr, shown); a.status != 503 || a.retry != "60" {
		t.Errorf("without the database: %+v", a)
	}
}

// faultySigner signs unless it is told not to.
type faultySigner struct {
	crypto.Signer
	mu    sync.Mutex
	fault bool
}

func (s *faultySigner) set(fault bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

// Sign fails where told.
func (s *faultySigner) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	s.mu.Lock()
	fault := s.fault
	s.mu.Unlock()
	if fault {
		return nil, errors.New("the module doesn't answer")
	}
	return s.Signer.Sign(random, digest, opts)
}

// A station that asks all the time is slowed down.
func TestESTRequestBudget(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{Identity: "CS-1", Profile: 3})
	d := r.est()
	own := r.ownCertificate("CS-1", "SN-CS-1")
	for range 10 {
		d.wantStatus(d.ask("simplereenroll", csrDER(t, own.key, "SN-CS-1", organisation), own), 400)
	}
	if a := d.ask("simplereenroll", csrDER(t, newKey(t), "SN-CS-1", organisation), own); a.status != 429 || a.retry != "60" {
		t.Errorf("%+v", a)
	}
	r.advance(2 * time.Minute)
	d.certificate(d.ask("simplereenroll", csrDER(t, newKey(t), "SN-CS-1", organisation), own))
}

// fingerprint is the SHA-256 of a certificate as operators write it.
func fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return hex.EncodeToString(sum[:])
}

func TestESTSecretLimits(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{Identity: "CS-1"})
	g := fleet.NewRegistrar(r.svc, r.store)
	for _, valid := range []time.Duration{0, -time.Hour, time.Minute - 1, 90*24*time.Hour + 1} {
		if _, _, err := g.NewSecret(t.Context(), "operator", "CS-1", valid); err == nil {
			t.Errorf("a secret was made for %s", valid)
		}
	}
	if _, _, err := g.NewSecret(t.Context(), "operator", "CS-9", time.Hour); !errors.Is(err, fleet.ErrUnknownStation) {
		t.Errorf("for an unknown station: %v", err)
	}
	secret, until, err := g.NewSecret(t.Context(), "operator", "cs-1", time.Hour)
	if err != nil || len(secret) != 20 || !until.Equal(r.clock().Add(time.Hour)) {
		t.Errorf("%d characters until %s, %v", len(secret), until, err)
	}
	// It ends with the station.
	if err := r.svc.Remove(t.Context(), "operator", "CS-1"); err != nil {
		t.Fatal(err)
	}
	r.add(fleet.Enrolment{Identity: "CS-1"})
	if _, reg, err := r.store.Applicant(t.Context(), "cs-1"); reg != nil || err != nil {
		t.Errorf("a removed station's secret is still there: %v", err)
	}
}
