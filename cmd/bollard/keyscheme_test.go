package main

import (
	"testing"

	"bollard/internal/config"
	"bollard/keys"
)

// What keys are made in, bollard.yaml may name.
func TestEveryKeySchemeIsConfigurable(t *testing.T) {
	t.Parallel()
	for _, scheme := range keys.Schemes() {
		text := "organisation: Example CPO\ncountry: NL\nlisten:\n  ocpp: [{address: \"127.0.0.1:8443\", profiles: [2, 3]}]\nbackends:\n  - url: ws://127.0.0.1:9000/ocpp\nkeys: {uri: '" + scheme + ":x'}\n"
		if _, err := config.Parse("bollard.yaml", []byte(text)); err != nil {
			t.Errorf("%s: %v", scheme, err)
		}
	}
}
