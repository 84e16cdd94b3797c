package ca

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"
)

// plan is everything a certificate is to say, worked out once: the template is
// made from it, and lint holds the result against it.
type plan struct {
	profile   Profile
	issuer    *issuer
	serial    *big.Int
	subject   pkix.Name
	dns       []string
	ips       []net.IP
	key       crypto.PublicKey
	spki      []byte // of key, in DER
	keyID     []byte
	p224      bool // the station's model may have a key on that curve
	notBefore time.Time
	notAfter  time.Time
	policies  []x509.OID // what is known of the key, or a CA's: any
	// What relying parties are told; empty without a status listener.
	crl, ocsp, issuers []string
}

func (a *Authority) plan(by *issuer, profile Profile, order Order, now time.Time) (plan, error) {
	name := subjectName(profile, order.Subject, a.cfg.Organisation, a.cfg.Country)
	if order.name != nil {
		name = *order.name
	}
	if err := checkNames(profile, name, order.Subject); err != nil {
		return plan{}, fmt.Errorf("couldn't issue a %s certificate: %w", profile.Name, err)
	}
	if profile.Names == namesStation && a.isServerName(name.CommonName) {
		return plan{}, fmt.Errorf("couldn't issue a %s certificate: the serial number is the name of this server (A00.FR.511)", profile.Name)
	}
	serial, err := newSerial(a.random)
	if err != nil {
		return plan{}, err
	}
	keyID, err := profile.keyID(order.Key.spki)
	if err != nil {
		return plan{}, err
	}
	second := now.Truncate(time.Second)
	p := plan{
		profile: profile, issuer: by, serial: serial, subject: name,
		dns: order.Subject.DNSNames, ips: order.Subject.IPAddresses,
		key: order.Key.public, spki: order.Key.spki, keyID: keyID, p224: order.P224,
		notBefore: second.Add(-profile.Backdate), notAfter: profile.end(second),
	}
	if end := second.Add(order.Life.Truncate(time.Second)); order.Life > 0 && end.Before(p.notAfter) {
		p.notAfter = end
	}
	if end := order.Until.UTC().Truncate(time.Second); !order.Until.IsZero() && end.Before(p.notAfter) {
		p.notAfter = end
	}
	switch {
	case profile.Graded:
		p.policies = a.cfg.Assurance.of(order.Attested)
	case profile.AnyPolicy:
		p.policies = []x509.OID{anyPolicy()}
	}
	if base := a.cfg.StatusURL; base != "" {
		always := by.mount() != nil // one writes the same pointers into all it issues
		p.crl = urls(profile.CRL || always, base+"/"+by.name+".crl")
		p.ocsp = urls(profile.OCSP || always, base+OCSPPath)
		p.issuers = urls(profile.CAIssuers || always, base+"/"+by.name+".crt")
	}
	if by.cert != nil {
		if !now.Before(by.cert.NotAfter) {
			return plan{}, fmt.Errorf("couldn't issue a %s certificate: %s expired on %s", profile.Name, by.name, by.cert.NotAfter.Format(time.DateOnly))
		}
		// Nothing outlives its issuer, or begins before it.
		if p.notAfter.After(by.cert.NotAfter) {
			p.notAfter = by.cert.NotAfter
		}
		if p.notBefore.Before(by.cert.NotBefore) {
			p.notBefore = by.cert.NotBefore
		}
	}
	return p, nil
}

// OCSPPath is where the responder is, below Config.StatusURL. Beside it are
// /<issuer>.crl and /<issuer>.crt.
const OCSPPath = "/ocsp"

func urls(wanted bool, url string) []string {
	if !wanted {
		return nil
	}
	return []string{url}
}

// template turns a plan into what crypto/x509 takes.
func template(p plan) (*x509.Certificate, error) {
	t := &x509.Certificate{
		SerialNumber:          p.serial,
		Subject:               p.subject,
		NotBefore:             p.notBefore,
		NotAfter:              p.notAfter,
		SignatureAlgorithm:    p.issuer.algorithm,
		KeyUsage:              p.profile.usage(p.key),
		ExtKeyUsage:           p.profile.ExtKeyUsage,
		BasicConstraintsValid: true,
		IsCA:                  p.profile.CA,
		SubjectKeyId:          p.keyID,
		CRLDistributionPoints: p.crl,
		OCSPServer:            p.ocsp,
		IssuingCertificateURL: p.issuers,
		Policies:              p.policies,
	}
	if p.profile.NoCheck {
		// id-pkix-ocsp-nocheck is NULL (RFC 6960 §4.2.2.2.1).
		t.ExtraExtensions = []pkix.Extension{{Id: oidNoCheck, Value: asn1.NullBytes}}
	}
	if p.profile.Purpose != nil {
		t.UnknownExtKeyUsage = []asn1.ObjectIdentifier{p.profile.Purpose}
	}
	if p.profile.Names == namesAttestation {
		san, err := permanentIdentifier(p.subject.CommonName)
		if err != nil {
			return nil, err
		}
		t.ExtraExtensions = []pkix.Extension{san}
	}
	if p.profile.CA {
		t.MaxPathLen = p.profile.PathLength
		t.MaxPathLenZero = p.profile.PathLength == 0
	}
	if p.issuer.cert != nil {
		if len(p.issuer.cert.SubjectKeyId) == 0 {
			return nil, errors.New("internal error: the issuer has no key identifier")
		}
		t.AuthorityKeyId = bytes.Clone(p.issuer.cert.SubjectKeyId)
	}
	if p.profile.Names == namesServer {
		t.DNSNames = p.dns
		t.IPAddresses = p.ips
	}
	return t, nil
}
