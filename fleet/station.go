// Package fleet knows the stations: who each one is, how it proves it, which
// security it has and which it should have. It decides who may connect, runs
// the certificate life of each station through the ca package, and drives
// security profile upgrades.
//
// It promises that a session is admitted only for the station it proved to be,
// that a station's security never goes down without a recorded decision, and
// that nothing still needed to connect is switched off before its successor
// has been seen to work.
package fleet

import "time"

// Station ties an OCPP identity to a serial number and holds its wanted and
// seen security state. Key (lower-cased identity) is its primary key: OCPP 2.x
// identifiers are compared without case.
type Station struct {
	Identity string   // as enrolled, its own spelling
	Escaped  string   // escaped spelling in the URL path if it is not Identity itself (1.6 only)
	Serial   string   // serial number, the certificate's CN (A00.FR.511)
	Aliases  []string // further CNs accepted as this station, such as a replaced board's
	Vendor   string
	Model    string
	Group    string // label whose group's wants hold for it, or ""
	Site     string // where it stands, for limits per site, or ""
	Hardware string // revision, for firmware of certain ones, or ""
	SECCs    []SECC // what cars may know it by

	// Backend is the name of the back end it is to have whatever else matches it;
	// SeenBackend is the one of its newest session.
	Backend     string
	SeenBackend string

	WantedProfile int // security profile the operator asked for, 1 to 3
	FloorProfile  int // lowest profile still accepted (A05.FR.09); falls by approvals only
	SeenProfile   int // profile of the newest session; 0: never connected
	// LowerUntil is until when the station may come down to a WantedProfile below
	// FloorProfile, as people have approved; zero: not at all.
	LowerUntil time.Time

	Password    *Credential      // nil: no password set
	Pending     *PendingPassword // sent to the station, not yet seen in use; nil: none
	FactoryHash string           // lower-case hex SHA-256 of the pinned factory certificate, or ""
	FactoryKey  string           // lower-case hex SHA-256 of the factory certificate's public key, or ""
	EK          string           // lower-case hex SHA-256 of its TPM's endorsement key, or ""
	LeafSerial  string           // serial of the newest own certificate seen in a handshake, or ""

	Warn         []Check   // checks that only warn for this station
	AllowExpired time.Time // until then an expired certificate is let in to renew (A00.FR.429)
	RenewWanted  bool      // the operator or a policy asked for a new certificate
	RotateWanted bool      // the operator asked for a new password (A01)

	// LostAt is when the station was reported lost or stolen: nobody is let in as
	// it until it is found. Zero: it wasn't.
	LostAt     time.Time
	LostReason string

	// Admitted is how it was let in last, as its entry in the ledger says it (JSON),
	// AdmittedAt when the newest such entry was written and Admissions how often it
	// came the same way since.
	Admitted   string
	AdmittedAt time.Time
	Admissions int

	Version     string // OCPP version of the newest session
	CreatedAt   time.Time
	SeenAt      time.Time
	LastRefusal string // reason of the newest refused claim
	RefusedAt   time.Time
	PlanNote    string // why a wanted renewal or profile change hasn't come about yet, or ""
}

// Check names one admission or CSR check that can be set to warn per station.
type Check string

// The checks. Possession of the key, the chain and revocation are not among
// them: without these nothing is proven at all.
const (
	CheckCommonName   Check = "common-name"  // CN is the registered serial (A00.FR.405)
	CheckOrganisation Check = "organisation" // O is the operator's (A00.FR.404)
	CheckPurpose      Check = "purpose"      // key usage fits TLS client authentication
	CheckBootSerial   Check = "boot-serial"  // BootNotification serial (B01.FR.11)
	CheckCSRSubject   Check = "csr-subject"  // CN, O and CA:TRUE of the CSR
)

// Checks lists every check, for usage texts and validation.
func Checks() []Check {
	return []Check{CheckCommonName, CheckOrganisation, CheckPurpose, CheckBootSerial, CheckCSRSubject}
}

// Credential is a stored secret: never the secret itself.
type Credential struct {
	Kind  string // "generated": salted fast hash of ≥ 119 random bits; "human": argon2id
	Salt  []byte
	Hash  []byte
	SetAt time.Time
}

// PendingPassword is a password the station was asked to take (A01). Beside the
// one in force it is accepted until the first login with either decides.
type PendingPassword struct {
	Credential Credential
	SentAt     time.Time // when it was about to be sent
	// Reboot is set when the station said that it takes effect with a reboot.
	Reboot bool
}

// OrderState is how far a certificate order of a station has come.
type OrderState string

// An order is accepted when its CSR was answered Accepted and is durable here,
// issued when a certificate exists, delivered when the station accepted it, and
// confirmed when the station was seen using it. Superseded and rejected end it.
const (
	OrderAccepted   OrderState = "accepted"
	OrderIssued     OrderState = "issued"
	OrderDelivered  OrderState = "delivered"
	OrderConfirmed  OrderState = "confirmed"
	OrderRejected   OrderState = "rejected"
	OrderSuperseded OrderState = "superseded"
)

// Order is one station's request for a certificate, from SignCertificate until
// the station was seen on what it got.
type Order struct {
	ID        string // 128-bit random, lower-case hex
	Station   string // station key
	CSR       []byte // DER
	CSRHash   string // SHA-256 of CSR, lower-case hex: repeated CSRs are one order
	Type      string // certificateType as sent, or ""
	SECC      string // whose certificate toward cars it is, or ""
	Root      string // SHA-256 of the root that one is to lead to, lower-case hex; "": the one served
	RequestID *int   // OCPP 2.1 requestId to be copied (A02.FR.25)
	Wire      Wire   // how the CSR came and the chain must go back
	State     OrderState
	Serial    string // of the certificate issued, or ""
	Reason    string // why it was rejected or superseded
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Wire is the shape of the messages an order travels in.
type Wire string

// WirePlain is SignCertificate/CertificateSigned of the session's version,
// WireDataTransfer the 1.6 DataTransfer wrapping of the 2.0.1 messages,
// WireEdition1 the white paper's first edition with hex-encoded DER.
const (
	WirePlain        Wire = "plain"
	WireDataTransfer Wire = "datatransfer"
	WireEdition1     Wire = "edition1"
)
