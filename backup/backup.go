// Package backup writes a data directory into one file encrypted to a
// passphrase, and unpacks such a file.
//
// It promises that a file under its name is whole and readable with the
// passphrase, that nothing is ever overwritten, and that what is unpacked is
// byte for byte what was backed up: a damaged, cut or foreign file is refused.
//
// The format is age (age-encryption.org/v1, one scrypt recipient) around a tar
// archive whose last entry is the manifest.
package backup

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"time"
)

// Format is the version of the archive's layout.
const Format = 2

// manifestName is the last entry; no file of a data directory has its name.
const manifestName = "backup-manifest.json"

// MinPassphrase is the fewest characters of a passphrase: whoever gets the file
// may try for years, and every key is in it.
const MinPassphrase = 12

// Errors callers branch on.
var (
	ErrExists     = errors.New("the file exists already and is never overwritten")
	ErrPassphrase = errors.New("the passphrase is wrong, or the file is damaged or no backup of Bollard")
	ErrDamaged    = errors.New("the backup is damaged or was cut off")
	ErrShort      = errors.New("the passphrase is shorter than 12 characters")
)

// Manifest says what a backup holds.
type Manifest struct {
	Format       int       `json:"format"`
	MadeAt       time.Time `json:"made_at"`
	Version      string    `json:"version"` // of the bollard that made it
	Organisation string    `json:"organisation"`
	// Checkpoint is the ledger's in it, not signed (c2sp.org/tlog-checkpoint).
	Checkpoint string `json:"checkpoint"`
	Files      []File `json:"files"`
	// Missing are things that belong to the data directory but lie outside it
	// or can't be copied, for people.
	Missing []string `json:"missing,omitempty"`
}

// File is one file of the data directory.
type File struct {
	Path   string `json:"path"` // slashes, relative
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// SnapshotPrefix begins the names of database copies that are only there while
// a backup is made.
const SnapshotPrefix = "snapshot-"

// skipped says whether a file of a data directory is left out: the live
// database (its copy is taken instead), the lock, sockets, drafts and what is on its
// way in.
func (cfg *CreateConfig) skipped(rel string, mode fs.FileMode) bool {
	base := rel[strings.LastIndexByte(rel, '/')+1:]
	arriving := strings.HasSuffix(base, ".part") && slices.ContainsFunc(cfg.Arrivals, func(dir string) bool { return strings.HasPrefix(rel, dir+"/") })
	return rel == "lock" || rel == manifestName || strings.HasPrefix(rel, SnapshotPrefix) || strings.HasPrefix(rel, cfg.Database) ||
		strings.Contains(base, ".new-") || strings.HasSuffix(base, ".new") || arriving || mode&(fs.ModeSocket|fs.ModeNamedPipe) != 0
}
