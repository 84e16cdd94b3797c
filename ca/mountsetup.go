package ca

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"bollard/internal/failpoint"
	"bollard/keys"
	"bollard/ledger"
)

// mountAt opens a mount.
func (a *Authority) mountAt(uri string) (Mount, error) {
	if a.cfg.Mounts == nil {
		return nil, errors.New("internal error: ca.Config.Mounts is missing")
	}
	return a.cfg.Mounts(uri)
}

// CertifyMount has a hierarchy's root certify the key of a PKI mount, by the request that
// the mount made, as the next CA that issues. The mount takes the certificate, then
// UseMount has it issue. Repeated, it is the same certificate; with another request or
// mount, one that waits is given up, and its certificate revoked.
func (a *Authority) CertifyMount(ctx context.Context, kind Kind, uri string, request []byte, actor string) (*x509.Certificate, error) {
	a.building.Lock()
	defer a.building.Unlock()
	h, l, err := a.mountable(kind)
	if err != nil {
		return nil, err
	}
	if _, err := a.mountAt(uri); err != nil {
		return nil, err
	}
	csr, err := parseCSR(request, false)
	if err != nil {
		return nil, err
	}
	r, err := a.mountRequest(ctx, h, uri, csr.Key, actor)
	if err != nil {
		return nil, err
	}
	failpoint.Hit("ca.mount-requested")
	by, err := a.openIssuer(ctx, l.cas[0])
	if err != nil {
		return nil, err
	}
	w := wantedCA{name: h.generationName(r.Profile, r.Generation), profile: r.Profile, issuedBy: by.name, by: by, uri: r.KeyURI, held: distant{csr.Key.public}}
	have, err := a.findKey(ctx, h, w.name, w.profile, w.issuedBy, func(hash string) bool { return hash == r.KeyHash })
	if err == nil {
		return have.cert, nil
	}
	if !errors.Is(err, ErrNoHierarchy) {
		return nil, err
	}
	made, err := builder{a: a, h: h, actor: actor}.certify(ctx, w)
	if err != nil {
		return nil, err
	}
	return made.cert, nil
}

// mountable refuses hierarchies that no mount can issue for.
func (a *Authority) mountable(kind Kind) (hierarchy, *loadedHierarchy, error) {
	h, err := hierarchyOf(kind)
	if err != nil {
		return h, nil, err
	}
	l := a.hierarchy(kind)
	switch {
	case kind != KindCSMS:
		return h, nil, fmt.Errorf("%w: for csms alone, not for %s", ErrNoMount, kind)
	case l.issuing == nil:
		return h, nil, fmt.Errorf("%w: %s; make it with bollard ca create %s", ErrNoHierarchy, kind, kind)
	case l.cas[0].keyURI == "":
		return h, nil, fmt.Errorf("%w: the key of the root of %s, which would have to certify it, is offline", ErrNoMount, kind)
	case l.rollover.underWay():
		return h, nil, fmt.Errorf("%w: the root of %s is being changed: bollard ca rollover %s show", ErrRollover, kind, kind)
	}
	return h, l, nil
}

// mountRequest is on record before the certificate: the next generation of keys, of which
// nothing is issued while it waits.
func (a *Authority) mountRequest(ctx context.Context, h hierarchy, uri string, key ProvenKey, actor string) (Request, error) {
	list, err := a.cfg.Store.Requests(ctx, h.kind)
	if err != nil {
		return Request{}, err
	}
	newest := Request{}
	if len(list) > 0 {
		newest = list[0]
	}
	if newest.KeyURI == uri && newest.KeyHash == key.hash {
		return newest, nil
	}
	// A former CA answers for what it issued under its own name, which the same key under
	// another would take from it; and its certificate would be found instead of a new one.
	for _, c := range a.hierarchy(h.kind).cas {
		if hashHex(c.cert.RawSubjectPublicKeyInfo) == key.hash {
			return Request{}, fmt.Errorf("%w: it is that of %s, which answers for what it issued; have the mount make another (vault write MOUNT/intermediate/generate/internal …), and make that its default issuer", ErrKeyInUse, c.name)
		}
	}
	r := Request{
		Kind: h.kind, Generation: a.nextGeneration(newest, false), Profile: h.issuing(), KeyURI: uri,
		KeyHash: key.hash, CreatedAt: a.cfg.Clock().UTC(), Waiting: true,
	}
	return r, a.replace(ctx, h, newest, r, ledger.Event{Kind: "ca.requested", Subject: string(h.kind), Actor: actor, Data: map[string]string{
		"profile": r.Profile, "generation": strconv.Itoa(r.Generation), "key": r.KeyHash, "holder": keys.Holder(uri),
	}})
}

// replace puts a request on record. If the one before it is a mount's that waits, that is
// given up: what the root certified for it would be a CA until its end, so it is revoked.
func (a *Authority) replace(ctx context.Context, h hierarchy, before, r Request, event ledger.Event) error {
	const reason = "superseded"
	var given Record
	err := ErrUnknownSerial
	if before.Waiting {
		given, err = a.waitingCA(ctx, h, before)
	}
	if errors.Is(err, ErrUnknownSerial) {
		return a.cfg.Store.PutRequest(ctx, r, event)
	}
	if err != nil {
		return err
	}
	store, err := a.mounts()
	if err != nil {
		return err
	}
	if err := store.Replace(ctx, r, given.Serial, reason, ledger.Event{Kind: "certificate.revoked", Subject: given.Serial, Actor: event.Actor, Data: map[string]string{"reason": reason}}, event); err != nil {
		return err
	}
	a.revoked(given)
	return nil
}

// waitingCA is what a root certified for a request that waits, or ErrUnknownSerial: also
// if the key was a CA's before, which answers for what it issued.
func (a *Authority) waitingCA(ctx context.Context, h hierarchy, r Request) (Record, error) {
	l := a.hierarchy(h.kind)
	have, err := a.findKey(ctx, h, h.generationName(r.Profile, r.Generation), r.Profile, l.cas[0].name, func(hash string) bool { return hash == r.KeyHash })
	if errors.Is(err, ErrNoHierarchy) || err == nil && slices.ContainsFunc(l.cas, func(c caRecord) bool { return c.cert.Equal(have.cert) }) {
		return Record{}, fmt.Errorf("%w: nothing was certified for %s alone", ErrUnknownSerial, h.generationName(r.Profile, r.Generation))
	}
	if err != nil {
		return Record{}, err
	}
	return a.cfg.Store.Certificate(ctx, SerialOf(have.cert))
}

// waits says whether a CA certificate is of a mount that never issued: nobody depends on it.
func (a *Authority) waits(ctx context.Context, record Record) (bool, error) {
	h, _, err := a.mountable(KindCSMS)
	if err != nil {
		return false, nil //nolint:nilerr // no mount waits
	}
	list, err := a.cfg.Store.Requests(ctx, h.kind)
	if err != nil {
		return false, err
	}
	for _, r := range list {
		if !r.Waiting || r.KeyHash != record.KeyHash {
			continue
		}
		waiting, err := a.waitingCA(ctx, h, r)
		if !errors.Is(err, ErrUnknownSerial) {
			return waiting.Serial == record.Serial, err
		}
	}
	return false, nil
}

// UseMount has a mount that was certified issue from now on, if it shows the certificate
// it was given, and issues its first one, of the OCSP signer, as asked. The CA before it
// answers for what it issued.
func (a *Authority) UseMount(ctx context.Context, kind Kind, actor string) (*x509.Certificate, error) {
	a.building.Lock()
	defer a.building.Unlock()
	h, l, err := a.mountable(kind)
	if err != nil {
		return nil, err
	}
	list, err := a.cfg.Store.Requests(ctx, kind)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 || !list[0].Waiting {
		return nil, fmt.Errorf("%w: none waits to issue for %s; bollard ca mount %s --uri URI --csr FILE certifies one", ErrNoMount, kind, kind)
	}
	r, name := list[0], h.generationName(list[0].Profile, list[0].Generation)
	have, err := a.findKey(ctx, h, name, r.Profile, l.cas[0].name, func(hash string) bool { return hash == r.KeyHash })
	if err != nil {
		return nil, err
	}
	at, err := a.mountAt(r.KeyURI)
	if err != nil {
		return nil, err
	}
	shown, err := at.Issuer(ctx)
	switch {
	case errors.Is(err, keys.ErrNotFound) || errors.Is(err, keys.ErrUnfit):
		return nil, fmt.Errorf("the mount has no certificate yet; give it the one that bollard ca mount printed (vault write MOUNT/intermediate/set-signed certificate=@FILE): %w", err)
	case err != nil:
		return nil, err
	case !bytes.Equal(shown, have.cert.Raw):
		return nil, fmt.Errorf("the mount issues with another certificate than %s was given, %s; see which is its default issuer", name, SerialOf(have.cert))
	}
	if err := have.cert.CheckSignatureFrom(l.cas[0].cert); err != nil {
		return nil, fmt.Errorf("%s isn't signed by %s; restore the database from the backup: %w", name, l.cas[0].name, err)
	}
	by, err := a.openIssuer(ctx, have)
	if err != nil {
		return nil, err
	}
	if _, err := a.appointBy(ctx, ocspOffice, by, h, nil); err != nil {
		return nil, fmt.Errorf("%s isn't used: its mount doesn't issue what it is asked for: %w", name, err)
	}
	failpoint.Hit("ca.mount-tried")
	r.Waiting = false
	if err := a.cfg.Store.SetRequestKey(ctx, r, ledger.Event{Kind: "ca.mounted", Subject: string(kind), Actor: actor, Data: map[string]string{
		"ca": name, "serial": SerialOf(have.cert), "holder": keys.Holder(r.KeyURI), "before": l.issuing.name,
	}}); err != nil {
		return nil, fmt.Errorf("couldn't record that %s issues: %w", name, err)
	}
	if err := a.load(ctx, h); err != nil {
		return nil, err
	}
	a.changed()
	return have.cert, nil
}

// PEM is a certificate as people hand it on.
func PEM(cert *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
}
