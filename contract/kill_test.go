package contract_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"bollard/ca"
	"bollard/contract"
	"bollard/internal/failpoint"
	"bollard/iso15118/identifier"
	"bollard/iso15118/message"
)

// killedDir names the directory to a child that is killed while it answers the car.
const killedDir = "CONTRACT_TEST_DIR"

// TestKilledChild is the process that is killed; without its environment it is nothing.
func TestKilledChild(t *testing.T) {
	dir := os.Getenv(killedDir)
	if dir == "" {
		return
	}
	exi, err := os.ReadFile(filepath.Join(dir, "request"))
	if err != nil {
		t.Fatal(err)
	}
	r := rigIn(t, dir)
	r.ask(t, message.ISO2, exi, false)
}

// Killed anywhere between the certificate and its answer, a server revokes at its next
// start what nobody has the key of, and the car's next request gets one certificate that
// is in force, and no more.
func TestKilledBeforeTheAnswer(t *testing.T) { // promise 7
	t.Parallel()
	dir := t.TempDir()
	r := rigIn(t, dir, kindsOf(message.ISO2)...)
	cars := map[string]*car{}
	points := []string{"contract.certified", "contract.signed", "contract.kept"}
	pcidOf := func(point string) identifier.PCID {
		return identifier.PCID("WP0TESTA000000" + strconv.Itoa(slices.Index(points, point)+1) + "1A3")
	}
	for _, point := range points {
		cars[point] = r.carOf(t, message.ISO2, pcidOf(point))
		if _, err := r.Add(t.Context(), "operator", emaid, pcidOf(point)); err != nil {
			t.Fatal(err)
		}
	}
	warm := r.car(t, message.ISO2) // the CPS has its certificate: none of the accidents is about that one
	r.add(t)
	r.ask(t, message.ISO2, sign(t, warm.request(), warm.key), false)
	for _, point := range points {
		exi := sign(t, cars[point].request(), cars[point].key)
		if err := os.WriteFile(filepath.Join(dir, "request"), exi, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := r.store.Close(); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledChild$")
		cmd.Env = append(os.Environ(), killedDir+"="+dir, failpoint.Env+"="+point)
		out, err := cmd.CombinedOutput()
		if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); err == nil || !ok || status.Signal() != syscall.SIGKILL {
			t.Fatalf("%s: the child wasn't killed: %v\n%s", point, err, out)
		}
		r = rigIn(t, dir)
		contracts, err := r.store.ContractsOf(t.Context(), pcidOf(point))
		if err != nil || len(contracts) != 1 || len(contracts[0].Serials) != 1 {
			t.Fatalf("%s: %+v: %v", point, contracts, err)
		}
		kept := 0
		if point == "contract.kept" {
			kept = 1
		}
		if n := r.live(t, &contracts[0]); n != kept || len(contracts[0].Begun) > 0 {
			t.Errorf("%s: after the start %d certificates are in force, %d begun", point, n, len(contracts[0].Begun))
		}
		a, answer := r.ask(t, message.ISO2, exi, false)
		if a.Code != "OK" {
			t.Fatalf("%s: %+v", point, a)
		}
		cars[point].install(t, r, answer)
		if contracts, err = r.store.ContractsOf(t.Context(), pcidOf(point)); err != nil || r.live(t, &contracts[0]) != 1 || len(contracts[0].Serials) != 2-kept {
			t.Errorf("%s: then there are %+v: %v", point, contracts, err)
		}
	}
}

// live counts a contract's certificates in force.
func (r *rig) live(t *testing.T, c *contract.Contract) (n int) {
	t.Helper()
	for _, serial := range c.Serials {
		record, err := r.authority.Record(t.Context(), serial)
		if err != nil {
			t.Fatal(err)
		}
		if record.State == ca.StateIssued {
			n++
		}
	}
	return n
}
