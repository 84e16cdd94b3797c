package release

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"bollard/ocpp"
)

// PayloadType of a release in an envelope; signed with it.
const PayloadType = "application/vnd.bollard.release.v1+json"

// maxEnvelope bounds what is read as an envelope: Base64 makes four of three.
const maxEnvelope = 2*MaxSize + 64<<10

// envelopeDialect is the form of signatures in envelopes. Nobody but programs
// like this one verifies those, so RSA is PSS.
func envelopeDialect(public crypto.PublicKey) Dialect {
	if _, ok := public.(*ecdsa.PublicKey); ok {
		return ECDSAP256
	}
	return RSAPSS
}

// holder signs and verifies envelopes as the holder of a certificate, whose
// fingerprint is the key's name.
type holder struct {
	cert   *x509.Certificate
	signer crypto.Signer
	random io.Reader
}

func (h holder) KeyID() (string, error)   { return Fingerprint(h.cert), nil }
func (h holder) Public() crypto.PublicKey { return h.cert.PublicKey }

func (h holder) Sign(_ context.Context, message []byte) ([]byte, error) {
	digest := sha256.Sum256(message)
	return h.signer.Sign(h.random, digest[:], envelopeDialect(h.cert.PublicKey).Options())
}

func (h holder) Verify(_ context.Context, message, signature []byte) error {
	return envelopeDialect(h.cert.PublicKey).Verify(h.cert.PublicKey, sha256.Sum256(message), signature)
}

// Seal signs a payload and its type in an envelope (DSSE 1.0).
func Seal(ctx context.Context, payloadType string, payload []byte, cert *x509.Certificate, signer crypto.Signer, random io.Reader) ([]byte, error) {
	s, err := dsse.NewEnvelopeSigner(holder{cert, signer, random})
	if err != nil {
		return nil, fmt.Errorf("couldn't make the envelope: %w", err)
	}
	e, err := s.SignPayload(ctx, payloadType, payload)
	if err != nil {
		return nil, fmt.Errorf("couldn't sign the envelope: %w", err)
	}
	text, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("couldn't write the envelope: %w", err)
	}
	return append(text, '\n'), nil
}

// Unseal returns the payload of an envelope of the type given, signed by the
// certificate's key. Whether that is trusted isn't asked.
func Unseal(ctx context.Context, payloadType string, envelope []byte, cert *x509.Certificate) ([]byte, error) {
	if len(envelope) > maxEnvelope {
		return nil, fmt.Errorf("envelope has more than %d bytes", maxEnvelope)
	}
	var e dsse.Envelope
	if err := ocpp.DecodeStrict(envelope, &e); err != nil {
		return nil, errors.New("couldn't read the envelope: it isn't a DSSE envelope in strict JSON")
	}
	if e.PayloadType != payloadType {
		return nil, fmt.Errorf("envelope holds %.100q, not %s", e.PayloadType, payloadType)
	}
	v, err := dsse.NewEnvelopeVerifier(holder{cert: cert})
	if err != nil {
		return nil, fmt.Errorf("couldn't verify the envelope: %w", err)
	}
	_, payload, err := v.VerifyAndDecode(ctx, &e)
	if err != nil {
		return nil, errors.New("envelope isn't signed by the signing certificate's key: it was altered, or signed by somebody else")
	}
	return payload, nil
}

// Open reads a release out of its envelope.
func Open(ctx context.Context, envelope []byte, cert *x509.Certificate) (*Release, error) {
	payload, err := Unseal(ctx, PayloadType, envelope, cert)
	if err != nil {
		return nil, err
	}
	return Parse(payload)
}
