package ca

import (
	"crypto/sha256"
	"crypto/x509"
	"time"
)

// Leaf is what is kept of a certificate that a station proved itself with, as long as
// it is connected: what finds its record again and when it ends. It takes a third of
// the certificate's bytes.
type Leaf struct {
	Serial   string            // as SerialOf spells it
	Sum      [sha256.Size]byte // of the DER
	tbs, key [sha256.Size]byte // of what is signed, of the public key's info
	notAfter int64             // Unix seconds, and so is
	renewAt  int64
}

// LeafOf keeps what Leaf has of a certificate.
func LeafOf(cert *x509.Certificate) *Leaf {
	return &Leaf{
		Serial: SerialOf(cert), Sum: sha256.Sum256(cert.Raw), tbs: sha256.Sum256(cert.RawTBSCertificate), key: sha256.Sum256(cert.RawSubjectPublicKeyInfo),
		notAfter: cert.NotAfter.Unix(), renewAt: RenewAt(cert).Unix(),
	}
}

// NotAfter is the certificate's.
func (l *Leaf) NotAfter() time.Time { return time.Unix(l.notAfter, 0) }

// RenewAt is when the certificate is to be renewed, as RenewAt has it.
func (l *Leaf) RenewAt() time.Time { return time.Unix(l.renewAt, 0) }
