package fleet_test

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"testing"
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
	keys     []*ecdsa.PrivateKey
	csrs     []string // one for each key
	got      map[int]*x509.Certificate
	chain    []*x509.Certificate // newest chain the station took
	old      []*x509.Certificate // what it was seen with last
	floor    int
	mode     string // of the station's answers: accept, reject, lose
}

func (m *model) answer(action string, payload json.RawMessage) (any, error) {
	if action != "CertificateSigned" {
		return map[string]string{"status": "Accepted"}, nil
	}
	m.note(chainOf(m.r.t, payload))
	switch m.mode {
	case "lose":
		return nil, errors.New("answer lost")
	case "reject":
		return map[string]string{"status": "Rejected"}, nil
	}
	m.chain = chainOf(m.r.t, payload)
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
			time.Sleep(time.Millisecond)
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
	rapid.Check(t, func(rt *rapid.T) {
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
				if m.chain == nil {
					continue
				}
				if !m.connect(withCertificates(claim(t, "CS-1"), m.chain...)) {
					rt.Fatal("own certificate refused")
				}
				m.floor, m.old = 3, m.chain
			case "request":
				if m.session == nil {
					continue
				}
				key := newKey(t)
				m.keys, m.csrs = append(m.keys, key), append(m.csrs, csrPayload(t, key, "SN-CS-1"))
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
				m.mode = rapid.SampledFrom([]string{"accept", "reject", "lose"}).Draw(rt, "mode")
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
	})
}

// wait lets the orders of a session come to rest: done, or waiting for a timer.
func (s *fakeSession) wait() {
	done := make(chan struct{})
	go func() { s.wg.Wait(); close(done) }()
	for n := range 200 {
		select {
		case <-done:
			return
		case <-time.After(time.Millisecond):
			if n > 20 {
				s.r.advance(time.Minute)
			}
		}
	}
}
