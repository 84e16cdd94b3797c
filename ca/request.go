package ca

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/cloudflare/circl/sign/ed448"

	"bollard/internal/curve448"
	"bollard/internal/failpoint"
	"bollard/keys"
	"bollard/ledger"
)

// RequestCA returns the request (PKCS#10, DER) with which others certify a CA of ours.
// level is 1 for sub-CA 1, 2 for sub-CA 2, 0 for the root of a hierarchy there is.
// Without the hierarchy it makes the key, once: a repetition asks for the same. With
// anew it makes one more key, once until that is certified, for a hierarchy whose topmost
// CA here others certify.
func (a *Authority) RequestCA(ctx context.Context, kind Kind, level int, anew bool, actor string) ([]byte, error) {
	a.building.Lock()
	defer a.building.Unlock()
	h, err := hierarchyOf(kind)
	if err != nil {
		return nil, err
	}
	profile, err := h.level(level)
	if err != nil {
		return nil, err
	}
	if err := a.countsHere(h); err != nil {
		return nil, err
	}
	l := a.hierarchy(kind)
	switch {
	case l.issuing != nil && !anew:
		return a.requestAgain(ctx, h, l, profile, actor)
	case l.issuing != nil && l.cas[0].keyURI == "" && l.cas[0].profile != profileOutside:
		return nil, fmt.Errorf("%w: the root of %s is offline; bollard keys migrate --to URI makes a new key below it and gives the request", ErrHierarchyExists, kind)
	case l.issuing != nil && l.cas[0].profile != profileOutside:
		return nil, fmt.Errorf("%w: %s has a root here; bollard ca rollover %s changes it", ErrHierarchyExists, kind, kind)
	case level == 0:
		return nil, fmt.Errorf("%w: %s has no root to be certified; ask for one of its sub-CAs (level 1 or 2)", ErrNoHierarchy, kind)
	case h.use == "":
		return nil, fmt.Errorf("%w: bollard ca create %s makes it, and a root that is made elsewhere can take the place of its own then", ErrNoHierarchy, kind)
	case l.issuing == nil && anew:
		return nil, fmt.Errorf("%w: %s has no key yet that another could follow", ErrNoHierarchy, kind)
	}
	if a.cfg.Keeper == nil {
		return nil, errors.New("internal error: ca.Config.Keeper is missing")
	}
	b := builder{a: a, h: h, actor: actor, algorithm: a.defaultAlgorithm(h)}
	if _, err := findCA(ctx, a.cfg.Store, h, h.rootName(1), h.root, h.rootName(1)); err == nil {
		return nil, fmt.Errorf("%w: %s has a root of its own from an interrupted run; go on with bollard ca create %s", ErrHierarchyExists, kind, kind)
	}
	request, asked, err := a.waiting(ctx, h)
	switch {
	case err != nil:
		return nil, err
	case asked && request.Profile != profile:
		return nil, fmt.Errorf("%w: %s was asked for as %s", ErrHierarchyExists, kind, request.Profile)
	case !asked && b.algorithm == keys.Ed448 && keys.Held(a.cfg.KeyBase):
		return nil, fmt.Errorf("%w: keys of %s are on Ed448, which are made in files only; keys: {uri: 'softkms:'} in bollard.yaml has them there", ErrNoHierarchy, kind)
	case !asked:
		// The name of the key is on record before there is one.
		if request, err = a.recordRequest(ctx, h, request.Generation+1, profile, actor); err != nil {
			return nil, err
		}
	}
	failpoint.Hit("ca.requested")
	return b.ask(ctx, request)
}

// ask makes the key of a request that is on record, or takes the one that an interrupted
// run made, and signs the request (PKCS#10, DER) for it.
func (b builder) ask(ctx context.Context, r Request) ([]byte, error) {
	name := b.h.generationName(r.Profile, r.Generation)
	signer, err := b.key(ctx, r.KeyURI, true)
	if err != nil {
		return nil, fmt.Errorf("couldn't make the key of %s: %w", name, err)
	}
	proven, err := GeneratedKey(signer)
	if err != nil {
		return nil, err
	}
	r.KeyHash = proven.Hash()
	custody, err := b.a.custody(ctx, r.KeyURI, keys.RoleCA)
	if err != nil {
		return nil, fmt.Errorf("couldn't learn where the key of %s is kept: %w", name, err)
	}
	event := ledger.Event{Kind: "ca.requested", Subject: string(b.h.kind), Actor: b.actor, Data: map[string]string{
		"profile": r.Profile, "generation": strconv.Itoa(r.Generation), "key": r.KeyHash,
	}}
	custodyInto(event.Data, custody)
	if err := b.a.cfg.Store.SetRequestKey(ctx, r, event); err != nil {
		return nil, fmt.Errorf("couldn't record the key of %s: %w", name, err)
	}
	subject := Subject{CommonName: b.h.commonName(r.Profile, proven.Hash()[:8])}
	return requestFor(signer, profiles[r.Profile], subjectName(profiles[r.Profile], subject, b.a.cfg.Organisation, b.a.cfg.Country))
}

// waiting is the newest request of a hierarchy; ok while its key isn't the one that
// issues, nor one that did.
func (a *Authority) waiting(ctx context.Context, h hierarchy) (r Request, ok bool, err error) {
	list, err := a.cfg.Store.Requests(ctx, h.kind)
	if err != nil || len(list) == 0 {
		return Request{}, false, err
	}
	in := slices.ContainsFunc(a.hierarchy(h.kind).cas, func(c caRecord) bool { return c.keyURI == list[0].KeyURI })
	return list[0], !in, nil
}

// ErrLevel is a level that no hierarchy has.
var ErrLevel = errors.New("there is no such CA")

// level is the profile of a hierarchy's CA at one: its root, or a sub-CA.
func (h hierarchy) level(n int) (string, error) {
	switch {
	case n == 0 && h.use == "":
		return "", fmt.Errorf("the root of %s is certified by nobody else; those of ISO 15118 may be", h.kind)
	case n == 0:
		return h.root, nil
	case n >= 1 && n <= len(h.subs):
		return h.subs[n-1], nil
	}
	return "", fmt.Errorf("%w: hierarchy %s has none at level %d: 0 is its root, 1 and 2 its sub-CAs", ErrLevel, h.kind, n)
}

func (a *Authority) recordRequest(ctx context.Context, h hierarchy, generation int, profile, actor string) (Request, error) {
	tag, err := newSerial(a.random)
	if err != nil {
		return Request{}, err
	}
	uri, err := keys.Join(a.cfg.KeyBase, fmt.Sprintf("%s-%s.key", h.generationName(profile, generation), tag.Text(16)[:12]))
	if err != nil {
		return Request{}, err
	}
	r := Request{Kind: h.kind, Generation: generation, Profile: profile, KeyURI: uri, CreatedAt: a.cfg.Clock().UTC()}
	return r, a.cfg.Store.PutRequest(ctx, r, ledger.Event{Kind: "ca.requested", Subject: string(h.kind), Actor: actor, Data: map[string]string{"profile": profile, "generation": strconv.Itoa(generation)}})
}

// RequestNamed is RequestCA for one more certificate of a CA by its name, such as one whose
// key moved and that answers for what it issued: another root has to certify it, too.
func (a *Authority) RequestNamed(ctx context.Context, kind Kind, name, actor string) ([]byte, error) {
	a.building.Lock()
	defer a.building.Unlock()
	h, err := hierarchyOf(kind)
	if err != nil {
		return nil, err
	}
	l := a.hierarchy(kind)
	i := slices.IndexFunc(l.cas, func(c caRecord) bool {
		return c.name == name && slices.Contains(h.subs, c.profile) && c.keyURI != "" && !c.borrowed
	})
	if i < 0 {
		return nil, fmt.Errorf("%w: %s has no CA %s below its root here", ErrNoHierarchy, kind, name)
	}
	return a.requestOf(ctx, h, l.cas[i], actor)
}

// requestAgain asks for one more certificate of a CA there is, under the name it has.
func (a *Authority) requestAgain(ctx context.Context, h hierarchy, l *loadedHierarchy, profile, actor string) ([]byte, error) {
	i := slices.IndexFunc(l.cas, func(c caRecord) bool {
		return c.profile == profile && c.keyURI != "" && !c.borrowed && !c.retired && !c.former
	})
	if i < 0 {
		return nil, fmt.Errorf("%s of %s isn't a CA here", profile, h.kind)
	}
	return a.requestOf(ctx, h, l.cas[i], actor)
}

func (a *Authority) requestOf(ctx context.Context, h hierarchy, c caRecord, actor string) ([]byte, error) {
	signer, err := a.openCA(ctx, c)
	if err != nil {
		return nil, err
	}
	event := ledger.Event{Kind: "ca.requested", Subject: string(h.kind), Actor: actor, Data: map[string]string{"profile": c.profile, "serial": SerialOf(c.cert)}}
	if err := a.cfg.Store.Record(ctx, event); err != nil {
		return nil, fmt.Errorf("couldn't record the request: %w", err)
	}
	name := withDomain(c.cert.Subject, domainOf(c.cert.Subject))
	der, err := requestFor(signer, profiles[c.profile], name)
	if err != nil {
		return nil, err
	}
	if made, err := x509.ParseCertificateRequest(der); err != nil || !bytes.Equal(made.RawSubject, c.cert.RawSubject) {
		return nil, fmt.Errorf("internal error: %s would be asked for under another name: %w", c.name, err)
	}
	return der, nil
}

// requestFor signs a request that says what the CA is to be.
func requestFor(signer crypto.Signer, p Profile, name pkix.Name) ([]byte, error) {
	algorithm, err := signatureAlgorithm(signer.Public())
	if err != nil {
		return nil, err
	}
	constraints := struct {
		CA         bool
		PathLength int `asn1:"optional,default:-1"`
	}{true, p.PathLength}
	basic, err := asn1.Marshal(constraints)
	if err != nil {
		return nil, err
	}
	usage, err := asn1.Marshal(usageBits(p.KeyUsage))
	if err != nil {
		return nil, err
	}
	request := &x509.CertificateRequest{
		Subject: name, SignatureAlgorithm: algorithm, ExtraExtensions: []pkix.Extension{
			{Id: oidBasicConstraints, Critical: true, Value: basic}, {Id: oidKeyUsage, Critical: true, Value: usage},
		},
	}
	if public, ok := signer.Public().(ed448.PublicKey); ok {
		return request448(request, public, signer)
	}
	return x509.CreateCertificateRequest(rand.Reader, request, signer)
}

// request448 signs a request for a key on Ed448.
func request448(request *x509.CertificateRequest, public ed448.PublicKey, signer crypto.Signer) ([]byte, error) {
	listener := &outline{public: standIn}
	if _, err := x509.CreateCertificateRequest(rand.Reader, request, listener); listener.tbs == nil {
		return nil, err
	}
	spki, err := curve448.MarshalPublicKey(public)
	if err != nil {
		return nil, err
	}
	tbs, err := curve448.Replace(listener.tbs, map[int][]byte{2: spki}) // RFC 2986 §4.1: subjectPKInfo
	if err != nil {
		return nil, err
	}
	signature, err := signer.Sign(rand.Reader, tbs, crypto.Hash(0))
	if err != nil {
		return nil, err
	}
	return joined(tbs, curve448.Algorithm(), signature), nil
}

// usageBits is KeyUsage as the named bit list of RFC 5280 §4.2.1.3, whose first bit is
// the lowest of x509's.
func usageBits(usage x509.KeyUsage) asn1.BitString {
	b := asn1.BitString{Bytes: make([]byte, 2)}
	for i := range 9 {
		if int(usage)&(1<<i) != 0 {
			b.Bytes[i/8] |= 0x80 >> (i % 8)
			b.BitLength = i + 1
		}
	}
	b.Bytes = b.Bytes[:(b.BitLength+7)/8]
	return b
}
