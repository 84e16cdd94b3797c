package keys_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.step.sm/crypto/kms/apiv1"
	"go.step.sm/crypto/kms/pkcs11"

	"bollard/keys"
	"bollard/keys/keystest"
)

// PINs of the tokens that each belong to one role.
const (
	caPIN       = "canary-pin-of-the-ca"
	firmwarePIN = "canary-pin-of-firmware"
)

// Each role with a token and a PIN of its own: the token itself refuses the other
// role's login, and has not got the other role's key.
func TestHSMTokenRefusesTheOtherRole(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for role, pin := range map[keys.Role]string{keys.RoleCA: caPIN, keys.RoleFirmware: firmwarePIN} {
		if err := os.WriteFile(filepath.Join(dir, string(role)+".pin"), []byte(pin+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	k, name := keystest.Keeper(t, keys.Config{}), fresh("key")
	uri := "pkcs11:module-path=" + softHSM + ";token=role-{role};object=" + name + "?pin-source=" + dir + "/{role}.pin"
	// The token is asked directly, as anybody with the login of firmware could, and
	// through the package. That comes first: a token is logged in to for a whole process.
	login := func(token, pin string) (*pkcs11.PKCS11, error) {
		return pkcs11.New(context.Background(), apiv1.Options{Type: apiv1.PKCS11, URI: "pkcs11:module-path=" + softHSM + ";token=" + token, Pin: pin})
	}
	if _, err := login("role-ca", firmwarePIN); err == nil || !strings.Contains(err.Error(), "CKR_PIN_INCORRECT") {
		t.Errorf("the CA's token with the PIN of firmware: %v", err)
	}
	if _, err := keystest.Keeper(t, keys.Config{}).Open(t.Context(), strings.Replace(uri, "{role}.pin", "firmware.pin", 1), keys.RoleCA); !errors.Is(err, keys.ErrPIN) {
		t.Errorf("the CA's token with the PIN of firmware, by the package: %v", err)
	}
	for _, role := range []keys.Role{keys.RoleCA, keys.RoleFirmware} {
		key, err := k.Create(t.Context(), uri, role, keys.P256)
		if err != nil {
			t.Fatal(err)
		}
		signs(t, key)
	}
	session, err := login("role-firmware", firmwarePIN)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	for role, there := range map[keys.Role]bool{keys.RoleFirmware: true, keys.RoleCA: false} {
		_, err := session.CreateSigner(&apiv1.CreateSignerRequest{SigningKey: "pkcs11:object=bollard:" + string(role) + ":" + name})
		if there != (err == nil) {
			t.Errorf("the key of %s by the login of firmware: %v", role, err)
		}
	}
	// Through the package, by a URI that names the wrong token.
	if _, err := k.Open(t.Context(), strings.ReplaceAll(uri, "{role}", "firmware"), keys.RoleCA); !errors.Is(err, keys.ErrRole) {
		t.Errorf("a CA's key in the token of firmware: %v", err)
	}
}
