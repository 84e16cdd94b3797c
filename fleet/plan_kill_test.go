package fleet_test

import (
	"context"
	"crypto/x509"
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

	"bollard/ca/hashdata"
	"bollard/fleet"
	"bollard/internal/failpoint"
	"bollard/ocpp"
)

// killDir names the directory of a process that is to be killed.
const killDir = "BOLLARD_TEST_KILL_DIR"

// The outward messages of a plan, each with a kill before and after it. What
// the station took until then it writes down itself.
func TestPlanSurvivesKill(t *testing.T) { // promise 7; A01.FR.03, A05, M04, M05
	if dir := os.Getenv(killDir); dir != "" {
		killed(t, dir)
		return
	}
	t.Parallel()
	for _, point := range []string{
		"fleet.plan-begun", "fleet.plan-done", "fleet.plan-password-stored", "fleet.plan-password-answered",
		"fleet.plan-root-install", "fleet.plan-root-installed", "fleet.plan-slot", "fleet.plan-slot-filled", "fleet.plan-slot-first",
	} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			password := r.add(fleet.Enrolment{Identity: "CS-1", Profile: 1})
			r.write("password", password)
			if err := r.store.Close(); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestPlanSurvivesKill$", "-test.timeout=5m")
			cmd.Env = append(os.Environ(), killDir+"="+r.dir, failpoint.Env+"="+point)
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
				t.Fatalf("process ended with %v, want it killed at %s\n%s", err, point, out)
			}
			r = reopenRig(t, r.dir)
			m := newMule(r)
			// Whatever it has, it gets in; and the plan ends where it was to end.
			for range 12 {
				m.connect(t)
				m.session.wg.Wait()
				r.advance(2 * time.Hour)
				m.session.wg.Wait()
				m.session.close()
				if m.profile() == 2 && r.station("CS-1").FloorProfile == 2 && r.station("CS-1").Pending == nil && !r.station("CS-1").RotateWanted {
					break
				}
			}
			m.connect(t)
			st := r.station("CS-1")
			if st.FloorProfile != 2 || st.Pending != nil || st.RotateWanted || m.read("password") == password || len(r.plan("CS-1").Seen["csms"]) != 1 {
				t.Errorf("station %+v\nplan %+v", st, r.plan("CS-1"))
			}
			old := claim(t, "CS-1")
			r.refusal(withPassword(old, password))
			for serial, n := range m.installed() {
				if n > 2 {
					t.Errorf("root %s was installed %d times", serial, n)
				}
			}
		})
	}
}

// mule is a station whose state is in files, so that it outlives a process.
type mule struct {
	r       *rig
	session *fakeSession
}

// write is on disk as a whole, or not at all: the process may be killed meanwhile.
func (r *rig) write(name, text string) {
	path := filepath.Join(r.dir, "station-"+name)
	err := os.WriteFile(path+".new", []byte(text), 0o600)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

func (m *mule) read(name string) string {
	text, err := os.ReadFile(filepath.Join(m.r.dir, "station-"+name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		m.r.t.Fatal(err)
	}
	return string(text)
}

func newMule(r *rig) *mule { return &mule{r: r} }

func (m *mule) profile() int {
	if m.read("profile") == "2" {
		return 2
	}
	return 1
}

func (m *mule) installed() map[string]int {
	out := map[string]int{}
	for line := range strings.Lines(m.read("roots")) {
		out[line]++
	}
	return out
}

func (m *mule) connect(t *testing.T) {
	t.Helper()
	c := claim(t, "CS-1")
	if m.profile() == 1 {
		c.TLS, c.Profiles = false, []int{1}
	}
	m.session = m.r.openWith(m.r.admit(withPassword(c, m.read("password"))), ocpp.V201, fleet.SecurityBollard, m.answer)
	if got := m.session.endedWith(); got != "" {
		t.Fatal(got)
	}
	m.session.ready()
}

// answer takes everything, and has it on disk before it answers.
func (m *mule) answer(action string, payload json.RawMessage) (any, error) {
	switch action {
	case "SetVariables":
		var set ocpp.SetVariablesRequest
		if err := json.Unmarshal(payload, &set); err != nil {
			return nil, err
		}
		switch v := set.SetVariableData[0]; v.Variable.Name {
		case "BasicAuthPassword":
			m.r.write("password", v.AttributeValue)
		case "NetworkConfigurationPriority":
			m.r.write("priority", v.AttributeValue)
		}
	case "SetNetworkProfile":
		var set ocpp.SetNetworkProfileRequest
		if err := json.Unmarshal(payload, &set); err != nil {
			return nil, err
		}
		m.r.write(fmt.Sprintf("slot%d", set.ConfigurationSlot), fmt.Sprint(set.ConnectionData.SecurityProfile))
	case "Reset":
		if first, _, _ := strings.Cut(m.read("priority"), ","); m.read("slot"+first) == "2" {
			m.r.write("profile", "2")
		}
	case "InstallCertificate":
		var in ocpp.InstallCertificateRequest
		if err := json.Unmarshal(payload, &in); err != nil {
			return nil, err
		}
		m.r.write("root", in.Certificate)
		m.r.write("roots", m.read("roots")+serialOf(parsePEM(m.r.t, in.Certificate))+"\n")
	case "GetInstalledCertificateIds":
		if m.read("root") == "" {
			return ocpp.GetInstalledCertificateIDsResponse{Status: "NotFound"}, nil
		}
		root := parsePEM(m.r.t, m.read("root"))
		d, err := hashdata.Of("SHA256", root, root)
		return ocpp.GetInstalledCertificateIDsResponse{Status: "Accepted", CertificateHashDataChain: []ocpp.CertificateHashDataChain{
			{CertificateType: "CSMSRootCertificate", CertificateHashData: d}}}, err
	case "GetVariables":
		sh := newShelf(m.r.t, ocpp.V201)
		priority := m.read("priority")
		if priority == "" {
			priority = "1"
		}
		sh.values = map[string]string{"NetworkConfigurationPriority": priority, "ActiveNetworkProfile": "1"}
		return sh.answer(action, payload)
	}
	return obedient(nil)(action, payload)
}

func parsePEM(t testing.TB, text string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		t.Fatalf("no PEM in %q", text)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// killed is the process that is killed on its way through the whole plan.
func killed(t *testing.T, dir string) {
	r := reopenRig(t, dir)
	m := newMule(r)
	// Both are wanted before anything can kill this process.
	if _, err := r.svc.SetProfile(context.Background(), "operator", "CS-1", 2); err != nil {
		t.Fatal(err)
	}
	if _, err := r.svc.Rotate(context.Background(), "operator", "CS-1"); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the new password is used from the second session on
		m.connect(t)
		m.session.wg.Wait()
		m.session.close()
	}
	t.Fatal("nobody killed this process")
}
