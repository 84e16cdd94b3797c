package ca

// This file is the contract other packages build on while the engine is
// written; each declaration moves to the file of its topic.

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"time"
)

// ProvenKey is a public key whose private half its holder has shown to have.
// Only ParseCSR and GeneratedKey make one.
type ProvenKey struct{ public crypto.PublicKey }

// CSR is a checked PKCS#10 request: its signature verified.
type CSR struct {
	Key          ProvenKey
	CommonName   string   // as asked; never used for the certificate
	Organisation []string // as asked; never used for the certificate
	DER          []byte
}

// Config of an Authority.
type Config struct {
	Store        Store
	Organisation string
	Country      string
	Keys         KeyOpener
	Clock        func() time.Time
	Log          *slog.Logger
}

// KeyOpener opens the private key behind a URI for CA use.
type KeyOpener func(ctx context.Context, uri string) (crypto.Signer, error)

// Authority issues certificates of its hierarchies.
type Authority struct{}

// Prepared is the token of the first phase; only it can be issued, once.
type Prepared struct{}

func (*Authority) Prepare(ctx context.Context, order Order) (*Prepared, error) {
	panic("internal error: contract only")
}
func (*Authority) Issue(ctx context.Context, p *Prepared) (*Issued, error) {
	panic("internal error: contract only")
}

// Roots returns the hierarchy's own root certificates.
func (*Authority) Roots(kind Kind) []*x509.Certificate { panic("internal error: contract only") }

// Lookup returns an issued certificate with its chain again, for redelivery.
func (*Authority) Lookup(ctx context.Context, serial string) (*Issued, error) {
	panic("internal error: contract only")
}

// LookupReference is Lookup by the requester's own reference; nil without one.
func (*Authority) LookupReference(ctx context.Context, reference string) (*Issued, error) {
	panic("internal error: contract only")
}

// Revoke revokes an issued certificate; reason has RFC 5280's name.
func (*Authority) Revoke(ctx context.Context, serial, reason, actor string) (Record, error) {
	panic("internal error: contract only")
}

// Status returns what is recorded of a presented certificate: own ones by
// serial and DER equality, outside ones as External.
func (*Authority) Status(ctx context.Context, cert *x509.Certificate) (rec Record, known bool, err error) {
	panic("internal error: contract only")
}

// RecordExternal records a certificate another CA issued to a station.
func (*Authority) RecordExternal(ctx context.Context, cert *x509.Certificate, station, actor string) error {
	panic("internal error: contract only")
}

// StationPools returns own roots + intermediates and outside roots for station certificates.
func (*Authority) StationPools(ctx context.Context) (Pools, error) {
	panic("internal error: contract only")
}

// Pools are the trust of one use. Own roots are never mixed with outside ones:
// a chain is judged against one pool at a time.
type Pools struct {
	Own           *x509.CertPool
	Outside       *x509.CertPool
	Intermediates *x509.CertPool
	Subjects      *x509.CertPool // all of them, for the TLS CertificateRequest's list
}

// ServerNames of a server certificate: the first DNS name is its CN.
type ServerNames struct {
	DNS    []string
	IPs    []string
	CNOnly bool // no SAN: an extra listener for old stations
}

// ServerCertificates keeps an ECDSA and an RSA server certificate valid by itself.
type ServerCertificates struct{}

func (*Authority) ServerCertificates(ctx context.Context, names ServerNames, dir string) (*ServerCertificates, error) {
	panic("internal error: contract only")
}

// GetCertificate picks ECDSA or RSA by what the client can verify; for tls.Config.
func (*ServerCertificates) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	panic("internal error: contract only")
}
