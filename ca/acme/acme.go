// Package acme is the door for Automatic Certificate Management (RFC 8555):
// accounts, orders for identifiers, challenges by which their holder is proven,
// certificates, their revocation.
//
// It promises that a certificate leaves only to the account that ordered it, for
// identifiers the desk behind the door allows and whose holder answered a
// challenge of this very order; that a message type which isn't listed here with
// who may send it is refused; and that a nonce is good for one message.
//
// What a door is for is the Desk's matter: Names issues server certificates,
// Stations those of stations whose TPM attests them.
package acme

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"bollard/ca"
	"bollard/ca/quality"
	"bollard/ledger"
)

// ChallengeType is a way to prove an identifier.
type ChallengeType string

// The challenges (RFC 8555 §8, RFC 8737, draft-ietf-acme-device-attest).
const (
	HTTP01         ChallengeType = "http-01"
	DNS01          ChallengeType = "dns-01"
	TLSALPN01      ChallengeType = "tls-alpn-01"
	DeviceAttest01 ChallengeType = "device-attest-01"
)

// Identifier is what a certificate is ordered for.
type Identifier struct {
	Type  string `json:"type"` // dns, permanent-identifier
	Value string `json:"value"`
}

// Types of identifiers.
const (
	TypeDNS       = "dns"
	TypePermanent = "permanent-identifier"
)

// Attempt is one answer to a challenge, to be judged.
type Attempt struct {
	Identifier Identifier
	Type       ChallengeType
	Token      string
	KeyAuth    string // token and thumbprint of the account's key (RFC 8555 §8.1)
	Payload    json.RawMessage
}

// Desk is what a door is for.
type Desk interface {
	// Offer says by which challenges an identifier can be proven, normalised. A
	// *Problem refuses it to this account.
	Offer(ctx context.Context, account *Account, id Identifier) (Identifier, []ChallengeType, error)
	// Prove judges an answer, and returns what Certify needs of it. The error is a
	// *Problem if the holder isn't proven, and something else if that couldn't be
	// judged now: an *undecided is tried again without another answer.
	Prove(ctx context.Context, attempt Attempt) (proof json.RawMessage, err error)
	// Certify issues for a request whose order is ready, or returns what was issued
	// for the order before. The certificate is recorded before it is returned. The
	// error is a *Problem, or something else if the same may succeed later.
	Certify(ctx context.Context, order *Order, csr ca.CSR) (*ca.Issued, error)
}

// Certificates is what is asked of the authority. *ca.Authority is one.
type Certificates interface {
	Lookup(ctx context.Context, serial string) (*ca.Issued, error)
	LookupReference(ctx context.Context, reference string) (*ca.Issued, error)
	Revoke(ctx context.Context, serial, reason, actor string) (ca.Record, error)
}

// Errors callers branch on.
var (
	ErrKeyTaken       = errors.New("the key is another account's")
	ErrTokenUsed      = errors.New("the token was used already, or ended")
	ErrUnknownToken   = errors.New("no such token")
	ErrUnknownAccount = errors.New("no such account")
	ErrUnknownOrder   = errors.New("no such order")
)

// Store keeps accounts and orders. Writes are durable, with their ledger events,
// before the methods return. Methods are safe for concurrent use.
type Store interface {
	// AddACMEAccount adds one and binds the token it came with, if any, to it:
	// ErrTokenUsed if that was bound before, ErrKeyTaken if an account of the door
	// has its key. Accounts of doors that ask for no token which have got no
	// certificate since before are forgotten.
	AddACMEAccount(ctx context.Context, a Account, before time.Time, events ...ledger.Event) error
	ACMEAccount(ctx context.Context, id string) (a Account, ok bool, err error)
	ACMEAccountByKey(ctx context.Context, door, thumbprint string) (a Account, ok bool, err error)
	// UpdateACMEAccount changes one in a transaction. ErrUnknownAccount; ErrKeyTaken.
	UpdateACMEAccount(ctx context.Context, id string, change func(*Account) ([]ledger.Event, error)) (Account, error)
	ACMEToken(ctx context.Context, id string) (t Token, ok bool, err error)

	// AddACMEOrder adds one; those that ended before a time without a certificate are
	// forgotten.
	AddACMEOrder(ctx context.Context, o Order, before time.Time, events ...ledger.Event) error
	ACMEOrder(ctx context.Context, id string) (o Order, ok bool, err error)
	ACMEOrderBySerial(ctx context.Context, serial string) (o Order, ok bool, err error)
	// ACMEOrders returns the newest of an account.
	ACMEOrders(ctx context.Context, account string, limit int) ([]Order, error)
	// UpdateACMEOrder changes one in a transaction. ErrUnknownOrder.
	UpdateACMEOrder(ctx context.Context, id string, change func(*Order) ([]ledger.Event, error)) (Order, error)
	Record(ctx context.Context, events ...ledger.Event) error
}

// Config of a Door.
type Config struct {
	// Prefix is the path below which everything is, such as /acme/names. Its last
	// part names the door in accounts.
	Prefix string
	// Host is the name clients dial. Requests for another are refused: what was
	// signed for another server is of no use here (RFC 8555 §6.4).
	Host         string
	Desk         Desk
	Store        Store
	Certificates Certificates
	// Open decrypts the key of a token. Set, new accounts need one (RFC 8555 §7.3.4).
	Open func(name string, sealed []byte) ([]byte, error)
	// Blocked holds keys that are no account's; nil for none.
	Blocked *quality.Blocklist
	// Served, if set, hears of each answer: the message type ("" for none of them)
	// and its HTTP status.
	Served func(operation string, status int)
	Clock  func() time.Time
	Log    *slog.Logger // nil: discarded
}

func (c Config) complete() (Config, error) {
	if c.Prefix == "" || c.Host == "" || c.Desk == nil || c.Store == nil || c.Certificates == nil || c.Clock == nil {
		return c, errors.New("internal error: acme.Config needs Prefix, Host, Desk, Store, Certificates and Clock")
	}
	if c.Served == nil {
		c.Served = func(string, int) {}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// Reference is what a certificate's record has of its order.
func Reference(order string) string { return "acme:" + order }

// Requester is an account as the ledger and certificate records name it.
func Requester(account string) string { return "acme:" + account }

// checkAccountKey judges an account's key: everything it signs rests on it.
func (d *Door) checkAccountKey(public crypto.PublicKey) error {
	if err := quality.Check(public, quality.Policy{Blocked: d.cfg.Blocked}); err != nil {
		var weak *quality.Error
		if errors.As(err, &weak) {
			return problem(badPublicKey, "the account's key isn't taken: %s", weak.Text)
		}
		return fmt.Errorf("couldn't judge an account's key: %w", err)
	}
	return nil
}
