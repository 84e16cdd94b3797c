package config_test

import (
	"strings"
	"testing"
	"time"

	"bollard/internal/config"
)

func TestAdoptUntil(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Time{
		"2027-01-31": time.Date(2027, 2, 1, 0, 0, 0, 0, time.UTC), "2027-02-30": {}, "31.1.2027": {}, "tomorrow": {},
	} {
		got, err := config.AdoptUntil(text)
		if !got.Equal(want) || (err != nil) != want.IsZero() {
			t.Errorf("AdoptUntil(%q) = %v, %v", text, got, err)
		}
	}
}

func TestAdoptIsChecked(t *testing.T) {
	t.Parallel()
	parse := func(backend, more string) error {
		_, err := config.Parse("b", []byte(strings.Replace(minimal, "url: ws://127.0.0.1:9000/ocpp", "url: ws://127.0.0.1:9000/ocpp\n    "+backend, 1)+more))
		return err
	}
	for _, good := range []string{"adopt: {until: 2027-01-31}", "adopt: {until: \"2027-01-31\"}\n    auth: basic-per-station"} {
		if err := parse(good, ""); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for bad, key := range map[string]string{
		"adopt: {until: soon}": "backends[0].adopt.until", "adopt: {till: 2027-01-31}": "till",
		"adopt: {until: 2027-01-31}\n    auth: basic-shared\n    password_file: x": "backends[0].adopt",
	} {
		if err := parse(bad, ""); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	for _, bad := range []string{"\nrenewal: {per_minute: -1}", "\nrenewal: {per_minute: 60001}"} {
		if err := parse("name: x", bad); err == nil || !strings.Contains(err.Error(), "renewal.per_minute") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
