// Package failpoint lets a test stop the process at a named place, to prove
// that a kill there loses nothing.
package failpoint

import (
	"os"
	"syscall"
)

// Env names the variable that arms one failpoint: NAME kills the process with
// SIGKILL when it is hit. It is read on every hit, so that a test in the same
// process can arm it too.
const Env = "BOLLARD_FAILPOINT"

// Hit kills the process if the named failpoint is armed.
func Hit(name string) {
	if os.Getenv(Env) == name {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal is on its way; nothing after this point may run
	}
}
