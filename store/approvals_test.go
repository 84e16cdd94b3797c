package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bollard/approval"
	"bollard/approval/docket"
	"bollard/ca"
	"bollard/fleet"
	"bollard/ledger"
)

func TestApprovalsAreKept(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	m := filledIn[docket.Matter]()
	m.UsedAt = at(0)
	first := m
	first.Nonce = "first"
	must(t, s.AddMatter(ctx, first, event("approval.requested")))
	must(t, s.AddMatter(ctx, m))
	if err := s.AddMatter(ctx, m); err == nil {
		t.Error("one nonce was kept twice")
	}
	updated, err := s.UpdateMatter(ctx, m.Nonce, func(m *docket.Matter) ([]ledger.Event, error) {
		m.Signatures = append(m.Signatures, docket.Signature{By: "bob", At: at(3), Text: []byte("x")})
		return []ledger.Event{event("approval.signed")}, nil
	})
	must(t, err)
	if _, err := s.UpdateMatter(ctx, "other", func(*docket.Matter) ([]ledger.Event, error) { return nil, nil }); !errors.Is(err, docket.ErrUnknown) {
		t.Errorf("unknown: %v", err)
	}
	if _, err := s.UpdateMatter(ctx, m.Nonce, func(m *docket.Matter) ([]ledger.Event, error) {
		m.Reason = "changed"
		return nil, errors.New("no")
	}); err == nil {
		t.Error("an error of change was lost")
	}
	list, err := s.Matters(ctx)
	must(t, err)
	// Whether it was used isn't the record's to say.
	m.Signatures, m.UsedAt, first.UsedAt = updated.Signatures, updated.UsedAt, updated.UsedAt
	if diff := cmp.Diff([]docket.Matter{m, first}, list); diff != "" || !updated.UsedAt.IsZero() {
		t.Error(diff, updated.UsedAt)
	}
}

// The ledger entry that uses an approval up is written once, with what was
// approved, or not at all.
func TestApprovalIsUsedOnce(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	must(t, s.AddMatter(ctx, docket.Matter{Request: approval.Request{Nonce: "n1"}}))
	must(t, s.AddStations(ctx, []fleet.Station{{Identity: "CS-1", Serial: "SN-1", FloorProfile: 3}}))
	used := (&approval.Grant{Request: approval.Request{Nonce: "n1"}}).Used("operator")
	lower := func(to int, events ...ledger.Event) error {
		_, err := s.UpdateStation(ctx, "cs-1", func(st *fleet.Station) ([]ledger.Event, error) {
			st.FloorProfile = to
			return events, nil
		})
		return err
	}
	if err := lower(0, used, ledger.Event{Kind: "not valid"}); err == nil {
		t.Error("an invalid entry was recorded")
	}
	unknown := used
	unknown.Subject = "n2"
	if err := lower(0, unknown); !errors.Is(err, docket.ErrUsed) {
		t.Errorf("an approval nobody asked for: %v", err)
	}
	must(t, lower(2, used))
	if err := lower(1, used); !errors.Is(err, docket.ErrUsed) {
		t.Errorf("used twice: %v", err)
	}
	if st, err := s.Station(ctx, "cs-1"); err != nil || st.FloorProfile != 2 {
		t.Errorf("%+v, %v", st, err)
	}
	list, err := s.Matters(ctx)
	if err != nil || len(list) != 1 || list[0].UsedAt.IsZero() {
		t.Errorf("%+v, %v", list, err)
	}
	if diff := cmp.Diff([]string{approval.KindUsed}, kinds(t, s)); diff != "" {
		t.Error(diff)
	}
}

// What was used after a backup was made isn't open again when that is restored.
func TestRestoreWithdrawsApprovals(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	for _, nonce := range []string{"open", "used", "withdrawn"} {
		m := docket.Matter{Request: approval.Request{Nonce: nonce}}
		if nonce == "withdrawn" {
			m.WithdrawnAt = at(1)
		}
		must(t, s.AddMatter(ctx, m))
	}
	must(t, s.Record(ctx, (&approval.Grant{Request: approval.Request{Nonce: "used"}}).Used("operator")))
	_, err := s.MarkRestored(ctx, ca.Restoration{BackedUp: at(2), Restored: at(3)}, event("backup.restored"))
	must(t, err)
	list, err := s.Matters(ctx)
	must(t, err)
	for _, m := range list {
		want := map[string]time.Time{"open": at(3), "withdrawn": at(1)}[m.Nonce]
		if !m.WithdrawnAt.Equal(want) || m.UsedAt.IsZero() == (m.Nonce == "used") {
			t.Errorf("%+v", m)
		}
	}
}
