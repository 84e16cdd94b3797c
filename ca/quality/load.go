package quality

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// minPrefix is the fewest hex digits of a SHA-256 that name one key: 64 bits,
// which no honest key meets by chance.
const minPrefix = 16

// maxLine bounds a line of a text list.
const maxLine = 1 << 10

// Load reads every block list in a directory:
//
//	keys-blocked*.txt  a line per key: 16 to 64 hex digits, the SHA-256 of its
//	                   SubjectPublicKeyInfo or the beginning of it
//	                   (openssl pkey -pubin -outform der | sha256sum)
//	blacklist.RSA-*    the files of Debian's openssl-blacklist (CVE-2008-0166)
//	blocklist.dat      badkeys' list, with Debian's and many other keys; also
//	                   keys-blocked*.dat
//
// In text, blank lines and what follows # don't count. A directory without
// lists, or no directory, gives an empty list. Anything that can't be read as
// its kind is an error with file and line: half a list would be worse than none.
func Load(dir string) (*Blocklist, error) {
	b := &Blocklist{prefixes: map[int]map[string]string{}, debian: map[debianHash]string{}}
	for _, kind := range []struct {
		pattern string
		keeps   bool // the file open
		read    func(*os.File, string) error
	}{
		{"keys-blocked*.txt", false, b.addPrefixes},
		{"blacklist.RSA-*", false, b.addDebian},
		{"keys-blocked*.dat", true, b.addSorted},
		{"blocklist.dat", true, b.addSorted},
	} {
		files, err := filepath.Glob(filepath.Join(escapeGlob(dir), kind.pattern))
		if err != nil {
			return nil, errors.Join(err, b.Close())
		}
		for _, path := range files {
			if err := readList(path, kind.keeps, kind.read); err != nil {
				return nil, errors.Join(fmt.Errorf("couldn't read the block list %s: %w", path, err), b.Close())
			}
		}
	}
	return b, nil
}

func escapeGlob(dir string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}

func readList(path string, keeps bool, read func(*os.File, string) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	err = read(file, filepath.Base(path))
	if err != nil || !keeps {
		file.Close()
	}
	return err
}

// readLines gives each line's text to add, without comments and space.
func readLines(r io.Reader, add func(string) error) error {
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, maxLine)
	number := 1
	for ; scanner.Scan(); number++ {
		line, _, _ := strings.Cut(scanner.Text(), "#")
		line = strings.ToLower(strings.TrimSpace(line))
		if line == "" {
			continue
		}
		if err := add(line); err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
	}
	if err := scanner.Err(); err != nil {
		return fmt.Errorf("line %d: %w", number, err)
	}
	return nil
}

func (b *Blocklist) addPrefixes(file *os.File, name string) error {
	return readLines(file, func(line string) error {
		if len(line) < minPrefix || len(line) > 64 || strings.Trim(line, "0123456789abcdef") != "" {
			return fmt.Errorf("it isn't %d to 64 hex digits", minPrefix)
		}
		if b.prefixes[len(line)] == nil {
			b.prefixes[len(line)] = map[string]string{}
		}
		b.prefixes[len(line)][line] = name
		return nil
	})
}

func (b *Blocklist) addDebian(file *os.File, name string) error {
	return readLines(file, func(line string) error {
		raw, err := hex.DecodeString(line)
		if err != nil || len(raw) != len(debianHash{}) {
			return fmt.Errorf("it isn't %d hex digits", 2*len(debianHash{}))
		}
		b.debian[debianHash(raw)] = name
		return nil
	})
}

func (b *Blocklist) addSorted(file *os.File, name string) error {
	list := &sortedList{name: name, file: file}
	if err := list.inspect(bufio.NewReaderSize(file, 1<<20)); err != nil {
		return err
	}
	b.sorted = append(b.sorted, list)
	return nil
}
