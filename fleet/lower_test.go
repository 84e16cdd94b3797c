package fleet_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bollard/approval"
	"bollard/approval/docket"
	"bollard/fleet"
	"bollard/ocpp"
)

// council are people with SSH keys of their own, two of whom approve.
type council struct {
	*docket.Docket
	t    *testing.T
	dir  string
	list []approval.Approver
}

func newCouncil(t *testing.T, names ...string) *council {
	t.Helper()
	return councilIn(t, t.TempDir(), names...)
}

// councilIn has its keys in a directory, in which another process may find them.
func councilIn(t *testing.T, dir string, names ...string) *council {
	t.Helper()
	c := &council{t: t, dir: dir}
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(c.dir, name)); err != nil {
			c.tool(nil, "-q", "-N", "", "-t", "ed25519", "-f", filepath.Join(c.dir, name))
		}
		public, err := os.ReadFile(filepath.Join(c.dir, name+".pub"))
		if err != nil {
			t.Fatal(err)
		}
		key, err := approval.ParseSSH(public)
		if err != nil {
			t.Fatal(err)
		}
		c.list = append(c.list, approval.Approver{Name: name, Keys: []approval.Key{key}})
	}
	return c
}

func (c *council) tool(stdin []byte, args ...string) []byte {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), "ssh-keygen", args...)
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.Output()
	if err != nil {
		c.t.Fatalf("ssh-keygen %v: %v", args, err)
	}
	return out
}

// of has the people decide about the stations of a rig.
func (c *council) of(r *rig) *council {
	c.t.Helper()
	r.approved = func(ctx context.Context, action, scope, text string) (approval.Grant, error) {
		return c.Grant(ctx, action, scope, text)
	}
	r.restart()
	var err error
	c.Docket, err = docket.New(docket.Config{
		Store: r.store, Rules: docket.Rules{People: c.list, Quorums: map[string]approval.Quorum{fleet.ActionDowngrade: {Needed: 2}}},
		Actions: map[string]docket.Subject{fleet.ActionDowngrade: r.svc.Downgrade}, Clock: r.clock,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return c
}

func (c *council) ask(identity string, valid time.Duration) docket.Matter {
	c.t.Helper()
	m, err := c.Open(c.t.Context(), "operator:root", docket.Ask{Action: fleet.ActionDowngrade, Name: identity, Person: "carol", Reason: "modem without TLS client keys", Valid: valid})
	if err != nil {
		c.t.Fatal(err)
	}
	return m
}

func (c *council) sign(m docket.Matter, name string) error {
	c.t.Helper()
	text, err := m.Statement()
	if err != nil {
		c.t.Fatal(err)
	}
	_, _, err = c.Sign(c.t.Context(), "operator:root", m.Nonce, c.tool(text, "-q", "-Y", "sign", "-n", approval.Namespace, "-f", filepath.Join(c.dir, name)))
	return err
}

func (c *council) signed(m docket.Matter, names ...string) {
	c.t.Helper()
	for _, name := range names {
		if err := c.sign(m, name); err != nil {
			c.t.Fatal(err)
		}
	}
}

// onProfile3 is a station that was seen on profile 3.
func (r *rig) onProfile3(id string, v ocpp.Version, answer func(string, json.RawMessage) (any, error)) (*fakeSession, fleet.Claim) {
	r.t.Helper()
	r.add(fleet.Enrolment{Identity: id})
	c := withCertificates(claim(r.t, id), r.issue(id, "SN-"+id)...)
	s := r.openWith(r.admit(c), v, fleet.SecurityBollard, answer)
	if st := r.station(id); st.FloorProfile != 3 {
		r.t.Fatalf("floor %d", st.FloorProfile)
	}
	return s, c
}

// lowerable is obedient with the way down that E201 and OCPP 2.1 have.
func lowerable(allow string, over map[string]any) func(string, json.RawMessage) (any, error) {
	rest := obedient(over)
	return func(action string, payload json.RawMessage) (any, error) {
		if action == "GetVariables" && strings.Contains(string(payload), "AllowSecurityProfileDowngrade") {
			return json.RawMessage(`{"getVariableResult":[{"attributeStatus":"Accepted","attributeValue":"` + allow +
				`","component":{"name":"SecurityCtrlr"},"variable":{"name":"AllowSecurityProfileDowngrade"}}]}`), nil
		}
		return rest(action, payload)
	}
}

// passwordIn is what the newest BasicAuthPassword sent to the station was.
func passwordIn(t *testing.T, s *fakeSession) string {
	t.Helper()
	for _, payload := range slices.Backward(s.sent("SetVariables")) {
		var set ocpp.SetVariablesRequest
		if err := json.Unmarshal(payload, &set); err != nil {
			t.Fatal(err)
		}
		if v := set.SetVariableData[0]; v.Variable.Name == "BasicAuthPassword" {
			return v.AttributeValue
		}
	}
	t.Fatal("no password was sent")
	return ""
}

// A00.FR.005, A05.FR.08: with enough approvals a station comes down from 3 to 2,
// once, within the time, and nothing is locked before it was seen there.
func TestApprovedDowngrade(t *testing.T) {
	t.Parallel()
	for _, v := range []ocpp.Version{ocpp.V201, ocpp.V21} {
		t.Run(v.String(), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			c := newCouncil(t, "alice", "bob", "carol").of(r)
			s, on3 := r.onProfile3("CS-1", v, lowerable("true", nil))
			s.ready()
			m := c.ask("CS-1", 0)
			c.signed(m, "alice", "bob")
			if _, err := r.svc.SetProfile(t.Context(), "operator:root", "CS-1", 2); err != nil {
				t.Fatal(err)
			}
			s.waitCalls(t, "GetVariables", "SetVariables", "GetVariables", "GetVariables", "GetVariables", "SetNetworkProfile", "SetVariables", "Reset")
			r.admit(on3) // the way back
			if st := r.station("CS-1"); st.FloorProfile != 3 || st.WantedProfile != 2 {
				t.Errorf("before it came down: %+v", st)
			}
			var set ocpp.SetNetworkProfileRequest
			if err := json.Unmarshal(s.sent("SetNetworkProfile")[0], &set); err != nil || set.ConnectionData.SecurityProfile != 2 {
				t.Errorf("SetNetworkProfile %+v, %v", set, err)
			}
			on2 := withPassword(claim(t, "CS-1"), passwordIn(t, s))
			s.close()
			r.openWith(r.admit(on2), v, fleet.SecurityBollard, obedient(nil)).ready()
			if st := r.station("CS-1"); st.FloorProfile != 2 || st.WantedProfile != 2 || !st.LowerUntil.IsZero() {
				t.Errorf("after it came down: %+v", st)
			}
			lowering, used := r.events("station.lowering"), r.events(approval.KindUsed)
			if len(lowering) != 1 || lowering[0].Data["approval"] != m.Nonce || lowering[0].Data["approved-by"] != r.pseudonym("alice")+","+r.pseudonym("bob") ||
				len(used) != 1 || used[0].Subject != m.Nonce || used[0].Data["author"] != "operator:"+r.pseudonym("root")+":"+r.pseudonym("carol") {
				t.Errorf("ledger: %+v, %+v", lowering, used)
			}
			// Back on 3 it stays there: the approval was for once.
			r.openWith(r.admit(on3), v, fleet.SecurityBollard, obedient(nil)).ready()
			if st := r.station("CS-1"); st.FloorProfile != 3 || st.WantedProfile != 3 {
				t.Errorf("up again: %+v", st)
			}
			if _, err := r.svc.SetProfile(t.Context(), "operator:root", "CS-1", 2); err == nil {
				t.Error("went down twice on one approval")
			}
			r.refusal(on2)
		})
	}
}

// What isn't approved, by enough others, in time, for exactly this, is refused,
// and nothing of it reaches the station.
func TestDowngradeRefused(t *testing.T) { // promise 4, A05.FR.07, .09
	t.Parallel()
	for name, tt := range map[string]struct {
		prepare func(*testing.T, *rig, *council)
		profile int
		reason  string
	}{
		"nobody was asked": {func(*testing.T, *rig, *council) {}, 2, "nobody was asked"},
		"too few":          {func(_ *testing.T, _ *rig, c *council) { c.signed(c.ask("CS-1", 0), "alice") }, 2, "1 of 2"},
		"one of them the author": {func(t *testing.T, _ *rig, c *council) {
			m := c.ask("CS-1", 0)
			c.signed(m, "alice")
			if err := c.sign(m, "carol"); err == nil || !strings.Contains(err.Error(), "asked for it") {
				t.Errorf("the author's own: %v", err)
			}
		}, 2, "1 of 2"},
		"one of them twice": {func(t *testing.T, _ *rig, c *council) {
			m := c.ask("CS-1", 0)
			c.signed(m, "alice")
			if err := c.sign(m, "alice"); err == nil {
				t.Error("signed twice")
			}
		}, 2, "1 of 2"},
		"expired": {func(_ *testing.T, r *rig, c *council) {
			c.signed(c.ask("CS-1", time.Hour), "alice", "bob")
			r.advance(time.Hour)
		}, 2, "expired"},
		"for another station": {func(_ *testing.T, r *rig, c *council) {
			r.onProfile3("CS-2", ocpp.V201, nil)
			c.signed(c.ask("CS-2", 0), "alice", "bob")
		}, 2, "nobody was asked"},
		"withdrawn": {func(t *testing.T, _ *rig, c *council) {
			m := c.ask("CS-1", 0)
			c.signed(m, "alice", "bob")
			if _, err := c.Withdraw(t.Context(), "operator:root", m.Nonce, "changed my mind"); err != nil {
				t.Error(err)
			}
		}, 2, "nobody was asked"},
		"another board since": {func(t *testing.T, r *rig, c *council) {
			c.signed(c.ask("CS-1", 0), "alice", "bob")
			if _, _, err := r.svc.Replace(t.Context(), "operator", "CS-1", fleet.Replacement{Serial: "NEW", Reason: "x"}); err != nil {
				t.Error(err)
			}
		}, 2, "was changed"},
		"another record since": {func(t *testing.T, r *rig, c *council) {
			c.signed(c.ask("CS-1", 0), "alice", "bob")
			if err := r.svc.Remove(t.Context(), "operator", "CS-1"); err != nil {
				t.Error(err)
			}
			r.advance(time.Second)
			r.onProfile3("CS-1", ocpp.V201, nil)
		}, 2, "was changed"},
		"another key since": {func(_ *testing.T, r *rig, c *council) {
			c.signed(c.ask("CS-1", 0), "alice", "bob")
			c.list[0].Keys = nil
			c.of(r)
		}, 2, "was changed"},
		"to 1, whoever agrees": {func(_ *testing.T, _ *rig, c *council) { c.signed(c.ask("CS-1", 0), "alice", "bob") }, 1, "never goes below"},
		"OCPP 1.6": {func(_ *testing.T, r *rig, _ *council) {
			r.openWith(r.admit(withCertificates(claim(r.t, "CS-1"), r.issue("CS-1", "SN-CS-1")...)), ocpp.V16, fleet.SecurityBollard, nil)
		}, 2, "no way down"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			c := newCouncil(t, "alice", "bob", "carol").of(r)
			s, on3 := r.onProfile3("CS-1", ocpp.V201, lowerable("true", nil))
			s.ready()
			tt.prepare(t, r, c)
			_, err := r.svc.SetProfile(t.Context(), "operator:root", "CS-1", tt.profile)
			if err == nil || !strings.Contains(err.Error(), tt.reason) {
				t.Fatalf("got %v, want %q", err, tt.reason)
			}
			if st := r.station("CS-1"); st.FloorProfile != 3 || st.WantedProfile != 3 || !st.LowerUntil.IsZero() || st.RotateWanted {
				t.Errorf("%+v", st)
			}
			if n := len(r.events(approval.KindUsed)); n != 0 {
				t.Errorf("%d approvals were used", n)
			}
			if name != "another board since" && name != "another record since" {
				r.admit(on3)
			}
			if got := s.actions(); len(got) != 0 {
				t.Errorf("the station was sent %v", got)
			}
		})
	}
}

// A station that doesn't offer the way down (A05.FR.10), or whose time is over,
// stays where it is, and the lower profile is shut.
func TestDowngradeThatDoesntComeAbout(t *testing.T) {
	t.Parallel()
	begin := func(t *testing.T, answer func(string, json.RawMessage) (any, error)) (*rig, *fakeSession, fleet.Claim) {
		t.Helper()
		r := newRig(t)
		c := newCouncil(t, "alice", "bob").of(r)
		s, on3 := r.onProfile3("CS-1", ocpp.V201, answer)
		s.ready()
		c.signed(c.ask("CS-1", time.Hour), "alice", "bob")
		if _, err := r.svc.SetProfile(t.Context(), "operator:root", "CS-1", 2); err != nil {
			t.Fatal(err)
		}
		return r, s, on3
	}
	t.Run("not offered", func(t *testing.T) {
		t.Parallel()
		r, s, on3 := begin(t, lowerable("false", nil))
		eventually(t, "the note", func() bool { return strings.Contains(r.station("CS-1").PlanNote, "AllowSecurityProfileDowngrade") })
		if got := s.actions(); !slices.Equal(got, []string{"GetVariables"}) {
			t.Errorf("sent %v", got)
		}
		r.admit(on3)
	})
	t.Run("its old password is no way in", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		c := newCouncil(t, "alice", "bob").of(r)
		old := withPassword(claim(t, "CS-1"), r.add(fleet.Enrolment{Identity: "CS-1"}))
		r.openWith(r.admit(withCertificates(claim(t, "CS-1"), r.issue("CS-1", "SN-CS-1")...)), ocpp.V201, fleet.SecurityBollard, nil).close()
		c.signed(c.ask("CS-1", 0), "alice", "bob")
		if _, err := r.svc.SetProfile(t.Context(), "operator:root", "CS-1", 2); err != nil {
			t.Fatal(err)
		}
		r.refusal(old)
	})
	t.Run("in time no more", func(t *testing.T) {
		t.Parallel()
		r, s, on3 := begin(t, lowerable("true", map[string]any{"Reset": map[string]string{"status": "Rejected"}}))
		eventually(t, "Reset", func() bool { return len(s.sent("Reset")) > 0 })
		on2 := withPassword(claim(t, "CS-1"), passwordIn(t, s))
		late := r.admit(on2) // proven in time, opened late
		r.advance(time.Hour)
		r.refusal(on2)
		if got := r.openWith(late, ocpp.V201, fleet.SecurityBollard, nil); got.endedWith() == "" {
			t.Error("a session of the lower profile was opened late")
		}
		s.close()
		r.openWith(r.admit(on3), ocpp.V201, fleet.SecurityBollard, obedient(nil)).ready()
		eventually(t, "the wish is taken back", func() bool { return r.station("CS-1").WantedProfile == 3 })
		if st := r.station("CS-1"); !st.LowerUntil.IsZero() || st.FloorProfile != 3 || len(r.events("station.lapsed")) != 1 {
			t.Errorf("%+v", st)
		}
	})
	t.Run("taken back", func(t *testing.T) {
		t.Parallel()
		r, s, _ := begin(t, lowerable("true", map[string]any{"Reset": map[string]string{"status": "Rejected"}}))
		eventually(t, "Reset", func() bool { return len(s.sent("Reset")) > 0 })
		on2 := withPassword(claim(t, "CS-1"), passwordIn(t, s))
		r.admit(on2)
		if _, err := r.svc.SetProfile(t.Context(), "operator:root", "CS-1", 3); err != nil {
			t.Fatal(err)
		}
		r.refusal(on2)
	})
}

// Nothing approved is forgotten or repeated by a crash in the middle.
func TestDowngradeSurvivesRestart(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := newCouncil(t, "alice", "bob").of(r)
	s, on3 := r.onProfile3("CS-1", ocpp.V201, lowerable("true", nil))
	c.signed(c.ask("CS-1", 0), "alice", "bob")
	if _, err := r.svc.SetProfile(t.Context(), "operator:root", "CS-1", 2); err != nil {
		t.Fatal(err)
	}
	s.close()
	r.restart()
	s = r.openWith(r.admit(on3), ocpp.V201, fleet.SecurityBollard, lowerable("true", nil))
	s.ready()
	eventually(t, "Reset", func() bool { return len(s.sent("Reset")) > 0 })
	r.admit(withPassword(claim(t, "CS-1"), passwordIn(t, s)))
	if n := len(r.events(approval.KindUsed)); n != 1 {
		t.Errorf("%d approvals were used", n)
	}
}
