package fleet_test

import (
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"bollard/ca"
	"bollard/fleet"
	"bollard/ocpp"
)

// A lost station is out at once, whatever it comes with, and stays on record;
// found, it needs something new.
func TestLostStation(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	people := newCouncil(t, "alice", "bob").of(r)
	password := r.add(fleet.Enrolment{Identity: "CS-1"})
	chain := r.issue("CS-1", "SN-CS-1")
	byCertificate := r.open(r.admit(withCertificates(claim(t, "CS-1"), chain...)), ocpp.V201)
	late := r.admit(withCertificates(claim(t, "CS-1"), chain...)) // proven, not open yet
	if _, err := r.svc.Lose(t.Context(), "operator", "CS-1", ""); err == nil {
		t.Error("lost without a reason")
	}
	if _, err := r.svc.Lose(t.Context(), "operator", "CS-1", "stolen in the night"); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(byCertificate.endedWith(), "lost") {
		t.Errorf("its session: %q", byCertificate.endedWith())
	}
	if s := r.open(late, ocpp.V201); s.endedWith() == "" {
		t.Error("a session proven before goes on")
	}
	rec, err := r.auth.Record(t.Context(), serialOf(chain[0]))
	if err != nil || rec.State != ca.StateRevoked || rec.Reason != "keyCompromise" {
		t.Errorf("certificate: %+v, %v", rec, err)
	}
	for name, c := range map[string]fleet.Claim{
		"certificate": withCertificates(claim(t, "CS-1"), chain...), "password": withPassword(claim(t, "CS-1"), password),
		"new certificate": withCertificates(claim(t, "CS-1"), r.issue("CS-1", "SN-CS-1")...),
	} {
		if refused := r.refusal(c); !strings.Contains(refused.Reason, "reported lost") {
			t.Errorf("%s: %s", name, refused.Reason)
		}
	}
	if st := r.station("CS-1"); st.LostReason != "stolen in the night" || len(r.events("station.lost")) != 1 {
		t.Errorf("%+v", st)
	}
	// Getting lost is no way round the approvals of a lower profile.
	for _, lower := range []int{1, 2} {
		if _, err := r.svc.Find(t.Context(), "operator", "CS-1", lower); err == nil {
			t.Errorf("found on profile %d", lower)
		}
	}
	people.signed(people.ask("CS-1", 0), "alice", "bob")
	if st, err := r.svc.Find(t.Context(), "operator", "CS-1", 2); err != nil || st.FloorProfile != 2 {
		t.Fatal(st, err)
	}
	r.refusal(withPassword(claim(t, "CS-1"), password))
	r.refusal(withCertificates(claim(t, "CS-1"), chain...))
	fresh, err := r.svc.SetPassword(t.Context(), "operator", "CS-1", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.admit(withPassword(claim(t, "CS-1"), fresh))
	if _, err := r.svc.Find(t.Context(), "operator", "CS-1", 0); err == nil {
		t.Error("found twice")
	}
}

// A replaced board has the identity and nothing else of the old one; a lower
// profile to begin with is a recorded decision.
func TestReplacedBoard(t *testing.T) { // promises 3 and 4
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{Identity: "CS-1", Serial: "OLD", Alias: "OLDER"})
	old := r.issue("CS-1", "OLD")
	session := r.open(r.admit(withCertificates(claim(t, "CS-1"), old...)), ocpp.V201)
	if st := r.station("CS-1"); st.FloorProfile != 3 {
		t.Fatalf("floor %d", st.FloorProfile)
	}
	replace := func(in fleet.Replacement) (fleet.Station, string, error) {
		return r.svc.Replace(t.Context(), "operator", "CS-1", in)
	}
	for name, in := range map[string]fleet.Replacement{
		"no reason": {Serial: "NEW"}, "same board": {Serial: "OLD", Reason: "x"}, "no serial": {Reason: "x"}, "URL": {Serial: "http://x", Reason: "x"},
		"profile": {Serial: "NEW", Profile: 4, Reason: "x"}, "hash": {Serial: "NEW", FactoryHash: "zz", Reason: "x"},
	} {
		if _, _, err := replace(in); err == nil {
			t.Errorf("%s: replaced", name)
		}
	}
	if got := session.endedWith(); got != "" {
		t.Fatalf("a refused replacement ended the session: %s", got)
	}
	st, password, err := replace(fleet.Replacement{Serial: "NEW", Reason: "lightning"})
	if err != nil || password != "" || st.FloorProfile != 3 || st.Password != nil {
		t.Fatalf("%+v, %q, %v", st, password, err)
	}
	if session.endedWith() == "" {
		t.Error("the old board's session goes on")
	}
	r.refusal(withCertificates(claim(t, "CS-1"), old...))
	r.refusal(withCertificates(claim(t, "CS-1"), r.issue("CS-1", "OLDER")...)) // no alias any more
	r.admit(withCertificates(claim(t, "CS-1"), r.issue("CS-1", "NEW")...))
	st, password, err = replace(fleet.Replacement{Serial: "NEWER", Profile: 2, Reason: "again"})
	if err != nil || st.FloorProfile != 2 || st.WantedProfile != 3 {
		t.Fatalf("%+v, %v", st, err)
	}
	r.admit(withPassword(claim(t, "CS-1"), password))
	events := r.events("station.replaced")
	if len(events) != 2 || events[1].Data["floor-from"] != "3" || events[1].Data["floor-to"] != "2" || events[1].Data["serial-to"] != "NEWER" || events[1].Data["reason"] != "again" {
		t.Errorf("ledger: %+v", events)
	}
}

// What a station told is gone with it, its certificates are revoked, its
// identity isn't given again unless somebody says so.
func TestDecommission(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	password := r.add(fleet.Enrolment{Identity: "CS-1"})
	chain := r.issue("CS-1", "SN-CS-1")
	session := r.open(r.admit(withPassword(claim(t, "CS-1"), password)), ocpp.V201)
	session.message(ocpp.FromStation, "SecurityEventNotification", `{"type":"TamperDetectionActivated","timestamp":"2026-06-01T12:00:00Z","techInfo":"driver canary"}`)
	session.message(ocpp.FromStation, "SignCertificate", csrPayload(t, newKey(t), "SN-CS-1"))
	if err := r.store.SetSecret(t.Context(), "upstream:cs-1", []byte("sealed")); err != nil {
		t.Fatal(err)
	}
	if err := r.svc.Decommission(t.Context(), "operator", "CS-1", "", "upstream:cs-1"); err == nil {
		t.Error("decommissioned without a reason")
	}
	if err := r.svc.Decommission(t.Context(), "operator", "CS-1", "end of lease", "upstream:cs-1"); err != nil {
		t.Fatal(err)
	}
	if session.endedWith() == "" {
		t.Error("its session goes on")
	}
	session.wg.Wait()
	if _, err := r.svc.Station(t.Context(), "CS-1"); !errors.Is(err, fleet.ErrUnknownStation) {
		t.Errorf("record: %v", err)
	}
	if rec, err := r.auth.Record(t.Context(), serialOf(chain[0])); err != nil || rec.State != ca.StateRevoked {
		t.Errorf("certificate: %+v, %v", rec, err)
	}
	if _, there, err := r.store.Secret(t.Context(), "upstream:cs-1"); there || err != nil {
		t.Errorf("upstream secret is kept: %v", err)
	}
	if orders, err := r.store.Orders(t.Context(), "cs-1", 0); len(orders) != 0 || err != nil {
		t.Errorf("%d orders, %v", len(orders), err)
	}
	if events := r.events("station.decommissioned"); len(events) != 1 || events[0].Data["reason"] != "end of lease" {
		t.Errorf("ledger: %+v", events)
	}
	again := []fleet.Enrolment{{Identity: "cs-1", Serial: "SN-2", Profile: 2}}
	if _, err := r.svc.Add(t.Context(), "operator", again); !errors.Is(err, fleet.ErrRetired) {
		t.Fatalf("enrolled again: %v", err)
	}
	again[0].Reuse = true
	if _, err := r.svc.Add(t.Context(), "operator", again); err != nil {
		t.Fatal(err)
	}
	r.refusal(withCertificates(claim(t, "cs-1"), chain...))
	// Removing is no decommissioning: it can be undone by adding.
	if err := r.svc.Remove(t.Context(), "operator", "cs-1"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.svc.Add(t.Context(), "operator", again); err != nil {
		t.Error(err)
	}
}

// A maker may renew its certificate under the same key: pinned by key it is
// still the station's, another's of the same maker isn't.
func TestFactoryKeyPin(t *testing.T) { // A00.FR.406
	t.Parallel()
	r := newRig(t)
	m := newMaker(t, r.clock())
	r.trust(m)
	right, wrong := m.Leaf(r.clock(), "factory-1", nil), m.Leaf(r.clock(), "factory-1", nil)
	sum := sha256.Sum256(right.RawSubjectPublicKeyInfo)
	r.add(fleet.Enrolment{Identity: "CS-1", Profile: 3, FactoryKey: strings.ToUpper(hex.EncodeToString(sum[:]))})
	if adm := r.admit(withCertificates(claim(t, "CS-1"), right)); !adm.Factory {
		t.Errorf("%+v", adm)
	}
	if refused := r.refusal(withCertificates(claim(t, "CS-1"), wrong)); !strings.Contains(refused.Reason, "key is not the pinned one") {
		t.Error(refused.Reason)
	}
	if _, err := r.svc.Add(t.Context(), "operator", []fleet.Enrolment{{Identity: "CS-2", Serial: "S", Profile: 3, FactoryKey: "12"}}); err == nil {
		t.Error("half a hash was taken")
	}
}

// A one-time password is worth nothing after the first contact.
func TestOneTimePassword(t *testing.T) { // A01
	inBubble(t, func(t *testing.T, f *sim) {
		added, err := f.svc.Add(t.Context(), "operator", []fleet.Enrolment{{Identity: "CS-1", Serial: "SN-1", Profile: 2, OneTime: true}})
		if err != nil {
			t.Fatal(err)
		}
		s := &simStation{f: f, Identity: "CS-1", Serial: "SN-1", Version: ocpp.V16, Password: added[0].Password, Active: "1", Priority: []string{"1"},
			Slots: map[string]simSlot{"1": {mainURL, 2}}, Roots: [][]byte{f.auth.Roots(ca.KindCSMS)[0].Raw}}
		f.stations["cs-1"] = s
		f.connect()
		f.pass(simLook)
		if s.Password == added[0].Password || f.live["cs-1"] == nil {
			t.Fatal("the station goes on with what lay on paper")
		}
		if _, err := f.svc.Admit(t.Context(), withPassword(claim(t, "CS-1"), added[0].Password)); err == nil {
			t.Error("the one-time password is still taken")
		}
	})
}

// What is being issued over OCPP while its station is removed is revoked too.
func TestRemovedWhileIssued(t *testing.T) { // promise 9
	t.Parallel()
	for name, end := range map[string]func(ctx context.Context, s *fleet.Service) error{
		"removed":        func(ctx context.Context, s *fleet.Service) error { return s.Remove(ctx, "operator", "CS-1") },
		"decommissioned": func(ctx context.Context, s *fleet.Service) error { return s.Decommission(ctx, "operator", "CS-1", "x") },
		"replaced": func(ctx context.Context, s *fleet.Service) error {
			_, _, err := s.Replace(ctx, "operator", "CS-1", fleet.Replacement{Serial: "NEW", Reason: "x"})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			var before atomic.Pointer[func()]
			r.dirty = func(s crypto.Signer) crypto.Signer { return hookedSigner{s, &before} }
			r.start()
			r.add(fleet.Enrolment{Identity: "CS-1", Serial: "SN-1", Profile: 2})
			s := r.openWith(fleet.Admission{Station: r.proven("CS-1"), Profile: 2}, ocpp.V201, fleet.SecurityBollard, nil)
			ended := make(chan error, 1)
			now := func() { // it is prepared, and not issued
				go func() { ended <- end(t.Context(), r.svc) }()
				eventually(t, "the end", func() bool { return len(ended) == 1 || fleet.TakingTurns(r.svc, "cs-1") == 2 })
			}
			before.Store(&now)
			s.message(ocpp.FromStation, "SignCertificate", csrPayload(t, newKey(t), "SN-1"))
			s.wg.Wait()
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
			if records := r.records("CS-1"); len(records) != 1 || records[0].State != ca.StateRevoked {
				t.Errorf("records %+v", records)
			}
		})
	}
}
