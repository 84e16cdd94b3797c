package station

import (
	"crypto"
	"crypto/x509"
	"time"
)

// Deviations are the ways in which a station may differ from the standard's,
// each seen in real stations or wanted by an attacker. The zero value is a
// station by the book.
type Deviations struct {
	// Escaped is written as the last URL segment as it is, instead of the
	// identity percent-encoded.
	Escaped string
	// Subprotocols are offered instead of the version's own; a list with one
	// empty string offers none.
	Subprotocols []string
	// BasicUser replaces the identity as user name of HTTP Basic.
	BasicUser string
	// HexPassword puts the password's hex digits into the Basic header, as
	// 1.6 stations do that do not decode AuthorizationKey.
	HexPassword bool
	// BasicToo sends HTTP Basic on profile 3 as well.
	BasicToo bool

	// BootSerial replaces the serial number in BootNotification.
	BootSerial string

	// Edition1 makes SignCertificate and CertificateSigned those of the white
	// paper's first edition: hex of DER, field cert.
	Edition1 bool
	// DataTransferCSR wraps the 2.0.1 certificate messages in 1.6 DataTransfer
	// with vendorId org.openchargealliance.iso15118pnc.
	DataTransferCSR bool
	// CSR changes the request before it is signed: another subject, names,
	// extensions.
	CSR func(*x509.CertificateRequest)
	// CSRKey is used for every CSR instead of a new key.
	CSRKey crypto.Signer
	// NoRequestID leaves requestId out of a 2.1 SignCertificate.
	NoRequestID bool
	// CertificateType replaces certificateType in 2.x; "-" leaves it out.
	CertificateType string

	// NumberIDs sends message ids as JSON numbers.
	NumberIDs bool
	// Silent actions are never answered, Twice ones answered twice, Slow ones
	// after a while.
	Silent map[string]bool
	Twice  map[string]bool
	Slow   map[string]time.Duration
	// Answers replaces the answer to an action by a payload; the station then
	// does nothing else with the CALL.
	Answers map[string]any

	// Unverified installs firmware without having verified it, and says nothing of it.
	Unverified bool
	// OldFirmware says installed and keeps running what it ran.
	OldFirmware bool
	// Tampered boots something else than it says: its TPM measures that.
	Tampered bool
	// OtherImage offers another image to others than it was given.
	OtherImage bool
	// CutDownloads is how many downloads break off half-way.
	CutDownloads int
}
