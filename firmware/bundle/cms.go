package bundle

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"

	"github.com/smallstep/pkcs7"

	"bollard/firmware/release"
)

// CMSDialect is the form of the signature inside a CMS by a key.
func CMSDialect(public crypto.PublicKey) release.Dialect {
	if _, ec := public.(*ecdsa.PublicKey); ec {
		return release.ECDSAP256
	}
	return release.RSAPKCS1 // what every verifier of CMS takes
}

// EncodeCMS puts a signature of an image in CMSDialect into a detached SignedData
// (RFC 5652), DER, with the signer's certificate and CAs above it. There are no
// signed attributes: what the key signs is always a whole file, so that no part of
// a CMS passes as another one, and an image never has to be in memory.
func EncodeCMS(chain []*x509.Certificate, signature []byte) ([]byte, error) {
	sd, err := pkcs7.NewSignedData(nil)
	if err == nil {
		sd.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
		err = sd.SignWithoutAttr(chain[0], made{chain[0].PublicKey, signature}, pkcs7.SignerInfoConfig{})
	}
	if err != nil {
		return nil, fmt.Errorf("couldn't make the CMS: %w", err)
	}
	for _, above := range chain[1:] {
		sd.AddCertificate(above)
	}
	sd.Detach()
	der, err := sd.Finish()
	if err != nil {
		return nil, fmt.Errorf("couldn't make the CMS: %w", err)
	}
	return der, nil
}

// made is a signer whose signature was made before.
type made struct {
	public    crypto.PublicKey
	signature []byte
}

func (m made) Public() crypto.PublicKey { return m.public }

func (m made) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return m.signature, nil }

// checkCMS takes what EncodeCMS writes of a good signature, byte for byte: BER,
// further signers and bytes behind it would be read differently by others.
func checkCMS(der []byte, chain []*x509.Certificate, digest [sha256.Size]byte) error {
	p, err := pkcs7.Parse(der)
	if err != nil || len(p.Signers) != 1 {
		return errors.New("it isn't a CMS SignedData of one signer")
	}
	signature := p.Signers[0].EncryptedDigest
	again, err := EncodeCMS(chain, signature)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, der) {
		return errors.New("it isn't the detached CMS that was made for this certificate and chain")
	}
	return CMSDialect(chain[0].PublicKey).Verify(chain[0].PublicKey, digest, signature)
}
