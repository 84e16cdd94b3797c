package ca

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"bollard/keys"
)

// ocspReference marks the Reference of an OCSP signer's certificate: the URI
// of its private key follows.
const ocspReference = "ocsp:"

// signerRetry is how soon a failed renewal is tried again.
const signerRetry = time.Minute

// OCSPSigner signs OCSP responses for one issuing CA (RFC 6960 §4.2.2.2).
type OCSPSigner struct {
	Certificate *x509.Certificate
	Key         crypto.Signer // role ocsp
}

// ocspKeeper keeps the signer of one issuing CA valid.
type ocspKeeper struct {
	mu      sync.Mutex
	current *OCSPSigner
	retry   time.Time // not before
}

// OCSPSigner returns the delegated signer of an issuing CA, such as
// "csms-issuing", issued or renewed if that is due. While renewal fails the
// present one serves until it expires.
func (a *Authority) OCSPSigner(ctx context.Context, issuer string) (*OCSPSigner, error) {
	a.mu.Lock()
	k := a.signers[issuer]
	if k == nil {
		k = &ocspKeeper{}
		a.signers[issuer] = k
	}
	a.mu.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	now := a.cfg.Clock()
	if k.current == nil {
		present, err := a.presentOCSPSigner(ctx, issuer)
		if err != nil {
			return nil, err
		}
		k.current = present
	}
	valid := k.current != nil && now.Before(k.current.Certificate.NotAfter)
	if valid && now.Before(profiles[ProfileOCSP].RenewAt(k.current.Certificate)) {
		return k.current, nil
	}
	if now.Before(k.retry) {
		if valid {
			return k.current, nil
		}
		return nil, fmt.Errorf("there is no OCSP signer of %s; the next try is at %s", issuer, k.retry.Format(time.TimeOnly))
	}
	next, err := a.issueOCSPSigner(ctx, issuer, k.current)
	if err != nil {
		k.retry = now.Add(signerRetry)
		if valid {
			a.cfg.Log.Error("OCSP signer not renewed", "issuer", issuer, "not_after", k.current.Certificate.NotAfter, "err", err)
			return k.current, nil
		}
		return nil, fmt.Errorf("couldn't make an OCSP signer of %s: %w", issuer, err)
	}
	k.current = next
	return next, nil
}

// dropOCSPSigner makes the next signer one with a new key: nobody looks up the
// revocation of a signer, so it must stop signing here.
func (a *Authority) dropOCSPSigner(r Record) {
	a.mu.Lock()
	k := a.signers[r.Issuer]
	a.mu.Unlock()
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.current != nil && SerialOf(k.current.Certificate) == r.Serial {
		k.current = nil
	}
}

func (a *Authority) issuerNamed(name string) (*issuer, hierarchy, error) {
	for _, h := range hierarchies {
		if by := a.hierarchy(h.kind).issuing; by != nil && by.name == name {
			return by, h, nil
		}
	}
	return nil, hierarchy{}, fmt.Errorf("%w: %s", ErrNoHierarchy, name)
}

// presentOCSPSigner finds the newest valid signer whose key is still there; nil
// if there is none.
func (a *Authority) presentOCSPSigner(ctx context.Context, issuer string) (*OCSPSigner, error) {
	if a.cfg.Keeper == nil {
		return nil, errors.New("internal error: ca.Config.Keeper is missing")
	}
	by, _, err := a.issuerNamed(issuer)
	if err != nil {
		return nil, err
	}
	records, err := a.cfg.Store.Certificates(ctx, Filter{Profile: ProfileOCSP, State: StateIssued})
	if err != nil {
		return nil, fmt.Errorf("couldn't read the OCSP signers: %w", err)
	}
	for _, r := range records {
		uri, ok := strings.CutPrefix(r.Reference, ocspReference)
		if !ok || r.External || r.Issuer != issuer || !a.cfg.Clock().Before(r.NotAfter) {
			continue
		}
		cert, err := x509.ParseCertificate(r.DER)
		if err != nil || cert.CheckSignatureFrom(by.cert) != nil {
			continue
		}
		key, err := a.cfg.Keeper.Open(ctx, uri, keys.RoleOCSP)
		if errors.Is(err, keys.ErrNotFound) {
			continue // lost: a new one is issued
		}
		if err != nil {
			return nil, err
		}
		if hash, err := keyHash(key.Public()); err != nil || hash != r.KeyHash {
			continue
		}
		return &OCSPSigner{Certificate: cert, Key: key}, nil
	}
	return nil, nil
}

// issueOCSPSigner certifies the present key again, or a new one.
func (a *Authority) issueOCSPSigner(ctx context.Context, issuer string, present *OCSPSigner) (*OCSPSigner, error) {
	by, h, err := a.issuerNamed(issuer)
	if err != nil {
		return nil, err
	}
	key, uri, err := a.ocspKey(ctx, by, present)
	if err != nil {
		return nil, err
	}
	proven, err := GeneratedKey(key)
	if err != nil {
		return nil, err
	}
	prepared, err := a.prepare(ctx, by, Order{
		Profile: ProfileOCSP, Key: proven, Requester: "bollard", Reference: ocspReference + uri,
		Subject: Subject{CommonName: fmt.Sprintf("%s OCSP Responder %s", h.title, proven.Hash()[:8])},
	})
	if err != nil {
		return nil, err
	}
	issued, err := a.Issue(ctx, prepared)
	if err != nil {
		return nil, err
	}
	a.cfg.Log.Info("OCSP signer issued", "issuer", issuer, "serial", issued.Serial, "not_after", issued.NotAfter)
	return &OCSPSigner{Certificate: issued.Certificate, Key: key}, nil
}

func (a *Authority) ocspKey(ctx context.Context, by *issuer, present *OCSPSigner) (crypto.Signer, string, error) {
	if present != nil {
		if bound, ok := present.Key.(keys.Signer); ok {
			return bound, bound.URI(), nil
		}
	}
	tag, err := newSerial(a.random)
	if err != nil {
		return nil, "", err
	}
	// The name is new each time: a key without a record is never taken up.
	uri, err := keys.Join(a.cfg.KeyBase, fmt.Sprintf("%s-ocsp-%s.key", by.name, tag.Text(16)[:12]))
	if err != nil {
		return nil, "", err
	}
	algorithm := keys.P256
	if isRSA(by.cert.PublicKey) {
		algorithm = keys.RSA2048 // who checks RSA certificates may know nothing else
	}
	key, err := a.cfg.Keeper.Create(ctx, uri, keys.RoleOCSP, algorithm)
	return key, uri, err
}
