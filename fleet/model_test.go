package fleet_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"bollard/fleet"
	"bollard/ocpp"
)

// model is what one station and its operator may do in any order, restarts and
// lost answers included, beside what must hold all the while.
type model struct {
	r        *rig
	password string
	session  *fakeSession
	csrs     []string            // one for each key
	old      []*x509.Certificate // what it was seen with last
	floor    int

	mu    sync.Mutex // the station answers while the model looks
	keys  []*ecdsa.PrivateKey
	got   map[int]*x509.Certificate
	chain []*x509.Certificate // newest chain the station took
	mode  string              // of the station's answers: accept, reject, lose
}

func (m *model) answer(action string, payload json.RawMessage) (any, error) {
	if action != "CertificateSigned" {
		return map[string]string{"status": "Accepted"}, nil
	}
	chain := chainOf(m.r.t, payload)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.note(chain)
	switch m.mode {
	case "lose":
		return nil, errors.New("answer lost")
	case "reject":
		return map[string]string{"status": "Rejected"}, nil
	}
	m.chain = chain
	return map[string]string{"status": "Accepted"}, nil
}

// note checks that no CSR ever gets two certificates.
func (m *model) note(chain []*x509.Certificate) {
	for i, key := range m.keys {
		if !key.PublicKey.Equal(chain[0].PublicKey) {
			continue
		}
		if before := m.got[i]; before != nil && !before.Equal(chain[0]) {
			m.r.t.Errorf("second certificate for one CSR")
		}
		m.got[i] = chain[0]
	}
}

func (m *model) settle() {
	if m.session != nil {
		for range 8 { // retries within a session are bounded
			m.r.advance(6 * time.Minute)
			synctest.Wait()
		}
		m.session.close()
		m.session = nil
	}
}

func (m *model) connect(c fleet.Claim) bool {
	m.settle()
	adm, err := m.r.svc.Admit(m.r.t.Context(), c)
	if err != nil {
		return false
	}
	m.session = m.r.openWith(adm, ocpp.V16, fleet.SecurityBollard, m.answer)
	m.r.advance(10 * time.Second)
	return true
}

func TestCertificateLifeModel(t *testing.T) {
	t.Parallel()
	checkInBubbles(t, lifeOfCertificates)
}

func lifeOfCertificates(t testing.TB, rt *rapid.T) {
	r := newRig(t)
	m := &model{r: r, password: r.add(fleet.Enrolment{Identity: "CS-1"}), got: map[int]*x509.Certificate{}, mode: "accept", floor: 2}
	basic := withPassword(claim(t, "CS-1"), m.password)
	for range rapid.IntRange(3, 12).Draw(rt, "steps") {
		switch rapid.SampledFrom([]string{"basic", "mutual", "request", "repeat", "mode", "restart"}).Draw(rt, "step") {
		case "basic":
			if ok := m.connect(basic); ok != (m.floor <= 2) {
				rt.Fatalf("password admitted: %v, floor %d", ok, m.floor)
			}
		case "mutual":
			m.settle()
			m.mu.Lock()
			chain := m.chain
			m.mu.Unlock()
			if chain == nil {
				continue
			}
			if !m.connect(withCertificates(claim(t, "CS-1"), chain...)) {
				rt.Fatal("own certificate refused")
			}
			m.floor, m.old = 3, chain
		case "request":
			if m.session == nil {
				continue
			}
			key := newKey(t)
			m.csrs = append(m.csrs, csrPayload(t, key, "SN-CS-1"))
			m.mu.Lock()
			m.keys = append(m.keys, key)
			m.mu.Unlock()
			m.session.message(ocpp.FromStation, "SignCertificate", m.csrs[len(m.csrs)-1])
			m.session.wait()
		case "repeat":
			if m.session == nil || len(m.csrs) == 0 {
				continue
			}
			m.session.message(ocpp.FromStation, "SignCertificate", m.csrs[rapid.IntRange(0, len(m.csrs)-1).Draw(rt, "csr")])
			m.session.wait()
		case "mode":
			m.settle()
			m.mu.Lock()
			m.mode = rapid.SampledFrom([]string{"accept", "reject", "lose"}).Draw(rt, "mode")
			m.mu.Unlock()
		case "restart":
			m.settle()
			r.restart()
		}
		if got := r.station("CS-1").FloorProfile; got < m.floor {
			rt.Fatalf("floor fell from %d to %d", m.floor, got)
		}
		// What it was seen with stays good until it was seen with another.
		if m.old != nil {
			r.admit(withCertificates(claim(t, "CS-1"), m.old...))
		}
	}
	m.settle()
	_ = r.store.Close()
}

// checkInBubbles is rapid.Check with each of its runs in a bubble, where what runs
// beside the model can be waited for.
func checkInBubbles(t *testing.T, run func(t testing.TB, rt *rapid.T)) {
	t.Helper()
	rapid.Check(t, func(rt *rapid.T) {
		rapid.SyncTest(rt, func(rt *rapid.T) { run(bubbleT{t, rt}, rt) })
	})
}

// bubbleT is a test in a bubble: what is made in there is cleaned up in there.
type bubbleT struct {
	testing.TB
	rt *rapid.T
}

func (t bubbleT) Context() context.Context { return t.rt.Context() }
func (t bubbleT) Cleanup(f func())         { t.rt.Cleanup(f) }

// wait lets the orders of a session in a bubble come to rest: what waits for a
// timer goes on.
func (s *fakeSession) wait() {
	for range 200 {
		if synctest.Wait(); s.wg.idle() {
			return
		}
		s.r.advance(time.Minute)
	}
}
