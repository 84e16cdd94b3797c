package vault

import (
	"context"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
)

// MaxList bounds the answers of a PKI mount: a list of half a million serial numbers, or
// the revocation list of as many certificates.
const MaxList = 32 << 20

// Order asks a PKI mount for one certificate.
type Order struct {
	Request []byte // PKCS#10, DER, signed by the holder of the key
	// Role of the mount that sets the names; "": they, and the extensions, are taken from
	// the request as they stand there.
	Role       string
	CommonName string // with a role
	NotAfter   time.Time
	// Names of crypto/x509's constants; of those without a role, and not in the request.
	KeyUsage, ExtKeyUsage []string
}

// Issuer returns the certificate (DER) that the mount issues with by default.
func (c *Client) Issuer(ctx context.Context) ([]byte, error) {
	return c.Certificate(ctx, "ca")
}

// Certificate returns one the mount has issued (DER), by Serial. ErrNotFound.
func (c *Client) Certificate(ctx context.Context, serial string) ([]byte, error) {
	answer, err := c.api.Logical().ReadWithContext(ctx, c.path("cert", serial))
	if err != nil {
		return nil, c.fault(ctx, err)
	}
	return inPEM(answer, "CERTIFICATE")
}

// Sign has a certificate issued, and returns its DER: nobody has looked at it yet.
func (c *Client) Sign(ctx context.Context, o Order) ([]byte, error) {
	body := map[string]any{
		"csr":       string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: o.Request})),
		"not_after": o.NotAfter.UTC().Format(time.RFC3339),
	}
	path := segments(c.cfg.Mount) + "/sign-verbatim"
	if o.Role != "" {
		path = c.path("sign", o.Role)
		body["common_name"], body["exclude_cn_from_sans"] = o.CommonName, true
	} else {
		body["key_usage"], body["ext_key_usage"] = o.KeyUsage, o.ExtKeyUsage
	}
	answer, err := c.api.Logical().WriteWithContext(ctx, path, body)
	if err != nil {
		return nil, c.fault(ctx, err)
	}
	return inPEM(answer, "CERTIFICATE")
}

// Revoke has the mount revoke a certificate; one that is revoked, or has ended, stays so.
func (c *Client) Revoke(ctx context.Context, serial string) error {
	return c.revoke(ctx, map[string]any{"serial_number": serial})
}

// RevokeShown is Revoke for a certificate (DER) that the mount issued and may not have
// kept. Vault takes that since 1.12.
func (c *Client) RevokeShown(ctx context.Context, der []byte) error {
	return c.revoke(ctx, map[string]any{"certificate": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))})
}

func (c *Client) revoke(ctx context.Context, which map[string]any) error {
	_, err := c.api.Logical().WriteWithContext(ctx, segments(c.cfg.Mount)+"/revoke", which)
	if err != nil {
		return c.fault(ctx, err)
	}
	return nil
}

// Revocations returns the mount's revocation list (DER).
func (c *Client) Revocations(ctx context.Context) ([]byte, error) {
	answer, err := c.api.Logical().ReadWithContext(ctx, c.path("cert", "crl"))
	if err != nil {
		return nil, c.fault(ctx, err)
	}
	return inPEM(answer, "X509 CRL")
}

// Serials returns the octets of those of the certificates that the mount keeps.
func (c *Client) Serials(ctx context.Context) ([][]byte, error) {
	answer, err := c.api.Logical().ListWithContext(ctx, segments(c.cfg.Mount)+"/certs")
	if err != nil {
		return nil, c.fault(ctx, err)
	}
	if answer == nil {
		return nil, nil
	}
	list, ok := answer.Data["keys"].([]any)
	if !ok && answer.Data["keys"] != nil {
		return nil, errors.New("the answer of Vault is no list of serial numbers")
	}
	var serials [][]byte
	for _, one := range list {
		text, ok := one.(string)
		raw, err := hex.DecodeString(strings.NewReplacer(":", "", "-", "").Replace(text))
		if !ok || err != nil {
			return nil, errors.New("the answer of Vault is no list of serial numbers")
		}
		serials = append(serials, raw)
	}
	return serials, nil
}

// Serial writes the octets of a serial number as the mount has them in its paths.
func Serial(octets []byte) string {
	parts := make([]string, len(octets))
	for i, b := range octets {
		parts[i] = hex.EncodeToString([]byte{b})
	}
	return strings.Join(parts, "-")
}

// inPEM is the one block that an answer has as its certificate.
func inPEM(answer *api.Secret, kind string) ([]byte, error) {
	if answer == nil {
		return nil, ErrNotFound
	}
	text, _ := answer.Data["certificate"].(string)
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("the answer of Vault has no %s", strings.ToLower(kind))
	}
	return block.Bytes, nil
}
