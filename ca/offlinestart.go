package ca

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"bollard/internal/failpoint"
	"bollard/ledger"
)

// offlineTag marks the change to a root made elsewhere; the root's hash follows.
const offlineTag = "offline-"

// ErrOffline says that a root's key isn't here.
var ErrOffline = errors.New("the key of the root is offline (docs/ceremony.md)")

// distant is the public key of a root whose holder has shown to have the other half, by
// the certificate it signed itself.
type distant struct{ public crypto.PublicKey }

// Public makes it a crypto.Signer, which signs nothing.
func (d distant) Public() crypto.PublicKey { return d.public }

// Sign is ErrOffline.
func (d distant) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, ErrOffline
}

// File is what somebody made elsewhere, and the name that errors have for it; "": none.
type File struct {
	Name string
	Data []byte
}

// blame says that an error is about the file.
func (f File) blame(err error) error {
	if err == nil || f.Name == "" {
		return err
	}
	return fmt.Errorf("%s: %w", f.Name, err)
}

// RootElsewhere is what comes back from where a root is made. Everything is PEM; the list
// may be DER.
type RootElsewhere struct {
	Chain []File // the certificate of each CA below the root here, and that of the root
	List  File   // the root's revocation list
	// Cross is the new root as the present one certified it, whose key is offline, too;
	// empty where that is here and does it now.
	Cross File
}

// taken is that as it was read.
type taken struct {
	below []given
	root  given
	list  *x509.RevocationList
	cross *x509.Certificate
	from  RootElsewhere
}

// given is a certificate, and the file it came in.
type given struct {
	*x509.Certificate
	file File
}

func readTaken(from RootElsewhere) (t taken, err error) {
	t.from = from
	for _, file := range from.Chain {
		below, root, err := readBelow(file.Data)
		switch {
		case err != nil:
			return t, file.blame(err)
		case len(below) == 0 && root == nil:
			return t, file.blame(errors.New("there is no certificate in it"))
		case root != nil && t.root.Certificate != nil && !root.Equal(t.root.Certificate):
			return t, file.blame(fmt.Errorf("it has another root, %s, serial number %s, than %s", root.Subject, SerialOf(root), cmp.Or(t.root.file.Name, "the chain before it")))
		case root != nil:
			t.root = given{root, file}
		}
		for _, cert := range below {
			t.below = append(t.below, given{cert, file})
		}
	}
	if len(t.below) == 0 || t.root.Certificate == nil {
		return t, errors.New("the chain has to be PEM certificates: that of each CA here, and the root's")
	}
	if t.list, err = readList(from.List.Data); err != nil {
		return t, from.List.blame(err)
	}
	if len(from.Cross.Data) == 0 {
		return t, nil
	}
	block, _ := pem.Decode(from.Cross.Data) // behind it is who certified it
	if block == nil {
		return t, from.Cross.blame(errors.New("couldn't read the next root as the present one certified it: it isn't PEM"))
	}
	if t.cross, err = x509.ParseCertificate(block.Bytes); err != nil {
		return t, from.Cross.blame(fmt.Errorf("couldn't read the next root as the present one certified it: %w", err))
	}
	return t, nil
}

// readBelow reads certificates that one root gave, and that of the root, if it is there.
func readBelow(data []byte) (below []*x509.Certificate, root *x509.Certificate, err error) {
	for rest := bytes.TrimSpace(data); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" {
			return nil, nil, notCertificates(block)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		switch {
		case err != nil:
			return nil, nil, fmt.Errorf("couldn't read the chain: %w", err)
		case !bytes.Equal(cert.RawSubject, cert.RawIssuer):
			below = append(below, cert)
		case root != nil && !root.Equal(cert):
			return nil, nil, errors.New("there are two roots in the chain")
		default:
			root = cert
		}
	}
	return below, root, nil
}

// notCertificates says what stands where PEM certificates belong, and nothing else; nil:
// no PEM.
func notCertificates(block *pem.Block) error {
	if block == nil {
		return errors.New("couldn't read the chain: it isn't PEM certificates, and nothing else")
	}
	return fmt.Errorf("couldn't read the chain: it has a %.60q, and has to be PEM certificates and nothing else", block.Type)
}

// RolloverTo is Rollover to a root whose key is elsewhere, such as one of a ceremony:
// with the certificates it gave the CAs below the root here, and its revocation list. All
// have to be what Bollard's profiles say. The old root certifies the new one, or did so
// where it is, if its key is offline.
func (a *Authority) RolloverTo(ctx context.Context, kind Kind, from RootElsewhere, actor string) (Rollover, error) {
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
	}
	t, err := readTaken(from)
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
	now := a.cfg.Clock().UTC()
	if err := a.checkClock(ctx, now); err != nil {
		return change, err
	}
	next := Rollover{Kind: kind, Generation: change.present() + 1, Phase: PhasePreparing, Tag: tag}
	records, err := a.checkTaken(ctx, h, l, h.rootName(next.Generation), t, actor, now)
	if err != nil {
		return change, err
	}
	if change.Phase != PhasePreparing {
		if change, err = a.step(ctx, h, next, actor); err != nil {
			return change, err
		}
	}
	failpoint.Hit("ca.rollover-preparing")
	// The bridge first: what can fail for want of a key does before anything is taken in.
	if t.cross == nil {
		if err := a.crossHere(ctx, h, l.cas[0], change, t.root.Certificate, actor); err != nil {
			return change, err
		}
	}
	failpoint.Hit("ca.rollover-cross")
	in := intake{kind: kind, actor: actor, records: records, name: h.rootName(change.Generation), list: t.list}
	change.Phase = PhaseStarted
	return a.stepBy(ctx, h, change, actor, func(ctx context.Context, next Rollover, events ...ledger.Event) error {
		in.next = &next
		err := a.takeIn(ctx, in, events...)
		failpoint.Hit("ca.rollover-below")
		return err
	})
}

// crossHere has the old root, whose key is here, certify one that was made elsewhere.
func (a *Authority) crossHere(ctx context.Context, h hierarchy, old caRecord, change Rollover, made *x509.Certificate, actor string) error {
	oldRoot, err := a.openIssuer(ctx, old)
	if err != nil {
		return err
	}
	name := h.rootName(change.Generation)
	root, err := newIssuer(name, h.root, made, distant{made.PublicKey})
	if err != nil {
		return err
	}
	_, err = builder{a: a, h: h, actor: actor}.ensure(ctx, wantedCA{name: name, profile: h.cross, issuedBy: oldRoot.name, by: oldRoot, like: root})
	return err
}

// takeUnder takes in a certificate that an offline root gave a CA below it: a further one
// of a CA there is, or the first of one whose key waits for it, which issues then.
func (a *Authority) takeUnder(ctx context.Context, h hierarchy, data []byte, actor string) error {
	l := a.hierarchy(h.kind)
	given, root, err := readBelow(data)
	if err != nil {
		return err
	}
	if len(given) != 1 {
		return errors.New("the chain has to be PEM of two certificates: that of one CA here, and the root's")
	}
	below := given[0]
	above, err := l.offlineAbove(h, below)
	if err != nil {
		return err
	}
	if root != nil && !root.Equal(above.cert) {
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
	if err := a.checkBelow(h, above, ours, below, now); err != nil {
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

// intake is what is taken in of an offline root.
type intake struct {
	kind    Kind
	actor   string
	records []Record
	name    string // of the root whose list it is
	list    *x509.RevocationList
	revokes []string  // CAs in force that the list revokes all the same
	forgets []string  // serial numbers on the list before that it lacks all the same
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
		case err == nil && list.Number.Cmp(known.Number) == 0 && !bytes.Equal(list.Raw, known.Raw): // RFC 5280 §5.2.3
			return fmt.Errorf("there is another list %s of %s: one of them was signed in an older copy of the root's folder; sign one more in the newest", list.Number, in.name)
		}
		taken = &RootList{Issuer: in.name, DER: list.Raw, NextUpdate: list.NextUpdate}
		event := ledger.Event{Kind: "crl.imported", Subject: in.name, Actor: in.actor, Data: map[string]string{
			"number": list.Number.String(), "until": list.NextUpdate.UTC().Format(time.RFC3339), "sha256": hashHex(list.Raw),
		}}
		if len(in.revokes) > 0 {
			event.Data["revokes"] = strings.Join(in.revokes, ", ")
		}
		if len(in.forgets) > 0 {
			event.Data["forgets"] = strings.Join(in.forgets, ", ")
		}
		events = append(events, event)
	}
	if err := a.cfg.Store.TakeIn(ctx, in.records, taken, in.next, events...); err != nil {
		return fmt.Errorf("couldn't record what the offline root signed: %w", err)
	}
	return nil
}

// isOffline tells whether the key of a change's new root is elsewhere.
func (r Rollover) isOffline() bool { return strings.HasPrefix(r.Tag, offlineTag) }
