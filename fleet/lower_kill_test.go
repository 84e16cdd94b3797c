package fleet_test

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"bollard/approval"
	"bollard/fleet"
	"bollard/internal/failpoint"
	"bollard/ocpp"
)

// descender is a station on profile 3 that has the way down; its state is in
// files, so that it outlives a process.
type descender struct {
	mule
	on3 fleet.Claim
}

func (r *rig) descender(t *testing.T) *descender {
	t.Helper()
	d := &descender{mule: mule{r: r}}
	d.on3 = claim(t, "CS-1")
	for rest := []byte(d.read("chain")); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return d
		}
		d.on3.Certificates = append(d.on3.Certificates, parsePEM(t, string(pem.EncodeToMemory(block))))
	}
}

// connect tries the profiles in their order, as a station does that booted.
func (d *descender) connect(t *testing.T) {
	t.Helper()
	first, _, _ := strings.Cut(d.read("priority"), ",")
	if c := withPassword(claim(t, "CS-1"), d.read("password")); d.read("slot"+first) == "2" {
		if adm, err := d.r.svc.Admit(t.Context(), c); err == nil {
			d.open(t, adm, first)
			return
		}
	}
	d.open(t, d.r.admit(d.on3), "1")
}

func (d *descender) open(t *testing.T, adm fleet.Admission, slot string) {
	t.Helper()
	d.r.write("active", slot)
	d.session = d.r.openWith(adm, ocpp.V201, fleet.SecurityBollard, d.answer)
	if got := d.session.endedWith(); got != "" {
		t.Fatal(got)
	}
	d.session.ready()
}

func (d *descender) answer(action string, payload json.RawMessage) (any, error) {
	if action == "GetVariables" {
		values := map[string]string{"NetworkConfigurationPriority": d.read("priority"), "ActiveNetworkProfile": d.read("active"), "AllowSecurityProfileDowngrade": "true"}
		sh := newShelf(d.r.t, ocpp.V201)
		sh.values = values
		return sh.answer(action, payload)
	}
	return d.mule.answer(action, payload)
}

// One approved way down, killed at each of its steps: the approval is used exactly
// when the way is open, once, and whatever the station has it gets in.
func TestDowngradeSurvivesKill(t *testing.T) { // A05.FR.08, promises 4 and 7
	if dir := os.Getenv(killDir); dir != "" {
		descends(t, dir)
		return
	}
	t.Parallel()
	for _, tt := range []struct {
		point string
		lapse bool // its time is over then
		used  int  // approvals, when it is killed
	}{
		{"fleet.lower-approved", false, 0},
		{"fleet.lower-used", false, 1},
		{"fleet.plan-begun", false, 1},
		{"fleet.plan-password-stored", false, 1},
		{"fleet.plan-password-answered", true, 1},
		{"fleet.plan-slot", false, 1},
		{"fleet.plan-slot-filled", true, 1},
		{"fleet.plan-slot-first", true, 1},
		{"fleet.plan-slot-first", false, 1},
		{"fleet.plan-order-back", true, 1},
	} {
		t.Run(fmt.Sprintf("%s lapse=%t", tt.point, tt.lapse), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.add(fleet.Enrolment{Identity: "CS-1"})
			chain := r.issue("CS-1", "SN-CS-1")
			text := ""
			for _, cert := range chain {
				text += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
			}
			r.write("chain", text)
			r.write("priority", "1,0")
			d := r.descender(t)
			d.connect(t)
			d.session.close()
			c := councilIn(t, r.dir, "alice", "bob").of(r)
			m := c.ask("CS-1", 24*time.Hour)
			c.signed(m, "alice", "bob")
			if err := r.store.Close(); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestDowngradeSurvivesKill$", "-test.timeout=5m")
			cmd.Env = append(os.Environ(), killDir+"="+r.dir, failpoint.Env+"="+tt.point)
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
				t.Fatalf("process ended with %v, want it killed at %s\n%s", err, tt.point, out)
			}
			r = reopenRig(t, r.dir)
			councilIn(t, r.dir, "alice", "bob").of(r)
			d = r.descender(t)
			used := func() int { return len(r.events(approval.KindUsed)) }
			open := tt.used == 1 && tt.point != "fleet.plan-order-back" // where it has lapsed already
			if n := used(); n != tt.used || len(r.events("station.lowering")) != n || r.station("CS-1").LowerUntil.IsZero() == open {
				t.Fatalf("%d approvals are used; station %+v", n, r.station("CS-1"))
			}
			if tt.used == 0 { // the command is given again
				if _, err := r.svc.SetProfile(t.Context(), "operator:root", "CS-1", 2); err != nil {
					t.Fatal(err)
				}
			}
			if tt.lapse {
				r.advance(25 * time.Hour)
			}
			floor, order := 2, "2,1,0"
			if tt.lapse {
				floor, order = 3, "1,0"
			}
			for range 8 {
				d.connect(t)
				d.session.wg.Wait()
				d.session.close()
				r.advance(time.Hour)
				if st := r.station("CS-1"); st.FloorProfile == floor && st.LowerUntil.IsZero() && d.read("priority") == order && (!tt.lapse || r.plan("CS-1").Slot == "") {
					break
				}
			}
			st := r.station("CS-1")
			if st.FloorProfile != floor || st.WantedProfile != floor || !st.LowerUntil.IsZero() || st.Pending != nil || used() != 1 || d.read("priority") != order {
				t.Errorf("%d approvals used, order %s, station %+v", used(), d.read("priority"), st)
			}
			if tt.lapse && r.plan("CS-1").Slot != "" {
				t.Errorf("plan %+v", r.plan("CS-1"))
			}
			if _, err := r.svc.SetProfile(t.Context(), "operator:root", "CS-1", 2); tt.lapse && err == nil {
				t.Error("went down twice on one approval")
			}
		})
	}
}

// descends is the process that is killed on its way.
func descends(t *testing.T, dir string) {
	r := reopenRig(t, dir)
	councilIn(t, filepath.Clean(dir), "alice", "bob").of(r)
	d := r.descender(t)
	if _, err := r.svc.SetProfile(t.Context(), "operator:root", "CS-1", 2); err != nil {
		t.Fatal(err)
	}
	d.connect(t)
	d.session.wg.Wait()
	d.session.close()
	// Only what takes the order back is left to kill it.
	r.advance(25 * time.Hour)
	d.connect(t)
	d.session.wg.Wait()
	t.Fatal("nobody killed this process")
}
