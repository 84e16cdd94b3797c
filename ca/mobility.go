package ca

import (
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"maps"
	"slices"
	"strings"
	"time"
)

// Profiles of the hierarchies of ISO 15118-2 (annex F) and, with the suffixes -20 and
// -448, of ISO 15118-20 (annex B), on P-521 and Ed448.
const (
	ProfileMobilityRoot = "mobility-root"
	// ProfileMobilityCross is a new root's key certified by the old root.
	ProfileMobilityCross = "mobility-cross"
	ProfileCPOSub1       = "cpo-sub-ca-1"
	ProfileCPOSub2       = "cpo-sub-ca-2"
	ProfileMOSub1        = "mo-sub-ca-1"
	ProfileMOSub2        = "mo-sub-ca-2" // signs tariffs besides certificates
	ProfileOEMSub1       = "oem-sub-ca-1"
	ProfileOEMSub2       = "oem-sub-ca-2"
	ProfileCPSSub1       = "cps-sub-ca-1"
	ProfileCPSSub2       = "cps-sub-ca-2"

	ProfileSECC           = "secc" // TLS server of a charging station toward cars
	ProfileSECC20         = "secc-20"
	ProfileContract       = "contract"
	ProfileContract20     = "contract-20"
	ProfileProvisioning   = "oem-provisioning" // what a car is born with
	ProfileProvisioning20 = "oem-provisioning-20"
	ProfileCPS            = "cps" // signs what is installed in cars
	ProfileCPS20          = "cps-20"

	ProfileSECC448         = "secc-448"
	ProfileContract448     = "contract-448"
	ProfileProvisioning448 = "oem-provisioning-448"
	ProfileCPS448          = "cps-448"
)

// The hierarchies of ISO 15118-2, on P-256, and of -20, on P-521 and on Ed448.
const (
	KindV2G    Kind = "v2g"
	KindMO     Kind = "mo"
	KindOEM    Kind = "oem"
	KindCPS    Kind = "cps"
	KindV2G20  Kind = "v2g-20"
	KindMO20   Kind = "mo-20"
	KindOEM20  Kind = "oem-20"
	KindCPS20  Kind = "cps-20"
	KindV2G448 Kind = "v2g-448"
	KindMO448  Kind = "mo-448"
	KindOEM448 Kind = "oem-448"
	KindCPS448 Kind = "cps-448"
)

var (
	keys2  = []KeyClass{ClassP256} // [V2G2-006]
	keys20 = []KeyClass{ClassP521} // [V2G20-2673]
	// Ed448 has hierarchies of its own: a path is on one curve.
	keys448 = []KeyClass{ClassEd448} // [V2G20-2319]
)

// mobilityHierarchies is data: three rows an actor.
func mobilityHierarchies() []hierarchy {
	row := func(kind Kind, class KeyClass, title, subTitle, sub1, sub2, leaf string) hierarchy {
		return hierarchy{
			kind: kind, class: class, use: strings.ToLower(title), title: title, subTitle: subTitle, domain: title, root: ProfileMobilityRoot, cross: ProfileMobilityCross,
			subs: []string{sub1, sub2}, leaves: []string{leaf}, statusOfCAs: true,
		}
	}
	cps, cps20 := row(KindCPS, ClassP256, "V2G", "CPS", ProfileCPSSub1, ProfileCPSSub2, ProfileCPS),
		row(KindCPS20, ClassP521, "V2G", "CPS", ProfileCPSSub1, ProfileCPSSub2, ProfileCPS20)
	cps448 := row(KindCPS448, ClassEd448, "V2G", "CPS", ProfileCPSSub1, ProfileCPSSub2, ProfileCPS448)
	cps.under, cps20.under, cps448.under = KindV2G, KindV2G20, KindV2G448
	return []hierarchy{
		row(KindV2G, ClassP256, "V2G", "CPO", ProfileCPOSub1, ProfileCPOSub2, ProfileSECC),
		row(KindMO, ClassP256, "MO", "MO", ProfileMOSub1, ProfileMOSub2, ProfileContract),
		row(KindOEM, ClassP256, "OEM", "OEM", ProfileOEMSub1, ProfileOEMSub2, ProfileProvisioning),
		cps,
		row(KindV2G20, ClassP521, "V2G", "CPO", ProfileCPOSub1, ProfileCPOSub2, ProfileSECC20),
		row(KindMO20, ClassP521, "MO", "MO", ProfileMOSub1, ProfileMOSub2, ProfileContract20),
		row(KindOEM20, ClassP521, "OEM", "OEM", ProfileOEMSub1, ProfileOEMSub2, ProfileProvisioning20),
		cps20,
		row(KindV2G448, ClassEd448, "V2G", "CPO", ProfileCPOSub1, ProfileCPOSub2, ProfileSECC448),
		row(KindMO448, ClassEd448, "MO", "MO", ProfileMOSub1, ProfileMOSub2, ProfileContract448),
		row(KindOEM448, ClassEd448, "OEM", "OEM", ProfileOEMSub1, ProfileOEMSub2, ProfileProvisioning448),
		cps448,
	}
}

// is20: a hierarchy of ISO 15118-20.
func (h hierarchy) is20() bool { return h.class == ClassP521 || h.class == ClassEd448 }

// withMobility adds the profiles of ISO 15118. Relying parties ask OCSP alone:
// certificates have to stay below 800 bytes ([V2G2-010]), and six of them below
// what OCPP 2.0.1 carries.
func withMobility(stations map[string]Profile) map[string]Profile {
	caUsage := x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	common := Profile{Backdate: time.Hour, ShortKeyID: true, PathLength: -1}
	authority := func(name, issuer string, pathLength, years int) Profile {
		p := common
		p.Name, p.Role, p.Issuer, p.CA, p.PathLength, p.Years = name, name, issuer, true, pathLength, years
		p.KeyUsage, p.Names, p.Keys, p.RenewAfter = caUsage, namesCA, slices.Concat(keys2, keys20, keys448), 66
		p.OCSP = name != issuer
		if years > 10 && p.OCSP {
			p.RenewAfter = 50 // what it issues lives ten years
		}
		return p
	}
	leaf := func(name, issuer, domain string, years, days int, usage x509.KeyUsage, keys []KeyClass) Profile {
		p := common
		p.Name, p.Role, p.Issuer, p.Domain, p.Years, p.Days = name, name, issuer, domain, years, days
		p.KeyUsage, p.Names, p.Keys, p.RenewAfter, p.OCSP = usage, namesMobility, keys, 66, true
		return p
	}
	const sign = x509.KeyUsageDigitalSignature
	agree := sign | x509.KeyUsageKeyAgreement
	// Non-repudiation and both agreements: the old contract key opens the envelope
	// of an update ([V2G2-822]).
	contract := agree | x509.KeyUsageContentCommitment | x509.KeyUsageKeyEncipherment
	// The suites of ISO 15118-2 include static ECDH.
	secc, secc20 := leaf(ProfileSECC, ProfileCPOSub2, "CPO", 0, 90, agree, keys2), leaf(ProfileSECC20, ProfileCPOSub2, "CPO", 0, 90, sign, keys20)
	secc.Names, secc20.Names = namesSECC, namesSECC
	secc20.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	cps20 := leaf(ProfileCPS20, ProfileCPSSub2, "CPS", 0, 90, sign, keys20)
	cps20.Country = true // table B.7
	// The same on Ed448.
	on448 := func(name string, p Profile) Profile {
		p.Name, p.Role, p.Keys = name, name, keys448
		return p
	}
	contract20 := leaf(ProfileContract20, ProfileMOSub2, "", 2, 0, contract, keys20)
	provisioning20 := leaf(ProfileProvisioning20, ProfileOEMSub2, "OEM", 10, 0, agree, keys20)
	cross := authority(ProfileMobilityCross, ProfileMobilityRoot, -1, 40)
	cross.Role = ProfileMobilityRoot // one key, two certificates
	mo := authority(ProfileMOSub2, ProfileMOSub1, 0, 10)
	mo.KeyUsage |= sign | x509.KeyUsageContentCommitment
	for _, p := range []Profile{
		authority(ProfileMobilityRoot, ProfileMobilityRoot, -1, 40), cross, // [V2G2-011]
		authority(ProfileCPOSub1, ProfileMobilityRoot, 1, 10), authority(ProfileCPOSub2, ProfileCPOSub1, 0, 10),
		authority(ProfileMOSub1, ProfileMobilityRoot, 1, 10), mo,
		authority(ProfileOEMSub1, ProfileMobilityRoot, 1, 20), authority(ProfileOEMSub2, ProfileOEMSub1, 0, 20),
		authority(ProfileCPSSub1, ProfileMobilityRoot, 1, 10), authority(ProfileCPSSub2, ProfileCPSSub1, 0, 10),
		secc, secc20,
		leaf(ProfileContract, ProfileMOSub2, "", 2, 0, contract, keys2), contract20,
		leaf(ProfileProvisioning, ProfileOEMSub2, "OEM", 10, 0, agree, keys2), provisioning20,
		leaf(ProfileCPS, ProfileCPSSub2, "CPS", 0, 90, sign, keys2), cps20,
		on448(ProfileSECC448, secc20), on448(ProfileContract448, contract20), on448(ProfileProvisioning448, provisioning20), on448(ProfileCPS448, cps20),
	} {
		stations[p.Name] = p
	}
	return stations
}

// withMobilityLimits is the second bookkeeping of those profiles.
func withMobilityLimits(stations map[string]limit) map[string]limit {
	const (
		sign       = x509.KeyUsageDigitalSignature
		agree      = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyAgreement
		repudiate  = x509.KeyUsageContentCommitment
		everything = agree | repudiate | x509.KeyUsageKeyEncipherment
		quarter    = 91 * 24 * time.Hour
	)
	sub1 := limit{mobility: true, ca: true, pathLength: 1, longest: 10 * year, usage: caKeyUsage, ocsp: true}
	sub2, moSub2, oemSub1 := sub1, sub1, sub1
	sub2.pathLength, moSub2.pathLength = 0, 0
	oemSub1.longest = 20 * year // cars are old when their makers' CAs end
	oemSub2 := oemSub1
	oemSub2.pathLength = 0
	moSub2.usage = caKeyUsage | sign | repudiate
	secc20 := limit{mobility: true, domain: true, pathLength: -1, longest: quarter, usage: sign, ocsp: true, ekus: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	contract20 := limit{mobility: true, pathLength: -1, longest: 2 * year, usage: everything, ocsp: true}
	provisioning20 := limit{mobility: true, domain: true, pathLength: -1, longest: 10 * year, usage: agree, ocsp: true}
	cps20 := limit{mobility: true, domain: true, country: true, pathLength: -1, longest: quarter, usage: sign, ocsp: true}
	on448 := func(l limit) limit {
		l.ed448 = true
		return l
	}
	maps.Copy(stations, map[string]limit{
		ProfileSECC448: on448(secc20), ProfileContract448: on448(contract20), ProfileProvisioning448: on448(provisioning20), ProfileCPS448: on448(cps20),
		ProfileMobilityRoot:  {mobility: true, domain: true, ca: true, pathLength: -1, longest: 40 * year, usage: caKeyUsage},
		ProfileMobilityCross: {mobility: true, domain: true, ca: true, pathLength: -1, longest: 40 * year, usage: caKeyUsage, ocsp: true},
		ProfileCPOSub1:       sub1, ProfileMOSub1: sub1, ProfileOEMSub1: oemSub1, ProfileCPSSub1: sub1,
		ProfileCPOSub2: sub2, ProfileMOSub2: moSub2, ProfileOEMSub2: oemSub2, ProfileCPSSub2: sub2,
		ProfileSECC:           {mobility: true, domain: true, pathLength: -1, longest: quarter, usage: agree, ocsp: true},
		ProfileSECC20:         secc20,
		ProfileContract:       {mobility: true, pathLength: -1, longest: 2 * year, usage: everything, ocsp: true},
		ProfileContract20:     contract20,
		ProfileProvisioning:   {mobility: true, domain: true, pathLength: -1, longest: 10 * year, usage: agree, ocsp: true},
		ProfileProvisioning20: provisioning20,
		ProfileCPS:            {mobility: true, domain: true, pathLength: -1, longest: quarter, usage: sign, ocsp: true},
		ProfileCPS20:          cps20,
	})
	return stations
}

var (
	oidDomain     = asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 25} // RFC 4519 §2.4
	oidCommonName = asn1.ObjectIdentifier{2, 5, 4, 3}
)

// withDomain adds DC, which ISO 15118 tells the actors apart by, before the common
// name. It is an IA5String, which only a raw value becomes.
func withDomain(name pkix.Name, domain string) pkix.Name {
	if domain == "" {
		return name
	}
	name.ExtraNames = []pkix.AttributeTypeAndValue{
		{Type: oidDomain, Value: asn1.RawValue{Class: asn1.ClassUniversal, Tag: asn1.TagIA5String, Bytes: []byte(domain)}},
		{Type: oidCommonName, Value: name.CommonName},
	}
	return name
}

// domainOf is a name's DC, "" without one.
func domainOf(name pkix.Name) string {
	for _, a := range name.Names {
		if text, ok := a.Value.(string); ok && a.Type.Equal(oidDomain) {
			return text
		}
	}
	return ""
}

// shortKeyID is method 2 of RFC 5280 §4.2.1.2: 0100 and the last 60 bits of the
// SHA-1 of the public key's bits. Real certificates of ISO 15118 have it, and the
// envelope of a contract key of -20 holds it as 16 hex digits.
func shortKeyID(spki []byte) ([]byte, error) {
	bits, err := publicKeyBits(spki)
	if err != nil {
		return nil, err
	}
	sum := sha1.Sum(bits)
	id := sum[len(sum)-8:]
	id[0] = 0x40 | id[0]&0x0f
	return id, nil
}

// keyID is the subject key identifier of a profile's certificates, by the key's
// SubjectPublicKeyInfo.
func (p Profile) keyID(spki []byte) ([]byte, error) {
	if p.ShortKeyID {
		return shortKeyID(spki)
	}
	return subjectKeyID(spki)
}

// Largest certificates, in bytes of DER: [V2G2-010], and certificateType of the
// schema of -20.
const (
	maxCertificate2  = 800
	maxCertificate20 = 1600
)

// size holds a certificate of ISO 15118 below what cars take; the draft's
// signature is a placeholder.
func (l *linter) size() {
	most, signature := maxCertificate2, 72
	switch {
	case l.plan.issuer.isEd448():
		most, signature = maxCertificate20, 114
	case l.plan.issuer.algorithm == x509.ECDSAWithSHA512:
		most, signature = maxCertificate20, 139
	}
	size := len(l.cert.RawTBSCertificate) + signature + 24 // algorithm, tags and lengths
	l.demand(size <= most, "%d bytes, at most %d are taken by cars; shorten the organisation's name or public.status", size, most)
}
