package ca

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"bollard/keys"
)

// InitConfig says what hierarchy to create.
type InitConfig struct {
	Store        Store
	Keeper       *keys.Keeper
	KeyBase      string         // URI base of the CA keys; "": softkms:
	Kind         Kind           // "": csms
	Algorithm    keys.Algorithm // "": P-256
	StatusURL    string         // see Config
	Organisation string
	Country      string
	Actor        string // for the ledger; "": operator
	Clock        func() time.Time
	Log          *slog.Logger
}

// Init creates the keys and CA certificates of a hierarchy, each through the
// same two phases as every certificate. It overwrites nothing: what an
// interrupted run left behind is continued, a whole hierarchy is
// ErrHierarchyExists, and a key no record knows is refused.
func Init(ctx context.Context, cfg InitConfig) error {
	if cfg.Kind == "" {
		cfg.Kind = KindCSMS
	}
	if cfg.Algorithm == "" {
		cfg.Algorithm = keys.P256
	}
	if cfg.KeyBase == "" {
		cfg.KeyBase = keys.SchemeSoft + ":"
	}
	if cfg.Actor == "" {
		cfg.Actor = "operator"
	}
	if cfg.Keeper == nil {
		return errors.New("internal error: ca.InitConfig.Keeper is missing")
	}
	h, err := hierarchyOf(cfg.Kind)
	if err != nil {
		return err
	}
	if h.class != "" {
		cfg.Algorithm = algorithmOf[h.class]
	}
	complete, err := Config{
		Store: cfg.Store, Keeper: cfg.Keeper, KeyBase: cfg.KeyBase, StatusURL: cfg.StatusURL,
		Organisation: cfg.Organisation, Country: cfg.Country, Clock: cfg.Clock, Log: cfg.Log,
	}.complete()
	if err != nil {
		return err
	}
	b := builder{a: newAuthority(complete), h: h, actor: cfg.Actor, algorithm: cfg.Algorithm}
	if err := b.missing(ctx); err != nil {
		return err
	}
	if err := b.a.orphan(ctx); err != nil {
		return err
	}
	return b.build(ctx)
}

// builder makes the CA certificates of one hierarchy.
type builder struct {
	a         *Authority
	h         hierarchy
	actor     string
	algorithm keys.Algorithm
}

// missing is ErrHierarchyExists if the hierarchy is whole.
func (b builder) missing(ctx context.Context) error {
	if asked, err := b.a.cfg.Store.Requests(ctx, b.h.kind); err != nil {
		return err
	} else if len(asked) > 0 {
		return fmt.Errorf("%w: others are asked to certify %s (bollard ca request %s, bollard ca import-chain %s); nothing was changed", ErrHierarchyExists, b.h.kind, b.h.kind, b.h.kind)
	}
	profile, issuedBy := b.h.last()
	if _, err := findCA(ctx, b.a.cfg.Store, b.h, b.h.caName(profile), profile, issuedBy); err == nil {
		return fmt.Errorf("%w: %s; nothing was changed", ErrHierarchyExists, b.h.kind)
	} else if !errors.Is(err, ErrNoHierarchy) {
		return err
	}
	return nil
}

// build makes a hierarchy, or what is missing of it.
func (b builder) build(ctx context.Context) error {
	if err := b.missing(ctx); err != nil {
		return err
	}
	issuing, err := b.top(ctx)
	if err != nil {
		return err
	}
	for _, profile := range b.h.subs {
		name := b.h.caName(profile)
		if issuing, err = b.ensure(ctx, wantedCA{name: name, profile: profile, issuedBy: issuing.name, by: issuing, file: name}); err != nil {
			return err
		}
	}
	if !b.h.anchored {
		return nil
	}
	_, err = b.ensure(ctx, wantedCA{
		name: b.h.caName(ProfileAnchor), profile: ProfileAnchor, issuedBy: issuing.name, like: issuing,
	})
	return err
}

// top is the root a hierarchy is made under: its own, or that of another one.
func (b builder) top(ctx context.Context) (*issuer, error) {
	name := b.h.rootName(1)
	if other := b.a.hierarchy(b.h.under); b.h.under != "" && other.issuing != nil {
		_, err := findCA(ctx, b.a.cfg.Store, b.h, name, b.h.root, name)
		if other.cas[0].profile == profileOutside {
			return nil, fmt.Errorf("%w: the root of %s is another's, who has to certify %s too; bollard ca request %s gives the request", ErrNoHierarchy, b.h.under, b.h.kind, b.h.kind)
		}
		if errors.Is(err, ErrNoHierarchy) { // no run was interrupted that began one of its own
			return b.a.openIssuer(ctx, other.cas[0])
		}
		if err != nil {
			return nil, err
		}
	}
	return b.ensure(ctx, wantedCA{name: name, profile: b.h.root, issuedBy: name, file: name})
}

// wantedCA is a CA certificate to be there.
type wantedCA struct {
	name     string
	profile  string
	issuedBy string  // as in its record
	by       *issuer // nil: self-signed
	file     string  // of its new key
	uri      string  // of its new key, whose name is on record; instead of file
	// like has the key and the name that are certified once more, instead of a
	// new key.
	like *issuer
	held crypto.Signer // of the key, which others keep; instead of file
	// adopt takes a key that is there without a record: its file's name was
	// drawn and recorded before the key was made, so it is nobody else's.
	adopt bool
}

// ensure returns a CA, made if need be.
func (b builder) ensure(ctx context.Context, w wantedCA) (*issuer, error) {
	have, err := findCA(ctx, b.a.cfg.Store, b.h, w.name, w.profile, w.issuedBy)
	switch {
	case err == nil && (w.like == nil || bytes.Equal(have.cert.RawSubjectPublicKeyInfo, w.like.cert.RawSubjectPublicKeyInfo)):
		if o := have.cert.Subject.Organization; w.like == nil && (len(o) != 1 || o[0] != b.a.cfg.Organisation) {
			return nil, fmt.Errorf("%s from an interrupted run belongs to organisation %q; go on with that one, or init in an empty directory", w.name, o)
		}
		if w.like == nil {
			return b.a.openIssuer(ctx, have)
		}
		by, err := newIssuer(w.name, w.profile, have.cert, w.like.signer)
		if err != nil {
			return nil, err
		}
		by.keyURI = have.keyURI
		return by, nil
	case err != nil && !errors.Is(err, ErrNoHierarchy):
		return nil, err
	}
	return b.certify(ctx, w)
}

// certify makes a CA's certificate, with a new key or that of one like it.
func (b builder) certify(ctx context.Context, w wantedCA) (*issuer, error) {
	signer, uri, err := b.signer(ctx, w)
	if err != nil {
		return nil, fmt.Errorf("couldn't make the key of %s: %w", w.name, err)
	}
	prove := GeneratedKey
	switch signer.(type) {
	case distant, mountSigner: // who holds it has shown that elsewhere
		prove = func(s crypto.Signer) (ProvenKey, error) { return proven(s.Public()) }
	}
	proven, err := prove(signer)
	if err != nil {
		return nil, err
	}
	custody, err := b.a.custody(ctx, uri, keys.RoleCA)
	if err != nil {
		return nil, fmt.Errorf("couldn't learn where the key of %s is kept: %w", w.name, err)
	}
	if w.by == nil {
		if w.by, err = newIssuer(w.issuedBy, w.profile, nil, signer); err != nil {
			return nil, err
		}
	}
	order := Order{
		Profile: w.profile,
		Key:     proven,
		// The key is part of the name: two roots of one organisation never
		// have equal names, which stations take for the same root.
		Subject:   Subject{CommonName: b.h.commonName(w.profile, proven.Hash()[:8])},
		Requester: b.actor,
		Reference: keyReference + uri,
		custody:   custody,
	}
	if w.profile == b.h.root {
		order.Subject.Domain = b.h.domain
	}
	if w.like != nil {
		name := withDomain(w.like.cert.Subject, domainOf(w.like.cert.Subject))
		order.name = &name
	}
	prepared, err := b.a.prepare(ctx, w.by, order)
	if err != nil {
		return nil, fmt.Errorf("couldn't create %s: %w", w.name, err)
	}
	if w.like != nil && !bytes.Equal(prepared.draft.RawSubject, w.like.cert.RawSubject) {
		return nil, fmt.Errorf("internal error: %s would get another name than it has", w.name)
	}
	issued, err := b.a.Issue(ctx, prepared)
	if err != nil {
		return nil, fmt.Errorf("couldn't create %s: %w", w.name, err)
	}
	by, err := newIssuer(w.name, w.profile, issued.Certificate, signer)
	if err != nil {
		return nil, err
	}
	by.keyURI = uri
	return by, nil
}

// commonName of a CA: short, where certificates have to be.
func (h hierarchy) commonName(profile, tag string) string {
	_, level, sub := strings.Cut(profile, subCA)
	switch {
	case profile == h.root:
		return fmt.Sprintf("%s Root CA %s", h.title, tag)
	case sub:
		return fmt.Sprintf("%s Sub-CA %s %s", h.subTitle, level, tag)
	}
	return fmt.Sprintf("%s Issuing CA %s", h.title, tag)
}

func (b builder) signer(ctx context.Context, w wantedCA) (crypto.Signer, string, error) {
	if w.like != nil {
		return w.like.signer, w.like.keyURI, nil
	}
	if w.held != nil {
		return w.held, w.uri, nil
	}
	uri := w.uri
	if uri == "" {
		joined, err := keys.Join(b.a.cfg.KeyBase, w.file+".key")
		if err != nil {
			return nil, "", err
		}
		uri = joined
	}
	signer, err := b.key(ctx, uri, w.adopt)
	return signer, uri, err
}

// defaultAlgorithm of a further hierarchy is the standard's, or the class of the
// CAs there are.
func (a *Authority) defaultAlgorithm(h hierarchy) keys.Algorithm {
	if h.class != "" {
		return algorithmOf[h.class]
	}
	if by := a.hierarchy(KindCSMS).issuing; by != nil {
		return algorithmLike(by.cert.PublicKey)
	}
	return keys.P256
}

func algorithmLike(public crypto.PublicKey) keys.Algorithm {
	class, err := classOf(public)
	if err != nil {
		return keys.P256
	}
	return algorithmOf[class]
}

var algorithmOf = map[KeyClass]keys.Algorithm{
	ClassP384: keys.P384, ClassP521: keys.P521, ClassRSA2048: keys.RSA2048, ClassRSA3072: keys.RSA3072,
	ClassP256: keys.P256, ClassEd448: keys.Ed448,
}

// key makes a key, or takes the one that an interrupted init made and got as
// far as recording. A key without any record is nobody's.
func (b builder) key(ctx context.Context, uri string, adopt bool) (crypto.Signer, error) {
	made, err := b.a.cfg.Keeper.Create(ctx, uri, keys.RoleCA, b.algorithm)
	if err == nil {
		return made, nil
	}
	if !errors.Is(err, keys.ErrExists) {
		return nil, err
	}
	found, err := b.a.cfg.Keeper.Open(ctx, uri, keys.RoleCA)
	if err != nil {
		return nil, err
	}
	hash, err := keyHash(found.Public())
	if err != nil {
		return nil, err
	}
	records, err := b.a.cfg.Store.CertificatesByKey(ctx, hash)
	if err != nil {
		return nil, err
	}
	if len(records) == 0 && !adopt {
		return nil, fmt.Errorf("key %s exists but this database doesn't know it; restore the database that belongs to it, or, if an interrupted init left the key, move it away and run init again", uri)
	}
	return found, nil
}
