package quality_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bollard/ca/quality"
)

func write(t testing.TB, dir, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func load(t testing.TB, dir string) *quality.Blocklist {
	t.Helper()
	list, err := quality.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { list.Close() })
	return list
}

// badkeys builds a blocklist.dat: the first 120 bits of the SHA-256 of each
// number, the list's id, sorted.
func badkeys(numbers ...[]byte) []byte {
	var records [][]byte
	for _, number := range numbers {
		sum := sha256.Sum256(number)
		records = append(records, append(sum[:15:15], 7))
	}
	slices.SortFunc(records, bytes.Compare)
	return bytes.Join(records, nil)
}

// CVE-2008-0166, with keys the broken generator really made: they show no
// weakness of their own, and each kind of list finds them.
func TestDebianKeys(t *testing.T) {
	t.Parallel()
	for name, tail := range map[string]string{"debian-1": "8df20e6961a16398b85a", "debian-2": "d718b7f75eb7ead9492dfd921fc4f9"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key := rsaKey(modulus(t, name))
			if err := quality.Check(key, quality.Policy{}); err != nil {
				t.Fatalf("without a list: %v", err)
			}
			dir := t.TempDir()
			// The tail that openssl-blacklist prints: 20 digits.
			write(t, dir, "blacklist.RSA-2048", []byte("# CVE-2008-0166\n00000000000000000000\n"+tail[len(tail)-20:]+"\n"))
			err := quality.Check(key, quality.Policy{Blocked: load(t, dir)})
			if reason(t, err) != quality.Blocked || !strings.Contains(err.Error(), "blacklist.RSA-2048") {
				t.Errorf("openssl-blacklist: %v", err)
			}
			if err := quality.Check(goodRSA(), quality.Policy{Blocked: load(t, dir)}); err != nil {
				t.Errorf("another key: %v", err)
			}
			dir = t.TempDir()
			write(t, dir, "blocklist.dat", badkeys([]byte("x"), key.N.Bytes(), []byte("y"), []byte("z")))
			if got := reason(t, quality.Check(key, quality.Policy{Blocked: load(t, dir)})); got != quality.Blocked {
				t.Errorf("badkeys: %q", got)
			}
		})
	}
}

func TestBlockedBySPKI(t *testing.T) {
	t.Parallel()
	keys := []crypto.PublicKey{goodRSA(), ecKey(t, elliptic.P256()), ecKey(t, elliptic.P521())}
	free := ecKey(t, elliptic.P256())
	for _, digits := range []int{16, 30, 64} {
		dir := t.TempDir()
		text := "\n# stolen on Tuesday\n\n"
		for i, key := range keys {
			sum := sha256.Sum256(spki(t, key))
			line := hex.EncodeToString(sum[:])[:digits]
			if i == 0 {
				line = "  " + strings.ToUpper(line) + "\t# CS-1\r"
			}
			text += line + "\n"
		}
		write(t, dir, "keys-blocked-2026.txt", []byte(text))
		list := load(t, dir)
		if list.Len() != len(keys) {
			t.Errorf("%d entries, want %d", list.Len(), len(keys))
		}
		for _, key := range keys {
			if got := reason(t, quality.Check(key, quality.Policy{Blocked: list})); got != quality.Blocked {
				t.Errorf("%d digits, %T: %q", digits, key, got)
			}
		}
		if err := quality.Check(free, quality.Policy{Blocked: list}); err != nil {
			t.Errorf("%d digits: a key on no list: %v", digits, err)
		}
	}
}

// Each record of a sorted list is found, the first and the last too; ECDSA
// keys by x, without leading zeros.
func TestSortedList(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var numbers [][]byte
	var keys []*ecdsa.PublicKey
	for range 33 {
		key := ecKey(t, elliptic.P521())
		keys = append(keys, key)
		x, _ := coordinates(t, key)
		numbers = append(numbers, x.Bytes())
	}
	write(t, dir, "keys-blocked-big.dat", badkeys(numbers...))
	list := load(t, dir)
	for i, key := range keys {
		if got := reason(t, quality.Check(key, quality.Policy{Blocked: list})); got != quality.Blocked {
			t.Errorf("key %d: %q", i, got)
		}
	}
	if err := quality.Check(ecKey(t, elliptic.P521()), quality.Policy{Blocked: list}); err != nil {
		t.Error(err)
	}
	if err := list.Close(); err != nil {
		t.Fatal(err)
	}
	// A list that can't be read any more refuses, and says why.
	err := quality.Check(keys[0], quality.Policy{Blocked: list})
	if err == nil || !strings.Contains(err.Error(), "couldn't") {
		t.Errorf("closed list: %v", err)
	}
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	sorted := badkeys([]byte("a"), []byte("b"))
	for _, tt := range []struct {
		name, file string
		content    []byte
		want       string
	}{
		{"short prefix", "keys-blocked.txt", []byte("\n0123456789abcde\n"), "line 2"},
		{"long prefix", "keys-blocked.txt", []byte(strings.Repeat("a", 65)), "line 1"},
		{"no hex", "keys-blocked.txt", []byte("0123456789abcdeg"), "hex digits"},
		{"endless line", "keys-blocked.txt", append([]byte("#\n"), bytes.Repeat([]byte("a"), 4096)...), "line 2: bufio"},
		{"Debian's with 40 digits", "blacklist.RSA-2048", []byte(strings.Repeat("a", 40)), "20 hex digits"},
		{"Debian's without hex", "blacklist.RSA-2048", []byte(strings.Repeat("x", 20)), "20 hex digits"},
		{"records cut off", "blocklist.dat", sorted[:31], "records of 16 bytes"},
		{"no records", "blocklist.dat", nil, "empty"},
		{"out of order", "keys-blocked.dat", append(sorted[16:32:32], sorted[:16]...), "record 2"},
		{"a directory", "keys-blocked-x.txt/y", nil, "keys-blocked-x.txt"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if strings.Contains(tt.file, "/") {
				if err := os.Mkdir(filepath.Join(dir, filepath.Dir(tt.file)), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			write(t, dir, tt.file, tt.content)
			_, err := quality.Load(dir)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("got %v, want %q and the path", err, tt.want)
			}
		})
	}
}

func TestLoadNothing(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{t.TempDir(), filepath.Join(t.TempDir(), "absent")} {
		list := load(t, dir)
		if list.Len() != 0 {
			t.Errorf("%d entries in no list", list.Len())
		}
	}
	var none *quality.Blocklist
	if none.Len() != 0 || none.Close() != nil {
		t.Error("no list isn't empty")
	}
	// A directory whose name looks like a pattern.
	dir := filepath.Join(t.TempDir(), "[a]*")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "keys-blocked.txt", []byte("0123456789abcdef"))
	if load(t, dir).Len() != 1 {
		t.Error("list not found")
	}
}

// The built-in list holds what its sources print, and nothing else.
func TestPublishedKeys(t *testing.T) {
	t.Parallel()
	scalar := func(curve elliptic.Curve, d string) *ecdsa.PublicKey {
		raw, err := hex.DecodeString(d)
		if err != nil {
			t.Fatal(err)
		}
		key, err := ecdsa.ParseRawPrivateKey(curve, raw)
		if err != nil {
			t.Fatal(err)
		}
		return &key.PublicKey
	}
	parsed := func(name string) crypto.PublicKey {
		key, err := x509.ParsePKIXPublicKey(publicPEM(t, name))
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	list := quality.PublishedKeys()
	for source, key := range map[string]crypto.PublicKey{
		"RFC 9500 §2.1":  parsed("rfc9500-rsa2048.pem"),
		"Go's net/http":  parsed("go-testcert.pem"),
		"RFC 9500 §2.3":  scalar(elliptic.P256(), "e6cb5bdd80aa45ae9c95e8c15476679ffec953c16851e711e743939589c64fc1"),
		"RFC 6979 A.2.4": scalar(elliptic.P224(), "f220266e1105bfe3083e03ec7a3a654651f45e37167e88600bf257c1"),
		"RFC 6979 A.2.5": scalar(elliptic.P256(), "c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721"),
		"RFC 6979 A.2.6": scalar(elliptic.P384(), "6b9d3dad2e1b8c1c05b19875b6659f4de23c3b667bf297ba9aa47740787137d896d5724e4c70a825f872c9ea60d2edf5"),
		"RFC 6979 A.2.7": scalar(elliptic.P521(), "00fad06daa62ba3b25d2fb40133da757205de67f5bb0018fee8c86e1b68c7e75caa896eb32f1f47c70855836a6d16fcc1466f6d8fbec67db89ec0c08b0e996b83538"),
	} {
		err := quality.Check(key, quality.Policy{P224: true})
		if reason(t, err) != quality.Published || !strings.Contains(err.Error(), source) {
			t.Errorf("%s: %v", source, err)
		}
		sum := sha256.Sum256(spki(t, key))
		delete(list, hex.EncodeToString(sum[:]))
	}
	if len(list) != 0 {
		t.Errorf("entries no source was found for: %v", list)
	}
}

// No list text panics, and every line that counts is seen once.
func FuzzList(f *testing.F) {
	f.Add("0123456789abcdef # x\n\n#y\r\n")
	f.Add("\xff\x00")
	f.Fuzz(func(t *testing.T, text string) {
		var got []string
		err := quality.ReadLines(strings.NewReader(text), func(line string) error {
			got = append(got, line)
			return nil
		})
		for _, line := range got {
			if line == "" || strings.ContainsAny(line, "#\n") || line != strings.TrimSpace(line) {
				t.Fatalf("line %q", line)
			}
		}
		if err == nil && len(got) == 0 && !strings.Contains(text, "#") && strings.TrimSpace(text) != "" {
			t.Fatal("text was lost")
		}
	})
}
