package store_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bollard/ca"
	"bollard/ca/acme"
	"bollard/firmware/catalogue"
	"bollard/firmware/release"
	"bollard/fleet"
	"bollard/internal/rollout"
	"bollard/store"
)

// A rollout that was halted after the backup doesn't go on when that is restored, and a
// secret that was used isn't good a second time.
func TestRestoreGoesOnWithNothingByItself(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	for id, state := range map[string]catalogue.State{"rolling": catalogue.Rolling, "halted": catalogue.Halted, "revoked": catalogue.Revoked, "complete": catalogue.Complete} {
		must(t, s.AddRelease(ctx, catalogue.Entry{Release: &release.Release{ID: id}, State: state, Reason: "before"}, nil))
	}
	put := func(id, kind, detail string, phase rollout.Phase) {
		t.Helper()
		must(t, s.PutRollout(ctx, rollout.Record{ID: id, Kind: kind, At: at(1), Detail: json.RawMessage(detail), Header: rollout.Header{Phase: phase, Wave: 2}}, nil))
	}
	put("f1", "firmware", `{"release":"rolling"}`, rollout.Running)
	put("f2", "firmware", `{"release":"halted"}`, rollout.Halted)
	put("f3", "firmware", `{"release":"revoked"}`, rollout.Running)
	put("f4", "firmware", `{"release":"complete"}`, rollout.Finished)
	put("g1", "fleet", `{"group":"a"}`, rollout.Running)
	put("g2", "fleet", `{"group":"b"}`, rollout.Paused)
	for station, used := range map[string]string{"open": "", "used": "key", "late": ""} {
		must(t, s.AddStations(ctx, []fleet.Station{{Identity: station, Serial: "SN-" + station}}))
		until := at(60)
		if station == "late" {
			until = at(3)
		}
		must(t, s.PutRegistration(ctx, fleet.Registration{Station: station, Hash: []byte{1}, ExpiresAt: until, KeyHash: used}))
	}
	must(t, s.AddACMEToken(ctx, acme.Token{ID: "open", Sealed: []byte{1}, ExpiresAt: at(60)}))
	must(t, s.AddACMEToken(ctx, acme.Token{ID: "used", Account: "a", ExpiresAt: at(60)}))

	ended, err := s.MarkRestored(ctx, ca.Restoration{BackedUp: at(2), Restored: at(3)}, event("backup.restored"))
	must(t, err)
	if diff := cmp.Diff(store.Ended{Rollouts: 3, Secrets: 2}, ended); diff != "" {
		t.Error(diff)
	}
	phases := map[string]rollout.Phase{}
	for _, kind := range []string{"firmware", "fleet"} {
		list, err := s.Rollouts(ctx, kind)
		must(t, err)
		for _, r := range list {
			if phases[r.ID] = r.Header.Phase; r.Header.Wave != 2 {
				t.Errorf("%+v", r)
			}
		}
	}
	if diff := cmp.Diff(map[string]rollout.Phase{
		"f1": rollout.Halted, "f2": rollout.Halted, "f3": rollout.Halted, "f4": rollout.Finished, "g1": rollout.Halted, "g2": rollout.Paused,
	}, phases); diff != "" {
		t.Error(diff)
	}
	releases, err := s.Releases(ctx)
	must(t, err)
	for _, e := range releases {
		want := catalogue.State(e.Release.ID)
		if want == "rolling" {
			want = catalogue.Halted
		}
		if e.State != want || (e.Reason == "before") == (e.Release.ID == "rolling") {
			t.Errorf("%s: %s, %s", e.Release.ID, e.State, e.Reason)
		}
	}
	for station, kept := range map[string]bool{"open": false, "used": true, "late": true} {
		if _, r, err := s.Applicant(ctx, station); err != nil || (r != nil) != kept {
			t.Errorf("%s: %+v, %v", station, r, err)
		}
	}
	if token, ok, err := s.ACMEToken(ctx, "open"); err != nil || !ok || token.Sealed != nil {
		t.Errorf("%+v, %v, %v", token, ok, err)
	}
	// A new epoch of the ledger begins with what the caller gives.
	if diff := cmp.Diff([]string{"backup.restored", "firmware.halted", "firmware.rollout", "firmware.rollout", "fleet.rollout", "station.enrol-secret-void", "acme.token-voided"},
		kinds(t, s)[:7]); diff != "" {
		t.Error(diff)
	}
}
