package bundle

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"time"
)

// FolderMetadata is where a delivery has the manufacturer's metadata.
const FolderMetadata = "metadata"

const (
	// maxEntries and maxPapers bound a delivery beside its image.
	maxEntries = 64 + 256
	maxPapers  = 128 << 20
)

// entryForm: flat, or one of the metadata; nothing that leads anywhere.
var entryForm = regexp.MustCompile(`^(metadata/)?[A-Za-z0-9][A-Za-z0-9._-]{0,89}$`)

// Archive is a delivery: a release's files and its image in one tar, opened without
// writing any of it anywhere.
type Archive struct {
	file    *os.File
	entries map[string]span
}

// span is where an entry's bytes are.
type span struct{ at, size int64 }

// OpenArchive reads where everything is. It takes plain files of ustar alone: no
// links, devices, folders, sparse files or extensions; no name that isn't a file's
// own, none twice; and nothing behind the end. maxImage bounds the largest file.
func OpenArchive(path string, maxImage int64) (*Archive, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("couldn't open the delivery: %w", err)
	}
	a := &Archive{file: f, entries: map[string]span{}}
	if err := a.index(maxImage); err != nil {
		return nil, errors.Join(fmt.Errorf("couldn't read the delivery %s: %w", path, err), f.Close())
	}
	return a, nil
}

func (a *Archive) index(maxImage int64) error {
	info, err := a.file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("it isn't a regular file")
	}
	r, sum, largest := tar.NewReader(a.file), int64(0), int64(0)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("it isn't a whole tar: %w", err)
		}
		switch _, twice := a.entries[h.Name]; {
		case h.Typeflag != tar.TypeReg || h.Linkname != "":
			return fmt.Errorf("%.120q isn't a plain file", h.Name)
		case h.Format != tar.FormatUSTAR || len(h.PAXRecords) > 0:
			return fmt.Errorf("%.120q isn't an entry in ustar's own form", h.Name)
		case !entryForm.MatchString(h.Name):
			return fmt.Errorf("%.120q isn't the name of a delivery's file", h.Name)
		case twice:
			return fmt.Errorf("%s stands there twice", h.Name)
		case len(a.entries) == maxEntries:
			return fmt.Errorf("it has more than %d files", maxEntries)
		}
		at, err := a.file.Seek(0, io.SeekCurrent) // headers are read to their end, and no further
		if err != nil {
			return err
		}
		a.entries[h.Name] = span{at, h.Size}
		sum, largest = sum+h.Size, max(largest, h.Size)
		if largest > maxImage || sum-largest > maxPapers {
			return fmt.Errorf("it is too large: an image has at most %d bytes, all the rest %d", maxImage, maxPapers)
		}
	}
	// The end is two empty blocks; a writer may fill its last record with more.
	end, err := a.file.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	if info.Size()-end > 10<<10 {
		return errors.New("there is something behind its end")
	}
	rest, err := io.ReadAll(io.NewSectionReader(a.file, end, info.Size()-end))
	if err != nil {
		return err
	}
	if slices.ContainsFunc(rest, func(b byte) bool { return b != 0 }) {
		return errors.New("there is something behind its end")
	}
	return nil
}

// Close closes it.
func (a *Archive) Close() error { return a.file.Close() }

// Names are those of all files.
func (a *Archive) Names() []string {
	names := make([]string, 0, len(a.entries))
	for name := range a.entries {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Size of a file.
func (a *Archive) Size(name string) (int64, error) {
	e, ok := a.entries[name]
	if !ok {
		return 0, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	return e.size, nil
}

// Reader streams a file.
func (a *Archive) Reader(name string) (io.Reader, error) {
	e, ok := a.entries[name]
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	return io.NewSectionReader(a.file, e.at, e.size), nil
}

// Read reads a file whole; one that is larger than what is read whole isn't.
func (a *Archive) Read(name string) ([]byte, error) {
	r, err := a.Reader(name)
	if err != nil {
		return nil, err
	}
	if size := a.entries[name].size; size > maxFile {
		return nil, fmt.Errorf("%s has more than %d bytes", name, maxFile)
	}
	text, err := io.ReadAll(r)
	if err == nil && int64(len(text)) != a.entries[name].size {
		err = errors.New("the delivery was cut while it was read")
	}
	return text, err
}

// WriteArchive writes a delivery: the files under their names, sorted, and the same
// bytes each time.
func WriteArchive(w io.Writer, files map[string]func() (io.ReadCloser, int64, error)) error {
	t := tar.NewWriter(w)
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := writeEntry(t, name, files[name]); err != nil {
			return fmt.Errorf("couldn't write %s of the delivery: %w", name, err)
		}
	}
	if err := t.Close(); err != nil {
		return fmt.Errorf("couldn't write the delivery: %w", err)
	}
	return nil
}

func writeEntry(t *tar.Writer, name string, open func() (io.ReadCloser, int64, error)) error {
	if !entryForm.MatchString(name) {
		return errors.New("that isn't the name of a delivery's file")
	}
	r, size, err := open()
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }() // it was only read
	if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}); err != nil {
		return err
	}
	n, err := io.Copy(t, r)
	if err == nil && n != size {
		err = errors.New("it changed while it was read")
	}
	return err
}
