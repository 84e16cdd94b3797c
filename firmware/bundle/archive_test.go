package bundle_test

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bollard/firmware/bundle"
)

func content(text string) func() (io.ReadCloser, int64, error) {
	return func() (io.ReadCloser, int64, error) {
		return io.NopCloser(strings.NewReader(text)), int64(len(text)), nil
	}
}

func keep(t testing.TB, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "delivery.tar")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A delivery is read as it was written, and written the same each time.
func TestArchive(t *testing.T) {
	t.Parallel()
	files := map[string]func() (io.ReadCloser, int64, error){"release.json": content("{}"), "metadata/1.root.json": content("root"), "empty": content("")}
	var first, second bytes.Buffer
	for _, b := range []*bytes.Buffer{&first, &second} {
		if err := bundle.WriteArchive(b, files); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("twice is not the same")
	}
	a, err := bundle.OpenArchive(keep(t, first.Bytes()), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if want := []string{"empty", "metadata/1.root.json", "release.json"}; !slices.Equal(a.Names(), want) {
		t.Errorf("%v", a.Names())
	}
	for name, want := range map[string]string{"release.json": "{}", "metadata/1.root.json": "root", "empty": ""} {
		if text, err := a.Read(name); err != nil || string(text) != want {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
	if _, err := a.Read("image"); err == nil {
		t.Error("there is no image")
	}
	for _, name := range []string{"../x", "/x", "a/b", ".hidden", "metadata/../x", "", strings.Repeat("x", 91)} {
		if err := bundle.WriteArchive(io.Discard, map[string]func() (io.ReadCloser, int64, error){name: content("x")}); err == nil {
			t.Errorf("%q was written", name)
		}
	}
}

// What a tar can do beside holding plain files isn't read.
func TestArchiveRefuses(t *testing.T) {
	t.Parallel()
	entry := func(change func(h *tar.Header)) tar.Header {
		h := tar.Header{Typeflag: tar.TypeReg, Name: "release.json", Size: 2, Mode: 0o644, ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
		change(&h)
		return h
	}
	plain := func(*tar.Header) {}
	named := func(name string) func(h *tar.Header) { return func(h *tar.Header) { h.Name = name } }
	typed := func(flag byte) func(h *tar.Header) {
		return func(h *tar.Header) { h.Typeflag, h.Linkname, h.Size = flag, "/etc/passwd", 0 }
	}
	var many []func(*tar.Header)
	for i := range 400 {
		many = append(many, named("f"+strings.Repeat("x", i%80)+string(rune('a'+i/80))))
	}
	for name, tt := range map[string]struct {
		entries []func(h *tar.Header)
		spoil   func(data []byte) []byte
		text    string
	}{
		"slip":             {[]func(*tar.Header){named("../release.json")}, nil, "isn't the name"},
		"rooted":           {[]func(*tar.Header){named("/release.json")}, nil, "isn't the name"},
		"nested":           {[]func(*tar.Header){named("a/release.json")}, nil, "isn't the name"},
		"deep in metadata": {[]func(*tar.Header){named("metadata/a/x")}, nil, "isn't the name"},
		"symlink":          {[]func(*tar.Header){typed(tar.TypeSymlink)}, nil, "isn't a plain file"},
		"hard link":        {[]func(*tar.Header){typed(tar.TypeLink)}, nil, "isn't a plain file"},
		"device":           {[]func(*tar.Header){typed(tar.TypeChar)}, nil, "isn't a plain file"},
		"folder":           {[]func(*tar.Header){typed(tar.TypeDir)}, nil, "isn't a plain file"},
		"twice":            {[]func(*tar.Header){plain, plain}, nil, "twice"},
		"too many":         {many, nil, "more than"},
		"PAX":              {[]func(*tar.Header){func(h *tar.Header) { h.Format, h.PAXRecords = tar.FormatPAX, map[string]string{"GNU.x": "y"} }}, nil, "ustar"},
		"GNU":              {[]func(*tar.Header){func(h *tar.Header) { h.Format = tar.FormatGNU }}, nil, "ustar"},
		"something behind": {[]func(*tar.Header){plain}, func(d []byte) []byte { return append(d, "more"...) }, "behind its end"},
		"much behind":      {[]func(*tar.Header){plain}, func(d []byte) []byte { return append(d, make([]byte, 20<<10)...) }, "behind its end"},
		"cut":              {[]func(*tar.Header){plain}, func(d []byte) []byte { return d[:513] }, "whole tar"},
		"no tar":           {nil, func([]byte) []byte { return []byte(strings.Repeat("PK\x03\x04", 400)) }, "whole tar"},
		"too large": {[]func(*tar.Header){plain}, func(d []byte) []byte { // a size that isn't there
			copy(d[124:], "77777777777\x00")
			sum := 0
			copy(d[148:156], "        ")
			for _, b := range d[:512] {
				sum += int(b)
			}
			copy(d[148:], octal(sum))
			return d
		}, "too large"},
	} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, change := range tt.entries {
			h := entry(change)
			if err := w.WriteHeader(&h); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if _, err := w.Write(make([]byte, h.Size)); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		data := b.Bytes()
		if tt.spoil != nil {
			data = tt.spoil(data)
		}
		a, err := bundle.OpenArchive(keep(t, data), 1<<20)
		if err == nil {
			_ = a.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func octal(n int) string {
	digits := []byte("000000\x00 ")
	for i := 5; i >= 0; i, n = i-1, n>>3 {
		digits[i] = byte('0' + n&7)
	}
	return string(digits)
}

// FuzzArchive: whatever it is, each file it names lies within it.
func FuzzArchive(f *testing.F) {
	var b bytes.Buffer
	if err := bundle.WriteArchive(&b, map[string]func() (io.ReadCloser, int64, error){"release.json": content("{}"), "metadata/1.root.json": content("root")}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := bundle.OpenArchive(keep(t, data), 1<<20)
		if err != nil {
			return
		}
		defer a.Close()
		for _, name := range a.Names() {
			size, err := a.Size(name)
			if err != nil || size > int64(len(data)) || strings.Contains(name, "..") || strings.HasPrefix(name, "/") {
				t.Fatalf("%q of %d bytes in %d", name, size, len(data))
			}
			if _, err := a.Read(name); err != nil {
				t.Fatal(err)
			}
		}
	})
}
