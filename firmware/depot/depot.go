// Package depot keeps firmware images under their digests and gives them to
// stations.
//
// It promises that what is under a digest has that digest, is whole, on disk and
// never changes; that only a station with a capability of its own gets a file,
// until its time; and that an answer is the file's bytes or an error, tiny and
// with a true status: some stations take every body for firmware.
package depot

import (
	"context"
	"crypto/md5" //nolint:gosec // PublishFirmware names files by it (OCPP 2.x L03); nothing here relies on it
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"
)

// Defaults of Config.
const (
	DefaultMaxBytes = 4 << 30
	DefaultMaxTotal = 64 << 30
)

// Suffixes of what isn't whole yet, and of what isn't what it was.
const (
	partial = ".part"
	rotten  = ".bad"
)

// Errors of Add and Check that callers branch on.
var (
	// ErrDigest: the bytes aren't those that were named.
	ErrDigest = errors.New("the file isn't the one that was named")
	// ErrSize: it is longer than was named or than is kept.
	ErrSize = errors.New("the file is too large")
	// ErrUnknown: there is nothing under the digest, or not any more.
	ErrUnknown = errors.New("no such image is in the depot")
)

// Image says what a file is. Digests are lower-case hex.
type Image struct {
	SHA256 string `json:"sha256"`
	SHA512 string `json:"sha512,omitempty"`
	MD5    string `json:"md5,omitempty"`
	Size   int64  `json:"size"`
}

// Config of a Depot.
type Config struct {
	Dir string // made, 0700, if it isn't there
	// MaxBytes bounds one image, MaxTotal all together; 0: the defaults.
	MaxBytes, MaxTotal int64
}

// Depot is safe for concurrent use.
type Depot struct {
	cfg  Config
	root *os.Root

	mu      sync.Mutex
	claimed int64 // room for what is being added

	naming sync.Mutex // held while a name gets another file
}

// Open opens the folder and removes what isn't whole.
func Open(cfg Config) (*Depot, error) {
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = DefaultMaxBytes
	}
	if cfg.MaxTotal == 0 {
		cfg.MaxTotal = DefaultMaxTotal
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("couldn't make the firmware depot: %w", err)
	}
	root, err := os.OpenRoot(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("couldn't open the firmware depot: %w", err)
	}
	d := &Depot{cfg: cfg, root: root}
	if err := d.each(func(f fs.FileInfo) error {
		if !strings.HasSuffix(f.Name(), partial) {
			return nil
		}
		return root.Remove(f.Name())
	}); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return d, nil
}

// Close closes the folder.
func (d *Depot) Close() error { return d.root.Close() }

// Add keeps what fill writes, if it is what want says, where want says anything:
// an ErrDigest, an ErrSize or fill's error leaves nothing behind. It takes the
// place of what is there already, which may have changed on the disk.
func (d *Depot) Add(ctx context.Context, want Image, fill func(to io.Writer) error) (Image, error) {
	if want.SHA256 != "" && !digestForm.MatchString(want.SHA256) {
		return Image{}, fmt.Errorf("%.80q is no SHA-256 in lower-case hex", want.SHA256)
	}
	limit, err := d.claim(want.Size)
	if err != nil {
		return Image{}, err
	}
	defer d.unclaim(limit)
	name := rand.Text() + partial
	out, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o400)
	if err != nil {
		return Image{}, fmt.Errorf("couldn't write an image: %w", err)
	}
	defer func() { _ = d.root.Remove(name) }() // it has its own name by then, or none
	sink := newSink(ctx, out, limit)
	if err := errors.Join(fill(sink), out.Sync(), out.Close()); err != nil {
		return Image{}, fmt.Errorf("couldn't take an image in: %w", err)
	}
	got := sink.image()
	if err := got.is(want); err != nil {
		return Image{}, err
	}
	d.naming.Lock()
	defer d.naming.Unlock()
	if err := d.root.Rename(name, got.SHA256); err != nil {
		return Image{}, fmt.Errorf("couldn't name an image: %w", err)
	}
	if err := d.root.Remove(got.SHA256 + rotten); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Image{}, fmt.Errorf("couldn't remove an image that changed: %w", err)
	}
	return got, d.sync()
}

// claim reserves room for an image of a size, or of any with 0: as many bytes as it
// may have.
func (d *Depot) claim(size int64) (limit int64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	total := d.claimed
	if err := d.each(func(f fs.FileInfo) error {
		if !strings.HasSuffix(f.Name(), partial) {
			total += f.Size()
		}
		return nil
	}); err != nil {
		return 0, err
	}
	limit = max(min(d.cfg.MaxBytes, d.cfg.MaxTotal-total), 0)
	if size > limit {
		return 0, fmt.Errorf("%w: %d bytes, of which %d fit", ErrSize, size, limit)
	}
	if size > 0 {
		limit = size
	}
	d.claimed += limit
	return limit, nil
}

func (d *Depot) unclaim(n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.claimed -= n
}

// is compares what is said of a file with what it is.
func (got *Image) is(want Image) error {
	for _, c := range []struct{ name, want, got string }{{"SHA-256", want.SHA256, got.SHA256}, {"SHA-512", want.SHA512, got.SHA512}, {"MD5", want.MD5, got.MD5}} {
		if c.want != "" && c.want != c.got {
			return fmt.Errorf("%w: its %s is %s, not %.130s", ErrDigest, c.name, c.got, c.want)
		}
	}
	if want.Size != 0 && want.Size != got.Size {
		return fmt.Errorf("%w: it has %d bytes, not %d", ErrDigest, got.Size, want.Size)
	}
	return nil
}

var digestForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Open opens an image for reading; ErrUnknown without it.
func (d *Depot) Open(digest string) (*os.File, int64, error) {
	if !digestForm.MatchString(digest) {
		return nil, 0, ErrUnknown
	}
	f, err := d.root.Open(digest)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := d.root.Stat(digest + rotten); err == nil {
			return nil, 0, fmt.Errorf("%w: what was under its digest has changed on the disk", ErrUnknown)
		}
		return nil, 0, ErrUnknown
	}
	if err != nil {
		return nil, 0, fmt.Errorf("couldn't open an image: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

// Has tells an image's size; ErrUnknown without it.
func (d *Depot) Has(digest string) (int64, error) {
	f, size, err := d.Open(digest)
	if err != nil {
		return 0, err
	}
	return size, f.Close()
}

// Check reads every image again that wasn't read since a time, and returns the
// digests whose files have another: they are given to nobody any more, also after a
// restart, until Add takes them in anew.
func (d *Depot) Check(ctx context.Context, since, now time.Time) (bad []string, err error) {
	err = d.each(func(f fs.FileInfo) error {
		// A file's time is when it was read last; of a time to come a clock was wrong.
		if at := f.ModTime(); !digestForm.MatchString(f.Name()) || !at.Before(since) && !at.After(now) {
			return nil
		}
		sound, err := d.sound(ctx, f.Name())
		switch {
		case err != nil:
			return fmt.Errorf("couldn't read an image again: %w", err)
		case sound:
			return d.root.Chtimes(f.Name(), now, now)
		}
		aside, err := d.putAside(f)
		if aside {
			bad = append(bad, f.Name())
		}
		return err
	})
	return bad, err
}

// putAside takes the name from a file that changed, but not if Add gave it to another one
// since that was read.
func (d *Depot) putAside(read fs.FileInfo) (aside bool, err error) {
	d.naming.Lock()
	defer d.naming.Unlock()
	now, err := d.root.Lstat(read.Name())
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(now, read) {
		return false, nil
	}
	if err == nil {
		err = d.root.Rename(read.Name(), read.Name()+rotten)
	}
	if err != nil {
		return true, fmt.Errorf("couldn't put an image aside that changed: %w", err)
	}
	return true, d.sync()
}

// sound says whether an image has its digest still.
func (d *Depot) sound(ctx context.Context, name string) (bool, error) {
	f, err := d.root.Open(name)
	if err != nil {
		return false, err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, &reader{ctx, f}); err != nil {
		return false, err
	}
	return hex.EncodeToString(sum.Sum(nil)) == name, nil
}

// each calls f for every file.
func (d *Depot) each(f func(info fs.FileInfo) error) error {
	entries, err := fs.ReadDir(d.root.FS(), ".")
	if err != nil {
		return fmt.Errorf("couldn't look at the firmware depot: %w", err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // what was being added has got its name, or none
		}
		if err != nil {
			return fmt.Errorf("couldn't look at the firmware depot: %w", err)
		}
		if !info.Mode().IsRegular() {
			continue
		}
		if err := f(info); err != nil {
			return err
		}
	}
	return nil
}

// sync makes names durable.
func (d *Depot) sync() error {
	f, err := d.root.Open(".")
	if err != nil {
		return fmt.Errorf("couldn't sync the firmware depot: %w", err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("couldn't sync the firmware depot: %w", err)
	}
	return nil
}

// sink writes a file and learns what it is; it ends with ctx.
type sink struct {
	ctx                    context.Context
	to                     io.Writer
	left, size             int64
	sha256, sha512, md5sum hash.Hash
}

func newSink(ctx context.Context, to io.Writer, limit int64) *sink {
	return &sink{ctx: ctx, to: to, left: limit, sha256: sha256.New(), sha512: sha512.New(), md5sum: md5.New()} //nolint:gosec // see the import
}

func (s *sink) Write(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	if int64(len(p)) > s.left {
		return 0, ErrSize
	}
	n, err := s.to.Write(p)
	for _, h := range []hash.Hash{s.sha256, s.sha512, s.md5sum} {
		_, _ = h.Write(p[:n]) // a hash takes everything
	}
	s.left -= int64(n)
	s.size += int64(n)
	return n, err
}

func (s *sink) image() Image {
	return Image{SHA256: hex.EncodeToString(s.sha256.Sum(nil)), SHA512: hex.EncodeToString(s.sha512.Sum(nil)), MD5: hex.EncodeToString(s.md5sum.Sum(nil)), Size: s.size}
}

// reader ends with ctx.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
