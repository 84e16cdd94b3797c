package signing

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"

	"bollard/firmware/bundle"
	"bollard/firmware/release"
)

// openssl is the program: another implementation, and the one in most stations.
type openssl struct{ path string }

// verify checks every signature of the image over its digest, as EVP_PKEY_verify
// does, so that the image isn't read twice.
func (o openssl) verify(ctx context.Context, b *bundle.Bundle, made string, image bundle.Image) error {
	dir, err := os.MkdirTemp("", "bollard-check-")
	if err != nil {
		return fmt.Errorf("couldn't have openssl verify: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // copies of what is public
	spki, err := x509.MarshalPKIXPublicKey(b.Certificate.PublicKey)
	if err != nil {
		return fmt.Errorf("couldn't have openssl verify: %w", err)
	}
	key, digest := filepath.Join(dir, "key.pem"), filepath.Join(dir, "digest")
	if err := os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}), 0o600); err != nil {
		return fmt.Errorf("couldn't have openssl verify: %w", err)
	}
	if err := os.WriteFile(digest, image.SHA256[:], 0o600); err != nil {
		return fmt.Errorf("couldn't have openssl verify: %w", err)
	}
	c := check{o, dir, key, digest}
	for _, s := range b.Release.Signatures {
		raw, err := release.DecodeSignature(s.Value)
		if err != nil {
			return err
		}
		if err := c.signature(ctx, s.Dialect, raw); err != nil {
			return fmt.Errorf("openssl doesn't take the %s signature, and nothing was kept: %w", s.Dialect, err)
		}
	}
	if err := c.cms(ctx, filepath.Join(made, bundle.FileCMS), b.Certificate); err != nil {
		return fmt.Errorf("openssl doesn't take the CMS, and nothing was kept: %w", err)
	}
	for _, name := range []string{bundle.FileEnvelope, bundle.FileProvenance} {
		if err := c.envelope(ctx, filepath.Join(made, name), b.Certificate); err != nil {
			return fmt.Errorf("openssl doesn't take %s, and nothing was kept: %w", name, err)
		}
	}
	return nil
}

// check has openssl verify what one key signed.
type check struct {
	openssl
	dir         string // for files
	key, digest string // files with the public key, and the image's digest
}

func (c check) file(name string, data []byte) (string, error) {
	path := filepath.Join(c.dir, name)
	return path, os.WriteFile(path, data, 0o600)
}

// signature is one over the image's digest.
func (c check) signature(ctx context.Context, d release.Dialect, raw []byte) error {
	file, err := c.file(string(d), raw)
	if err != nil {
		return err
	}
	args := []string{"pkeyutl", "-verify", "-pubin", "-inkey", c.key, "-sigfile", file, "-in", c.digest, "-pkeyopt", "digest:sha256"}
	if d == release.RSAPSS {
		args = append(args, "-pkeyopt", "rsa_padding_mode:pss", "-pkeyopt", "rsa_pss_saltlen:digest")
	}
	_, err = c.run(ctx, args...)
	return err
}

// lastOctets is where the signature stands in a SignedData of one signer without
// unsigned attributes: its last OCTET STRING (RFC 5652 §5.3).
var lastOctets = regexp.MustCompile(`(?m)^ *([0-9]+):.*prim: OCTET STRING`)

// cms takes certificate and signature out of it as openssl reads it; the signature is
// over the image itself, so the digest is enough.
func (c check) cms(ctx context.Context, path string, signer *x509.Certificate) error {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil // a bundle for OCPP alone
	}
	if _, err := c.run(ctx, "cms", "-cmsout", "-noout", "-inform", "DER", "-in", path); err != nil {
		return err
	}
	certs, err := c.run(ctx, "pkcs7", "-inform", "DER", "-in", path, "-print_certs")
	if err != nil {
		return err
	}
	if block, _ := pem.Decode(certs[max(0, bytes.Index(certs, []byte("-----BEGIN"))):]); block == nil || !bytes.Equal(block.Bytes, signer.Raw) {
		return errors.New("its first certificate isn't the signer's")
	}
	listed, err := c.run(ctx, "asn1parse", "-inform", "DER", "-in", path)
	if err != nil {
		return err
	}
	found := lastOctets.FindAllSubmatch(listed, -1)
	if len(found) == 0 {
		return errors.New("it has no signature")
	}
	file := filepath.Join(c.dir, "cms")
	if _, err := c.run(ctx, "asn1parse", "-inform", "DER", "-in", path, "-strparse", string(found[len(found)-1][1]), "-noout", "-out", file); err != nil {
		// Of what it takes out openssl prints the structure, and an RSA signature has none:
		// the file is there all the same.
		if _, gone := os.Stat(file); gone != nil {
			return err
		}
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return c.signature(ctx, bundle.CMSDialect(signer.PublicKey), raw)
}

// envelope is a DSSE: what is signed is its type and payload with their lengths.
func (c check) envelope(ctx context.Context, path string, signer *x509.Certificate) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // no provenance
	}
	var e struct {
		PayloadType string `json:"payloadType"`
		Payload     []byte `json:"payload"`
		Signatures  []struct {
			Sig []byte `json:"sig"`
		} `json:"signatures"`
	}
	if err == nil {
		err = json.Unmarshal(text, &e)
	}
	if err != nil || len(e.Signatures) != 1 {
		return errors.Join(errors.New("it isn't an envelope with one signature"), err)
	}
	signed, err := c.file("pae", append(fmt.Appendf(nil, "DSSEv1 %d %s %d ", len(e.PayloadType), e.PayloadType, len(e.Payload)), e.Payload...))
	if err != nil {
		return err
	}
	file, err := c.file("sig", e.Signatures[0].Sig)
	if err != nil {
		return err
	}
	args := []string{"dgst", "-sha256", "-verify", c.key, "-signature", file}
	if _, pss := signer.PublicKey.(*rsa.PublicKey); pss {
		args = append(args, "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest")
	}
	_, err = c.run(ctx, append(args, signed)...)
	return err
}

func (o openssl) run(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, o.path, args...)
	cmd.Env = []string{"OPENSSL_CONF=/dev/null"} // providers and engines of this machine are none of the signature's
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, bytes.TrimSpace(append(out, errs.Bytes()...)))
	}
	return out, nil
}
