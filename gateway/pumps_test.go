package gateway_test

import (
	"os"
	"os/exec"
	"testing"
)

// pumpsVar makes every rig of the test binary move frames by pumps.
const pumpsVar = "BOLLARD_TEST_PUMPS"

func onPumps() bool { return os.Getenv(pumpsVar) != "" }

// Both ways of moving frames keep the same promises: all tests of this package,
// once more with pumps, alone because many have clocks.
func TestTheSameOnPumps(t *testing.T) {
	if onPumps() {
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.timeout=5m", "-test.skip=^TestSoak")
	cmd.Env = append(os.Environ(), pumpsVar+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out[max(0, len(out)-8<<10):])
	}
}
