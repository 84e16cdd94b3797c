package ca

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
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
	complete, err := Config{
		Store: cfg.Store, Keeper: cfg.Keeper, Organisation: cfg.Organisation, Country: cfg.Country,
		Clock: cfg.Clock, Log: cfg.Log,
	}.complete()
	if err != nil {
		return err
	}
	b := builder{a: newAuthority(complete), h: h, cfg: cfg}
	if _, err := findCA(ctx, cfg.Store, h, ProfileIssuing); err == nil {
		return fmt.Errorf("%w: %s; nothing was changed", ErrHierarchyExists, h.kind)
	} else if !errors.Is(err, ErrNoHierarchy) {
		return err
	}
	if err := b.a.orphan(ctx); err != nil {
		return err
	}
	root, err := b.ensure(ctx, ProfileRoot, nil)
	if err != nil {
		return err
	}
	_, err = b.ensure(ctx, ProfileIssuing, root)
	return err
}

// builder creates one hierarchy.
type builder struct {
	a   *Authority
	h   hierarchy
	cfg InitConfig
}

// ensure returns a CA, made if need be; by nil makes it self-signed.
func (b builder) ensure(ctx context.Context, profile string, by *issuer) (*issuer, error) {
	name := b.h.caName(profile)
	have, err := findCA(ctx, b.cfg.Store, b.h, profile)
	switch {
	case err == nil:
		if o := have.cert.Subject.Organization; len(o) != 1 || o[0] != b.cfg.Organisation {
			return nil, fmt.Errorf("%s from an interrupted init belongs to organisation %q; run init with that one, or in an empty directory", name, o)
		}
		signer, err := b.a.openCA(ctx, have)
		if err != nil {
			return nil, err
		}
		return newIssuer(name, profile, have.cert, signer)
	case !errors.Is(err, ErrNoHierarchy):
		return nil, err
	}
	uri, err := keys.Join(b.cfg.KeyBase, name+".key")
	if err != nil {
		return nil, err
	}
	signer, err := b.key(ctx, uri)
	if err != nil {
		return nil, fmt.Errorf("couldn't make the key of %s: %w", name, err)
	}
	proven, err := GeneratedKey(signer)
	if err != nil {
		return nil, err
	}
	if by == nil {
		if by, err = newIssuer(name, profile, nil, signer); err != nil {
			return nil, err
		}
	}
	prepared, err := b.a.prepare(ctx, by, Order{
		Profile: profile,
		Key:     proven,
		// The key is part of the name: two roots of one organisation never
		// have equal names, which stations take for the same root.
		Subject:   Subject{CommonName: fmt.Sprintf("%s %s CA %s", b.h.title, caTitle[profile], proven.Hash()[:8])},
		Requester: b.cfg.Actor,
		Reference: keyReference + uri,
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't create %s: %w", name, err)
	}
	issued, err := b.a.Issue(ctx, prepared)
	if err != nil {
		return nil, fmt.Errorf("couldn't create %s: %w", name, err)
	}
	return newIssuer(name, profile, issued.Certificate, signer)
}

var caTitle = map[string]string{ProfileRoot: "Root", ProfileIssuing: "Issuing"}

// key makes a key, or takes the one that an interrupted init made and got as
// far as recording. A key without any record is nobody's.
func (b builder) key(ctx context.Context, uri string) (crypto.Signer, error) {
	made, err := b.cfg.Keeper.Create(ctx, uri, keys.RoleCA, b.cfg.Algorithm)
	if err == nil {
		return made, nil
	}
	if !errors.Is(err, keys.ErrExists) {
		return nil, err
	}
	found, err := b.cfg.Keeper.Open(ctx, uri, keys.RoleCA)
	if err != nil {
		return nil, err
	}
	hash, err := keyHash(found.Public())
	if err != nil {
		return nil, err
	}
	records, err := b.cfg.Store.CertificatesByKey(ctx, hash)
	if err != nil {
		return nil, err
	}
	if len(records) == 0 {
		return nil, fmt.Errorf("key %s exists but this database doesn't know it; restore the database that belongs to it, or, if an interrupted init left the key, move it away and run init again", uri)
	}
	return found, nil
}
