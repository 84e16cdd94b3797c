package keys_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"go.step.sm/crypto/kms/apiv1"
	"go.step.sm/crypto/kms/pkcs11"

	"bollard/keys"
	"bollard/keys/keystest"
)

func TestCustodyOfFiles(t *testing.T) {
	t.Parallel()
	for passphrase, want := range map[string]string{"": "yes: a file", "canary-passphrase": "yes: a file, encrypted to a passphrase"} {
		k := keeper(t, t.TempDir(), passphrase)
		if _, err := k.Custody(t.Context(), "softkms:ca.key", keys.RoleCA); !errors.Is(err, keys.ErrNotFound) {
			t.Errorf("no key: %v", err)
		}
		if _, err := k.Create(t.Context(), "softkms:ca.key", keys.RoleCA, keys.P256); err != nil {
			t.Fatal(err)
		}
		got, err := k.Custody(t.Context(), "softkms:ca.key", keys.RoleCA)
		if err != nil || got != (keys.Custody{Holder: "a file", Exportable: want}) {
			t.Errorf("got %v, %v, want %q", got, err, want)
		}
	}
}

// The token itself says whether it may give a key out, and one that it may isn't good.
func TestCustodyOfATokensKeys(t *testing.T) {
	t.Parallel()
	k := keystest.Keeper(t, keys.Config{})
	uri := hsmURI("custody", "key", keystest.SecretFile(t, userPIN))
	if _, err := k.Custody(t.Context(), uri, keys.RoleCA); !errors.Is(err, keys.ErrNotFound) {
		t.Errorf("no key: %v", err)
	}
	if _, err := k.Create(t.Context(), uri, keys.RoleCA, keys.P256); err != nil {
		t.Fatal(err)
	}
	got, err := k.Custody(t.Context(), uri, keys.RoleCA)
	want := keys.Custody{Holder: "the hardware security module", Exportable: "no: CKA_EXTRACTABLE=false, CKA_SENSITIVE=true, CKA_NEVER_EXTRACTABLE=true, CKA_LOCAL=true"}
	if err != nil || got != want {
		t.Errorf("got %v, %v", got, err)
	}
	name := fresh("loose")
	session, err := pkcs11.New(context.Background(), apiv1.Options{Type: apiv1.PKCS11, URI: "pkcs11:module-path=" + softHSM + ";token=custody", Pin: userPIN})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	id := sha256.Sum256([]byte("bollard:ca:" + name))
	if _, err := session.CreateKey(&apiv1.CreateKeyRequest{
		Name: "pkcs11:id=0x" + hex.EncodeToString(id[:16]) + ";object=bollard:ca:" + name, SignatureAlgorithm: apiv1.ECDSAWithSHA256, Extractable: true,
	}); err != nil {
		t.Fatal(err)
	}
	loose := "pkcs11:module-path=" + softHSM + ";token=custody;object=" + name + "?pin-source=" + keystest.SecretFile(t, userPIN)
	if _, err := k.Custody(t.Context(), loose, keys.RoleCA); !errors.Is(err, keys.ErrUnfit) || !strings.Contains(err.Error(), "CKA_EXTRACTABLE=true") {
		t.Errorf("a key that may leave: %v", err)
	}
}
