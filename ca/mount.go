package ca

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"bollard/internal/failpoint"
	"bollard/keys"
	"bollard/ledger"
)

// Mount is a PKI mount of a Vault, which keeps the key of a CA and issues with it itself.
// *keys.Mount is one. Errors that are keys.ErrUnavailable leave open whether it did what
// was asked. Its answers are judged here.
type Mount interface {
	Role() string // that sets the names of stations' certificates; "": their requests do
	Issuer(ctx context.Context) ([]byte, error)
	Sign(ctx context.Context, order keys.MountOrder) ([]byte, error)
	// Certificate returns an issued one by the octets of its serial number, or
	// keys.ErrNotFound.
	Certificate(ctx context.Context, serial []byte) ([]byte, error)
	Serials(ctx context.Context) ([][]byte, error) // of all it issued
	Revoke(ctx context.Context, serial []byte) error
	RevokeShown(ctx context.Context, der []byte) error // one that it issued and didn't keep
	Revocations(ctx context.Context) ([]byte, error)
}

// MountStore is a Store that keeps what a mount issued. Its methods are bound as Store's.
type MountStore interface {
	// Renumber gives an intended record the serial number, dates and hash of what the
	// mount signed for it. ErrDuplicateSerial if another record has the number.
	Renumber(ctx context.Context, serial string, to Intent, events ...ledger.Event) error
	// GiveUp makes an intended record an orphaned one, as OrphanIntents does at a start.
	GiveUp(ctx context.Context, serial string, at time.Time, events ...ledger.Event) error
	// PutFound records a certificate that a mount issued and nobody was given, orphaned.
	// ErrDuplicateSerial if its serial number is known.
	PutFound(ctx context.Context, record Record, events ...ledger.Event) error
	// Unsettled returns revoked and orphaned records of an issuer that Settle wasn't
	// called for, oldest first, no more than most.
	Unsettled(ctx context.Context, issuer string, most int) ([]Record, error)
	// Intended returns the intended records of an issuer created before a time.
	Intended(ctx context.Context, issuer string, before time.Time) ([]Record, error)
	// Replace is PutRequest which revokes, in the same write, the CA certificate of the
	// request that is given up for it.
	Replace(ctx context.Context, r Request, serial, reason string, events ...ledger.Event) error
	// Settle notes that the mount knows of a record's end. Idempotent.
	Settle(ctx context.Context, serial string, at time.Time, events ...ledger.Event) error
}

// ErrMounted refuses what only a CA whose key is here can do.
var ErrMounted = errors.New("the key of this CA is in a PKI mount of a Vault, which alone issues with it")

// ErrNoMount refuses to have a mount issue where none can, or none waits to.
var ErrNoMount = errors.New("no PKI mount can issue there")

// ErrMountAnswer says that a mount issued something else than it was asked for.
var ErrMountAnswer = errors.New("the mount issued something else than it was asked for")

// mountSigner stands in for the key of a CA that is a mount.
type mountSigner struct {
	at     Mount
	public crypto.PublicKey
}

// Public makes it a crypto.Signer, which signs nothing.
func (m mountSigner) Public() crypto.PublicKey { return m.public }

// Sign is ErrMounted.
func (m mountSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, ErrMounted
}

// mount is what issues in a CA's place; nil if its key is here.
func (by *issuer) mount() Mount {
	if m, ok := by.signer.(mountSigner); ok {
		return m.at
	}
	return nil
}

// mounts is the store's part for them.
func (a *Authority) mounts() (MountStore, error) {
	store, ok := a.cfg.Store.(MountStore)
	if !ok {
		return nil, errors.New("internal error: the store keeps nothing of mounts")
	}
	return store, nil
}

// mountOrder is what a mount is asked for, to have the certificate that was outlined.
// Vault demands a request that the holder of the key signed. For a key of Bollard's own
// that says everything; another's is taken word for word, or gives its key alone and a
// role of the mount the names, for stations. ErrMounted if what comes would be something
// else.
func (a *Authority) mountOrder(at Mount, p plan, key ProvenKey, want *x509.Certificate) (keys.MountOrder, error) {
	order := keys.MountOrder{Request: key.request, NotAfter: want.NotAfter, KeyUsage: usageNames(want.KeyUsage), ExtKeyUsage: purposeNames(want.ExtKeyUsage)}
	switch {
	case key.signer != nil:
		template := &x509.CertificateRequest{RawSubject: want.RawSubject, ExtraExtensions: slices.DeleteFunc(slices.Clone(want.Extensions), addedByMount)}
		der, err := x509.CreateCertificateRequest(rand.Reader, template, key.signer)
		if err != nil {
			return order, fmt.Errorf("couldn't sign the request for the mount: %w", err)
		}
		order.Request = der
		return order, nil
	case key.request == nil:
		return order, fmt.Errorf("%w: it asks for a request signed with the key, of which there is none", ErrMounted)
	case len(p.policies) > 0:
		return order, fmt.Errorf("%w: it can't be told of policies (assurance)", ErrMounted)
	case at.Role() != "" && p.profile.Name == ProfileStation:
		order.Role, order.CommonName = at.Role(), p.subject.CommonName
		return order, nil
	}
	said, err := x509.ParseCertificateRequest(key.request)
	if err != nil {
		return order, err
	}
	if fault := differs(said, want); fault != "" {
		return order, fmt.Errorf("%w, word for word as requests say, and this one has %s; a role of the mount (role= in its URI) sets the names of stations instead", ErrMounted, fault)
	}
	return order, nil
}

// differs says what of a request that is taken word for word isn't what was planned.
func differs(said *x509.CertificateRequest, want *x509.Certificate) string {
	if string(said.RawSubject) != string(want.RawSubject) {
		return fmt.Sprintf("another subject than %q, or another encoding of it", want.Subject)
	}
	for _, e := range said.Extensions {
		i := slices.IndexFunc(want.Extensions, func(w pkix.Extension) bool { return w.Id.Equal(e.Id) })
		if i < 0 || want.Extensions[i].Critical != e.Critical || string(want.Extensions[i].Value) != string(e.Value) {
			return fmt.Sprintf("extension %s, or another value of it than planned", e.Id)
		}
	}
	for _, w := range want.Extensions {
		if w.Id.Equal(oidSAN) && !slices.ContainsFunc(said.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidSAN) }) {
			return "no alternative names"
		}
	}
	return ""
}

// addedByMount: a mount takes no basic constraints from a request, its own certificate says
// what the authority's key identifier is, and its settings have the pointers of all it
// issues: asked for without them, the first certificate shows whether they are right.
func addedByMount(e pkix.Extension) bool {
	return slices.ContainsFunc([]asn1.ObjectIdentifier{oidBasicConstraints, oidAuthorityKeyID, oidCRLPoints, oidInfoAccess}, e.Id.Equal)
}

// usageNames are those that Vault has for key usages: crypto/x509's.
func usageNames(usage x509.KeyUsage) []string {
	names := []string{}
	for bit, name := range map[x509.KeyUsage]string{x509.KeyUsageDigitalSignature: "DigitalSignature", x509.KeyUsageKeyEncipherment: "KeyEncipherment"} {
		if usage&bit != 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func purposeNames(purposes []x509.ExtKeyUsage) []string {
	names := []string{}
	for _, p := range purposes {
		switch p {
		case x509.ExtKeyUsageServerAuth:
			names = append(names, "ServerAuth")
		case x509.ExtKeyUsageOCSPSigning:
			names = append(names, "OCSPSigning")
		}
	}
	return names
}

// issueAt is the second phase at a mount. What it gives a certificate isn't known before:
// its serial number is put on record as soon as it is, before anything is judged, so that
// whatever the mount signed can be revoked there.
func (a *Authority) issueAt(ctx context.Context, at Mount, p *Prepared) (*Issued, error) {
	store, err := a.mounts()
	if err != nil {
		return nil, err
	}
	// A requester that leaves changes nothing: what was asked for may exist.
	ctx = context.WithoutCancel(ctx)
	if age := a.cfg.Clock().Sub(p.intent.CreatedAt); age > mountStale/2 {
		return nil, fmt.Errorf("certificate %s was prepared %s ago and isn't asked for any more; prepare it again", p.intent.Serial, age.Round(time.Second))
	}
	// 2. Ask. From here on a certificate may exist; its intent does.
	der, err := at.Sign(ctx, p.order)
	failpoint.Hit("ca.after-sign")
	recording, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	if err != nil {
		given := a.giveUp(recording, store, p.intent, nil)
		if given == nil && refusedByMount(err) {
			given = a.settled(recording, store, p.issuer, p.intent.Serial, "refused")
		}
		return nil, errors.Join(fmt.Errorf("couldn't get certificate %s from the mount: %w", p.intent.Serial, err), given)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, a.refuse(recording, store, p.intent, der, []string{fmt.Sprintf("it can't be read: %v", err)})
	}
	if fault := serialFault(cert.SerialNumber); fault != "" {
		return nil, a.refuse(recording, store, p.intent, der, []string{fault})
	}
	// 3. Its serial number, on disk: what the mount signed is known from here on.
	intent := p.intent
	intent.Serial, intent.TBSHash, intent.NotBefore, intent.NotAfter = SerialOf(cert), hashHex(cert.RawTBSCertificate), cert.NotBefore, cert.NotAfter
	err = store.Renumber(recording, p.intent.Serial, intent, ledger.Event{Kind: "certificate.numbered", Subject: intent.Serial, Actor: p.intent.Requester, Data: map[string]string{
		"issuer": intent.Issuer, "intent": p.intent.Serial, "tbs": intent.TBSHash, "key": intent.KeyHash,
	}})
	if errors.Is(err, ErrDuplicateSerial) {
		return nil, a.refuse(recording, store, p.intent, der, []string{"its serial number is another certificate's"})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("couldn't record certificate %s; it is not given out: %w", intent.Serial, err), a.giveUp(recording, store, p.intent, nil))
	}
	failpoint.Hit("ca.numbered")
	// 4. It is what was asked for.
	if faults := a.compare(cert, p); len(faults) > 0 {
		return nil, a.refuse(recording, store, intent, der, faults)
	}
	// 5. Recorded, on disk, before anybody gets it.
	p.intent = intent
	issued, err := a.recordIssued(recording, p, cert)
	if err != nil {
		return nil, errors.Join(err, a.giveUp(recording, store, intent, nil))
	}
	return issued, nil
}

// refusedByMount: it said no, so that there is nothing to look for.
func refusedByMount(err error) bool {
	return slices.ContainsFunc([]error{keys.ErrUnfit, keys.ErrDenied, keys.ErrLogin, keys.ErrNotFound}, func(known error) bool { return errors.Is(err, known) })
}

// refuse gives up what a mount issued and wasn't asked for; the mount is told to revoke it.
func (a *Authority) refuse(ctx context.Context, store MountStore, intent Intent, der []byte, faults []string) error {
	said := strings.Join(faults, "; ")
	a.cfg.Log.Error("a PKI mount issued something else than it was asked for: it is not given out, and revoked", "issuer", intent.Issuer, "serial", intent.Serial, "faults", said)
	err := fmt.Errorf("%w as %s: %s; it is not given out, and revoked there; see who changed the mount, its roles or URLs", ErrMountAnswer, intent.Issuer, said)
	if a.cfg.Alarm != nil {
		err = errors.Join(err, a.cfg.Alarm(ctx, intent.Issuer))
	}
	return errors.Join(err, a.giveUp(ctx, store, intent, &ledger.Event{Kind: "certificate.refused", Subject: intent.Serial, Actor: "bollard", Data: map[string]string{
		"issuer": intent.Issuer, "faults": clipped(said), "fingerprint": hashHex(der), "key": intent.KeyHash,
	}}))
}

// clipped keeps a text short enough for the ledger.
func clipped(text string) string {
	const most = 500
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// giveUp orphans an intent, and has the mount asked what became of it.
func (a *Authority) giveUp(ctx context.Context, store MountStore, intent Intent, why *ledger.Event) error {
	events := []ledger.Event{{Kind: "certificate.orphaned", Subject: intent.Serial, Actor: "bollard", Data: map[string]string{"issuer": intent.Issuer, "profile": intent.Profile}}}
	if why != nil {
		events = append([]ledger.Event{*why}, events...)
	}
	if err := store.GiveUp(ctx, intent.Serial, a.cfg.Clock().UTC(), events...); err != nil {
		return fmt.Errorf("couldn't record that certificate %s is given up, which is tried again: %w", intent.Serial, err)
	}
	a.errand()
	return nil
}
