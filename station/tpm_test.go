package station_test

import (
	"strings"
	"testing"

	"bollard/station"
	"bollard/tpm/device"
)

// A key of a TPM needs one, and stays in it.
func TestTPMKeyNeedsATPM(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]station.Config{
		"no TPM":   {},
		"key file": {TPM: device.New(nil), KeyDir: t.TempDir()},
	} {
		cfg.Identity, cfg.URL, cfg.Key = "CS-1", "ws://x", station.TPMKey
		if _, err := station.New(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "Key tpm needs a TPM") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
