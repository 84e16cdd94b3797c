package config

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// maxBytes bounds bollard.yaml.
const maxBytes = 1 << 20

// Error names the place of a fault.
type Error struct {
	Path string // file
	Line int    // 0: unknown
	Key  string // dotted, such as listen.ocpp[0].address; "" is the whole file
	Text string // what is wrong and what to do
	Err  error  // what lies below, such as fs.ErrNotExist; may be nil
}

// Error returns "bollard.yaml:7: listen.ocpp[0].address: …".
func (e *Error) Error() string {
	place := e.Path
	if e.Line > 0 {
		place = fmt.Sprintf("%s:%d", e.Path, e.Line)
	}
	if e.Key != "" {
		place += ": " + e.Key
	}
	return place + ": " + e.Text
}

func (e *Error) Unwrap() error { return e.Err }

// Load reads, checks and completes a file with defaults; the error is an *Error.
// The files it names, relative to its own folder, must exist, and those with
// secrets must be closed to other users. digest is the file's SHA-256.
func Load(path string) (f *File, digest string, err error) {
	data, err := read(path)
	if err != nil {
		return nil, "", &Error{Path: path, Text: "couldn't read the configuration: " + bare(err), Err: err}
	}
	f, lines, err := parse(path, data)
	if err != nil {
		return nil, "", err
	}
	c := checker{path: path, lines: lines}
	c.files(f, filepath.Dir(path))
	if c.err != nil {
		return nil, "", c.err
	}
	return f, fmt.Sprintf("%x", sha256.Sum256(data)), nil
}

// Parse is Load for bytes already read; path is for errors. It looks at no
// other file.
func Parse(path string, data []byte) (*File, error) {
	f, _, err := parse(path, data)
	return f, err
}

// Fault is an error about a key of a file that was read before: what only its use shows.
// The key's line is that of the file as it is now, 0 if it can't be read any more.
func Fault(path, key, text string) *Error {
	e := &Error{Path: path, Key: key, Text: text}
	if data, err := read(path); err == nil {
		d := decoder{path: path, lines: map[string]int{}}
		if d.document(data, new(File)) == nil {
			e.Line = lineOf(d.lines, key)
		}
	}
	return e
}

func parse(path string, data []byte) (*File, map[string]int, error) {
	d := decoder{path: path, lines: map[string]int{}}
	f := new(File)
	if err := d.document(data, f); err != nil {
		return nil, nil, err
	}
	f.complete()
	c := checker{path: path, lines: d.lines}
	c.file(f)
	if c.err != nil {
		return nil, nil, c.err
	}
	return f, d.lines, nil
}

func read(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close() // nothing was written
	// One byte more than allowed is enough for document to refuse it.
	return io.ReadAll(io.LimitReader(file, maxBytes+1))
}

// bare is an error without the path that stands beside it already.
func bare(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}
