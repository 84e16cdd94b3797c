package failpoint_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"bollard/internal/failpoint"
)

const child = "FAILPOINT_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(child) != "" {
		_, _ = os.Stdout.WriteString("before ")
		failpoint.Hit("after-intent")
		_, _ = os.Stdout.WriteString("after")
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestHit(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, armed, output string
		killed              bool
	}{
		{"armed", "after-intent", "before ", true},
		{"another is armed", "after-sign", "before after", false},
		{"none is armed", "", "before after", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), child+"=1", failpoint.Env+"="+test.armed)
			var out bytes.Buffer
			cmd.Stdout = &out
			err := cmd.Run()
			if out.String() != test.output {
				t.Errorf("output %q, want %q", out.String(), test.output)
			}
			var exit *exec.ExitError
			killed := errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
			if killed != test.killed {
				t.Errorf("killed %v (%v), want %v", killed, err, test.killed)
			}
		})
	}
}
