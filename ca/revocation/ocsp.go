package revocation

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"golang.org/x/crypto/ocsp"

	"bollard/ocpp"
)

const (
	// clockSkew is how far a responder's clock may be ahead.
	clockSkew = 5 * time.Minute
	// embeddedCertificates bounds those looked at in one response.
	embeddedCertificates = 8
)

// answer is an OCSP response in force.
type answer struct {
	der      []byte
	status   int // of package ocsp
	next     time.Time
	verified bool // signed for an issuer Bollard knows
}

// word is OCPP's for the status.
func (a answer) word() string {
	switch a.status {
	case ocsp.Good:
		return ocpp.CertificateGood
	case ocsp.Revoked:
		return ocpp.CertificateRevoked
	}
	return ocpp.CertificateUnknown
}

// OCSPResponse as far as package ocsp doesn't show it (RFC 6960 §4.2.1).
type (
	rawOCSP struct {
		Status asn1.Enumerated
		Bytes  struct {
			Type  asn1.ObjectIdentifier
			Basic []byte
		} `asn1:"explicit,tag:0,optional"`
	}
	rawBasic struct {
		Data struct {
			Version   int `asn1:"explicit,tag:0,optional,default:0"`
			Responder asn1.RawValue
			Produced  time.Time `asn1:"generalized"`
			Responses []rawSingle
		}
		Algorithm    pkix.AlgorithmIdentifier
		Signature    asn1.BitString
		Certificates []asn1.RawValue `asn1:"explicit,tag:0,optional"`
	}
	rawSingle struct{ ID rawCertID }
	rawCertID struct {
		Algorithm pkix.AlgorithmIdentifier
		NameHash  []byte
		KeyHash   []byte
		Serial    *big.Int
	}
)

// hashOID names the algorithm of a CertID (RFC 5754 §2).
func hashOID(h crypto.Hash) asn1.ObjectIdentifier {
	oid := asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 0}
	switch h {
	case crypto.SHA256:
		oid[8] = 1
	case crypto.SHA384:
		oid[8] = 2
	case crypto.SHA512:
		oid[8] = 3
	}
	return oid
}

// readOCSP checks an OCSP response: it is about the subject, in force, and
// signed for the subject's issuer if that is known. The signature of an unknown
// issuer's response is for the station to check: it has the chain.
func readOCSP(der []byte, s subject, known issuers, now time.Time) (answer, error) {
	embedded, err := s.about(der)
	if err != nil {
		return answer{}, err
	}
	r, err := ocsp.ParseResponseForCert(der, &x509.Certificate{SerialNumber: s.serial}, nil)
	if err != nil {
		return answer{}, fmt.Errorf("couldn't read the OCSP response: %w", err)
	}
	switch {
	case r.ThisUpdate.After(now.Add(clockSkew)):
		return answer{}, errors.New("the OCSP response is of the future")
	case !r.NextUpdate.IsZero() && !now.Before(r.NextUpdate):
		return answer{}, errors.New("the OCSP response is stale")
	case r.NextUpdate.IsZero() && now.Sub(r.ThisUpdate) > longest:
		return answer{}, errors.New("the OCSP response is old and says not when there is a newer one")
	}
	a := answer{der: der, status: r.Status, next: r.NextUpdate}
	issuer := known.of(s, embedded, now)
	if issuer == nil {
		if known.proven {
			return answer{}, errors.New("the OCSP response is of another issuer")
		}
		return a, nil
	}
	if err := signedFor(r, issuer, now); err != nil {
		return answer{}, err
	}
	a.verified = true
	return a, nil
}

// about checks that everything in a response with the subject's serial number
// is of its issuer, and returns the certificates that came along.
func (s subject) about(der []byte) ([]*x509.Certificate, error) {
	var outer rawOCSP
	if rest, err := asn1.Unmarshal(der, &outer); err != nil || len(rest) > 0 {
		return nil, errors.New("couldn't read the OCSP response: it isn't DER")
	}
	if outer.Status != 0 {
		return nil, fmt.Errorf("the responder answered %s", ocsp.ResponseStatus(outer.Status))
	}
	var basic rawBasic
	if rest, err := asn1.Unmarshal(outer.Bytes.Basic, &basic); err != nil || len(rest) > 0 {
		return nil, errors.New("couldn't read the OCSP response: it has no basic response")
	}
	found := false
	for _, single := range basic.Data.Responses {
		id := single.ID
		if id.Serial == nil || id.Serial.Cmp(s.serial) != 0 {
			continue
		}
		if !id.Algorithm.Algorithm.Equal(hashOID(s.hash)) || !bytes.Equal(id.NameHash, s.nameHash) || !bytes.Equal(id.KeyHash, s.keyHash) {
			return nil, errors.New("the OCSP response is about a certificate of another issuer")
		}
		found = true
	}
	if !found {
		return nil, errors.New("the OCSP response is about another certificate")
	}
	var embedded []*x509.Certificate
	for _, raw := range basic.Certificates[:min(len(basic.Certificates), embeddedCertificates)] {
		if cert, err := x509.ParseCertificate(raw.FullBytes); err == nil {
			embedded = append(embedded, cert)
		}
	}
	return embedded, nil
}

// signedFor checks who signed: the issuer, or one it delegated to (RFC 6960
// §4.2.2.2). Package ocsp has checked the signature against the certificate
// that came along.
func signedFor(r *ocsp.Response, issuer *x509.Certificate, now time.Time) error {
	signer := r.Certificate
	switch {
	case signer == nil:
		if err := r.CheckSignatureFrom(issuer); err != nil {
			return fmt.Errorf("the OCSP response isn't signed by the issuer: %w", err)
		}
		return nil
	case bytes.Equal(signer.Raw, issuer.Raw):
		return nil
	}
	if err := signer.CheckSignatureFrom(issuer); err != nil {
		return fmt.Errorf("the OCSP responder's certificate isn't of the issuer: %w", err)
	}
	switch {
	case !slices.Contains(signer.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning):
		return errors.New("the OCSP responder's certificate isn't for OCSP signing")
	case now.Before(signer.NotBefore) || now.After(signer.NotAfter):
		return errors.New("the OCSP responder's certificate isn't valid now")
	}
	return nil
}
