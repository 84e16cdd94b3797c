package store_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bollard/ca"
)

// An intent gets the number of what a mount signed, once, and no other record's; what a
// mount has to be told is each record that ended, until it is settled.
func TestRecordsOfMounts(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	for _, serial := range []string{"a1", "a2", "a3"} {
		must(t, s.PutIntent(ctx, intent(serial)))
	}
	numbered := intent("b1")
	numbered.TBSHash, numbered.NotAfter = "another", at(500)
	must(t, s.Renumber(ctx, "a1", numbered, event("certificate.numbered")))
	got, err := s.Certificate(ctx, "b1")
	must(t, err)
	if diff := cmp.Diff(ca.Record{Intent: numbered, State: ca.StateIntended}, got); diff != "" {
		t.Error(diff)
	}
	if _, err := s.Certificate(ctx, "a1"); !errors.Is(err, ca.ErrUnknownSerial) {
		t.Errorf("the former number: %v", err)
	}
	if err := s.Renumber(ctx, "a2", intent("b1"), event("twice")); !errors.Is(err, ca.ErrDuplicateSerial) {
		t.Errorf("a number that is taken: %v", err)
	}
	must(t, s.PutIssued(ctx, "b1", []byte("der"), at(3)))
	if err := s.Renumber(ctx, "b1", intent("b2"), event("late")); err == nil {
		t.Error("an issued one was renumbered")
	}
	if err := s.GiveUp(ctx, "b1", at(4), event("late")); err == nil {
		t.Error("an issued one was given up")
	}
	must(t, s.GiveUp(ctx, "a2", at(4), event("certificate.orphaned")))
	must(t, s.SetRevoked(ctx, "b1", "superseded", at(5)))
	found := ca.Record{Intent: intent("c1"), State: ca.StateRevoked, DER: []byte("found"), RevokedAt: at(6), Reason: "unspecified"}
	must(t, s.PutFound(ctx, found, event("certificate.refused")))
	if err := s.PutFound(ctx, found, event("twice")); !errors.Is(err, ca.ErrDuplicateSerial) {
		t.Errorf("found twice: %v", err)
	}
	unsettled := func() (serials []string) {
		t.Helper()
		list, err := s.Unsettled(ctx, intent("a1").Issuer, 10)
		must(t, err)
		for _, r := range list {
			serials = append(serials, r.Serial)
		}
		return serials
	}
	if diff := cmp.Diff([]string{"b1", "c1", "a2"}, unsettled()); diff != "" {
		t.Error("to be told, revocations first:", diff)
	}
	for range 2 {
		must(t, s.Settle(ctx, "b1", at(7), event("mount.settled")))
	}
	if diff := cmp.Diff([]string{"c1", "a2"}, unsettled()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"certificate.numbered", "certificate.orphaned", "certificate.refused", "mount.settled"}, kinds(t, s)); diff != "" {
		t.Error("ledger:", diff)
	}
}
