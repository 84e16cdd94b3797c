package quality

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha1" // the format of Debian's lists; it protects nothing
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"

	"github.com/cloudflare/circl/sign/ed448"
)

// Blocklist is the operator's set of keys that must not be certified. A nil
// list blocks nothing. Its methods are safe for concurrent use until Close.
type Blocklist struct {
	// prefixes of the hex SHA-256 of SubjectPublicKeyInfos, by their length.
	prefixes map[int]map[string]string
	debian   map[debianHash]string
	sorted   []*sortedList
}

// debianHash is what openssl-blacklist prints of a key: the last 10 bytes of
// the SHA-1 of the line that `openssl rsa -modulus` prints.
type debianHash [sha1.Size - 10]byte

// recordSize and hashSize are those of badkeys' blocklist.dat: sorted records
// of the first 120 bits of the SHA-256 of one number of the key (RSA: modulus,
// ECDSA: x), and the number of a list.
const (
	recordSize = 16
	hashSize   = 15
)

// sortedList is a list too large to keep in memory.
type sortedList struct {
	name    string
	file    *os.File
	records int
}

// fingerprints are what the lists know a key by.
type fingerprints struct {
	spki   string // lower-case hex SHA-256 of the SubjectPublicKeyInfo
	debian debianHash
	isRSA  bool
	number [hashSize]byte // badkeys' hash
}

// fingerprint is of a key and its SubjectPublicKeyInfo.
func fingerprint(public crypto.PublicKey, spki []byte) fingerprints {
	var prints fingerprints
	sum := sha256.Sum256(spki)
	prints.spki = hex.EncodeToString(sum[:])
	var number []byte
	switch key := public.(type) {
	case *rsa.PublicKey:
		number = key.N.Bytes()
		prints.isRSA = true
		line := sha1.Sum(fmt.Appendf(nil, "Modulus=%X\n", number))
		copy(prints.debian[:], line[10:])
	case *ecdsa.PublicKey:
		number = bytes.TrimLeft(firstCoordinate(key, spki), "\x00")
	case ed448.PublicKey:
		number = key
	}
	sum = sha256.Sum256(number)
	copy(prints.number[:], sum[:])
	return prints
}

// find returns the name of the list that holds the key, "" if none does.
func (b *Blocklist) find(key fingerprints) (string, error) {
	if b == nil {
		return "", nil
	}
	for length, set := range b.prefixes {
		if name, found := set[key.spki[:length]]; found {
			return name, nil
		}
	}
	if key.isRSA {
		if name, found := b.debian[key.debian]; found {
			return name, nil
		}
	}
	for _, list := range b.sorted {
		found, err := list.holds(key.number)
		if err != nil {
			return "", err
		}
		if found {
			return list.name, nil
		}
	}
	return "", nil
}

// Len is the number of entries.
func (b *Blocklist) Len() int {
	if b == nil {
		return 0
	}
	total := len(b.debian)
	for _, set := range b.prefixes {
		total += len(set)
	}
	for _, list := range b.sorted {
		total += list.records
	}
	return total
}

// Close closes the files of large lists. The list must not be used after it.
func (b *Blocklist) Close() error {
	if b == nil {
		return nil
	}
	var all error
	for _, list := range b.sorted {
		all = errors.Join(all, list.file.Close())
	}
	return all
}

func (l *sortedList) holds(hash [hashSize]byte) (bool, error) {
	var failed error
	var record [recordSize]byte
	_, found := sort.Find(l.records, func(i int) int {
		if failed != nil {
			return 0
		}
		if _, err := l.file.ReadAt(record[:], int64(i)*recordSize); err != nil {
			failed = fmt.Errorf("couldn't read the block list %s: %w", l.name, err)
			return 0
		}
		return bytes.Compare(hash[:], record[:hashSize])
	})
	return found && failed == nil, failed
}

// inspect checks size and order once: a search in a damaged list would find
// nothing and say nothing.
func (l *sortedList) inspect(r io.Reader) error {
	var last, record [recordSize]byte
	for {
		_, err := io.ReadFull(r, record[:])
		switch {
		case errors.Is(err, io.EOF):
			if l.records == 0 {
				return errors.New("it is empty")
			}
			return nil
		case errors.Is(err, io.ErrUnexpectedEOF):
			return fmt.Errorf("it isn't made of records of %d bytes", recordSize)
		case err != nil:
			return err
		}
		if l.records > 0 && bytes.Compare(last[:hashSize], record[:hashSize]) > 0 {
			return fmt.Errorf("record %d isn't in order", l.records+1)
		}
		last = record
		l.records++
	}
}
