// Package docket keeps what people are asked to approve, with their signatures.
//
// It promises that what it grants enough people agreed to, each with their own
// key, over exactly what is about to be done, under the rules in force when they
// were asked and still; and that a kept matter shows the same offline.
package docket

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"bollard/approval"
	"bollard/ledger"
)

// Errors callers branch on.
var (
	ErrUnknown = errors.New("no such approval")
	// ErrUsed is a store's for a nonce that was used before.
	ErrUsed = errors.New("approval was used already")
	// ErrNotGranted is Grant's while too few people have agreed.
	ErrNotGranted = errors.New("it isn't approved")
	// ErrAsk is Open's for what can't be asked like that, whoever is asked.
	ErrAsk = errors.New("that can't be asked for")
)

// How long a request may wait for its signatures and its use.
const (
	DefaultValid = 72 * time.Hour
	MaxValid     = 30 * 24 * time.Hour
	minValid     = time.Minute
)

// Signature is one person's.
type Signature struct {
	By   string    `json:"by"`
	At   time.Time `json:"at"`
	Text []byte    `json:"signature"` // as it was given: sshsig or CMS
}

// Matter is one request with all that shows who agreed to it.
type Matter struct {
	approval.Request
	// Subject is what would be done, as people read it; the request's digest is of it.
	Subject string    `json:"subject"`
	Reason  string    `json:"reason"`
	AskedAt time.Time `json:"asked_at"`
	// Quorum and People are the rules when it was asked; another rule voids it.
	Quorum      approval.Quorum     `json:"quorum"`
	People      []approval.Approver `json:"people"`
	Signatures  []Signature         `json:"signatures"`
	UsedAt      time.Time           `json:"used_at,omitzero"` // the store's, by the entry of approval.KindUsed
	WithdrawnAt time.Time           `json:"withdrawn_at,omitzero"`
}

// Store keeps matters. Every write is durable, together with its ledger events,
// before the method returns.
type Store interface {
	AddMatter(ctx context.Context, m Matter, events ...ledger.Event) error
	Matters(ctx context.Context) ([]Matter, error) // newest first
	// UpdateMatter reads, changes and writes one in one transaction; ErrUnknown if
	// there is none. What change does to UsedAt is left out.
	UpdateMatter(ctx context.Context, nonce string, change func(*Matter) ([]ledger.Event, error)) (Matter, error)
}

// Subject says what would be done to what has this name, as things are now: the
// same text as long as nothing of it changes. The name stands behind the colon
// of the scope.
type Subject func(ctx context.Context, name string) (scope, text string, err error)

// Rules say who approves what.
type Rules struct {
	People  []approval.Approver
	Quorums map[string]approval.Quorum // by action; what isn't there nobody can approve
}

// Config of a Docket.
type Config struct {
	Store   Store
	Rules   Rules
	Actions map[string]Subject // by action
	Clock   func() time.Time
}

// Docket is safe for concurrent use.
type Docket struct {
	cfg   Config
	rules atomic.Pointer[Rules] // in force
}

// New refuses people who could count twice.
func New(cfg Config) (*Docket, error) {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	d := &Docket{cfg: cfg}
	return d, d.Use(cfg.Rules)
}

// Use puts other people and quorums in force: what is open under others is void.
// An error leaves those in force that are.
func (d *Docket) Use(r Rules) error {
	if err := approval.Distinct(r.People); err != nil {
		return err
	}
	d.rules.Store(&r)
	return nil
}

// Rules in force.
func (d *Docket) Rules() Rules { return *d.rules.Load() }

// of are the rules of one action.
func (r *Rules) of(action string) (approval.Quorum, []approval.Approver, error) {
	q, ok := r.Quorums[action]
	if !ok {
		return q, nil, fmt.Errorf("nobody can approve %.80q: say how many it takes under approvals in bollard.yaml", action)
	}
	people := slices.DeleteFunc(slices.Clone(r.People), func(p approval.Approver) bool { return len(q.Of) > 0 && !slices.Contains(q.Of, p.Name) })
	return q, people, nil
}

// Ask is a new request.
type Ask struct {
	Action, Name string        // such as station.downgrade and cs-1
	Person       string        // who asks, where several share the actor's account; or ""
	Reason       string        // recorded
	Valid        time.Duration // 0: DefaultValid
}

// Open asks people to approve something.
func (d *Docket) Open(ctx context.Context, actor string, in Ask) (Matter, error) {
	subject, ok := d.cfg.Actions[in.Action]
	if !ok {
		return Matter{}, fmt.Errorf("%w: there is no action %.80q; there are %s", ErrAsk, in.Action, strings.Join(slices.Sorted(maps.Keys(d.cfg.Actions)), ", "))
	}
	quorum, people, err := d.rules.Load().of(in.Action)
	if err != nil {
		return Matter{}, err
	}
	if in.Reason, err = ledger.Reason(in.Reason); err != nil {
		return Matter{}, err
	}
	if in.Valid == 0 {
		in.Valid = DefaultValid
	}
	if in.Valid < minValid || in.Valid > MaxValid {
		return Matter{}, fmt.Errorf("%w: it can be valid from %s to %s", ErrAsk, minValid, MaxValid)
	}
	author := actor
	if in.Person != "" {
		if err := approval.CheckName(in.Person); err != nil {
			return Matter{}, fmt.Errorf("%w: %w", ErrAsk, err)
		}
		author += ":" + in.Person
	}
	scope, text, err := subject(ctx, in.Name)
	if err != nil {
		return Matter{}, err
	}
	now := d.cfg.Clock()
	nonce := make([]byte, 16)
	_, _ = rand.Read(nonce) // it never fails
	m := Matter{
		Request: approval.Request{
			Action: in.Action, Scope: scope, Digest: digest(text), Author: author,
			Expires: now.Add(in.Valid).UTC().Truncate(time.Second), Nonce: hex.EncodeToString(nonce),
		},
		Subject: text, Reason: in.Reason, AskedAt: now, Quorum: quorum, People: people, Signatures: []Signature{},
	}
	statement, err := m.Statement()
	if err != nil {
		return Matter{}, err
	}
	err = d.cfg.Store.AddMatter(ctx, m, ledger.Event{Kind: "approval.requested", Subject: m.Nonce, Actor: actor, Data: map[string]string{
		"action": m.Action, "scope": m.Scope, "sha256": m.Digest, "author": m.Author, "expires": m.Expires.Format(time.RFC3339), "reason": m.Reason,
		"needed": strconv.Itoa(quorum.Needed), "people-sha256": digest(encoded(people)), "statement-sha256": digest(string(statement)),
	}, People: []string{"author"}})
	if err != nil {
		return Matter{}, fmt.Errorf("couldn't keep the request: %w", err)
	}
	return m, nil
}

// Sign adds a person's signature over the statement; the error says why it
// counts for nobody.
func (d *Docket) Sign(ctx context.Context, actor, id string, signature []byte) (Matter, string, error) {
	m, err := d.Find(ctx, id)
	if err != nil {
		return Matter{}, "", err
	}
	if reason := d.closed(ctx, &m); reason != "" {
		return Matter{}, "", fmt.Errorf("approval %s can't be signed any more: %s", m.Nonce, reason)
	}
	now := d.cfg.Clock()
	who, err := approval.Signer(&m.Request, signature, m.People, now)
	if err != nil {
		return Matter{}, "", err
	}
	m, err = d.cfg.Store.UpdateMatter(ctx, m.Nonce, func(m *Matter) ([]ledger.Event, error) {
		switch {
		case !m.UsedAt.IsZero() || !m.WithdrawnAt.IsZero():
			return nil, fmt.Errorf("approval %s is closed", m.Nonce)
		case slices.ContainsFunc(m.Signatures, func(s Signature) bool { return s.By == who.Name }):
			return nil, fmt.Errorf("%s has signed it already", who.Name)
		}
		m.Signatures = append(m.Signatures, Signature{By: who.Name, At: now, Text: signature})
		return []ledger.Event{{Kind: "approval.signed", Subject: m.Nonce, Actor: actor,
			Data: map[string]string{"by": who.Name, "signature-sha256": digest(string(signature))}, People: []string{"by"}}}, nil
	})
	return m, who.Name, err
}

// Withdraw closes a request; what was signed counts no more.
func (d *Docket) Withdraw(ctx context.Context, actor, id, reason string) (Matter, error) {
	reason, err := ledger.Reason(reason)
	if err != nil {
		return Matter{}, err
	}
	m, err := d.Find(ctx, id)
	if err != nil {
		return Matter{}, err
	}
	return d.cfg.Store.UpdateMatter(ctx, m.Nonce, func(m *Matter) ([]ledger.Event, error) {
		if !m.UsedAt.IsZero() || !m.WithdrawnAt.IsZero() {
			return nil, fmt.Errorf("approval %s is closed", m.Nonce)
		}
		m.WithdrawnAt = d.cfg.Clock()
		return []ledger.Event{{Kind: "approval.withdrawn", Subject: m.Nonce, Actor: actor, Data: map[string]string{"reason": reason}}}, nil
	})
}

// Grant tells that people have agreed to an action on a scope, with what would
// be done as it is now. Of several requests the newest that is granted counts;
// if none is, the error says what the newest one lacks.
func (d *Docket) Grant(ctx context.Context, action, scope, text string) (approval.Grant, error) {
	list, err := d.cfg.Store.Matters(ctx)
	if err != nil {
		return approval.Grant{}, err
	}
	lacks := fmt.Errorf("nobody was asked for %s of %s", action, scope)
	first := true
	for i := range list {
		m := &list[i]
		if m.Action != action || m.Scope != scope || !m.UsedAt.IsZero() || !m.WithdrawnAt.IsZero() {
			continue
		}
		names, err := d.judge(m, text)
		if err == nil {
			return approval.Grant{Request: m.Request, By: names}, nil
		}
		if first {
			lacks, first = fmt.Errorf("approval %s: %w", m.Nonce, err), false
		}
	}
	return approval.Grant{}, fmt.Errorf("%w: %w", ErrNotGranted, lacks)
}

// judge says who has agreed to an open matter as things and rules are now.
func (d *Docket) judge(m *Matter, text string) ([]string, error) {
	quorum, people, err := d.rules.Load().of(m.Action)
	switch {
	case err != nil:
		return nil, err
	case encoded(quorum) != encoded(m.Quorum) || encoded(people) != encoded(m.People):
		return nil, errors.New("who approves it was changed since it was asked for: ask for it anew")
	case m.Subject != text || digest(text) != m.Digest:
		return nil, errors.New("what it is about was changed since it was asked for: ask for it anew")
	}
	return quorum.Check(&m.Request, m.texts(), people, func(string) bool { return !m.UsedAt.IsZero() }, d.cfg.Clock())
}

func (m *Matter) texts() [][]byte {
	var list [][]byte
	for _, s := range m.Signatures {
		list = append(list, s.Text)
	}
	return list
}

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// encoded compares values as they are kept.
func encoded(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic("internal error: " + err.Error()) // they are plain values
	}
	return string(b)
}
