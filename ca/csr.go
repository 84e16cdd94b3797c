package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"slices"

	"github.com/cloudflare/circl/sign/ed448"

	"bollard/ca/quality"
	"bollard/internal/curve448"
)

// maxCSR bounds a request in any form. OCPP allows 5500 characters; stations
// that pass it a little are tolerated.
const maxCSR = 8 << 10

// CSR is a checked PKCS#10 request: its signature verified.
type CSR struct {
	Key          ProvenKey
	CommonName   string   // as asked; never used for the certificate
	Organisation []string // as asked; never used for the certificate
	CA           bool     // asks to be a CA's; never used for the certificate
	// Evidence says where its key is, in the form of attest.ParseEvidence, unjudged; nil
	// without.
	Evidence []byte
	DER      []byte
}

// CSRFault is the kind of a refusal, for metrics and tests.
type CSRFault string

// The faults of a request.
const (
	CSRTooLarge           CSRFault = "too-large"
	CSRForm               CSRFault = "form"      // neither DER, PEM nor hex
	CSRMalformed          CSRFault = "malformed" // no PKCS#10
	CSRSignatureAlgorithm CSRFault = "signature-algorithm"
	CSRSignature          CSRFault = "signature" // no proof of possession
	CSRKey                CSRFault = "key"       // a key no profile allows
)

// CSRError says why a request is refused. Its text holds nothing of the
// request but algorithm names and sizes.
type CSRError struct {
	Fault  CSRFault
	Reason string
}

func (e *CSRError) Error() string { return "certificate request refused: " + e.Reason }

// ParseCSR reads a PKCS#10 request as DER, PEM or (white paper edition 1)
// hex of DER, verifies its signature and refuses keys no profile allows. The
// error is a *CSRError.
func ParseCSR(raw []byte) (CSR, error) { return parseCSR(raw, false) }

// ParseCSR is the function of that name, which takes a key on Ed448, too, where that
// counts (Config.Curves20).
func (a *Authority) ParseCSR(raw []byte) (CSR, error) {
	return parseCSR(raw, slices.Contains(a.Keys20(), ClassEd448))
}

func parseCSR(raw []byte, on448 bool) (CSR, error) {
	der, err := unwrapCSR(raw)
	if err != nil {
		return CSR{}, err
	}
	req := plainRequest(der)
	if req == nil {
		req, err = x509.ParseCertificateRequest(der)
	}
	if err != nil || !strongRequest(req) {
		// Ours to take apart: why not, or Ed448.
		outer, fault := peekCSR(der, on448)
		switch {
		case fault != nil:
			return CSR{}, fault
		case err != nil:
			// The library's text may quote the request.
			return CSR{}, &CSRError{CSRMalformed, "it isn't a readable PKCS#10 request (" + outer.describe() + ")"}
		case outer.Info.Key.Algorithm.Algorithm.Equal(curve448.OID):
			return check448(req, outer)
		}
		return CSR{}, &CSRError{CSRSignatureAlgorithm, fmt.Sprintf("its signature algorithm %s isn't allowed (SHA-256 or better, A00.FR.506)", outer.Signature.Algorithm)}
	}
	// P-224 is for Prepare to judge: it depends on whose request it is.
	if err := checkKey(req.PublicKey, quality.Policy{P224: true}); err != nil {
		return CSR{}, &CSRError{CSRKey, err.Error()}
	}
	if err := req.CheckSignature(); err != nil {
		return CSR{}, &CSRError{CSRSignature, "its signature doesn't verify: the sender hasn't shown to have the private key"}
	}
	return checkedCSR(req, req.PublicKey)
}

// strongRequest: of a key on RSA or a NIST curve, signed with SHA-256 or better.
func strongRequest(req *x509.CertificateRequest) bool {
	switch req.PublicKey.(type) {
	case *ecdsa.PublicKey, *rsa.PublicKey:
	default:
		return false
	}
	switch req.SignatureAlgorithm {
	case x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512,
		x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA,
		x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS:
		return true
	}
	return false
}

func checkedCSR(req *x509.CertificateRequest, public crypto.PublicKey) (CSR, error) {
	key, err := proven(public)
	if err != nil {
		return CSR{}, &CSRError{CSRKey, "its key can't be encoded"}
	}
	key.request = req.Raw
	evidence, err := evidenceIn(req)
	if err != nil {
		return CSR{}, err
	}
	return CSR{
		Key:          key,
		CommonName:   req.Subject.CommonName,
		Organisation: req.Subject.Organization,
		CA:           asksForCA(req.Extensions),
		Evidence:     evidence,
		DER:          req.Raw,
	}, nil
}

// check448 verifies a request for a key on Ed448, which crypto/x509 only takes apart.
func check448(req *x509.CertificateRequest, outer csrOutline) (CSR, error) {
	public, err := curve448.PublicKey(req.RawSubjectPublicKeyInfo)
	if err != nil {
		return CSR{}, &CSRError{CSRKey, err.Error()}
	}
	key, ok := public.(ed448.PublicKey)
	switch {
	case !ok:
		return CSR{}, &CSRError{CSRKey, "its key can't be read"}
	case !outer.Signature.Algorithm.Equal(curve448.OID):
		return CSR{}, &CSRError{CSRSignatureAlgorithm, fmt.Sprintf("its signature algorithm %s isn't its key's, Ed448", outer.Signature.Algorithm)}
	case !ed448.Verify(key, req.RawTBSCertificateRequest, req.Signature, ""):
		return CSR{}, &CSRError{CSRSignature, "its signature doesn't verify: the sender hasn't shown to have the private key"}
	}
	return checkedCSR(req, key)
}

// asksForCA looks at basicConstraints (RFC 5280 §4.2.1.9). What can't be read
// may say so to somebody else.
func asksForCA(extensions []pkix.Extension) bool {
	for _, e := range extensions {
		if !e.Id.Equal(oidBasicConstraints) {
			continue
		}
		var constraints struct {
			CA         bool `asn1:"optional"`
			PathLength int  `asn1:"optional,default:-1"`
		}
		rest, err := asn1.Unmarshal(e.Value, &constraints)
		return err != nil || len(rest) > 0 || constraints.CA
	}
	return false
}

// unwrapCSR returns the DER of any of the three forms.
func unwrapCSR(raw []byte) ([]byte, error) {
	if len(raw) > maxCSR {
		return nil, &CSRError{CSRTooLarge, fmt.Sprintf("%d bytes are more than %d", len(raw), maxCSR)}
	}
	trimmed := bytes.TrimSpace(raw)
	switch {
	case len(trimmed) == 0:
		return nil, &CSRError{CSRForm, "it is empty"}
	case bytes.HasPrefix(trimmed, []byte("-----BEGIN ")):
		block, rest := pem.Decode(trimmed)
		if block == nil {
			return nil, &CSRError{CSRForm, "its PEM armour is damaged"}
		}
		if block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST" {
			return nil, &CSRError{CSRForm, "its PEM block isn't a CERTIFICATE REQUEST"}
		}
		if len(bytes.TrimSpace(rest)) != 0 {
			return nil, &CSRError{CSRForm, "there is something after the PEM block; send exactly one request"}
		}
		// pem.Decode skips text and damaged blocks before the one it returns.
		if bytes.Count(trimmed, []byte("-----BEGIN ")) != 1 {
			return nil, &CSRError{CSRForm, "it holds more than one PEM block; send exactly one request"}
		}
		return block.Bytes, nil
	case raw[0] == 0x30 && !isHex(trimmed):
		return bytes.Clone(raw), nil
	case isHex(trimmed):
		der, err := hex.DecodeString(string(trimmed))
		if err != nil {
			return nil, &CSRError{CSRForm, "it has an odd number of hex digits"}
		}
		return der, nil
	}
	return nil, &CSRError{CSRForm, "it is neither DER, PEM nor hex of DER"}
}

// isHex tells hex of DER from DER: '0' is 0x30, the tag of a SEQUENCE, too.
func isHex(b []byte) bool {
	for _, c := range b {
		if !('0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F') {
			return false
		}
	}
	return true
}

// csrOutline is what a refusal needs to know of a request crypto/x509 can't read.
type csrOutline struct {
	Info struct {
		Version int
		Subject asn1.RawValue
		Key     struct {
			Algorithm pkix.AlgorithmIdentifier
			Bits      asn1.BitString
		}
		Attributes asn1.RawValue `asn1:"optional,tag:0"`
	}
	Signature pkix.AlgorithmIdentifier
	Value     asn1.BitString
}

func peekCSR(der []byte, on448 bool) (csrOutline, error) {
	var outer csrOutline
	rest, err := asn1.Unmarshal(der, &outer)
	if err != nil || len(rest) != 0 {
		return outer, &CSRError{CSRMalformed, "it isn't a PKCS#10 request"}
	}
	algorithm := outer.Info.Key.Algorithm
	switch {
	case algorithm.Algorithm.Equal(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}): // rsaEncryption
	case on448 && algorithm.Algorithm.Equal(curve448.OID):
	case algorithm.Algorithm.Equal(asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}): // ecPublicKey
		var curve asn1.ObjectIdentifier
		if _, err := asn1.Unmarshal(algorithm.Parameters.FullBytes, &curve); err != nil {
			return outer, &CSRError{CSRKey, "its elliptic curve isn't a named one"}
		}
		if !allowedCurve(curve) {
			return outer, &CSRError{CSRKey, fmt.Sprintf("elliptic curve %s isn't allowed (allowed: P-256, P-384, P-521)", curve)}
		}
	default:
		return outer, &CSRError{CSRKey, fmt.Sprintf("key type %s isn't allowed (allowed: ECDSA, RSA)", algorithm.Algorithm)}
	}
	return outer, nil
}

func allowedCurve(oid asn1.ObjectIdentifier) bool {
	return oid.Equal(asn1.ObjectIdentifier{1, 3, 132, 0, 33}) || // P-224
		oid.Equal(asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}) || // P-256
		oid.Equal(asn1.ObjectIdentifier{1, 3, 132, 0, 34}) || // P-384
		oid.Equal(asn1.ObjectIdentifier{1, 3, 132, 0, 35}) // P-521
}

func (o csrOutline) describe() string {
	return fmt.Sprintf("key type %s, signature algorithm %s", o.Info.Key.Algorithm.Algorithm, o.Signature.Algorithm)
}
