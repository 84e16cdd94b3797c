package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/cloudflare/circl/sign/ed448"
)

// Names of the profiles.
const (
	ProfileRoot         = "root"
	ProfileIssuing      = "issuing"
	ProfileStation      = "station"
	ProfileServer       = "server"
	ProfileServerCNOnly = "server-cn-only"
	// ProfileCross is a new root's key certified by the old root (M05).
	ProfileCross = "cross"
	// ProfileAnchor is an issuing CA's own self-signed certificate, which
	// stations install as their root.
	ProfileAnchor = "anchor"
	// ProfileOCSP is a delegated OCSP signer (RFC 6960 §4.2.2.2).
	ProfileOCSP = "ocsp"
	// ProfileFirmware is a manufacturer's signer of firmware.
	ProfileFirmware = "firmware-signing"
	// ProfileAttestation is of the attestation key of a station's TPM.
	ProfileAttestation = "attestation-key"
	// ProfileExternal marks records of certificates other CAs issued.
	ProfileExternal = "external"
)

// KeyClass is a kind and size of public key.
type KeyClass string

// The key classes any profile may allow.
const (
	// ClassP224 is legal (A00.FR.503) and no use in TLS 1.3: see Profile.P224.
	ClassP224    KeyClass = "P-224"
	ClassP256    KeyClass = "P-256"
	ClassP384    KeyClass = "P-384"
	ClassP521    KeyClass = "P-521"
	ClassEd448   KeyClass = "Ed448"    // of ISO 15118-20, by configuration ([V2G20-2319])
	ClassRSA2048 KeyClass = "RSA-2048" // 2048 to 3071 bits
	ClassRSA3072 KeyClass = "RSA-3072" // 3072 to 4096 bits
)

// NameRule says what names a profile's certificate carries.
type NameRule string

const (
	namesCA      NameRule = "ca"      // O and CN, no SAN
	namesStation NameRule = "station" // CN = serial number of the station, no SAN (A00.FR.511)
	namesServer  NameRule = "server"  // CN = first name, SAN = all
	namesCNOnly  NameRule = "cn-only" // CN = FQDN, no SAN (A00.FR.510, .511 note)
	namesService NameRule = "service" // O and a CN for people, no SAN
	namesSECC    NameRule = "secc"    // CN = identifier of a station's controller or EVSE, DC
	// namesAttestation: as a station's, and its serial number as permanentIdentifier
	// (RFC 4043), which is what attestation is about.
	namesAttestation NameRule = "attestation"
	// namesMobility: CN = eMAID, PCID or a CN for people, and DC in some.
	namesMobility NameRule = "mobility"
)

// Profile is everything that is the same in all certificates of one purpose.
type Profile struct {
	Name   string
	Role   string // profiles of one role may share a key over time; others never do
	Issuer string // profile of the issuing CA; its own name: self-signed
	CA     bool
	// PathLength is the pathLenConstraint of a CA, -1 for none.
	PathLength int
	Years      int
	Days       int
	Backdate   time.Duration // notBefore lies this much in the past, for slow station clocks
	KeyUsage   x509.KeyUsage
	// KeyUsageRSA is added for RSA keys.
	KeyUsageRSA x509.KeyUsage
	ExtKeyUsage []x509.ExtKeyUsage
	// Purpose is an extended key usage that crypto/x509 has no name for.
	Purpose asn1.ObjectIdentifier
	Names   NameRule
	Keys    []KeyClass
	// P224 allows that curve too, to orders that say their station's model needs it.
	P224 bool
	// RenewAfter is the part of the validity, in percent, after which a
	// certificate is renewed; up to RenewJitter percent earlier, by serial.
	RenewAfter, RenewJitter int
	// What relying parties find of its issuer, if there is a status listener:
	// the revocation list, the OCSP responder, the issuer's certificate
	// (RFC 5280 §4.2.1.13, §4.2.2.1).
	CRL, OCSP, CAIssuers bool
	// Domain is DC of the subject, Country says that it has C: ISO 15118.
	Domain  string
	Country bool
	// ShortKeyID: an 8-byte subject key identifier, as ISO 15118 has it.
	ShortKeyID bool
	// Graded: its policies say what is known of the key (Config.Assurance).
	Graded bool
	// AnyPolicy: a CA that limits nobody's policies says so; one that says nothing ends
	// every path for which a policy is demanded (RFC 5280 §4.2.1.4, §6.1.3 (d), (e)).
	AnyPolicy bool
	// NoCheck tells that its holder's revocation isn't looked up (RFC 6960 §4.2.2.2.1).
	NoCheck bool
}

// everyKey: what stations have today; both kinds are demanded (A00.FR.501 to .503).
var everyKey = []KeyClass{ClassP256, ClassP384, ClassP521, ClassRSA2048, ClassRSA3072}

// profiles is data: a further profile is a further row.
var profiles = withMobility(map[string]Profile{
	ProfileRoot: {
		Name: ProfileRoot, Role: ProfileRoot, Issuer: ProfileRoot,
		CA: true, PathLength: -1, Years: 20, Backdate: time.Hour,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		Names:    namesCA, Keys: everyKey, RenewAfter: 66,
	},
	ProfileIssuing: {
		Name: ProfileIssuing, Role: ProfileIssuing, Issuer: ProfileRoot,
		CA: true, PathLength: 0, Years: 10, Backdate: time.Hour,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		Names:    namesCA, Keys: everyKey, RenewAfter: 66,
		CRL: true, CAIssuers: true, AnyPolicy: true,
	},
	// Its role is the root's: one key, two certificates.
	ProfileCross: {
		Name: ProfileCross, Role: ProfileRoot, Issuer: ProfileRoot,
		CA: true, PathLength: -1, Years: 20, Backdate: time.Hour,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		Names:    namesCA, Keys: everyKey, RenewAfter: 66,
		CRL: true, CAIssuers: true, AnyPolicy: true,
	},
	ProfileAnchor: {
		Name: ProfileAnchor, Role: ProfileIssuing, Issuer: ProfileAnchor,
		CA: true, PathLength: 0, Years: 10, Backdate: time.Hour,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		Names:    namesCA, Keys: everyKey, RenewAfter: 66,
	},
	// Short-lived, since nobody can look up whether it is revoked.
	ProfileOCSP: {
		Name: ProfileOCSP, Role: ProfileOCSP, Issuer: ProfileIssuing,
		Days: 14, Backdate: time.Hour,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning},
		Names:       namesService, Keys: []KeyClass{ClassP256, ClassRSA2048}, RenewAfter: 50, NoCheck: true,
	},
	// Stations don't look for an ExtendedKeyUsage (A00.FR.514), but installers that
	// verify CMS want one: RAUC and SWUpdate emailProtection by default, codeSigning
	// when told so. The keys are those whose signatures stations verify.
	ProfileFirmware: {
		Name: ProfileFirmware, Role: ProfileFirmware, Issuer: ProfileIssuing,
		Years: 3, Backdate: time.Hour,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning, x509.ExtKeyUsageEmailProtection},
		Names:       namesService, Keys: []KeyClass{ClassP256, ClassRSA3072}, RenewAfter: 66,
		CRL: true, OCSP: true, CAIssuers: true,
	},
	// No ExtendedKeyUsage: A00.FR.514 strongly recommends against it, and a
	// certificate without one is good for client authentication everywhere
	// (RFC 5280 §4.2.1.12). That it can't pose as a server comes from its
	// names: a serial number as CN (A00.FR.511) and no SAN. A client key only
	// signs the handshake, so digitalSignature suffices for RSA too.
	ProfileStation: {
		Name: ProfileStation, Role: ProfileStation, Issuer: ProfileIssuing,
		Years: 1, Backdate: time.Hour,
		KeyUsage: x509.KeyUsageDigitalSignature,
		Names:    namesStation, Keys: everyKey, P224: true, Graded: true, RenewAfter: 66, RenewJitter: 6,
		CRL: true, OCSP: true, CAIssuers: true,
	},
	// A restricted key signs what its TPM says, and can't do TLS. Its certificate says
	// so by tcg-kp-AIKCertificate alone (TCG), and isn't under the root of stations.
	ProfileAttestation: {
		Name: ProfileAttestation, Role: ProfileAttestation, Issuer: ProfileIssuing,
		Years: 1, Backdate: time.Hour,
		KeyUsage: x509.KeyUsageDigitalSignature, Purpose: oidAttestationKey,
		Names: namesAttestation, Keys: everyKey, RenewAfter: 66, RenewJitter: 6,
		CRL: true, OCSP: true, CAIssuers: true,
	},
	// Renewed before half its life is over, so that as much again is left to notice
	// that it failed: every station depends on it.
	//
	// serverAuth, against A00.FR.514's recommendation: TLS stacks of today
	// refuse a server without it or treat it as any purpose, and a server key
	// must not pass as a station's. keyEncipherment is what the demanded
	// TLS_RSA_WITH_* suites use (A00.FR.318 and its like).
	ProfileServer: {
		Name: ProfileServer, Role: ProfileServer, Issuer: ProfileIssuing,
		Days: 90, Backdate: time.Hour,
		KeyUsage: x509.KeyUsageDigitalSignature, KeyUsageRSA: x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		Names:       namesServer, Keys: everyKey, RenewAfter: 48, RenewJitter: 2,
		CRL: true, OCSP: true, CAIssuers: true,
	},
	ProfileServerCNOnly: {
		Name: ProfileServerCNOnly, Role: ProfileServer, Issuer: ProfileIssuing,
		Days: 90, Backdate: time.Hour,
		KeyUsage: x509.KeyUsageDigitalSignature, KeyUsageRSA: x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		Names:       namesCNOnly, Keys: everyKey, RenewAfter: 48, RenewJitter: 2,
		CRL: true, OCSP: true, CAIssuers: true,
	},
})

// Profiles returns the names of the profiles a certificate can be ordered for.
func Profiles() []string {
	return []string{ProfileStation, ProfileServer, ProfileServerCNOnly, ProfileFirmware,
		ProfileSECC, ProfileSECC20, ProfileContract, ProfileContract20, ProfileProvisioning, ProfileProvisioning20, ProfileCPS, ProfileCPS20,
		ProfileSECC448, ProfileContract448, ProfileProvisioning448, ProfileCPS448}
}

// ContractProfiles returns the names of those of contracts, of all editions.
func ContractProfiles() []string {
	return []string{ProfileContract, ProfileContract20, ProfileContract448}
}

// CAProfiles returns the names of the profiles of CAs whose keys are Bollard's.
func CAProfiles() []string {
	var names []string
	for name, p := range profiles {
		if p.CA {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// end returns notAfter for a notBefore of now less Backdate: the validity
// counts from now, and its last second is included (RFC 5280 §4.1.2.5).
func (p Profile) end(now time.Time) time.Time {
	return now.AddDate(p.Years, 0, p.Days).Add(-time.Second)
}

// usage returns the KeyUsage for a public key.
func (p Profile) usage(key crypto.PublicKey) x509.KeyUsage {
	if _, ok := key.(*rsa.PublicKey); ok {
		return p.KeyUsage | p.KeyUsageRSA
	}
	return p.KeyUsage
}

// signatureAlgorithm is the one an issuer's key signs with (A00.FR.504, .506).
// RSA CAs sign PKCS#1 v1.5 rather than PSS (A00.FR.505 "should"): stations'
// TLS stacks that lack PSS in certificates are common. crypto/x509 has no name for
// Ed448's.
func signatureAlgorithm(issuer crypto.PublicKey) (x509.SignatureAlgorithm, error) {
	class, err := classOf(issuer)
	if err != nil {
		return 0, err
	}
	switch class {
	case ClassP256:
		return x509.ECDSAWithSHA256, nil
	case ClassP384:
		return x509.ECDSAWithSHA384, nil
	case ClassP521:
		return x509.ECDSAWithSHA512, nil
	case ClassEd448:
		return x509.UnknownSignatureAlgorithm, nil
	case ClassP224:
		return 0, errors.New("a CA key on P-224 isn't allowed (allowed: P-256, P-384, P-521)")
	}
	return x509.SHA256WithRSA, nil
}

// classOf returns the class of a key, or why no profile allows it.
func classOf(key crypto.PublicKey) (KeyClass, error) {
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		switch name := key.Curve.Params().Name; name {
		case "P-224", "P-256", "P-384", "P-521":
			return KeyClass(name), nil
		default:
			return "", fmt.Errorf("elliptic curve %s isn't allowed (allowed: P-256, P-384, P-521)", name)
		}
	case ed448.PublicKey:
		return ClassEd448, nil
	case *rsa.PublicKey:
		switch bits := key.N.BitLen(); {
		case bits < 2048:
			return "", fmt.Errorf("RSA key of %d bits is too short (at least 2048, A00.FR.502)", bits)
		case bits > 4096:
			return "", fmt.Errorf("RSA key of %d bits is too long (at most 4096)", bits)
		case bits >= 3072:
			return ClassRSA3072, nil
		}
		return ClassRSA2048, nil
	}
	return "", fmt.Errorf("key type %T isn't allowed (allowed: ECDSA, RSA)", key)
}

// RenewAt returns when a certificate of this profile is to be renewed. It
// depends on the certificate alone, so that every process and restart agrees,
// and spreads a fleet that enrolled on one day over the jitter.
func (p Profile) RenewAt(cert *x509.Certificate) time.Time {
	life := cert.NotAfter.Sub(cert.NotBefore)
	due := life / 100 * time.Duration(p.RenewAfter)
	if p.RenewJitter > 0 {
		sum := sha256.Sum256(cert.SerialNumber.Bytes())
		window := int64(life / 100 * time.Duration(p.RenewJitter))
		early := new(big.Int).Mod(new(big.Int).SetBytes(sum[:]), big.NewInt(window+1))
		due -= time.Duration(early.Int64())
	}
	return cert.NotBefore.Add(due)
}

// RenewAt returns when a station's certificate, own or not, is to be renewed.
func RenewAt(cert *x509.Certificate) time.Time { return profiles[ProfileStation].RenewAt(cert) }
