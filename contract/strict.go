package contract

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"

	"bollard/ca"
	"bollard/iso15118/message"
	"bollard/iso15118/signature"
)

// purpose is what the leaf of a chain is to prove.
type purpose struct {
	p     message.Protocol
	kind  ca.Kind // own hierarchy whose roots count
	use   string  // trusted roots that count
	usage x509.KeyUsage
}

// agreeing: the key opens an envelope, too ([V2G2-822], [V2G20-822]).
const agreeing = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyAgreement

// strictly are the paths of a verified chain in which every certificate has what the
// profiles of its edition demand (ISO 15118-2 annex F, -20 annex B), and if there is none
// what is lacking.
func (s *Service) strictly(to purpose, paths [][]*x509.Certificate) (good [][]*x509.Certificate, lacks string) {
	for _, path := range paths {
		if fault := s.strictPath(to, path); fault != "" {
			lacks = fault
			continue
		}
		good = append(good, path)
	}
	return good, lacks
}

func (s *Service) strictPath(to purpose, path []*x509.Certificate) string {
	longest := 3 // [V2G2-009]
	if to.p == message.ISO20 {
		longest = 4 // with a cross certificate
	}
	below := path[:len(path)-1]
	if len(below) > longest {
		return fmt.Sprintf("%d certificates below the root, %d may be", len(below), longest)
	}
	for i, cert := range below {
		if fault := s.strictCertificate(to, cert, path[i+1], i > 0); fault != "" {
			return fmt.Sprintf("certificate %s %s", ca.SerialOf(cert), fault)
		}
	}
	return ""
}

func (s *Service) strictCertificate(to purpose, cert, by *x509.Certificate, authority bool) string {
	usage, most := to.usage, 800 // [V2G2-010]
	if authority {
		usage = x509.KeyUsageCertSign
	}
	if to.p == message.ISO20 {
		most = 1600
	}
	suite, err := signature.SuiteOf(by.PublicKey)
	switch {
	case !s.fits(to.p, cert) || err != nil || !s.fits(to.p, by):
		return fmt.Sprintf("has or is signed by a key that isn't one of %s", to.p)
	case suite == signature.Ed448: // no path has another signature
	case cert.SignatureAlgorithm != certificateSignatures[suite]:
		return fmt.Sprintf("is signed with %s, a key of %s signs with %s", cert.SignatureAlgorithm, suite, certificateSignatures[suite])
	case !cert.BasicConstraintsValid || !critical(cert, oidBasicConstraints):
		return "lacks critical basic constraints"
	case !critical(cert, oidKeyUsage) || cert.KeyUsage&usage != usage:
		return fmt.Sprintf("lacks key usages: it has %#x, %#x are demanded, critical", int(cert.KeyUsage), int(usage))
	case len(cert.SubjectKeyId) == 0:
		return "has no subject key identifier"
	case len(cert.Raw) > most:
		return fmt.Sprintf("has %d bytes, at most %d are taken by cars", len(cert.Raw), most)
	case slices.ContainsFunc(cert.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidNameConstraints) || e.Id.Equal(oidPolicyMappings) }):
		return "has name constraints or policy mappings"
	}
	return ""
}

// certificateSignatures are those of certificates, by the key that signs ([V2G2-006],
// [V2G20-2674]).
var certificateSignatures = map[signature.Suite]x509.SignatureAlgorithm{
	signature.P256: x509.ECDSAWithSHA256, signature.P521: x509.ECDSAWithSHA512,
}

// RFC 5280 §4.2.1.
var (
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidNameConstraints  = asn1.ObjectIdentifier{2, 5, 29, 30}
	oidPolicyMappings   = asn1.ObjectIdentifier{2, 5, 29, 33}
)

func critical(cert *x509.Certificate, id asn1.ObjectIdentifier) bool {
	return slices.ContainsFunc(cert.Extensions, func(e pkix.Extension) bool { return e.Critical && e.Id.Equal(id) })
}
