package ca

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"bollard/ca/quality"
	"bollard/internal/curve448"
)

// LintError says why a certificate isn't issued: it isn't what its profile
// demands. That is Bollard's own fault, never the requester's.
type LintError struct {
	Profile string
	Faults  []string
}

func (e *LintError) Error() string {
	return fmt.Sprintf("a %s certificate failed its lint, nothing was signed: %s", e.Profile, strings.Join(e.Faults, "; "))
}

// limit is the second bookkeeping of a profile: what may leave under its name,
// written down apart from the profile itself, so that one mistaken edit there
// stops issuing instead of changing certificates.
type limit struct {
	ca         bool
	pathLength int // -1: none
	longest    time.Duration
	usage      x509.KeyUsage
	usageRSA   x509.KeyUsage
	ekus       []x509.ExtKeyUsage // exactly these
	san        bool
	// purpose is an extended key usage beside ekus, permanent an alternative name of the
	// subject's common name as permanentIdentifier.
	purpose   asn1.ObjectIdentifier
	permanent bool
	// Where the certificate may point to, if there is a status listener.
	crl, ocsp, issuers bool
	noCheck            bool
	graded             bool // by a policy, where the plan has one
	anyPolicy          bool // a CA that limits none below it
	p224               bool // that curve, where the plan has it
	// ISO 15118: sizes, a key identifier of 8 bytes; with DC, with C.
	mobility, domain, country bool
	ed448                     bool // a leaf's key is on that curve, and no other
}

const (
	year       = 366 * 24 * time.Hour
	caKeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
)

var limits = withMobilityLimits(map[string]limit{
	ProfileRoot:    {ca: true, pathLength: -1, longest: 20 * year, usage: caKeyUsage, usageRSA: caKeyUsage},
	ProfileIssuing: {ca: true, pathLength: 0, longest: 10 * year, usage: caKeyUsage, usageRSA: caKeyUsage, crl: true, issuers: true, anyPolicy: true},
	ProfileCross:   {ca: true, pathLength: -1, longest: 20 * year, usage: caKeyUsage, usageRSA: caKeyUsage, crl: true, issuers: true, anyPolicy: true},
	ProfileAnchor:  {ca: true, pathLength: 0, longest: 10 * year, usage: caKeyUsage, usageRSA: caKeyUsage},
	ProfileOCSP: {
		pathLength: -1, longest: 15 * 24 * time.Hour, ekus: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}, noCheck: true,
		usage: x509.KeyUsageDigitalSignature, usageRSA: x509.KeyUsageDigitalSignature,
	},
	ProfileFirmware: {
		pathLength: -1, longest: 3 * year, crl: true, ocsp: true, issuers: true,
		ekus:  []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning, x509.ExtKeyUsageEmailProtection},
		usage: x509.KeyUsageDigitalSignature, usageRSA: x509.KeyUsageDigitalSignature,
	},
	ProfileStation: {
		pathLength: -1, longest: year, p224: true, graded: true, crl: true, ocsp: true, issuers: true,
		usage: x509.KeyUsageDigitalSignature, usageRSA: x509.KeyUsageDigitalSignature,
	},
	ProfileAttestation: {
		pathLength: -1, longest: year, crl: true, ocsp: true, issuers: true, permanent: true,
		purpose: asn1.ObjectIdentifier{2, 23, 133, 8, 3}, usage: x509.KeyUsageDigitalSignature, usageRSA: x509.KeyUsageDigitalSignature,
	},
	ProfileServer: {
		pathLength: -1, longest: 91 * 24 * time.Hour, ekus: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, san: true, crl: true, ocsp: true, issuers: true,
		usage: x509.KeyUsageDigitalSignature, usageRSA: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
	},
	ProfileServerCNOnly: {
		pathLength: -1, longest: 91 * 24 * time.Hour, ekus: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, crl: true, ocsp: true, issuers: true,
		usage: x509.KeyUsageDigitalSignature, usageRSA: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
	},
})

// linter collects faults.
type linter struct {
	cert   *x509.Certificate
	plan   plan
	limit  limit
	faults []string
}

func (l *linter) demand(ok bool, format string, args ...any) {
	if !ok {
		l.faults = append(l.faults, fmt.Sprintf(format, args...))
	}
}

// lint holds a certificate against its plan, its profile's limits and RFC 5280.
func lint(cert *x509.Certificate, p plan, alike *shapes) error {
	known, ok := limits[p.profile.Name]
	l := &linter{cert: cert, plan: p, limit: known}
	l.demand(ok, "profile %q has no limits", p.profile.Name)
	l.head()
	l.names()
	l.validity()
	l.key()
	l.extensions()
	if known.mobility {
		l.size()
	}
	faults, err := alike.lint(cert.Raw, cert.RawTBSCertificate, p.profile.Name)
	l.demand(err == nil, "%v", err)
	l.faults = append(l.faults, faults...)
	if len(l.faults) > 0 {
		return &LintError{Profile: p.profile.Name, Faults: l.faults}
	}
	return nil
}

// mounted: what a mount adds to a certificate, or leaves out, is the same in all of them.
func (l *linter) mounted() bool { return l.plan.issuer.mount() != nil }

func (l *linter) head() {
	c := l.cert
	l.demand(c.Version == 3, "version %d", c.Version)
	l.demand(c.SerialNumber.Cmp(l.plan.serial) == 0, "another serial number than planned")
	// RFC 5280 §4.1.2.2: positive, at most 20 octets; own ones are as newSerial draws them.
	own := c.SerialNumber.BitLen() <= 128 && c.SerialNumber.BitLen() > 124
	l.demand(serialFault(c.SerialNumber) == "" && (own || l.mounted()), "serial number of %d bits", c.SerialNumber.BitLen())
	l.demand(c.SignatureAlgorithm == l.plan.issuer.algorithm && curve448.SignedWith(c) == l.plan.issuer.isEd448(), "signature algorithm %s", c.SignatureAlgorithm)
	l.demand(strongSignature(c), "weak signature algorithm %s (A00.FR.506)", c.SignatureAlgorithm)
	if issuer := l.plan.issuer.cert; issuer != nil {
		l.demand(bytes.Equal(c.RawIssuer, issuer.RawSubject), "issuer isn't %s", l.plan.issuer.name)
	} else {
		l.demand(bytes.Equal(c.RawIssuer, c.RawSubject), "not self-issued")
	}
}

func strongSignature(cert *x509.Certificate) bool {
	switch cert.SignatureAlgorithm {
	case x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512,
		x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA,
		x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS:
		return true
	}
	return curve448.SignedWith(cert)
}

func (l *linter) names() {
	c := l.cert
	var room [256]byte
	want, err := appendName(room[:0], &l.plan.subject)
	l.demand(err == nil && bytes.Equal(c.RawSubject, want), "subject differs from the plan")
	attributes := 2 // O and CN
	if (l.limit.ca && !l.limit.mobility || l.limit.country) && len(l.plan.subject.Country) > 0 {
		attributes++
	}
	if l.limit.domain {
		attributes++
		l.demand(slices.ContainsFunc(c.Subject.Names, func(a pkix.AttributeTypeAndValue) bool { return a.Type.Equal(oidDomain) && a.Value != "" }), "no DC, by which ISO 15118 tells actors apart")
	}
	l.demand(len(c.Subject.Names) == attributes, "subject has %d attributes, want %d", len(c.Subject.Names), attributes)
	l.demand(c.Subject.CommonName != "", "no common name")
	l.demand(len(c.Subject.Organization) == 1 && c.Subject.Organization[0] != "", "no organisation (A00.FR.509)")
	if l.plan.profile.Name == ProfileStation {
		l.demand(!looksLikeHost(c.Subject.CommonName), "common name looks like a host (A00.FR.511)")
	}
	var dns []string
	var ips []net.IP
	if l.limit.san {
		dns, ips = l.plan.dns, l.plan.ips
		l.demand(len(dns)+len(ips) > 0, "no alternative names")
		for _, name := range dns {
			l.demand(!strings.Contains(name, "*"), "wildcard name")
		}
	}
	l.demand(slices.Equal(c.DNSNames, dns), "DNS names differ from the plan")
	l.demand(slices.EqualFunc(c.IPAddresses, ips, net.IP.Equal), "IP addresses differ from the plan")
	l.demand(len(c.EmailAddresses) == 0 && len(c.URIs) == 0, "e-mail or URI names")
}

func (l *linter) validity() {
	c := l.cert
	l.demand(c.NotBefore.Equal(l.plan.notBefore), "notBefore differs from the plan")
	l.demand(c.NotAfter.Equal(l.plan.notAfter), "notAfter differs from the plan")
	l.demand(c.NotBefore.Before(c.NotAfter), "never valid")
	l.demand(c.NotAfter.Sub(c.NotBefore) <= l.limit.longest+2*time.Hour, "valid for %s", c.NotAfter.Sub(c.NotBefore))
	if issuer := l.plan.issuer.cert; issuer != nil {
		l.demand(!c.NotAfter.After(issuer.NotAfter) && !c.NotBefore.Before(issuer.NotBefore), "not valid only while its issuer is")
	}
}

func (l *linter) key() {
	l.demand(bytes.Equal(l.cert.RawSubjectPublicKeyInfo, l.plan.spki), "another key than proven")
	err := checkKey(l.cert.PublicKey, quality.Policy{P224: true, Ed448: true})
	l.demand(err == nil, "%v", err)
	class, err := classOf(l.cert.PublicKey)
	l.demand(err != nil || (class == ClassEd448) == l.limit.ed448 || l.limit.ca, "key on %s", class)
	l.demand(err != nil || class != ClassP224 || l.limit.p224 && l.plan.p224, "key on P-224, which only stations have whose model needs it (A00.FR.503)")
	if by := l.plan.issuer; by.cert != nil {
		l.demand(!bytes.Equal(l.cert.RawSubjectPublicKeyInfo, by.cert.RawSubjectPublicKeyInfo), "the issuer's own key")
	}
}

var (
	oidSubjectKeyID     = asn1.ObjectIdentifier{2, 5, 29, 14}
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidSAN              = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidAuthorityKeyID   = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidExtKeyUsage      = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidPolicies         = asn1.ObjectIdentifier{2, 5, 29, 32}
	oidCRLPoints        = asn1.ObjectIdentifier{2, 5, 29, 31}
	oidInfoAccess       = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 1}
	oidNoCheck          = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}
)

func (l *linter) extensions() {
	c := l.cert
	// Exactly these, with RFC 5280's criticality (§4.2.1).
	want := append(make([]demanded, 0, 10), demanded{oidSubjectKeyID, false}, demanded{oidKeyUsage, true})
	// Without basic constraints it isn't a CA either (RFC 5280 §4.2.1.9).
	none := l.mounted() && !c.BasicConstraintsValid && !c.IsCA && !l.limit.ca
	if !none {
		want = append(want, demanded{oidBasicConstraints, true})
	}
	if len(l.limit.ekus) > 0 || l.limit.purpose != nil {
		want = append(want, demanded{oidExtKeyUsage, false})
	}
	if l.limit.noCheck {
		want = append(want, demanded{oidNoCheck, false})
	}
	if len(l.plan.policies) > 0 {
		want = append(want, demanded{oidPolicies, false})
	}
	l.demand(slices.EqualFunc(c.Policies, l.plan.policies, x509.OID.Equal), "policies differ from the plan")
	var permits bool
	switch {
	case l.limit.anyPolicy:
		permits = len(c.Policies) == 0 || len(c.Policies) == 1 && c.Policies[0].Equal(anyPolicy())
	case l.limit.graded:
		permits = len(c.Policies) <= 1
	default:
		permits = len(c.Policies) == 0
	}
	l.demand(permits, "policies %v", c.Policies)
	status := len(l.plan.crl)+len(l.plan.ocsp)+len(l.plan.issuers) > 0
	if (l.limit.crl || l.mounted()) && status {
		want = append(want, demanded{oidCRLPoints, false})
	}
	if (l.limit.ocsp || l.limit.issuers || l.mounted()) && status {
		want = append(want, demanded{oidInfoAccess, false})
	}
	l.pointers(status)
	if l.limit.san || l.limit.permanent {
		want = append(want, demanded{oidSAN, false})
	}
	if l.limit.permanent {
		san, err := permanentIdentifier(l.plan.subject.CommonName)
		l.demand(err == nil && slices.ContainsFunc(c.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidSAN) && bytes.Equal(e.Value, san.Value) }), "permanent identifier isn't the serial number")
	}
	if l.plan.issuer.cert != nil {
		want = append(want, demanded{oidAuthorityKeyID, false})
		l.demand(bytes.Equal(c.AuthorityKeyId, l.plan.issuer.cert.SubjectKeyId), "authority key identifier isn't the issuer's")
	}
	if !exactly(c.Extensions, want) {
		l.demand(false, "extensions [%s], want %s", strings.Join(extensionList(c.Extensions), ", "), want)
	}

	l.demand((c.BasicConstraintsValid || none) && c.IsCA == l.limit.ca, "CA is %t", c.IsCA)
	if l.limit.ca {
		length := c.MaxPathLen
		l.demand(length == l.limit.pathLength, "path length %d", length)
	}
	usage := l.limit.usage
	if isRSA(c.PublicKey) {
		usage = l.limit.usageRSA
	}
	l.demand(c.KeyUsage == usage, "key usage %#x, want %#x", int(c.KeyUsage), int(usage))
	l.demand(slices.Equal(c.ExtKeyUsage, l.limit.ekus) && slices.EqualFunc(c.UnknownExtKeyUsage, purposes(l.limit.purpose), asn1.ObjectIdentifier.Equal), "extended key usage %v (A00.FR.514)", c.ExtKeyUsage)
	keyID, err := subjectKeyID(l.plan.spki)
	if l.limit.mobility {
		keyID, err = shortKeyID(l.plan.spki)
	}
	l.demand(err == nil && (bytes.Equal(c.SubjectKeyId, keyID) || l.mounted() && bytes.Equal(c.SubjectKeyId, sha1KeyID(c))), "subject key identifier isn't the key's")
}

// pointers: exactly one place of each kind, of the certificate's issuer, over
// plain HTTP (RFC 5280 §8 warns of circles over TLS).
func (l *linter) pointers(status bool) {
	for _, p := range []struct {
		what      string
		allowed   bool
		got, plan []string
		end       string
	}{
		{"CRL distribution points", l.limit.crl, l.cert.CRLDistributionPoints, l.plan.crl, "/" + l.plan.issuer.name + ".crl"},
		{"OCSP responders", l.limit.ocsp, l.cert.OCSPServer, l.plan.ocsp, OCSPPath},
		{"issuer certificates", l.limit.issuers, l.cert.IssuingCertificateURL, l.plan.issuers, "/" + l.plan.issuer.name + ".crt"},
	} {
		l.demand(slices.Equal(p.got, p.plan), "%s differ from the plan", p.what)
		if !(p.allowed || l.mounted()) || !status {
			l.demand(len(p.got) == 0, "%s %v", p.what, p.got)
			continue
		}
		l.demand(len(p.got) == 1 && strings.HasPrefix(p.got[0], "http://") && strings.HasSuffix(p.got[0], p.end), "%s %v", p.what, p.got)
	}
}

// demanded is an extension that a certificate has to have.
type demanded struct {
	id       asn1.ObjectIdentifier
	critical bool
}

func (d demanded) String() string {
	if d.critical {
		return d.id.String() + " critical"
	}
	return d.id.String()
}

// exactly: each of want, which has none twice, and nothing else.
func exactly(got []pkix.Extension, want []demanded) bool {
	for _, d := range want {
		if !slices.ContainsFunc(got, func(e pkix.Extension) bool { return e.Critical == d.critical && e.Id.Equal(d.id) }) {
			return false
		}
	}
	return len(got) == len(want)
}

func extensionList(extensions []pkix.Extension) []string {
	var list []string
	for _, e := range extensions {
		name := e.Id.String()
		if e.Critical {
			name += " critical"
		}
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

func isRSA(key crypto.PublicKey) bool {
	_, ok := key.(*rsa.PublicKey)
	return ok
}
