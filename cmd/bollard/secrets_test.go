package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bollard/fleet"
)

func TestSealer(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), sealName)
	if err := createSealer(path); err != nil {
		t.Fatal(err)
	}
	if err := createSealer(path); err == nil {
		t.Error("the key was overwritten")
	}
	s, err := openSealer(path)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := s.Seal("upstream:cs-1", []byte("canary-secret"))
	if err != nil || bytes.Contains(sealed, []byte("canary")) {
		t.Fatalf("sealed as %q, %v", sealed, err)
	}
	again, err := s.Seal("upstream:cs-1", []byte("canary-secret"))
	if err != nil || bytes.Equal(sealed, again) {
		t.Error("the same secret is sealed the same way twice")
	}
	if got, err := s.Open("upstream:cs-1", sealed); err != nil || string(got) != "canary-secret" {
		t.Errorf("opened %q, %v", got, err)
	}
	if _, err := s.Open("upstream:cs-2", sealed); err == nil {
		t.Error("a value moved to another station opens")
	}
	sealed[len(sealed)-1] ^= 1
	if _, err := s.Open("upstream:cs-1", sealed); err == nil {
		t.Error("a changed value opens")
	}
}

// The key of verdicts is of one seal key, and isn't it.
func TestVerdictKey(t *testing.T) {
	t.Parallel()
	one, other := &sealer{key: bytes.Repeat([]byte{1}, sealKeySize)}, &sealer{key: bytes.Repeat([]byte{2}, sealKeySize)}
	a, err := one.verdictKey()
	if err != nil {
		t.Fatal(err)
	}
	again, err := one.verdictKey()
	if err != nil || !bytes.Equal(a, again) || len(a) != fleet.VerdictKeySize {
		t.Errorf("%x, then %x, %v", a, again, err)
	}
	b, err := other.verdictKey()
	if err != nil || bytes.Equal(a, b) || bytes.Equal(a, one.key) {
		t.Errorf("%x of one seal key, %x of another, %v", a, b, err)
	}
}

func TestOpenSealerRefuses(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		size int
		mode fs.FileMode
		want string
	}{
		"short":             {31, 0o600, "damaged"},
		"long":              {33, 0o600, "damaged"},
		"readable by group": {32, 0o640, "open to other users"},
		"readable by all":   {32, 0o604, "open to other users"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), sealName)
			if err := os.WriteFile(path, make([]byte, tt.size), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, tt.mode); err != nil {
				t.Fatal(err)
			}
			if _, err := openSealer(path); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestSecretLine(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		in, want string
		refused  bool
	}{
		"one line":        {"secret\n", "secret", false},
		"no line end":     {"secret", "secret", false},
		"Windows":         {"secret\r\n", "secret", false},
		"spaces count":    {"  secret ", "  secret ", false},
		"empty":           {"", "", true},
		"only a line end": {"\n", "", true},
		"two lines":       {"secret\nother\n", "", true},
		"longest":         {strings.Repeat("x", maxSecret), strings.Repeat("x", maxSecret), false},
		"too long":        {strings.Repeat("x", maxSecret+1), "", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := secretLine(strings.NewReader(tt.in))
			if (err != nil) != tt.refused || string(got) != tt.want {
				t.Errorf("got %.20q, %v", got, err)
			}
			if err != nil && strings.Contains(err.Error(), "secret\n") {
				t.Errorf("the error repeats it: %v", err)
			}
		})
	}
}

func TestStationPassword(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		in, want string
		refused  bool
	}{
		"plain":         {"correct horse", "correct horse", false},
		"hex":           {"hex:00FFa1", "\x00\xff\xa1", false},
		"hex, odd":      {"hex:00F", "", true},
		"hex, empty":    {"hex:", "", true},
		"hex, not that": {"hex:canary", "", true},
		"HEX is plain":  {"HEX:00", "HEX:00", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := stationPassword([]byte(tt.in))
			if (err != nil) != tt.refused || string(got) != tt.want {
				t.Errorf("got %q, %v", got, err)
			}
			if err != nil && strings.Contains(err.Error(), "canary") {
				t.Errorf("the error repeats it: %v", err)
			}
		})
	}
}
