package ca

import (
	"bytes"
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"bollard/internal/curve448"
	"bollard/internal/failpoint"
	"bollard/ledger"
)

// leastLife is what a CA must still be good for to be worth taking in.
const leastLife = 30 * 24 * time.Hour

// ImportChain takes in what others made of a CA of ours: PEM of its certificate, of
// those above it and of their root, which has to be trusted for the hierarchy's use
// already. A hierarchy that waited for it is completed; one that is there gets one more
// root that its certificates lead to.
func (a *Authority) ImportChain(ctx context.Context, kind Kind, data []byte, actor string) error {
	a.building.Lock()
	defer a.building.Unlock()
	h, err := hierarchyOf(kind)
	if err != nil {
		return err
	}
	if h.use == "" {
		return a.takeUnder(ctx, h, data, actor)
	}
	chain, err := a.readChain(ctx, h, data)
	if err != nil {
		return err
	}
	ours, generation, err := a.certified(ctx, h, chain[0])
	if err != nil {
		return err
	}
	if err := h.checkOutside(chain, ours, a.keysOf(h), a.cfg.Clock()); err != nil {
		return fmt.Errorf("couldn't take the chain in: %w", err)
	}
	var der []byte
	for _, c := range chain {
		der = append(der, c.Raw...)
	}
	event := ledger.Event{Kind: "ca.imported", Subject: string(kind), Actor: actor, Data: map[string]string{
		"profile": ours.profile, "serial": SerialOf(chain[0]), "root": hashHex(chain[len(chain)-1].Raw),
	}}
	if err := a.cfg.Store.AddOutsideChain(ctx, OutsideChain{Kind: kind, Hash: hashHex(der), DER: der, AddedAt: a.cfg.Clock().UTC()}, event); err != nil {
		return fmt.Errorf("couldn't record the chain: %w", err)
	}
	failpoint.Hit("ca.imported")
	if ours.cert == nil { // of a request: what is below it is made, and with that it issues
		ours.cert = chain[0]
		if err := a.buildBelow(ctx, h, ours, generation, actor); err != nil {
			return err
		}
	}
	if err := a.load(ctx, h); err != nil {
		return err
	}
	a.changed()
	return nil
}

// readChain reads a chain and completes it by its root, if that is trusted.
func (a *Authority) readChain(ctx context.Context, h hierarchy, data []byte) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for rest := bytes.TrimSpace(data); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" {
			return nil, notCertificates(block)
		}
		cert, err := curve448.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("couldn't read the chain: %w", err)
		}
		chain = append(chain, cert)
	}
	if len(chain) == 0 {
		return nil, errors.New("couldn't read the chain: there is no certificate in it")
	}
	anchors, err := a.cfg.Store.Anchors(ctx, h.use)
	if err != nil {
		return nil, err
	}
	last := chain[len(chain)-1]
	for _, t := range anchors {
		root, err := curve448.ParseCertificate(t.DER)
		switch {
		case err != nil:
			return nil, fmt.Errorf("couldn't read trusted root %s; remove it and add it again: %w", t.Hash, err)
		case root.Equal(last):
			return chain, nil
		case bytes.Equal(root.RawSubject, last.RawIssuer) && curve448.CheckSignatureFrom(last, root) == nil:
			return append(chain, root), nil
		}
	}
	return nil, fmt.Errorf("the chain leads to no root that is trusted for %s; if it should, `bollard ca trust add --use %s ROOT.pem` first", h.use, h.use)
}

// certified is the CA of ours whose key a certificate has; without a certificate, and
// with the generation of its key, while it waits for one.
func (a *Authority) certified(ctx context.Context, h hierarchy, cert *x509.Certificate) (caRecord, int, error) {
	hash := hashHex(cert.RawSubjectPublicKeyInfo)
	l := a.hierarchy(h.kind)
	for _, c := range l.cas {
		// A former one gets no further certificate of others; an offline root may have revoked
		// the one it gave it.
		if c.keyURI == "" || c.borrowed || c.retired || c.former && h.use != "" || hashHex(c.cert.RawSubjectPublicKeyInfo) != hash {
			continue
		}
		// What was issued names its issuer by these.
		if !bytes.Equal(c.cert.RawSubject, cert.RawSubject) || !bytes.Equal(c.cert.SubjectKeyId, cert.SubjectKeyId) {
			return caRecord{}, 0, fmt.Errorf("the first certificate is for the key of %s under another name or key identifier; have it certified as it is: %s, %x", c.name, c.cert.Subject, c.cert.SubjectKeyId)
		}
		return c, 0, nil
	}
	request, waiting, err := a.waiting(ctx, h)
	if err != nil {
		return caRecord{}, 0, err
	}
	if waiting {
		signer, err := a.cfg.Keys(ctx, request.KeyURI)
		if err != nil {
			return caRecord{}, 0, fmt.Errorf("couldn't open the key that was to be certified: %w", err)
		}
		if wanted, err := keyHash(signer.Public()); err == nil && wanted == hash {
			return caRecord{name: h.generationName(request.Profile, request.Generation), profile: request.Profile, keyURI: request.KeyURI}, request.Generation, nil
		}
	}
	return caRecord{}, 0, fmt.Errorf("the first certificate is for no key of %s here; `bollard ca request %s` gives the request for it", h.kind, h.kind)
}

// keysOf are the kinds of keys that count in a hierarchy of ISO 15118. One on Ed448
// has no other: its paths are judged here, not by crypto/x509.
func (a *Authority) keysOf(h hierarchy) []KeyClass {
	switch h.class {
	case ClassP521:
		return slices.DeleteFunc(a.Keys20(), func(c KeyClass) bool { return c == ClassEd448 })
	case ClassEd448:
		return keys448
	}
	return keys2
}

// checkOutside holds a chain to what the standard asks of it, and to what the CA of
// ours at its beginning is to do.
func (h hierarchy) checkOutside(chain []*x509.Certificate, ours caRecord, allowed []KeyClass, now time.Time) error {
	most := maxCertificate2
	if h.is20() {
		most = maxCertificate20
	}
	for i, c := range chain {
		class, err := classOf(c.PublicKey)
		switch {
		case err != nil || !slices.Contains(allowed, class):
			return fmt.Errorf("%s has a key on %s, all of the chain are to have %s", c.Subject, class, allowed[0])
		case !strongSignature(c):
			return fmt.Errorf("%s is signed with %s", c.Subject, c.SignatureAlgorithm)
		case !c.BasicConstraintsValid || !c.IsCA || c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0:
			return fmt.Errorf("%s is no CA certificate", c.Subject)
		case now.Before(c.NotBefore) || now.After(c.NotAfter):
			return fmt.Errorf("%s is valid from %s to %s only", c.Subject, c.NotBefore.Format(time.DateOnly), c.NotAfter.Format(time.DateOnly))
		case len(c.UnhandledCriticalExtensions) > 0 || slices.ContainsFunc(c.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidNameConstraints) }):
			return fmt.Errorf("%s has name constraints or critical extensions, which cars don't know", c.Subject)
		case i < len(chain)-1 && len(c.Raw) > most:
			return fmt.Errorf("%s has %d bytes, at most %d are taken by cars", c.Subject, len(c.Raw), most)
		case i < len(chain)-1 && (!bytes.Equal(c.RawIssuer, chain[i+1].RawSubject) || curve448.CheckSignatureFrom(c, chain[i+1]) != nil):
			return fmt.Errorf("%s isn't signed by the certificate after it, %s", c.Subject, chain[i+1].Subject)
		}
	}
	return h.checkOurs(chain, ours, now)
}

var oidNameConstraints = asn1.ObjectIdentifier{2, 5, 29, 30}

// checkOurs: path length, key usages and lifetime of the CA of ours.
func (h hierarchy) checkOurs(chain []*x509.Certificate, ours caRecord, now time.Time) error {
	c, root := chain[0], chain[len(chain)-1]
	below := len(h.subs) // CAs below it
	if i := slices.Index(h.subs, ours.profile); i >= 0 {
		below -= i + 1
	}
	wanted := profiles[ours.profile].KeyUsage
	// At most three below the root: sub-CA 1, sub-CA 2, leaf ([V2G2-009]); -20 has
	// cross certificates besides.
	longest := 3
	if h.is20() {
		longest = 4
	}
	switch depth := len(chain) - 1 + below + 1; {
	case depth > longest:
		return fmt.Errorf("%d certificates below the root %s, at most %d are taken by cars ([V2G2-009])", depth, root.Subject, longest)
	case c.MaxPathLen >= 0 && c.MaxPathLen < below || below == 0 && c.MaxPathLen != 0:
		return fmt.Errorf("%s has path length %d, it has to be %d", c.Subject, c.MaxPathLen, below)
	case c.KeyUsage&wanted != wanted:
		return fmt.Errorf("%s lacks key usages: it has %#x, %#x are needed", c.Subject, int(c.KeyUsage), int(wanted))
	case len(c.SubjectKeyId) == 0:
		return fmt.Errorf("%s has no subject key identifier", c.Subject)
	case c.NotAfter.Sub(now) < leastLife:
		return fmt.Errorf("%s ends on %s, that is in less than 30 days", c.Subject, c.NotAfter.Format(time.DateOnly))
	case strings.TrimSpace(c.Subject.CommonName) == "" || len(c.Subject.Organization) == 0:
		return fmt.Errorf("%s lacks a common name or an organisation", c.Subject)
	}
	if h.class == ClassEd448 {
		_, err := curve448.Paths(c, []*x509.Certificate{root}, chain[1:len(chain)-1], now)
		return err
	}
	anchor, between := x509.NewCertPool(), x509.NewCertPool()
	anchor.AddCert(root)
	for _, above := range chain[1:] {
		between.AddCert(above)
	}
	_, err := c.Verify(x509.VerifyOptions{Roots: anchor, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return err
}

// buildBelow makes the CAs of ours below one that others certified.
func (a *Authority) buildBelow(ctx context.Context, h hierarchy, top caRecord, generation int, actor string) error {
	issuing, err := a.openIssuer(ctx, top)
	if err != nil {
		return err
	}
	b := builder{a: a, h: h, actor: actor, algorithm: a.defaultAlgorithm(h)}
	for _, profile := range h.subs[slices.Index(h.subs, top.profile)+1:] {
		name := h.generationName(profile, generation)
		if issuing, err = b.ensure(ctx, wantedCA{name: name, profile: profile, issuedBy: issuing.name, by: issuing, file: name}); err != nil {
			return err
		}
	}
	return nil
}
