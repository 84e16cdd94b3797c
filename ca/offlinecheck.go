package ca

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"bollard/internal/curve448"
)

// checkTaken holds what comes back against what the profiles say, and makes records of it.
func (a *Authority) checkTaken(ctx context.Context, h hierarchy, l *loadedHierarchy, name string, t taken, actor string, now time.Time) ([]Record, error) {
	if err := a.checkRoot(h, t.root.Certificate, now); err != nil {
		return nil, t.root.file.blame(err)
	}
	for _, c := range l.cas {
		if bytes.Equal(c.cert.RawSubjectPublicKeyInfo, t.root.RawSubjectPublicKeyInfo) {
			return nil, t.root.file.blame(fmt.Errorf("the root of the chain is %s, which is or was a CA here already", c.name))
		}
	}
	key, err := proven(t.root.PublicKey) // by signing itself
	if err != nil {
		return nil, err
	}
	if err := a.checkKey(ctx, Order{Profile: h.root, Key: key, Requester: actor}); err != nil {
		return nil, t.root.file.blame(fmt.Errorf("the key of the root: %w", err))
	}
	root := caRecord{name: name, profile: h.root, cert: t.root.Certificate}
	records := []Record{takenRecord(t.root.Certificate, name, h.root, "", actor, now)}
	var tops []caRecord
	for _, c := range l.cas {
		if c.profile == h.subs[0] {
			tops = append(tops, c)
		}
	}
	for _, c := range tops {
		i := slices.IndexFunc(t.below, func(b given) bool {
			return bytes.Equal(b.RawSubjectPublicKeyInfo, c.cert.RawSubjectPublicKeyInfo)
		})
		if i < 0 {
			return nil, fmt.Errorf("none of the certificates is for %s (%s); bollard ca request %s --ca %s prints the request for it", c.name, c.cert.Subject, h.kind, c.name)
		}
		below := t.below[i]
		if err := a.checkBelow(h, root, c, below.Certificate, now); err != nil {
			return nil, below.file.blame(err)
		}
		if revokes(t.list, below.Certificate) {
			return nil, t.from.List.blame(fmt.Errorf("the root's list revokes the certificate of %s", c.name))
		}
		records = append(records, takenRecord(below.Certificate, name, c.profile, c.keyURI, actor, now))
	}
	if len(t.below) > len(tops) {
		return nil, t.surplus(tops)
	}
	if err := t.list.CheckSignatureFrom(t.root.Certificate); err != nil {
		return nil, t.from.List.blame(fmt.Errorf("the revocation list isn't the root's: %w", err))
	}
	if err := checkList(t.list, t.root.Certificate, now); err != nil {
		return nil, t.from.List.blame(err)
	}
	old := l.cas[0]
	switch {
	case old.keyURI != "" && t.cross != nil:
		return nil, fmt.Errorf("the key of the present root %s is here, and certifies the next one now: leave --cross out", old.name)
	case old.keyURI != "":
		return records, nil
	case t.cross == nil:
		return nil, fmt.Errorf("%w: the key of the present root %s is offline, too, and has to certify the next one, for stations that follow it: a ceremony of it with next_root makes the file for --cross", ErrRollover, old.name)
	}
	if err := a.checkCross(ctx, h, old, t, now); err != nil {
		return nil, t.from.Cross.blame(err)
	}
	return append(records, takenRecord(t.cross, old.name, h.cross, "", actor, now)), nil
}

// surplus names what is in the chain beside the certificates of the CAs here and the root's.
func (t taken) surplus(tops []caRecord) error {
	for i, b := range t.below {
		known := slices.ContainsFunc(tops, func(c caRecord) bool {
			return bytes.Equal(b.RawSubjectPublicKeyInfo, c.cert.RawSubjectPublicKeyInfo)
		})
		twice := slices.ContainsFunc(t.below[:i], func(o given) bool {
			return bytes.Equal(b.RawSubjectPublicKeyInfo, o.RawSubjectPublicKeyInfo)
		})
		if !known || twice {
			return b.file.blame(fmt.Errorf("there is more in the chain than the root and %d CAs here: %s", len(tops), b.Subject))
		}
	}
	return fmt.Errorf("there is more in the chain than the root and %d CAs here", len(tops))
}

// checkRoot holds a root that was made elsewhere against the profile.
func (a *Authority) checkRoot(h hierarchy, root *x509.Certificate, now time.Time) error {
	hash, err := keyHash(root.PublicKey)
	if err != nil {
		return err
	}
	subject := Subject{CommonName: h.commonName(h.root, hash[:8])}
	p, err := a.planOf(root, profiles[h.root], &issuer{signer: distant{root.PublicKey}}, subjectPlan{subject, nil})
	if err != nil {
		return err
	}
	switch err := root.CheckSignatureFrom(root); {
	case err != nil:
		return fmt.Errorf("the root doesn't sign itself: %w", err)
	case now.Before(root.NotBefore) || root.NotAfter.Sub(now) < leastLife:
		return fmt.Errorf("the root is valid from %s to %s only", root.NotBefore.Format(time.DateOnly), root.NotAfter.Format(time.DateOnly))
	}
	if err := lint(root, p, a.shapes); err != nil {
		return fmt.Errorf("the root isn't one of %s by its profile: organisation, country and hierarchy of the script have to be those here, and it no rehearsal: %w", a.cfg.Organisation, err)
	}
	return nil
}

// checkCross: the old root, whose key is offline, certified the new one.
func (a *Authority) checkCross(ctx context.Context, h hierarchy, old caRecord, t taken, now time.Time) error {
	if !bytes.Equal(t.cross.RawSubjectPublicKeyInfo, t.root.RawSubjectPublicKeyInfo) || !bytes.Equal(t.cross.RawSubject, t.root.RawSubject) || !bytes.Equal(t.cross.SubjectKeyId, t.root.SubjectKeyId) {
		return fmt.Errorf("what %s certified isn't the next root (%s)", old.name, t.root.Subject)
	}
	if err := a.checkMade("the next root", t.cross, h.cross, old, subjectPlan{like: t.root.Certificate}, now); err != nil {
		return err
	}
	switch list, err := a.rootList(ctx, old.name); {
	case err != nil && !errors.Is(err, ErrOffline):
		return err
	case err == nil && revokes(list, t.cross):
		return fmt.Errorf("the list of %s here revokes what it certified the next root by", old.name)
	}
	return nil
}

// checkBelow: a root gave the certificate to the CA here, under the name and key identifier
// it has, or will have: ours has no certificate while its key waits for one.
func (a *Authority) checkBelow(h hierarchy, root, ours caRecord, cert *x509.Certificate, now time.Time) error {
	called := subjectPlan{like: ours.cert}
	if ours.cert == nil {
		hash := hashHex(cert.RawSubjectPublicKeyInfo)
		called = subjectPlan{subject: Subject{CommonName: h.commonName(ours.profile, hash[:8])}}
	} else if !bytes.Equal(cert.RawSubject, ours.cert.RawSubject) || !bytes.Equal(cert.SubjectKeyId, ours.cert.SubjectKeyId) {
		return fmt.Errorf("the certificate with the key of %s is for another name or key identifier than it has: %s, %x", ours.name, ours.cert.Subject, ours.cert.SubjectKeyId)
	}
	return a.checkMade(ours.name, cert, ours.profile, root, called, now)
}

// checkMade: an offline root signed a CA's certificate, and it is what it would have been
// made as here.
func (a *Authority) checkMade(name string, cert *x509.Certificate, profile string, root caRecord, called subjectPlan, now time.Time) error {
	by, err := newIssuer(root.name, root.profile, root.cert, distant{root.cert.PublicKey})
	if err != nil {
		return err
	}
	p, err := a.planOf(cert, profiles[profile], by, called)
	if err != nil {
		return err
	}
	if err := cert.CheckSignatureFrom(root.cert); err != nil {
		return fmt.Errorf("the certificate of %s isn't signed by the root %s: %w", name, root.name, err)
	}
	if now.Before(cert.NotBefore) || cert.NotAfter.Sub(now) < leastLife {
		return fmt.Errorf("the certificate of %s is valid from %s to %s only", name, cert.NotBefore.Format(time.DateOnly), cert.NotAfter.Format(time.DateOnly))
	}
	if !slices.Equal(cert.CRLDistributionPoints, p.crl) {
		return fmt.Errorf("the certificate of %s says that the root's list is at %q, and it is at %q: status and name in the script say where", name, cert.CRLDistributionPoints, p.crl)
	}
	if err := lint(cert, p, a.shapes); err != nil {
		return fmt.Errorf("the certificate of %s: %w", name, err)
	}
	return nil
}

// subjectPlan is the name a certificate has to have: by its parts, or that of another.
type subjectPlan struct {
	subject Subject
	like    *x509.Certificate
}

// planOf is what a certificate that was made elsewhere would have been planned as here:
// its serial number and dates are its own, within the profile's limits.
func (a *Authority) planOf(cert *x509.Certificate, profile Profile, by *issuer, s subjectPlan) (plan, error) {
	var err error
	if by.algorithm, err = signatureAlgorithm(by.signer.Public()); err != nil {
		return plan{}, err
	}
	p := plan{profile: profile, issuer: by, serial: cert.SerialNumber, key: cert.PublicKey, notBefore: cert.NotBefore, notAfter: cert.NotAfter}
	p.subject = subjectName(profile, s.subject, a.cfg.Organisation, a.cfg.Country)
	if s.like != nil {
		p.subject = withDomain(s.like.Subject, domainOf(s.like.Subject))
	}
	if p.spki, err = curve448.MarshalPublicKey(cert.PublicKey); err != nil {
		return plan{}, err
	}
	if p.keyID, err = profile.keyID(p.spki); err != nil {
		return plan{}, err
	}
	if profile.AnyPolicy && len(cert.Policies) > 0 { // an earlier version on the root's machine says nothing of them
		p.policies = []x509.OID{anyPolicy()}
	}
	if base := a.cfg.StatusURL; base != "" {
		p.crl = urls(profile.CRL, base+"/"+by.name+".crl")
		p.ocsp = urls(profile.OCSP, base+OCSPPath)
		p.issuers = urls(profile.CAIssuers, base+"/"+by.name+".crt")
	}
	return p, nil
}

// takenRecord is a CA certificate that an offline root signed, as if it were made here.
func takenRecord(cert *x509.Certificate, issuer, profile, keyURI, actor string, now time.Time) Record {
	return Record{
		Intent: Intent{
			Serial: SerialOf(cert), Issuer: issuer, Profile: profile, Requester: actor, Reference: keyReference + keyURI,
			TBSHash: hashHex(cert.RawTBSCertificate), KeyHash: hashHex(cert.RawSubjectPublicKeyInfo), Subject: cert.Subject.String(),
			NotBefore: cert.NotBefore, NotAfter: cert.NotAfter, CreatedAt: now,
		},
		State: StateIssued, DER: cert.Raw, IssuedAt: now,
	}
}
