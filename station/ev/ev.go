// Package ev is a car that wants a contract certificate (ISO 15118): it signs its
// request with the key it was born with, checks who answered, and takes a contract
// only with the private key that belongs to it.
//
// It shares no cryptography with the provider's side, so that the two can only
// agree on what the standards say.
package ev

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"
	"hash"
	"math/big"
	"strings"
	"time"

	"github.com/cloudflare/circl/sign/ed448"

	"bollard/iso15118/exi"
	"bollard/iso15118/message"
)

// Car is one with a provisioning certificate.
type Car struct {
	Protocol message.Protocol
	Key      *ecdsa.PrivateKey
	Chain    []*x509.Certificate // of the provisioning certificate
	Roots    *x509.CertPool      // V2G roots
	Names    []*x509.Certificate // those of them it names in its requests; none: one nobody knows
	Clock    func() time.Time
	// Ed448, of ISO 15118-20, is in place of Key, and Roots448 of Roots.
	Ed448    ed448.PrivateKey
	Roots448 []*x509.Certificate
	session  [8]byte
}

// Contract is what a car charges with.
type Contract struct {
	EMAID string
	Chain []*x509.Certificate
	Key   *ecdsa.PrivateKey
	Ed448 *Scalar // in place of Key
}

// ErrRefused is wrapped by answers with another code than OK.
var ErrRefused = errors.New("no contract certificate")

// PCID is the car's, in its certificate.
func (c *Car) PCID() string { return c.Chain[0].Subject.CommonName }

// Install returns a signed CertificateInstallationReq.
func (c *Car) Install() ([]byte, error) {
	r := c.request()
	r.Chain.Certificate = c.Chain[0].Raw
	if c.Protocol == message.ISO20 {
		r.Chain.ID, r.MaximumChains = "id1", 8
		for _, sub := range c.Chain[1:] {
			r.Chain.SubCertificates = append(r.Chain.SubCertificates, sub.Raw)
		}
	} else {
		r.ID = "id1"
	}
	return c.sign(r, c.Key)
}

// Update returns a CertificateUpdateReq of ISO 15118-2, signed with the old
// contract.
func (c *Car) Update(old *Contract) ([]byte, error) {
	r := c.request()
	r.Update, r.ID, r.EMAID = true, "id1", old.EMAID
	r.Chain = message.Chain{ID: "id2", Certificate: old.Chain[0].Raw}
	for _, sub := range old.Chain[1:] {
		r.Chain.SubCertificates = append(r.Chain.SubCertificates, sub.Raw)
	}
	return c.sign(r, old.Key)
}

func (c *Car) request() *message.Request {
	_, _ = rand.Read(c.session[:]) // never fails (crypto/rand)
	r := &message.Request{Protocol: c.Protocol, Header: message.Header{Session: c.session[:], Time: c.Clock().Unix()}}
	for _, root := range c.Names {
		r.Roots = append(r.Roots, message.RootID{Issuer: root.Issuer.String(), Serial: root.SerialNumber})
	}
	if len(r.Roots) == 0 {
		r.Roots = []message.RootID{{Issuer: "CN=V2G Root", Serial: big.NewInt(1)}}
	}
	return r
}

// Take reads the answer to the newest request and returns the contract in it. The
// receiver's key is the car's, after an update the old contract's. remaining is
// how many contracts the same request still gets (-20).
func (c *Car) Take(answer []byte, receiver *ecdsa.PrivateKey) (contract *Contract, remaining int, err error) {
	a, err := message.DecodeResponse(c.Protocol, answer)
	if err != nil {
		return nil, 0, err
	}
	if string(a.Session) != string(c.session[:]) {
		return nil, 0, errors.New("the answer is for another session")
	}
	if a.Code != "OK" {
		return nil, 0, fmt.Errorf("%w: %s", ErrRefused, a.Code)
	}
	if err := c.checkCPS(a); err != nil {
		return nil, 0, err
	}
	chain, err := parse(a.Contract)
	if err != nil {
		return nil, 0, err
	}
	out := &Contract{EMAID: chain[0].Subject.CommonName, Chain: chain}
	if c.Protocol == message.ISO2 && a.EMAID != out.EMAID {
		return nil, 0, errors.New("the answer names another account than its certificate")
	}
	if c.Ed448 != nil {
		out.Ed448, err = c.open448(a, chain[0])
	} else {
		out.Key, err = c.open(a, receiver, chain[0])
	}
	return out, int(a.Remaining), err
}

// checkCPS: the answer is signed by a CPS under a V2G root the car trusts.
func (c *Car) checkCPS(a *message.Response) error {
	chain, err := parse(a.CPS)
	if err != nil {
		return err
	}
	if c.Ed448 != nil {
		if err := c.follow448(chain); err != nil {
			return fmt.Errorf("who answered isn't under a V2G root of this car: %w", err)
		}
		return c.checkSigner(a, chain[0])
	}
	between := x509.NewCertPool()
	for _, sub := range chain[1:] {
		between.AddCert(sub)
	}
	if _, err := chain[0].Verify(x509.VerifyOptions{
		Roots: c.Roots, Intermediates: between, CurrentTime: c.Clock(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}); err != nil {
		return fmt.Errorf("who answered isn't under a V2G root of this car: %w", err)
	}
	return c.checkSigner(a, chain[0])
}

func (c *Car) checkSigner(a *message.Response, cert *x509.Certificate) error {
	if !hasDomain(cert, "CPS") {
		return errors.New("who answered is no certificate provisioning service (DC=CPS)")
	}
	return c.verify(a, cert)
}

func hasDomain(cert *x509.Certificate, domain string) bool {
	for _, a := range cert.Subject.Names {
		if a.Type.String() == "0.9.2342.19200300.100.1.25" && a.Value == domain {
			return true
		}
	}
	return false
}

func parse(c message.Chain) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for _, der := range append([][]byte{c.Certificate}, c.SubCertificates...) {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("a certificate of the answer can't be read: %w", err)
		}
		chain = append(chain, cert)
	}
	return chain, nil
}

// open opens the envelope with the contract key.
func (c *Car) open(a *message.Response, receiver *ecdsa.PrivateKey, cert *x509.Certificate) (*ecdsa.PrivateKey, error) {
	own, err := receiver.ECDH()
	if err != nil {
		return nil, err
	}
	from, err := own.Curve().NewPublicKey(a.Public)
	if err != nil {
		return nil, err
	}
	z, err := own.ECDH(from)
	if err != nil {
		return nil, err
	}
	h := c.hash()
	for _, part := range [][]byte{{0, 0, 0, 1}, z, []byte("\x01UV")} {
		h.Write(part)
	}
	k := h.Sum(nil)
	var scalar []byte
	if c.Protocol == message.ISO20 {
		block, err := aes.NewCipher(k[:32])
		if err != nil {
			return nil, err
		}
		gcm, err := cipher.NewGCM(block)
		if err != nil || len(a.Key) != 94 {
			return nil, errors.New("the envelope isn't one of ISO 15118-20")
		}
		aad := c.PCID() + strings.ToUpper(fmt.Sprintf("%x", cert.SubjectKeyId))
		if scalar, err = gcm.Open(nil, a.Key[:12], a.Key[12:], []byte(aad)); err != nil {
			return nil, err
		}
	} else {
		block, err := aes.NewCipher(k[:16])
		if err != nil || len(a.Key) != 48 {
			return nil, errors.New("the envelope isn't one of ISO 15118-2")
		}
		scalar = make([]byte, 32)
		cipher.NewCBCDecrypter(block, a.Key[:16]).CryptBlocks(scalar, a.Key[16:])
	}
	key, err := ecdsa.ParseRawPrivateKey(c.curve(), scalar)
	if err != nil || !key.PublicKey.Equal(cert.PublicKey) {
		return nil, errors.New("the envelope doesn't hold the contract's key")
	}
	return key, nil
}

func (c *Car) curve() elliptic.Curve {
	if c.Protocol == message.ISO20 {
		return elliptic.P521()
	}
	return elliptic.P256()
}

func (c *Car) hash() hash.Hash {
	if c.Protocol == message.ISO20 {
		return sha512.New()
	}
	return sha256.New()
}

func (c *Car) sum(b []byte) []byte {
	if c.Ed448 != nil {
		return sha3.SumSHAKE256(b, 64)
	}
	h := c.hash()
	h.Write(b)
	return h.Sum(nil)
}

const (
	canonical = "http://www.w3.org/TR/canonical-exi/"
	more      = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha"
	digests   = "http://www.w3.org/2001/04/xmlenc#sha"
	security  = "urn:iso:std:iso:15118:-20:Security:"
)

// methods are the URIs of signature and digest.
func (c *Car) methods() (signature, digest string) {
	switch {
	case c.Ed448 != nil:
		return security + "xmldsig#Ed448", security + "xmlenc#SHAKE256"
	case c.Protocol == message.ISO20:
		return more + "512", digests + "512"
	}
	return more + "256", digests + "256"
}

// sign signs what the request must have signed and encodes it.
func (c *Car) sign(r *message.Request, key *ecdsa.PrivateKey) ([]byte, error) {
	info, err := c.signedInfo(r.Signed())
	if err != nil {
		return nil, err
	}
	text, err := exi.Signature().Encode(exi.Fragment, info)
	if err != nil {
		return nil, err
	}
	var raw []byte
	if c.Ed448 != nil {
		raw = ed448.Sign(c.Ed448, text, "")
	} else {
		x, y, err := ecdsa.Sign(rand.Reader, key, c.sum(text))
		if err != nil {
			return nil, err
		}
		half := (key.Curve.Params().BitSize + 7) / 8
		raw = make([]byte, 2*half)
		x.FillBytes(raw[:half])
		y.FillBytes(raw[half:])
	}
	sig := exi.New(exi.NamespaceSignature, "Signature")
	value := exi.New("", "SignatureValue")
	value.Value = raw
	sig.Children = []exi.Element{info, value}
	r.Signature = &sig
	return r.Encode()
}

// signedInfo is what a signature over the parts signs.
func (c *Car) signedInfo(parts []exi.Element) (exi.Element, error) {
	algorithm := func(local, uri string) exi.Element {
		el := exi.New("", local)
		el.Attributes = []exi.Attribute{{Name: "Algorithm", Value: uri}}
		return el
	}
	signs, digests := c.methods()
	info := exi.New(exi.NamespaceSignature, "SignedInfo")
	info.Children = []exi.Element{algorithm("CanonicalizationMethod", canonical), algorithm("SignatureMethod", signs)}
	for _, part := range parts {
		fragment, err := c.Protocol.Set().Encode(exi.Fragment, part)
		if err != nil {
			return info, err
		}
		transforms, digest, reference := exi.New("", "Transforms"), exi.New("", "DigestValue"), exi.New("", "Reference")
		transforms.Children = []exi.Element{algorithm("Transform", canonical)}
		digest.Value = c.sum(fragment)
		reference.Attributes = []exi.Attribute{{Name: "URI", Value: "#" + part.Attribute("Id")}}
		reference.Children = []exi.Element{transforms, algorithm("DigestMethod", digests), digest}
		info.Children = append(info.Children, reference)
	}
	return info, nil
}

// verify checks an answer's signature: it must be over what this car would have
// signed itself, in the order of the message.
func (c *Car) verify(a *message.Response, cert *x509.Certificate) error {
	if a.Signature == nil {
		return errors.New("the answer isn't signed")
	}
	want, err := c.signedInfo(a.Signed())
	if err != nil {
		return err
	}
	text, err := exi.Signature().Encode(exi.Fragment, want)
	if err != nil {
		return err
	}
	raw, _ := a.Signature.Child("SignatureValue").Value.([]byte)
	if c.Ed448 != nil {
		if !verify448(cert, text, raw) {
			return errors.New("the answer's signature doesn't verify")
		}
		return nil
	}
	key, ok := cert.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return errors.New("who answered has a key of another edition")
	}
	half := (key.Curve.Params().BitSize + 7) / 8
	if len(raw) != 2*half || !ecdsa.Verify(key, c.sum(text), new(big.Int).SetBytes(raw[:half]), new(big.Int).SetBytes(raw[half:])) {
		return errors.New("the answer's signature doesn't verify")
	}
	return nil
}
