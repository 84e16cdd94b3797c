package ca

import (
	"cmp"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"bollard/internal/curve448"
	"bollard/keys"
)

// signerRetry is how soon a failed renewal is tried again.
const signerRetry = time.Minute

// OCSPSigner signs OCSP responses for one issuing CA (RFC 6960 §4.2.2.2).
type OCSPSigner struct {
	Certificate *x509.Certificate
	Key         crypto.Signer // role ocsp
}

// office is a job that an issuing CA gives to a key of Bollard's own, whose
// certificate is renewed by itself.
type office struct {
	what    string // for people
	profile func(h hierarchy) string
	// reference marks the Reference of its certificates: the URI of the private key
	// follows.
	reference string
	role      keys.Role
	title     string // in the CN
}

var ocspOffice = office{
	what: "OCSP signer", profile: func(hierarchy) string { return ProfileOCSP }, reference: "ocsp:", role: keys.RoleOCSP, title: "OCSP Responder",
}

// officeKeeper keeps the signer of one issuing CA valid.
type officeKeeper struct {
	mu      sync.Mutex
	current *OCSPSigner
	retry   time.Time // not before
}

// OCSPSigner returns the delegated signer of an issuing CA, such as
// "csms-issuing", issued or renewed if that is due. While renewal fails the
// present one serves until it expires.
func (a *Authority) OCSPSigner(ctx context.Context, issuer string) (*OCSPSigner, error) {
	if own, err := a.ownOCSPSigner(ctx, issuer); own != nil || err != nil {
		return own, err
	}
	return a.officer(ctx, ocspOffice, issuer)
}

// officer returns who holds an office of an issuing CA.
func (a *Authority) officer(ctx context.Context, o office, issuer string) (*OCSPSigner, error) {
	a.mu.Lock()
	k := a.signers[o.reference+issuer]
	if k == nil {
		k = &officeKeeper{}
		a.signers[o.reference+issuer] = k
	}
	a.mu.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	now := a.cfg.Clock()
	if k.current == nil {
		present, err := a.presentOfficer(ctx, o, issuer)
		if err != nil {
			return nil, err
		}
		k.current = present
	}
	valid := k.current != nil && now.Before(k.current.Certificate.NotAfter)
	_, h, err := a.issuerNamed(issuer)
	if err != nil {
		return nil, err
	}
	if valid && now.Before(profiles[o.profile(h)].RenewAt(k.current.Certificate)) {
		return k.current, nil
	}
	if now.Before(k.retry) {
		if valid {
			return k.current, nil
		}
		return nil, fmt.Errorf("there is no %s of %s; the next try is at %s", o.what, issuer, k.retry.Format(time.TimeOnly))
	}
	next, err := a.appoint(ctx, o, issuer, k.current)
	if err != nil {
		k.retry = now.Add(signerRetry)
		if valid {
			a.cfg.Log.Error("a signer's certificate isn't renewed", "signer", o.what, "issuer", issuer, "not_after", k.current.Certificate.NotAfter, "err", err)
			return k.current, nil
		}
		return nil, fmt.Errorf("couldn't make the %s of %s: %w", o.what, issuer, err)
	}
	k.current = next
	return next, nil
}

// ownOCSPSigner is a CA that answers for the CAs it certified itself: a V2G root
// issues no leaf, so no signer either ([V2G2-867]). nil for others.
func (a *Authority) ownOCSPSigner(ctx context.Context, issuer string) (*OCSPSigner, error) {
	for _, h := range hierarchies {
		for _, ca := range a.hierarchy(h.kind).cas {
			if h.statusOfCAs && ca.name == issuer && ca.certifiesCAs(h) {
				by, err := a.openIssuer(ctx, ca)
				if err != nil {
					return nil, err
				}
				return &OCSPSigner{Certificate: by.cert, Key: by.signer}, nil
			}
		}
	}
	return nil, nil
}

// dismiss makes the next holder of an office one with a new key, if the one of this
// record holds any: OCSP signers are looked up by nobody, cars look up no CPS, so
// they must stop signing here.
func (a *Authority) dismiss(r Record) {
	for _, o := range []office{ocspOffice, cpsOffice} {
		if !strings.HasPrefix(r.Reference, o.reference) {
			continue
		}
		a.mu.Lock()
		k := a.signers[o.reference+r.Issuer]
		a.mu.Unlock()
		if k != nil {
			k.dismiss(r.KeyHash)
		}
	}
}

func (k *officeKeeper) dismiss(hash string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.current == nil {
		return
	}
	if held, err := keyHash(k.current.Key.Public()); err != nil || held == hash {
		k.current = nil
	}
}

func (a *Authority) issuerNamed(name string) (*issuer, hierarchy, error) {
	for _, h := range hierarchies {
		for _, by := range a.hierarchy(h.kind).issuers() {
			if by.name == name {
				return by, h, nil
			}
		}
	}
	return nil, hierarchy{}, fmt.Errorf("%w: %s", ErrNoHierarchy, name)
}

// presentOfficer finds the newest valid signer whose key is still there, and none of
// whose certificates was revoked; nil if there is none.
func (a *Authority) presentOfficer(ctx context.Context, o office, issuer string) (*OCSPSigner, error) {
	if a.cfg.Keeper == nil {
		return nil, errors.New("internal error: ca.Config.Keeper is missing")
	}
	by, h, err := a.issuerNamed(issuer)
	if err != nil {
		return nil, err
	}
	records, err := a.cfg.Store.Certificates(ctx, Filter{Profile: o.profile(h), State: StateIssued})
	if err != nil {
		return nil, fmt.Errorf("couldn't read the signers' certificates: %w", err)
	}
	for _, r := range records {
		uri, ok := strings.CutPrefix(r.Reference, o.reference)
		if !ok || r.External || r.Issuer != issuer || !a.cfg.Clock().Before(r.NotAfter) || a.cfg.Clock().Before(r.NotBefore) {
			continue
		}
		cert, err := curve448.ParseCertificate(r.DER)
		if err != nil || curve448.CheckSignatureFrom(cert, by.cert) != nil {
			continue
		}
		same, err := a.cfg.Store.CertificatesByKey(ctx, r.KeyHash)
		if err != nil {
			return nil, fmt.Errorf("couldn't read the signers' certificates: %w", err)
		}
		if slices.ContainsFunc(same, func(r Record) bool { return r.State == StateRevoked }) {
			continue
		}
		key, err := a.cfg.Keeper.Open(ctx, uri, o.role)
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

// appoint certifies the present key again, or a new one.
func (a *Authority) appoint(ctx context.Context, o office, issuer string, present *OCSPSigner) (*OCSPSigner, error) {
	by, h, err := a.issuerNamed(issuer)
	if err != nil {
		return nil, err
	}
	return a.appointBy(ctx, o, by, h, present)
}

func (a *Authority) appointBy(ctx context.Context, o office, by *issuer, h hierarchy, present *OCSPSigner) (*OCSPSigner, error) {
	key, uri, err := a.officeKey(ctx, o, by, h, present)
	if err != nil {
		return nil, err
	}
	proven, err := GeneratedKey(key)
	if err != nil {
		return nil, err
	}
	custody, err := a.custody(ctx, uri, o.role)
	if err != nil {
		return nil, err
	}
	prepared, err := a.prepare(ctx, by, Order{
		Profile: o.profile(h), Key: proven, Requester: "bollard", Reference: o.reference + uri, custody: custody,
		Subject: Subject{CommonName: strings.TrimSpace(fmt.Sprintf("%s %s %s", cmp.Or(h.subTitle, h.title), o.title, proven.Hash()[:8]))},
	})
	if err != nil {
		return nil, err
	}
	issued, err := a.Issue(ctx, prepared)
	if err != nil {
		return nil, err
	}
	a.cfg.Log.Info("a signer's certificate issued", "signer", o.what, "issuer", by.name, "serial", issued.Serial, "not_after", issued.NotAfter)
	return &OCSPSigner{Certificate: issued.Certificate, Key: key}, nil
}

func (a *Authority) officeKey(ctx context.Context, o office, by *issuer, h hierarchy, present *OCSPSigner) (crypto.Signer, string, error) {
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
	uri, err := keys.Join(a.cfg.KeyBase, fmt.Sprintf("%s-%s-%s.key", by.name, o.role, tag.Text(16)[:12]))
	if err != nil {
		return nil, "", err
	}
	algorithm := keys.P256
	switch {
	case isRSA(by.cert.PublicKey):
		algorithm = keys.RSA2048 // who checks RSA certificates may know nothing else
	case o.role == keys.RoleCPS:
		algorithm = a.defaultAlgorithm(h)
	}
	key, err := a.cfg.Keeper.Create(ctx, uri, o.role, algorithm)
	return key, uri, err
}
