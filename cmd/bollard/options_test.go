package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bollard/internal/config"
)

func TestListeners(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		listen, ocpp, pki, firmware, admin, status string
		refused                                    bool
	}{
		"loopback unless told":         {"", "127.0.0.1:8443", "127.0.0.1:8444", "127.0.0.1:8445", "127.0.0.1:8446", "127.0.0.1:8080", false},
		"everywhere but admin":         {"0.0.0.0", "0.0.0.0:8443", "0.0.0.0:8444", "0.0.0.0:8445", "127.0.0.1:8446", "0.0.0.0:8080", false},
		"everywhere, IPv6":             {"::", "[::]:8443", "[::]:8444", "[::]:8445", "127.0.0.1:8446", "[::]:8080", false},
		"brackets":                     {"[::1]:9000", "[::1]:9000", "[::1]:9001", "[::1]:9002", "[::1]:9003", "[::1]:9004", false},
		"a port: the next four follow": {"127.0.0.1:9443", "127.0.0.1:9443", "127.0.0.1:9444", "127.0.0.1:9445", "127.0.0.1:9446", "127.0.0.1:9447", false},
		"any free ones":                {"127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", false},
		"a name":                       {"example.com:1", "", "", "", "", "", true},
		"no room for the next four":    {"127.0.0.1:65534", "", "", "", "", "", true},
		"negative":                     {"127.0.0.1:-1", "", "", "", "", "", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := initOptions{listen: tt.listen}.listeners()
			if (err != nil) != tt.refused {
				t.Fatal(err)
			}
			if tt.refused {
				return
			}
			want := config.Listen{
				OCPP: []config.OCPPListener{{Address: tt.ocpp, Profiles: []int{2, 3}}},
				PKI:  tt.pki, Firmware: tt.firmware, Admin: tt.admin, Status: tt.status,
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSpansOfFilters(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"": 0, "30d": 30 * 24 * time.Hour, "12h": 12 * time.Hour, "1h30m": 90 * time.Minute,
		"1.5d": 36 * time.Hour, "0d": -1, "0": -1, "NaNd": -1, "-1d": -1, "30": -1, "d": -1, "soon": -1, "-5h": -1, "99999999d": -1,
	} {
		got, err := filterSpan(text)
		if want < 0 && err == nil || want >= 0 && (err != nil || got != want) {
			t.Errorf("filterSpan(%q) = %v, %v", text, got, err)
		}
	}
}

func TestRestartKeys(t *testing.T) {
	t.Parallel()
	base := func() *config.File {
		return &config.File{
			Organisation: "O", Host: "localhost", Backends: []config.Backend{{URL: "ws://a/b"}},
			Listen: config.Listen{Admin: "127.0.0.1:1"}, Log: config.Log{Level: "info", Format: "text"},
		}
	}
	for name, tt := range map[string]struct {
		change func(*config.File)
		want   []string
	}{
		"nothing":      {func(*config.File) {}, nil},
		"reloadable":   {func(f *config.File) { f.Backends[0].URL = "ws://c/d"; f.Limits.Drain = 1; f.Log.Level = "debug" }, nil},
		"organisation": {func(f *config.File) { f.Organisation = "P" }, []string{"organisation"}},
		"a listener":   {func(f *config.File) { f.Listen.Admin = "127.0.0.1:2" }, []string{"listen"}},
		"log format":   {func(f *config.File) { f.Log.Format = "json" }, []string{"log.format"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			now := base()
			tt.change(now)
			if diff := cmp.Diff(tt.want, restartKeys(base(), now)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
