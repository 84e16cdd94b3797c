// Package bundle is a release as a directory of files, and says of each whether it
// holds: what a manufacturer hands out beside the image.
//
// It promises that nothing holds but what the signing certificate's key signed, and
// that what doesn't is named. It needs no network and no server.
package bundle

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"bollard/firmware/release"
)

// The files of a bundle.
const (
	FileRelease     = "release.json"      // the record, canonical
	FileEnvelope    = "release.dsse.json" // the same, signed
	FileCertificate = "signing-cert.pem"  // exactly one
	FileChain       = "chain.pem"         // CAs above it; missing if there are none
	FileSignature   = "image.sig"         // OCPP's field: one line of Base64
	FileBinary      = "image.sig.bin"     // its bytes
	FileCMS         = "image.cms"         // detached, DER; missing in a bundle for OCPP alone
	FileSBOM        = "sbom.cdx.json"     // if the record names one
	FileProvenance  = "provenance.dsse.json"
	FileProof       = "image.tlog-proof" // of a release in a transparency log (c2sp.org/tlog-proof)
	maxFile         = 64 << 20           // of what is read whole
)

// Files are the names of all but the image. One may be missing, or be another's.
func Files() []string {
	names := []string{FileRelease, FileEnvelope, FileCertificate, FileChain, FileSignature, FileBinary, FileCMS, FileSBOM, FileProvenance, FileProof}
	for _, d := range release.Dialects() {
		names = append(names, FileOf(d))
	}
	return names
}

// FileOf is where a further signature is, in another dialect than the first.
func FileOf(d release.Dialect) string { return "image." + string(d) + ".sig" }

// Bundle is an opened bundle. Nothing of it is proven before Check.
type Bundle struct {
	dir fs.FS
	// Release and Certificate are nil while their files can't be read.
	Release     *release.Release
	Certificate *x509.Certificate
	above       []*x509.Certificate // from FileChain, nearest first; proven by VerifyChain alone
	record      []byte
	faults      map[string]error // of reading, by file
}

// Open reads the record and the certificate. A directory without a release is an
// error; what is wrong with the files, Check says.
func Open(dir fs.FS) (*Bundle, error) {
	b := &Bundle{dir: dir, faults: map[string]error{}}
	var err error
	if b.record, err = b.read(FileRelease); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no %s: give the directory that `bollard firmware sign --out` made", FileRelease)
	}
	if err == nil {
		b.Release, err = release.Parse(b.record)
	}
	b.faults[FileRelease] = err
	text, err := b.read(FileCertificate)
	if err == nil {
		b.Certificate, err = release.DecodeCertificate(text)
	}
	b.faults[FileCertificate] = err
	if text, err = b.read(FileChain); err == nil {
		b.above, err = release.DecodeChain(text)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		b.faults[FileChain] = err
	}
	return b, nil
}

// read reads a regular file of the bundle, bounded.
func (b *Bundle) read(name string) ([]byte, error) {
	f, err := b.dir.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it isn't a regular file")
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("it has more than %d bytes", maxFile)
	}
	return data, err
}

// Finding is what is to say of one part: it holds, or Err says why not.
type Finding struct {
	Part string
	Err  error
	Note string // what holds, for people
}

// Trust is whom a check believes.
type Trust struct {
	Roots []*x509.Certificate // of the manufacturer; none: the chain isn't checked, and that is said
	At    time.Time
	// Log is the transparency log's key, Witnesses those whose cosignatures count, and
	// Needed how many the checkpoint has to have, 0 for all; no Log: that nobody
	// vouches for it is said.
	Log       note.Verifier
	Witnesses []note.Verifier
	Needed    int
}

// Check says of each part whether it holds, for an image as it was measured.
func (b *Bundle) Check(ctx context.Context, image Image, trust Trust) []Finding {
	c := &checker{b: b, image: image, trust: trust}
	c.add(FileRelease, c.record)
	c.add("image", c.measured)
	c.add(FileCertificate, c.certificate)
	c.add(FileEnvelope, func() (string, error) { return c.envelope(ctx) })
	if b.Release != nil {
		for i, s := range b.Release.Signatures {
			c.signature(i, s)
		}
	}
	c.cms()
	c.papers(ctx)
	c.logged()
	return c.findings
}

// checker goes through the parts of one bundle.
type checker struct {
	b        *Bundle
	image    Image
	trust    Trust
	findings []Finding
}

func (c *checker) add(part string, check func() (note string, err error)) {
	note, err := check()
	c.findings = append(c.findings, Finding{Part: part, Err: err, Note: note})
}

// whole says whether the two files are there without which no other can be judged.
func (c *checker) whole() error {
	if c.b.Release == nil || c.b.Certificate == nil {
		return fmt.Errorf("it can't be judged without %s and %s", FileRelease, FileCertificate)
	}
	return nil
}

func (c *checker) record() (string, error) {
	r := c.b.Release
	if r == nil {
		return "", c.b.faults[FileRelease]
	}
	switch {
	case c.trust.At.Before(r.NotBefore):
		return "", fmt.Errorf("release can't be installed before %s", r.NotBefore.Format(time.RFC3339))
	case !c.trust.At.Before(r.Expires):
		return "", fmt.Errorf("release expired at %s", r.Expires.Format(time.RFC3339))
	}
	note := fmt.Sprintf("%s %s %s, sequence %d, epoch %d", r.Vendor, r.Component, r.Version, r.Sequence, r.SecurityEpoch)
	if r.PCRs != nil {
		note += fmt.Sprintf("; TPMs show registers %s", strings.Trim(fmt.Sprint(r.PCRs.Named()), "[]"))
	}
	return note, nil
}

func (c *checker) measured() (string, error) {
	r := c.b.Release
	if r == nil {
		return "", fmt.Errorf("it can't be judged without %s", FileRelease)
	}
	differs := func(want string, got []byte) bool { return want != "" && want != hex.EncodeToString(got) }
	switch {
	case r.Size != c.image.Size:
		return "", fmt.Errorf("image has %d bytes, the release's %d", c.image.Size, r.Size)
	case differs(r.SHA256, c.image.SHA256[:]):
		return "", fmt.Errorf("image has the SHA-256 %x, the release's %s", c.image.SHA256, r.SHA256)
	case differs(r.SHA512, c.image.SHA512):
		return "", errors.New("image has another SHA-512 than the release's")
	case differs(r.MD5, c.image.MD5):
		return "", errors.New("image has another MD5 than the release's")
	}
	return fmt.Sprintf("%d bytes, sha256 %s", r.Size, r.SHA256), nil
}

func (c *checker) certificate() (string, error) {
	cert := c.b.Certificate
	if cert == nil {
		return "", c.b.faults[FileCertificate]
	}
	if err := errors.Join(release.CheckCertificate(cert, false), c.b.faults[FileChain]); err != nil {
		return "", err
	}
	if r := c.b.Release; r != nil {
		if err := r.CheckLife(cert); err != nil {
			return "", err
		}
	}
	if c.trust.At.Before(cert.NotBefore) || c.trust.At.After(cert.NotAfter) {
		return "", fmt.Errorf("signing certificate is valid from %s to %s", cert.NotBefore.Format(time.RFC3339), cert.NotAfter.Format(time.RFC3339))
	}
	if len(c.trust.Roots) == 0 {
		return cert.Subject.String() + "; nobody vouches for it: no root was given", nil
	}
	if _, err := release.VerifyChain(cert, c.b.above, c.trust.Roots, c.trust.At); err != nil {
		return "", err
	}
	return cert.Subject.String(), nil
}

// envelope: the record beside it is what was signed, and nothing else.
func (c *checker) envelope(ctx context.Context) (string, error) {
	if err := c.whole(); err != nil {
		return "", err
	}
	text, err := c.b.read(FileEnvelope)
	if err != nil {
		return "", err
	}
	payload, err := release.Unseal(ctx, release.PayloadType, text, c.b.Certificate)
	if err != nil {
		return "", err
	}
	if string(payload) != string(c.b.record) {
		return "", fmt.Errorf("%s isn't the release that was signed", FileRelease)
	}
	return fmt.Sprintf("release %s, digest %x", c.b.Release.ID, sha256.Sum256(payload)), nil
}

// signature checks one of the image's and the files that repeat it.
func (c *checker) signature(i int, s release.Signature) {
	name := FileSignature
	if i > 0 {
		name = FileOf(s.Dialect)
	}
	c.add(name, func() (string, error) {
		if err := c.whole(); err != nil {
			return "", err
		}
		text, err := c.b.read(name)
		if err != nil {
			return "", err
		}
		if string(text) != s.Value+"\n" {
			return "", fmt.Errorf("it isn't the %s signature of %s in one line of Base64", s.Dialect, FileRelease)
		}
		if err := s.Verify(c.b.Certificate, c.image.SHA256); err != nil {
			return "", err
		}
		return string(s.Dialect), nil
	})
	if i > 0 {
		return
	}
	c.add(FileBinary, func() (string, error) {
		if err := c.whole(); err != nil {
			return "", err
		}
		raw, err := c.b.read(FileBinary)
		if err != nil {
			return "", err
		}
		if base64.StdEncoding.EncodeToString(raw) != s.Value {
			return "", fmt.Errorf("it isn't the bytes of %s", FileSignature)
		}
		return string(s.Dialect), s.Dialect.Verify(c.b.Certificate.PublicKey, c.image.SHA256, raw)
	})
}

// cms may be missing: a bundle for OCPP alone has none.
func (c *checker) cms() {
	der, err := c.b.read(FileCMS)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	c.add(FileCMS, func() (string, error) {
		if err := errors.Join(err, c.whole()); err != nil {
			return "", err
		}
		if err := release.CheckCertificate(c.b.Certificate, true); err != nil {
			return "", err
		}
		chain := append([]*x509.Certificate{c.b.Certificate}, c.b.above...)
		return "detached, " + string(CMSDialect(c.b.Certificate.PublicKey)), checkCMS(der, chain, c.image.SHA256)
	})
}
