// Package tiles is a transparency log in a directory: the ledger's tree, checkpoints
// and proofs over entries of any kind, as the files of c2sp.org/tlog-tiles, which
// any web server serves as they are.
//
// It promises that a checkpoint is only there once all of its tree is on disk, that
// it continues the one before, and that no two processes append at once.
package tiles

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"bollard/ledger"
)

const (
	checkpointName = "checkpoint"
	lockName       = ".lock"
	// height of tiles, and entries of a bundle, as a power of two (c2sp.org/tlog-tiles).
	height = 8
	// maxEntry is what the two bytes of an entry's length can say.
	maxEntry = math.MaxUint16
)

// Log is an open log, for one appender at a time.
type Log struct {
	root   *os.Root
	lock   *os.File
	signer note.Signer
	head   ledger.Note
}

// Create makes an empty log with a signed checkpoint in a directory that isn't there
// or is empty. Its origin names it for ever.
func Create(dir, origin string, signer note.Signer) error {
	if origin != signer.Name() {
		return fmt.Errorf("log %q is signed by a key named %q: they are one name (c2sp.org/tlog-checkpoint)", origin, signer.Name())
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("couldn't make the log: %w", err)
	}
	if there, err := os.ReadDir(dir); err != nil || len(there) > 0 {
		return errors.Join(fmt.Errorf("couldn't make a log in %s: it isn't empty", dir), err)
	}
	l := &Log{signer: signer}
	var err error
	if l.root, err = os.OpenRoot(dir); err != nil {
		return fmt.Errorf("couldn't make the log: %w", err)
	}
	defer func() { _ = l.root.Close() }() // what was written is on disk
	empty, err := tlog.TreeHash(0, nil)
	if err != nil {
		return fmt.Errorf("couldn't make the log: %w", err)
	}
	first, err := ledger.Checkpoint{Origin: origin, Root: empty}.Sign(signer)
	if err != nil {
		return err
	}
	return l.publish(first)
}

// Origin reads what a log calls itself, which proves nothing.
func Origin(dir string) (string, error) {
	text, err := os.ReadFile(filepath.Join(dir, checkpointName))
	if errors.Is(err, fs.ErrNotExist) {
		err = errors.New("there is none: `bollard firmware log create` makes one")
	}
	if err != nil {
		return "", fmt.Errorf("couldn't open the log %s: %w", dir, err)
	}
	n, err := ledger.ParseNote(string(text))
	return n.Origin, err
}

// Open opens a log to append to. Who else has it open is waited for.
func Open(ctx context.Context, dir string, signer note.Signer, verifier note.Verifier) (*Log, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("couldn't open the log: %w", err)
	}
	l := &Log{root: root, signer: signer}
	l.lock, err = root.OpenFile(lockName, os.O_CREATE|os.O_RDWR, 0o644)
	if err == nil {
		err = waitLock(ctx, l.lock)
	}
	var text []byte
	if err == nil {
		text, err = root.ReadFile(checkpointName)
	}
	if err == nil {
		l.head, err = ledger.ParseNote(string(text))
	}
	if err == nil && (!l.head.SignedBy(verifier) || l.head.Origin != signer.Name()) {
		err = errors.New("its checkpoint isn't signed by this key")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("couldn't open the log %s: %w", dir, err), l.Close())
	}
	return l, nil
}

// lockPause is between looks whether the other one is done, which takes
// milliseconds: a system call that waits couldn't be called off.
const lockPause = 20 * time.Millisecond

// waitLock takes the lock; it goes with the process.
func waitLock(ctx context.Context, f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lockPause):
		}
	}
}

// Origin names the log.
func (l *Log) Origin() string { return l.head.Origin }

// Hashes reads the tree, each tile proven against the newest checkpoint: for witnesses,
// who want to see that it continues what they signed.
func (l *Log) Hashes(context.Context) tlog.HashReader {
	return tlog.TileHashReader(tlog.Tree{N: int64(l.head.Size), Hash: l.head.Root}, reader{l.root}) //nolint:gosec // it was an int64
}

// Close lets others append.
func (l *Log) Close() error {
	var err error
	if l.lock != nil {
		err = l.lock.Close()
	}
	return errors.Join(err, l.root.Close())
}

// Append makes an entry durable and public, and proves that it is in the log.
func (l *Log) Append(_ context.Context, entry []byte) (ledger.Inclusion, error) {
	if len(entry) > maxEntry {
		return ledger.Inclusion{}, fmt.Errorf("entry of %d bytes: a log takes at most %d", len(entry), maxEntry)
	}
	at := int64(l.head.Size)
	old := tlog.TileHashReader(tlog.Tree{N: at, Hash: l.head.Root}, reader{l.root})
	gained, err := tlog.StoredHashesForRecordHash(at, tlog.RecordHash(entry), grownTree{old, math.MaxInt64, nil})
	if err != nil {
		return ledger.Inclusion{}, fmt.Errorf("couldn't read the log's tree, or it isn't that of its checkpoint: %w", err)
	}
	grown := grownTree{old, tlog.StoredHashIndex(0, at), gained}
	// 1. The entry and the tree, under names the next checkpoint needs and none before.
	if err := l.writeEntry(at, entry); err != nil {
		return ledger.Inclusion{}, err
	}
	for _, tile := range tlog.NewTiles(height, at, at+1) {
		data, err := tlog.ReadTileData(tile, grown)
		if err == nil {
			err = l.write(tilePath(tile), data)
		}
		if err != nil {
			return ledger.Inclusion{}, fmt.Errorf("couldn't write the log's tree: %w", err)
		}
	}
	// 2. The checkpoint: from now on the entry is in the log.
	top, err := tlog.TreeHash(at+1, grown)
	if err != nil {
		return ledger.Inclusion{}, fmt.Errorf("couldn't work out the log's root: %w", err)
	}
	next, err := ledger.Checkpoint{Origin: l.head.Origin, Size: uint64(at) + 1, Root: top}.Sign(l.signer)
	if err != nil {
		return ledger.Inclusion{}, err
	}
	hashes, err := tlog.ProveRecord(at+1, at, grown)
	if err != nil {
		return ledger.Inclusion{}, fmt.Errorf("couldn't prove the entry: %w", err)
	}
	if err := l.publish(next); err != nil {
		return ledger.Inclusion{}, err
	}
	l.head = next
	return ledger.Inclusion{Index: uint64(at), Hashes: hashes, Note: next}, nil
}

// writeEntry adds an entry to its bundle: entries one behind the other, each with its
// length in two bytes.
func (l *Log) writeEntry(at int64, entry []byte) error {
	n, before := at>>height, int(at&(1<<height-1))
	var bundle []byte
	if before > 0 {
		var err error
		if bundle, err = l.root.ReadFile(tilePath(tlog.Tile{H: height, L: -1, N: n, W: before})); err != nil {
			return fmt.Errorf("couldn't read the log's entries: %w", err)
		}
	}
	bundle = binary.BigEndian.AppendUint16(bundle, uint16(len(entry)))
	bundle = append(bundle, entry...)
	if err := l.write(tilePath(tlog.Tile{H: height, L: -1, N: n, W: before + 1}), bundle); err != nil {
		return fmt.Errorf("couldn't write the log's entries: %w", err)
	}
	return nil
}

func (l *Log) publish(n ledger.Note) error {
	if err := l.write(checkpointName, []byte(n.Signed)); err != nil {
		return fmt.Errorf("couldn't write the log's checkpoint: %w", err)
	}
	return nil
}

// write puts a file in place, whole, and on disk with its name. What an append that
// was cut short left behind is replaced.
func (l *Log) write(name string, data []byte) error {
	dir := path.Dir(name)
	_, missing := l.root.Stat(dir)
	if err := l.root.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	draft := path.Join(dir, ".new-"+rand.Text())
	f, err := l.root.OpenFile(draft, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = l.root.Rename(draft, name)
	}
	if err != nil {
		return errors.Join(err, l.root.Remove(draft))
	}
	for ; ; dir = path.Dir(dir) {
		// If this directory is new, the one above has a new name too.
		if err := l.sync(dir); err != nil || dir == "." || missing == nil {
			return err
		}
	}
}

func (l *Log) sync(dir string) error {
	f, err := l.root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// tilePath is a tile's place: that of sumdb without the height, and entries where it
// has data (c2sp.org/tlog-tiles).
func tilePath(t tlog.Tile) string {
	p := strings.Replace(t.Path(), "tile/8/", "tile/", 1)
	return strings.Replace(p, "tile/data/", "tile/entries/", 1)
}

// reader reads tiles for tlog, which proves them against the checkpoint's root.
type reader struct{ root *os.Root }

func (r reader) Height() int                     { return height }
func (r reader) SaveTiles([]tlog.Tile, [][]byte) {}

func (r reader) ReadTiles(list []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, t := range list {
		data, err := r.root.ReadFile(tilePath(t))
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}

// grownTree is a tree with the hashes one more entry adds, from an index on. It asks
// the old one only for what it needs: of an empty tree nothing can be asked.
type grownTree struct {
	old    tlog.HashReader
	from   int64
	gained []tlog.Hash
}

func (g grownTree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	list := make([]tlog.Hash, len(indexes))
	var older, places []int64
	for i, index := range indexes {
		if index >= g.from {
			list[i] = g.gained[index-g.from]
			continue
		}
		older, places = append(older, index), append(places, int64(i))
	}
	if len(older) == 0 {
		return list, nil
	}
	hashes, err := g.old.ReadHashes(older)
	if err != nil {
		return nil, err
	}
	for i, place := range places {
		list[place] = hashes[i]
	}
	return list, nil
}
