package ca

import (
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // a name for a key (RFC 5280 §4.2.1.2), not its protection
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"bollard/internal/curve448"
	"bollard/keys"
)

// serialFault says why a serial number isn't one: RFC 5280 §4.1.2.2 has it positive, of
// at most 20 octets.
func serialFault(serial *big.Int) string {
	if serial.Sign() <= 0 || serial.BitLen() > 8*20-1 {
		return fmt.Sprintf("serial number of %d bits, or not positive", serial.BitLen())
	}
	return ""
}

// compare says in what a certificate that a mount issued differs from what it was asked
// for: its serial number, the order of its extensions and, within bounds, its dates are
// the mount's. Besides, it has to pass its profile's lint.
func (a *Authority) compare(cert *x509.Certificate, p *Prepared) []string {
	var faults []string
	demand := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Sprintf(format, args...))
		}
	}
	by, want := p.issuer.cert, p.draft
	demand(cert.Version == 3, "version %d", cert.Version)
	demand(bytes.Equal(cert.RawIssuer, by.RawSubject), "its issuer is %q", cert.Issuer)
	demand(cert.SignatureAlgorithm == want.SignatureAlgorithm, "signed with %s", cert.SignatureAlgorithm)
	demand(cert.CheckSignatureFrom(by) == nil, "its signature isn't of the key of %s", p.issuer.name)
	demand(bytes.Equal(cert.RawSubject, want.RawSubject), "its subject is another")
	demand(bytes.Equal(cert.RawSubjectPublicKeyInfo, want.RawSubjectPublicKeyInfo), "its key is another")
	a.compareDates(cert, p, demand)
	compareExtensions(cert, want, demand)
	demand(sameBut(cert, want), "something else in it is another")
	if len(faults) > 0 {
		return faults
	}
	now := p.plan
	now.serial, now.notBefore, now.notAfter = cert.SerialNumber, cert.NotBefore, cert.NotAfter
	var found *LintError
	if err := lint(cert, now, a.shapes); errors.As(err, &found) {
		return found.Faults
	}
	return nil
}

// compareDates: it begins when asked or by now, and ends when asked, or before that by
// less than half of its life, which the mount's own limits may cost.
func (a *Authority) compareDates(cert *x509.Certificate, p *Prepared, demand func(bool, string, ...any)) {
	want, now := p.draft, a.cfg.Clock()
	demand(!cert.NotBefore.Before(want.NotBefore.Add(-clockTolerance)), "it begins on %s, before it was asked to", cert.NotBefore.Format(time.RFC3339))
	demand(!cert.NotBefore.After(now.Add(clockTolerance)), "it begins on %s, which is still to come", cert.NotBefore.Format(time.RFC3339))
	demand(!cert.NotAfter.After(want.NotAfter), "it ends on %s, after it was asked to", cert.NotAfter.Format(time.RFC3339))
	half := want.NotBefore.Add(want.NotAfter.Sub(want.NotBefore) / 2)
	demand(!cert.NotAfter.Before(half), "it ends on %s, not on %s: the limits of the mount or its role are too low", cert.NotAfter.Format(time.RFC3339), want.NotAfter.Format(time.RFC3339))
}

// compareExtensions: exactly the planned ones, byte for byte, but that a mount leaves
// basic constraints out, which says the same (RFC 5280 §4.2.1.9), and may name the key by
// SHA-1 (§4.2.1.2).
func compareExtensions(cert, want *x509.Certificate, demand func(bool, string, ...any)) {
	with := func(id asn1.ObjectIdentifier) func(pkix.Extension) bool {
		return func(e pkix.Extension) bool { return e.Id.Equal(id) }
	}
	for i, e := range cert.Extensions {
		demand(!slices.ContainsFunc(cert.Extensions[:i], with(e.Id)), "extension %s is there twice", e.Id)
		j := slices.IndexFunc(want.Extensions, with(e.Id))
		if j < 0 {
			demand(false, "extension %s, which wasn't asked for", e.Id)
			continue
		}
		w := want.Extensions[j]
		if e.Id.Equal(oidSubjectKeyID) && bytes.Equal(cert.SubjectKeyId, sha1KeyID(cert)) {
			w.Value, _ = asn1.Marshal(cert.SubjectKeyId)
		}
		demand(e.Critical == w.Critical && bytes.Equal(e.Value, w.Value), "extension %s has another value", e.Id)
	}
	for _, w := range want.Extensions {
		demand(w.Id.Equal(oidBasicConstraints) || slices.ContainsFunc(cert.Extensions, with(w.Id)), "extension %s is missing", w.Id)
	}
}

// sha1KeyID is method 1 of RFC 5280 §4.2.1.2.
func sha1KeyID(cert *x509.Certificate) []byte {
	bits, err := publicKeyBits(cert.RawSubjectPublicKeyInfo)
	if err != nil {
		return nil
	}
	sum := sha1.Sum(bits) //nolint:gosec // as above
	return sum[:]
}

// sameBut: with the values that are the mount's put into it, what was planned has exactly
// the bytes that were signed. Nothing that nobody looks at is another.
func sameBut(cert, want *x509.Certificate) bool {
	const serial, validity, extensions = 1, 4, 7 // of TBSCertificate (RFC 5280 §4.1)
	theirs, err := parts(cert.RawTBSCertificate)
	if err != nil || len(theirs) != extensions+1 {
		return false
	}
	with := map[int][]byte{}
	for _, i := range []int{serial, validity, extensions} {
		with[i] = theirs[i]
	}
	made, err := curve448.Replace(want.RawTBSCertificate, with)
	return err == nil && bytes.Equal(made, cert.RawTBSCertificate)
}

// parts are the elements of to-be-signed bytes.
func parts(tbs []byte) ([][]byte, error) {
	var all []asn1.RawValue
	if _, err := asn1.Unmarshal(tbs, &all); err != nil {
		return nil, err
	}
	var list [][]byte
	for _, one := range all {
		list = append(list, one.FullBytes)
	}
	return list, nil
}

// mountList is a mount's own revocation list, if it is the CA's and in force.
func mountList(ctx context.Context, at Mount, by *issuer, now time.Time) ([]byte, error) {
	der, err := at.Revocations(ctx)
	if err != nil {
		return nil, err
	}
	list, err := x509.ParseRevocationList(der)
	switch {
	case err != nil:
		return nil, fmt.Errorf("couldn't read the revocation list of the mount of %s: %w", by.name, err)
	case list.CheckSignatureFrom(by.cert) != nil:
		return nil, fmt.Errorf("the revocation list of the mount isn't signed by %s", by.name)
	case list.ThisUpdate.After(now.Add(clockTolerance)):
		return nil, fmt.Errorf("the revocation list of the mount of %s is of %s, which is still to come", by.name, list.ThisUpdate.Format(time.RFC3339))
	case !now.Before(list.NextUpdate):
		return nil, fmt.Errorf("the revocation list of the mount of %s ended on %s; vault write MOUNT/config/crl auto_rebuild=true keeps it in force", by.name, list.NextUpdate.Format(time.RFC3339))
	}
	return der, nil
}

// checkMount holds a mount's certificate against the one on record, of which it may have
// an older one for the same key.
func checkMount(ctx context.Context, at Mount, name string, want *x509.Certificate) error {
	der, err := at.Issuer(ctx)
	if errors.Is(err, keys.ErrNotFound) {
		return fmt.Errorf("no PKI mount with a certificate answers for %s; see its path and namespace: %w", name, err)
	}
	if err != nil {
		return err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("couldn't read the certificate of the mount of %s: %w", name, err)
	}
	if !bytes.Equal(cert.RawSubjectPublicKeyInfo, want.RawSubjectPublicKeyInfo) || !bytes.Equal(cert.RawSubject, want.RawSubject) || !bytes.Equal(cert.SubjectKeyId, want.SubjectKeyId) {
		return fmt.Errorf("the mount issues with another certificate (%s, %s) than %s is on record with: %s; see which is its default issuer", SerialOf(cert), cert.Subject, name, SerialOf(want))
	}
	return nil
}
