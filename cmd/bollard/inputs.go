package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"bollard/admin"
)

// maxInput bounds what is read whole of a file that a command was given.
const maxInput = 4 << 20

// standardInput is how a command names standard input instead of a file.
const standardInput = "-"

// readInput reads a file that a command was given, or standard input for "-". A file that
// isn't there, is none, has nothing in it or more than maxInput bytes is wrong usage.
func (c *cli) readInput(path string) ([]byte, error) {
	if path == standardInput {
		return readWhole("standard input", c.stdin)
	}
	return readFile(path)
}

// readFile is readInput where there is no standard input to read.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	defer f.Close()
	if err := mustBeFile(path, f.Stat); err != nil {
		return nil, err
	}
	return readWhole(path, f)
}

func readWhole(name string, r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxInput+1))
	switch {
	case err != nil:
		return nil, unreadable(name, err)
	case len(data) == 0:
		return nil, admin.Usagef("", "%s is empty", name)
	case len(data) > maxInput:
		return nil, admin.Usagef("", "%s is larger than %d bytes", name, maxInput)
	}
	return data, nil
}

// wantFile looks at a file that a command was given and that others will read, such as one
// too large to be read whole.
func wantFile(path string) error {
	return mustBeFile(path, func() (fs.FileInfo, error) { return os.Stat(path) })
}

func mustBeFile(path string, stat func() (fs.FileInfo, error)) error {
	info, err := stat()
	switch {
	case err != nil:
		return unreadable(path, err)
	case info.IsDir():
		return admin.Usagef("give a file", "%s is a directory", path)
	}
	return nil
}

// unreadable says it of a file: a name with nothing behind it is wrong usage, all else is
// a failure.
func unreadable(name string, err error) error {
	var at *fs.PathError
	if errors.As(err, &at) { // its text has the name a second time
		err = at.Err
	}
	err = fmt.Errorf("couldn't read %s: %w", name, err)
	if errors.Is(err, fs.ErrNotExist) {
		return admin.Usagef("", "%w", err)
	}
	return err
}
