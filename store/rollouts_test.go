package store_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bollard/firmware/catalogue"
	"bollard/firmware/release"
	"bollard/fleet"
	"bollard/internal/rollout"
	"bollard/ledger"
)

func TestRolloutsAreKept(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	first := rollout.Record{ID: "one", Kind: "fleet", At: at(1), Detail: json.RawMessage(`{"x":1}`), Header: filledIn[rollout.Header]()}
	members := []rollout.Member{filledIn[rollout.Member](), {ID: "waiting", State: rollout.Waiting, At: at(9)}}
	must(t, s.PutRollout(ctx, first, members))
	must(t, s.PutRollout(ctx, rollout.Record{ID: "two", Kind: "fleet", At: at(2), Detail: json.RawMessage(`{}`)}, nil))
	must(t, s.PutRollout(ctx, rollout.Record{ID: "other", Kind: "firmware", At: at(3), Detail: json.RawMessage(`{}`)}, nil))
	members[1].State, members[1].Began, members[1].Note = rollout.Begun, at(10), "now"
	first.Header.Wave, first.AtWork = first.Header.Wave+1, true
	must(t, s.PutRollout(ctx, first, members[1:], ledger.Event{Kind: "fleet.rollout", Subject: "one", Actor: "test"}))
	list, err := s.Rollouts(ctx, "fleet")
	must(t, err)
	if len(list) != 2 || list[0].ID != "two" {
		t.Fatalf("%+v", list)
	}
	if diff := cmp.Diff(first, list[1]); diff != "" {
		t.Error(diff)
	}
	got, err := s.RolloutMembers(ctx, "one")
	must(t, err)
	if diff := cmp.Diff(members, got); diff != "" {
		t.Error(diff)
	}
	// A write that fails leaves header and members alone.
	broken := first
	broken.Header.Wave = 99
	if err := s.PutRollout(ctx, broken, []rollout.Member{{ID: "new", At: at(1)}}, ledger.Event{Kind: "no"}); err == nil {
		t.Error("an invalid ledger event was stored")
	}
	if list, err = s.Rollouts(ctx, "fleet"); err != nil || list[1].Header.Wave != first.Header.Wave {
		t.Errorf("%+v, %v", list, err)
	}
	if got, err = s.RolloutMembers(ctx, "one"); err != nil || len(got) != 2 {
		t.Errorf("%+v, %v", got, err)
	}
}

// A rollout and its release change together or not at all.
func TestRolloutWithItsRelease(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	must(t, s.AddRelease(ctx, catalogue.Entry{Release: &release.Release{ID: "r"}, State: catalogue.Published}, nil))
	put := func(phase rollout.Phase, events ...ledger.Event) error {
		record := rollout.Record{ID: "one", Kind: "firmware", At: at(1), Detail: json.RawMessage(`{}`), Header: rollout.Header{Phase: phase}}
		return s.PutReleaseRollouts(ctx, []rollout.Step{{Record: record}}, "r",
			func(e *catalogue.Entry) ([]ledger.Event, error) {
				moved, err := e.Move(catalogue.Rolling, "test", "", at(3))
				return []ledger.Event{moved}, err
			}, events...)
	}
	state := func() catalogue.State {
		list, err := s.Releases(ctx)
		must(t, err)
		return list[0].State
	}
	if err := put(rollout.Running, ledger.Event{Kind: "no"}); err == nil || state() != catalogue.Published {
		t.Errorf("%v: the release is %s", err, state())
	}
	must(t, put(rollout.Running, event("firmware.rollout")))
	if err := put(rollout.Finished); err == nil {
		t.Error("a release that can't go there did")
	}
	list, err := s.Rollouts(ctx, "firmware")
	if must(t, err); state() != catalogue.Rolling || len(list) != 1 || list[0].Header.Phase != rollout.Running {
		t.Errorf("the release is %s, and the rollout %+v", state(), list)
	}
}

func TestGroupsAreKept(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	g := filledIn[fleet.Group]()
	must(t, s.PutGroup(ctx, fleet.Group{Name: g.Name}))
	must(t, s.PutGroup(ctx, g))
	must(t, s.PutGroup(ctx, fleet.Group{Name: "aaa"}))
	list, err := s.Groups(ctx)
	must(t, err)
	if diff := cmp.Diff([]fleet.Group{{Name: "aaa"}, g}, list); diff != "" {
		t.Error(diff)
	}
	must(t, s.RemoveGroup(ctx, "aaa"))
	if err := s.RemoveGroup(ctx, "aaa"); !errors.Is(err, fleet.ErrUnknownGroup) {
		t.Errorf("removed twice: %v", err)
	}
}
