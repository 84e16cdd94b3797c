package approval

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"slices"
	"time"

	"github.com/smallstep/pkcs7"
)

// hashes a CMS signature may use (RFC 5754).
var hashes = []asn1.ObjectIdentifier{pkcs7.OIDDigestAlgorithmSHA256, pkcs7.OIDDigestAlgorithmSHA384, pkcs7.OIDDigestAlgorithmSHA512}

// parseCMS reads a SignedData of one signer, PEM or DER.
func parseCMS(data []byte) (*pkcs7.PKCS7, error) {
	if block, rest := pem.Decode(data); block != nil {
		if block.Type != "CMS" && block.Type != "PKCS7" || len(bytes.TrimSpace(rest)) > 0 {
			return nil, errors.New("signature is a PEM file of something else: sign with `openssl cms -sign -binary -outform PEM`")
		}
		data = block.Bytes
	}
	p, err := pkcs7.Parse(data)
	if err != nil {
		return nil, errors.New("signature is neither an SSH signature nor CMS, PEM or DER")
	}
	if len(p.Signers) != 1 {
		return nil, errors.New("CMS signature needs one signer: let each person sign by themselves")
	}
	if !slices.ContainsFunc(hashes, p.Signers[0].DigestAlgorithm.Algorithm.Equal) {
		return nil, errors.New("CMS signature uses an old hash: sign with -md sha256")
	}
	return p, nil
}

func checkCMS(signature []byte) check {
	parsed, err := parseCMS(signature)
	if err != nil {
		return func(*Key, []byte, time.Time) (bool, error) { return false, err }
	}
	return func(k *Key, statement []byte, now time.Time) (bool, error) {
		if k.Kind != KindX509 {
			return false, nil
		}
		cert, err := x509.ParseCertificate(k.Data)
		if err != nil {
			return false, nil //nolint:nilerr // it was read when it was registered; what can't be read any more is nobody's
		}
		signer := parsed.Signers[0].IssuerAndSerialNumber
		if signer.SerialNumber == nil || signer.SerialNumber.Cmp(cert.SerialNumber) != 0 || !bytes.Equal(signer.IssuerName.FullBytes, cert.RawIssuer) {
			return false, nil
		}
		return true, verifyCMS(parsed, cert, statement, now)
	}
}

// verifyCMS checks the signature by the registered certificate, whatever
// certificates came with it.
func verifyCMS(parsed *pkcs7.PKCS7, cert *x509.Certificate, statement []byte, now time.Time) error {
	if now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
		return errors.New("the registered certificate isn't valid at this time")
	}
	// OpenSSL without -binary signs with CR LF at the line ends.
	forms := [][]byte{statement, bytes.ReplaceAll(statement, []byte("\n"), []byte("\r\n"))}
	for _, form := range forms {
		if len(parsed.Content) > 0 && !bytes.Equal(parsed.Content, form) {
			continue
		}
		one := *parsed
		one.Content, one.Certificates = form, []*x509.Certificate{cert}
		if one.Verify() == nil {
			return nil
		}
	}
	return errors.New("it isn't over this statement: sign what `--print` prints, byte for byte")
}
