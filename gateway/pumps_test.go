package gateway_test

import (
	"os"
	"os/exec"
	"regexp"
	"testing"
)

// compressVar makes every rig of the test binary, and its stations, compress:
// pumps move the frames of such sessions.
const compressVar = "BOLLARD_TEST_COMPRESS"

func compressed() bool { return os.Getenv(compressVar) != "" }

// Both ways of moving frames keep the same promises: all tests of this package,
// once more with compression, alone because many have clocks.
func TestTheSameOnPumps(t *testing.T) {
	if compressed() {
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.timeout=10m", "-test.skip=^TestSoak")
	cmd.Env = append(os.Environ(), compressVar+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		out = gatewayLog.ReplaceAll(out, nil)
		t.Errorf("%v\n%s", err, out[max(0, len(out)-32<<10):])
	}
}

// gatewayLog is a line of a gateway's log: of those there are too many to find
// what failed.
var gatewayLog = regexp.MustCompile(`(?m)^.*\blevel=(DEBUG|INFO|WARN)\b.*\n`)
