package ca

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"

	"bollard/iso15118/identifier"
	"bollard/keys"
)

// Kind names a hierarchy.
type Kind string

// The hierarchies.
const (
	// KindCSMS is that of back end and station certificates (A00.FR.601).
	KindCSMS Kind = "csms"
	// KindManufacturer is that of firmware signing certificates (L01, 1.6 WP §4).
	KindManufacturer Kind = "manufacturer"
	// KindAttestation is that of the attestation keys of stations' TPMs.
	KindAttestation Kind = "attestation"
)

// hierarchy is a root, one or two CAs below it and what the last of them issues.
type hierarchy struct {
	kind     Kind
	title    string   // in the CN of its CAs
	subTitle string   // in that of those below the root; "": title
	root     string   // profile
	cross    string   // profile of a new root under the old one
	subs     []string // profiles below the root, from above
	leaves   []string // profiles
	domain   string   // DC of the root
	class    KeyClass // of its CAs; "": as those there are
	// use is what an outside root of it is trusted for; "": it has none.
	use string
	// under is the hierarchy whose root it is made under, if that one is there then.
	under Kind
	// statusOfCAs: relying parties ask OCSP about its CAs too, which their issuers
	// answer themselves.
	statusOfCAs bool
	// anchored: stations install the issuing CA as their root, in a self-signed
	// certificate of its own, because nothing may stand between an installed
	// root and what it signs (docs/adr/0010-manufacturer-anchor.md).
	anchored bool
}

// hierarchies is data: a further kind is a further row.
var hierarchies = append([]hierarchy{
	{kind: KindCSMS, title: "CSMS", root: ProfileRoot, cross: ProfileCross, subs: []string{ProfileIssuing}, leaves: []string{ProfileStation, ProfileServer, ProfileServerCNOnly}},
	{kind: KindManufacturer, title: "Manufacturer", root: ProfileRoot, cross: ProfileCross, subs: []string{ProfileIssuing}, leaves: []string{ProfileFirmware}, anchored: true},
	{kind: KindAttestation, title: "Attestation", root: ProfileRoot, cross: ProfileCross, subs: []string{ProfileIssuing}, leaves: []string{ProfileAttestation}},
}, mobilityHierarchies()...)

// Kinds returns the hierarchies there are.
func Kinds() []Kind {
	var kinds []Kind
	for _, h := range hierarchies {
		kinds = append(kinds, h.kind)
	}
	return kinds
}

func hierarchyOf(kind Kind) (hierarchy, error) {
	for _, h := range hierarchies {
		if h.kind == kind {
			return h, nil
		}
	}
	return hierarchy{}, fmt.Errorf("%w: %q (known: %s)", ErrUnknownKind, kind, strings.Join(kindNames(), ", "))
}

func kindNames() []string {
	var names []string
	for _, h := range hierarchies {
		names = append(names, string(h.kind))
	}
	return names
}

// hierarchyFor returns the hierarchy that issues a leaf profile.
func hierarchyFor(profile string) (hierarchy, error) {
	for _, h := range hierarchies {
		if slices.Contains(h.leaves, profile) {
			return h, nil
		}
	}
	return hierarchy{}, fmt.Errorf("unknown profile %q (known: %s)", profile, strings.Join(Profiles(), ", "))
}

// caName is the name of a CA in records: csms-root, csms-issuing, cps-sub-ca-2.
func (h hierarchy) caName(profile string) string {
	if _, level, ok := strings.Cut(profile, subCA); ok {
		profile = subCA[1:] + level
	}
	return string(h.kind) + "-" + profile
}

// generationName is the name of a CA of a generation of keys: v2g-sub-ca-2-3.
func (h hierarchy) generationName(profile string, generation int) string {
	if generation <= 1 {
		return h.caName(profile)
	}
	return fmt.Sprintf("%s-%d", h.caName(profile), generation)
}

// subCA is in the names of the profiles of CAs of ISO 15118 below the root.
const subCA = "-sub-ca-"

// rootName is the name of the root of a generation: csms-root, csms-root-2.
func (h hierarchy) rootName(generation int) string {
	if generation <= 1 {
		return h.caName("root")
	}
	return fmt.Sprintf("%s-%d", h.caName("root"), generation)
}

// issuing is the profile of the CA that issues leaves.
func (h hierarchy) issuing() string { return h.subs[len(h.subs)-1] }

// last is the certificate that completes a new hierarchy.
func (h hierarchy) last() (profile, issuedBy string) {
	if h.anchored {
		return ProfileAnchor, h.caName(h.issuing())
	}
	if n := len(h.subs); n > 1 {
		return h.issuing(), h.caName(h.subs[n-2])
	}
	return h.issuing(), h.rootName(1)
}

// issuer is a CA that can sign.
type issuer struct {
	name      string
	profile   string
	cert      *x509.Certificate   // nil: about to be self-signed
	chain     []*x509.Certificate // itself and CAs above it, without the root
	signer    crypto.Signer
	algorithm x509.SignatureAlgorithm
	keyURI    string // of a CA about to get a further certificate
}

// openIssuer opens a CA's key to sign with. One whose hardware security module
// is away, or takes no login any more, is looked for at each use: that keeps nobody out
// who has a certificate, and a server that starts again and again would lock the login.
func (a *Authority) openIssuer(ctx context.Context, ca caRecord) (*issuer, error) {
	signer, err := a.openCA(ctx, ca)
	refused := errors.Is(err, keys.ErrLogin) || errors.Is(err, keys.ErrDenied) || errors.Is(err, keys.ErrPIN)
	if (refused || errors.Is(err, keys.ErrUnavailable)) && a.cfg.Keeper != nil {
		a.cfg.Log.Error("a CA's key is unavailable: nothing is signed with it until it is back", "issuer", ca.name, "err", err)
		signer, err = a.cfg.Keeper.OpenLater(ca.keyURI, keys.RoleCA, ca.cert.PublicKey)
	}
	if err != nil {
		return nil, err
	}
	by, err := newIssuer(ca.name, ca.profile, ca.cert, signer)
	if err != nil {
		return nil, err
	}
	by.keyURI = ca.keyURI
	return by, nil
}

// openAgain is openIssuer for a hierarchy that is read once more: a key that is open
// already needs no look, so that what was decided counts at once, its keeper being away.
func (a *Authority) openAgain(ctx context.Context, kind Kind, ca caRecord) (*issuer, error) {
	for _, open := range a.hierarchy(kind).issuers() {
		if open.keyURI != ca.keyURI || !bytes.Equal(open.cert.RawSubjectPublicKeyInfo, ca.cert.RawSubjectPublicKeyInfo) {
			continue
		}
		by, err := newIssuer(ca.name, ca.profile, ca.cert, open.signer)
		if err != nil {
			return nil, err
		}
		by.keyURI = ca.keyURI
		return by, nil
	}
	return a.openIssuer(ctx, ca)
}

func newIssuer(name, profile string, cert *x509.Certificate, signer crypto.Signer) (*issuer, error) {
	algorithm, err := signatureAlgorithm(signer.Public())
	if err != nil {
		return nil, err
	}
	i := &issuer{name: name, profile: profile, cert: cert, signer: signer, algorithm: algorithm}
	if cert != nil && profile != ProfileRoot && profile != ProfileMobilityRoot {
		i.chain = []*x509.Certificate{cert}
	}
	return i, nil
}

// subjectName builds the name of a certificate. CAs of stations carry the country,
// leaves the organisation (A00.FR.509) and CN only; ISO 15118 has DC besides.
func subjectName(p Profile, s Subject, organisation, country string) pkix.Name {
	name := pkix.Name{CommonName: s.CommonName, Organization: []string{organisation}}
	if name.CommonName == "" && len(s.DNSNames) > 0 {
		name.CommonName = s.DNSNames[0] // the first name of a server is its CN
	} else if name.CommonName == "" && len(s.IPAddresses) > 0 {
		name.CommonName = s.IPAddresses[0].String()
	}
	if s.Organisation != "" {
		name.Organization = []string{s.Organisation}
	}
	if (p.CA && !p.ShortKeyID || p.Country) && country != "" {
		name.Country = []string{country}
	}
	return withDomain(name, cmp.Or(s.Domain, p.Domain))
}

// checkNames refuses subjects a profile doesn't allow.
func checkNames(p Profile, name pkix.Name, s Subject) error {
	if err := checkText("common name", name.CommonName); err != nil {
		return err
	}
	if err := checkText("organisation", name.Organization[0]); err != nil {
		return err
	}
	for _, host := range s.DNSNames {
		if !isHostName(host) {
			return fmt.Errorf("%q isn't a DNS name (letters, digits and hyphens between dots; no wildcard)", host)
		}
	}
	sans := len(s.DNSNames) + len(s.IPAddresses)
	switch p.Names {
	case namesCA, namesService:
	case namesMobility:
	case namesSECC:
		if err := identifier.CheckSECC(name.CommonName); err != nil {
			return err
		}
	case namesStation, namesAttestation:
		if err := CheckSerialNumber(name.CommonName); err != nil {
			return err
		}
	case namesServer:
		if sans == 0 {
			return errors.New("a server certificate needs at least one name")
		}
		return nil
	case namesCNOnly:
		if sans > 1 || sans == 1 && (len(s.DNSNames) != 1 || s.DNSNames[0] != name.CommonName) {
			return errors.New("a certificate without alternative names has one name, its common name")
		}
		return nil
	}
	if sans != 0 {
		return fmt.Errorf("profile %s has no alternative names (A00.FR.511)", p.Name)
	}
	return nil
}

// checkText holds RFC 5280's upper bound of 64 characters (appendix A.1,
// ub-common-name, ub-organization-name).
func checkText(what, s string) error {
	switch {
	case strings.TrimSpace(s) == "":
		return fmt.Errorf("the %s is empty", what)
	case !utf8.ValidString(s) || utf8.RuneCountInString(s) > 64:
		return fmt.Errorf("the %s isn't valid UTF-8 of at most 64 characters", what)
	case strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }):
		return fmt.Errorf("the %s holds unprintable characters", what)
	case s != strings.TrimSpace(s):
		return fmt.Errorf("the %s begins or ends with a space", what)
	}
	return nil
}

// subjectKeyID is method 1 of RFC 7093: the leftmost 160 bits of the SHA-256 of
// the public key's bits.
func subjectKeyID(spki []byte) ([]byte, error) {
	bits, err := publicKeyBits(spki)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(bits)
	return sum[:20], nil
}

func publicKeyBits(spki []byte) ([]byte, error) {
	input := cryptobyte.String(spki)
	var info cryptobyte.String
	var bits []byte
	if !input.ReadASN1(&info, tags.SEQUENCE) || !info.SkipASN1(tags.SEQUENCE) || !info.ReadASN1BitStringAsBytes(&bits) {
		return nil, errors.New("internal error: a public key can't be read")
	}
	return bits, nil
}

// SerialOf is a certificate's serial number as Bollard writes it: lower-case
// hex without leading zeros.
func SerialOf(cert *x509.Certificate) string { return cert.SerialNumber.Text(16) }

// serialText is SerialOf by the number's octets.
func serialText(octets []byte) string { return new(big.Int).SetBytes(octets).Text(16) }

func parseSerial(s string) (*big.Int, bool) { return new(big.Int).SetString(s, 16) }

func hashHex(b []byte) string {
	sum := sha256.Sum256(b)
	var text [2 * sha256.Size]byte
	hex.Encode(text[:], sum[:])
	return string(text[:])
}
