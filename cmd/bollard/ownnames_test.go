package main

import (
	"slices"
	"testing"

	"bollard/internal/config"
)

// Whatever name Bollard is dialled by is nobody's to have a certificate for, over ACME as
// over step.
func TestOwnNamesAreNobodys(t *testing.T) {
	t.Parallel()
	cfg := &config.File{Host: "Charge.example", ACME: config.ACME{Names: []string{"*.example"}, HTTPPort: 80, TLSPort: 443}, Public: config.Public{
		OCPP: "wss://OCPP.example:8443/ocpp", Rollover: "wss://next.example/ocpp", Firmware: "https://files.example.:8445", SFTP: "sftp://sftp.example:2022", Status: "http://charge.example:8080",
	}}
	s := &server{app: &app{cfg: cfg}}
	names, err := s.acmeNames()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"charge.example", "ocpp.example", "next.example", "files.example", "sftp.example"}
	for door, got := range map[string][]string{"ACME": names.Own, "step": s.stepConfig().Own} {
		if !slices.Equal(got, want) {
			t.Errorf("to %s Bollard's names are %v", door, got)
		}
	}
}
