package station

import (
	"crypto"
	_ "crypto/sha256" // hash algorithms of CertificateHashData
	_ "crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// trustStore holds installed root certificates by use (M03–M05).
type trustStore struct {
	mu    sync.Mutex
	roots map[string][]*x509.Certificate
}

// Uses of roots as 2.x names them; 1.6 calls the first CentralSystemRootCertificate.
const (
	csmsRoot         = "CSMSRootCertificate"
	manufacturerRoot = "ManufacturerRootCertificate"
	v2gRoot          = "V2GRootCertificate"
)

// storeSize is how many roots of one use fit (CertificateStoreMaxLength).
const storeSize = 8

func newTrustStore(factory map[string][]*x509.Certificate) *trustStore {
	t := &trustStore{roots: map[string][]*x509.Certificate{}}
	for use, roots := range factory {
		t.roots[use] = slices.Clone(roots)
	}
	return t
}

func (t *trustStore) pool(use string) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range t.list(use) {
		pool.AddCert(c)
	}
	return pool
}

func (t *trustStore) list(use string) []*x509.Certificate {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]*x509.Certificate(nil), t.roots[use]...)
}

// install adds a root. The error is the reason for Rejected; full and invalid
// certificates are both (M05.FR.06, .07).
func (t *trustStore) install(use, text string, now time.Time, signedByOld bool) error {
	list, err := ParseCertificates([]byte(text))
	if err != nil {
		return err
	}
	if len(list) != 1 {
		return errors.New("not one certificate")
	}
	c := list[0]
	if !c.BasicConstraintsValid || !c.IsCA {
		return errors.New("not a CA certificate")
	}
	if now.Before(c.NotBefore) || now.After(c.NotAfter) {
		return errors.New("not valid now")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	installed := t.roots[use]
	for i, old := range installed {
		if old.Equal(c) {
			installed[i] = c // M05.FR.17
			return nil
		}
	}
	if use == csmsRoot && signedByOld && len(installed) > 0 {
		if !signedByOne(c, installed) {
			return errors.New("not signed by the installed root")
		}
	} else if c.CheckSignatureFrom(c) != nil {
		return errors.New("not self-signed")
	}
	if len(installed) >= storeSize {
		return errors.New("certificate store is full")
	}
	t.roots[use] = append(installed, c)
	return nil
}

func signedByOne(c *x509.Certificate, parents []*x509.Certificate) bool {
	for _, p := range parents {
		if c.CheckSignatureFrom(p) == nil {
			return true
		}
	}
	return false
}

// remove deletes the root the hash data names: Accepted, Failed or NotFound.
// The last CSMS root stays (M04.FR.04): without it the station is lost.
func (t *trustStore) remove(h hashData) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	for use, list := range t.roots {
		for i, c := range list {
			own, err := hashesOf(c, c, h.HashAlgorithm)
			if err != nil || !own.equal(h) {
				continue
			}
			if use == csmsRoot && len(list) == 1 {
				return "Failed"
			}
			t.roots[use] = append(append([]*x509.Certificate(nil), list[:i]...), list[i+1:]...)
			return "Accepted"
		}
	}
	return "NotFound"
}

// hashData is CertificateHashData (OCPP 2.0.1 part 2 §2.6).
type hashData struct {
	HashAlgorithm  string `json:"hashAlgorithm"`
	IssuerNameHash string `json:"issuerNameHash"`
	IssuerKeyHash  string `json:"issuerKeyHash"`
	SerialNumber   string `json:"serialNumber"`
}

func (h hashData) equal(other hashData) bool {
	trim := func(s string) string { return strings.TrimLeft(s, "0") }
	return h.HashAlgorithm == other.HashAlgorithm &&
		strings.EqualFold(h.IssuerNameHash, other.IssuerNameHash) &&
		strings.EqualFold(h.IssuerKeyHash, other.IssuerKeyHash) &&
		strings.EqualFold(trim(h.SerialNumber), trim(other.SerialNumber))
}

// hashesOf computes the hash data of a certificate; a root is its own issuer. The
// key hash covers the bits of the public key alone, as in RFC 6960 §4.1.1.
func hashesOf(cert, issuer *x509.Certificate, algorithm string) (hashData, error) {
	h, ok := map[string]crypto.Hash{"SHA256": crypto.SHA256, "SHA384": crypto.SHA384, "SHA512": crypto.SHA512}[algorithm]
	if !ok {
		return hashData{}, fmt.Errorf("hash algorithm %q is none of SHA256, SHA384, SHA512", algorithm)
	}
	var spki struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(issuer.RawSubjectPublicKeyInfo, &spki); err != nil {
		return hashData{}, fmt.Errorf("couldn't read the public key of an issuer: %w", err)
	}
	sum := func(data []byte) string {
		d := h.New()
		d.Write(data)
		return fmt.Sprintf("%X", d.Sum(nil))
	}
	return hashData{algorithm, sum(cert.RawIssuer), sum(spki.Key.RightAlign()), fmt.Sprintf("%X", cert.SerialNumber)}, nil
}

// ParseCertificates reads PEM certificates, at least one, and nothing else.
func ParseCertificates(text []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("PEM block %q is no certificate", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("couldn't read a certificate: %w", err)
		}
		out, text = append(out, c), rest
	}
	if len(out) == 0 {
		return nil, errors.New("no PEM certificate found")
	}
	return out, nil
}
