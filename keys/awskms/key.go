//go:build cloudkms

package awskms

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"bollard/internal/signature"
)

// Types of keys.
const (
	TypeP256    = string(types.KeySpecEccNistP256)
	TypeP384    = string(types.KeySpecEccNistP384)
	TypeP521    = string(types.KeySpecEccNistP521)
	TypeRSA2048 = string(types.KeySpecRsa2048)
	TypeRSA3072 = string(types.KeySpecRsa3072)
)

// roleTag is the tag of a key that policies in AWS go by.
const roleTag = "bollard-role"

const (
	leastDays = 7 // before a key is deleted (ScheduleKeyDeletion)
	settling  = 200 * time.Millisecond
	tidying   = 5 * time.Second
)

// Key is a key in KMS.
type Key struct {
	c      *Client
	name   string
	arn    string
	public crypto.PublicKey
	kept   string
}

// Create makes a key and gives it its name, an alias. ErrExists. One without a name, as a
// cut line may leave it, is nobody's: it costs what AWS asks for a key until it is deleted.
func (c *Client) Create(ctx context.Context, name, role, kind string) (*Key, error) {
	made, err := c.kms.CreateKey(ctx, &kms.CreateKeyInput{
		Description: aws.String(name), KeySpec: types.KeySpec(kind), KeyUsage: types.KeyUsageTypeSignVerify,
		Origin: types.OriginTypeAwsKms, MultiRegion: aws.Bool(false),
		Tags: []types.Tag{{TagKey: aws.String(roleTag), TagValue: aws.String(role)}},
	}, once)
	if err != nil {
		return nil, fault(err)
	}
	if made.KeyMetadata == nil || made.KeyMetadata.Arn == nil {
		return nil, errors.New("the answer of AWS names no key")
	}
	arn := *made.KeyMetadata.Arn
	key, err := c.settled(ctx, name, made.KeyMetadata)
	if err == nil {
		if _, err = c.kms.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String(alias(name)), TargetKeyId: aws.String(arn)}, once); err == nil {
			return key, nil
		}
		err = fault(err)
	}
	// Also when the caller's time is over.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidying)
	defer cancel()
	if key != nil && c.named(ctx, name, arn) {
		return key, nil
	}
	return nil, errors.Join(err, c.discard(ctx, arn))
}

// named says whether a key has its name: the answer that said so may be what got lost.
func (c *Client) named(ctx context.Context, name, arn string) bool {
	said, err := c.kms.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String(alias(name))})
	return err == nil && said.KeyMetadata != nil && aws.ToString(said.KeyMetadata.Arn) == arn
}

// settled is judged of a key that was made just now: it takes KMS a while to know it
// everywhere.
func (c *Client) settled(ctx context.Context, name string, m *types.KeyMetadata) (*Key, error) {
	for {
		key, err := c.judged(ctx, name, m)
		if !errors.Is(err, ErrNotFound) {
			return key, err
		}
		wait := time.NewTimer(settling)
		select {
		case <-ctx.Done():
			wait.Stop()
			return nil, errors.New("AWS KMS doesn't know yet the key that it made")
		case <-wait.C:
		}
	}
}

// discard has a key deleted that got no name.
func (c *Client) discard(ctx context.Context, arn string) error {
	_, err := c.kms.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: aws.String(arn), PendingWindowInDays: aws.Int32(leastDays)})
	if err != nil {
		return fmt.Errorf("delete the key %s in AWS, which nothing uses: that failed here: %v", arn, fault(err)) //nolint:errorlint // why it wasn't deleted isn't why it wasn't made
	}
	return nil
}

// once: what makes something isn't asked for again when its answer was lost.
func once(o *kms.Options) { o.Retryer = aws.NopRetryer{} }

func alias(name string) string { return "alias/" + name }

// Key looks a key up. ErrNotFound; ErrUnfit if it wasn't made in KMS, or may be elsewhere.
func (c *Client) Key(ctx context.Context, name string) (*Key, error) {
	said, err := c.kms.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String(alias(name))})
	if err != nil {
		return nil, fault(err)
	}
	if said.KeyMetadata == nil || said.KeyMetadata.Arn == nil {
		return nil, errors.New("the answer of AWS describes no key")
	}
	return c.judged(ctx, name, said.KeyMetadata)
}

// judged makes a Key of what KMS says of it.
func (c *Client) judged(ctx context.Context, name string, m *types.KeyMetadata) (*Key, error) {
	k := &Key{c: c, name: name, arn: *m.Arn}
	var faults []string
	for _, want := range []struct{ what, is, wanted string }{
		{"Origin", string(m.Origin), string(types.OriginTypeAwsKms)},
		{"KeyManager", string(m.KeyManager), string(types.KeyManagerTypeCustomer)},
		{"KeyUsage", string(m.KeyUsage), string(types.KeyUsageTypeSignVerify)},
		// A key of several regions has copies under policies of their own.
		{"MultiRegion", fmt.Sprint(aws.ToBool(m.MultiRegion)), "false"},
	} {
		if want.is != want.wanted {
			faults = append(faults, want.what+"="+want.is)
		}
	}
	if len(faults) > 0 {
		return nil, fmt.Errorf("%w: %s of %s, which others may have or use: make one by Bollard", ErrUnfit, strings.Join(faults, ", "), name)
	}
	k.kept = fmt.Sprintf("Origin=%s, KeySpec=%s, KeyUsage=%s, MultiRegion=false", m.Origin, m.KeySpec, m.KeyUsage)
	if m.KeyState != types.KeyStateEnabled {
		// Whoever disabled it, or has it deleted, can take that back.
		return nil, fmt.Errorf("the key %s in AWS KMS is in state %s", name, m.KeyState)
	}
	said, err := c.kms.GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: aws.String(k.arn)})
	if err != nil {
		return nil, fault(err)
	}
	if k.public, err = x509.ParsePKIXPublicKey(said.PublicKey); err != nil {
		return nil, fmt.Errorf("%w: couldn't read the public key of %s: %w", ErrUnfit, name, err)
	}
	return k, nil
}

// Kept is KMS's word that the key can't leave it.
func (k *Key) Kept() string { return k.kept }

// Public is the key's public half.
func (k *Key) Public() crypto.PublicKey { return k.public }

// Sign signs a digest: ECDSA in ASN.1, by the hash of the curve, RSA as PKCS #1 v1.5 or,
// with rsa.PSSOptions, PSS with a salt as long as the hash.
func (k *Key) Sign(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	algorithm, err := algorithm(k.public, opts)
	if err == nil && len(digest) != opts.HashFunc().Size() {
		err = errors.New("the digest isn't one of the hash")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnfit, err)
	}
	said, err := k.c.kms.Sign(ctx, &kms.SignInput{
		KeyId: aws.String(k.arn), Message: digest, MessageType: types.MessageTypeDigest, SigningAlgorithm: algorithm,
	})
	if err != nil {
		return nil, fault(err)
	}
	if !signature.Verifies(k.public, digest, said.Signature, opts) {
		return nil, fmt.Errorf("%w: the signature that came back isn't that of %s", ErrUnfit, k.name)
	}
	return said.Signature, nil
}

// algorithm is how KMS names a way to sign.
func algorithm(public crypto.PublicKey, opts crypto.SignerOpts) (types.SigningAlgorithmSpec, error) {
	switch public := public.(type) {
	case *ecdsa.PublicKey:
		// KMS signs by each curve over the digest of one hash alone.
		for _, c := range []struct {
			bits int
			hash crypto.Hash
			spec types.SigningAlgorithmSpec
		}{
			{256, crypto.SHA256, types.SigningAlgorithmSpecEcdsaSha256},
			{384, crypto.SHA384, types.SigningAlgorithmSpecEcdsaSha384},
			{521, crypto.SHA512, types.SigningAlgorithmSpecEcdsaSha512},
		} {
			if c.bits == public.Curve.Params().BitSize {
				if c.hash != opts.HashFunc() {
					return "", fmt.Errorf("AWS KMS signs by a key on P-%d over %v alone", c.bits, c.hash)
				}
				return c.spec, nil
			}
		}
	case *rsa.PublicKey:
		pss, err := signature.PSS(opts)
		if err != nil {
			return "", err
		}
		ways := map[crypto.Hash][2]types.SigningAlgorithmSpec{
			crypto.SHA256: {types.SigningAlgorithmSpecRsassaPkcs1V15Sha256, types.SigningAlgorithmSpecRsassaPssSha256},
			crypto.SHA384: {types.SigningAlgorithmSpecRsassaPkcs1V15Sha384, types.SigningAlgorithmSpecRsassaPssSha384},
			crypto.SHA512: {types.SigningAlgorithmSpecRsassaPkcs1V15Sha512, types.SigningAlgorithmSpecRsassaPssSha512},
		}
		way, known := ways[opts.HashFunc()]
		switch {
		case !known:
			return "", errors.New("it signs digests of SHA-256, SHA-384 and SHA-512")
		case pss:
			return way[1], nil
		}
		return way[0], nil
	}
	return "", errors.New("its key is neither on P-256, P-384 or P-521 nor RSA")
}
