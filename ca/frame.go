package ca

import (
	"bytes"
	"crypto/x509"
	"sync"
	"time"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
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
func kindOf(p plan, usage x509.KeyUsage) (frameKind, bool) {
	kind := frameKind{issuer: p.issuer, usage: usage}
	for _, policy := range p.policies {
		kind.policies += policy.String() + " "
	}
	return kind, p.profile.Name == ProfileStation && p.issuer.cert != nil && p.issuer.mount() == nil && !p.issuer.isEd448()
}

// outline returns the to-be-signed bytes of a plan's certificate.
func (f *frames) outline(p plan, template *x509.Certificate) ([]byte, error) {
	if kind, ok := kindOf(p, template.KeyUsage); ok {
		f.mu.Lock()
		known := f.known[kind]
		f.mu.Unlock()
		if known != nil {
			return known.around(template, p.spki)
		}
	}
	return p.issuer.outline(template, p.key)
}

// learn remembers the frame of what passed lint.
func (f *frames) learn(p plan, template *x509.Certificate, tbs []byte) {
	kind, ok := kindOf(p, template.KeyUsage)
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
	if one := frameOf(tbs, template.SubjectKeyId); one != nil {
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

// around is a frame with what a template says of one certificate.
func (f *frame) around(t *x509.Certificate, spki []byte) ([]byte, error) {
	subject := t.RawSubject
	if len(subject) == 0 {
		var err error
		if subject, err = marshalName(&t.Subject); err != nil {
			return nil, err
		}
	}
	extensions := bytes.Clone(f.extensions)
	copy(extensions[f.keyID:], t.SubjectKeyId)
	b := cryptobyte.NewBuilder(make([]byte, 0, len(f.issuer)+len(subject)+len(spki)+len(extensions)+128))
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(f.version)
		b.AddASN1BigInt(t.SerialNumber)
		b.AddBytes(f.issuer)
		b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
			addTime(b, t.NotBefore)
			addTime(b, t.NotAfter)
		})
		b.AddBytes(subject)
		b.AddBytes(spki)
		b.AddBytes(extensions)
	})
	return b.Bytes()
}

// addTime: UTCTime through the year 2049 (RFC 5280 §4.1.2.5).
func addTime(b *cryptobyte.Builder, at time.Time) {
	if at = at.UTC(); at.Year() < 2050 {
		b.AddASN1UTCTime(at)
	} else {
		b.AddASN1GeneralizedTime(at)
	}
}
