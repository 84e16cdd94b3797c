package keys

import (
	"crypto"

	"go.step.sm/crypto/kms/apiv1"
)

// CloudBuilt says whether the tests are those of a program with the clouds.
const CloudBuilt = cloudBuilt

// HSM is what a stand-in for a hardware security module implements.
type HSM interface {
	CreateKey(*apiv1.CreateKeyRequest) (*apiv1.CreateKeyResponse, error)
	CreateSigner(*apiv1.CreateSignerRequest) (crypto.Signer, error)
	Close() error
}

// SetHSM replaces the PKCS#11 library.
func SetHSM(k *Keeper, dial func() (HSM, error)) {
	k.hsm.dial = func(place, []byte) (hsm, error) {
		h, err := dial()
		if err != nil {
			return nil, err
		}
		return kmsLogin{kms: h}, nil
	}
}
