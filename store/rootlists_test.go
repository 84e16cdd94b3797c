package store_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"bollard/ca"
	"bollard/ledger"
)

// What an offline root signed is there whole: certificates with the list and the entries,
// once; another certificate under a serial number that is taken brings nothing in.
func TestTakeIn(t *testing.T) {
	t.Parallel()
	s := open(t)
	at := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	record := func(serial string, der ...byte) ca.Record {
		return ca.Record{Intent: ca.Intent{Serial: serial, Issuer: "csms-root-2", Profile: ca.ProfileRoot, Requester: "operator", CreatedAt: at}, State: ca.StateIssued, DER: der, IssuedAt: at}
	}
	list := func(n byte) *ca.RootList {
		return &ca.RootList{Issuer: "csms-root-2", DER: []byte{n}, NextUpdate: at.AddDate(1, 0, int(n))}
	}
	event := ledger.Event{Kind: "ca.imported", Subject: "csms", Actor: "operator"}
	if l, err := s.RootList(t.Context(), "csms-root-2"); err != nil || l.DER != nil {
		t.Fatalf("%+v: %v", l, err)
	}
	for range 2 { // idempotent
		if err := s.TakeIn(t.Context(), []ca.Record{record("a1", 1), record("a2", 2)}, list(1), nil, event); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.TakeIn(t.Context(), []ca.Record{record("a3", 3), record("a2", 9)}, list(2), nil, event); !errors.Is(err, ca.ErrDuplicateSerial) {
		t.Errorf("another certificate under one serial number: %v", err)
	}
	if _, err := s.Certificate(t.Context(), "a3"); !errors.Is(err, ca.ErrUnknownSerial) {
		t.Errorf("half of it was taken in: %v", err)
	}
	if l, err := s.RootList(t.Context(), "csms-root-2"); err != nil || !bytes.Equal(l.DER, []byte{1}) || !l.NextUpdate.Equal(list(1).NextUpdate) {
		t.Errorf("%+v: %v", l, err)
	}
	// So is the step of a root change.
	step := &ca.Rollover{Kind: ca.KindCSMS, Generation: 2, Phase: ca.PhaseStarted, Tag: "offline-1", At: at}
	if err := s.TakeIn(t.Context(), []ca.Record{record("a3", 3)}, list(2), step, event); !errors.Is(err, ca.ErrRollover) {
		t.Errorf("a step that doesn't follow: %v", err)
	}
	if _, err := s.Certificate(t.Context(), "a3"); !errors.Is(err, ca.ErrUnknownSerial) {
		t.Errorf("half of it was taken in: %v", err)
	}
	preparing := *step
	preparing.Phase = ca.PhasePreparing
	if err := s.PutRollover(t.Context(), preparing); err != nil {
		t.Fatal(err)
	}
	if err := s.TakeIn(t.Context(), []ca.Record{record("a3", 3)}, list(2), step, event); err != nil {
		t.Fatal(err)
	}
	if now, err := s.Rollover(t.Context(), ca.KindCSMS); err != nil || now != *step {
		t.Errorf("%+v: %v", now, err)
	}
	if l, err := s.RootList(t.Context(), "csms-root-2"); err != nil || !bytes.Equal(l.DER, []byte{2}) {
		t.Errorf("%+v: %v", l, err)
	}
}
