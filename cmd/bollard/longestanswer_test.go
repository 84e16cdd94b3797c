package main

import (
	"log/slog"
	"testing"
	"time"

	"bollard/fleet"
	"bollard/internal/config"
	"bollard/ledger"
	"bollard/ocpp"
)

// How long an answer for a car may be is the station's word, then what is said of its
// model, then what its version has.
func TestLongestAnswer(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "ws://127.0.0.1:1/ocpp")
	for _, id := range []string{"CS-1", "CS-2"} {
		h.must("station", "add", id, "--serial", "SN-"+id, "--profile", "2", "--vendor", "Acme", "--model", "X1")
	}
	cfg, err := loadConfig(h.dir)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Contracts.Models = []config.ContractModel{{Vendor: "Acme", Model: "*", MaxResponse: 6000}}
	a, err := openAppAt(t.Context(), time.Now, h.dir, cfg, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if _, err := a.store.UpdatePlan(t.Context(), "cs-1", func(p *fleet.Plan) ([]ledger.Event, error) { p.CarAnswer = 7500; return nil, nil }); err != nil {
		t.Fatal(err)
	}
	g := &contractGuard{&updateGuard{app: a}}
	for _, tt := range []struct {
		key, vendor string
		v           ocpp.Version
		want        int
	}{
		{"cs-1", "Acme", ocpp.V201, 7500}, {"cs-2", "Acme", ocpp.V201, 6000}, {"cs-2", "Other", ocpp.V201, 0},
		{"cs-1", "Other", ocpp.V201, 7500}, {"cs-1", "Other", ocpp.V21, 0}, // less than 2.1 has in any case
	} {
		if got := g.longest(t.Context(), tt.v, tt.key, tt.vendor, "X1"); got != tt.want {
			t.Errorf("%s of %s, %v: %d, not %d", tt.key, tt.vendor, tt.v, got, tt.want)
		}
	}
}
