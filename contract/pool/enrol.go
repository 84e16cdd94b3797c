package pool

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"bollard/ca"
	"bollard/ca/est"
	"bollard/iso15118/identifier"
)

// Issuer certifies keys. *ca.Authority is one.
type Issuer interface {
	LookupReference(ctx context.Context, reference string) (*ca.Issued, error)
	Prepare(ctx context.Context, order ca.Order) (*ca.Prepared, error)
	Issue(ctx context.Context, p *ca.Prepared) (*ca.Issued, error)
}

// Operators are those who have their charging stations' certificates toward cars from a
// CPO sub-CA here, over EST: who has a token of the role cpo that is bound to operators.
// It is an est.Registrar.
type Operators struct {
	Door    *Door // whose tokens and bounds count
	Issuer  Issuer
	Kind    ca.Kind
	Profile string
	// Taken says whether a station of the own fleet has an SECC identifier, in whatever
	// case and with or without its separators: nobody else gets a certificate for it.
	Taken func(ctx context.Context, secc string) (bool, error)
}

// enrolledPerDay bounds the new certificates of one token, whoever has its secret.
const enrolledPerDay = 5000

// Prove takes an access token of the pool, or the token itself by HTTP Basic.
func (o *Operators) Prove(ctx context.Context, claim est.Claim) (est.Applicant, error) {
	t, ok, err := o.who(ctx, claim)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, &est.Refusal{Status: http.StatusUnauthorized, Public: "no access token or client of the pool: POST " + tokenPath + " gives one", Reason: "no token in force"}
	case !o.Door.spend(t.Name):
		return nil, &est.Refusal{Status: http.StatusTooManyRequests, Public: "too many requests", Reason: "too many requests", RetryAfter: time.Second}
	}
	a := &operator{o, t}
	if t.Role != RoleCPO || len(t.Only) == 0 {
		return nil, a.refuse(ctx, http.StatusForbidden, "the token isn't one of an operator that enrols stations (bollard pool token add NAME --role cpo --only DE*ABC)")
	}
	return a, nil
}

func (o *Operators) who(ctx context.Context, claim est.Claim) (Token, bool, error) {
	if claim.Basic != nil {
		return o.Door.cfg.Tokens.prove(ctx, claim.Basic.User, string(claim.Basic.Secret))
	}
	return o.Door.access.who(ctx, claim.Bearer)
}

// operator is one that proved itself.
type operator struct {
	*Operators
	token Token
}

// Station names it for the log.
func (a *operator) Station() string { return actorOf(a.token.Name) }

// refuse decides against it, on record.
func (a *operator) refuse(ctx context.Context, status int, text string) error {
	a.Door.refused.Tell(refusedKey{a.token.Name, "EST " + string(a.Kind), status}, "", a.Door.cfg.Clock(), a.Door.record(ctx))
	return &est.Refusal{Status: status, Public: text, Reason: text}
}

// Certify certifies a key for the SECC identifier that the request names, if it is one
// of the operator's. Of the request nothing else counts; the same one again brings the
// same certificate while that is good.
func (a *operator) Certify(ctx context.Context, csr ca.CSR) (*ca.Issued, error) {
	name, actor := csr.CommonName, actorOf(a.token.Name)
	switch err := identifier.CheckSECC(name); {
	case err != nil:
		return nil, a.refuse(ctx, http.StatusBadRequest, "the request's common name: "+err.Error())
	case !a.token.may(plainSECC(name)):
		return nil, a.refuse(ctx, http.StatusForbidden, "the request's common name is no SECC identifier of the token's operators")
	case csr.CA:
		return nil, a.refuse(ctx, http.StatusBadRequest, "the request is for a certificate that can issue others (CA:TRUE)")
	}
	taken, err := a.Taken(ctx, name)
	if err != nil {
		return nil, err
	}
	if taken {
		return nil, a.refuse(ctx, http.StatusForbidden, "the SECC identifier is that of a station of the own fleet")
	}
	reference := fmt.Sprintf("enrolled:%s:%s:%s", a.token.Name, name, csr.Key.Hash())
	before, err := a.Issuer.LookupReference(ctx, reference)
	if err != nil {
		return nil, err
	}
	if before != nil && before.State == ca.StateIssued && a.Door.cfg.Clock().Before(before.NotAfter.Add(-renewal)) {
		return before, nil
	}
	if !a.Door.enrols(a.token.Name) {
		return nil, a.refuse(ctx, http.StatusTooManyRequests, fmt.Sprintf("the token had %d certificates today", enrolledPerDay))
	}
	prepared, err := a.Issuer.Prepare(ctx, ca.Order{
		Profile: a.Profile, Key: csr.Key, Subject: ca.Subject{CommonName: name}, Requester: actor, Reference: reference,
		Judge: func(onRecord []ca.Record) error {
			// What was revoked isn't given again for the same key, for whatever reason it was.
			if slices.ContainsFunc(onRecord, func(r ca.Record) bool {
				return r.Requester != actor || r.Reference != reference || r.State == ca.StateRevoked
			}) {
				return ca.ErrKeyInUse
			}
			return nil
		},
	})
	var issued *ca.Issued
	if err == nil {
		issued, err = a.Issuer.Issue(ctx, prepared)
	}
	if _, ok := errors.AsType[*ca.CSRError](err); ok || errors.Is(err, ca.ErrKeyInUse) || errors.Is(err, ca.ErrKeyClass) {
		return nil, a.refuse(ctx, http.StatusBadRequest, "the request's key isn't certified: it is in use, its certificate was revoked, or it is of a kind the CA doesn't certify")
	}
	return issued, err
}

// enrols takes one new certificate from what a token may have in a day.
func (d *Door) enrols(token string) bool {
	day := d.cfg.Clock().Unix() / int64((24 * time.Hour).Seconds())
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.enrolDay != day {
		d.enrolDay = day
		clear(d.enrolled)
	}
	if d.enrolled[token] >= enrolledPerDay {
		return false
	}
	d.enrolled[token]++
	return true
}

// renewal is how long before its end a certificate of 90 days is no more given again.
const renewal = 30 * 24 * time.Hour
