package tuf

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// Roles say whose keys a root names. Online keys sign snapshots and timestamps: they
// vouch for what is the newest, and for no file.
type Roles struct {
	Root, Targets, Online          []crypto.PublicKey
	RootThreshold, TargetThreshold int
	Expires                        time.Time // of the root
}

// Repository is a manufacturer's metadata in a directory, for one writer at a time.
type Repository struct {
	root   *os.Root
	random io.Reader
}

// Create begins a repository in a directory that isn't there or is empty, with a
// first root, which whoever is to trust the manufacturer gets by a way of its own.
func Create(dir string, roles Roles, signers []crypto.Signer, random io.Reader) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("couldn't make the repository: %w", err)
	}
	if there, err := os.ReadDir(dir); err != nil || len(there) > 0 {
		return errors.Join(fmt.Errorf("couldn't make a repository in %s: it isn't empty", dir), err)
	}
	r, err := Open(dir, random)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }() // what was written is on disk
	text, err := r.signRoot(roles, 1, signers)
	if err != nil {
		return err
	}
	if _, err := Begin(text); err != nil {
		return fmt.Errorf("the keys given don't make a root: %w", err)
	}
	return r.write(FileRoot(1), text)
}

// Open opens a repository.
func Open(dir string, random io.Reader) (*Repository, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("couldn't open the repository: %w", err)
	}
	return &Repository{root, random}, nil
}

// Close ends it.
func (r *Repository) Close() error { return r.root.Close() }

// Read gives a file of it.
func (r *Repository) Read(name string) ([]byte, error) { return r.root.ReadFile(name) }

// Files are the names of all its metadata.
func (r *Repository) Files() ([]string, error) {
	newest, err := r.newest()
	if err != nil {
		return nil, err
	}
	names := []string{FileTimestamp, FileSnapshot, FileTargets}
	for v := int64(1); v <= newest; v++ {
		names = append(names, FileRoot(v))
	}
	return names, nil
}

// newest version of the root.
func (r *Repository) newest() (int64, error) {
	for v := int64(1); ; v++ {
		if _, err := r.root.Stat(FileRoot(v)); errors.Is(err, fs.ErrNotExist) && v > 1 {
			return v - 1, nil
		} else if err != nil {
			return 0, fmt.Errorf("couldn't open the repository: %w; `bollard firmware tuf init` makes one", err)
		}
	}
}

// seen is the repository as who trusted its first root would have it.
func (r *Repository) seen() (Seen, error) {
	text, err := r.Read(FileRoot(1))
	if err != nil {
		return Seen{}, fmt.Errorf("couldn't open the repository: %w", err)
	}
	return Begin(text)
}

// Rotate puts another root in force. signers have to make the thresholds of the one
// before and of the new one.
func (r *Repository) Rotate(roles Roles, signers []crypto.Signer) (version int64, err error) {
	newest, err := r.newest()
	if err != nil {
		return 0, err
	}
	before, err := r.Read(FileRoot(newest))
	if err != nil {
		return 0, fmt.Errorf("couldn't read the root: %w", err)
	}
	t, err := load(before)
	if err != nil {
		return 0, err
	}
	text, err := r.signRoot(roles, newest+1, signers)
	if err != nil {
		return 0, err
	}
	if _, err := t.UpdateRoot(text); err != nil {
		return 0, fmt.Errorf("nobody would take the new root, and it wasn't kept: %w", err)
	}
	return newest + 1, r.write(FileRoot(newest+1), text)
}

func (r *Repository) signRoot(roles Roles, version int64, signers []crypto.Signer) ([]byte, error) {
	m, err := rootOf(roles, version)
	if err != nil {
		return nil, err
	}
	if err := seal(r, m, signers, func(string) bool { return true }); err != nil { // of an old root too
		return nil, err
	}
	return m.ToBytes(true)
}

// rootOf is a root that nobody has signed.
func rootOf(roles Roles, version int64) (*metadata.Metadata[metadata.RootType], error) {
	m := metadata.Root(roles.Expires.UTC().Truncate(time.Second))
	m.Signed.Version, m.Signed.ConsistentSnapshot = version, false
	for role, of := range map[string]struct {
		keys      []crypto.PublicKey
		threshold int
	}{
		metadata.ROOT: {roles.Root, roles.RootThreshold}, metadata.TARGETS: {roles.Targets, roles.TargetThreshold},
		metadata.SNAPSHOT: {roles.Online, 1}, metadata.TIMESTAMP: {roles.Online, 1},
	} {
		if of.threshold < 1 || of.threshold > len(of.keys) {
			return nil, fmt.Errorf("role %s takes %d of %d keys", role, of.threshold, len(of.keys))
		}
		m.Signed.Roles[role].Threshold = of.threshold
		for _, public := range of.keys {
			key, _, err := keyOf(public)
			if err == nil {
				err = m.Signed.AddKey(key, role)
			}
			if err != nil {
				return nil, fmt.Errorf("couldn't name a key of role %s: %w", role, err)
			}
		}
	}
	return m, nil
}

// keyOf is a key as metadata has it.
func keyOf(public crypto.PublicKey) (*metadata.Key, string, error) {
	if key, ok := public.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() {
		return nil, "", errors.New("metadata is signed by keys on P-256")
	}
	key, err := metadata.KeyFromPublicKey(public)
	if err != nil {
		return nil, "", err
	}
	id, err := key.ID()
	return key, id, err
}

// seal signs metadata with the keys that are of its role.
func seal[T metadata.Roles](r *Repository, m *metadata.Metadata[T], signers []crypto.Signer, of func(id string) bool) error {
	text, err := cjson.EncodeCanonical(m.Signed)
	if err != nil {
		return fmt.Errorf("couldn't write the metadata: %w", err)
	}
	digest := sha256.Sum256(text)
	m.Signatures = []metadata.Signature{}
	for _, s := range signers {
		_, id, err := keyOf(s.Public())
		if err != nil {
			return err
		}
		if !of(id) || slices.ContainsFunc(m.Signatures, func(o metadata.Signature) bool { return o.KeyID == id }) {
			continue
		}
		signature, err := s.Sign(r.random, digest[:], crypto.SHA256)
		if err != nil {
			return fmt.Errorf("couldn't sign the metadata: %w", err)
		}
		m.Signatures = append(m.Signatures, metadata.Signature{KeyID: id, Signature: signature})
	}
	return nil
}

// File is what metadata says of one.
type File struct {
	Size   int64
	SHA256 [sha256.Size]byte
}

// Publish adds files, by their paths, and signs anew what is the newest, good until
// a time. Files that were published stay.
func (r *Repository) Publish(files map[string]File, signers []crypto.Signer, expires, now time.Time) error {
	newest, err := r.newest()
	if err != nil {
		return err
	}
	text, err := r.Read(FileRoot(newest))
	if err != nil {
		return fmt.Errorf("couldn't read the root: %w", err)
	}
	t, err := load(text)
	if err != nil {
		return err
	}
	of := func(role string) func(id string) bool {
		return func(id string) bool { return slices.Contains(t.Root.Signed.Roles[role].KeyIDs, id) }
	}
	expires = expires.UTC().Truncate(time.Second)
	targets, snapshot, timestamp := metadata.Targets(expires), metadata.Snapshot(expires), metadata.Timestamp(expires)
	if old, err := again(r, FileTargets, metadata.Targets()); err != nil {
		return err
	} else if old != nil {
		targets.Signed.Version, targets.Signed.Targets = old.Signed.Version+1, maps.Clone(old.Signed.Targets)
	}
	if old, err := again(r, FileSnapshot, metadata.Snapshot()); err != nil {
		return err
	} else if old != nil {
		snapshot.Signed.Version = old.Signed.Version + 1
	}
	if old, err := again(r, FileTimestamp, metadata.Timestamp()); err != nil {
		return err
	} else if old != nil {
		timestamp.Signed.Version = old.Signed.Version + 1
	}
	for path, f := range files {
		if old := targets.Signed.Targets[path]; old != nil && (Targets{targets.Signed.Targets}).Check(path, f.Size, f.SHA256) != nil {
			return fmt.Errorf("%s was published with another content: a release's files don't change", path)
		}
		targets.Signed.Targets[path] = &metadata.TargetFiles{Length: f.Size, Hashes: metadata.Hashes{"sha256": f.SHA256[:]}, Path: path}
	}
	made := map[string][]byte{}
	if made[FileTargets], err = sealed(r, targets, signers, of(metadata.TARGETS)); err != nil {
		return err
	}
	snapshot.Signed.Meta[FileTargets] = fileMeta(targets.Signed.Version, made[FileTargets])
	if made[FileSnapshot], err = sealed(r, snapshot, signers, of(metadata.SNAPSHOT)); err != nil {
		return err
	}
	timestamp.Signed.Meta[FileSnapshot] = fileMeta(snapshot.Signed.Version, made[FileSnapshot])
	if made[FileTimestamp], err = sealed(r, timestamp, signers, of(metadata.TIMESTAMP)); err != nil {
		return err
	}
	// What nobody who trusts the first root would take isn't kept.
	seen, err := r.seen()
	if err != nil {
		return err
	}
	if _, _, err := seen.Update(func(name string) ([]byte, error) {
		if text, ok := made[name]; ok {
			return text, nil
		}
		return r.Read(name)
	}, now); err != nil {
		return fmt.Errorf("nobody would take the metadata, and it wasn't kept: %w", err)
	}
	for _, name := range []string{FileTargets, FileSnapshot, FileTimestamp} {
		if err := r.write(name, made[name]); err != nil {
			return err
		}
	}
	return nil
}

// again reads what a repository has; nil: nothing yet.
func again[T metadata.Roles](r *Repository, name string, into *metadata.Metadata[T]) (*metadata.Metadata[T], error) {
	text, err := r.Read(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		into, err = into.FromBytes(text)
	}
	if err != nil {
		return nil, fmt.Errorf("couldn't read %s of the repository: %w", name, err)
	}
	return into, nil
}

func sealed[T metadata.Roles](r *Repository, m *metadata.Metadata[T], signers []crypto.Signer, of func(string) bool) ([]byte, error) {
	if err := seal(r, m, signers, of); err != nil {
		return nil, err
	}
	return m.ToBytes(true)
}

func fileMeta(version int64, text []byte) *metadata.MetaFiles {
	sum := sha256.Sum256(text)
	return &metadata.MetaFiles{Version: version, Length: int64(len(text)), Hashes: metadata.Hashes{"sha256": sum[:]}}
}

// write puts a file in place, whole and on disk.
func (r *Repository) write(name string, text []byte) error {
	draft := ".new-" + rand.Text()
	f, err := r.root.OpenFile(draft, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err == nil {
		_, err = f.Write(text)
		if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
			err = r.root.Rename(draft, name)
		}
	}
	if err == nil {
		var dir *os.File
		if dir, err = r.root.Open("."); err == nil {
			err = errors.Join(dir.Sync(), dir.Close())
		}
	}
	if err != nil {
		return fmt.Errorf("couldn't write %s of the repository: %w", filepath.Base(name), err)
	}
	return nil
}
