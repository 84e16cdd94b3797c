// Package signature is the contract of crypto.Signer for keys that sign elsewhere.
//
// It promises that what verifies is a signature by the key, over the digest, in the
// scheme that was asked for.
package signature

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
)

// PSS says whether RSA is asked for as PSS, else as PKCS #1 v1.5. A salt is always as
// long as the hash: verifiers that demand this refuse others, and what signs elsewhere
// can rarely choose.
func PSS(opts crypto.SignerOpts) (bool, error) {
	pss, ok := opts.(*rsa.PSSOptions)
	if !ok {
		return false, nil
	}
	if n := pss.SaltLength; n != rsa.PSSSaltLengthEqualsHash && n != rsa.PSSSaltLengthAuto && n != opts.HashFunc().Size() {
		return true, errors.New("a salt of PSS is as long as the hash")
	}
	return true, nil
}

// Verifies is false for any key but ECDSA's and RSA's.
func Verifies(public crypto.PublicKey, digest, sig []byte, opts crypto.SignerOpts) bool {
	switch public := public.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(public, digest, sig)
	case *rsa.PublicKey:
		if _, pss := opts.(*rsa.PSSOptions); pss {
			return rsa.VerifyPSS(public, opts.HashFunc(), digest, sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		}
		return rsa.VerifyPKCS1v15(public, opts.HashFunc(), digest, sig) == nil
	}
	return false
}
