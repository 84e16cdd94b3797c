//go:build cloudkms

package awskms_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"bollard/internal/signature"
	"bollard/keys"
	"bollard/keys/keystest"
)

var hashOf = map[keys.Algorithm]crypto.Hash{
	keys.P256: crypto.SHA256, keys.P384: crypto.SHA384, keys.P521: crypto.SHA512, keys.RSA2048: crypto.SHA256, keys.RSA3072: crypto.SHA384,
}

func TestKeyMadeOnceOpensAgain(t *testing.T) {
	t.Parallel()
	s := startKMS(t)
	base := s.base(s.URL)
	makes, opens := keystest.Keeper(t, keys.Config{}), keystest.Keeper(t, keys.Config{})
	for alg, hash := range hashOf {
		uri := keystest.Named(t, base, string(alg))
		if _, err := makes.Open(t.Context(), uri, keys.RoleCA); !errors.Is(err, keys.ErrNotFound) {
			t.Fatalf("%s before it was made: %v", alg, err)
		}
		made, err := makes.Create(t.Context(), uri, keys.RoleCA, alg)
		if err != nil {
			t.Fatalf("%s: %v", alg, err)
		}
		if _, err := makes.Create(t.Context(), uri, keys.RoleCA, alg); !errors.Is(err, keys.ErrExists) {
			t.Errorf("%s made twice: %v", alg, err)
		}
		opened, err := opens.Open(t.Context(), uri, keys.RoleCA)
		if err != nil {
			t.Fatalf("%s: %v", alg, err)
		}
		h := hash.New()
		digest := h.Sum(nil)
		sig, err := opened.Sign(rand.Reader, digest, hash)
		if err != nil || !signature.Verifies(made.Public(), digest, sig, hash) {
			t.Errorf("%s: the opened key doesn't sign as the made one: %v", alg, err)
		}
		if opened.Role() != keys.RoleCA || opened.URI() != uri {
			t.Errorf("%s: role %q, URI %q", alg, opened.Role(), opened.URI())
		}
		if _, err := opens.Open(t.Context(), uri, keys.RoleOCSP); !errors.Is(err, keys.ErrNotFound) {
			t.Errorf("%s for another role: %v", alg, err)
		}
		want := keys.Custody{Holder: "AWS KMS", Exportable: "no: Origin=AWS_KMS, KeySpec=" + map[keys.Algorithm]string{
			keys.P256: "ECC_NIST_P256", keys.P384: "ECC_NIST_P384", keys.P521: "ECC_NIST_P521", keys.RSA2048: "RSA_2048", keys.RSA3072: "RSA_3072",
		}[alg] + ", KeyUsage=SIGN_VERIFY, MultiRegion=false"}
		if said, err := opens.Custody(t.Context(), uri, keys.RoleCA); err != nil || said != want {
			t.Errorf("%s: custody %v, %v", alg, said, err)
		}
	}
	// A login that sees both roles' keys is told whose it is.
	all := strings.ReplaceAll(keystest.Named(t, base, "p256"), "{role}", "admin")
	if _, err := opens.Open(t.Context(), all, keys.RoleFirmware); !errors.Is(err, keys.ErrRole) {
		t.Errorf("a CA's key for firmware: %v", err)
	}
	if _, err := opens.Create(t.Context(), all, keys.RoleTLS, keys.P256); err == nil || !strings.Contains(err.Error(), "softkms:") {
		t.Errorf("a TLS key: %v", err)
	}
	if _, err := opens.Create(t.Context(), keystest.Named(t, base, "ed"), keys.RoleCA, keys.Ed25519); err == nil || !strings.Contains(err.Error(), "unknown algorithm") {
		t.Errorf("an Ed25519 key: %v", err)
	}
	if err := opens.Discard(t.Context(), all); err == nil {
		t.Error("a key in AWS was deleted")
	}
}

// Each way to sign verifies, with a salt of PSS as long as the hash.
func TestSignatures(t *testing.T) {
	t.Parallel()
	s := startKMS(t)
	k := keystest.Keeper(t, keys.Config{})
	key := map[string]keys.Signer{}
	for _, alg := range []keys.Algorithm{keys.RSA2048, keys.P384} {
		made, err := k.Create(t.Context(), keystest.Named(t, s.base(s.URL), string(alg)), keys.RoleFirmware, alg)
		if err != nil {
			t.Fatal(err)
		}
		key[string(alg)] = made
	}
	d256, d384, d512 := sha256.Sum256(nil), sha512.Sum384(nil), sha512.Sum512(nil)
	pss := func(salt int, hash crypto.Hash) *rsa.PSSOptions { return &rsa.PSSOptions{SaltLength: salt, Hash: hash} }
	for name, tt := range map[string]struct {
		key    string
		digest []byte
		opts   crypto.SignerOpts
		ok     bool
	}{
		"PKCS #1, SHA-256":      {"rsa2048", d256[:], crypto.SHA256, true},
		"PKCS #1, SHA-384":      {"rsa2048", d384[:], crypto.SHA384, true},
		"PKCS #1, SHA-512":      {"rsa2048", d512[:], crypto.SHA512, true},
		"PSS, as the hash":      {"rsa2048", d256[:], pss(rsa.PSSSaltLengthEqualsHash, crypto.SHA256), true},
		"PSS, automatic":        {"rsa2048", d384[:], pss(rsa.PSSSaltLengthAuto, crypto.SHA384), true},
		"PSS, in numbers":       {"rsa2048", d512[:], pss(64, crypto.SHA512), true},
		"PSS, another length":   {"rsa2048", d256[:], pss(20, crypto.SHA256), false},
		"SHA-1":                 {"rsa2048", d256[:20], crypto.SHA1, false},
		"not hashed":            {"rsa2048", d256[:], crypto.Hash(0), false},
		"ECDSA":                 {"p384", d384[:], crypto.SHA384, true},
		"a cut digest":          {"p384", d384[:40], crypto.SHA384, false},
		"ECDSA, shorter digest": {"p384", d256[:], crypto.SHA256, false},
		"ECDSA, longer digest":  {"p384", d512[:], crypto.SHA512, false},
	} {
		sig, err := key[tt.key].Sign(rand.Reader, tt.digest, tt.opts)
		if !tt.ok {
			if !errors.Is(err, keys.ErrUnfit) || errors.Is(err, keys.ErrUnavailable) {
				t.Errorf("%s: got %v, want ErrUnfit", name, err)
			}
			if strings.HasPrefix(name, "ECDSA") && !strings.Contains(err.Error(), "over SHA-384 alone") {
				t.Errorf("%s: %v doesn't say what it signs", name, err)
			}
			continue
		}
		if err != nil || !signature.Verifies(key[tt.key].Public(), tt.digest, sig, tt.opts) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What doesn't verify isn't given out: local-kms makes salts of PSS as long as can be,
// which AWS doesn't, and somebody on the way may make a signature up.
func TestSignaturesAreVerified(t *testing.T) {
	t.Parallel()
	s := startKMS(t, "-longest-salt")
	k := keystest.Keeper(t, keys.Config{})
	made, err := k.Create(t.Context(), keystest.Named(t, s.base(s.URL), "rsa"), keys.RoleFirmware, keys.RSA2048)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(nil)
	if _, err := made.Sign(rand.Reader, digest[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}); !errors.Is(err, keys.ErrUnfit) {
		t.Errorf("a salt of another length: %v", err)
	}
	proxy := s.proxy(nil, func(action string, body []byte) []byte {
		if action == "Sign" {
			return []byte(`{"Signature":"MEUCIQCc2+cYq2hGH8tQGvaYyWqAU3sNqkU0xPvEDpdkkM5L6QIgFxZ4KxEi8yZQvVtP0Q=="}`)
		}
		return body
	})
	if err := keystest.TrySign(create(t, k, keystest.Named(t, s.base(proxy), "ec"))); !errors.Is(err, keys.ErrUnfit) {
		t.Errorf("a forged signature: %v", err)
	}
}

// The policy of docs/keys.md refuses each role's login the other role's key, asked directly
// and through the package.
func TestRefusesTheOtherRolesKey(t *testing.T) {
	t.Parallel()
	s := startKMS(t)
	k := keystest.Keeper(t, keys.Config{})
	roles := []keys.Role{keys.RoleCA, keys.RoleOCSP, keys.RoleFirmware, keys.RoleCPS}
	for _, role := range roles {
		if _, err := k.Create(t.Context(), keystest.Named(t, s.base(s.URL), "key"), role, keys.P256); err != nil {
			t.Fatal(err)
		}
	}
	digest := sha256.Sum256(nil)
	for _, whose := range roles {
		for _, what := range roles {
			_, err := s.client(string(whose)).Sign(within(t), &kms.SignInput{
				KeyId: aws.String("alias/bollard-" + string(what) + "-key"), Message: digest[:],
				MessageType: types.MessageTypeDigest, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256,
			})
			var said smithy.APIError
			if denied := errors.As(err, &said) && said.ErrorCode() == "AccessDeniedException"; denied == (whose == what) || !denied && err != nil {
				t.Errorf("the login of %s signs with the key of %s: %v", whose, what, err)
			}
		}
	}
	wrong := strings.ReplaceAll(keystest.Named(t, s.base(s.URL), "key"), "{role}", "firmware")
	if _, err := k.Open(t.Context(), wrong, keys.RoleCA); !errors.Is(err, keys.ErrDenied) || errors.Is(err, keys.ErrUnavailable) {
		t.Errorf("the CA's key by the login of firmware: %v", err)
	}
	if _, err := k.Create(t.Context(), strings.ReplaceAll(wrong, "=key?", "=other?"), keys.RoleCA, keys.P256); !errors.Is(err, keys.ErrDenied) {
		t.Errorf("a CA's key made by the login of firmware: %v", err)
	}
}

// A key that wasn't made there, may be elsewhere, or is for something else is none for
// Bollard. A disabled one is away until it is enabled.
func TestUnfitKeysAreRefused(t *testing.T) {
	t.Parallel()
	s := startKMS(t)
	admin, k := s.admin(), keystest.Keeper(t, keys.Config{})
	for name, in := range map[string]*kms.CreateKeyInput{
		"decrypts":  {KeySpec: types.KeySpecRsa2048, KeyUsage: types.KeyUsageTypeEncryptDecrypt},
		"symmetric": {},
		"hmac":      {KeySpec: types.KeySpecHmac256, KeyUsage: types.KeyUsageTypeGenerateVerifyMac},
		"curve":     {KeySpec: types.KeySpecEccSecgP256k1, KeyUsage: types.KeyUsageTypeSignVerify},
	} {
		in.Tags = []types.Tag{{TagKey: aws.String("bollard-role"), TagValue: aws.String("ca")}}
		made, err := admin.CreateKey(within(t), in)
		if err == nil {
			_, err = admin.CreateAlias(within(t), &kms.CreateAliasInput{AliasName: aws.String("alias/bollard-ca-" + name), TargetKeyId: made.KeyMetadata.KeyId})
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := k.Open(t.Context(), keystest.Named(t, s.base(s.URL), name), keys.RoleCA); !errors.Is(err, keys.ErrUnfit) || errors.Is(err, keys.ErrUnavailable) {
			t.Errorf("%s: %v, want ErrUnfit", name, err)
		}
	}
	create(t, k, keystest.Named(t, s.base(s.URL), "key"))
	for field, value := range map[string]any{"Origin": "EXTERNAL", "KeyManager": "AWS", "KeyUsage": "KEY_AGREEMENT", "MultiRegion": true} {
		proxy := s.proxy(nil, func(action string, body []byte) []byte {
			if action != "DescribeKey" {
				return body
			}
			var said map[string]map[string]any
			if err := json.Unmarshal(body, &said); err != nil {
				return body
			}
			said["KeyMetadata"][field] = value
			body, _ = json.Marshal(said)
			return body
		})
		if _, err := k.Open(t.Context(), keystest.Named(t, s.base(proxy), "key"), keys.RoleCA); !errors.Is(err, keys.ErrUnfit) || !strings.Contains(err.Error(), field+"=") {
			t.Errorf("%s: %v, want ErrUnfit", field, err)
		}
		if _, err := k.Custody(t.Context(), keystest.Named(t, s.base(proxy), "key"), keys.RoleCA); !errors.Is(err, keys.ErrUnfit) {
			t.Errorf("custody of %s: %v, want ErrUnfit", field, err)
		}
	}
}

// A key that somebody disables or has deleted is away until that is taken back.
func TestDisabledKeyIsAway(t *testing.T) {
	t.Parallel()
	s := startKMS(t)
	admin, k := s.admin(), keystest.Keeper(t, keys.Config{})
	uri := keystest.Named(t, s.base(s.URL), "key")
	key := create(t, k, uri)
	keystest.Signs(t, key)
	said, err := admin.DescribeKey(within(t), &kms.DescribeKeyInput{KeyId: aws.String("alias/bollard-ca-key")})
	if err != nil {
		t.Fatal(err)
	}
	id := said.KeyMetadata.KeyId
	for what, steps := range map[string][2]func() error{
		"disabled": {
			func() error { _, err := admin.DisableKey(within(t), &kms.DisableKeyInput{KeyId: id}); return err },
			func() error { _, err := admin.EnableKey(within(t), &kms.EnableKeyInput{KeyId: id}); return err },
		},
		"to be deleted": {
			func() error {
				_, err := admin.ScheduleKeyDeletion(within(t), &kms.ScheduleKeyDeletionInput{KeyId: id, PendingWindowInDays: aws.Int32(7)})
				return err
			},
			func() error {
				_, err := admin.CancelKeyDeletion(within(t), &kms.CancelKeyDeletionInput{KeyId: id})
				if err == nil {
					_, err = admin.EnableKey(within(t), &kms.EnableKeyInput{KeyId: id})
				}
				return err
			},
		},
	} {
		if err := steps[0](); err != nil {
			t.Fatal(err)
		}
		if err := keystest.TrySign(key); !errors.Is(err, keys.ErrUnavailable) || !strings.Contains(err.Error(), "is in state") && !strings.Contains(err.Error(), "Exception") {
			t.Errorf("%s: signs: %v, want ErrUnavailable", what, err)
		}
		if _, err := keystest.Keeper(t, keys.Config{}).Open(t.Context(), uri, keys.RoleCA); !errors.Is(err, keys.ErrUnavailable) || !strings.Contains(err.Error(), "is in state") {
			t.Errorf("%s: opens: %v, want ErrUnavailable", what, err)
		}
		if err := steps[1](); err != nil {
			t.Fatal(err)
		}
		keystest.Signs(t, key)
	}
}

// Another key under the alias is not the key of the certificate.
func TestMovedAliasIsAnotherKey(t *testing.T) {
	t.Parallel()
	s := startKMS(t)
	admin := s.admin()
	create(t, keystest.Keeper(t, keys.Config{}), keystest.Named(t, s.base(s.URL), "key"))
	k := keystest.Keeper(t, keys.Config{})
	opened, err := k.Open(t.Context(), keystest.Named(t, s.base(s.URL), "key"), keys.RoleCA)
	if err != nil {
		t.Fatal(err)
	}
	other := create(t, keystest.Keeper(t, keys.Config{}), keystest.Named(t, s.base(s.URL), "other"))
	said, err := admin.DescribeKey(within(t), &kms.DescribeKeyInput{KeyId: aws.String("alias/bollard-ca-other")})
	if err == nil {
		_, err = admin.UpdateAlias(within(t), &kms.UpdateAliasInput{AliasName: aws.String("alias/bollard-ca-key"), TargetKeyId: said.KeyMetadata.KeyId})
	}
	if err != nil {
		t.Fatal(err)
	}
	later, err := keystest.Keeper(t, keys.Config{}).OpenLater(keystest.Named(t, s.base(s.URL), "key"), keys.RoleCA, opened.Public())
	if err != nil {
		t.Fatal(err)
	}
	if err := keystest.TrySign(later); err == nil {
		t.Error("another key signed")
	}
	keystest.Signs(t, other)
	if opened.Public().(*ecdsa.PublicKey).Equal(other.Public()) {
		t.Error("the keys are one")
	}
}
