package step

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"bollard/ca"
	"bollard/ca/quality"
	"bollard/ledger"
)

// Type of a provisioner, by step's name.
type Type string

// Whoever signs tokens has a key the operator knows, or a certificate under a root the
// operator knows.
const (
	TypeJWK Type = "JWK"
	TypeX5C Type = "X5C"
)

// Provisioner is who may sign tokens, and for which names.
type Provisioner struct {
	// ID tells it from one that had its name before: what that got is no concern of this.
	ID        string
	Name      string
	Type      Type
	Key       json.RawMessage `json:",omitempty"` // JWK, its kid the thumbprint (RFC 7638)
	Roots     [][]byte        `json:",omitempty"` // DER
	Names     []string        // as ca.AllowHost reads them
	CreatedAt time.Time
}

// Requester is a provisioner as the ledger and certificate records name it.
func (p *Provisioner) Requester() string { return requesterPrefix + p.Name + "/" + p.ID }

const requesterPrefix = "step:"

// ProvisionerStore keeps provisioners. Writes are durable when they return.
type ProvisionerStore interface {
	// AddStepProvisioner adds one; ErrProvisionerExists.
	AddStepProvisioner(ctx context.Context, p Provisioner, events ...ledger.Event) error
	// RemoveStepProvisioner returns the one that is no more; ErrUnknownProvisioner. The
	// events are made of it.
	RemoveStepProvisioner(ctx context.Context, name string, events func(Provisioner) []ledger.Event) (Provisioner, error)
	StepProvisioners(ctx context.Context) ([]Provisioner, error)
}

// Bounds of a provisioner.
const (
	maxName  = 64
	maxRoots = 16
	maxNames = 256
)

// InvalidError says why something can't be a provisioner.
type InvalidError struct{ Reason string }

func (e *InvalidError) Error() string { return e.Reason }

func invalid(format string, args ...any) error { return &InvalidError{fmt.Sprintf(format, args...)} }

// Draft is what an operator says of a provisioner: one of JWK and Roots.
type Draft struct {
	Name  string
	JWK   []byte // a public JWK
	Roots []byte // PEM
	Names []string
}

// Add adds a provisioner. own are the CAs here, which are nobody's roots: every station
// could sign tokens. The error is an *InvalidError, ErrProvisionerExists, or the store's.
func Add(ctx context.Context, store ProvisionerStore, blocked *quality.Blocklist, own []*x509.Certificate, now time.Time, actor string, draft Draft) (Provisioner, error) {
	p := Provisioner{ID: rand.Text()[:8], Name: draft.Name, CreatedAt: now.UTC()}
	if p.Name == "" || len(p.Name) > maxName || strings.Trim(p.Name, nameLetters) != "" {
		return p, invalid("a provisioner's name has 1 to %d letters, digits and characters of .-_@", maxName)
	}
	if len(draft.Names) == 0 || len(draft.Names) > maxNames {
		return p, invalid("a provisioner needs 1 to %d names that its tokens may be for", maxNames)
	}
	for _, entry := range draft.Names {
		name, err := ca.AllowHost(entry)
		if err != nil {
			return p, invalid("%.64q is no host name: %s", entry, err)
		}
		p.Names = append(p.Names, name)
	}
	event := ledger.Event{Kind: "step.provisioner-added", Subject: p.Requester(), Actor: actor, Data: map[string]string{"names": clip(strings.Join(p.Names, " "), 1024)}}
	switch {
	case len(draft.JWK) > 0 && len(draft.Roots) == 0:
		key, err := readJWK(draft.JWK, blocked)
		if err != nil {
			return p, err
		}
		p.Type, event.Data["key"] = TypeJWK, key.KeyID
		if p.Key, err = json.Marshal(key); err != nil {
			return p, err
		}
	case len(draft.Roots) > 0 && len(draft.JWK) == 0:
		roots, err := readRoots(draft.Roots, own, now)
		if err != nil {
			return p, err
		}
		p.Type = TypeX5C
		for i, root := range roots {
			sum := sha256.Sum256(root.Raw)
			event.Data["root-"+strconv.Itoa(i+1)] = hex.EncodeToString(sum[:])
			p.Roots = append(p.Roots, root.Raw)
		}
	default:
		return p, invalid("a provisioner has either a JWK or the roots of X5C")
	}
	event.Data["type"] = string(p.Type)
	return p, store.AddStepProvisioner(ctx, p, event)
}

const nameLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_@"

// Remove ends a provisioner: its tokens are refused and its certificates don't renew from
// now on. They stay in force until they end or are revoked.
func Remove(ctx context.Context, store ProvisionerStore, actor, name string) (Provisioner, error) {
	return store.RemoveStepProvisioner(ctx, name, func(p Provisioner) []ledger.Event {
		return []ledger.Event{{Kind: "step.provisioner-removed", Subject: p.Requester(), Actor: actor}}
	})
}

// readJWK reads a public key; its kid is the thumbprint from now on, as step has it.
func readJWK(data []byte, blocked *quality.Blocklist) (*jose.JSONWebKey, error) {
	given := &jose.JSONWebKey{}
	if err := given.UnmarshalJSON(data); err != nil {
		return nil, invalid("it isn't one JSON Web Key: give the public one, such as `step crypto jwk create` writes first")
	}
	if !given.IsPublic() || !given.Valid() {
		return nil, invalid("it is a private or secret key: give the public half, and keep that one from everybody else")
	}
	if err := checkKey(given.Key, blocked); err != nil {
		return nil, err
	}
	key := &jose.JSONWebKey{Key: given.Key, Use: "sig", Algorithm: string(algorithmsOf(given.Key)[0])}
	sum, err := key.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, invalid("it has no thumbprint: %s", err)
	}
	key.KeyID = base64.RawURLEncoding.EncodeToString(sum)
	return key, nil
}

// checkKey judges a key that signs tokens: everything it signs rests on it.
func checkKey(public crypto.PublicKey, blocked *quality.Blocklist) error {
	if len(algorithmsOf(public)) == 0 {
		return invalid("keys that sign tokens are on P-256, P-384 or Ed25519, or RSA")
	}
	if _, ok := public.(ed25519.PublicKey); ok {
		return nil // quality knows the kinds that are certified; of this one nothing weak shows
	}
	if err := quality.Check(public, quality.Policy{Blocked: blocked}); err != nil {
		var weak *quality.Error
		if errors.As(err, &weak) {
			return invalid("the key isn't taken: %s", weak.Text)
		}
		return fmt.Errorf("couldn't judge a key: %w", err)
	}
	return nil
}

// algorithmsOf are those a key may sign tokens with, the usual one first. A MAC or none
// is nobody's.
func algorithmsOf(public crypto.PublicKey) []jose.SignatureAlgorithm {
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256():
			return []jose.SignatureAlgorithm{jose.ES256}
		case elliptic.P384():
			return []jose.SignatureAlgorithm{jose.ES384}
		}
	case ed25519.PublicKey:
		return []jose.SignatureAlgorithm{jose.EdDSA}
	case *rsa.PublicKey:
		return []jose.SignatureAlgorithm{jose.RS256, jose.PS256}
	}
	return nil
}

// algorithms of all of them.
var algorithms = []jose.SignatureAlgorithm{jose.ES256, jose.ES384, jose.EdDSA, jose.RS256, jose.PS256}

func readRoots(data []byte, own []*x509.Certificate, now time.Time) ([]*x509.Certificate, error) {
	var roots []*x509.Certificate
	for len(bytes.TrimSpace(data)) > 0 {
		block, rest := pem.Decode(data)
		if block == nil || block.Type != "CERTIFICATE" {
			return nil, invalid("the roots aren't certificates in PEM")
		}
		data = rest
		root, err := x509.ParseCertificate(block.Bytes)
		switch {
		case err != nil:
			return nil, invalid("a root isn't readable: %s", err)
		case !root.BasicConstraintsValid || !root.IsCA:
			return nil, invalid("%s isn't a CA", root.Subject)
		case !now.Before(root.NotAfter):
			return nil, invalid("%s ended on %s", root.Subject, root.NotAfter.Format(time.DateOnly))
		case slices.ContainsFunc(own, func(o *x509.Certificate) bool {
			return bytes.Equal(o.RawSubjectPublicKeyInfo, root.RawSubjectPublicKeyInfo)
		}):
			return nil, invalid("%s is a CA here: each of its stations could sign tokens", root.Subject)
		}
		roots = append(roots, root)
	}
	if len(roots) == 0 || len(roots) > maxRoots {
		return nil, invalid("there have to be 1 to %d roots", maxRoots)
	}
	return roots, nil
}

// key that signs a JWK provisioner's tokens.
func (p *Provisioner) key() (*jose.JSONWebKey, error) {
	key := &jose.JSONWebKey{}
	if err := key.UnmarshalJSON(p.Key); err != nil {
		return nil, fmt.Errorf("couldn't read the key of provisioner %s: %w", p.Name, err)
	}
	return key, nil
}

// pool of an X5C provisioner's roots.
func (p *Provisioner) pool() (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	for _, der := range p.Roots {
		root, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("couldn't read a root of provisioner %s: %w", p.Name, err)
		}
		pool.AddCert(root)
	}
	return pool, nil
}
