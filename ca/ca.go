// Package ca is the certificate authority: hierarchies, profiles as data,
// issuing in two phases that can't be misused, lint before anything leaves,
// and revocation.
//
// It promises that a durable record exists before each signature, that what a
// certificate says comes from its profile and the proven requester and never
// from the CSR, and that nothing is issued that fails its profile's lint.
package ca

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"time"

	"bollard/keys"
	"bollard/ledger"
)

// Subject is what Bollard itself puts into a certificate. It never comes from a CSR.
type Subject struct {
	CommonName   string
	Organisation string // "": the hierarchy's
	Domain       string // DC of a CA of ISO 15118; leaves have their profile's
	DNSNames     []string
	IPAddresses  []net.IP
}

// Order asks for one certificate. Key is the only thing a requester contributes.
type Order struct {
	Profile   string // name of a profile, such as "station"
	Key       ProvenKey
	Subject   Subject
	Station   string // station key, or "" if the certificate is not a station's
	Requester string // who asked, for the ledger: "station:<key>", "operator", "bollard"
	Reference string // the requester's own id of the matter, such as a fleet order; may be ""
	// Life shortens the profile's validity; 0, or one longer than it: the profile's.
	Life time.Duration
	// Until, if set, is when the certificate ends at the latest, whatever time it begins.
	Until time.Time
	// P224 says that the station's model may have a key on that curve.
	P224 bool
	// Attested says where a station's key is; the zero value: nothing is known of that.
	Attested Attested
	// Judge, if set, is shown what is on record for the key, in any state, own and
	// external, newest first; its error is Prepare's, which did nothing then. Of an order
	// that is no station's it is asked again by Issue, whose error it is too.
	Judge func(onRecord []Record) error
	// Recorder, if set, is where both phases are recorded instead of the Store: in
	// the same tables, and with what the requester records of the matter.
	Recorder Recorder

	name    *pkix.Name   // of a CA that gets a further certificate; replaces Subject
	custody keys.Custody // of a key that is the authority's own
}

// Intent is the durable record that precedes a signature: everything the
// certificate will say (its to-be-signed bytes), before it is said.
type Intent struct {
	Serial    string // lower-case hex, 128 random bits
	Issuer    string // name of the issuing CA, such as "csms-issuing"
	Profile   string
	Station   string
	Requester string
	Reference string
	TBSHash   string // SHA-256 of the to-be-signed bytes, lower-case hex
	KeyHash   string // SHA-256 of the SubjectPublicKeyInfo, lower-case hex
	Subject   string // RFC 2253, for people
	NotBefore time.Time
	NotAfter  time.Time
	CreatedAt time.Time
	// Attested is the serial number of the certificate of the attestation key that
	// attested the certificate's key; "": none did.
	Attested string
}

// State of a certificate record.
type State string

// A record is intended until the signed certificate is stored; an intent that
// a crash left behind becomes orphaned, which counts as revoked.
const (
	StateIntended State = "intended"
	StateIssued   State = "issued"
	StateRevoked  State = "revoked"
	StateOrphaned State = "orphaned"
)

// Record is what the store knows of one serial.
type Record struct {
	Intent
	State     State
	DER       []byte // nil until issued
	IssuedAt  time.Time
	RevokedAt time.Time
	Reason    string // RFC 5280 name, such as "keyCompromise"
	// External is set for certificates other CAs issued and Bollard recorded.
	External bool
	// Verdict is fleet's word that the certificate's signature was found good; nil: none is
	// kept, or the record was read otherwise than by Store.Certificate.
	Verdict []byte
}

// Issued is a certificate that left the second phase: signed and recorded.
type Issued struct {
	Record
	Certificate *x509.Certificate
	Chain       []*x509.Certificate // issuing CAs, nearest first, root not included
}

// TrustAnchor is an outside root, such as the maker's of factory certificates.
type TrustAnchor struct {
	Use     string // station, v2g, mo, oem, manufacturer, tpm
	Hash    string // SHA-256 of DER, lower-case hex
	Subject string
	DER     []byte
	AddedAt time.Time
}

// Filter selects certificate records; zero fields select everything.
type Filter struct {
	Station        string
	Profile        string
	State          State
	ExpiringBefore time.Time // NotAfter before this, and not yet past
	Limit          int
}

// Errors callers branch on.
var (
	ErrUnknownSerial   = errors.New("no certificate with this serial")
	ErrDuplicateSerial = errors.New("serial number exists already")
	ErrClock           = errors.New("the clock is behind what is already recorded")
	ErrNotRevoked      = errors.New("couldn't revoke certificate") // it is on record; writing failed
	ErrUnknownAnchor   = errors.New("no such trust anchor")
	ErrKeyInUse        = errors.New("the key is in use already")
	ErrKeyClass        = errors.New("it is of another kind")
	ErrTokenUsed       = errors.New("this preparation was issued or given up already")
	ErrNoHierarchy     = errors.New("there is no such hierarchy yet")
	ErrHierarchyExists = errors.New("the hierarchy exists already")
	ErrRollover        = errors.New("the root change can't take this step")
	ErrUnknownKind     = errors.New("there is no kind of hierarchy of that name")
	ErrUnknownReason   = errors.New("certificates aren't revoked for that reason")
)

// Recorder records the two phases of issuing. Every write is durable, together
// with its ledger events and whatever else it writes, before the method returns,
// and all of it happens or none. Methods are safe for concurrent use.
type Recorder interface {
	// PutIntent is the first phase's record. ErrDuplicateSerial if it exists.
	PutIntent(ctx context.Context, intent Intent, events ...ledger.Event) error
	// PutIssued turns an intended record into an issued one. It fails if the
	// record is in any other state.
	PutIssued(ctx context.Context, serial string, der []byte, at time.Time, events ...ledger.Event) error
}

// Store keeps intents, certificates and trust anchors, bound as a Recorder.
type Store interface {
	Recorder
	OutsideStore
	// PutExternal records a certificate another CA issued. Idempotent.
	PutExternal(ctx context.Context, record Record, events ...ledger.Event) error
	// SetRevoked revokes an issued record. Revoking twice keeps the first time
	// and reason and is no error.
	SetRevoked(ctx context.Context, serial, reason string, at time.Time, events ...ledger.Event) error
	// OrphanIntents marks every intent created before the given time orphaned
	// and returns them: called once at start, before anything is issued.
	OrphanIntents(ctx context.Context, before time.Time) ([]Intent, error)
	Certificate(ctx context.Context, serial string) (Record, error) // ErrUnknownSerial
	Certificates(ctx context.Context, f Filter) ([]Record, error)   // newest first
	// CertificateByReference returns the newest record of a certificate that was issued for
	// a requester's reference, whether or not it is revoked since.
	CertificateByReference(ctx context.Context, reference string) (rec Record, ok bool, err error)
	// CertificatesByKey returns every record (in any state, own and external)
	// whose KeyHash is this one, newest first; an empty slice if there is none.
	CertificatesByKey(ctx context.Context, keyHash string) ([]Record, error)
	// Revoked returns all revoked and orphaned records of an issuer, for its CRL.
	Revoked(ctx context.Context, issuer string) ([]Record, error)
	// ActiveSerials returns the serial numbers an issuer of Bollard's own issued
	// that are neither revoked nor expired at the given time.
	ActiveSerials(ctx context.Context, issuer string, at time.Time) ([]string, error)
	// NextCRLNumber returns a number never returned before for the issuer,
	// strictly rising over restarts (RFC 5280 §5.2.3). The number is taken, and
	// the events recorded, before the list is signed.
	NextCRLNumber(ctx context.Context, issuer string, events ...ledger.Event) (*big.Int, error)
	// Rollover returns the newest root change of a hierarchy, the zero value if
	// there was none.
	Rollover(ctx context.Context, kind Kind) (Rollover, error)
	// PutRollover records a step of a root change. ErrRollover unless it
	// Follows the one recorded.
	PutRollover(ctx context.Context, next Rollover, events ...ledger.Event) error
	// Record writes events alone.
	Record(ctx context.Context, events ...ledger.Event) error
	// NewestTime is the latest time any record or ledger entry carries.
	NewestTime(ctx context.Context) (time.Time, error)

	AddAnchor(ctx context.Context, anchor TrustAnchor, events ...ledger.Event) error // idempotent
	RemoveAnchor(ctx context.Context, use, hash string, events ...ledger.Event) error
	Anchors(ctx context.Context, use string) ([]TrustAnchor, error) // use "": all
}
