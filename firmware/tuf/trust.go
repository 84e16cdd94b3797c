// Package tuf is a manufacturer's list of the files of its releases in the form of
// The Update Framework (theupdateframework.github.io/specification, 1.0): signed by
// the roles root, targets, snapshot and timestamp, each with a threshold.
//
// It promises whoever trusts a root that what is taken is signed by as many keys as
// the root asks, is in its dates, and is never older than what was taken before; and
// that another root is taken only with the signatures of the one before.
package tuf

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"
)

// The files of a repository. Each version of the root stays, as N.root.json.
const (
	FileTimestamp = "timestamp.json"
	FileSnapshot  = "snapshot.json"
	FileTargets   = "targets.json"
	// MaxFile bounds each of them.
	MaxFile = 1 << 20
	// maxRoots is how many new roots are followed at once.
	maxRoots = 256
)

// FileRoot is a version of the root.
func FileRoot(version int64) string { return fmt.Sprintf("%d.root.json", version) }

// Seen is what is kept of a manufacturer between two deliveries: what is older
// counts no more.
type Seen struct {
	Root      []byte `json:"root"`
	Timestamp []byte `json:"timestamp,omitempty"`
	Snapshot  []byte `json:"snapshot,omitempty"`
	Targets   []byte `json:"targets,omitempty"`
}

// Begin trusts a root as its first: it must be signed by its own keys.
func Begin(root []byte) (Seen, error) {
	if _, err := load(root); err != nil {
		return Seen{}, err
	}
	return Seen{Root: root}, nil
}

// load reads a root with limits to what go-tuf takes.
func load(root []byte) (*trustedmetadata.TrustedMetadata, error) {
	if len(root) > MaxFile {
		return nil, fmt.Errorf("the root has more than %d bytes", MaxFile)
	}
	t, err := trustedmetadata.New(root)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the root: %w", err)
	}
	return t, nil
}

// Version of the root that is trusted.
func (s Seen) Version() (int64, error) {
	t, err := load(s.Root)
	if err != nil {
		return 0, err
	}
	return t.Root.Signed.Version, nil
}

// Equal says whether two states are one.
func (s Seen) Equal(o Seen) bool {
	return bytes.Equal(s.Root, o.Root) && bytes.Equal(s.Timestamp, o.Timestamp) && bytes.Equal(s.Snapshot, o.Snapshot) && bytes.Equal(s.Targets, o.Targets)
}

// Targets are the files a manufacturer's metadata names.
type Targets struct {
	files map[string]*metadata.TargetFiles
}

// Check says whether a file is what the metadata names under a path.
func (t Targets) Check(path string, size int64, sum [sha256.Size]byte) error {
	f, ok := t.files[path]
	if !ok {
		return fmt.Errorf("%s isn't in the manufacturer's %s", path, FileTargets)
	}
	if f.Length != size || hex.EncodeToString(f.Hashes["sha256"]) != hex.EncodeToString(sum[:]) {
		return fmt.Errorf("%s isn't the file that the manufacturer's %s names", path, FileTargets)
	}
	return nil
}

// Update verifies what came with a delivery against what was seen (§5 of the
// specification), and returns what is to be kept. read gives a file of the
// delivery, or fs.ErrNotExist.
func (s Seen) Update(read func(name string) ([]byte, error), now time.Time) (Seen, Targets, error) {
	t, err := load(s.Root)
	if err != nil {
		return s, Targets{}, err
	}
	t.RefTime = now
	kept := Seen{Root: s.Root}
	fail := func(name string, err error) (Seen, Targets, error) {
		if errors.Is(err, fs.ErrNotExist) {
			err = errors.New("the delivery has none")
		}
		return s, Targets{}, fmt.Errorf("%s: %w", name, err)
	}
	// 1. Roots, one by one (§5.3): each signed by the one before and by itself.
	for range maxRoots {
		name := FileRoot(t.Root.Signed.Version + 1)
		text, err := bounded(read, name)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err == nil {
			_, err = t.UpdateRoot(text)
		}
		if err != nil {
			return fail(name, err)
		}
		kept.Root = text
	}
	// 2. The timestamp (§5.4). An old one that the new root's keys didn't sign is
	// forgotten, which is how a root ends a lost key's reign.
	if s.Timestamp != nil {
		if _, err := t.UpdateTimestamp(s.Timestamp); err == nil || t.Timestamp != nil {
			kept.Timestamp = s.Timestamp
		}
	}
	text, err := bounded(read, FileTimestamp)
	if err == nil {
		_, err = t.UpdateTimestamp(text)
	}
	var same *metadata.ErrEqualVersionNumber
	switch {
	case errors.As(err, &same):
	case err != nil:
		return fail(FileTimestamp, err)
	default:
		kept.Timestamp = text
	}
	// 3. The snapshot (§5.5): the old one is loaded first, for its versions.
	err = errors.New("there is none yet")
	if s.Snapshot != nil {
		_, err = t.UpdateSnapshot(s.Snapshot, true)
		kept.Snapshot = s.Snapshot
	}
	if err != nil {
		if text, err = bounded(read, FileSnapshot); err == nil {
			_, err = t.UpdateSnapshot(text, false)
		}
		if err != nil {
			return fail(FileSnapshot, err)
		}
		kept.Snapshot = text
	}
	// 4. The targets (§5.6).
	err = errors.New("there are none yet")
	if s.Targets != nil {
		_, err = t.UpdateTargets(s.Targets)
		kept.Targets = s.Targets
	}
	if err != nil {
		if text, err = bounded(read, FileTargets); err == nil {
			_, err = t.UpdateTargets(text)
		}
		if err != nil {
			return fail(FileTargets, err)
		}
		kept.Targets = text
	}
	return kept, Targets{t.Targets[metadata.TARGETS].Signed.Targets}, nil
}

func bounded(read func(string) ([]byte, error), name string) ([]byte, error) {
	text, err := read(name)
	if err == nil && len(text) > MaxFile {
		err = fmt.Errorf("it has more than %d bytes", MaxFile)
	}
	return text, err
}
