package catalogue_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"math/big"
	"testing"
	"time"

	"bollard/approval"
	"bollard/firmware/bundle"
	"bollard/firmware/catalogue"
	"bollard/firmware/depot"
	"bollard/firmware/release"
	"bollard/firmware/tuf"
	"bollard/ledger"
)

// shelf is a catalogue in memory, a manufacturer, and people who agree to what is
// in granted, by action and scope.
type shelf struct {
	*catalogue.Catalogue
	t       *testing.T
	list    []*catalogue.Entry // newest first
	events  []ledger.Event
	granted map[string][]string
	asked   map[string]string // text, by action and scope
	now     time.Time
	cert    *x509.Certificate
	key     *ecdsa.PrivateKey
	anchor  catalogue.Anchor // that every signer stands under
	files   *depot.Depot
	logs    []bundle.Log
	keep    time.Duration
	papers  map[string][]byte
	seen    map[string]*tuf.Seen
	full    error // of the releases that come
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	s := &shelf{t: t, granted: map[string][]string{}, seen: map[string]*tuf.Seen{}, asked: map[string]string{}, now: time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)}
	var err error
	if s.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	s.cert = s.certificate([]x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning})
	s.anchor = catalogue.Anchor{Root: s.cert}
	if s.files, err = depot.Open(depot.Config{Dir: t.TempDir(), MaxBytes: 1 << 20, MaxTotal: 1 << 24}); err != nil {
		t.Fatal(err)
	}
	s.trust()
	return s
}

// trust has the operator name manufacturers.
func (s *shelf) trust(makers ...catalogue.Maker) {
	s.t.Helper()
	var err error
	s.Catalogue, err = catalogue.New(catalogue.Config{
		Store: s, Depot: s.files, Trust: func(context.Context, *x509.Certificate, []*x509.Certificate) (catalogue.Anchor, error) {
			return s.anchor, nil
		}, Makers: makers, Logs: s.logs, Keep: s.keep,
		Approved: func(_ context.Context, action, scope, text string) (approval.Grant, error) {
			s.asked[action+" "+scope] = text
			by, ok := s.granted[action+" "+scope]
			if !ok {
				return approval.Grant{}, fmt.Errorf("nobody agreed to %s of %s", action, scope)
			}
			return approval.Grant{Request: approval.Request{Action: action, Scope: scope, Nonce: "nonce of " + action}, By: by}, nil
		},
		Station: func(_ context.Context, key string) (string, error) {
			if key != "cs-1" {
				return "", fmt.Errorf("no station is called %s", key)
			}
			return "station: cs-1\n", nil
		},
		Clock: func() time.Time { return s.now },
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *shelf) certificate(usage []x509.ExtKeyUsage) *x509.Certificate {
	s.t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{Organization: []string{"ACME"}, CommonName: "ACME Firmware 1"},
		NotAfter: time.Unix(1<<33, 0), KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: usage}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &s.key.PublicKey, s.key)
	if err != nil {
		s.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		s.t.Fatal(err)
	}
	return cert
}

// sign makes a release of an image.
func (s *shelf) sign(sequence uint64, image string, change ...func(*release.Release)) (*release.Release, catalogue.Bundle) {
	s.t.Helper()
	sum := sha256.Sum256([]byte(image))
	signature, err := ecdsa.SignASN1(rand.Reader, s.key, sum[:])
	if err != nil {
		s.t.Fatal(err)
	}
	r := &release.Release{
		ID: release.NewID(s.now, [10]byte([]byte(rand.Text())[:10])), Vendor: "ACME", Models: []release.Model{{Vendor: "ACME", Model: "Volt"}}, Component: "firmware",
		Version: fmt.Sprint(sequence), Sequence: sequence, SecurityEpoch: 1, File: "x.bin", Size: uint64(len(image)), SHA256: hex.EncodeToString(sum[:]),
		Signatures: []release.Signature{{Dialect: release.ECDSAP256, Cert: release.Fingerprint(s.cert), Value: base64.StdEncoding.EncodeToString(signature)}},
		NotBefore:  s.now, Expires: s.now.Add(time.Hour), Log: release.NoLog,
	}
	for _, f := range change {
		f(r)
	}
	text, err := r.Canonical()
	if err != nil {
		s.t.Fatal(err)
	}
	envelope, err := release.Seal(s.t.Context(), release.PayloadType, text, s.cert, s.key, rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	return r, catalogue.Bundle{Envelope: envelope, Certificate: s.cert, Image: func(to io.Writer) error { _, err := io.WriteString(to, image); return err }}
}

// add takes a release in.
func (s *shelf) add(sequence uint64, change ...func(*release.Release)) *release.Release {
	s.t.Helper()
	r, in := s.sign(sequence, fmt.Sprint("image ", sequence), change...)
	if _, _, err := s.Add(s.t.Context(), "operator:root", in); err != nil {
		s.t.Fatal(err)
	}
	return r
}

// publish takes one in and publishes it.
func (s *shelf) publish(sequence uint64, change ...func(*release.Release)) *release.Release {
	s.t.Helper()
	r := s.add(sequence, change...)
	s.granted["firmware.publish release:"+r.ID] = []string{"alice", "bob"}
	if _, err := s.Publish(s.t.Context(), "operator:root", r.ID); err != nil {
		s.t.Fatal(err)
	}
	return r
}

func (s *shelf) state(id string) catalogue.State {
	s.t.Helper()
	e, err := s.Find(s.t.Context(), id)
	if err != nil {
		s.t.Fatal(err)
	}
	return e.State
}

func (s *shelf) seenIn(id string) bool {
	_, err := s.Find(s.t.Context(), id)
	return err == nil
}

func (s *shelf) AddRelease(_ context.Context, e catalogue.Entry, papers map[string][]byte, events ...ledger.Event) error {
	if s.full != nil {
		return s.full
	}
	s.list = append([]*catalogue.Entry{&e}, s.list...)
	s.papers = papers
	s.events = append(s.events, events...)
	return nil
}

func (s *shelf) Releases(context.Context) ([]catalogue.Entry, error) {
	var list []catalogue.Entry
	for _, e := range s.list {
		list = append(list, *e)
	}
	return list, nil
}

func (s *shelf) UpdateReleases(ctx context.Context, change func([]*catalogue.Entry) ([]ledger.Event, error)) error {
	list, err := s.Releases(ctx)
	if err != nil {
		return err
	}
	var copies []*catalogue.Entry
	for i := range list {
		copies = append(copies, &list[i])
	}
	events, err := change(copies)
	if err == nil {
		s.list, s.events = copies, append(s.events, events...)
	}
	return err
}

func (s *shelf) Paper(_ context.Context, _, name string) ([]byte, error) {
	text, ok := s.papers[name]
	if !ok {
		return nil, catalogue.ErrUnknown
	}
	return text, nil
}

func (s *shelf) UpdateMaker(_ context.Context, name string, change func(*tuf.Seen) (*tuf.Seen, []ledger.Event, error)) error {
	after, events, err := change(s.seen[name])
	if err == nil {
		s.seen[name], s.events = after, append(s.events, events...)
	}
	return err
}
