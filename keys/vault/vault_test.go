package vault_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"bollard/internal/testlog"
	"bollard/keys"
	"bollard/keys/keystest"
	"bollard/keys/vault/vaulttest"
)

// startVault starts a Vault of the test's own.
func startVault(t *testing.T, web *http.Client, args ...string) *vaulttest.Server {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s, err := vaulttest.Start(ctx, t.TempDir(), web, args...)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); s.Wait() })
	return s
}

// vaultBase is the URI base of keys of roles that may log in to a Vault.
func vaultBase(t *testing.T, s *vaulttest.Server, settings map[string]any, roles ...keys.Role) string {
	t.Helper()
	dir := t.TempDir()
	for _, role := range roles {
		if err := s.AppRole(t.Context(), dir, string(role), settings); err != nil {
			t.Fatal(err)
		}
	}
	return s.URI(dir)
}

func TestKeyMadeOnceOpensAgain(t *testing.T) {
	t.Parallel()
	s := startVault(t, nil)
	base := vaultBase(t, s, nil, keys.RoleCA, keys.RoleOCSP)
	makes, opens := keystest.Keeper(t, keys.Config{}), keystest.Keeper(t, keys.Config{})
	for _, alg := range []keys.Algorithm{keys.P256, keys.P384, keys.P521, keys.RSA2048} {
		uri := keystest.Named(t, base, string(alg))
		if _, err := makes.Open(t.Context(), uri, keys.RoleCA); !errors.Is(err, keys.ErrNotFound) {
			t.Fatalf("%s before it was made: %v", alg, err)
		}
		made, err := makes.Create(t.Context(), uri, keys.RoleCA, alg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := makes.Create(t.Context(), uri, keys.RoleCA, alg); !errors.Is(err, keys.ErrExists) {
			t.Errorf("%s a second time: %v", alg, err)
		}
		opened, err := opens.Open(t.Context(), uri, keys.RoleCA)
		if err != nil {
			t.Fatal(err)
		}
		keystest.Signs(t, opened)
		if !made.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(opened.Public()) || opened.Role() != keys.RoleCA || opened.URI() != uri {
			t.Errorf("%s: another key, role %q, URI %q", alg, opened.Role(), opened.URI())
		}
		if _, err := opens.Open(t.Context(), uri, keys.RoleOCSP); !errors.Is(err, keys.ErrNotFound) {
			t.Errorf("%s for another role: %v", alg, err)
		}
	}
	// A login that sees both roles' keys is told whose it is.
	token := "vault:address=" + s.URL + ";object=p256?token-source=" + keystest.SecretFile(t, s.Token)
	if _, err := opens.Open(t.Context(), token, keys.RoleFirmware); !errors.Is(err, keys.ErrRole) {
		t.Errorf("a CA's key for firmware: %v", err)
	}
	if _, err := opens.Create(t.Context(), token, keys.RoleTLS, keys.P256); err == nil || !strings.Contains(err.Error(), "softkms:") {
		t.Errorf("a TLS key: %v", err)
	}
	if err := opens.Discard(t.Context(), token); err == nil {
		t.Error("a key in Vault was deleted")
	}
}

// Each way to sign verifies, with a salt of PSS as long as the hash.
func TestSignatures(t *testing.T) {
	t.Parallel()
	s := startVault(t, nil)
	base := vaultBase(t, s, nil, keys.RoleFirmware)
	k := keystest.Keeper(t, keys.Config{})
	key := map[string]keys.Signer{}
	for _, alg := range []keys.Algorithm{keys.RSA2048, keys.P384} {
		made, err := k.Create(t.Context(), keystest.Named(t, base, string(alg)), keys.RoleFirmware, alg)
		if err != nil {
			t.Fatal(err)
		}
		key[string(alg)] = made
	}
	d256, d384, d512 := sha256.Sum256(nil), sha512.Sum384(nil), sha512.Sum512(nil)
	public := key["rsa2048"].Public().(*rsa.PublicKey)
	pss := func(salt int, hash crypto.Hash) *rsa.PSSOptions { return &rsa.PSSOptions{SaltLength: salt, Hash: hash} }
	for name, tt := range map[string]struct {
		key    string
		digest []byte
		opts   crypto.SignerOpts
		ok     bool
	}{
		"PKCS #1, SHA-256":      {"rsa2048", d256[:], crypto.SHA256, true},
		"PKCS #1, SHA-512":      {"rsa2048", d512[:], crypto.SHA512, true},
		"PSS, as the hash":      {"rsa2048", d256[:], pss(rsa.PSSSaltLengthEqualsHash, crypto.SHA256), true},
		"PSS, automatic":        {"rsa2048", d384[:], pss(rsa.PSSSaltLengthAuto, crypto.SHA384), true},
		"PSS, in numbers":       {"rsa2048", d512[:], pss(64, crypto.SHA512), true},
		"PSS, another length":   {"rsa2048", d256[:], pss(20, crypto.SHA256), false},
		"SHA-1":                 {"rsa2048", d256[:20], crypto.SHA1, false},
		"not hashed":            {"rsa2048", d256[:], crypto.Hash(0), false},
		"a cut digest":          {"p384", d384[:40], crypto.SHA384, false},
		"ECDSA, shorter digest": {"p384", d256[:], crypto.SHA256, true},
		"ECDSA, longer digest":  {"p384", d512[:], crypto.SHA512, true},
	} {
		sig, err := key[tt.key].Sign(rand.Reader, tt.digest, tt.opts)
		if !tt.ok {
			if !errors.Is(err, keys.ErrUnfit) || errors.Is(err, keys.ErrUnavailable) {
				t.Errorf("%s: got %v, want ErrUnfit", name, err)
			}
			continue
		}
		if err == nil {
			switch opts := tt.opts.(type) {
			case *rsa.PSSOptions:
				err = rsa.VerifyPSS(public, opts.Hash, tt.digest, sig, pss(rsa.PSSSaltLengthEqualsHash, opts.Hash))
			case crypto.Hash:
				if tt.key == "rsa2048" {
					err = rsa.VerifyPKCS1v15(public, opts, tt.digest, sig)
				} else if !ecdsa.VerifyASN1(key[tt.key].Public().(*ecdsa.PublicKey), tt.digest, sig) {
					err = errors.New("it doesn't verify")
				}
			}
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Vault itself refuses each role's login the other role's key, asked directly.
func TestRefusesTheOtherRolesKey(t *testing.T) {
	t.Parallel()
	s := startVault(t, nil)
	dir := t.TempDir()
	k := keystest.Keeper(t, keys.Config{})
	roles := []keys.Role{keys.RoleCA, keys.RoleOCSP, keys.RoleFirmware, keys.RoleCPS}
	tokens := map[keys.Role]string{}
	for _, role := range roles {
		if err := s.AppRole(t.Context(), dir, string(role), nil); err != nil {
			t.Fatal(err)
		}
		if _, err := k.Create(t.Context(), keystest.Named(t, s.URI(dir), "key"), role, keys.P256); err != nil {
			t.Fatal(err)
		}
		credentials := map[string]any{}
		for field, file := range map[string]string{"role_id": "role-id", "secret_id": "secret-id"} {
			text, err := os.ReadFile(filepath.Join(dir, string(role)+"."+file))
			if err != nil {
				t.Fatal(err)
			}
			credentials[field] = strings.TrimSpace(string(text))
		}
		answer, err := s.Do(t.Context(), "", "auth/approle/login", credentials)
		if err != nil {
			t.Fatal(err)
		}
		tokens[role] = answer["auth"].(map[string]any)["client_token"].(string)
	}
	digest := map[string]any{"input": "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", "prehashed": true}
	for _, whose := range roles {
		for _, what := range roles {
			_, err := s.Do(t.Context(), tokens[whose], "transit/sign/bollard-"+string(what)+"-key", digest)
			var said *vaulttest.StatusError
			if denied := errors.As(err, &said) && said.Status == http.StatusForbidden; denied == (whose == what) || !denied && err != nil {
				t.Errorf("the login of %s signs with the key of %s: %v", whose, what, err)
			}
		}
	}
	// Through the package: the wrong login is refused for good, not as away.
	wrong := strings.ReplaceAll(s.URI(dir), "{role}", "firmware")
	if _, err := k.Open(t.Context(), keystest.Named(t, wrong, "key"), keys.RoleCA); !errors.Is(err, keys.ErrDenied) || errors.Is(err, keys.ErrUnavailable) {
		t.Errorf("the CA's key by the login of firmware: %v", err)
	}
}

// A sealed Vault fails whoever signs at once, as one that was killed does; the same
// signers go on when it is back, and the log says both once.
func TestSealedKilledAndBack(t *testing.T) {
	t.Parallel()
	s := startVault(t, nil)
	var log testlog.Buffer
	k := keystest.Keeper(t, keys.Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
	base := vaultBase(t, s, map[string]any{"secret_id_num_uses": 1}, keys.RoleCA)
	key, err := k.Create(t.Context(), keystest.Named(t, base, "key"), keys.RoleCA, keys.P256)
	if err != nil {
		t.Fatal(err)
	}
	fails := func(when string) {
		t.Helper()
		for range 3 {
			began := time.Now()
			if err := keystest.TrySign(key); !errors.Is(err, keys.ErrUnavailable) || time.Since(began) > 5*time.Second {
				t.Fatalf("%s, after %v: got %v, want ErrUnavailable", when, time.Since(began), err)
			}
		}
	}
	// The credentials were good for one login: it outlives all this.
	if err := s.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	fails("sealed")
	if err := s.Unseal(t.Context()); err != nil {
		t.Fatal(err)
	}
	keystest.Signs(t, key)
	s.Kill()
	fails("killed")
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	fails("restarted, sealed")
	if err := s.Unseal(t.Context()); err != nil {
		t.Fatal(err)
	}
	keystest.Signs(t, key)
	if got := log.String(); strings.Count(got, "holds keys is gone") != 2 || strings.Count(got, "holds keys is back") != 2 {
		t.Errorf("log: %s", got)
	}
}

// A token is renewed before its end; one that ends all the same is replaced.
func TestTokenRenewedAndReplaced(t *testing.T) {
	t.Parallel()
	s := startVault(t, nil)
	if _, err := s.Do(t.Context(), s.Token, "sys/policies/acl/ca", map[string]any{"policy": vaulttest.Policy("ca")}); err != nil {
		t.Fatal(err)
	}
	made, err := s.Do(t.Context(), s.Token, "auth/token/create", map[string]any{"policies": []string{"ca"}, "period": "2s"})
	if err != nil {
		t.Fatal(err)
	}
	token := made["auth"].(map[string]any)["client_token"].(string)
	k := keystest.Keeper(t, keys.Config{})
	began := time.Now()
	kept, err := k.Create(t.Context(), "vault:address="+s.URL+";object=kept?token-source="+keystest.SecretFile(t, token), keys.RoleCA, keys.P256)
	if err != nil {
		t.Fatal(err)
	}
	// One that can't live longer: each second takes a new login.
	base := vaultBase(t, s, map[string]any{"token_ttl": "1s", "token_max_ttl": "1s"}, keys.RoleCA)
	replaced, err := k.Create(t.Context(), keystest.Named(t, base, "replaced"), keys.RoleCA, keys.P256)
	if err != nil {
		t.Fatal(err)
	}
	for time.Since(began) < 3500*time.Millisecond {
		for what, key := range map[string]keys.Signer{"renewed": kept, "replaced": replaced} {
			if err := keystest.TrySign(key); err != nil {
				t.Fatalf("%s, after %v: %v", what, time.Since(began), err)
			}
		}
		time.Sleep(50 * time.Millisecond) // the token's own time has to pass
	}
	// Revoked, and nothing to log in anew with: the login is refused, without the secret.
	if _, err := s.Do(t.Context(), s.Token, "auth/token/revoke", map[string]any{"token": token}); err != nil {
		t.Fatal(err)
	}
	if err := keystest.TrySign(kept); !errors.Is(err, keys.ErrLogin) || errors.Is(err, keys.ErrUnavailable) || strings.Contains(err.Error(), token) {
		t.Errorf("a revoked token: %v", err)
	}
}

// A wrong credential is shown once, and a right one in its file is taken at once.
func TestWrongCredentials(t *testing.T) {
	t.Parallel()
	s := startVault(t, nil)
	logins := 0
	proxy := vaultProxy(t, s, func(r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/login") {
			logins++
		}
	}, nil)
	dir := t.TempDir()
	if err := s.AppRole(t.Context(), dir, "ca", nil); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "ca.secret-id")
	right, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("canary-wrong"), 0o600); err != nil {
		t.Fatal(err)
	}
	k := keystest.Keeper(t, keys.Config{})
	uri := strings.Replace(keystest.Named(t, s.URI(dir), "key"), s.URL, proxy, 1)
	for range 10 { // Vault locks an AppRole after five
		_, err := k.Create(t.Context(), uri, keys.RoleCA, keys.P256)
		if !errors.Is(err, keys.ErrLogin) || errors.Is(err, keys.ErrUnavailable) || strings.Contains(err.Error(), "canary") {
			t.Fatalf("got %v, want ErrLogin", err)
		}
	}
	if logins != 1 {
		t.Errorf("Vault saw the wrong credential %d times", logins)
	}
	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Create(t.Context(), uri, keys.RoleCA, keys.P256); err == nil || !strings.Contains(err.Error(), "chmod 600 "+file) {
		t.Errorf("others may read it: %v", err)
	}
	if err := os.WriteFile(file, right, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := k.Create(t.Context(), uri, keys.RoleCA, keys.P256)
	if err != nil {
		t.Fatal(err)
	}
	keystest.Signs(t, key)
}

// vaultProxy stands between: it sees requests, and may change answers.
func vaultProxy(t *testing.T, s *vaulttest.Server, see func(*http.Request), change func(*http.Response) error) string {
	t.Helper()
	target, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	forward := httputil.NewSingleHostReverseProxy(target)
	forward.ModifyResponse = change
	var mu sync.Mutex
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		see(r)
		mu.Unlock()
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(proxy.Close)
	return proxy.URL
}

// Who is on the way to Vault can't make a signature up, and a namespace is asked for.
func TestAnswersAreVerified(t *testing.T) {
	t.Parallel()
	s := startVault(t, nil)
	forged, namespace := false, ""
	proxy := vaultProxy(t, s, func(r *http.Request) { namespace = r.Header.Get("X-Vault-Namespace") }, func(r *http.Response) error {
		if !strings.Contains(r.Request.URL.Path, "/sign/") || !forged {
			return nil
		}
		text := `{"data":{"signature":"vault:v1:MEUCIQCc2+cYq2hGH8tQGvaYyWqAU3sNqkU0xPvEDpdkkM5L6QIgFxZ4KxEi8yZQvVtP0Q=="}}`
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
		r.Header.Del("Content-Length")
		return nil
	})
	k := keystest.Keeper(t, keys.Config{})
	key, err := k.Create(t.Context(), "vault:address="+proxy+";namespace=fleet;object=key?token-source="+keystest.SecretFile(t, s.Token), keys.RoleCA, keys.P256)
	if err != nil {
		t.Fatal(err)
	}
	keystest.Signs(t, key)
	if namespace != "fleet/" && namespace != "fleet" {
		t.Errorf("namespace %q", namespace)
	}
	forged = true
	if err := keystest.TrySign(key); !errors.Is(err, keys.ErrUnfit) {
		t.Errorf("a forged signature: %v", err)
	}
}

// A key that may leave Vault is none for Bollard, and a rotated one is the one it was.
func TestKeyThatMayLeaveIsRefused(t *testing.T) {
	t.Parallel()
	s := startVault(t, nil)
	k := keystest.Keeper(t, keys.Config{})
	base := "vault:address=" + s.URL + "?token-source=" + keystest.SecretFile(t, s.Token)
	for field := range map[string]bool{"exportable": true, "allow_plaintext_backup": true} {
		if _, err := s.Do(t.Context(), s.Token, "transit/keys/bollard-ca-"+field, map[string]any{"type": "ecdsa-p256", field: true}); err != nil {
			t.Fatal(err)
		}
		if _, err := k.Open(t.Context(), keystest.Named(t, base, field), keys.RoleCA); !errors.Is(err, keys.ErrUnfit) || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	if err := bring(t, s, "bollard-ca-imported"); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Open(t.Context(), keystest.Named(t, base, "imported"), keys.RoleCA); !errors.Is(err, keys.ErrUnfit) || !strings.Contains(err.Error(), "imported_key") {
		t.Errorf("imported: %v", err)
	}
	made, err := k.Create(t.Context(), keystest.Named(t, base, "rotated"), keys.RoleCA, keys.P256)
	if err != nil {
		t.Fatal(err)
	}
	said, err := k.Custody(t.Context(), keystest.Named(t, base, "rotated"), keys.RoleCA)
	if want := (keys.Custody{Holder: "Vault", Exportable: "no: exportable=false, allow_plaintext_backup=false, imported_key=false"}); err != nil || said != want {
		t.Errorf("custody: %v, %v", said, err)
	}
	if _, err := s.Do(t.Context(), s.Token, "transit/keys/bollard-ca-rotated/rotate", nil); err != nil {
		t.Fatal(err)
	}
	keystest.Signs(t, made)
	opened, err := keystest.Keeper(t, keys.Config{}).Open(t.Context(), keystest.Named(t, base, "rotated"), keys.RoleCA)
	if err != nil || !opened.Public().(*ecdsa.PublicKey).Equal(made.Public()) {
		t.Errorf("after the rotation: %v", err)
	}
}

// A Vault that accepts and says nothing costs each caller the time limit and no more,
// and logging out no longer.
func TestVaultThatHangs(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	k := keystest.Keeper(t, keys.Config{HSMTimeout: 200 * time.Millisecond})
	began := time.Now()
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			uri := "vault:address=http://" + silent.Addr().String() + ";object=key?token-source=" + keystest.SecretFile(t, "canary-token")
			if _, err := k.Open(t.Context(), uri, keys.RoleCA); !errors.Is(err, keys.ErrUnavailable) || strings.Contains(err.Error(), "canary") {
				t.Errorf("got %v, want ErrUnavailable", err)
			}
		})
	}
	wg.Wait()
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}
