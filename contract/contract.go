// Package contract is the e-mobility provider: contracts by eMAID, cars by their
// provisioning certificates, and the contract certificates that bring the two
// together.
//
// It promises that no certificate and no key leaves for a request whose signature
// or chain didn't verify, that a contract's private key is never stored or logged
// in clear, and that what is delivered for a contract that is no longer in force
// is revoked with it. A certificate whose answer was lost is revoked: one contract and
// one car's key have one certificate in force, whatever fails on the way.
package contract

import (
	"context"
	"errors"
	"fmt"
	"time"

	"bollard/iso15118/identifier"
	"bollard/iso15118/message"
	"bollard/ledger"
)

// State of a contract.
type State string

// A contract is active until it is cancelled, for good.
const (
	StateActive    State = "active"
	StateCancelled State = "cancelled"
)

// Contract is one account's right to charge with one car.
type Contract struct {
	ID          string // random; stands for the contract where eMAID and PCID may not be
	EMAID       identifier.EMAID
	PCID        identifier.PCID
	State       State
	CreatedAt   time.Time
	CancelledAt time.Time
	EndsAt      time.Time // zero: when it is cancelled
	// Serials are the certificates of the contract, each added before it is signed.
	Serials []string
	// Begun are those of them whose answers aren't kept yet. One that is there while
	// nobody is at work on the contract has no key any more.
	Begun []string `json:",omitempty"`
	// Foreign: it is another provider's, of whom a Kept is under this ID.
	Foreign bool `json:"-"`
}

// InForce tells whether the account may charge with the car by it.
func (c *Contract) InForce(now time.Time) bool {
	return c.State == StateActive && (c.EndsAt.IsZero() || now.Before(c.EndsAt))
}

// Provisioning is a car's provisioning certificate as its maker gave it to the
// pool. A car of both editions has two, on different curves.
type Provisioning struct {
	PCID            identifier.PCID
	Protocol        message.Protocol
	Certificate     []byte   // DER
	SubCertificates [][]byte // the maker's, from below
	AddedAt         time.Time
}

// Bundle is an answer made for one contract and one key of the car's: that of its
// provisioning certificate, or of the contract certificate that is updated. It holds
// the contract key only sealed for that key.
type Bundle struct {
	Contract string // ID
	Protocol message.Protocol
	Receiver string // SHA-256 of the public key it is sealed for, hex
	Serial   string // of the contract certificate
	CPS      string // serial of the certificate that signed it; outsideCPS
	Until    time.Time
	Ends     time.Time // of the contract when it was made
	EXI      []byte    // of the answer, for no session yet
}

// MaxPerCar bounds the active contracts of one car: whoever may add them chooses the
// car, and each of its requests reads them all.
const MaxPerCar = 64

// ReadPerCar bounds what a car's request reads of its contracts: all active ones, and
// the newest of those that ended, which may be any number.
const ReadPerCar = 4 * MaxPerCar

// Errors callers branch on.
var (
	ErrUnknown = errors.New("no such contract")
	ErrExists  = errors.New("the contract exists already")
	ErrTooMany = fmt.Errorf("the car has %d active contracts already", MaxPerCar)
	// ErrTooShort: nor is one made shorter than it is.
	ErrTooShort = errors.New("the contract would end before its certificate has reached the car, or before it does now")
)

// Store keeps contracts. Every write is durable, together with its ledger events,
// before the method returns. Methods are safe for concurrent use.
type Store interface {
	// AddContract is ErrExists while the account has an active contract for the car,
	// ErrTooMany while the car has MaxPerCar.
	AddContract(ctx context.Context, c Contract, events ...ledger.Event) error
	// UpdateContract reads, changes and writes one in one transaction; ErrUnknown.
	UpdateContract(ctx context.Context, id string, change func(*Contract) ([]ledger.Event, error)) (Contract, error)
	// ContractsOf are a car's active contracts and the newest others, ReadPerCar in all,
	// oldest first: each request of the car reads them.
	ContractsOf(ctx context.Context, pcid identifier.PCID) ([]Contract, error)
	// EveryContractOf are all a car ever had, oldest first.
	EveryContractOf(ctx context.Context, pcid identifier.PCID) ([]Contract, error)
	// ContractsBy are an account's, oldest first; by the eMAID without its check
	// character.
	ContractsBy(ctx context.Context, bare identifier.EMAID) ([]Contract, error)
	Contracts(ctx context.Context) ([]Contract, error) // oldest first
	// Begun are the contracts that have Begun any.
	Begun(ctx context.Context) ([]Contract, error)
	// Expiring are the active contracts that have a certificate in force of an edition,
	// and none that ends no earlier than before.
	Expiring(ctx context.Context, before time.Time) ([]Contract, error)

	// PutProvisioning adds a car's certificate, or replaces the one of its edition.
	PutProvisioning(ctx context.Context, p Provisioning, events ...ledger.Event) error
	Provisioning(ctx context.Context, pcid identifier.PCID, p message.Protocol) (Provisioning, bool, error)
	// RemoveProvisioning removes a car's certificates of all editions.
	RemoveProvisioning(ctx context.Context, pcid identifier.PCID, events ...ledger.Event) error

	// PutBundle keeps one a contract, edition and receiver. Its certificate isn't Begun
	// any more.
	PutBundle(ctx context.Context, b Bundle, events ...ledger.Event) error
	Bundle(ctx context.Context, contract string, p message.Protocol, receiver string) (Bundle, bool, error)

	// PutKept takes the place of what is kept of the account for the car in the edition;
	// what of the car's has ended goes. ErrTooMany while it has MaxPerCar others.
	PutKept(ctx context.Context, k Kept, events ...ledger.Event) error
	Kept(ctx context.Context, id string) (k Kept, ok bool, err error)
	KeptOf(ctx context.Context, pcid identifier.PCID) ([]Kept, error)        // of all editions, oldest first
	KeptBy(ctx context.Context, bare identifier.EMAID) ([]Kept, error)       // oldest first
	AllKept(ctx context.Context) ([]Kept, error)                             // oldest first
	RemoveKept(ctx context.Context, id string, events ...ledger.Event) error // no error if there is none

	// Record writes events alone.
	Record(ctx context.Context, events ...ledger.Event) error
}
