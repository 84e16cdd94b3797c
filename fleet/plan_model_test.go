package fleet_test

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"bollard/fleet"
	"bollard/ocpp"
)

// planModel is one station that does what it is told, or not, beside what an
// operator wants of it. It knows what the station really has; Bollard has to
// find out.
type planModel struct {
	r       *rig
	rt      *rapid.T
	taker   *taker
	shelf   *shelf
	session *fakeSession
	version ocpp.Version

	has    string   // password the station logs in with
	was    []string // passwords it had before
	proven int      // highest profile it was seen on

	mu      sync.Mutex // the station answers while the model looks
	chain   []*x509.Certificate
	signed  string
	serials map[string]bool
}

func (m *planModel) answer(action string, payload json.RawMessage) (any, error) {
	if action == "CertificateSigned" {
		got := chainOf(m.r.t, payload)
		m.mu.Lock()
		defer m.mu.Unlock()
		m.serials[serialOf(got[0])] = true
		switch m.signed {
		case "lost":
			m.chain = got // it took it, the answer went astray
			return nil, errors.New("connection lost")
		case "Rejected":
			return ocpp.GenericStatus{Status: "Rejected"}, nil
		}
		m.chain = got
		return ocpp.GenericStatus{Status: "Accepted"}, nil
	}
	return m.taker.answer(action, payload)
}

// settle lets what runs come to rest and takes over what it changed on the
// station.
func (m *planModel) settle(restarted bool) {
	if m.session != nil {
		for range 4 {
			m.r.advance(6 * time.Minute)
			synctest.Wait()
		}
		m.session.close()
		m.session = nil
	}
	m.taker.mu.Lock()
	defer m.taker.mu.Unlock()
	switch {
	case m.taker.got == "" || m.taker.got == m.has:
	case m.taker.how == "RebootRequired" && !restarted && m.taker.resets == 0:
		return // it takes effect with a restart only
	default:
		m.was, m.has = append(m.was, m.has), m.taker.got
	}
	m.taker.got, m.taker.resets = "", 0
}

func (m *planModel) connect(c fleet.Claim, profile int) {
	adm, err := m.r.svc.Admit(m.r.t.Context(), c)
	if err != nil {
		m.rt.Fatalf("locked out on profile %d: %v; station %+v", profile, err, m.r.station("CS-1"))
	}
	m.session = m.r.openWith(adm, m.version, fleet.SecurityBollard, m.answer)
	if got := m.session.endedWith(); got != "" {
		m.rt.Fatalf("session ended at once: %s", got)
	}
	m.proven = max(m.proven, profile)
	m.r.advance(10 * time.Second)
}

func (m *planModel) step(what string) {
	ctx := m.r.t.Context()
	switch what {
	case "password":
		m.settle(false)
		if m.proven < 3 {
			m.connect(withPassword(claim(m.r.t, "CS-1"), m.has), 2)
		}
	case "certificate":
		m.settle(false)
		m.mu.Lock()
		chain := m.chain
		m.mu.Unlock()
		if chain != nil {
			m.connect(withCertificates(claim(m.r.t, "CS-1"), chain...), 3)
		}
	case "request":
		if m.session != nil {
			m.session.message(ocpp.FromStation, "SignCertificate", csrPayload(m.r.t, newKey(m.r.t), "SN-CS-1"))
			m.session.wait()
		}
	case "rotate":
		if _, err := m.r.svc.Rotate(ctx, "operator", "CS-1"); (err != nil) != (m.proven >= 3) {
			m.rt.Fatalf("rotate on profile %d: %v", m.proven, err)
		}
	case "raise":
		if _, err := m.r.svc.SetProfile(ctx, "operator", "CS-1", 3); err != nil {
			m.rt.Fatal(err)
		}
	case "root":
		if _, err := m.r.svc.WantRoot(ctx, "operator", "CS-1", "csms", nil); err != nil {
			m.rt.Fatal(err)
		}
	case "restart":
		// A crash: what ran is cut off where it is.
		if m.session != nil {
			m.session.cancel()
		}
		m.r.restart()
		m.session = nil
		m.settle(true)
	}
}

func (m *planModel) check() {
	st := m.r.station("CS-1")
	if st.FloorProfile < m.proven {
		m.rt.Fatalf("floor is %d, the station was proven on %d", st.FloorProfile, m.proven)
	}
	m.mu.Lock()
	serials := slices.Collect(maps.Keys(m.serials))
	m.mu.Unlock()
	for _, serial := range serials {
		rec, err := m.r.auth.Lookup(m.r.t.Context(), serial)
		if err != nil || rec.Serial != serial || rec.Station != "cs-1" {
			m.rt.Fatalf("certificate %s isn't on record: %v", serial, err)
		}
	}
	if st.Pending != nil || m.proven >= 3 {
		return
	}
	for _, old := range m.was {
		if _, err := m.r.svc.Admit(m.r.t.Context(), withPassword(claim(m.r.t, "CS-1"), old)); err == nil && !slices.Contains([]string{m.has}, old) {
			m.rt.Fatal("a password the station gave up is still taken although nothing is undecided")
		}
	}
}

// Random plans, reconnects, lost answers and restarts: nobody is locked out,
// nothing lower than proven comes in, every certificate is on record.
func TestPlanModel(t *testing.T) { // A01.FR.03, A01.FR.04, A05.FR.09, promises 4 and 7
	t.Parallel()
	checkInBubbles(t, randomPlan)
}

func randomPlan(t testing.TB, rt *rapid.T) {
	r := newRig(t)
	v := rapid.SampledFrom(versions()).Draw(rt, "version")
	sh := newShelf(t, v)
	sh.values = map[string]string{"NetworkConfigurationPriority": "1,0", "ActiveNetworkProfile": "1"}
	m := &planModel{r: r, rt: rt, version: v, shelf: sh, serials: map[string]bool{}, proven: 2, signed: "Accepted",
		taker: &taker{version: v, how: "Accepted", over: sh.answer}}
	m.has = r.add(fleet.Enrolment{Identity: "CS-1"})
	m.connect(withPassword(claim(t, "CS-1"), m.has), 2)
	for range rapid.IntRange(4, 14).Draw(rt, "steps") {
		what := rapid.SampledFrom([]string{"password", "password", "certificate", "request", "rotate", "rotate", "raise", "root", "restart", "mood"}).Draw(rt, "step")
		if what == "mood" {
			m.settle(false)
			m.taker.mu.Lock()
			m.taker.how = rapid.SampledFrom([]string{"Accepted", "Rejected", "NotSupported", "RebootRequired", "lost", "not arrived", "error"}).Draw(rt, "password")
			m.taker.mu.Unlock()
			m.mu.Lock()
			m.signed = rapid.SampledFrom([]string{"Accepted", "Rejected", "lost"}).Draw(rt, "certificate")
			m.mu.Unlock()
			sh.mu.Lock()
			sh.install = rapid.SampledFrom([]string{"", "Rejected", "Failed"}).Draw(rt, "root")
			sh.mu.Unlock()
			continue
		}
		m.step(what)
		m.check()
	}
	m.settle(false)
	_ = r.store.Close()
}
