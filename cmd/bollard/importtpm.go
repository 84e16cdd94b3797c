package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"bollard/admin"
)

// maxTPMFile bounds a file with an endorsement key or its certificate.
const maxTPMFile = 64 << 10

// readTPMs puts the hash of the endorsement key in place of what the column tpm has:
// that, or a file in the import file's folder with the key or its certificate.
func readTPMs(path string, stations []admin.Enrolment) error {
	if !slices.ContainsFunc(stations, func(s admin.Enrolment) bool { return s.EK != "" }) {
		return nil
	}
	folder, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return admin.Usagef("", "couldn't open the import file's folder: %w", err)
	}
	defer folder.Close()
	var faults importFaults
	lines := map[string]int{}
	for i := range stations {
		s := &stations[i]
		if s.EK == "" {
			continue
		}
		hash, err := tpmHash(folder.FS(), s.EK)
		if first, twice := lines[hash]; twice && err == nil {
			err = fmt.Errorf("tpm is that of line %d already: a TPM is in one station", first)
		}
		if err != nil {
			faults.add(s.Line, err.Error())
			continue
		}
		s.EK, lines[hash] = hash, s.Line
	}
	return faults.err(path)
}

// tpmHash is the hash of a cell.
func tpmHash(folder fs.FS, cell string) (string, error) {
	if b, err := hex.DecodeString(cell); err == nil && len(b) == 32 {
		return strings.ToLower(cell), nil
	}
	const hint = "give the SHA-256 of the endorsement key as 64 hex digits, or the name of a file beside the import file"
	f, err := folder.Open(filepath.ToSlash(cell))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("tpm is %.80q, and there is no such file: %s", cell, hint)
		}
		return "", fmt.Errorf("tpm is %.80q, which can't be opened: %s", cell, hint)
	}
	defer func() { _ = f.Close() }() // it was only read
	data, err := io.ReadAll(io.LimitReader(f, maxTPMFile))
	if err != nil {
		return "", fmt.Errorf("couldn't read %.80q: %w", cell, err)
	}
	ek, err := parseEK(cell, data)
	return ek.Hash(), err
}
