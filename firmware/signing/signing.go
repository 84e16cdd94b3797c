// Package signing makes a manufacturer's release of a firmware image: signatures as
// stations and installers verify them, and the record that says what they are of.
//
// It promises that a bundle under its name is whole, on disk, and was verified by
// others than its maker; until then nothing has that name. Private keys stay behind
// crypto.Signer; it needs no network.
package signing

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"bollard/firmware/bundle"
	"bollard/firmware/release"
	"bollard/ledger"
)

// Config is what to sign, as whom, and where the bundle goes.
type Config struct {
	Image string // its path
	Out   string // the directory to make; it must not be there
	// Release has everything but ID, size, digests and signatures. A zero NotBefore
	// is now, a zero Expires a year later, or the certificate's end before that.
	Release release.Release
	// Dialects of the signatures, the first for image.sig. None is enough for a key
	// on P-256, which has one.
	Dialects []release.Dialect
	Signer   crypto.Signer
	Chain    []*x509.Certificate // the signer's, then CAs above it, if any
	Digests  bundle.Wanted
	OCPPOnly bool          // no CMS, and no emailProtection asked of the certificate
	SBOM     []byte        // CycloneDX in JSON; nil: none
	Build    *bundle.Build // where the image comes from; nil: nothing is said
	Log      Log           // nil: the record says that it is in none
	LogKey   note.Verifier // of Log
	// Cosign asks witnesses for their signatures of the log's checkpoint; nil: nobody.
	Cosign func(ctx context.Context, n ledger.Note) (ledger.Note, error)
	// OpenSSL is the program that verifies what was signed; "" leaves that to Go.
	OpenSSL  string
	Clock    func() time.Time
	Random   io.Reader
	Progress func(done, all int64) // may be nil
}

// Log is a transparency log. What Append returned for is public and stays so; it is
// called once, for a release that was verified.
type Log interface {
	Origin() string
	Append(ctx context.Context, entry []byte) (ledger.Inclusion, error)
}

// legacy is what a record says of RSAPKCS1.
const legacy = "rsa-pkcs1v15-sha256 isn't what OCPP asks for: it is for stations that verify nothing else"

// forgeable is what a record says of registers that prove nothing.
const forgeable = "pcrs names registers 16 and 23 alone, which whatever runs on a station can reset and bring to these values: name ones that its boot measures into"

// Sign makes the bundle, whole or not at all.
func Sign(ctx context.Context, cfg Config) (*release.Release, error) {
	now := cfg.Clock()
	// 1. Whatever can be wrong before hours of reading is found before.
	if err := cfg.prepare(now); err != nil {
		return nil, err
	}
	d, err := newDraft(cfg.Out)
	if err != nil {
		return nil, err
	}
	defer d.drop()
	// 2. One look through the image.
	image, err := bundle.Measure(ctx, cfg.Image, cfg.Digests, cfg.Progress)
	if err != nil {
		return nil, err
	}
	// 3. Sign: the image, and the record with what was signed.
	r := cfg.Release
	r.Size, r.SHA256, r.SHA512, r.MD5 = image.Size, hex.EncodeToString(image.SHA256[:]), hex.EncodeToString(image.SHA512), hex.EncodeToString(image.MD5)
	if err := cfg.signImage(d, &r, image); err != nil {
		return nil, err
	}
	if err := cfg.addPapers(ctx, d, &r, image); err != nil {
		return nil, err
	}
	if err := cfg.signRecord(ctx, d, &r); err != nil {
		return nil, err
	}
	// 4. What others will read is read here first.
	if err := cfg.verify(ctx, d, image, now); err != nil {
		return nil, err
	}
	// 5. The log: before anybody has the release, so that there is none it doesn't know.
	if err := cfg.enter(ctx, d, &r, image, now); err != nil {
		return nil, err
	}
	// 6. The name.
	if err := d.publish(); err != nil {
		return nil, err
	}
	return &r, nil
}

// prepare completes and judges what was asked for.
func (cfg *Config) prepare(now time.Time) error {
	if len(cfg.Chain) == 0 {
		return errors.New("the signing certificate is missing")
	}
	cert := cfg.Chain[0]
	if public, ok := cfg.Signer.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(cert.PublicKey) {
		return errors.New("the key isn't that of the signing certificate")
	}
	if err := release.CheckCertificate(cert, !cfg.OCPPOnly); err != nil {
		return err
	}
	for i, above := range cfg.Chain[1:] {
		if err := cfg.Chain[i].CheckSignatureFrom(above); err != nil {
			return fmt.Errorf("certificate %d of the chain wasn't issued by the next: give the signer's first, then its issuers': %w", i+1, err)
		}
	}
	if n := len(cfg.Chain) - 1; n > release.MaxAbove {
		return fmt.Errorf("%d CAs come with the signing certificate, and it may be %d", n, release.MaxAbove)
	}
	r := &cfg.Release
	if err := cfg.chooseDialects(cert.PublicKey); err != nil {
		return err
	}
	if r.PCRs != nil && r.PCRs.Forgeable() {
		r.Warnings = append(r.Warnings, forgeable)
	}
	if r.NotBefore.IsZero() {
		r.NotBefore = now.UTC().Truncate(time.Second)
	}
	if r.Expires.IsZero() {
		r.Expires = r.NotBefore.AddDate(1, 0, 0)
		if cert.NotAfter.Before(r.Expires) {
			r.Expires = cert.NotAfter.UTC()
		}
	}
	r.Log = release.NoLog
	if cfg.Log != nil {
		r.Log = cfg.Log.Origin()
	}
	if cfg.Build != nil {
		if err := cfg.Build.CheckBuild(); err != nil {
			return err
		}
	}
	var random [10]byte
	if _, err := io.ReadFull(cfg.Random, random[:]); err != nil {
		return fmt.Errorf("couldn't make the release's id: %w", err)
	}
	r.ID = release.NewID(now, random)
	// A record like the one to come, but for what reading the image will tell.
	like := *r
	like.Size, like.SHA256 = 1, strings.Repeat("0", 64)
	for _, d := range cfg.Dialects {
		like.Signatures = append(like.Signatures, cfg.signature(d, []byte("to come")))
	}
	if _, err := like.Canonical(); err != nil {
		return err
	}
	return errors.Join(r.CheckLife(cert), cfg.checkAbove())
}

// checkAbove wants that whoever trusts the last CA given will take the signer as long
// as the release can be installed.
func (cfg *Config) checkAbove() error {
	n := len(cfg.Chain) - 1
	if n == 0 {
		return nil
	}
	for _, at := range []time.Time{cfg.Release.NotBefore, cfg.Release.Expires.Add(-time.Second)} {
		if _, err := release.VerifyChain(cfg.Chain[0], cfg.Chain[1:n], cfg.Chain[n:], at); err != nil {
			return fmt.Errorf("at %s: %w", at.Format(time.RFC3339), err)
		}
	}
	return nil
}

func (cfg *Config) chooseDialects(public crypto.PublicKey) error {
	if len(cfg.Dialects) == 0 {
		if release.ECDSAP256.Fits(public) != nil {
			return fmt.Errorf("an RSA key has no dialect that every station verifies: name %s for models known to verify PSS, %s for those that leave the padding to their library", release.RSAPSS, release.RSAPKCS1)
		}
		cfg.Dialects = []release.Dialect{release.ECDSAP256}
	}
	for _, d := range cfg.Dialects {
		if err := d.Fits(public); err != nil {
			return err
		}
		if d == release.RSAPKCS1 {
			cfg.Release.Warnings = append(cfg.Release.Warnings, legacy)
		}
	}
	return nil
}

func (cfg *Config) signature(d release.Dialect, raw []byte) release.Signature {
	s := release.Signature{Dialect: d, Cert: release.Fingerprint(cfg.Chain[0]), Value: base64.StdEncoding.EncodeToString(raw)}
	if d == release.RSAPSS {
		s.Salt = release.SaltPSS
	}
	return s
}

// sign signs the image's SHA-256 in a dialect.
func (cfg *Config) sign(d release.Dialect, image bundle.Image) ([]byte, error) {
	raw, err := cfg.Signer.Sign(cfg.Random, image.SHA256[:], d.Options())
	if err != nil {
		return nil, fmt.Errorf("couldn't sign the image in %s: %w", d, err)
	}
	return raw, nil
}

func (cfg *Config) signImage(d *draft, r *release.Release, image bundle.Image) error {
	made := map[release.Dialect][]byte{}
	for i, dialect := range cfg.Dialects {
		raw, err := cfg.sign(dialect, image)
		if err != nil {
			return err
		}
		made[dialect] = raw
		s := cfg.signature(dialect, raw)
		r.Signatures = append(r.Signatures, s)
		name := bundle.FileOf(dialect)
		if i == 0 {
			name = bundle.FileSignature
			d.write(bundle.FileBinary, raw)
		}
		d.write(name, []byte(s.Value+"\n"))
	}
	d.write(bundle.FileCertificate, release.EncodeCertificate(cfg.Chain[0]))
	if len(cfg.Chain) > 1 {
		d.write(bundle.FileChain, release.EncodeChain(cfg.Chain[1:]))
	}
	if cfg.OCPPOnly {
		return d.err
	}
	return cfg.signCMS(d, image, made)
}

// signCMS wraps the signature that was made already, where its dialect is CMS's.
func (cfg *Config) signCMS(d *draft, image bundle.Image, made map[release.Dialect][]byte) error {
	dialect := bundle.CMSDialect(cfg.Chain[0].PublicKey)
	raw := made[dialect]
	if raw == nil {
		var err error
		if raw, err = cfg.sign(dialect, image); err != nil {
			return err
		}
	}
	der, err := bundle.EncodeCMS(cfg.Chain, raw)
	if err != nil {
		return err
	}
	d.write(bundle.FileCMS, der)
	return d.err
}

func (cfg *Config) signRecord(ctx context.Context, d *draft, r *release.Release) error {
	text, err := r.Canonical()
	if err != nil {
		return err
	}
	envelope, err := release.Seal(ctx, release.PayloadType, text, cfg.Chain[0], cfg.Signer, cfg.Random)
	if err != nil {
		return err
	}
	d.write(bundle.FileRelease, text)
	d.write(bundle.FileEnvelope, envelope)
	return d.err
}

// addPapers puts what goes with the image beside it, and its digests into the record.
func (cfg *Config) addPapers(ctx context.Context, d *draft, r *release.Release, image bundle.Image) error {
	if cfg.SBOM != nil {
		if err := bundle.CheckSBOM(cfg.SBOM, image.SHA256); err != nil {
			return err
		}
		r.SBOM = sumOf(cfg.SBOM)
		d.write(bundle.FileSBOM, cfg.SBOM)
	}
	if cfg.Build != nil {
		text, err := cfg.Build.Statement(r.File, image.SHA256)
		if err != nil {
			return err
		}
		envelope, err := release.Seal(ctx, bundle.StatementType, text, cfg.Chain[0], cfg.Signer, cfg.Random)
		if err != nil {
			return err
		}
		r.Provenance = sumOf(envelope)
		d.write(bundle.FileProvenance, envelope)
	}
	return d.err
}

func sumOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// enter has the log take the record, and checks the proof.
func (cfg *Config) enter(ctx context.Context, d *draft, r *release.Release, image bundle.Image, now time.Time) error {
	if cfg.Log == nil {
		return nil
	}
	entry, err := bundle.LogEntry(r)
	if err != nil {
		return err
	}
	proof, err := cfg.Log.Append(ctx, entry)
	if err != nil {
		return err
	}
	if cfg.Cosign != nil {
		if proof.Note, err = cfg.Cosign(ctx, proof.Note); err != nil {
			return fmt.Errorf("release %s is in the log now, but its bundle wasn't kept: %w", r.ID, err)
		}
	}
	d.write(bundle.FileProof, []byte(proof.String()))
	if d.err != nil {
		return d.err
	}
	return cfg.judge(ctx, d, image, now, bundle.FileProof)
}

// verify reads the draft as a stranger would, and has OpenSSL judge it too.
func (cfg *Config) verify(ctx context.Context, d *draft, image bundle.Image, now time.Time) error {
	if err := cfg.judge(ctx, d, image, now, ""); err != nil || cfg.OpenSSL == "" {
		return err
	}
	b, err := bundle.Open(d.root.FS())
	if err != nil {
		return err
	}
	return openssl{cfg.OpenSSL}.verify(ctx, b, d.path, image)
}

// judge wants that the part holds; "": every one but the proof, which is made last.
func (cfg *Config) judge(ctx context.Context, d *draft, image bundle.Image, now time.Time, part string) error {
	b, err := bundle.Open(d.root.FS())
	if err != nil {
		return err
	}
	if begin := cfg.Release.NotBefore; begin.After(now) {
		now = begin
	}
	for _, f := range b.Check(ctx, image, bundle.Trust{At: now, Log: cfg.LogKey}) {
		wanted := f.Part == part || part == "" && f.Part != bundle.FileProof
		if wanted && f.Err != nil {
			return fmt.Errorf("what was signed doesn't verify, and nothing was kept: %s: %w", f.Part, f.Err)
		}
	}
	return nil
}
