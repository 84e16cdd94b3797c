package fleet_test

import (
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"bollard/ca"
	"bollard/fleet"
	"bollard/internal/failpoint"
	"bollard/ocpp"
)

const (
	// herdDir names the directory of a process that is to be killed.
	herdDir = "BOLLARD_TEST_HERD_DIR"
	// herdSize stations have a plan each; with the 15 draws of TestMain that
	// makes 210 random plans a run, each cut off by a kill.
	herdSize = 14
)

// herdPlan is what is drawn: for each station what happens to it, round by
// round, and where the process dies.
type herdPlan struct {
	Stations []herdStation
	Round    int    // from which the failpoint is armed
	Point    string // the process dies there, or at the end in the middle of everything
	Rounds   int
}

type herdStation struct {
	Version ocpp.Version
	Profile int
	Steps   []string // of the rounds
	Answers []string // in turn, of CALLs: "", "lost", "not arrived"
}

func drawHerd(rt *rapid.T) herdPlan {
	p := herdPlan{Rounds: rapid.IntRange(2, 5).Draw(rt, "rounds")}
	p.Round = rapid.IntRange(0, p.Rounds-1).Draw(rt, "round of the kill")
	p.Point = rapid.SampledFrom([]string{
		"", "ca.after-intent", "ca.after-sign", "ca.after-issued", "fleet.order-accepted", "fleet.answered", "fleet.before-deliver", "fleet.after-deliver",
		"fleet.plan-begun", "fleet.plan-done", "fleet.plan-password-stored", "fleet.plan-password-answered",
		"fleet.plan-root-install", "fleet.plan-root-installed", "fleet.plan-slot", "fleet.plan-slot-filled", "fleet.plan-slot-first",
	}).Draw(rt, "failpoint")
	for range herdSize {
		p.Stations = append(p.Stations, herdStation{
			Version: rapid.SampledFrom(versions()).Draw(rt, "version"),
			Profile: rapid.IntRange(1, 2).Draw(rt, "profile"),
			Steps:   rapid.SliceOfN(rapid.SampledFrom([]string{"", "connect", "raise", "raise", "rotate", "root", "request", "revoke"}), p.Rounds, p.Rounds).Draw(rt, "steps"),
			Answers: rapid.SliceOfN(rapid.SampledFrom([]string{"", "", "", "lost", "not arrived"}), 1, 8).Draw(rt, "answers"),
		})
	}
	return p
}

// herd is a fleet with its stations, in this process.
type herd struct {
	*rig
	plan    herdPlan
	members []*herdMember
	calls   atomic.Int64 // stations were sent
}

// herdMember is a station. What it has is on disk before it answers, so that it
// outlives the process.
type herdMember struct {
	h       *herd
	id      string
	version ocpp.Version
	answers []string
	session *fakeSession

	mu    sync.Mutex
	turn  int
	state herdState
}

type herdState struct {
	Password, Old string // what it logs in with, and with before
	Chain         string // PEM
	Profile       int    // it connects on
	Proven        int    // highest it was let in on
	Priority      string
	Active        string
	Slots         map[string]int
	Root          string
	Serials       []string // of every certificate it was ever sent
}

func (h *herd) path(name string) string { return filepath.Join(h.dir, "herd-"+name) }

func (h *herd) append(name, line string) {
	f, err := os.OpenFile(h.path(name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = fmt.Fprintln(f, line)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		h.t.Error(err)
	}
}

func (h *herd) lines(name string) []string {
	data, err := os.ReadFile(h.path(name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		h.t.Error(err)
	}
	return strings.Fields(string(data))
}

// keep writes what a station has. The caller holds m.mu.
func (m *herdMember) keep() {
	data, err := json.Marshal(m.state)
	if err == nil {
		err = os.WriteFile(m.h.path(m.id+".new"), data, 0o600)
	}
	if err == nil {
		err = os.Rename(m.h.path(m.id+".new"), m.h.path(m.id))
	}
	if err != nil {
		m.h.t.Error(err)
	}
}

func (m *herdMember) look() herdState {
	m.mu.Lock()
	defer m.mu.Unlock()
	st := m.state
	st.Slots = maps.Clone(st.Slots)
	return st
}

func (m *herdMember) claim() fleet.Claim {
	st := m.look()
	c := claim(m.h.t, m.id)
	switch st.Profile {
	case 1:
		c.TLS, c.Profiles = false, []int{1}
		return withPassword(c, st.Password)
	case 3:
		return withCertificates(c, parseChain(m.h.t, st.Chain)...)
	}
	return withPassword(c, st.Password)
}

func parseChain(t testing.TB, text string) (list []*x509.Certificate) {
	t.Helper()
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return list
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, cert)
	}
}

// connect comes back with what the station has: it is never locked out.
func (m *herdMember) connect() error {
	if m.session != nil {
		m.session.close()
	}
	adm, err := m.h.svc.Admit(m.h.t.Context(), m.claim())
	if err != nil {
		return fmt.Errorf("%s is locked out: %w; it has %+v", m.id, err, m.look())
	}
	m.session = m.h.openWith(adm, m.version, fleet.SecurityBollard, m.answer)
	if got := m.session.endedWith(); got != "" {
		return fmt.Errorf("%s: its session ended at once: %s", m.id, got)
	}
	m.mu.Lock()
	m.state.Proven = max(m.state.Proven, m.state.Profile)
	m.keep()
	m.mu.Unlock()
	m.session.ready()
	return nil
}

// answer does what it is told, and may lose the CALL or the answer.
func (m *herdMember) answer(action string, payload json.RawMessage) (any, error) {
	m.h.calls.Add(1)
	m.mu.Lock()
	defer m.mu.Unlock()
	fate := ""
	if len(m.answers) > 0 {
		fate = m.answers[m.turn%len(m.answers)]
		m.turn++
	}
	if fate == "not arrived" {
		return nil, errors.New("connection lost")
	}
	out, err := m.obey(action, payload)
	m.keep()
	if fate == "lost" {
		return nil, errors.New("connection lost")
	}
	return out, err
}

func (m *herdMember) obey(action string, payload json.RawMessage) (any, error) {
	st := &m.state
	switch action {
	case "TriggerMessage", "ExtendedTriggerMessage":
		session, csr := m.session, csrPayload(m.h.t, newKey(m.h.t), "SN-"+m.id)
		session.wg.Go(func() { session.message(ocpp.FromStation, "SignCertificate", csr) })
	case "CertificateSigned":
		var signed ocpp.CertificateSignedRequest
		if err := json.Unmarshal(payload, &signed); err != nil {
			return nil, err
		}
		st.Chain = signed.CertificateChain
		st.Serials = append(st.Serials, serialOf(parseChain(m.h.t, st.Chain)[0]))
	case "ChangeConfiguration":
		var c ocpp.ChangeConfigurationRequest16
		if err := json.Unmarshal(payload, &c); err != nil {
			return nil, err
		}
		switch c.Key {
		case "AuthorizationKey":
			raw, err := hex.DecodeString(c.Value)
			if err != nil {
				return nil, err
			}
			m.password(string(raw))
		case "SecurityProfile":
			st.Profile = int(c.Value[0] - '0')
		}
	case "SetVariables":
		var set ocpp.SetVariablesRequest
		if err := json.Unmarshal(payload, &set); err != nil {
			return nil, err
		}
		switch v := set.SetVariableData[0]; v.Variable.Name {
		case "BasicAuthPassword":
			m.password(v.AttributeValue)
		case "NetworkConfigurationPriority":
			st.Priority = v.AttributeValue
		}
	case "SetNetworkProfile":
		var set ocpp.SetNetworkProfileRequest
		if err := json.Unmarshal(payload, &set); err != nil {
			return nil, err
		}
		if slot := fmt.Sprint(set.ConfigurationSlot); slot != st.Active {
			st.Slots[slot] = set.ConnectionData.SecurityProfile
		} else {
			m.h.t.Errorf("%s: the profile in use was written over", m.id)
		}
	case "Reset":
		if first, _, _ := strings.Cut(st.Priority, ","); st.Slots[first] != 0 {
			st.Profile, st.Active = st.Slots[first], first
		}
	case "InstallCertificate":
		var in ocpp.InstallCertificateRequest
		if err := json.Unmarshal(payload, &in); err != nil {
			return nil, err
		}
		st.Root = in.Certificate
	case "GetInstalledCertificateIds", "GetVariables", "GetConfiguration":
		sh := newShelf(m.h.t, m.version)
		if st.Root != "" {
			use := ocpp.CSMSRoot
			if m.version == ocpp.V16 {
				use = ocpp.CentralSystemRoot
			}
			sh.roots[use] = parseChain(m.h.t, st.Root)
		}
		sh.values = map[string]string{"NetworkConfigurationPriority": st.Priority, "ActiveNetworkProfile": st.Active}
		return sh.answer(action, payload)
	}
	return obedient(nil)(action, payload)
}

func (m *herdMember) password(text string) {
	if text != m.state.Password {
		m.state.Password, m.state.Old = text, m.state.Password
	}
}

// step is one thing that happens to a station.
func (m *herdMember) step(what string) error {
	ctx, st := m.h.t.Context(), m.look()
	switch what {
	case "connect":
		return m.connect()
	case "raise":
		// To where it is already, it is refused.
		_, _ = m.h.svc.SetProfile(ctx, "operator", m.id, min(st.Profile+1, 3))
	case "rotate":
		if _, err := m.h.svc.Rotate(ctx, "operator", m.id); err != nil && st.Proven < 3 {
			return err
		}
	case "root":
		_, err := m.h.svc.WantRoot(ctx, "operator", m.id, "csms", nil)
		return err
	case "request":
		if m.session != nil {
			m.session.message(ocpp.FromStation, "SignCertificate", csrPayload(m.h.t, newKey(m.h.t), "SN-"+m.id))
		}
	case "revoke":
		serial := serialOf(m.h.issue(m.id+"-spare", "SN-spare")[0])
		if _, err := m.h.auth.Revoke(ctx, serial, "keyCompromise", "operator"); err != nil {
			return err
		}
		m.h.append("revoked", serial) // acknowledged: it must never be forgotten
	}
	return nil
}

// each runs f for all stations at once.
func (h *herd) each(f func(n int, m *herdMember) error) {
	var all sync.WaitGroup
	for n, m := range h.members {
		all.Go(func() {
			if err := f(n, m); err != nil {
				h.t.Error(err)
			}
		})
	}
	all.Wait()
}

// rest waits until no station has been asked anything for a moment.
func (h *herd) rest() {
	for last := int64(-1); last != h.calls.Load(); {
		last = h.calls.Load()
		time.Sleep(10 * time.Millisecond)
	}
}

// openHerd takes up what is in a directory.
func openHerd(t testing.TB, dir string, now time.Time) *herd {
	t.Helper()
	h := &herd{rig: reopenRig(t, dir)}
	h.rig.mu.Lock()
	h.now = now
	h.rig.mu.Unlock()
	// Every digest the CA's key is asked to sign is noted before it is.
	h.dirty = func(s crypto.Signer) crypto.Signer { return notedSigner{s, h} }
	h.start()
	data, err := os.ReadFile(h.path("plan"))
	if err == nil {
		err = json.Unmarshal(data, &h.plan)
	}
	if err != nil {
		t.Fatal(err)
	}
	for n, st := range h.plan.Stations {
		m := &herdMember{h: h, id: fmt.Sprintf("H-%d", n), version: st.Version}
		data, err := os.ReadFile(h.path(m.id))
		if err == nil {
			err = json.Unmarshal(data, &m.state)
		}
		if err != nil {
			t.Fatal(err)
		}
		h.members = append(h.members, m)
	}
	return h
}

type notedSigner struct {
	crypto.Signer
	h *herd
}

func (s notedSigner) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	s.h.append("signed", hex.EncodeToString(digest))
	return s.Signer.Sign(random, digest, opts)
}

// killedHerd is the process that dies.
func killedHerd(t *testing.T, dir string) {
	h := openHerd(t, dir, time.Date(2026, 6, 1, 13, 0, 0, 0, time.UTC))
	h.each(func(n int, m *herdMember) error { m.answers = h.plan.Stations[n].Answers; return m.connect() })
	for round := range h.plan.Rounds {
		if round == h.plan.Round && h.plan.Point != "" {
			armed(h.plan.Point)
		}
		if round == h.plan.Rounds-1 {
			// Nothing came by the failpoint: it ends in the middle of the last round.
			time.AfterFunc(20*time.Millisecond, func() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL) })
		}
		h.each(func(n int, m *herdMember) error { return m.step(h.plan.Stations[n].Steps[round]) })
		for range 3 {
			h.advance(6 * time.Minute)
			time.Sleep(2 * time.Millisecond) // not waited for: rounds overlap
		}
	}
	if t.Failed() {
		return
	}
	select {} // the signal is on its way
}

func armed(point string) { os.Setenv(failpoint.Env, point) } //nolint:usetesting // it is for the whole process, until it dies

// Random plans of many stations at once, with reconnects, lost answers and kill
// -9 at a failpoint or anywhere: nobody is locked out, nothing lower than proven
// comes in, no signature is without a record, no serial exists twice, what was
// revoked stays so, and every plan comes to its end.
func TestRandomPlansSurviveKill(t *testing.T) { // A01.FR.03, A02, A03, A05, M05, promises 4, 7 and 9
	if dir := os.Getenv(herdDir); dir != "" {
		killedHerd(t, dir)
		return
	}
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		plan := drawHerd(rt)
		h := killHerd(t, rt, plan)
		defer func() { _ = h.store.Close() }()
		h.checkRecords(rt)
		// Whatever they have, they get in; and each plan ends where it was to end.
		for range 30 {
			h.each(func(_ int, m *herdMember) error { return m.connect() })
			for range 4 {
				h.rest()
				h.advance(10 * time.Minute)
			}
			if t.Failed() {
				rt.FailNow()
			}
			if h.open() == "" {
				break
			}
			h.advance(24 * time.Hour) // tries that were used up begin anew
		}
		if left := h.open(); left != "" {
			rt.Fatal(left)
		}
		h.each(func(_ int, m *herdMember) error { return m.connect() })
		h.checkRecords(rt)
		h.checkFloors(rt)
		for _, m := range h.members {
			m.session.close()
		}
		if t.Failed() {
			rt.FailNow()
		}
	})
}

// killHerd runs the plan in a process of its own until that is killed, and
// returns what it left, taken up.
func killHerd(t *testing.T, rt *rapid.T, plan herdPlan) *herd {
	r := newRig(t)
	h := &herd{rig: r, plan: plan}
	for n, st := range plan.Stations {
		m := &herdMember{h: h, id: fmt.Sprintf("H-%d", n), version: st.Version}
		m.state = herdState{Profile: st.Profile, Priority: "1,0", Active: "1", Slots: map[string]int{"1": st.Profile},
			Password: r.add(fleet.Enrolment{Identity: m.id, Profile: st.Profile})}
		m.keep()
	}
	data, err := json.Marshal(plan)
	if err == nil {
		err = os.WriteFile(h.path("plan"), data, 0o600)
	}
	if err = errors.Join(err, r.store.Close()); err != nil {
		rt.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestRandomPlansSurviveKill$", "-test.timeout=5m")
	cmd.Env = append(os.Environ(), herdDir+"="+r.dir)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		rt.Fatalf("process ended with %v, want it killed\n%s", err, out)
	}
	return openHerd(t, r.dir, time.Date(2026, 6, 2, 13, 0, 0, 0, time.UTC))
}

// open tells of a station whose plan hasn't come to its end, "" if there is none.
func (h *herd) open() string {
	for _, m := range h.members {
		st, has := h.station(m.id), m.look()
		orders, err := h.svc.Orders(h.t.Context(), m.id)
		if err != nil {
			return err.Error()
		}
		if st.Pending != nil || st.RotateWanted || st.FloorProfile < st.WantedProfile || has.Profile < st.WantedProfile ||
			slices.ContainsFunc(orders, func(o fleet.Order) bool { return o.State == fleet.OrderAccepted || o.State == fleet.OrderIssued }) {
			return fmt.Sprintf("%s isn't done: it has %+v, is known as %+v, plan %+v", m.id, has, st, h.rig.plan(m.id))
		}
	}
	return ""
}

// checkRecords compares what was signed, given out and revoked with the records.
func (h *herd) checkRecords(rt *rapid.T) {
	intents, tbs := map[string]int{}, map[string]bool{}
	for _, e := range h.events("certificate.intent") {
		intents[e.Subject]++
		tbs[e.Data["tbs"]] = true
	}
	for serial, n := range intents {
		if n != 1 {
			rt.Errorf("serial %s was given %d times", serial, n)
		}
	}
	for _, digest := range h.lines("signed") {
		if !tbs[digest] && !slices.Contains(h.lines("lists"), digest) {
			rt.Errorf("the CA signed %s, which no intent records", digest)
		}
	}
	for _, m := range h.members {
		for _, serial := range m.look().Serials {
			if rec, err := h.auth.Lookup(h.t.Context(), serial); err != nil || rec.Station != keyOf(m.id) {
				rt.Errorf("%s was given certificate %s, which isn't on record: %v", m.id, serial, err)
			}
		}
	}
	before := len(h.lines("signed"))
	der, err := h.auth.CRL(h.t.Context(), ca.KindCSMS)
	if err != nil {
		rt.Fatal(err)
	}
	for _, digest := range h.lines("signed")[before:] {
		h.append("lists", digest)
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		rt.Fatal(err)
	}
	for _, serial := range h.lines("revoked") {
		if !slices.ContainsFunc(list.RevokedCertificateEntries, func(e x509.RevocationListEntry) bool { return e.SerialNumber.Text(16) == serial }) {
			rt.Errorf("the list has forgotten %s", serial)
		}
	}
}

// checkFloors wants nothing in that is lower than proven, or given up.
func (h *herd) checkFloors(rt *rapid.T) {
	for _, m := range h.members {
		has := m.look()
		if st := h.station(m.id); st.FloorProfile < has.Proven {
			rt.Errorf("%s: floor %d, proven %d", m.id, st.FloorProfile, has.Proven)
		}
		for _, password := range []string{has.Password, has.Old} {
			basic := withPassword(claim(h.t, m.id), password)
			if _, err := h.svc.Admit(h.t.Context(), basic); (err == nil) != (has.Proven < 3 && password == has.Password) && password != "" {
				rt.Errorf("%s, proven on %d: password let in: %v (old: %v)", m.id, has.Proven, err == nil, password == has.Old)
			}
		}
	}
}
