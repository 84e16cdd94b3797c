package keys

import (
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"

	"go.step.sm/crypto/kms/apiv1"
	"go.step.sm/crypto/kms/pkcs11"
	stepuri "go.step.sm/crypto/kms/uri"
)

// kms is a token as pkcs11.PKCS11 serves it.
type kms interface {
	CreateKey(*apiv1.CreateKeyRequest) (*apiv1.CreateKeyResponse, error)
	CreateSigner(*apiv1.CreateSignerRequest) (crypto.Signer, error)
	Close() error
}

// kmsLogin is one logged-in token.
type kmsLogin struct {
	kms
	at  hsmLocation
	pin []byte
}

func (l kmsLogin) create(name string, role Role, alg Algorithm) (crypto.PublicKey, error) {
	request := &apiv1.CreateKeyRequest{Name: hsmObject(name, role)}
	switch alg {
	case P256:
		request.SignatureAlgorithm = apiv1.ECDSAWithSHA256
	case P384:
		request.SignatureAlgorithm = apiv1.ECDSAWithSHA384
	case P521:
		request.SignatureAlgorithm = apiv1.ECDSAWithSHA512
	case RSA2048:
		request.SignatureAlgorithm, request.Bits = apiv1.SHA256WithRSA, 2048
	case RSA3072:
		request.SignatureAlgorithm, request.Bits = apiv1.SHA256WithRSA, 3072
	}
	made, err := l.CreateKey(request)
	if err != nil {
		return nil, err
	}
	return made.PublicKey, nil
}

func (l kmsLogin) find(name string, role Role) (crypto.Signer, error) {
	signer, err := l.CreateSigner(&apiv1.CreateSignerRequest{SigningKey: hsmObject(name, role)})
	if errors.As(err, new(apiv1.NotFoundError)) {
		return nil, ErrNotFound
	}
	return signer, err
}

// dialHSM opens a token and logs in. The PIN goes to the library beside the
// URI, never in it: the library's errors repeat URIs.
func dialHSM(at hsmLocation, pin []byte) (hsm, error) {
	opened, err := pkcs11.New(context.Background(), apiv1.Options{
		Type: apiv1.PKCS11,
		URI: stepuri.New(SchemeHSM, url.Values{
			"module-path": {at.library}, at.selector: {at.token}, "max-sessions": {fmt.Sprint(hsmCalls + 2)},
		}).String(),
		Pin: string(pin),
	})
	if err != nil {
		return nil, err
	}
	return kmsLogin{opened, at, pin}, nil
}

// hsmObject names a key in a token. The id is derived from the label, because
// PKCS#11 pairs private and public halves by id.
func hsmObject(name string, role Role) string {
	label := label(name, role, ":")
	id := sha256.Sum256([]byte(label))
	return stepuri.New(SchemeHSM, url.Values{"id": {"0x" + hex.EncodeToString(id[:16])}, "object": {label}}).String()
}
