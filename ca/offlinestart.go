package ca

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"bollard/internal/failpoint"
	"bollard/ledger"
)

// RootList is the revocation list of a root whose key is elsewhere.
type RootList struct {
	Issuer     string // its name here
	DER        []byte
	NextUpdate time.Time
	Revokes    []string // CAs that issue, by RootLists
}

// offlineTag marks the change to a root made elsewhere; the root's hash follows.
const offlineTag = "offline-"

// ErrOffline says that a root's key isn't here.
var ErrOffline = errors.New("the key of the root is offline (docs/ceremony.md)")

// ErrListRevokes refuses a list after which relying parties would follow nothing that is
// issued here.
var ErrListRevokes = errors.New("the list revokes a CA in force")

// distant is the public key of a root whose holder has shown to have the other half, by
// the certificate it signed itself.
type distant struct{ public crypto.PublicKey }

// Public makes it a crypto.Signer, which signs nothing.
func (d distant) Public() crypto.PublicKey { return d.public }

// Sign is ErrOffline.
func (d distant) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, ErrOffline
}

// taken is what comes back from where a root is made.
type taken struct {
	below, root *x509.Certificate
	list        *x509.RevocationList
}

// readTaken reads PEM of the certificate of a CA here and of its root, and the root's list.
func readTaken(chain, list []byte) (taken, error) {
	var t taken
	for _, to := range []**x509.Certificate{&t.below, &t.root} {
		block, rest := pem.Decode(chain)
		if block == nil || block.Type != "CERTIFICATE" {
			return t, errors.New("the chain has to be two PEM certificates: that of the CA here, and the root's")
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return t, fmt.Errorf("couldn't read the chain: %w", err)
		}
		*to, chain = cert, rest
	}
	if len(bytes.TrimSpace(chain)) > 0 {
		return t, errors.New("there is more in the chain than the CA here and its root")
	}
	var err error
	t.list, err = readList(list)
	return t, err
}

func readList(data []byte) (*x509.RevocationList, error) {
	if block, _ := pem.Decode(data); block != nil && block.Type == "X509 CRL" {
		data = block.Bytes
	}
	list, err := x509.ParseRevocationList(data)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the root's revocation list: %w", err)
	}
	return list, nil
}

// RolloverTo is Rollover to a root whose key is elsewhere, such as one of a ceremony:
// with the certificate it gave the CA below the root here, and its revocation list. All
// three have to be what Bollard's profiles say. The old root certifies the new one.
func (a *Authority) RolloverTo(ctx context.Context, kind Kind, chain, list []byte, actor string) (Rollover, error) {
	a.building.Lock()
	defer a.building.Unlock()
	h, err := hierarchyOf(kind)
	if err != nil {
		return Rollover{}, err
	}
	l := a.hierarchy(kind)
	change := l.rollover
	switch {
	case h.use != "":
		return change, fmt.Errorf("%w: cars ask the roots of ISO 15118 by OCSP, which takes a key that is there; an offline one is an outside root: bollard ca request, ca trust add, ca import-chain", ErrRollover)
	case l.issuing == nil:
		return change, fmt.Errorf("%w: %s", ErrNoHierarchy, kind)
	case change.Phase == PhaseSwitched:
		return change, fmt.Errorf("%w: the change to root %d of %s is %s already", ErrRollover, change.Generation, kind, change.Phase)
	case l.cas[0].keyURI == "":
		return change, fmt.Errorf("%w: the present root's key is offline, and nobody here can certify the next one by it", ErrRollover)
	case slices.ContainsFunc(l.cas, func(c caRecord) bool { return c.former }):
		return change, fmt.Errorf("%w: a CA of %s whose key moved still answers for what it issued, and would have to be certified, too", ErrRollover, kind)
	}
	now := a.cfg.Clock().UTC()
	if err := a.checkClock(ctx, now); err != nil {
		return change, err
	}
	t, err := readTaken(chain, list)
	if err != nil {
		return change, err
	}
	tag := offlineTag + hashHex(t.root.Raw)[:12]
	switch {
	case change.Phase == PhaseStarted && change.Tag == tag:
		return change, nil
	case change.underWay():
		return change, fmt.Errorf("%w: the change to root %d of %s is %s already", ErrRollover, change.Generation, kind, change.Phase)
	case change.Phase == PhasePreparing && change.Tag != tag:
		return change, fmt.Errorf("%w: a start with another root was interrupted; go on with that one, or give it up: bollard ca rollover %s abort", ErrRollover, kind)
	}
	generation := change.present() + 1
	if change.Phase == PhasePreparing {
		generation = change.Generation
	}
	name := h.rootName(generation)
	if err := a.checkTaken(h, name, l.cas[1], t, now); err != nil {
		return change, err
	}
	if change.Phase != PhasePreparing {
		if change, err = a.step(ctx, h, Rollover{Kind: kind, Generation: generation, Phase: PhasePreparing, Tag: tag}, actor); err != nil {
			return change, err
		}
	}
	failpoint.Hit("ca.rollover-preparing")
	oldRoot, err := a.openIssuer(ctx, l.cas[0])
	if err != nil {
		return change, err
	}
	root, err := newIssuer(name, h.root, t.root, distant{t.root.PublicKey})
	if err != nil {
		return change, err
	}
	// The bridge first: what can fail for want of a key does before anything is taken in.
	if _, err := (builder{a: a, h: h, actor: actor}).ensure(ctx, wantedCA{name: name, profile: h.cross, issuedBy: oldRoot.name, by: oldRoot, like: root}); err != nil {
		return change, err
	}
	failpoint.Hit("ca.rollover-cross")
	records := []Record{takenRecord(t.root, name, h.root, "", actor, now), takenRecord(t.below, name, l.cas[1].profile, l.cas[1].keyURI, actor, now)}
	change.Phase = PhaseStarted
	return a.stepBy(ctx, h, change, actor, func(ctx context.Context, next Rollover, events ...ledger.Event) error {
		err := a.takeIn(ctx, intake{kind: kind, actor: actor, records: records, name: name, list: t.list, next: &next}, events...)
		failpoint.Hit("ca.rollover-below")
		return err
	})
}

// takeUnder takes in a certificate that an offline root gave a CA below it: a further one
// of a CA there is, or the first of one whose key waits for it, which issues then.
func (a *Authority) takeUnder(ctx context.Context, h hierarchy, data []byte, actor string) error {
	l := a.hierarchy(h.kind)
	block, rest := pem.Decode(data)
	if block == nil {
		return errors.New("the chain has to be two PEM certificates: that of the CA here, and the root's")
	}
	below, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return fmt.Errorf("couldn't read the chain: %w", err)
	}
	above, err := l.offlineAbove(h, below)
	if err != nil {
		return err
	}
	if root, _ := pem.Decode(rest); root != nil && !bytes.Equal(root.Bytes, above.cert.Raw) {
		return errors.New("the root of the chain isn't the one that stations have")
	}
	ours, _, err := a.certified(ctx, h, below)
	if err != nil {
		return err
	}
	if ours.cert == nil && !l.rollover.over() {
		return fmt.Errorf("%w: no CA begins to issue while the root of %s is changed; once that is over, the root there is then has to certify %s", ErrRollover, h.kind, ours.name)
	}
	now := a.cfg.Clock().UTC()
	if err := a.checkBelow(h, above.name, ours, taken{below: below, root: above.cert}, now); err != nil {
		return err
	}
	switch list, err := a.rootList(ctx, above.name); {
	case err != nil && !errors.Is(err, ErrOffline):
		return err
	case err == nil && revokes(list, below):
		return errors.New("the root's list here revokes the CA's certificate")
	}
	record := takenRecord(below, above.name, ours.profile, ours.keyURI, actor, now)
	if err := a.takeIn(ctx, intake{kind: h.kind, actor: actor, records: []Record{record}}); err != nil {
		return err
	}
	failpoint.Hit("ca.imported")
	if err := a.load(ctx, h); err != nil {
		return err
	}
	a.changed()
	return nil
}

// offlineAbove is the offline root in force that signed a certificate.
func (l *loadedHierarchy) offlineAbove(h hierarchy, below *x509.Certificate) (caRecord, error) {
	offline := false
	for _, c := range l.cas {
		if c.profile != h.root || c.keyURI != "" || c.retired {
			continue
		}
		if offline = true; below.CheckSignatureFrom(c.cert) == nil {
			return c, nil
		}
	}
	if !offline {
		return caRecord{}, fmt.Errorf("%s is certified by its root here; bollard ca rollover %s start --chain takes in a root that was made elsewhere", h.kind, h.kind)
	}
	return caRecord{}, fmt.Errorf("the certificate isn't signed by a root of %s that stations have", h.kind)
}

// ImportList takes in a newer revocation list of an offline root. ErrListRevokes if it
// revokes a CA in force, unless it is forced.
func (a *Authority) ImportList(ctx context.Context, kind Kind, data []byte, force bool, actor string) (*x509.RevocationList, error) {
	list, err := readList(data)
	if err != nil {
		return nil, err
	}
	a.building.Lock() // of two lists at once the older one isn't the last
	defer a.building.Unlock()
	now, l := a.cfg.Clock().UTC(), a.hierarchy(kind)
	for _, c := range l.cas {
		if c.keyURI != "" || c.profile == profileOutside || list.CheckSignatureFrom(c.cert) != nil {
			continue
		}
		if err := checkList(list, c.cert, now); err != nil {
			return nil, err
		}
		revoked := l.revokedBy(c, list, true)
		if len(revoked) > 0 && !force {
			return nil, fmt.Errorf("%w: %s", ErrListRevokes, strings.Join(revoked, ", "))
		}
		if err := a.takeIn(ctx, intake{kind: kind, actor: actor, name: c.name, list: list, revokes: revoked}); err != nil {
			return nil, err
		}
		for _, w := range a.watchers() {
			w.Revoked(c.name, "") // a list of it is served, and no longer the newest
		}
		return list, nil
	}
	return nil, fmt.Errorf("the list isn't by an offline root of %s", kind)
}

// revokedBy are the CAs in force that a root's list revokes, with or without those whose
// keys moved and that answer for what they issued.
func (l *loadedHierarchy) revokedBy(root caRecord, list *x509.RevocationList, formers bool) []string {
	revoked := func(cert *x509.Certificate) bool {
		return bytes.Equal(cert.RawIssuer, root.cert.RawSubject) && revokes(list, cert)
	}
	var names []string
	for _, c := range l.cas {
		if !c.retired && (formers || !c.former) && revoked(c.cert) {
			names = append(names, c.name)
		}
	}
	if l.cross != nil && revoked(l.cross) {
		names = append(names, "the next root, as certified by "+root.name)
	}
	return names
}

// checkTaken holds what comes back against what the profiles say.
func (a *Authority) checkTaken(h hierarchy, name string, below caRecord, t taken, now time.Time) error {
	hash, err := keyHash(t.root.PublicKey)
	if err != nil {
		return err
	}
	subject := Subject{CommonName: h.commonName(h.root, hash[:8])}
	p, err := a.planOf(t.root, profiles[h.root], &issuer{name: name, signer: distant{t.root.PublicKey}}, subjectPlan{subject, nil})
	if err != nil {
		return err
	}
	switch err := t.root.CheckSignatureFrom(t.root); {
	case err != nil:
		return fmt.Errorf("the root doesn't sign itself: %w", err)
	case now.Before(t.root.NotBefore) || t.root.NotAfter.Sub(now) < leastLife:
		return fmt.Errorf("the root is valid from %s to %s only", t.root.NotBefore.Format(time.DateOnly), t.root.NotAfter.Format(time.DateOnly))
	}
	if err := lint(t.root, p, a.shapes); err != nil {
		return fmt.Errorf("the root isn't one of %s by its profile: organisation, country and hierarchy of the script have to be those here, and it no rehearsal: %w", a.cfg.Organisation, err)
	}
	if err := a.checkBelow(h, name, below, t, now); err != nil {
		return err
	}
	if err := t.list.CheckSignatureFrom(t.root); err != nil {
		return fmt.Errorf("the revocation list isn't the root's: %w", err)
	}
	if revokes(t.list, t.below) {
		return errors.New("the root's list revokes the CA's certificate")
	}
	return checkList(t.list, t.root, now)
}

func revokes(list *x509.RevocationList, cert *x509.Certificate) bool {
	return slices.ContainsFunc(list.RevokedCertificateEntries, func(e x509.RevocationListEntry) bool {
		return e.SerialNumber.Cmp(cert.SerialNumber) == 0
	})
}

// checkList: it is in force, and no delta.
func checkList(list *x509.RevocationList, root *x509.Certificate, now time.Time) error {
	switch {
	case list.Number == nil || !bytes.Equal(list.RawIssuer, root.RawSubject):
		return errors.New("the root's list has no number, or is another's")
	case now.Before(list.ThisUpdate) || !now.Before(list.NextUpdate):
		return fmt.Errorf("the root's list is in force from %s to %s only", list.ThisUpdate.Format(time.RFC3339), list.NextUpdate.Format(time.RFC3339))
	}
	return nil
}

// checkBelow: the certificate is for the CA here, under the name and key identifier it has,
// or will have: below has no certificate while its key waits for one.
func (a *Authority) checkBelow(h hierarchy, name string, below caRecord, t taken, now time.Time) error {
	called := subjectPlan{like: below.cert}
	if below.cert == nil {
		hash := hashHex(t.below.RawSubjectPublicKeyInfo)
		called = subjectPlan{subject: Subject{CommonName: h.commonName(below.profile, hash[:8])}}
	} else if !bytes.Equal(t.below.RawSubjectPublicKeyInfo, below.cert.RawSubjectPublicKeyInfo) || !bytes.Equal(t.below.RawSubject, below.cert.RawSubject) || !bytes.Equal(t.below.SubjectKeyId, below.cert.SubjectKeyId) {
		return fmt.Errorf("the first certificate isn't for %s (%s); bollard ca request %s prints the request for it", below.name, below.cert.Subject, h.kind)
	}
	by, err := newIssuer(name, h.root, t.root, distant{t.root.PublicKey})
	if err != nil {
		return err
	}
	p, err := a.planOf(t.below, profiles[below.profile], by, called)
	if err != nil {
		return err
	}
	if err := t.below.CheckSignatureFrom(t.root); err != nil {
		return fmt.Errorf("the certificate of %s isn't signed by the root: %w", below.name, err)
	}
	if now.Before(t.below.NotBefore) || t.below.NotAfter.Sub(now) < leastLife {
		return fmt.Errorf("the certificate of %s is valid from %s to %s only", below.name, t.below.NotBefore.Format(time.DateOnly), t.below.NotAfter.Format(time.DateOnly))
	}
	if !slices.Equal(t.below.CRLDistributionPoints, p.crl) {
		return fmt.Errorf("the certificate of %s says that the root's list is at %q, and it is at %q: status and name in the script say where", below.name, t.below.CRLDistributionPoints, p.crl)
	}
	if err := lint(t.below, p, a.shapes); err != nil {
		return fmt.Errorf("the certificate of %s: %w", below.name, err)
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
	if p.keyID, err = profile.keyID(cert.PublicKey); err != nil {
		return plan{}, err
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

// intake is what is taken in of an offline root.
type intake struct {
	kind    Kind
	actor   string
	records []Record
	name    string // of the root whose list it is
	list    *x509.RevocationList
	revokes []string  // CAs in force that the list revokes all the same
	next    *Rollover // the step of a root change that this is
}

// takeIn records it all or none; the caller holds a.building. A list older than the one
// there is would forget revocations.
func (a *Authority) takeIn(ctx context.Context, in intake, events ...ledger.Event) error {
	for _, r := range in.records {
		events = append(events, ledger.Event{Kind: "ca.imported", Subject: string(in.kind), Actor: in.actor, Data: map[string]string{
			"profile": r.Profile, "serial": r.Serial, "issuer": r.Issuer, "sha256": hashHex(r.DER),
		}})
	}
	var taken *RootList
	if list := in.list; list != nil {
		switch known, err := a.rootList(ctx, in.name); {
		case err != nil && !errors.Is(err, ErrOffline):
			return err
		case err == nil && (list.Number == nil || list.Number.Cmp(known.Number) < 0):
			return fmt.Errorf("list %s is older than the one there is, %s", list.Number, known.Number)
		}
		taken = &RootList{Issuer: in.name, DER: list.Raw, NextUpdate: list.NextUpdate}
		event := ledger.Event{Kind: "crl.imported", Subject: in.name, Actor: in.actor, Data: map[string]string{
			"number": list.Number.String(), "until": list.NextUpdate.UTC().Format(time.RFC3339), "sha256": hashHex(list.Raw),
		}}
		if len(in.revokes) > 0 {
			event.Data["revokes"] = strings.Join(in.revokes, ", ")
		}
		events = append(events, event)
	}
	if err := a.cfg.Store.TakeIn(ctx, in.records, taken, in.next, events...); err != nil {
		return fmt.Errorf("couldn't record what the offline root signed: %w", err)
	}
	return nil
}

// rootList is the newest list of an offline root.
func (a *Authority) rootList(ctx context.Context, name string) (*x509.RevocationList, error) {
	l, err := a.cfg.Store.RootList(ctx, name)
	if err != nil {
		return nil, err
	}
	if len(l.DER) == 0 {
		return nil, fmt.Errorf("there is no revocation list of %s here: %w", name, ErrOffline)
	}
	return x509.ParseRevocationList(l.DER)
}

// RootLists are the lists of the roots of a hierarchy that are offline and in force.
func (a *Authority) RootLists(ctx context.Context, kind Kind) ([]RootList, error) {
	var lists []RootList
	hierarchy := a.hierarchy(kind)
	for _, c := range hierarchy.cas {
		if c.keyURI != "" || c.profile == profileOutside || c.borrowed || c.retired {
			continue
		}
		l, err := a.cfg.Store.RootList(ctx, c.name)
		if err != nil {
			return nil, err
		}
		l.Issuer = c.name
		if list, err := x509.ParseRevocationList(l.DER); err == nil {
			l.Revokes = hierarchy.revokedBy(c, list, false)
		}
		lists = append(lists, l)
	}
	return lists, nil
}

// isOffline tells whether the key of a change's new root is elsewhere.
func (r Rollover) isOffline() bool { return strings.HasPrefix(r.Tag, offlineTag) }
