package signing

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

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
	for _, s := range b.Release.Signatures {
		raw, err := release.DecodeSignature(s.Value)
		if err != nil {
			return err
		}
		file := filepath.Join(dir, string(s.Dialect))
		if err := os.WriteFile(file, raw, 0o600); err != nil {
			return fmt.Errorf("couldn't have openssl verify: %w", err)
		}
		args := []string{"pkeyutl", "-verify", "-pubin", "-inkey", key, "-sigfile", file, "-in", digest, "-pkeyopt", "digest:sha256"}
		if s.Dialect == release.RSAPSS {
			args = append(args, "-pkeyopt", "rsa_padding_mode:pss", "-pkeyopt", "rsa_pss_saltlen:digest")
		}
		if err := o.run(ctx, args...); err != nil {
			return fmt.Errorf("openssl doesn't take the %s signature, and nothing was kept: %w", s.Dialect, err)
		}
	}
	// The CMS holds the same kind of signature; that its form is one openssl reads is
	// what is left to say.
	cms := filepath.Join(made, bundle.FileCMS)
	if _, err := os.Stat(cms); err == nil {
		if err := o.run(ctx, "cms", "-cmsout", "-noout", "-inform", "DER", "-in", cms); err != nil {
			return fmt.Errorf("openssl can't read the CMS, and nothing was kept: %w", err)
		}
	}
	return nil
}

func (o openssl) run(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, o.path, args...)
	cmd.Env = []string{"OPENSSL_CONF=/dev/null"} // providers and engines of this machine are none of the signature's
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}
