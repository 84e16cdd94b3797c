package fleet_test

import (
	"flag"
	"os"
	"testing"
)

// TestMain keeps the model short by default, since each of its runs opens
// databases; -rapid.checks asks for more.
func TestMain(m *testing.M) {
	if f := flag.Lookup("rapid.checks"); f != nil {
		_ = f.Value.Set("8") // before flags are parsed, so that the command line wins
	}
	os.Exit(m.Run())
}
