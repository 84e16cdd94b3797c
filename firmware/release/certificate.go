package release

import (
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"
)

// MaxCertificate is the length of OCPP's field signingCertificate in characters.
const MaxCertificate = 5500

var oidKeyUsage = asn1.ObjectIdentifier{2, 5, 29, 15}

// CheckCertificate says what a firmware signing certificate isn't as it must be.
// Stations look at little of it (no EKU, no revocation); whoever verifies CMS
// wants emailProtection, so that is asked of a certificate that signs CMS too.
func CheckCertificate(cert *x509.Certificate, cms bool) error {
	var faults []error
	demand := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf("signing certificate: "+format, args...))
		}
	}
	err := CheckKey(cert.PublicKey)
	demand(err == nil, "%v", err)
	demand(!cert.IsCA && cert.KeyUsage&x509.KeyUsageCertSign == 0, "it is a CA's (CA:TRUE or keyCertSign): issue one for signing firmware alone")
	critical := slices.ContainsFunc(cert.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidKeyUsage) && e.Critical })
	demand(cert.KeyUsage&x509.KeyUsageDigitalSignature != 0 && critical, "keyUsage isn't critical with digitalSignature")
	demand(len(cert.Subject.Organization) == 1 && cert.Subject.CommonName != "", "its subject needs the manufacturer as O, and a CN such as product line and key generation")
	// A certificate without the extension is good for anything: a device's own,
	// under the same root, would sign firmware.
	demand(slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageCodeSigning), "extendedKeyUsage isn't codeSigning")
	demand(!cms || slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageEmailProtection), "extendedKeyUsage isn't emailProtection beside codeSigning, which RAUC and SWUpdate look for")
	demand(len(EncodeCertificate(cert)) <= MaxCertificate, "as PEM it has more than the %d characters of OCPP's field", MaxCertificate)
	return errors.Join(faults...)
}

// CheckLife says whether a certificate is good while a release can be installed:
// stations refuse an expired signer even for an old good file.
func (r *Release) CheckLife(cert *x509.Certificate) error {
	if cert.NotBefore.After(r.NotBefore) || cert.NotAfter.Before(r.Expires) {
		return fmt.Errorf("signing certificate is valid from %s to %s, the release from %s to %s: stations refuse it outside of both",
			day(cert.NotBefore), day(cert.NotAfter), day(r.NotBefore), day(r.Expires))
	}
	return nil
}

func day(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// EncodeCertificate is a certificate as OCPP carries it: one PEM block, lines end
// with LF. Some stations throw at a second block.
func EncodeCertificate(cert *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
}

// DecodeCertificate reads what EncodeCertificate writes, byte for byte.
func DecodeCertificate(text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil || len(text) > MaxCertificate {
		return nil, errors.New("it isn't one certificate in PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the certificate: %w", err)
	}
	if string(EncodeCertificate(cert)) != string(text) {
		return nil, errors.New("it isn't exactly one PEM block with LF line ends and nothing around it, which is what stations read")
	}
	return cert, nil
}

// VerifyChain checks that a signing certificate leads to one of the manufacturer's
// roots at a time, for signing code, over CAs that may certify (RFC 5280 §6.1: dates,
// path length, name constraints, key usage, and extended key usage within that of the
// CA above). It returns every such way, the signer first.
func VerifyChain(cert *x509.Certificate, between, roots []*x509.Certificate, at time.Time) ([][]*x509.Certificate, error) {
	o := x509.VerifyOptions{Roots: pool(roots), Intermediates: pool(between), CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}
	chains, err := cert.Verify(o)
	if err == nil {
		chains = slices.DeleteFunc(chains, func(chain []*x509.Certificate) bool { return slices.ContainsFunc(chain[1:], weak) })
		if len(chains) == 0 {
			err = errors.New("a CA above it has an RSA key of less than 2048 bits")
		}
	}
	if err != nil {
		return nil, fmt.Errorf("signing certificate doesn't lead to a trusted root: %w", err)
	}
	return chains, nil
}

// weak says whether a CA's key is below what OCPP asks (A00.FR.501). Elliptic curves
// that Go knows aren't.
func weak(ca *x509.Certificate) bool {
	key, ok := ca.PublicKey.(*rsa.PublicKey)
	return ok && key.N.BitLen() < 2048
}

// MaxAbove is how many CAs may come with a signing certificate.
const MaxAbove = 8

// EncodeChain writes the CAs above a signing certificate, nearest first.
func EncodeChain(above []*x509.Certificate) []byte {
	var text []byte
	for _, cert := range above {
		text = append(text, EncodeCertificate(cert)...)
	}
	return text
}

// DecodeChain reads what EncodeChain writes, byte for byte, of CAs each of which the
// next one certified.
func DecodeChain(text []byte) ([]*x509.Certificate, error) {
	var above []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if len(above) == MaxAbove {
			return nil, fmt.Errorf("it has more than %d certificates", MaxAbove)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("couldn't read a certificate: %w", err)
		}
		above = append(above, cert)
	}
	if len(above) == 0 || string(EncodeChain(above)) != string(text) {
		return nil, errors.New("it isn't certificates in PEM and nothing else")
	}
	for i, ca := range above[1:] {
		if err := above[i].CheckSignatureFrom(ca); err != nil {
			return nil, fmt.Errorf("certificate %d wasn't issued by the next: %w", i+1, err)
		}
	}
	return above, nil
}

func pool(certs []*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range certs {
		p.AddCert(c)
	}
	return p
}
