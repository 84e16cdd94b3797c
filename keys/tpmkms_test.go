package keys_test

import (
	"strings"
	"testing"

	"bollard/keys"
)

func TestTPMURI(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ base, want, wantErr string }{
		"plain":             {"tpmkms:device=/dev/tpmrm0?pin-source=/p", "tpmkms:device=/dev/tpmrm0;object=x?pin-source=/p", ""},
		"each role its own": {"tpmkms:device=/dev/tpmrm0?pin-source=file:///p/{role}", "tpmkms:device=/dev/tpmrm0;object=x?pin-source=/p/{role}", ""},
		"PIN by who asks":   {"tpmkms:device=/dev/tpmrm0", "tpmkms:device=/dev/tpmrm0;object=x", ""},
		"no device":         {"tpmkms:?pin-source=/p", "", "names no TPM"},
		"relative device":   {"tpmkms:device=tpmrm0", "", "absolute path"},
		"relative PIN":      {"tpmkms:device=/dev/tpmrm0?pin-source=p", "", "absolute path"},
		"a PIN in it":       {"tpmkms:device=/dev/tpmrm0?pin-value=canary", "", "pin-source"},
		"named already":     {"tpmkms:device=/dev/tpmrm0;object=o", "", "leave object out"},
		"unknown":           {"tpmkms:device=/dev/tpmrm0;colour=red", "", "unknown attribute"},
		"twice":             {"tpmkms:device=/dev/tpmrm0;device=/dev/tpm0", "", "twice"},
	} {
		got, err := keys.Join(tt.base, "x.key")
		if got != tt.want || tt.wantErr == "" && err != nil {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
		if tt.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tt.wantErr)) {
			t.Errorf("%s: got %v, want %q", name, err, tt.wantErr)
		}
		if err != nil && strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: the PIN is in the error: %v", name, err)
		}
	}
}
