package tiles_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"bollard/ledger"
	"bollard/ledger/tiles"
)

const origin = "acme.example/firmware"

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func keyOf(t testing.TB, seed byte, name string) (*ledger.Signer, note.Verifier) {
	t.Helper()
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
	public := key.Public().(ed25519.PublicKey)
	s, err := ledger.NewSigner(name, public, func(m []byte) ([]byte, error) { return ed25519.Sign(key, m), nil })
	must(t, err)
	vkey, err := ledger.VerifierKey(name, public)
	must(t, err)
	v, err := ledger.NewVerifier(vkey)
	must(t, err)
	return s, v
}

func newLog(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "log")
	s, _ := keyOf(t, 1, origin)
	must(t, tiles.Create(dir, origin, s))
	return dir
}

func open(t testing.TB, dir string) *tiles.Log {
	t.Helper()
	s, v := keyOf(t, 1, origin)
	l, err := tiles.Open(t.Context(), dir, s, v)
	must(t, err)
	return l
}

func entry(i int) []byte { return fmt.Appendf(nil, "entry %d", i) }

func grow(t testing.TB, dir string, from, to int) []ledger.Inclusion {
	t.Helper()
	l := open(t, dir)
	defer l.Close()
	var proofs []ledger.Inclusion
	for i := from; i < to; i++ {
		p, err := l.Append(t.Context(), entry(i))
		must(t, err)
		proofs = append(proofs, p)
	}
	return proofs
}

// over reads the files of a log as c2sp.org/tlog-tiles names them, for tlog to prove.
type over struct{ dir string }

func (o over) Height() int                     { return 8 }
func (o over) SaveTiles([]tlog.Tile, [][]byte) {}

func (o over) ReadTiles(list []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, t := range list {
		name := fmt.Sprintf("tile/%d/%03d", t.L, t.N)
		if t.W < 256 {
			name += fmt.Sprintf(".p/%d", t.W)
		}
		data, err := os.ReadFile(filepath.Join(o.dir, name))
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}

// More than a tile of entries, over two openings: the files are the log, every proof
// holds, and old checkpoints are its beginnings.
func TestLogIsTheOneOfTlogTiles(t *testing.T) {
	t.Parallel()
	dir := newLog(t)
	const n = 260
	proofs := grow(t, dir, 0, 250)
	proofs = append(proofs, grow(t, dir, 250, n)...)
	_, v := keyOf(t, 1, origin)
	text, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	must(t, err)
	head, err := ledger.ParseNote(string(text))
	must(t, err)
	if head.Size != n || !head.SignedBy(v) || head.Signed != proofs[n-1].Note.Signed {
		t.Fatalf("checkpoint %s", text)
	}
	hashes := tlog.TileHashReader(tlog.Tree{N: n, Hash: head.Root}, over{dir})
	for i, p := range proofs {
		leaf := tlog.RecordHash(entry(i))
		must(t, p.Check(leaf))
		if !p.Note.SignedBy(v) || p.Index != uint64(i) || p.Note.Size != uint64(i)+1 {
			t.Errorf("entry %d: %+v", i, p)
		}
		stored, err := hashes.ReadHashes([]int64{tlog.StoredHashIndex(0, int64(i))})
		if err != nil || stored[0] != leaf {
			t.Fatalf("entry %d isn't in the tiles: %v", i, err)
		}
		older, err := tlog.TreeHash(int64(p.Note.Size), hashes)
		if err != nil || older != p.Note.Root {
			t.Fatalf("the tree of %d isn't the beginning: %v", p.Note.Size, err)
		}
	}
	// The bundles of entries, each with its length before it.
	var all []byte
	for _, name := range []string{"tile/entries/000", "tile/entries/001.p/4"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		must(t, err)
		all = append(all, data...)
	}
	for i := range n {
		length := binary.BigEndian.Uint16(all)
		if got := all[2 : 2+length]; !bytes.Equal(got, entry(i)) {
			t.Fatalf("entry %d is %q", i, got)
		}
		all = all[2+length:]
	}
	if len(all) > 0 {
		t.Errorf("%d bytes follow the last entry", len(all))
	}
	must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if strings.HasPrefix(e.Name(), ".new-") {
			t.Errorf("%s was left", path)
		}
		return err
	}))
}

// An append cut short left files without a checkpoint: they are no part of the log.
func TestCutAppendIsNoPartOfTheLog(t *testing.T) {
	t.Parallel()
	dir := newLog(t)
	grow(t, dir, 0, 3)
	for _, name := range []string{"tile/entries/000.p/4", "tile/0/000.p/4", "tile/0/.new-x"} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte("half of it"), 0o600))
	}
	p := grow(t, dir, 3, 5)[1]
	must(t, p.Check(tlog.RecordHash(entry(4))))
	root, err := tlog.TreeHash(5, tlog.TileHashReader(tlog.Tree{N: 5, Hash: p.Note.Root}, over{dir}))
	if err != nil || root != p.Note.Root {
		t.Error(err)
	}
}

func TestOneAppendsAtATime(t *testing.T) {
	t.Parallel()
	dir := newLog(t)
	var all sync.WaitGroup
	proofs := make([]ledger.Inclusion, 12)
	for i := range proofs {
		all.Go(func() { proofs[i] = grow(t, dir, i, i+1)[0] })
	}
	all.Wait()
	seen := map[uint64]bool{}
	for i, p := range proofs {
		if err := p.Check(tlog.RecordHash(entry(i))); err != nil || seen[p.Index] {
			t.Errorf("entry %d at %d: %v", i, p.Index, err)
		}
		seen[p.Index] = true
	}
	// Who waits for another can be called off.
	held := open(t, dir)
	defer held.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s, v := keyOf(t, 1, origin)
	if _, err := tiles.Open(ctx, dir, s, v); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestLogIsRefused(t *testing.T) {
	t.Parallel()
	s, v := keyOf(t, 1, origin)
	for name, spoil := range map[string]func(t *testing.T, dir string){
		"no checkpoint":      func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "checkpoint"))) },
		"damaged checkpoint": func(t *testing.T, dir string) { edit(t, filepath.Join(dir, "checkpoint"), "\n3\n", "\n2\n") },
		"another key's": func(t *testing.T, dir string) {
			other, _ := keyOf(t, 2, origin)
			n, err := ledger.Checkpoint{Origin: origin, Size: 3}.Sign(other)
			must(t, err)
			must(t, os.WriteFile(filepath.Join(dir, "checkpoint"), []byte(n.Signed), 0o600))
		},
		"altered tree": func(t *testing.T, dir string) {
			must(t, os.WriteFile(filepath.Join(dir, "tile/0/000.p/3"), make([]byte, 96), 0o600))
		},
		"missing tree":    func(t *testing.T, dir string) { must(t, os.RemoveAll(filepath.Join(dir, "tile/0"))) },
		"missing entries": func(t *testing.T, dir string) { must(t, os.RemoveAll(filepath.Join(dir, "tile/entries"))) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := newLog(t)
			grow(t, dir, 0, 3)
			spoil(t, dir)
			before, _ := os.ReadFile(filepath.Join(dir, "checkpoint"))
			l, err := tiles.Open(t.Context(), dir, s, v)
			if err == nil {
				_, err = l.Append(t.Context(), entry(3))
				must(t, l.Close())
			}
			after, _ := os.ReadFile(filepath.Join(dir, "checkpoint"))
			if err == nil || !bytes.Equal(before, after) {
				t.Errorf("%v; the checkpoint is %s", err, after)
			}
		})
	}
	if err := tiles.Create(newLog(t), origin, s); err == nil {
		t.Error("a log was made over another")
	}
	if err := tiles.Create(t.TempDir(), "another", s); err == nil {
		t.Error("a log has another name than its key")
	}
	l := open(t, newLog(t))
	defer l.Close()
	if _, err := l.Append(t.Context(), make([]byte, 1<<16)); err == nil {
		t.Error("an entry was taken whose length has no room")
	}
}

func edit(t *testing.T, path, old, to string) {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	if !strings.Contains(string(text), old) {
		t.Fatalf("%q isn't in %s", old, text)
	}
	must(t, os.WriteFile(path, []byte(strings.Replace(string(text), old, to, 1)), 0o600))
}
