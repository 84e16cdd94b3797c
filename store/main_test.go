package store_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"bollard/ca"
	"bollard/fleet"
	"bollard/ledger"
	"bollard/store"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		os.Exit(child(path))
	}
	goleak.VerifyTestMain(m)
}

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func at(seconds int) time.Time { return noon.Add(time.Duration(seconds) * time.Second) }

// open opens a new database whose clock stands at noon.
func open(t *testing.T) *store.Store {
	t.Helper()
	return reopen(t, filepath.Join(t.TempDir(), "bollard.db"))
}

func reopen(t *testing.T, path string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{Path: path, Clock: func() time.Time { return noon }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func event(kind string) ledger.Event { return ledger.Event{Kind: kind, Actor: "operator"} }

func intent(serial string) ca.Intent {
	return ca.Intent{Serial: serial, Issuer: "csms-issuing", Profile: "station", Station: "cs-1", CreatedAt: at(1), NotBefore: at(0), NotAfter: at(3600)}
}

func station(identity, serial string) fleet.Station {
	return fleet.Station{Identity: identity, Serial: serial, WantedProfile: 2, FloorProfile: 2, CreatedAt: at(0)}
}

// kinds verifies the ledger and returns its kinds in order.
func kinds(t *testing.T, s *store.Store) []string {
	t.Helper()
	list := []string{}
	_, err := ledger.Verify(func(yield func(ledger.Entry, error) bool) {
		for e, err := range s.Entries(context.Background(), 1) {
			list = append(list, e.Kind)
			if !yield(e, err) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
