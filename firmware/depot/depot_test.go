package depot_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bollard/firmware/depot"
)

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func open(t testing.TB, cfg depot.Config) *depot.Depot {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = filepath.Join(t.TempDir(), "firmware")
	}
	d, err := depot.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func from(b []byte) func(io.Writer) error {
	return func(w io.Writer) error { _, err := w.Write(b); return err }
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// What isn't the file that was named is kept by nobody, whatever is wrong with it.
func TestOnlyTheNamedFileIsKept(t *testing.T) {
	t.Parallel()
	image := bytes.Repeat([]byte("firmware"), 100)
	good := depot.Image{SHA256: sum(image), Size: int64(len(image))}
	broken := errors.New("the line was cut")
	for name, tt := range map[string]struct {
		want depot.Image
		fill func(io.Writer) error
		err  error
	}{
		"it":             {good, from(image), nil},
		"nothing named":  {depot.Image{}, from(image), nil},
		"other bytes":    {good, from(bytes.Replace(image, []byte("f"), []byte("F"), 1)), depot.ErrDigest},
		"cut":            {good, from(image[:799]), depot.ErrDigest},
		"longer":         {good, from(append(bytes.Clone(image), 'x')), depot.ErrSize},
		"another length": {depot.Image{SHA256: good.SHA256, Size: 801}, from(image), depot.ErrDigest},
		"too long":       {depot.Image{}, from(make([]byte, 1001)), depot.ErrSize},
		"says too long":  {depot.Image{Size: 1001}, from(image), depot.ErrSize},
		"another sha512": {depot.Image{SHA512: strings.Repeat("0", 128)}, from(image), depot.ErrDigest},
		"another md5":    {depot.Image{MD5: strings.Repeat("0", 32)}, from(image), depot.ErrDigest},
		"broken off":     {good, func(w io.Writer) error { _, _ = w.Write(image); return broken }, broken},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "depot")
			d := open(t, depot.Config{Dir: dir, MaxBytes: 1000})
			got, err := d.Add(t.Context(), tt.want, tt.fill)
			if !errors.Is(err, tt.err) {
				t.Fatalf("%v, want %v", err, tt.err)
			}
			if tt.err != nil {
				if left := files(t, dir); len(left) != 0 {
					t.Errorf("left behind: %v", left)
				}
				return
			}
			if got.SHA256 != good.SHA256 || got.Size != good.Size {
				t.Errorf("%+v", got)
			}
			if left := files(t, dir); len(left) != 1 || filepath.Base(left[0]) != good.SHA256 {
				t.Errorf("files %v", left)
			}
			if info, err := os.Stat(filepath.Join(dir, good.SHA256)); err != nil || info.Mode().Perm() != 0o400 {
				t.Errorf("mode %v, %v", info, err)
			}
			f, size, err := d.Open(good.SHA256)
			if err != nil || size != good.Size {
				t.Fatal(size, err)
			}
			defer f.Close()
			if text, err := io.ReadAll(f); err != nil || !bytes.Equal(text, image) {
				t.Errorf("%d bytes, %v", len(text), err)
			}
			if _, err := d.Add(t.Context(), good, from(image)); err != nil {
				t.Errorf("a second time: %v", err)
			}
		})
	}
}

// A digest is looked up, never a path.
func TestNameIsADigest(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := open(t, depot.Config{Dir: filepath.Join(dir, "depot")})
	for _, name := range []string{"", "../secret", "..", ".", strings.Repeat("a", 63), strings.Repeat("A", 64), strings.Repeat("a", 64), "/etc/passwd"} {
		if _, err := d.Has(name); !errors.Is(err, depot.ErrUnknown) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := d.Add(t.Context(), depot.Image{SHA256: "../secret"}, from(nil)); err == nil {
		t.Error("a path was taken for a digest")
	}
}

func TestDepotIsBounded(t *testing.T) {
	t.Parallel()
	d := open(t, depot.Config{MaxBytes: 1000, MaxTotal: 1500})
	if _, err := d.Add(t.Context(), depot.Image{}, from(make([]byte, 1000))); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Add(t.Context(), depot.Image{}, from(make([]byte, 501))); !errors.Is(err, depot.ErrSize) {
		t.Errorf("no room: %v", err)
	}
	if _, err := d.Add(t.Context(), depot.Image{}, from(make([]byte, 500))); err != nil {
		t.Errorf("the last room: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Add(ctx, depot.Image{}, from([]byte("x"))); !errors.Is(err, context.Canceled) {
		t.Errorf("after its end: %v", err)
	}
}

// What is half there after a crash is removed, what is whole stays; a file that
// changed on the disk is found and given to nobody.
func TestDepotOverTime(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "depot")
	d := open(t, depot.Config{Dir: dir})
	for _, text := range []string{"first", "second"} {
		if _, err := d.Add(t.Context(), depot.Image{}, from([]byte(text))); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "half.part"), []byte("fi"), 0o600); err != nil {
		t.Fatal(err)
	}
	d = open(t, depot.Config{Dir: dir})
	if left := files(t, dir); len(left) != 2 {
		t.Errorf("files %v", left)
	}
	now := time.Now()
	check := func(since time.Time) []string {
		t.Helper()
		bad, err := d.Check(t.Context(), since, now)
		if err != nil {
			t.Fatal(err)
		}
		return bad
	}
	if bad := check(now.Add(time.Hour)); len(bad) != 0 {
		t.Fatalf("sound: %v", bad)
	}
	rotten := filepath.Join(dir, sum([]byte("first")))
	if err := os.Chmod(rotten, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(rotten, []byte("fIrst"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(rotten, now, now); err != nil { // it was read at the last check
		t.Fatal(err)
	}
	if bad := check(now); len(bad) != 0 {
		t.Errorf("read again too soon: %v", bad)
	}
	now = now.Add(time.Hour)
	if bad := check(now); len(bad) != 1 || bad[0] != sum([]byte("first")) {
		t.Errorf("%v", bad)
	}
	for range 2 { // a restart forgets nothing
		if _, err := d.Has(sum([]byte("first"))); !errors.Is(err, depot.ErrUnknown) || !strings.Contains(err.Error(), "changed on the disk") {
			t.Errorf("the changed one: %v", err)
		}
		if _, err := d.Has(sum([]byte("second"))); err != nil {
			t.Errorf("the other one: %v", err)
		}
		if bad := check(now); len(bad) != 0 {
			t.Errorf("told twice: %v", bad)
		}
		d = open(t, depot.Config{Dir: dir})
	}
	if _, err := d.Add(t.Context(), depot.Image{}, from([]byte("first"))); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(rotten); err != nil || string(text) != "first" {
		t.Errorf("taken in anew: %q, %v", text, err)
	}
	if _, err := d.Has(sum([]byte("first"))); err != nil {
		t.Errorf("taken in anew: %v", err)
	}
	if left := files(t, dir); len(left) != 2 {
		t.Errorf("files %v", left)
	}
	if bad := check(now.Add(time.Hour)); len(bad) != 0 {
		t.Errorf("taken in anew: %v", bad)
	}
}

// Images are added beside each other, and all together keep to the bound: what is on
// its way counts as much as it may become.
func TestRoomIsClaimed(t *testing.T) {
	t.Parallel()
	d := open(t, depot.Config{MaxBytes: 1000, MaxTotal: 1500})
	_, err := d.Add(t.Context(), depot.Image{Size: 1000}, func(w io.Writer) error {
		if _, err := d.Add(t.Context(), depot.Image{Size: 501}, from(make([]byte, 501))); !errors.Is(err, depot.ErrSize) {
			t.Errorf("no room beside it: %v", err)
		}
		if _, err := d.Add(t.Context(), depot.Image{Size: 500}, from(make([]byte, 500))); err != nil {
			t.Errorf("the last room beside it: %v", err)
		}
		return errors.New("cut")
	})
	if err == nil {
		t.Fatal("it was kept")
	}
	if _, err := d.Add(t.Context(), depot.Image{Size: 1000}, from(bytes.Repeat([]byte{1}, 1000))); err != nil {
		t.Errorf("after it broke off: %v", err)
	}
}

// once does something at the first look at whether it ended.
type once struct {
	context.Context
	do func()
}

func (o *once) Err() error {
	if do := o.do; do != nil {
		o.do = nil
		do()
	}
	return o.Context.Err()
}

// An image that is taken in anew while the one before is found to have changed is kept.
func TestTakenInWhileItIsChecked(t *testing.T) { // promise 10
	t.Parallel()
	dir := t.TempDir()
	d := open(t, depot.Config{Dir: dir})
	image := []byte("firmware")
	if err := os.WriteFile(filepath.Join(dir, sum(image)), []byte("firmwarE"), 0o600); err != nil {
		t.Fatal(err)
	}
	now := time.Now().Add(time.Minute)
	bad, err := d.Check(&once{t.Context(), func() {
		if _, err := d.Add(t.Context(), depot.Image{}, from(image)); err != nil {
			t.Fatal(err)
		}
	}}, now, now)
	if err != nil || len(bad) > 0 {
		t.Errorf("%v, %v", bad, err)
	}
	if _, err := d.Has(sum(image)); err != nil {
		t.Error(err)
	}
}
