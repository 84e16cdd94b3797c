package tpm_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"bollard/keys"
	"bollard/keys/keystest"
)

func TestKeysOfATPM(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	of := base(t, startTPM(t).socket())
	k := keystest.Keeper(t, keys.Config{Dir: dir})
	again := keystest.Keeper(t, keys.Config{Dir: dir})
	for _, alg := range []keys.Algorithm{keys.P256, keys.P384, keys.P521, keys.RSA2048} {
		uri := keystest.Named(t, of, string(alg))
		_, err := k.Open(t.Context(), uri, keys.RoleCA)
		wants(t, "before it was made", err, keys.ErrNotFound)
		made, err := k.Create(t.Context(), uri, keys.RoleCA, alg)
		if err != nil {
			t.Fatalf("%s: %v", alg, err)
		}
		said, err := k.Custody(t.Context(), uri, keys.RoleCA)
		if want := (keys.Custody{Holder: "the TPM of this machine", Exportable: "no: fixedTPM, fixedParent, sensitiveDataOrigin"}); err != nil || said != want {
			t.Errorf("%s: custody %v, %v", alg, said, err)
		}
		_, err = k.Create(t.Context(), uri, keys.RoleCA, alg)
		wants(t, "made twice", err, keys.ErrExists)
		_, err = k.Open(t.Context(), uri, keys.RoleFirmware)
		wants(t, "for another role", err, keys.ErrRole)
		_, err = k.Create(t.Context(), uri, keys.RoleFirmware, alg)
		wants(t, "made for another role", err, keys.ErrExists)
		found, err := again.Open(t.Context(), uri, keys.RoleCA)
		if err != nil {
			t.Fatalf("%s: %v", alg, err)
		}
		if !made.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(found.Public()) {
			t.Errorf("%s: another key was found", alg)
		}
		for _, s := range []crypto.Signer{made, found} {
			for _, hash := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
				signs(t, s, hash)
			}
			_, err = s.Sign(rand.Reader, make([]byte, 20), crypto.SHA1)
			wants(t, "SHA-1", err, keys.ErrUnfit)
			_, err = s.Sign(rand.Reader, make([]byte, 31), crypto.SHA256)
			wants(t, "a digest that is too short", err, keys.ErrUnfit)
		}
	}
	info, err := os.Stat(filepath.Join(dir, "bollard-ca-p256.tpm"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's file: %v, %v", info, err)
	}
}

// signs has a key sign in each scheme it is for, and verifies with the standard library.
func signs(t *testing.T, s crypto.Signer, hash crypto.Hash) {
	t.Helper()
	h := hash.New()
	h.Write([]byte("message"))
	digest := h.Sum(nil)
	sign := func(opts crypto.SignerOpts) []byte {
		t.Helper()
		sig, err := s.Sign(rand.Reader, digest, opts)
		if err != nil {
			t.Fatal(err)
		}
		return sig
	}
	switch public := s.Public().(type) {
	case *ecdsa.PublicKey:
		if !ecdsa.VerifyASN1(public, digest, sign(hash)) {
			t.Errorf("%s with %s doesn't verify", public.Curve.Params().Name, hash)
		}
	case *rsa.PublicKey:
		if err := rsa.VerifyPKCS1v15(public, hash, digest, sign(hash)); err != nil {
			t.Errorf("PKCS #1 with %s: %v", hash, err)
		}
		for _, salt := range []int{rsa.PSSSaltLengthEqualsHash, rsa.PSSSaltLengthAuto, hash.Size()} {
			sig := sign(&rsa.PSSOptions{SaltLength: salt, Hash: hash})
			if err := rsa.VerifyPSS(public, hash, digest, sig, &rsa.PSSOptions{SaltLength: hash.Size()}); err != nil {
				t.Errorf("PSS with %s and salt %d: %v", hash, salt, err)
			}
		}
		_, err := s.Sign(rand.Reader, digest, &rsa.PSSOptions{SaltLength: 7, Hash: hash})
		wants(t, "a salt that can't be had", err, keys.ErrUnfit)
	default:
		t.Errorf("a key of type %T", public)
	}
}

// blob is what a key's file holds.
type blob struct {
	Type            asn1.ObjectIdentifier
	Parent          int64
	Public, Private []byte
}

func readBlob(t *testing.T, path string) blob {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	var b blob
	if block == nil {
		t.Fatalf("%s: %s", path, text)
	}
	if _, err := asn1.Unmarshal(block.Bytes, &b); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b blob) write(t *testing.T, path string) {
	t.Helper()
	der, err := asn1.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "TSS2 PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// loaded loads a key as anybody with its file and the TPM could.
func (b blob) loaded(t *testing.T, device transport.TPM) tpm2.NamedHandle {
	t.Helper()
	parent, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(device)
	if err != nil {
		t.Fatal(err)
	}
	area, err := tpm2.Unmarshal[tpm2.TPM2BPublic](b.Public)
	if err != nil {
		t.Fatal(err)
	}
	private, err := tpm2.Unmarshal[tpm2.TPM2BPrivate](b.Private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := tpm2.Load{ParentHandle: tpm2.NamedHandle{Handle: parent.ObjectHandle, Name: parent.Name}, InPrivate: *private, InPublic: *area}.Execute(device)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (tpm2.FlushContext{FlushHandle: parent.ObjectHandle}).Execute(device); err != nil {
		t.Fatal(err)
	}
	return tpm2.NamedHandle{Handle: key.ObjectHandle, Name: key.Name}
}

// The CA's key asked for directly of the TPM, by who has its file and another role's PIN,
// or the CA's own PIN in the other role: the TPM itself refuses. Nor does it give the key
// out to who may use it.
func TestTPMRefusesTheOtherRole(t *testing.T) {
	t.Parallel()
	dir, d := t.TempDir(), startTPM(t)
	k := keystest.Keeper(t, keys.Config{Dir: dir})
	if _, err := k.Create(t.Context(), keystest.Named(t, base(t, d.socket()), "key"), keys.RoleCA, keys.P256); err != nil {
		t.Fatal(err)
	}
	device, err := linuxudstpm.Open(d.socket())
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	key := readBlob(t, filepath.Join(dir, "bollard-ca-key.tpm")).loaded(t, device)
	auth := func(pin, role string) []byte {
		mac := hmac.New(sha256.New, []byte(pin))
		mac.Write([]byte("bollard-" + role + "-key"))
		return []byte(hex.EncodeToString(mac.Sum(nil)[:16]))
	}
	for name, tt := range map[string]struct {
		auth []byte
		want error
	}{
		"the CA's":                  {auth(caPIN, "ca"), nil},
		"of firmware":               {auth(firmwarePIN, "firmware"), tpm2.TPMRCBadAuth},
		"of firmware, for the CA":   {auth(firmwarePIN, "ca"), tpm2.TPMRCBadAuth},
		"the CA's PIN for firmware": {auth(caPIN, "firmware"), tpm2.TPMRCBadAuth},
		"the PIN itself":            {[]byte(caPIN), tpm2.TPMRCBadAuth},
		"none":                      {nil, tpm2.TPMRCBadAuth},
	} {
		digest := sha256.Sum256([]byte("firmware"))
		_, err := tpm2.Sign{
			KeyHandle:  tpm2.AuthHandle{Handle: key.Handle, Name: key.Name, Auth: tpm2.PasswordAuth(tt.auth)},
			Digest:     tpm2.TPM2BDigest{Buffer: digest[:]},
			InScheme:   tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUSigScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSchemeHash{HashAlg: tpm2.TPMAlgSHA256})},
			Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull},
		}.Execute(device)
		if (err == nil) != (tt.want == nil) || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("the authorization %s: got %v, want %v", name, err, tt.want)
		}
	}
	// Duplication needs a policy session that fixedTPM leaves nobody to satisfy.
	policy := tpm2.Policy(tpm2.TPMAlgSHA256, 16, func(tr transport.TPM, s tpm2.TPMISHPolicy, _ tpm2.TPM2BNonce) error {
		_, err := tpm2.PolicyCommandCode{PolicySession: s, Code: tpm2.TPMCCDuplicate}.Execute(tr)
		return err
	})
	_, err = tpm2.Duplicate{
		ObjectHandle:    tpm2.AuthHandle{Handle: key.Handle, Name: key.Name, Auth: policy},
		NewParentHandle: tpm2.NamedHandle{Handle: tpm2.TPMRHNull, Name: tpm2.HandleName(tpm2.TPMRHNull)},
		Symmetric:       tpm2.TPMTSymDef{Algorithm: tpm2.TPMAlgNull},
	}.Execute(device)
	if err == nil {
		t.Error("the TPM gave the key out")
	}
}

// What is in the key directory is believed only as far as the TPM confirms it.
func TestFilesOfKeysAreProven(t *testing.T) {
	t.Parallel()
	dir, d := t.TempDir(), startTPM(t)
	of := base(t, d.socket())
	if _, err := keystest.Keeper(t, keys.Config{Dir: dir}).Create(t.Context(), keystest.Named(t, of, "key"), keys.RoleCA, keys.P256); err != nil {
		t.Fatal(err)
	}
	good := readBlob(t, filepath.Join(dir, "bollard-ca-key.tpm"))
	altered := func(alter func(*tpm2.TPMTPublic)) blob {
		b := good
		outer, err := tpm2.Unmarshal[tpm2.TPM2BPublic](b.Public)
		if err != nil {
			t.Fatal(err)
		}
		area, err := outer.Contents()
		if err != nil {
			t.Fatal(err)
		}
		alter(area)
		b.Public = tpm2.Marshal(tpm2.New2B(*area))
		return b
	}
	other := sha256.Sum256([]byte("bollard-firmware-key"))
	for name, tt := range map[string]struct {
		file string
		blob blob
		role keys.Role
		want error
	}{
		"as it was made":      {"bollard-ca-key.tpm", good, keys.RoleCA, nil},
		"renamed":             {"bollard-firmware-key.tpm", good, keys.RoleFirmware, keys.ErrUnfit},
		"renamed and altered": {"bollard-firmware-key.tpm", altered(func(a *tpm2.TPMTPublic) { a.AuthPolicy.Buffer = other[:] }), keys.RoleFirmware, keys.ErrUnavailable},
		"it may leave":        {"bollard-ca-key.tpm", altered(func(a *tpm2.TPMTPublic) { a.ObjectAttributes.FixedTPM = false }), keys.RoleCA, keys.ErrUnfit},
		"imported":            {"bollard-ca-key.tpm", altered(func(a *tpm2.TPMTPublic) { a.ObjectAttributes.SensitiveDataOrigin = false }), keys.RoleCA, keys.ErrUnfit},
		"another parent":      {"bollard-ca-key.tpm", blob{good.Type, 0x81000002, good.Public, good.Private}, keys.RoleCA, keys.ErrUnavailable},
		"no handle":           {"bollard-ca-key.tpm", blob{good.Type, 7, good.Public, good.Private}, keys.RoleCA, keys.ErrUnfit},
		"another type":        {"bollard-ca-key.tpm", blob{asn1.ObjectIdentifier{2, 23, 133, 10, 1, 5}, good.Parent, good.Public, good.Private}, keys.RoleCA, keys.ErrUnfit},
		"cut off":             {"bollard-ca-key.tpm", blob{good.Type, good.Parent, good.Public[:40], good.Private}, keys.RoleCA, keys.ErrUnfit},
		"nothing private":     {"bollard-ca-key.tpm", blob{good.Type, good.Parent, good.Public, nil}, keys.RoleCA, keys.ErrUnavailable},
		"empty":               {"bollard-ca-key.tpm", blob{Type: good.Type, Parent: good.Parent}, keys.RoleCA, keys.ErrUnfit},
	} {
		into := t.TempDir()
		tt.blob.write(t, filepath.Join(into, tt.file))
		key, err := keystest.Keeper(t, keys.Config{Dir: into}).Open(t.Context(), keystest.Named(t, of, "key"), tt.role)
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", name, err, tt.want)
		}
		if err == nil {
			wants(t, name, keystest.TrySign(key), nil)
		}
	}
	for name, text := range map[string]string{"no PEM": "x", "a key": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "no DER": "-----BEGIN TSS2 PRIVATE KEY-----\nAAAA\n-----END TSS2 PRIVATE KEY-----\n"} {
		into := t.TempDir()
		if err := os.WriteFile(filepath.Join(into, "bollard-ca-key.tpm"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := keystest.Keeper(t, keys.Config{Dir: into}).Open(t.Context(), keystest.Named(t, of, "key"), keys.RoleCA)
		wants(t, name, err, keys.ErrUnfit)
	}
}

// A wrong PIN is refused by the TPM once, and not shown to it again; a right one is taken
// without a restart.
func TestWrongPINOfATPM(t *testing.T) {
	t.Parallel()
	d, dir, file := startTPM(t), t.TempDir(), filepath.Join(t.TempDir(), "pin")
	write := func(pin string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(pin), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(caPIN)
	k := keystest.Keeper(t, keys.Config{Dir: dir})
	uri := "tpmkms:device=" + d.socket() + ";object=key?pin-source=" + file
	s, err := k.Create(t.Context(), uri, keys.RoleCA, keys.P256)
	if err != nil {
		t.Fatal(err)
	}
	write("canary-pin-that-is-wrong")
	// The login of before goes on until something is wrong with it: end it.
	d.kill()
	wants(t, "killed", keystest.TrySign(s), keys.ErrUnavailable)
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		err := keystest.TrySign(s)
		wants(t, "a wrong PIN", err, keys.ErrPIN)
		if errors.Is(err, keys.ErrUnavailable) || !strings.Contains(err.Error(), "not tried again") || strings.Contains(err.Error(), "canary") {
			t.Errorf("a wrong PIN: %v", err)
		}
	}
	_, err = keystest.Keeper(t, keys.Config{Dir: dir}).Open(t.Context(), uri, keys.RoleCA)
	wants(t, "opened with a wrong PIN", err, keys.ErrPIN)
	write("short")
	if err := keystest.TrySign(s); !errors.Is(err, keys.ErrPIN) || !strings.Contains(err.Error(), "at least 16") {
		t.Errorf("a PIN that can be guessed: %v", err)
	}
	write(caPIN)
	wants(t, "the right PIN", keystest.TrySign(s), nil)
}

func TestTPMOfAnotherMachine(t *testing.T) {
	t.Parallel()
	mine, other := startTPM(t), startTPM(t)
	device := filepath.Join(mine.dir, "device")
	attach := func(d *daemon) {
		t.Helper()
		_ = os.Remove(device)
		if err := os.Symlink(d.socket(), device); err != nil {
			t.Fatal(err)
		}
	}
	attach(mine)
	k := keystest.Keeper(t, keys.Config{Dir: t.TempDir()})
	s, err := k.Create(t.Context(), keystest.Named(t, base(t, device), "key"), keys.RoleCA, keys.P256)
	if err != nil {
		t.Fatal(err)
	}
	attach(other)
	if err := keystest.TrySign(s); !errors.Is(err, keys.ErrUnavailable) || !strings.Contains(err.Error(), "another one made it") {
		t.Errorf("another TPM: %v", err)
	}
	attach(mine)
	wants(t, "the right TPM is back", keystest.TrySign(s), nil)
}

// A machine whose owner keeps a storage key in the TPM has new keys made below it.
func TestStorageKeyOfTheOwner(t *testing.T) {
	t.Parallel()
	d, dir := startTPM(t), t.TempDir()
	device, err := linuxudstpm.Open(d.socket())
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	srk, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.RSASRKTemplate)}.Execute(device)
	if err != nil {
		t.Fatal(err)
	}
	k := keystest.Keeper(t, keys.Config{Dir: dir})
	of := base(t, d.socket())
	before, err := k.Create(t.Context(), keystest.Named(t, of, "before"), keys.RoleCA, keys.P256)
	if err != nil {
		t.Fatal(err)
	}
	_, err = tpm2.EvictControl{
		Auth: tpm2.TPMRHOwner, ObjectHandle: &tpm2.NamedHandle{Handle: srk.ObjectHandle, Name: srk.Name}, PersistentHandle: 0x81000001,
	}.Execute(device)
	if err != nil {
		t.Fatal(err)
	}
	after, err := k.Create(t.Context(), keystest.Named(t, of, "after"), keys.RoleCA, keys.P256)
	if err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]int64{"bollard-ca-before.tpm": 0x40000001, "bollard-ca-after.tpm": 0x81000001} {
		if got := readBlob(t, filepath.Join(dir, file)).Parent; got != want {
			t.Errorf("%s is below %#x, want %#x", file, got, want)
		}
	}
	wants(t, "made before", keystest.TrySign(before), nil)
	wants(t, "made after", keystest.TrySign(after), nil)
}
