package acme

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"bollard/ca"
	"bollard/internal/failpoint"
	"bollard/ledger"
)

// State of an order, an authorization or a challenge (RFC 8555 §7.1.6).
type State string

// Not every one is a state of each of the three.
const (
	StatePending     State = "pending"
	StateReady       State = "ready"
	StateProcessing  State = "processing"
	StateValid       State = "valid"
	StateInvalid     State = "invalid"
	StateDeactivated State = "deactivated"
	StateExpired     State = "expired"
)

// Bounds of orders.
const (
	maxIdentifiers = 20
	orderLife      = 24 * time.Hour // to be proven and asked for
	orderKept      = 24 * time.Hour // remembered after that, without a certificate
	ordersShown    = 50
)

// Order is a request for one certificate, with everything that proves it. Its
// authorizations are its own: what proved one order proves no other.
type Order struct {
	ID             string
	Door           string
	Account        string
	State          State
	Authorizations []Authorization
	KeyHash        string // of the key the certificate was asked for
	Serial         string // of the certificate
	Problem        *Problem
	CreatedAt      time.Time
	ExpiresAt      time.Time
}

// Authorization says whether an identifier is proven.
type Authorization struct {
	Identifier Identifier
	State      State
	Challenges []Challenge
}

// Challenge is one way to prove it.
type Challenge struct {
	Type    ChallengeType
	Token   string
	State   State
	Problem *Problem
	Tries   int             // that came to no judgement
	Next    time.Time       // before which it isn't tried again, while it is processing
	At      time.Time       // when it was found valid
	Proof   json.RawMessage `json:",omitempty"` // by what, for the desk
}

// proof is that of the challenge that was found valid; nil without one.
func (z *Authorization) proof() json.RawMessage {
	for _, c := range z.Challenges {
		if c.State == StateValid {
			return c.Proof
		}
	}
	return nil
}

// settle makes the states follow from one another, at a time.
func (o *Order) settle(now time.Time) {
	if o.State != StatePending && o.State != StateReady {
		return
	}
	proven := 0
	for i := range o.Authorizations {
		z := &o.Authorizations[i]
		if z.State == StatePending && !now.Before(o.ExpiresAt) {
			z.State = StateExpired
		}
		switch z.State {
		case StateValid:
			proven++
		case StatePending:
		default:
			o.State = StateInvalid
		}
	}
	switch {
	case o.State == StateInvalid:
	case !now.Before(o.ExpiresAt):
		o.State, o.Problem = StateInvalid, problem(malformed, "the order has expired")
	case proven == len(o.Authorizations):
		o.State = StateReady
	}
}

// identifiers of an order, in its order.
func (o *Order) identifiers() []Identifier {
	var list []Identifier
	for _, z := range o.Authorizations {
		list = append(list, z.Identifier)
	}
	return list
}

type shownOrder struct {
	Status         State        `json:"status"`
	Expires        time.Time    `json:"expires"`
	Identifiers    []Identifier `json:"identifiers"`
	Authorizations []string     `json:"authorizations"`
	Finalize       string       `json:"finalize"`
	Certificate    string       `json:"certificate,omitempty"`
	Error          *Problem     `json:"error,omitempty"`
}

func (d *Door) showOrder(m *message, o *Order) shownOrder {
	out := shownOrder{Status: o.State, Expires: o.ExpiresAt, Identifiers: o.identifiers(), Finalize: d.link(m.Request, "finalize", o.ID), Error: o.Problem}
	for i := range o.Authorizations {
		out.Authorizations = append(out.Authorizations, d.link(m.Request, "authz", authorizationID(o.ID, i)))
	}
	if o.State == StateValid {
		out.Certificate = d.link(m.Request, "certificate", o.ID)
	}
	return out
}

// newOrder takes an order for identifiers that this account may order (RFC 8555 §7.4).
func (d *Door) newOrder(w http.ResponseWriter, m *message) error {
	var in struct {
		Identifiers []Identifier `json:"identifiers"`
	}
	switch err := json.Unmarshal(m.payload, &in); {
	case err != nil:
		return problem(malformed, "the payload isn't an order")
	case len(in.Identifiers) == 0 || len(in.Identifiers) > maxIdentifiers:
		return problem(malformed, "an order has 1 to %d identifiers", maxIdentifiers)
	}
	now := d.cfg.Clock().UTC().Truncate(time.Second)
	o := Order{ID: randomID(), Door: d.name, Account: m.account.ID, State: StatePending, CreatedAt: now, ExpiresAt: now.Add(orderLife)}
	var refused []Problem
	for _, id := range in.Identifiers {
		normal, kinds, err := d.cfg.Desk.Offer(m.Context(), m.account, id)
		var p *Problem
		switch {
		case errors.As(err, &p):
			one := *p
			one.Identifier = &Identifier{Type: clip(id.Type), Value: clip(id.Value)}
			refused = append(refused, one)
			continue
		case err != nil:
			return err
		case slices.Contains(o.identifiers(), normal):
			continue
		}
		z := Authorization{Identifier: normal, State: StatePending}
		for _, kind := range kinds {
			z.Challenges = append(z.Challenges, Challenge{Type: kind, Token: randomOctets(), State: StatePending})
		}
		o.Authorizations = append(o.Authorizations, z)
	}
	if len(refused) > 0 {
		p := refused[0]
		if len(refused) > 1 {
			p.Subproblems, p.Identifier = refused, nil
		}
		d.record(m, "acme.refused", o.ID, map[string]string{"what": "order", "identifiers": names(in.Identifiers), "why": clip(p.Error())})
		return &p
	}
	if len(o.Authorizations) > 1 && o.Authorizations[0].Identifier.Type == TypePermanent {
		return problem(rejectedIdentifier, "an order is for one station")
	}
	var events []ledger.Event
	if !m.account.stranger() { // of theirs counts what is proven
		events = append(events, ledger.Event{Kind: "acme.order", Subject: Reference(o.ID), Actor: Requester(m.account.ID), Data: map[string]string{"identifiers": names(o.identifiers())}})
	}
	if err := d.cfg.Store.AddACMEOrder(m.Context(), o, now.Add(-orderKept), events...); err != nil {
		return err
	}
	w.Header().Set("Location", d.link(m.Request, "order", o.ID))
	return send(w, http.StatusCreated, d.showOrder(m, &o))
}

// own returns an order of the account.
func (d *Door) own(m *message, id string) (*Order, error) {
	o, ok, err := d.cfg.Store.ACMEOrder(m.Context(), id)
	switch {
	case err != nil:
		return nil, err
	case !ok || o.Account != m.account.ID || o.Door != d.name:
		// Alike: nobody learns of others' orders.
		return nil, &Problem{Type: malformed, Detail: "there is no such order of this account", Status: http.StatusNotFound}
	}
	o.settle(d.cfg.Clock())
	return &o, nil
}

// asGet refuses a payload where there is nothing to say (RFC 8555 §6.3).
func asGet(m *message) error {
	if len(m.payload) > 0 {
		return problem(malformed, "this takes an empty payload (POST-as-GET)")
	}
	return nil
}

func (d *Door) order(w http.ResponseWriter, m *message) error {
	if err := asGet(m); err != nil {
		return err
	}
	o, err := d.own(m, m.id)
	if err != nil {
		return err
	}
	if o.State == StateProcessing && d.enter(o.ID) {
		o, err = d.resume(m, o)
		d.leave(m.id)
		if err != nil {
			return err
		}
	}
	if o.State == StateProcessing {
		w.Header().Set("Retry-After", "5")
	}
	return send(w, http.StatusOK, d.showOrder(m, o))
}

// orders lists the account's (RFC 8555 §7.1.2.1).
func (d *Door) orders(w http.ResponseWriter, m *message) error {
	if err := asGet(m); err != nil {
		return err
	}
	if m.id != m.account.ID {
		return Unauthorized("this is another account's", "")
	}
	list, err := d.cfg.Store.ACMEOrders(m.Context(), m.account.ID, ordersShown)
	if err != nil {
		return err
	}
	out := struct {
		Orders []string `json:"orders"`
	}{[]string{}}
	for i := range list {
		out.Orders = append(out.Orders, d.link(m.Request, "order", list[i].ID))
	}
	return send(w, http.StatusOK, out)
}

// finalize asks for the certificate (RFC 8555 §7.4). The order says processing, on
// disk, before anything is signed; which certificate it got is found by the order
// whatever happens in between.
func (d *Door) finalize(w http.ResponseWriter, m *message) error {
	var in struct {
		CSR string `json:"csr"`
	}
	if err := json.Unmarshal(m.payload, &in); err != nil {
		return problem(malformed, "the payload has no csr")
	}
	if _, err := d.own(m, m.id); err != nil {
		return err
	}
	der, err := base64.RawURLEncoding.DecodeString(in.CSR)
	if err != nil {
		return problem(badCSR, "csr isn't base64url of DER without padding")
	}
	csr, err := ca.ParseCSR(der)
	if err != nil {
		return problem(badCSR, "%s", err.Error())
	}
	// One at a time, from how the order stands on: what is issued for it is found by it,
	// once it is there.
	if !d.enter(m.id) {
		return &Problem{Type: orderNotReady, Detail: "the order is processing", RetryAfter: 5 * time.Second}
	}
	defer d.leave(m.id)
	o, err := d.own(m, m.id)
	if err != nil {
		return err
	}
	if o.State == StateProcessing {
		// What was begun is found, or judged anew: what was proven may not be any more.
		if o, err = d.resume(m, o); err != nil {
			return err
		}
		if o.State == StateValid && o.KeyHash == csr.Key.Hash() { // the same request again
			return d.sendFinal(w, m, o)
		}
	}
	if o.State != StateReady {
		return problem(orderNotReady, "the order is %s", o.State)
	}
	if err := d.begin(m, o, csr); err != nil {
		return err
	}
	issued, err := d.cfg.Desk.Certify(m.Context(), o, csr)
	var p *Problem
	switch {
	case errors.As(err, &p):
		if err := d.end(m, o, p); err != nil {
			return err
		}
		return p
	case err != nil:
		// The order stays as it is: the client asks again.
		return err
	}
	failpoint.Hit("acme.issued")
	done, err := d.complete(m, o.ID, issued)
	if err != nil {
		return err
	}
	return d.sendFinal(w, m, done)
}

func (d *Door) sendFinal(w http.ResponseWriter, m *message, o *Order) error {
	w.Header().Set("Location", d.link(m.Request, "order", o.ID))
	return send(w, http.StatusOK, d.showOrder(m, o))
}

// begin judges a request against its order and marks the order.
func (d *Door) begin(m *message, o *Order, csr ca.CSR) error {
	if csr.Key.Hash() == keyHashOf(m) {
		return d.badRequest(m, o, problem(badCSR, "the request has the account's key: a certificate needs one of its own (RFC 8555 §11.1)"))
	}
	if err := asks(o, csr.DER); err != nil {
		return d.badRequest(m, o, err)
	}
	// Before there is a certificate: the account of one is never forgotten.
	if !m.account.Issued {
		_, err := d.cfg.Store.UpdateACMEAccount(m.Context(), m.account.ID, func(a *Account) ([]ledger.Event, error) {
			a.Issued = true
			return nil, nil
		})
		if err != nil {
			return err
		}
	}
	now := d.cfg.Clock()
	changed, err := d.cfg.Store.UpdateACMEOrder(m.Context(), o.ID, func(o *Order) ([]ledger.Event, error) {
		o.settle(now)
		if o.State != StateReady {
			return nil, problem(orderNotReady, "the order is %s", o.State)
		}
		o.State, o.KeyHash = StateProcessing, csr.Key.Hash()
		return nil, nil
	})
	*o = changed
	failpoint.Hit("acme.processing")
	return err
}

// badRequest records a refused request. The order stays ready: a better one may come
// (RFC 8555 §7.4).
func (d *Door) badRequest(m *message, o *Order, p *Problem) error {
	d.record(m, "acme.refused", o.ID, map[string]string{"what": "request", "why": clip(p.Error())})
	return p
}

// end makes an order invalid that got no certificate.
func (d *Door) end(m *message, o *Order, p *Problem) error {
	if p.Type == rateLimited {
		return nil // for now only
	}
	_, err := d.cfg.Store.UpdateACMEOrder(m.Context(), o.ID, func(o *Order) ([]ledger.Event, error) {
		o.State, o.Problem = StateInvalid, p
		return []ledger.Event{{Kind: "acme.refused", Subject: Reference(o.ID), Actor: Requester(m.account.ID), Data: map[string]string{"what": "certificate", "why": clip(p.Error())}}}, nil
	})
	return err
}

// complete ties a certificate to its order, also for a client that hung up.
func (d *Door) complete(m *message, id string, issued *ca.Issued) (*Order, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(m.Context()), completeTimeout)
	defer cancel()
	o, err := d.cfg.Store.UpdateACMEOrder(ctx, id, func(o *Order) ([]ledger.Event, error) {
		if o.State == StateValid {
			return nil, nil
		}
		o.State, o.Serial = StateValid, issued.Serial
		return []ledger.Event{{Kind: "acme.issued", Subject: Reference(o.ID), Actor: Requester(o.Account), Data: map[string]string{"certificate": issued.Serial}}}, nil
	})
	if err != nil {
		return nil, err
	}
	return &o, nil
}

// completeTimeout bounds a write that waits for nobody.
const completeTimeout = 10 * time.Second

// resume looks for what a crash left of an order under way: its certificate, or
// nothing, and then the client may ask once more.
func (d *Door) resume(m *message, o *Order) (*Order, error) {
	issued, err := d.cfg.Certificates.LookupReference(m.Context(), Reference(o.ID))
	if err != nil {
		return nil, err
	}
	if issued != nil {
		return d.complete(m, o.ID, issued)
	}
	now := d.cfg.Clock()
	changed, err := d.cfg.Store.UpdateACMEOrder(m.Context(), o.ID, func(o *Order) ([]ledger.Event, error) {
		if o.State == StateProcessing {
			o.State = StateReady
			o.settle(now)
		}
		return nil, nil
	})
	return &changed, err
}

// enter makes an order this request's to work on; false while it is another's.
func (d *Door) enter(order string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.working[order] {
		return false
	}
	d.working[order] = true
	return true
}

func (d *Door) leave(order string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.working, order)
}

// certificate gives the chain (RFC 8555 §7.4.2).
func (d *Door) certificate(w http.ResponseWriter, m *message) error {
	if err := asGet(m); err != nil {
		return err
	}
	o, err := d.own(m, m.id)
	if err != nil {
		return err
	}
	if o.Serial == "" {
		return problem(orderNotReady, "the order has no certificate: it is %s", o.State)
	}
	issued, err := d.cfg.Certificates.Lookup(m.Context(), o.Serial)
	if err != nil {
		return err
	}
	var out []byte
	out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issued.DER})...)
	for _, above := range issued.Chain {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: above.Raw})...)
	}
	w.Header().Set("Content-Type", "application/pem-certificate-chain")
	_, _ = w.Write(out) // who is gone asks again
	return nil
}

// record writes a decision against an account. It costs the account one of its
// messages, so that there are so many and no more.
func (d *Door) record(m *message, kind, order string, data map[string]string) {
	err := d.cfg.Store.Record(m.Context(), ledger.Event{Kind: kind, Subject: Reference(order), Actor: Requester(m.account.ID), Data: data})
	if err != nil {
		d.cfg.Log.Error("couldn't record a refusal", "account", m.account.ID, "err", err)
	}
}

// keyHashOf is the hash of the account's key as certificate records have it.
func keyHashOf(m *message) string {
	der, err := marshalPublic(m.key.Key)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// names are identifiers for the ledger.
func names(ids []Identifier) string {
	var list []string
	for _, id := range ids {
		list = append(list, clip(id.Value))
	}
	text := strings.Join(list, " ")
	if len(text) > 1024 {
		return fmt.Sprintf("%s … (%d)", text[:1000], len(ids))
	}
	return text
}

// clip bounds what others wrote.
func clip(text string) string {
	text = strings.ToValidUTF8(text, "?")
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, text)
	if len(text) > 256 {
		text = strings.ToValidUTF8(text[:256], "")
	}
	return cmp.Or(text, "-")
}
