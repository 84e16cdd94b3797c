package main

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"bollard/ledger"
)

// A rule that is turned on without its record would be in force after the next
// start, and nobody would know who decided it.
func TestPromotionIsRecordedFirst(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	if code := run(t.Context(), []string{"init", "--data", dir, "--org", "Example CPO", "--country", "NL"}, nil, io.Discard, io.Discard); code != exitDone {
		t.Fatalf("init: exit %d", code)
	}
	cfg, err := loadConfig(dir)
	if err != nil {
		t.Fatal(err)
	}
	a, err := openApp(t.Context(), dir, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	p := &policing{app: a}
	set, err := p.rules()
	if err != nil {
		t.Fatal(err)
	}
	shadow := ""
	for _, r := range set.Rules() {
		if r.Mode == "shadow" {
			shadow = r.Name
		}
	}
	changed, write, err := setPromoted(dir, func(names []string) []string { return append(names, shadow) })
	if err != nil {
		t.Fatal(err)
	}
	if r, _ := changed.Rule(shadow); r.Mode != "enforce" {
		t.Errorf("%q in the new set: %+v", shadow, r)
	}
	if err := a.Close(); err != nil { // from here on nothing can be recorded
		t.Fatal(err)
	}
	if err := p.use(t.Context(), changed, ledger.Event{Kind: "policy.promoted", Subject: shadow, Actor: "operator"}, write); err == nil {
		t.Error("promoted without a record")
	}
	if _, err := os.Stat(filepath.Join(dir, policyName, promotedName)); !os.IsNotExist(err) {
		t.Errorf("the list of promoted rules was written: %v", err)
	}
}
