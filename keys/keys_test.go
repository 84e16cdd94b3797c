package keys_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"bollard/keys"
)

func keeper(t *testing.T, dir, passphrase string) *keys.Keeper {
	t.Helper()
	cfg := keys.Config{Dir: dir}
	if passphrase != "" {
		cfg.Passphrase = func() ([]byte, error) { return []byte(passphrase), nil }
	}
	k, err := keys.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKeyMadeOnceOpensAgain(t *testing.T) {
	t.Parallel()
	for _, passphrase := range []string{"", "correct horse"} {
		for _, alg := range []keys.Algorithm{keys.P256, keys.P384, keys.P521, keys.RSA2048, keys.RSA3072} {
			if passphrase != "" && alg != keys.P256 {
				continue // 600,000 rounds of PBKDF2 each time; the encryption doesn't see the algorithm
			}
			t.Run(fmt.Sprintf("%s encrypted=%t", alg, passphrase != ""), func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				made, err := keeper(t, dir, passphrase).Create(t.Context(), "softkms:a.key", keys.RoleCA, alg)
				if err != nil {
					t.Fatal(err)
				}
				opened, err := keeper(t, dir, passphrase).Open(t.Context(), "softkms:path=a.key", keys.RoleCA)
				if err != nil {
					t.Fatal(err)
				}
				digest := sha256.Sum256([]byte("message"))
				sig, err := opened.Sign(rand.Reader, digest[:], crypto.SHA256)
				if err != nil {
					t.Fatal(err)
				}
				verified := false
				switch public := made.Public().(type) {
				case *ecdsa.PublicKey:
					verified = ecdsa.VerifyASN1(public, digest[:], sig)
				case *rsa.PublicKey:
					verified = rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], sig) == nil
				}
				if !verified {
					t.Error("the opened key isn't the one made")
				}
				if opened.Role() != keys.RoleCA || opened.URI() != "softkms:path=a.key" {
					t.Errorf("role %q, URI %q", opened.Role(), opened.URI())
				}
				raw, err := os.ReadFile(filepath.Join(dir, "a.key"))
				if err != nil {
					t.Fatal(err)
				}
				block, _ := pem.Decode(raw)
				if want := map[bool]string{false: "PRIVATE KEY", true: "ENCRYPTED PRIVATE KEY"}[passphrase != ""]; block.Type != want {
					t.Errorf("PEM type %q, want %q", block.Type, want)
				}
				info, err := os.Stat(filepath.Join(dir, "a.key"))
				if err != nil || info.Mode().Perm() != 0o600 {
					t.Errorf("mode %v, err %v", info.Mode(), err)
				}
				if entries, _ := os.ReadDir(dir); len(entries) != 1 {
					t.Errorf("left behind: %v", entries)
				}
			})
		}
	}
}

func TestKeyIsNeverOverwritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	k := keeper(t, dir, "")
	var wg sync.WaitGroup
	results := make([]error, 8)
	for i := range results {
		wg.Go(func() { _, results[i] = k.Create(t.Context(), "softkms:one.key", keys.RoleCA, keys.P256) })
	}
	wg.Wait()
	made := 0
	for _, err := range results {
		switch {
		case err == nil:
			made++
		case !errors.Is(err, keys.ErrExists):
			t.Errorf("got %v, want ErrExists", err)
		}
	}
	if made != 1 {
		t.Errorf("%d creations succeeded, want 1", made)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestKeyOfAnotherRoleIsRefused(t *testing.T) {
	t.Parallel()
	roles := []keys.Role{keys.RoleCA, keys.RoleTLS, keys.RoleOCSP, keys.RoleFirmware, keys.RoleLedger, keys.RoleSSH}
	dir := t.TempDir()
	k := keeper(t, dir, "")
	for _, made := range roles {
		if _, err := k.Create(t.Context(), "softkms:"+string(made), made, keys.P256); err != nil {
			t.Fatal(err)
		}
		// Another name doesn't change the role: it is in the file.
		if err := os.Rename(filepath.Join(dir, string(made)), filepath.Join(dir, "renamed")); err != nil {
			t.Fatal(err)
		}
		for _, asked := range roles {
			_, err := k.Open(t.Context(), "softkms:renamed", asked)
			if made == asked && err != nil {
				t.Errorf("%s as %s: %v", made, asked, err)
			}
			if made != asked && !errors.Is(err, keys.ErrRole) {
				t.Errorf("%s as %s: got %v, want ErrRole", made, asked, err)
			}
		}
	}
	if _, err := k.Create(t.Context(), "softkms:x", "root", keys.P256); err == nil {
		t.Error("unknown role was accepted")
	}
	if _, err := k.Create(t.Context(), "softkms:x", keys.RoleCA, "dsa"); err == nil {
		t.Error("unknown algorithm was accepted")
	}
}

func TestURI(t *testing.T) {
	t.Parallel()
	elsewhere := t.TempDir()
	tests := []struct{ name, uri, wantErr string }{
		{"plain", "softkms:a.key", ""},
		{"path", "softkms:path=b.key", ""},
		{"folder", "softkms:tls/c.key", ""},
		{"absolute", "softkms:" + elsewhere + "/d.key", ""},
		{"absolute path", "softkms:path=" + elsewhere + "/e.key", ""},
		{"no scheme", "a.key", "softkms:NAME"},
		{"unknown scheme", "cloudkms:x", "supported: softkms, pkcs11, tpmkms, vault"},
		{"empty", "softkms:", "names no file"},
		{"empty path", "softkms:path=", "names no file"},
		{"folder only", "softkms:a/", "names no file"},
		{"traversal", "softkms:../a.key", "leaves the key directory"},
		{"hidden traversal", "softkms:tls/../../a.key", "leaves the key directory"},
		{"directory itself", "softkms:.", "leaves the key directory"},
		{"nul", "softkms:a\x00b", "names no file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := keeper(t, filepath.Join(t.TempDir(), "keys"), "").Create(t.Context(), tt.uri, keys.RoleCA, keys.P256)
			if tt.wantErr == "" && err != nil {
				t.Fatal(err)
			}
			if tt.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tt.wantErr)) {
				t.Errorf("got %v, want %q", err, tt.wantErr)
			}
		})
	}
}

func TestSymbolicLinkOutOfTheDirectoryIsRefused(t *testing.T) {
	t.Parallel()
	outside, dir := t.TempDir(), t.TempDir()
	if _, err := keeper(t, outside, "").Create(t.Context(), "softkms:a.key", keys.RoleCA, keys.P256); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(outside, "a.key"), filepath.Join(dir, "a.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := keeper(t, dir, "").Open(t.Context(), "softkms:a.key", keys.RoleCA); err == nil {
		t.Error("a link out of the key directory was followed")
	}
}

func TestJoin(t *testing.T) {
	t.Parallel()
	for base, want := range map[string]string{
		"softkms:":          "softkms:x.key",
		"softkms:tls":       "softkms:tls/x.key",
		"softkms:path=tls/": "softkms:tls/x.key",
		"softkms:/k":        "softkms:/k/x.key",
		"softkms:..":        "",
		"vault:":            "",
		"":                  "",
	} {
		if got, err := keys.Join(base, "x.key"); got != want || (err == nil) != (want != "") {
			t.Errorf("Join(%q) = %q, %v; want %q", base, got, err, want)
		}
	}
}

func TestPassphrase(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := keeper(t, dir, "right").Create(t.Context(), "softkms:a.key", keys.RoleCA, keys.P256); err != nil {
		t.Fatal(err)
	}
	if _, err := keeper(t, dir, "wrong").Open(t.Context(), "softkms:a.key", keys.RoleCA); !errors.Is(err, keys.ErrPassphrase) {
		t.Errorf("wrong passphrase: %v", err)
	}
	_, err := keeper(t, dir, "").Open(t.Context(), "softkms:a.key", keys.RoleCA)
	if !errors.Is(err, keys.ErrEncrypted) || !strings.Contains(err.Error(), "BOLLARD_KEY_PASSPHRASE") || !strings.Contains(err.Error(), "passphrase_file") {
		t.Errorf("no passphrase: %v", err)
	}
	empty, err := keys.New(keys.Config{Dir: dir, Passphrase: func() ([]byte, error) { return nil, nil }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := empty.Create(t.Context(), "softkms:b.key", keys.RoleCA, keys.P256); err == nil {
		t.Error("an empty passphrase made an unencrypted key")
	}
	if _, err := empty.Open(t.Context(), "softkms:a.key", keys.RoleCA); !errors.Is(err, keys.ErrEncrypted) {
		t.Errorf("empty passphrase: %v", err)
	}
	failing, err := keys.New(keys.Config{Dir: dir, Passphrase: func() ([]byte, error) { return nil, os.ErrPermission }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := failing.Open(t.Context(), "softkms:a.key", keys.RoleCA); !errors.Is(err, os.ErrPermission) {
		t.Errorf("unreadable passphrase: %v", err)
	}
}

func TestKeyFileOthersCanReadIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	k := keeper(t, dir, "")
	if _, err := k.Create(t.Context(), "softkms:a.key", keys.RoleCA, keys.P256); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "a.key")
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o601} {
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		_, err := k.Open(t.Context(), "softkms:a.key", keys.RoleCA)
		if err == nil || !strings.Contains(err.Error(), "chmod 600 "+file) {
			t.Errorf("mode %o: got %v, want the command that mends it", mode, err)
		}
	}
}

func TestDamagedKeyFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	k := keeper(t, dir, "pass")
	if _, err := k.Create(t.Context(), "softkms:good.key", keys.RoleCA, keys.P256); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(filepath.Join(dir, "good.key"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(good)
	cut := pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes[:len(block.Bytes)-7]})
	shortened := bytes.Clone(block.Bytes) // a ciphertext that is no whole number of blocks
	shortened = shortened[:len(shortened)-1]
	shortened[2], shortened[3] = byte((len(shortened)-4)>>8), byte(len(shortened)-4)
	for name, data := range map[string][]byte{
		"empty":     {},
		"text":      []byte("hello"),
		"twice":     append(bytes.Clone(good), good...),
		"cut":       cut,
		"shortened": pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: shortened}),
		"type":      pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: block.Bytes}),
		"plain":     pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{0x30, 0}}),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := k.Open(t.Context(), "softkms:"+name, keys.RoleCA); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	if _, err := k.Open(t.Context(), "softkms:none", keys.RoleCA); !errors.Is(err, keys.ErrNotFound) {
		t.Errorf("missing: %v", err)
	}
	if _, err := keeper(t, filepath.Join(dir, "nowhere"), "").Open(t.Context(), "softkms:a", keys.RoleCA); !errors.Is(err, keys.ErrNotFound) {
		t.Errorf("missing directory: %v", err)
	}
}

func TestForeignKeyWithoutRoleIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "a.key")
	if out, err := exec.Command("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", file).CombinedOutput(); err != nil {
		t.Fatalf("openssl: %v\n%s", err, out)
	}
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := keeper(t, dir, "").Open(t.Context(), "softkms:a.key", keys.RoleCA); err == nil || !strings.Contains(err.Error(), "no role") {
		t.Errorf("got %v", err)
	}
}

func TestOpenSSLReadsKeyFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := keeper(t, dir, "secret words").Create(t.Context(), "softkms:a.key", keys.RoleTLS, keys.RSA2048); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("openssl", "pkey", "-in", filepath.Join(dir, "a.key"), "-passin", "pass:secret words", "-noout", "-check").CombinedOutput()
	if err != nil {
		t.Errorf("openssl: %v\n%s", err, out)
	}
}

// A signer tells nobody its key: not by fmt with any verb, not as a field of
// something printed, not by JSON or slog.
func TestSignerIsRedacted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	k := keeper(t, dir, "")
	for _, alg := range []keys.Algorithm{keys.P256, keys.RSA2048} {
		s, err := k.Create(t.Context(), "softkms:"+string(alg), keys.RoleTLS, alg)
		if err != nil {
			t.Fatal(err)
		}
		want := "tls key softkms:" + string(alg)
		if got := fmt.Sprint(s); got != want {
			t.Errorf("%%v: %q", got)
		}
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", s)
		if !strings.Contains(log.String(), want) {
			t.Errorf("slog: %q", log.String())
		}
		encoded, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		all := string(encoded)
		holder := struct{ hidden any }{s}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%X"} {
			all += fmt.Sprintf(verb, s) + fmt.Sprintf(verb, holder) + fmt.Sprintf(verb, &holder)
		}
		for _, word := range []string{"PrivateKey", "Primes", "Precomputed"} {
			if strings.Contains(all, word) {
				t.Errorf("%s: a printed signer shows %s", alg, word)
			}
		}
		if _, ok := s.(interface{ Equal(crypto.PrivateKey) bool }); ok {
			t.Errorf("%s: the signer is a raw private key", alg)
		}
	}
}

func TestOnlyRSAKeysForTLSDecrypt(t *testing.T) {
	t.Parallel()
	k := keeper(t, t.TempDir(), "")
	for _, tt := range []struct {
		role keys.Role
		alg  keys.Algorithm
		want bool
	}{{keys.RoleTLS, keys.RSA2048, true}, {keys.RoleCA, keys.RSA2048, false}, {keys.RoleTLS, keys.P256, false}} {
		s, err := k.Create(t.Context(), "softkms:"+string(tt.role)+string(tt.alg), tt.role, tt.alg)
		if err != nil {
			t.Fatal(err)
		}
		d, ok := s.(crypto.Decrypter)
		if ok != tt.want {
			t.Errorf("%s %s: decrypts %t, want %t", tt.role, tt.alg, ok, tt.want)
		}
		if !ok {
			continue
		}
		box, err := rsa.EncryptPKCS1v15(rand.Reader, s.Public().(*rsa.PublicKey), []byte("premaster")) //nolint:staticcheck // what TLS_RSA does
		if err != nil {
			t.Fatal(err)
		}
		if got, err := d.Decrypt(rand.Reader, box, nil); err != nil || string(got) != "premaster" {
			t.Errorf("decrypted %q, %v", got, err)
		}
	}
}

func TestDiscardDeletesTLSKeysOnly(t *testing.T) {
	t.Parallel()
	k := keeper(t, t.TempDir(), "")
	for _, role := range []keys.Role{keys.RoleTLS, keys.RoleCA} {
		if _, err := k.Create(t.Context(), "softkms:"+string(role), role, keys.P256); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.Discard(t.Context(), "softkms:ca"); !errors.Is(err, keys.ErrRole) {
		t.Errorf("CA key: %v", err)
	}
	if err := k.Discard(t.Context(), "softkms:tls"); err != nil {
		t.Error(err)
	}
	if _, err := k.Open(t.Context(), "softkms:tls", keys.RoleTLS); !errors.Is(err, keys.ErrNotFound) {
		t.Errorf("discarded key: %v", err)
	}
	if _, err := k.Open(t.Context(), "softkms:ca", keys.RoleCA); err != nil {
		t.Error(err)
	}
}

func TestBelow(t *testing.T) {
	t.Parallel()
	const token = "pkcs11:module-path=/m.so;token=a"
	for name, tt := range map[string]struct {
		base, uri string
		want      bool
	}{
		"key directory":     {"softkms:", "softkms:ca.key", true},
		"another spelling":  {"softkms:", "softkms:path=ca.key", true},
		"further down":      {"softkms:", "softkms:moved/ca.key", false},
		"a folder":          {"softkms:moved", "softkms:moved/ca.key", true},
		"beside the folder": {"softkms:moved", "softkms:moved2/ca.key", false},
		"absolute":          {"softkms:/k", "softkms:/k/ca.key", true},
		"a token":           {token, token + ";object=ca", true},
		"another token":     {token, "pkcs11:module-path=/m.so;token=b;object=ca", false},
		"another PIN file":  {token, token + ";object=ca?pin-source=/pin", false},
		"a file for it":     {token, "softkms:ca.key", false},
		"no URI":            {"softkms:", "ca.key", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := keys.Below(tt.base, tt.uri); got != tt.want {
				t.Errorf("Below(%q, %q) = %t", tt.base, tt.uri, got)
			}
		})
	}
}
