package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/miekg/pkcs11"

	"bollard/keys/vault/vaulttest"
)

// plainKey is one key for the process.
var plainKey = sync.OnceValue(func() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err) // no randomness
	}
	return key
})

// plainECDSA is the standard library.
func plainECDSA() (signing, error) {
	return func(digest []byte) ([]byte, error) { return ecdsa.SignASN1(rand.Reader, plainKey(), digest) }, nil
}

// plainPKCS11 is a session of its own with the token, and C_SignInit and C_Sign by the key
// that Bollard made in it. The library stays loaded and logged in to, for Bollard.
func plainPKCS11() (signing, error) {
	module := pkcs11.New(softHSM)
	if module == nil {
		return nil, errors.New("SoftHSM2 isn't there (make tools installs it)")
	}
	if err := module.Initialize(); err != nil && !errors.Is(err, pkcs11.Error(pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED)) {
		return nil, err
	}
	slots, err := module.GetSlotList(true)
	if err != nil {
		return nil, err
	}
	for _, slot := range slots {
		token, err := module.GetTokenInfo(slot)
		if err != nil {
			return nil, err
		}
		if strings.TrimSpace(token.Label) != "bench" {
			continue
		}
		session, err := module.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION)
		if err != nil {
			return nil, err
		}
		if err := module.Login(session, pkcs11.CKU_USER, keyPIN); err != nil && !errors.Is(err, pkcs11.Error(pkcs11.CKR_USER_ALREADY_LOGGED_IN)) {
			return nil, err
		}
		if err := module.FindObjectsInit(session, []*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), pkcs11.NewAttribute(pkcs11.CKA_LABEL, "bollard:ca:bench"),
		}); err != nil {
			return nil, err
		}
		found, _, err := module.FindObjects(session, 1)
		if err := errors.Join(err, module.FindObjectsFinal(session)); err != nil {
			return nil, err
		}
		if len(found) != 1 {
			return nil, errors.New("the key isn't in the token")
		}
		return func(digest []byte) ([]byte, error) {
			if err := module.SignInit(session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_ECDSA, nil)}, found[0]); err != nil {
				return nil, err
			}
			raw, err := module.Sign(session, digest)
			if err != nil {
				return nil, err
			}
			return pair(raw[:len(raw)/2], raw[len(raw)/2:])
		}, nil
	}
	return nil, errors.New("the token isn't there")
}

// plainTPM is TPM2_Sign by a key that stays loaded and asks for nothing.
func plainTPM(device transport.TPM) (signing, *ecdsa.PublicKey, error) {
	made, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, SignEncrypt: true},
		Parameters:       tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256}),
	})}.Execute(device)
	if err != nil {
		return nil, nil, err
	}
	area, err := made.OutPublic.Contents()
	if err != nil {
		return nil, nil, err
	}
	public, err := tpm2.Pub(*area)
	if err != nil {
		return nil, nil, err
	}
	key, ok := public.(*ecdsa.PublicKey)
	if !ok {
		return nil, nil, fmt.Errorf("the TPM made a key of type %T", public)
	}
	return func(digest []byte) ([]byte, error) {
		signed, err := tpm2.Sign{
			KeyHandle:  tpm2.NamedHandle{Handle: made.ObjectHandle, Name: made.Name},
			Digest:     tpm2.TPM2BDigest{Buffer: digest},
			InScheme:   tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUSigScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSchemeHash{HashAlg: tpm2.TPMAlgSHA256})},
			Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull},
		}.Execute(device)
		if err != nil {
			return nil, err
		}
		v, err := signed.Signature.Signature.ECDSA()
		if err != nil {
			return nil, err
		}
		return pair(v.SignatureR.Buffer, v.SignatureS.Buffer)
	}, key, nil
}

func pair(r, s []byte) ([]byte, error) {
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(r), new(big.Int).SetBytes(s)})
}

// plainVaultLogin is a token by the login that Bollard has: what Vault looks up for a
// token with a policy costs it more than root's does.
func plainVaultLogin(ctx context.Context, server *vaulttest.Server, dir string) (string, error) {
	said := map[string]any{}
	for field, file := range map[string]string{"role_id": "ca.role-id", "secret_id": "ca.secret-id"} {
		text, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return "", err
		}
		said[field] = strings.TrimSpace(string(text))
	}
	answer, err := server.Do(ctx, "", "auth/approle/login", said)
	if err != nil {
		return "", err
	}
	auth, _ := answer["auth"].(map[string]any)
	token, ok := auth["client_token"].(string)
	if !ok {
		return "", errors.New("no token came from Vault")
	}
	return token, nil
}

// plainVault posts to Vault's own address of the key, over a connection that stays.
func plainVault(address, token string) func() (signing, error) {
	return func() (signing, error) {
		web := &http.Client{Transport: &http.Transport{}}
		return func(digest []byte) ([]byte, error) {
			body, err := json.Marshal(map[string]any{
				"input": base64.StdEncoding.EncodeToString(digest), "prehashed": true, "hash_algorithm": "sha2-256", "marshaling_algorithm": "asn1",
			})
			if err != nil {
				return nil, err
			}
			req, err := http.NewRequest(http.MethodPost, address+"/v1/transit/sign/bollard-ca-bench", bytes.NewReader(body))
			if err != nil {
				return nil, err
			}
			req.Header.Set("X-Vault-Token", token)
			resp, err := web.Do(req)
			if err != nil {
				return nil, err
			}
			defer resp.Body.Close()
			var answer struct{ Data struct{ Signature string } }
			err = json.NewDecoder(resp.Body).Decode(&answer)
			_, _ = io.Copy(io.Discard, resp.Body) // the connection is used again
			_, encoded, ok := strings.Cut(answer.Data.Signature, "vault:v1:")
			if err != nil || !ok {
				return nil, fmt.Errorf("status %d: %w", resp.StatusCode, err)
			}
			return base64.StdEncoding.DecodeString(encoded)
		}, nil
	}
}
