package store_test

import (
	"context"
	"errors"
	"math/big"
	"path/filepath"
	"testing"
	"time"

	"bollard/ca"
	"bollard/store"

	"github.com/google/go-cmp/cmp"
)

func TestCertificateLife(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	must(t, s.PutIntent(ctx, intent("a1"), event("intent.put")))
	if err := s.SetRevoked(ctx, "a1", "superseded", at(2), event("revoked.early")); err == nil {
		t.Error("an intent was revoked")
	}
	must(t, s.PutIssued(ctx, "a1", []byte("der"), at(3), event("issued.put")))
	if err := s.PutIssued(ctx, "a1", []byte("other"), at(4), event("issued.twice")); err == nil {
		t.Error("issued twice")
	}
	must(t, s.SetRevoked(ctx, "a1", "keyCompromise", at(5), event("revoked.once")))
	must(t, s.SetRevoked(ctx, "a1", "superseded", at(6), event("revoked.twice")))
	if err := s.PutIssued(ctx, "a1", []byte("other"), at(7), event("issued.again")); err == nil {
		t.Error("a revoked record was issued")
	}
	want := ca.Record{Intent: intent("a1"), State: ca.StateRevoked, DER: []byte("der"), IssuedAt: at(3), RevokedAt: at(5), Reason: "keyCompromise"}
	got, err := s.Certificate(ctx, "a1")
	must(t, err)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"intent.put", "issued.put", "revoked.once"}, kinds(t, s)); diff != "" {
		t.Error("ledger:", diff)
	}
	for name, err := range map[string]error{
		"issue":  s.PutIssued(ctx, "zz", nil, at(1)),
		"revoke": s.SetRevoked(ctx, "zz", "superseded", at(1)),
	} {
		if !errors.Is(err, ca.ErrUnknownSerial) {
			t.Errorf("%s of an unknown serial: %v", name, err)
		}
	}
}

func TestPutExternal(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	external := ca.Record{Intent: intent("a1"), DER: []byte("der")}
	must(t, s.PutExternal(ctx, external, event("external.put")))
	must(t, s.PutExternal(ctx, external, event("external.again")))
	external.DER = []byte("another maker's")
	if err := s.PutExternal(ctx, external); !errors.Is(err, ca.ErrDuplicateSerial) {
		t.Errorf("another certificate under the serial: %v", err)
	}
	if err := s.PutIntent(ctx, intent("a1")); !errors.Is(err, ca.ErrDuplicateSerial) {
		t.Errorf("own intent under the serial: %v", err)
	}
	must(t, s.PutIntent(ctx, intent("a2")))
	if err := s.PutExternal(ctx, ca.Record{Intent: intent("a2")}); !errors.Is(err, ca.ErrDuplicateSerial) {
		t.Errorf("outside certificate under an own serial: %v", err)
	}
	got, err := s.Certificate(ctx, "a1")
	if err != nil || !got.External || got.State != ca.StateIssued || string(got.DER) != "der" {
		t.Errorf("%+v, %v", got, err)
	}
	if diff := cmp.Diff([]string{"external.put"}, kinds(t, s)); diff != "" {
		t.Error(diff)
	}
	// Another CA's serial must never get on an own CRL.
	must(t, s.SetRevoked(ctx, "a1", "superseded", at(9)))
	if list, err := s.Revoked(ctx, "csms-issuing"); err != nil || len(list) != 0 {
		t.Errorf("outside certificate on the CRL: %v, %v", list, err)
	}
}

func TestOrphanIntents(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	early, issued, late := intent("a1"), intent("a2"), intent("a3")
	late.CreatedAt = at(100)
	for _, i := range []ca.Intent{early, issued, late} {
		must(t, s.PutIntent(ctx, i))
	}
	must(t, s.PutIssued(ctx, "a2", []byte("der"), at(2)))
	orphans, err := s.OrphanIntents(ctx, at(100))
	must(t, err)
	if diff := cmp.Diff([]ca.Intent{early}, orphans); diff != "" {
		t.Error(diff)
	}
	if again, err := s.OrphanIntents(ctx, at(100)); err != nil || len(again) != 0 {
		t.Errorf("orphaned twice: %v, %v", again, err)
	}
	if err := s.PutIssued(ctx, "a1", []byte("der"), at(3)); err == nil {
		t.Error("an orphan was issued")
	}
	must(t, s.SetRevoked(ctx, "a1", "superseded", at(4)))
	want := ca.Record{Intent: early, State: ca.StateOrphaned, RevokedAt: noon, Reason: "unspecified"}
	if got, err := s.Certificate(ctx, "a1"); err != nil || !cmp.Equal(want, got) {
		t.Errorf("%v, %s", err, cmp.Diff(want, got))
	}
	if diff := cmp.Diff([]string{"certificate.orphaned"}, kinds(t, s)); diff != "" {
		t.Error(diff)
	}
	must(t, s.SetRevoked(ctx, "a2", "superseded", at(4)))
	list, err := s.Revoked(ctx, "csms-issuing")
	must(t, err)
	if diff := cmp.Diff([]string{"a1", "a2"}, serials(list)); diff != "" {
		t.Error("CRL:", diff)
	}
	if list, err := s.Revoked(ctx, "another"); err != nil || len(list) != 0 {
		t.Errorf("another issuer's CRL: %v, %v", list, err)
	}
}

func TestSelections(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	put := func(serial, station, profile, key, reference string, notAfter time.Time, issue bool) {
		t.Helper()
		i := intent(serial)
		i.Station, i.Profile, i.KeyHash, i.Reference, i.NotAfter = station, profile, key, reference, notAfter
		must(t, s.PutIntent(ctx, i))
		if issue {
			must(t, s.PutIssued(ctx, serial, []byte("der"), at(2)))
		}
	}
	put("a1", "cs-1", "station", "k1", "order-1", at(-10), true)
	put("a2", "cs-1", "station", "k1", "order-1", at(10), true)
	put("a3", "cs-2", "station", "k2", "order-1", at(20), false)
	put("a4", "", "server", "k3", "", at(30), true)
	for _, test := range []struct {
		name   string
		filter ca.Filter
		want   []string
	}{
		{"everything, newest first", ca.Filter{}, []string{"a4", "a3", "a2", "a1"}},
		{"station", ca.Filter{Station: "cs-1"}, []string{"a2", "a1"}},
		{"profile", ca.Filter{Profile: "server"}, []string{"a4"}},
		{"state", ca.Filter{State: ca.StateIntended}, []string{"a3"}},
		{"issued", ca.Filter{State: ca.StateIssued}, []string{"a4", "a2", "a1"}},
		{"expiring, the past and the bound not included", ca.Filter{ExpiringBefore: at(30)}, []string{"a3", "a2"}},
		{"limit", ca.Filter{Limit: 2}, []string{"a4", "a3"}},
		{"all at once", ca.Filter{Station: "cs-1", Profile: "station", State: ca.StateIssued, ExpiringBefore: at(99), Limit: 9}, []string{"a2"}},
		{"none", ca.Filter{Station: "cs-9"}, []string{}},
	} {
		list, err := s.Certificates(ctx, test.filter)
		must(t, err)
		if diff := cmp.Diff(test.want, serials(list)); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
	}
	put("a5", "cs-4", "station", "k4", "order-2", at(-20), true)
	must(t, s.SetRevoked(ctx, "a5", "superseded", at(3)))
	for reference, want := range map[string]string{"order-1": "a2", "order-2": "a5", "order-9": "", "": ""} {
		rec, ok, err := s.CertificateByReference(ctx, reference)
		if err != nil || rec.Serial != want || ok != (want != "") {
			t.Errorf("reference %q: %q, %v, %v", reference, rec.Serial, ok, err)
		}
	}
	for key, want := range map[string][]string{"k1": {"a2", "a1"}, "k2": {"a3"}, "k9": {}} {
		list, err := s.CertificatesByKey(ctx, key)
		must(t, err)
		if diff := cmp.Diff(want, serials(list)); list == nil || diff != "" {
			t.Errorf("key %s: %s", key, diff)
		}
	}
	if _, err := s.Certificate(ctx, "zz"); !errors.Is(err, ca.ErrUnknownSerial) {
		t.Errorf("got %v", err)
	}
}

func serials(list []ca.Record) []string {
	s := []string{}
	for _, r := range list {
		s = append(s, r.Serial)
	}
	return s
}

// RFC 5280 §5.2.3: strictly rising, also when the clock steps back, after a
// restart and when an older database was restored.
func TestCRLNumbersRise(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "bollard.db")
	last := map[string]*big.Int{"csms-issuing": big.NewInt(0), "csms-root": big.NewInt(0)}
	for _, clock := range []time.Time{at(0), at(0), at(-500), at(7), {}} {
		s, err := store.Open(t.Context(), store.Config{Path: path, Clock: func() time.Time { return clock }})
		must(t, err)
		for range 3 {
			for issuer, before := range last {
				number, err := s.NextCRLNumber(t.Context(), issuer)
				must(t, err)
				if number.Cmp(before) <= 0 || number.Int64() < clock.Unix() {
					t.Errorf("%s: %v after %v at %v", issuer, number, before, clock)
				}
				last[issuer] = number
			}
		}
		must(t, s.Close())
	}
}

func TestCRLNumberIsTakenWithItsEvent(t *testing.T) {
	t.Parallel()
	s := open(t)
	if _, err := s.NextCRLNumber(t.Context(), "csms-issuing", event("crl.intent")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"crl.intent"}, kinds(t, s)); diff != "" {
		t.Error(diff)
	}
}

func TestNewestTime(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "bollard.db")
	s := reopen(t, path) // its clock, and so the ledger's, stands at noon
	ctx := context.WithoutCancel(t.Context())
	far := intent("x1")
	far.CreatedAt = at(9999)
	for _, step := range []struct {
		name string
		do   func() error
		want time.Time
	}{
		{"empty", func() error { return nil }, time.Time{}},
		{"ledger", func() error { return s.Record(ctx, event("server.started")) }, noon},
		{"intent", func() error { return s.PutIntent(ctx, intent("a1")) }, at(1)},
		{"issued", func() error { return s.PutIssued(ctx, "a1", nil, at(20)) }, at(20)},
		{"an earlier one", func() error { return s.PutIntent(ctx, intent("a2")) }, at(20)},
		{"revoked", func() error { return s.SetRevoked(ctx, "a1", "superseded", at(30)) }, at(30)},
		// What isn't kept doesn't count, nor does another CA's word: it could stop all signing.
		{"undone", func() error {
			if s.PutIntent(ctx, far, event("Bad Kind")) == nil {
				return errors.New("stored")
			}
			return nil
		}, at(30)},
		{"outside", func() error { return s.PutExternal(ctx, ca.Record{Intent: far, IssuedAt: at(9999)}) }, at(30)},
	} {
		must(t, step.do())
		got, err := s.NewestTime(ctx)
		if err != nil || !got.Equal(step.want) {
			t.Errorf("%s: %v, %v, want %v", step.name, got, err, step.want)
		}
	}
	must(t, s.Close())
	if got, err := reopen(t, path).NewestTime(ctx); err != nil || !got.Equal(at(30)) {
		t.Errorf("after a restart: %v, %v", got, err)
	}
}

// Verdicts are beside the records, and no change of them.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	must(t, s.PutIntent(ctx, intent("01"), event("certificate.intent")))
	epoch := s.CertificatesEpoch()
	must(t, s.PutVerdicts(ctx, map[string][]byte{"01": []byte("one"), "unknown": []byte("two")}))
	must(t, s.PutVerdicts(ctx, map[string][]byte{"01": []byte("three")}))
	record, err := s.Certificate(ctx, "01")
	if err != nil || string(record.Verdict) != "three" {
		t.Errorf("%q, %v", record.Verdict, err)
	}
	if s.CertificatesEpoch() != epoch {
		t.Error("records changed")
	}
	must(t, s.PutIntent(ctx, intent("unknown")))
	if record, err = s.Certificate(ctx, "unknown"); err != nil || record.Verdict != nil {
		t.Errorf("%q, %v", record.Verdict, err)
	}
}
