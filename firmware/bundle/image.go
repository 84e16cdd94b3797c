package bundle

import (
	"context"
	"crypto/md5" //nolint:gosec // the only checksum PublishFirmware carries
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"sync"
)

// Image is what is known of a file of firmware after one look through it.
type Image struct {
	Size   uint64
	SHA256 [sha256.Size]byte
	SHA512 []byte // nil: wasn't asked for
	MD5    []byte
}

// Wanted are the digests to work out beside SHA-256. Each costs about twice as much
// as that.
type Wanted struct{ SHA512, MD5 bool }

// chunk is what is read at once, and all of an image that is in memory.
const chunk = 1 << 20

// Measure streams an image once. progress, which may be nil, is told the bytes
// done and all of them.
func Measure(ctx context.Context, path string, want Wanted, progress func(done, all int64)) (Image, error) {
	f, err := os.Open(path)
	if err != nil {
		return Image{}, fmt.Errorf("couldn't read the image: %w", err)
	}
	defer f.Close()
	before, err := f.Stat()
	switch {
	case err != nil:
		return Image{}, fmt.Errorf("couldn't read the image: %w", err)
	case !before.Mode().IsRegular():
		return Image{}, fmt.Errorf("image %s isn't a regular file", path)
	case before.Size() == 0:
		return Image{}, fmt.Errorf("image %s is empty", path)
	}
	sums := []hash.Hash{sha256.New()}
	var image Image
	add := func(wanted bool, h hash.Hash, to *[]byte) func() {
		if !wanted {
			return func() {}
		}
		sums = append(sums, h)
		return func() { *to = h.Sum(nil) }
	}
	take512, takeMD5 := add(want.SHA512, sha512.New(), &image.SHA512), add(want.MD5, md5.New(), &image.MD5)
	if progress == nil {
		progress = func(int64, int64) {}
	}
	done, err := feed(ctx, f, sums, func(n int64) { progress(n, before.Size()) })
	if err != nil {
		return Image{}, fmt.Errorf("couldn't read the image: %w", err)
	}
	// Somebody who writes to it meanwhile would have a mixture signed.
	after, err := f.Stat()
	if err != nil || done != before.Size() || after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime()) {
		return Image{}, errors.Join(fmt.Errorf("image %s changed while it was read", path), err)
	}
	image.Size = uint64(done)
	sums[0].Sum(image.SHA256[:0])
	take512()
	takeMD5()
	return image, nil
}

// feed reads to the end; the digests work beside each other.
func feed(ctx context.Context, r io.Reader, sums []hash.Hash, progress func(done int64)) (int64, error) {
	buffer, done := make([]byte, chunk), int64(0)
	for {
		if err := ctx.Err(); err != nil {
			return done, err
		}
		n, err := io.ReadFull(r, buffer)
		var others sync.WaitGroup
		for _, h := range sums[1:] {
			others.Go(func() { h.Write(buffer[:n]) })
		}
		sums[0].Write(buffer[:n])
		others.Wait()
		done += int64(n)
		progress(done)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return done, nil
		case err != nil:
			return done, err
		}
	}
}

// Wanted are the digests an image has to be measured with to be checked.
func (b *Bundle) Wanted() Wanted {
	if b.Release == nil {
		return Wanted{}
	}
	return Wanted{SHA512: b.Release.SHA512 != "", MD5: b.Release.MD5 != ""}
}
