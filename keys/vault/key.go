package vault

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"bollard/internal/signature"
)

// Key types of the transit engine.
const (
	TypeP256    = "ecdsa-p256"
	TypeP384    = "ecdsa-p384"
	TypeP521    = "ecdsa-p521"
	TypeRSA2048 = "rsa-2048"
	TypeRSA3072 = "rsa-3072"
)

// firstVersion is the one version of a key that is used: a name is one key, also when
// somebody rotates it.
const firstVersion = 1

// Key is a key in Vault.
type Key struct {
	c      *Client
	name   string
	public crypto.PublicKey
	kept   []string
}

// Create makes a key that Vault never gives out. The caller has looked that there is
// none of that name: Vault leaves one that is there as it is.
func (c *Client) Create(ctx context.Context, name, kind string) (*Key, error) {
	_, err := c.api.Logical().WriteWithContext(ctx, c.path("keys", name), map[string]any{
		"type": kind, "exportable": false, "allow_plaintext_backup": false,
	})
	if err != nil {
		return nil, c.fault(ctx, err)
	}
	return c.Key(ctx, name)
}

// Key looks a key up. ErrNotFound; ErrUnfit if Vault may give it out, or others brought it.
func (c *Client) Key(ctx context.Context, name string) (*Key, error) {
	answer, err := c.api.Logical().ReadWithContext(ctx, c.path("keys", name))
	if err != nil {
		return nil, c.fault(ctx, err)
	}
	if answer == nil {
		return nil, ErrNotFound
	}
	k := &Key{c: c, name: name}
	for _, flag := range []string{"exportable", "allow_plaintext_backup", "imported_key"} {
		set, said := answer.Data[flag].(bool)
		if !said && flag == "imported_key" { // before 1.11 no key could be brought
			continue
		}
		if !said || set {
			return nil, fmt.Errorf("%w: %s of %s isn't false, so that others may have it", ErrUnfit, flag, name)
		}
		k.kept = append(k.kept, flag+"=false")
	}
	versions, _ := answer.Data["keys"].(map[string]any)
	first, _ := versions[fmt.Sprint(firstVersion)].(map[string]any)
	text, _ := first["public_key"].(string)
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, fmt.Errorf("%w: %s has no public key of version %d", ErrUnfit, name, firstVersion)
	}
	if k.public, err = x509.ParsePKIXPublicKey(block.Bytes); err != nil {
		return nil, fmt.Errorf("%w: couldn't read the public key of %s: %w", ErrUnfit, name, err)
	}
	return k, nil
}

func (c *Client) path(kind, name string) string {
	return segments(c.cfg.Mount) + "/" + kind + "/" + url.PathEscape(name)
}

// Kept is Vault's word that the key can't leave it.
func (k *Key) Kept() string { return strings.Join(k.kept, ", ") }

// Public is the key's public half.
func (k *Key) Public() crypto.PublicKey { return k.public }

// Sign signs a digest: ECDSA in ASN.1, RSA as PKCS #1 v1.5 or, with rsa.PSSOptions, PSS.
func (k *Key) Sign(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	hash, known := hashes[opts.HashFunc()]
	if !known || len(digest) != opts.HashFunc().Size() {
		return nil, fmt.Errorf("%w: it signs digests of SHA-256, SHA-384 and SHA-512", ErrUnfit)
	}
	body := map[string]any{
		"input": base64.StdEncoding.EncodeToString(digest), "prehashed": true, "hash_algorithm": hash, "key_version": firstVersion,
	}
	switch k.public.(type) {
	case *ecdsa.PublicKey:
		body["marshaling_algorithm"] = "asn1"
	case *rsa.PublicKey:
		if err := rsaScheme(body, opts); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("%w: %s is neither ECDSA nor RSA", ErrUnfit, k.name)
	}
	answer, err := k.c.api.Logical().WriteWithContext(ctx, k.c.path("sign", k.name), body)
	if err != nil {
		return nil, k.c.fault(ctx, err)
	}
	if answer == nil {
		return nil, errors.New("the answer of Vault has no signature")
	}
	text, _ := answer.Data["signature"].(string)
	encoded, ok := strings.CutPrefix(text, fmt.Sprintf("vault:v%d:", firstVersion))
	sig, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil || !signature.Verifies(k.public, digest, sig, opts) {
		return nil, fmt.Errorf("%w: the signature that came back isn't that of %s", ErrUnfit, k.name)
	}
	return sig, nil
}

var hashes = map[crypto.Hash]string{crypto.SHA256: "sha2-256", crypto.SHA384: "sha2-384", crypto.SHA512: "sha2-512"}

// rsaScheme asks for a salt as long as the hash, always: Vault's default is the longest
// possible.
func rsaScheme(body map[string]any, opts crypto.SignerOpts) error {
	pss, err := signature.PSS(opts)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnfit, err)
	case pss:
		body["signature_algorithm"], body["salt_length"] = "pss", "hash"
	default:
		body["signature_algorithm"] = "pkcs1v15"
	}
	return nil
}
