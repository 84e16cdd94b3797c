package ca

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cloudflare/circl/sign/ed448"

	"bollard/keys"
	"bollard/ledger"
)

// OfflineRoot is the root of a hierarchy whose other CAs are on other machines, with
// records of its own. It certifies CAs that ask for it, of whose requests it takes
// nothing but the key.
type OfflineRoot struct {
	*OfflinePlan
	root  *issuer
	actor string
}

// OfflineRootConfig says which root to open, or to make.
type OfflineRootConfig struct {
	InitConfig
	// Name is what the hierarchy's own machine calls the root, in the URL of its
	// revocation list; "": as it calls its first.
	Name string
	// Rehearsal is part of the common name of a root that nobody is to trust.
	Rehearsal bool
}

// OfflinePlan is a root that isn't opened yet, nor made.
type OfflinePlan struct {
	a   *Authority
	h   hierarchy
	cfg OfflineRootConfig
}

// PlanOfflineRoot refuses what no root can be made or opened by, and touches nothing.
func PlanOfflineRoot(cfg OfflineRootConfig) (*OfflinePlan, error) {
	h, err := hierarchyOf(cfg.Kind)
	if err != nil {
		return nil, err
	}
	complete := Config{
		Store: cfg.Store, Keeper: cfg.Keeper, KeyBase: cfg.KeyBase, StatusURL: cfg.StatusURL,
		Organisation: cfg.Organisation, Country: cfg.Country, Clock: cfg.Clock, Log: cfg.Log,
	}
	if h.class == ClassEd448 {
		complete.Curves20 = keys448
	}
	if complete, err = complete.complete(); err != nil {
		return nil, err
	}
	if cfg.Algorithm, err = h.rootAlgorithm(cfg.Algorithm); err != nil {
		return nil, err
	}
	if cfg.Name == "" {
		cfg.Name = h.rootName(1)
	}
	return &OfflinePlan{newAuthority(complete), h, cfg}, nil
}

// CheckSubCA refuses a request whose key the root wouldn't certify.
func (p *OfflinePlan) CheckSubCA(ctx context.Context, s SubCA) error {
	return p.a.checkKey(ctx, Order{Profile: s.profile, Key: s.csr.Key})
}

// title is in the name of the hierarchy's root.
func (p *OfflinePlan) title() string {
	if p.cfg.Rehearsal {
		return "Rehearsal " + p.h.title
	}
	return p.h.title
}

// CheckRevocation refuses a serial number that isn't of a CA which the root certified.
func (p *OfflinePlan) CheckRevocation(ctx context.Context, serial string) error {
	serial = strings.ToLower(serial)
	record, err := p.a.cfg.Store.Certificate(ctx, serial)
	switch {
	case err != nil:
		return err
	case record.Profile == p.h.root || record.Issuer != p.cfg.Name:
		return fmt.Errorf("certificate %s isn't one that %s gave a CA", serial, p.cfg.Name)
	case record.State == StateIntended:
		return fmt.Errorf("certificate %s was never finished", serial)
	}
	return nil
}

// OpenOfflineRoot opens the root that a store tells of, or makes it: the name of its
// key is on record before the key, and its certificate has two phases as every other,
// so that an interrupted run is continued.
func OpenOfflineRoot(ctx context.Context, cfg OfflineRootConfig) (*OfflineRoot, error) {
	plan, err := PlanOfflineRoot(cfg)
	if err != nil {
		return nil, err
	}
	cfg = plan.cfg
	h, r := plan.h, &OfflineRoot{OfflinePlan: plan, actor: cfg.Actor}
	if err := r.a.orphan(ctx); err != nil {
		return nil, err
	}
	requests, err := r.a.cfg.Store.Requests(ctx, h.kind)
	if err != nil {
		return nil, err
	}
	if len(requests) == 0 {
		request, err := r.a.recordRequest(ctx, h, 1, h.root, cfg.Actor)
		if err != nil {
			return nil, err
		}
		requests = append(requests, request)
	}
	b := builder{a: r.a, h: h, actor: cfg.Actor, algorithm: cfg.Algorithm}
	b.h.title = plan.title()
	r.root, err = b.ensure(ctx, wantedCA{name: cfg.Name, profile: h.root, issuedBy: cfg.Name, uri: requests[0].KeyURI, adopt: true})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// rootAlgorithm is the standard's, or the one that is asked for.
func (h hierarchy) rootAlgorithm(asked keys.Algorithm) (keys.Algorithm, error) {
	wanted := algorithmOf[h.class]
	switch {
	case h.class == "" && asked == "":
		return keys.P256, nil
	case h.class == "" && slices.ContainsFunc(everyKey, func(c KeyClass) bool { return algorithmOf[c] == asked }), asked == wanted:
		return asked, nil
	case h.class != "" && asked == "":
		return wanted, nil
	case h.class != "":
		return "", fmt.Errorf("keys of %s are %s, not %q", h.kind, wanted, asked)
	}
	return "", fmt.Errorf("unknown algorithm %q of a root (known: p256, p384, p521, rsa2048, rsa3072)", asked)
}

// Certificate is the root's own.
func (r *OfflineRoot) Certificate() *x509.Certificate { return r.root.cert }

// KeyURI is where its key is.
func (r *OfflineRoot) KeyURI() string { return r.root.keyURI }

// SubCA is a request as an offline root reads it.
type SubCA struct {
	csr     CSR
	profile string
	subject Subject
}

// ReadSubCA judges the request of a CA at a level below the root: its key, and that it
// has the name that CAs of this organisation have.
func ReadSubCA(kind Kind, level int, organisation, country string, request []byte) (SubCA, error) {
	h, err := hierarchyOf(kind)
	if err != nil {
		return SubCA{}, err
	}
	if level < 1 || level > len(h.subs) {
		return SubCA{}, fmt.Errorf("%s has no CA at level %d below its root", kind, level)
	}
	csr, err := parseCSR(request, h.class == ClassEd448)
	if err != nil {
		return SubCA{}, err
	}
	if h.class != "" && csr.Key.Class() != h.class {
		return SubCA{}, fmt.Errorf("the request is for a key on %s, those of %s are on %s: %w", csr.Key.Class(), kind, h.class, ErrKeyClass)
	}
	s := SubCA{csr: csr, profile: h.subs[level-1]}
	s.subject.CommonName = h.commonName(s.profile, csr.Key.Hash()[:8])
	name := subjectName(profiles[s.profile], s.subject, organisation, country)
	want, err := asn1.Marshal(name.ToRDNSequence())
	if err != nil {
		return SubCA{}, err
	}
	parsed, err := x509.ParseCertificateRequest(csr.DER)
	switch {
	case err != nil:
		return SubCA{}, err
	case !bytes.Equal(parsed.RawSubject, want):
		return SubCA{}, fmt.Errorf("the request is for %q, and a CA of %s with this key is called %q: kind, level, organisation and country have to be those of the machine that asks", parsed.Subject, kind, name)
	case !csr.CA:
		return SubCA{}, errors.New("the request isn't a CA's")
	}
	return s, nil
}

// NextRoot is the root that is to follow an offline one, as that reads it.
type NextRoot struct {
	cert *x509.Certificate
	key  ProvenKey
}

// ReadNextRoot judges the next root by its own certificate (PEM), by which its holder has
// shown to have the key: it is one of this hierarchy and organisation.
func (p *OfflinePlan) ReadNextRoot(data []byte) (NextRoot, error) {
	below, cert, err := readBelow(data)
	if err != nil {
		return NextRoot{}, err
	}
	if len(below) > 0 || cert == nil {
		return NextRoot{}, errors.New("it isn't the certificate of a root alone")
	}
	h := p.h
	h.title = p.title()
	if err := p.a.checkRoot(h, cert, p.a.cfg.Clock().UTC()); err != nil {
		return NextRoot{}, err
	}
	key, err := proven(cert.PublicKey)
	return NextRoot{cert, key}, err
}

// CheckNextRoot refuses what the root wouldn't certify as the next one: itself above all.
func (p *OfflinePlan) CheckNextRoot(ctx context.Context, n NextRoot) error {
	switch known, err := p.a.cfg.Store.CertificatesByKey(ctx, n.key.Hash()); {
	case err != nil:
		return err
	case slices.ContainsFunc(known, func(r Record) bool { return r.Profile == p.h.root }):
		return errors.New("it is this root, not the next one")
	}
	return p.a.checkKey(ctx, Order{Profile: p.h.cross, Key: n.key})
}

// CertifyNext certifies the next root, once for each reference.
func (r *OfflineRoot) CertifyNext(ctx context.Context, n NextRoot, reference string) (*Issued, error) {
	name := withDomain(n.cert.Subject, domainOf(n.cert.Subject))
	return r.certify(ctx, Order{Profile: r.h.cross, Key: n.key, name: &name, Reference: reference})
}

// Certify certifies a CA, once for each reference.
func (r *OfflineRoot) Certify(ctx context.Context, s SubCA, reference string) (*Issued, error) {
	return r.certify(ctx, Order{Profile: s.profile, Key: s.csr.Key, Subject: s.subject, Reference: reference})
}

func (r *OfflineRoot) certify(ctx context.Context, order Order) (*Issued, error) {
	known, ok, err := r.a.cfg.Store.CertificateByReference(ctx, order.Reference)
	if err != nil {
		return nil, err
	}
	if ok {
		if known.KeyHash != order.Key.Hash() || known.Profile != order.Profile {
			return nil, fmt.Errorf("certificate %s was made for %s and another request", known.Serial, order.Reference)
		}
		return r.a.issued(known)
	}
	order.Requester = r.actor
	p, err := r.a.prepare(ctx, r.root, order)
	if err != nil {
		return nil, err
	}
	return r.a.Issue(ctx, p)
}

// Revoke puts a CA that it certified on its list.
func (r *OfflineRoot) Revoke(ctx context.Context, serial, reason string) error {
	if _, ok := reasonCode(reason); !ok {
		return fmt.Errorf("%w: %q", ErrUnknownReason, reason)
	}
	if err := r.CheckRevocation(ctx, serial); err != nil {
		return err
	}
	serial = strings.ToLower(serial)
	event := ledger.Event{Kind: "certificate.revoked", Subject: serial, Actor: r.actor, Data: map[string]string{"reason": reason}}
	return r.a.cfg.Store.SetRevoked(ctx, serial, reason, r.a.cfg.Clock().UTC(), event)
}

// List signs its revocation list (DER), good for so long.
func (r *OfflineRoot) List(ctx context.Context, validity time.Duration) ([]byte, error) {
	return r.a.crlFor(ctx, r.root, validity)
}

// SignStatement signs what the holder of the root says. It begins with words, so that
// it is nothing else that a root signs: a certificate and a list begin with a DER tag.
func (r *OfflineRoot) SignStatement(statement []byte) ([]byte, error) {
	if !bytes.HasPrefix(statement, []byte(statementPrefix)) {
		return nil, errors.New("internal error: a statement without its first words")
	}
	return r.root.sign(statement)
}

// statementPrefix begins every statement.
const statementPrefix = "bollard "

// CheckStatement verifies that the holder of a root's key signed a statement.
func CheckStatement(root *x509.Certificate, statement, signature []byte) error {
	if !bytes.HasPrefix(statement, []byte(statementPrefix)) {
		return errors.New("it isn't a statement")
	}
	if public, ok := root.PublicKey.(ed448.PublicKey); ok {
		if !ed448.Verify(public, statement, signature, "") {
			return errors.New("the signature isn't by the key of the root")
		}
		return nil
	}
	algorithm, err := signatureAlgorithm(root.PublicKey)
	if err != nil {
		return err
	}
	if err := root.CheckSignature(algorithm, statement, signature); err != nil {
		return fmt.Errorf("the signature isn't by the key of the root: %w", err)
	}
	return nil
}
