package ca

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"sync/atomic"
	"time"

	"bollard/internal/curve448"
	"bollard/internal/failpoint"
	"bollard/keys"
	"bollard/ledger"
)

// clockTolerance is how far the clock may be behind what is recorded.
const clockTolerance = 5 * time.Minute

// recordTimeout bounds the write that follows a signature. It doesn't end with
// the requester: what was signed is recorded.
const recordTimeout = 30 * time.Second

// Prepared is the token of the first phase; only it can be issued, once.
type Prepared struct {
	authority *Authority
	issuer    *issuer
	recorder  Recorder
	tbs       []byte            // to-be-signed
	draft     *x509.Certificate // what was linted: all but the signature
	intent    Intent
	// Of a mount: what it is asked for, and what that is to come to beside draft.
	order   keys.MountOrder
	plan    plan
	class   KeyClass
	custody keys.Custody
	claim   *Order // whose key is judged once more before it is signed for; nil: it isn't
	used    atomic.Bool
}

// Intent is what was recorded.
func (p *Prepared) Intent() Intent { return p.intent }

// Prepare is the first phase: it builds the certificate from profile and
// subject, lints exactly the bytes that will be signed and records the intent
// durably. ErrClock, ErrKeyInUse and *LintError say why it doesn't.
func (a *Authority) Prepare(ctx context.Context, order Order) (*Prepared, error) {
	h, err := hierarchyFor(order.Profile)
	if err != nil {
		return nil, err
	}
	issuing := a.hierarchy(h.kind).issuing
	if issuing == nil {
		return nil, fmt.Errorf("%w: %s; make it with bollard ca create %s", ErrNoHierarchy, h.kind, h.kind)
	}
	if err := a.hierarchy(h.kind).leads(h.kind); err != nil {
		return nil, err
	}
	return a.prepare(ctx, issuing, order)
}

func (a *Authority) prepare(ctx context.Context, by *issuer, order Order) (*Prepared, error) {
	profile := profiles[order.Profile]
	if order.Key.public == nil {
		return nil, errors.New("internal error: order without a proven key")
	}
	// A SECC may be a station of another operator's, who has a token.
	if stations := profile.Names == namesStation || profile.Names == namesAttestation; stations && order.Station == "" || !stations && profile.Names != namesSECC && order.Station != "" {
		return nil, fmt.Errorf("internal error: profile %s with station %q", order.Profile, order.Station)
	}
	if order.Attested != (Attested{}) && (profile.Names != namesStation || !order.Attested.Of(order.Key, order.Station, order.Subject.CommonName)) {
		return nil, fmt.Errorf("internal error: profile %s with an attestation of something else", order.Profile)
	}
	class, err := classOf(order.Key.public)
	if err != nil {
		return nil, err
	}
	if class == ClassP224 && !(profile.P224 && order.P224) {
		return nil, &CSRError{CSRKey, "a key on P-224 is for stations whose model needs it (A00.FR.503): p224 in bollard.yaml names them"}
	}
	if class != ClassP224 && !slices.Contains(a.KeyClasses(profile.Name), class) {
		return nil, fmt.Errorf("profile %s doesn't allow %s keys: %w", profile.Name, class, ErrKeyClass)
	}
	if err := a.catchUp(ctx); err != nil {
		return nil, err
	}
	if err := a.claimKey(ctx, order, profile); err != nil {
		return nil, err
	}
	defer a.releaseKey(order.Key.Hash())
	now := a.cfg.Clock().UTC()
	if err := a.checkClock(ctx, now); err != nil {
		return nil, err
	}

	// 1. What the certificate will say.
	plan, err := a.plan(by, profile, order, now)
	if err != nil {
		return nil, err
	}
	// 2. Exactly the bytes that will be signed, readable for lint.
	tbs, err := a.frames.outline(plan, a.template)
	if err != nil {
		return nil, fmt.Errorf("couldn't build a %s certificate: %w", profile.Name, err)
	}
	draft, err := withSignature(tbs, placeholder())
	if err != nil {
		return nil, fmt.Errorf("couldn't build a %s certificate: %w", profile.Name, err)
	}
	cert, err := curve448.ParseCertificate(draft)
	if err != nil {
		return nil, fmt.Errorf("couldn't read back a %s certificate: %w", profile.Name, err)
	}
	if err := lint(cert, plan, a.shapes); err != nil {
		return nil, err
	}
	a.frames.learn(plan, tbs)
	var asked keys.MountOrder
	if at := by.mount(); at != nil {
		if asked, err = a.mountOrder(at, plan, order.Key, cert); err != nil {
			return nil, fmt.Errorf("couldn't ask for a %s certificate: %w", profile.Name, err)
		}
	}
	// 3. The intent, on disk, before anything is signed with the CA's key.
	p := &Prepared{order: asked, plan: plan, authority: a, issuer: by, recorder: order.Recorder, custody: order.custody, tbs: tbs, draft: cert, intent: Intent{
		Serial:    plan.serial.Text(16),
		Issuer:    by.name,
		Profile:   profile.Name,
		Station:   order.Station,
		Requester: order.Requester,
		Reference: order.Reference,
		TBSHash:   hashHex(tbs),
		KeyHash:   order.Key.Hash(),
		Subject:   cert.Subject.String(),
		NotBefore: cert.NotBefore,
		NotAfter:  cert.NotAfter,
		CreatedAt: now,
		Attested:  order.Attested.certificate,
	}, class: class}
	if p.recorder == nil {
		p.recorder = a.cfg.Store
	}
	// A station has one request at a time. Others may both find a key free that neither
	// has a certificate for yet.
	if order.Station == "" && order.Judge != nil {
		claim := order
		p.claim = &claim
	}
	if err := p.recorder.PutIntent(ctx, p.intent, p.event("certificate.intent")); err != nil {
		return nil, fmt.Errorf("couldn't record the intent to issue; nothing was signed: %w", err)
	}
	return p, nil
}

// Issue is the second phase: it signs what was prepared, checks that exactly
// that was signed, and records it before it is returned. A token works once,
// whatever comes of it. ErrKeyInUse, or Order.Judge's error, if the key went to another
// requester after Prepare.
func (a *Authority) Issue(ctx context.Context, p *Prepared) (*Issued, error) {
	if p == nil || p.authority != a {
		return nil, errors.New("internal error: this authority didn't prepare that certificate")
	}
	if !p.used.CompareAndSwap(false, true) {
		return nil, ErrTokenUsed
	}
	failpoint.Hit("ca.after-intent")
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if p.claim != nil {
		if err := a.claimJudged(ctx, *p.claim, profiles[p.claim.Profile]); err != nil {
			return nil, err
		}
		defer a.releaseKey(p.intent.KeyHash)
	}
	// 1. What was linted and recorded is what is signed.
	if hashHex(p.tbs) != p.intent.TBSHash {
		return nil, fmt.Errorf("internal error: certificate %s isn't the one that was recorded; nothing was signed", p.intent.Serial)
	}
	if at := p.issuer.mount(); at != nil {
		return a.issueAt(ctx, at, p)
	}
	// 2. Sign. From here on a certificate may exist; its intent does.
	signature, err := p.issuer.sign(p.tbs)
	if err != nil {
		return nil, fmt.Errorf("couldn't sign certificate %s: %w", p.intent.Serial, err)
	}
	der, err := withSignature(p.tbs, signature)
	if err != nil {
		return nil, fmt.Errorf("couldn't put together certificate %s: %w", p.intent.Serial, err)
	}
	cert, err := signed(p.draft, der, signature)
	if err != nil {
		return nil, fmt.Errorf("couldn't read back certificate %s: %w", p.intent.Serial, err)
	}
	// It was signed by the right key, whatever the key's keeper did.
	verifier := p.issuer.cert
	if verifier == nil {
		verifier = cert
	}
	if err := curve448.CheckSignature(cert, verifier); err != nil {
		return nil, fmt.Errorf("the signature of certificate %s doesn't verify; it is not given out: %w", p.intent.Serial, err)
	}
	failpoint.Hit("ca.after-sign")
	// 3. Recorded, on disk, before anybody gets it.
	recording, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	return a.recordIssued(recording, p, cert)
}

func (a *Authority) recordIssued(ctx context.Context, p *Prepared, cert *x509.Certificate) (*Issued, error) {
	at := a.cfg.Clock().UTC()
	if err := p.recorder.PutIssued(ctx, p.intent.Serial, cert.Raw, at, p.event("certificate.issued")); err != nil {
		return nil, fmt.Errorf("couldn't record certificate %s; it is not given out: %w", p.intent.Serial, err)
	}
	failpoint.Hit("ca.after-issued")
	record := Record{Intent: p.intent, State: StateIssued, DER: cert.Raw, IssuedAt: at}
	return &Issued{Record: record, Certificate: cert, Chain: p.issuer.chain}, nil
}

func (p *Prepared) event(kind string) ledger.Event {
	data := map[string]string{
		"issuer": p.intent.Issuer, "profile": p.intent.Profile,
		"tbs": p.intent.TBSHash, "key": p.intent.KeyHash,
		"not_after": p.intent.NotAfter.UTC().Format(time.RFC3339),
	}
	if p.intent.Station != "" {
		data["station"] = p.intent.Station
	}
	if p.class == ClassP224 {
		data["curve"] = string(ClassP224) // allowed by configuration, not to everybody
	}
	if p.intent.Attested != "" {
		data["attested"] = p.intent.Attested
	}
	custodyInto(data, p.custody)
	if p.intent.Reference != "" {
		data["reference"] = p.intent.Reference
	}
	return ledger.Event{Kind: kind, Subject: p.intent.Serial, Actor: p.intent.Requester, Data: data}
}

// newSerial draws 128 random bits (RFC 5280 §4.1.2.2: positive, at most 20
// octets). Numbers with a leading zero digit are drawn again, so that the
// serial is always 32 hex digits.
func newSerial(random io.Reader) (*big.Int, error) {
	for range 64 {
		var b [16]byte
		if _, err := io.ReadFull(random, b[:]); err != nil {
			return nil, fmt.Errorf("couldn't draw a serial number: %w", err)
		}
		if b[0] >= 0x10 {
			return new(big.Int).SetBytes(b[:]), nil
		}
	}
	return nil, errors.New("couldn't draw a serial number: the random source is broken")
}

// checkClock refuses to sign with a clock that went back: dates would lie.
func (a *Authority) checkClock(ctx context.Context, now time.Time) error {
	newest, err := a.cfg.Store.NewestTime(ctx)
	if err != nil {
		return fmt.Errorf("couldn't compare the clock with what is recorded: %w", err)
	}
	if now.Before(newest.Add(-clockTolerance)) {
		return fmt.Errorf("%w: it says %s, the newest record %s; set the clock right (traffic goes on, nothing is signed)",
			ErrClock, now.Format(time.RFC3339), newest.UTC().Format(time.RFC3339))
	}
	return nil
}
