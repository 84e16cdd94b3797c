package keys_test

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"bollard/keys"
)

// Keys of openssl in each of its forms sign for the role their owner says.
func TestOpenFileTakesKeysOfOpenSSL(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for file, args := range map[string][]string{
		"pkcs8.pem":     {"genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"},
		"sec1.pem":      {"ecparam", "-genkey", "-noout", "-name", "prime256v1"},
		"params.pem":    {"ecparam", "-genkey", "-name", "prime256v1"},
		"encrypted.pem": {"genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-aes256", "-pass", "pass:correct horse"},
		"pkcs1.pem":     {"genrsa", "-traditional", "3072"},
	} {
		path := filepath.Join(dir, file)
		text, err := exec.CommandContext(t.Context(), "openssl", args...).Output()
		if err != nil {
			t.Fatal(file, err)
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		key, err := keeper(t, dir, "correct horse").OpenFile(t.Context(), path, keys.RoleFirmware)
		if err != nil {
			t.Error(file, err)
			continue
		}
		digest := sha256.Sum256([]byte("message"))
		sig, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
		if err != nil || !verifies(key.Public(), digest[:], sig) || key.Role() != keys.RoleFirmware {
			t.Error(file, key.Role(), err)
		}
		// Only who says so has a key without a role.
		if _, err := keeper(t, dir, "correct horse").Open(t.Context(), "softkms:"+file, keys.RoleFirmware); err == nil {
			t.Errorf("%s: its URI is opened", file)
		}
	}
}

func TestOpenFileRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := keeper(t, dir, "").Create(t.Context(), "softkms:ca.key", keys.RoleCA, keys.P256); err != nil {
		t.Fatal(err)
	}
	open := func(name string, role keys.Role) error {
		_, err := keeper(t, dir, "").OpenFile(t.Context(), filepath.Join(dir, name), role)
		return err
	}
	if err := open("ca.key", keys.RoleCA); err != nil {
		t.Error(err)
	}
	if err := open("ca.key", keys.RoleFirmware); !errors.Is(err, keys.ErrRole) {
		t.Errorf("a CA's key signs firmware: %v", err)
	}
	if err := open("none.key", keys.RoleFirmware); !errors.Is(err, keys.ErrNotFound) {
		t.Error(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"twice.pem":  string(text) + string(text),
		"sec1.pem":   strings.ReplaceAll(string(text), "PRIVATE", "EC PRIVATE"),
		"pkcs1.pem":  strings.ReplaceAll(string(text), "PRIVATE", "RSA PRIVATE"),
		"params.pem": "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n",
		"public.pem": strings.ReplaceAll(string(text), "PRIVATE", "PUBLIC"),
		"empty.pem":  "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := open(name, keys.RoleFirmware); err == nil {
			t.Errorf("%s is opened", name)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "open.pem"), text, 0o644); err != nil { //nolint:gosec // that is what is refused
		t.Fatal(err)
	}
	if err := open("open.pem", keys.RoleCA); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Error(err)
	}
}
