package backup_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"

	"bollard/backup"
)

var passphrase = []byte("correct horse battery")

// cheap is scrypt's cost in tests.
const cheap = 10

// directory is a data directory with everything that may lie in one.
func directory(t *testing.T) (dir, snapshot string, want map[string]string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "data")
	files := map[string]string{
		"bollard.yaml": "organisation: x\n", "seal.key": strings.Repeat("s", 32), "keys/csms-root.key": "root", "keys/csms-issuing.key": "issuing",
		"server/deep/er/a.key": "tls", "empty": "", "a name with spaces.txt": "ä",
		"chain.part": "an operator's", "keys/firmware/b.part": "theirs, too",
		// What stays out.
		"bollard.db": "live", "bollard.db-wal": "wal", "bollard.db-shm": "shm", "lock": "", "keys/x.key.new-ABC": "draft", "bollard.yaml.new": "draft", "firmware/ABC.part": "draft",
		"snapshot-OLD": "old copy",
	}
	want = map[string]string{"bollard.db": strings.Repeat("database", 50_000)}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if base := filepath.Base(name); !strings.HasPrefix(name, "bollard.db") && name != "lock" && !strings.Contains(base, ".new") && !strings.HasPrefix(name, "firmware/") && !strings.HasPrefix(base, "snapshot-") {
			want[name] = text
		}
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	snapshot = filepath.Join(dir, "snapshot-NEW")
	if err := os.WriteFile(snapshot, []byte(want["bollard.db"]), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, snapshot, want
}

func create(t *testing.T) (string, map[string]string) {
	t.Helper()
	dir, snapshot, want := directory(t)
	to := filepath.Join(t.TempDir(), "a.age")
	if _, err := backup.Create(t.Context(), config(dir, snapshot, to)); err != nil {
		t.Fatal(err)
	}
	return to, want
}

func config(dir, snapshot, to string) backup.CreateConfig {
	return backup.CreateConfig{
		Dir: dir, Database: "bollard.db", Arrivals: []string{"uploads", "firmware"}, Snapshot: snapshot, To: to, Passphrase: passphrase, WorkFactor: cheap,
		Manifest: backup.Manifest{MadeAt: time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC), Version: "v1", Checkpoint: "1:00"},
	}
}

func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	got := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is open to others: %v", path, info.Mode())
		}
		if e.IsDir() {
			return nil
		}
		data, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		got[rel] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func private(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "into")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	file, want := create(t)
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(file)); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
	into := private(t)
	m, err := backup.Unpack(t.Context(), file, passphrase, into)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, contents(t, into)); diff != "" {
		t.Error(diff)
	}
	if m.Checkpoint != "1:00" || m.Version != "v1" || m.Format != backup.Format || len(m.Files) != len(want) {
		t.Errorf("manifest %+v", m)
	}
	if len(m.Missing) != 1 || !strings.Contains(m.Missing[0], "link") {
		t.Errorf("missing: %q", m.Missing)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(raw, []byte("issuing")) || bytes.Contains(raw, passphrase) {
		t.Error("plain text in the file")
	}
}

func TestNothingIsOverwritten(t *testing.T) {
	t.Parallel()
	dir, snapshot, _ := directory(t)
	to := filepath.Join(t.TempDir(), "a.age")
	if err := os.WriteFile(to, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := backup.Create(t.Context(), config(dir, snapshot, to)); !errors.Is(err, backup.ErrExists) {
		t.Errorf("got %v", err)
	}
	// A name that was taken while the file was written.
	late := filepath.Join(t.TempDir(), "b.age")
	cfg := config(dir, snapshot, late)
	backup.BeforeReread(&cfg, func() { _ = os.WriteFile(late, []byte("precious"), 0o600) })
	if _, err := backup.Create(t.Context(), cfg); !errors.Is(err, backup.ErrExists) {
		t.Errorf("late: got %v", err)
	}
	for _, path := range []string{to, late} {
		if data, _ := os.ReadFile(path); string(data) != "precious" {
			t.Errorf("%s was overwritten", path)
		}
		if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
			t.Errorf("left behind: %v", entries)
		}
	}
}

func TestCreateRefuses(t *testing.T) {
	t.Parallel()
	dir, snapshot, _ := directory(t)
	to := filepath.Join(t.TempDir(), "a.age")
	short := config(dir, snapshot, to)
	short.Passphrase = []byte("elevenchars")
	if _, err := backup.Create(t.Context(), short); !errors.Is(err, backup.ErrShort) {
		t.Errorf("short passphrase: %v", err)
	}
	if _, err := backup.Create(t.Context(), config(dir, snapshot+"-none", to)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a snapshot: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := backup.Create(ctx, config(dir, snapshot, to)); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	// What can't be read back gets no name.
	broken := config(dir, snapshot, to)
	backup.BeforeReread(&broken, func() {
		drafts, _ := filepath.Glob(to + ".new-*")
		f, err := os.OpenFile(drafts[0], os.O_WRONLY, 0)
		if err != nil {
			t.Error(err)
			return
		}
		_, err = f.WriteAt([]byte{0xff, 0xff, 0xff}, 5000)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Error(err)
		}
	})
	if _, err := backup.Create(t.Context(), broken); !errors.Is(err, backup.ErrDamaged) {
		t.Errorf("a disk that lies: %v", err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(to)); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestDamagedFileIsRefused(t *testing.T) {
	t.Parallel()
	file, _ := create(t)
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := backup.Unpack(t.Context(), file, []byte("another passphrase"), private(t)); !errors.Is(err, backup.ErrPassphrase) {
		t.Errorf("wrong passphrase: %v", err)
	}
	try := func(name string, data []byte) {
		t.Helper()
		path := filepath.Join(t.TempDir(), "x.age")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := backup.Unpack(t.Context(), path, passphrase, private(t))
		if !errors.Is(err, backup.ErrDamaged) && !errors.Is(err, backup.ErrPassphrase) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	for _, n := range []int{0, 1, 100, 500, 64 << 10, 65<<10 + 200, len(good) / 2, len(good) - 16, len(good) - 1} {
		try(fmt.Sprintf("cut to %d of %d", n, len(good)), good[:n])
	}
	for at := 3; at < len(good); at += len(good)/40 + 1 {
		flipped := bytes.Clone(good)
		flipped[at] ^= 0x10
		try(fmt.Sprintf("bit flipped at %d", at), flipped)
	}
	try("longer", append(bytes.Clone(good), 0))
	try("not a backup", []byte("PK\x03\x04 this is something else"))
}

// Files with the right passphrase but a layout of somebody's own.
func TestHostileArchiveIsRefused(t *testing.T) {
	t.Parallel()
	regular := func(name, text string) func(*tar.Writer) {
		return func(w *tar.Writer) {
			_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(text)), Mode: 0o600})
			_, _ = io.WriteString(w, text)
		}
	}
	manifest := func(m backup.Manifest) func(*tar.Writer) {
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return regular("backup-manifest.json", string(text))
	}
	fine := backup.Manifest{Format: backup.Format, Files: []backup.File{{Path: "a", Size: 1, SHA256: "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"}}}
	later := fine
	later.Format, later.Version = 3, "v9"
	for name, tt := range map[string]struct {
		entries []func(*tar.Writer)
		want    string
	}{
		"the same, right": {[]func(*tar.Writer){regular("a", "a"), manifest(fine)}, ""},
		"outside":         {[]func(*tar.Writer){regular("../a", "a"), manifest(fine)}, "doesn't belong"},
		"absolute":        {[]func(*tar.Writer){regular("/tmp/a", "a"), manifest(fine)}, "doesn't belong"},
		"unclean":         {[]func(*tar.Writer){regular("b/../a", "a"), manifest(fine)}, "doesn't belong"},
		"a link": {[]func(*tar.Writer){func(w *tar.Writer) {
			_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "a", Linkname: "/etc/passwd"})
		}, manifest(fine)}, "doesn't belong"},
		"twice":            {[]func(*tar.Writer){regular("a", "a"), regular("a", "a"), manifest(fine)}, "exists"},
		"no manifest":      {[]func(*tar.Writer){regular("a", "a")}, "manifest"},
		"something behind": {[]func(*tar.Writer){regular("a", "a"), manifest(fine), regular("b", "b")}, "doesn't belong"},
		"another content":  {[]func(*tar.Writer){regular("a", "b"), manifest(fine)}, "aren't those"},
		"one missing":      {[]func(*tar.Writer){manifest(fine)}, "aren't those"},
		"one more":         {[]func(*tar.Writer){regular("a", "a"), regular("b", "b"), manifest(fine)}, "aren't those"},
		"bad manifest":     {[]func(*tar.Writer){regular("a", "a"), regular("backup-manifest.json", "{")}, "can't be read"},
		"later format":     {[]func(*tar.Writer){regular("a", "a"), manifest(later)}, "bollard version v9"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "x.age")
			f, err := os.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			r, err := age.NewScryptRecipient(string(passphrase))
			if err != nil {
				t.Fatal(err)
			}
			r.SetWorkFactor(cheap)
			w, err := age.Encrypt(f, r)
			if err != nil {
				t.Fatal(err)
			}
			archive := tar.NewWriter(w)
			for _, e := range tt.entries {
				e(archive)
			}
			if err := errors.Join(archive.Close(), w.Close(), f.Close()); err != nil {
				t.Fatal(err)
			}
			_, err = backup.Unpack(t.Context(), path, passphrase, private(t))
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
