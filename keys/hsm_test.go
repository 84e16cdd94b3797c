package keys_test

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.step.sm/crypto/kms/apiv1"

	"bollard/keys"
	"bollard/keys/keystest"
)

const (
	softHSM = "/usr/lib/softhsm/libsofthsm2.so"
	userPIN = "canary-pin-4711"
)

// tokens are made before the library is loaded: it looks for them once.
var tokens = []string{"plain", "roles", "parallel", "wrong", "foreign", "custody"}

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "softhsm")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		conf := filepath.Join(dir, "softhsm2.conf")
		if err := os.WriteFile(conf, []byte("directories.tokendir = "+dir+"\nobjectstore.backend = file\nlog.level = ERROR\n"), 0o600); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		os.Setenv("SOFTHSM2_CONF", conf)
		pins := map[string]string{"role-ca": caPIN, "role-firmware": firmwarePIN}
		for _, label := range append(tokens, lostToken, "role-ca", "role-firmware") {
			if err := initToken(label, cmp.Or(pins[label], userPIN)); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
		}
		return m.Run()
	}())
}

func initToken(label, pin string) error {
	out, err := exec.Command("softhsm2-util", "--init-token", "--free", "--label", label, "--pin", pin, "--so-pin", "12345678").CombinedOutput()
	if err != nil {
		return fmt.Errorf("these tests need SoftHSM2 (sudo apt-get install softhsm2): %w\n%s", err, out)
	}
	return nil
}

func hsmURI(token, name, pinFile string) string {
	return "pkcs11:module-path=" + softHSM + ";token=" + token + ";object=" + fresh(name) + "?pin-source=" + pinFile
}

// fresh is a name no earlier run of the test used: tokens outlive it.
func fresh(name string) string { return name + "-" + rand.Text() }

func verifies(public crypto.PublicKey, digest, sig []byte) bool {
	switch public := public.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(public, digest, sig)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(public, crypto.SHA256, digest, sig) == nil
	}
	return false
}

func signs(t *testing.T, s keys.Signer) {
	t.Helper()
	digest := sha256.Sum256([]byte("message"))
	sig, err := s.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if !verifies(s.Public(), digest[:], sig) {
		t.Fatal("the signature doesn't verify")
	}
}

// One Keeper makes all keys, as in a server: see [keys.New].
func TestHSMKeyMadeOnceOpensAgain(t *testing.T) {
	t.Parallel()
	pin := keystest.SecretFile(t, userPIN)
	algorithms := []keys.Algorithm{keys.P256, keys.P384, keys.P521, keys.RSA2048, keys.RSA3072}
	uris, made := make([]string, len(algorithms)), make([]keys.Signer, len(algorithms))
	makes := keystest.Keeper(t, keys.Config{})
	t.Run("made once", func(t *testing.T) {
		for i, alg := range algorithms {
			t.Run(string(alg), func(t *testing.T) {
				t.Parallel()
				uri := hsmURI("plain", "key-"+string(alg), pin)
				if _, err := makes.Open(t.Context(), uri, keys.RoleCA); !errors.Is(err, keys.ErrNotFound) {
					t.Fatalf("before it was made: %v", err)
				}
				key, err := makes.Create(t.Context(), uri, keys.RoleCA, alg)
				if err != nil {
					t.Fatal(err)
				}
				signs(t, key)
				if _, err := makes.Create(t.Context(), uri, keys.RoleCA, alg); !errors.Is(err, keys.ErrExists) {
					t.Errorf("a second time: %v", err)
				}
				uris[i], made[i] = uri, key
			})
		}
	})
	opens := keystest.Keeper(t, keys.Config{})
	for i, alg := range algorithms {
		t.Run(string(alg)+" opens again", func(t *testing.T) {
			t.Parallel()
			if made[i] == nil {
				t.Fatal("it wasn't made")
			}
			opened, err := opens.Open(t.Context(), uris[i], keys.RoleCA)
			if err != nil {
				t.Fatal(err)
			}
			signs(t, opened)
			if !made[i].Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(opened.Public()) {
				t.Error("another key")
			}
			if opened.Role() != keys.RoleCA || opened.URI() != uris[i] {
				t.Errorf("role %q, URI %q", opened.Role(), opened.URI())
			}
		})
	}
}

func TestHSMKeyOfAnotherRoleIsRefused(t *testing.T) {
	t.Parallel()
	k := keystest.Keeper(t, keys.Config{PIN: func() ([]byte, error) { return []byte(userPIN), nil }})
	roles := []keys.Role{keys.RoleCA, keys.RoleOCSP, keys.RoleFirmware, keys.RoleLedger, keys.RoleCPS}
	for _, made := range roles {
		uri := "pkcs11:module-path=" + softHSM + ";token=roles;object=" + fresh(string(made))
		if _, err := k.Create(t.Context(), uri, made, keys.P256); err != nil {
			t.Fatal(err)
		}
		for _, asked := range roles {
			_, err := k.Open(t.Context(), uri, asked)
			if made == asked && err != nil {
				t.Errorf("%s as %s: %v", made, asked, err)
			}
			if made != asked && !errors.Is(err, keys.ErrRole) {
				t.Errorf("%s as %s: got %v, want ErrRole", made, asked, err)
			}
			if _, err := k.Create(t.Context(), uri, asked, keys.P256); !errors.Is(err, keys.ErrExists) {
				t.Errorf("%s again as %s: got %v, want ErrExists", made, asked, err)
			}
		}
	}
	uri := "pkcs11:module-path=" + softHSM + ";token=roles;object=x"
	if _, err := k.Create(t.Context(), uri, keys.RoleTLS, keys.P256); err == nil || !strings.Contains(err.Error(), "softkms:") {
		t.Errorf("a TLS key: %v", err)
	}
	if _, err := k.Create(t.Context(), uri, keys.RoleCA, "dsa"); err == nil || !strings.Contains(err.Error(), "known:") {
		t.Errorf("unknown algorithm: %v", err)
	}
	if err := k.Discard(t.Context(), uri); err == nil {
		t.Error("a key in a token was deleted")
	}
}

func TestHSMSignsInParallel(t *testing.T) {
	t.Parallel()
	k := keystest.Keeper(t, keys.Config{})
	uri := hsmURI("parallel", "key", keystest.SecretFile(t, userPIN))
	if _, err := k.Create(t.Context(), uri, keys.RoleCA, keys.P256); err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("message"))
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			s, err := k.Open(t.Context(), uri, keys.RoleCA)
			if err != nil {
				t.Error(err)
				return
			}
			for range 20 {
				sig, err := s.Sign(rand.Reader, digest[:], crypto.SHA256)
				if err != nil || !verifies(s.Public(), digest[:], sig) {
					t.Errorf("not signed: %v", err)
				}
			}
		})
	}
	wg.Wait()
}

func TestHSMWrongPIN(t *testing.T) {
	t.Parallel()
	file := keystest.SecretFile(t, "canary-wrong")
	k := keystest.Keeper(t, keys.Config{})
	uri := hsmURI("wrong", "key", file)
	for range 20 { // more than a token allows
		_, err := k.Create(t.Context(), uri, keys.RoleCA, keys.P256)
		if !errors.Is(err, keys.ErrPIN) || errors.Is(err, keys.ErrUnavailable) {
			t.Fatalf("got %v, want ErrPIN", err)
		}
		if strings.Contains(err.Error(), "canary") {
			t.Fatalf("the PIN is in the error: %v", err)
		}
	}
	// The right one in the file is taken without a restart, and the token isn't locked.
	if err := os.WriteFile(file, []byte(userPIN), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Create(t.Context(), uri, keys.RoleCA, keys.P256); err != nil {
		t.Fatal(err)
	}
}

func TestHSMPINSource(t *testing.T) {
	t.Parallel()
	open := keystest.SecretFile(t, userPIN)
	if err := os.Chmod(open, 0o640); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ uri, want string }{
		"missing":      {hsmURI("wrong", "a", "/nonexistent/pin"), "no such file"},
		"others read":  {hsmURI("wrong", "b", open), "chmod 600 " + open},
		"two lines":    {hsmURI("wrong", "c", keystest.SecretFile(t, userPIN+"\nmore")), "in one line"},
		"a directory":  {hsmURI("wrong", "d", t.TempDir()), "regular file"},
		"empty":        {hsmURI("wrong", "e", keystest.SecretFile(t, "")), "BOLLARD_HSM_PIN"},
		"none at all":  {"pkcs11:module-path=" + softHSM + ";token=wrong;object=f", "BOLLARD_HSM_PIN"},
		"not a number": {"pkcs11:module-path=" + softHSM + ";slot-id=x;object=f", "slot-id"},
	} {
		_, err := keystest.Keeper(t, keys.Config{}).Open(t.Context(), tt.uri, keys.RoleCA)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), userPIN) {
			t.Errorf("%s: the PIN is in the error: %v", name, err)
		}
	}
}

func TestHSMURI(t *testing.T) {
	t.Parallel()
	const module = "module-path=" + softHSM
	tests := []struct{ name, base, want, wantErr string }{
		{"token", "pkcs11:" + module + ";token=t?pin-source=/p", "pkcs11:" + module + ";token=t;object=x?pin-source=/p", ""},
		{"serial", "pkcs11:serial=ab12;" + module, "pkcs11:" + module + ";serial=ab12;object=x", ""},
		{"slot", "pkcs11:slot-id=3;" + module, "pkcs11:" + module + ";slot-id=3;object=x", ""},
		{"file URI", "pkcs11:" + module + ";token=t?pin-source=file:///p", "pkcs11:" + module + ";token=t;object=x?pin-source=/p", ""},
		{"escaped", "pkcs11:" + module + ";token=My%20token%3B1?pin-source=/p%3Fq", "pkcs11:" + module + ";token=My%20token%3B1;object=x?pin-source=/p%3Fq", ""},
		{"PIN in it", "pkcs11:" + module + ";token=t?pin-value=canary-pin", "", "pin-source"},
		{"PIN in the path part", "pkcs11:" + module + ";token=t;PIN-value=canary-pin", "", "pin-source"},
		{"misspelt PIN", "pkcs11:" + module + ";token=t?pinvalue=canary-pin", "", "unknown attribute"},
		{"PIN and no token", "pkcs11:?pin-value=canary-pin", "", "pin-source"},
		{"relative module", "pkcs11:module-path=a.so;token=t", "", "absolute"},
		{"no module", "pkcs11:token=t", "", "module-path"},
		{"no token", "pkcs11:" + module, "", "names no token"},
		{"two tokens", "pkcs11:" + module + ";token=t;serial=1", "", "one of"},
		{"twice", "pkcs11:" + module + ";token=t;token=u", "", "twice"},
		{"relative PIN file", "pkcs11:" + module + ";token=t?pin-source=pin", "", "absolute"},
		{"bad escape", "pkcs11:" + module + ";token=%zz", "", "percent-encoded"},
		{"control", "pkcs11:" + module + ";token=%00", "", "percent-encoded"},
		{"named already", "pkcs11:" + module + ";token=t;object=o", "", "leave object out"},
		{"empty token", "pkcs11:" + module + ";token=", "", "is empty"},
		{"unknown", "pkcs11:" + module + ";token=t;colour=red", "", "unknown attribute"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := keys.Join(tt.base, "x.key")
			if got != tt.want || tt.wantErr == "" && err != nil {
				t.Fatalf("got %q, %v", got, err)
			}
			if tt.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tt.wantErr)) {
				t.Errorf("got %v, want %q", err, tt.wantErr)
			}
			if err != nil && strings.Contains(err.Error(), "canary") {
				t.Errorf("the PIN is in the error: %v", err)
			}
			if err == nil { // what Join makes is read as what it says
				if again, err := keys.Join(strings.Replace(got, ";object=x", "", 1), "x"); again != got {
					t.Errorf("again: %q, %v", again, err)
				}
			}
		})
	}
}

// What is read is written as it is read again, whatever the scheme.
func FuzzHeldURI(f *testing.F) {
	f.Add("pkcs11:module-path=/m.so;token=t?pin-source=/p")
	f.Add("pkcs11:module-path=/m.so;serial=%41;pin-value=x")
	f.Add("pkcs11:token=a&b;c=d?e=f")
	f.Add("vault:address=https://h:8200;namespace=n?role-id-source=/r&secret-id-source=/{role}")
	f.Add("awskms:region=eu-central-1;endpoint=https://h?assume-role=arn:aws:iam::111122223333:role/r-{role}&credentials-source=/c")
	f.Fuzz(func(t *testing.T, base string) {
		if !keys.Held(base) {
			return
		}
		got, err := keys.Join(base, "name.key")
		if err != nil {
			return
		}
		again, err := keys.Join(strings.Replace(got, ";object=name", "", 1), "name.key")
		if err != nil || again != got {
			t.Errorf("%q became %q, %v", got, again, err)
		}
	})
}

// standIn is a module that hangs or fails when told to.
type standIn struct {
	key  *ecdsa.PrivateKey
	hang chan struct{} // a receive from it comes before each signature
}

func (s *standIn) CreateKey(*apiv1.CreateKeyRequest) (*apiv1.CreateKeyResponse, error) {
	return nil, errors.New("no room")
}

func (s *standIn) CreateSigner(*apiv1.CreateSignerRequest) (crypto.Signer, error) {
	return hanging{s.key, s.hang}, nil
}
func (s *standIn) Close() error { return nil }

type hanging struct {
	*ecdsa.PrivateKey
	hang chan struct{}
}

func (h hanging) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	<-h.hang
	return h.PrivateKey.Sign(r, digest, opts)
}

// A driver that hangs costs each caller the timeout and no more, also when
// every share of it hangs; when it goes on, so does signing.
func TestHSMThatHangsDelaysNobodyLonger(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		k, err := keys.New(keys.Config{
			Dir: t.TempDir(), HSMTimeout: 3 * time.Second, PIN: func() ([]byte, error) { return []byte("1234"), nil },
			Log: slog.New(slog.NewTextHandler(&log, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		module := &standIn{key: key, hang: make(chan struct{})}
		keys.SetHSM(k, func() (keys.HSM, error) { return module, nil })
		s, err := k.Open(t.Context(), "pkcs11:module-path=/m.so;token=t;object=o", keys.RoleCA)
		if err != nil {
			t.Fatal(err)
		}
		digest := sha256.Sum256(nil)
		var wg sync.WaitGroup
		for range 12 {
			wg.Go(func() {
				began := time.Now()
				_, err := s.Sign(rand.Reader, digest[:], crypto.SHA256)
				if took := time.Since(began); !errors.Is(err, keys.ErrUnavailable) || took != 3*time.Second {
					t.Errorf("after %v: %v", took, err)
				}
			})
		}
		synctest.Wait() // the first signature has the module's turn
		wg.Go(func() {
			began := time.Now()
			_, err := k.Create(t.Context(), "pkcs11:module-path=/m.so;token=t;object=new", keys.RoleCA, keys.P256)
			if took := time.Since(began); !errors.Is(err, keys.ErrUnavailable) || took != 3*time.Second {
				t.Errorf("making a key, after %v: %v", took, err)
			}
		})
		wg.Wait()
		close(module.hang)
		synctest.Wait()
		signs(t, s)
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
}

// slow is a module that takes its time to make a key.
type slow struct{ standIn }

func (s *slow) CreateKey(*apiv1.CreateKeyRequest) (*apiv1.CreateKeyResponse, error) {
	time.Sleep(6 * time.Second)
	return &apiv1.CreateKeyResponse{PublicKey: s.key.Public()}, nil
}

func (s *slow) CreateSigner(*apiv1.CreateSignerRequest) (crypto.Signer, error) {
	return nil, apiv1.NotFoundError{}
}

// Keys are made one after the other, and each has the whole timeout from its
// turn on: the fifth isn't refused because of those before it.
func TestHSMKeysWaitForTheirTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := keystest.Keeper(t, keys.Config{PIN: func() ([]byte, error) { return []byte("1234"), nil }})
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		module := &slow{standIn{key: key}}
		keys.SetHSM(k, func() (keys.HSM, error) { return module, nil })
		began := time.Now()
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() {
				if _, err := k.Create(t.Context(), fmt.Sprintf("pkcs11:module-path=/m.so;token=t;object=%d", i), keys.RoleCA, keys.P256); err != nil {
					t.Errorf("after %v: %v", time.Since(began), err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(began); took != 30*time.Second {
			t.Errorf("five keys took %v, want one after the other", took)
		}
	})
}

// A token locks itself after a few wrong PINs: each is shown to it once.
func TestHSMWrongPINIsTriedOnce(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	hang := make(chan struct{})
	close(hang)
	pin, dials := "wrong", 0
	k := keystest.Keeper(t, keys.Config{PIN: func() ([]byte, error) { return []byte(pin), nil }})
	keys.SetHSM(k, func() (keys.HSM, error) {
		dials++
		if pin == "right" {
			return &standIn{key: key, hang: hang}, nil
		}
		return nil, errors.New("pkcs11: 0xA0: CKR_PIN_INCORRECT")
	})
	for range 10 {
		if _, err := k.Open(t.Context(), "pkcs11:module-path=/m.so;token=t;object=o", keys.RoleCA); !errors.Is(err, keys.ErrPIN) {
			t.Fatalf("got %v, want ErrPIN", err)
		}
	}
	if dials != 1 {
		t.Errorf("the token saw the wrong PIN %d times", dials)
	}
	pin = "right"
	s, err := k.Open(t.Context(), "pkcs11:module-path=/m.so;token=t;object=o", keys.RoleCA)
	if err != nil {
		t.Fatal(err)
	}
	signs(t, s)
}
