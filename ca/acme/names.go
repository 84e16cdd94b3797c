package acme

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"bollard/ca"
)

// Issuer issues. *ca.Authority is one.
type Issuer interface {
	Certificates
	Prepare(ctx context.Context, order ca.Order) (*ca.Prepared, error)
	Issue(ctx context.Context, prepared *ca.Prepared) (*ca.Issued, error)
}

// Names is the desk for server certificates: host names of an allow-list, proven
// over the network.
type Names struct {
	// Allow lists names, and *.example.com for everything below one. Empty: nothing.
	Allow []string
	// Own are Bollard's: whoever had a certificate for one could pose as it to every
	// station. They are nobody's to order, whatever Allow says.
	Own    []string
	Issuer Issuer
	Prober *Prober
}

// Offer takes names of the list, as far as the account's token goes.
func (n *Names) Offer(_ context.Context, account *Account, id Identifier) (Identifier, []ChallengeType, error) {
	if id.Type != TypeDNS {
		return id, nil, problem(unsupportedIdentifier, "identifiers are of type dns here")
	}
	if strings.HasPrefix(id.Value, "*.") {
		return id, nil, problem(rejectedIdentifier, "wildcard certificates aren't issued here")
	}
	name, err := ca.HostName(id.Value)
	if err != nil {
		return id, nil, problem(rejectedIdentifier, "the name isn't taken: %s", err)
	}
	refuse := func(reason string) (Identifier, []ChallengeType, error) {
		p := problem(rejectedIdentifier, "no certificates for this name here")
		p.Reason = reason
		return id, nil, p
	}
	switch {
	case slices.Contains(n.Own, name):
		return refuse("the name is Bollard's own")
	case !ca.HostListed(n.Allow, name):
		return refuse("the name isn't in acme.names")
	case len(account.Only) > 0 && !slices.Contains(account.Only, name):
		return refuse("the account's token is for other names")
	}
	return Identifier{Type: TypeDNS, Value: name}, []ChallengeType{HTTP01, DNS01, TLSALPN01}, nil
}

// Prove asks the name itself.
func (n *Names) Prove(ctx context.Context, a Attempt) (json.RawMessage, error) {
	switch a.Type {
	case HTTP01:
		return nil, n.Prober.http01(ctx, a)
	case DNS01:
		return nil, n.Prober.dns01(ctx, a)
	case TLSALPN01:
		return nil, n.Prober.tlsALPN01(ctx, a)
	}
	return nil, problem(malformed, "no such challenge here")
}

// Certify issues a server certificate for the order's names.
func (n *Names) Certify(ctx context.Context, o *Order, csr ca.CSR) (*ca.Issued, error) {
	issued, err := n.Issuer.LookupReference(ctx, Reference(o.ID))
	if err != nil {
		return nil, err
	}
	if issued != nil {
		if issued.KeyHash != csr.Key.Hash() {
			return nil, problem(badCSR, "the order has its certificate already, for another key")
		}
		return issued, nil
	}
	var hosts []string
	for _, id := range o.identifiers() {
		// The list may have changed since the order was taken.
		if slices.Contains(n.Own, id.Value) || !ca.HostListed(n.Allow, id.Value) {
			return nil, problem(rejectedIdentifier, "no certificates for %s here any more", id.Value)
		}
		hosts = append(hosts, id.Value)
	}
	// Who stops waiting doesn't stop what was begun.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), certifyTimeout)
	defer cancel()
	prepared, err := n.Issuer.Prepare(ctx, ca.Order{
		Profile: ca.ProfileServer, Key: csr.Key, Subject: ca.Subject{CommonName: hosts[0], DNSNames: hosts},
		Requester: Requester(o.Account), Reference: Reference(o.ID),
		Judge: func(onRecord []ca.Record) error { return judgeKey(o.Account, onRecord) },
	})
	if err != nil {
		return nil, unissued(err)
	}
	issued, err = n.Issuer.Issue(ctx, prepared)
	return issued, unissued(err)
}

// judgeKey refuses a key that others have a certificate for. An account may use its
// own again, as its clients do on renewal; revoked ones never.
func judgeKey(account string, onRecord []ca.Record) error {
	for _, r := range onRecord {
		switch {
		case r.State == ca.StateIntended || r.State == ca.StateOrphaned:
			// Nobody ever got it.
		case r.Requester != Requester(account) || r.State != ca.StateIssued:
			return fmt.Errorf("%w: certificate %s has it", ca.ErrKeyInUse, r.Serial)
		}
	}
	return nil
}

// unissued tells what will never be issued from what may be later.
func unissued(err error) error {
	var request *ca.CSRError
	var lint *ca.LintError
	switch {
	case errors.Is(err, ca.ErrKeyInUse):
		return BadRequest("the key is in use already: make a new key pair", err.Error())
	case errors.As(err, &request):
		return BadRequest(request.Error(), "")
	case errors.As(err, &lint):
		return BadRequest("the certificate can't be issued", err.Error())
	}
	return err
}
