package ca

import (
	"bytes"
	"crypto/x509"
	"math/big"
	"sync"
	"time"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"

	"bollard/internal/der"
)

// frames remembers what to-be-signed bytes for stations have in common: crypto/x509
// takes longer to put them together than the CA to sign them. The first of a kind are
// crypto/x509's and remembered once they passed lint, as all have to.
type frames struct {
	mu    sync.Mutex
	known map[frameKind]*frame
}

// frameKind is all that decides what a station's certificate says but for its
// serial number, dates, subject and key.
type frameKind struct {
	issuer   *issuer
	usage    x509.KeyUsage
	policies string
}

// maxFrames bounds the memory: they come with each new issuing CA.
const maxFrames = 64

func newFrames() *frames { return &frames{known: map[frameKind]*frame{}} }

// kindOf is false for what has no frame.
func kindOf(p plan) (frameKind, bool) {
	kind := frameKind{issuer: p.issuer, usage: p.profile.usage(p.key)}
	for _, policy := range p.policies {
		kind.policies += policy.String() + " "
	}
	return kind, p.profile.Name == ProfileStation && p.issuer.cert != nil && p.issuer.mount() == nil && !p.issuer.isEd448()
}

// outline returns the to-be-signed bytes of a plan's certificate, which template makes
// where there is no frame.
func (f *frames) outline(p plan, template func(plan) (*x509.Certificate, error)) ([]byte, error) {
	if kind, ok := kindOf(p); ok {
		f.mu.Lock()
		known := f.known[kind]
		f.mu.Unlock()
		if known != nil {
			return known.around(p)
		}
	}
	t, err := template(p)
	if err != nil {
		return nil, err
	}
	return p.issuer.outline(t, p.key)
}

// learn remembers the frame of what passed lint.
func (f *frames) learn(p plan, tbs []byte) {
	kind, ok := kindOf(p)
	if !ok {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.known[kind] != nil {
		return
	}
	if len(f.known) >= maxFrames {
		clear(f.known)
	}
	if one := frameOf(tbs, p.keyID); one != nil {
		f.known[kind] = one
	}
}

// frame is what TBSCertificate (RFC 5280 §4.1) has around those, in DER.
type frame struct {
	version, issuer, extensions []byte // issuer: with the signature's algorithm before it
	keyID                       int    // where it begins in extensions
}

// frameOf takes to-be-signed bytes apart; nil if they aren't as expected.
func frameOf(tbs, keyID []byte) *frame {
	input := cryptobyte.String(tbs)
	var all, version, algorithm, issuer, extensions cryptobyte.String
	constructed := tags.Tag.Constructed
	if !input.ReadASN1(&all, tags.SEQUENCE) ||
		!all.ReadASN1Element(&version, constructed(tags.Tag(0).ContextSpecific())) ||
		!all.SkipASN1(tags.INTEGER) ||
		!all.ReadASN1Element(&algorithm, tags.SEQUENCE) ||
		!all.ReadASN1Element(&issuer, tags.SEQUENCE) ||
		!all.SkipASN1(tags.SEQUENCE) || !all.SkipASN1(tags.SEQUENCE) || !all.SkipASN1(tags.SEQUENCE) || // validity, subject, key
		!all.ReadASN1Element(&extensions, constructed(tags.Tag(3).ContextSpecific())) || !all.Empty() {
		return nil
	}
	at := bytes.Index(extensions, keyID)
	if len(keyID) == 0 || at < 0 || bytes.Count(extensions, keyID) != 1 {
		return nil
	}
	return &frame{version: version, issuer: append(bytes.Clone(algorithm), issuer...), extensions: extensions, keyID: at}
}

// around is a frame with what a plan says of one certificate.
func (f *frame) around(p plan) ([]byte, error) {
	var serialRoom, datesRoom [64]byte
	var subjectRoom [256]byte
	serial := appendNumber(serialRoom[:0], p.serial)
	dates := appendTime(appendTime(datesRoom[:0], p.notBefore), p.notAfter)
	subject, err := appendName(subjectRoom[:0], &p.subject)
	if err != nil {
		return nil, err
	}
	before, after := f.extensions[:f.keyID], f.extensions[f.keyID+len(p.keyID):]
	n := len(f.version) + len(serial) + len(f.issuer) + der.Size(len(dates)) + len(subject) + len(p.spki) + len(f.extensions)
	b := der.AppendHead(make([]byte, 0, der.Size(n)), tags.SEQUENCE, n)
	b = append(append(append(b, f.version...), serial...), f.issuer...)
	b = der.Append(b, tags.SEQUENCE, dates)
	b = append(append(b, subject...), p.spki...)
	return append(append(append(b, before...), p.keyID...), after...), nil
}

// appendNumber appends an INTEGER that is positive.
func appendNumber(b []byte, n *big.Int) []byte {
	var room [64]byte
	octets := n.FillBytes(room[:n.BitLen()/8+1]) // with a leading zero where the first bit is set
	return der.Append(b, tags.INTEGER, octets)
}

// appendTime: UTCTime through the year 2049 (RFC 5280 §4.1.2.5).
func appendTime(b []byte, at time.Time) []byte {
	var room [16]byte
	if at = at.UTC(); at.Year() < 2050 {
		return der.Append(b, tags.UTCTime, at.AppendFormat(room[:0], "060102150405Z"))
	}
	return der.Append(b, tags.GeneralizedTime, at.AppendFormat(room[:0], "20060102150405Z"))
}
