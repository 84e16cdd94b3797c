package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"bollard/admin"
	"bollard/backup"
	"bollard/ca"
	"bollard/keys"
	"bollard/ledger"
)

// snapshot is a consistent copy of the database inside the data directory. Who
// asked for it removes it.
type snapshot struct {
	File       string    `json:"file"` // its name in the data directory
	MadeAt     time.Time `json:"made_at"`
	Checkpoint string    `json:"checkpoint"` // of the ledger in it, not signed
	Signed     string    `json:"signed,omitempty"`
	Unsigned   string    `json:"unsigned,omitempty"` // why the key couldn't sign it
}

// keyPlaces says where the CA keys are.
type keyPlaces struct {
	Keys []keyPlace `json:"keys"`
}

type keyPlace struct {
	Name string `json:"name"` // subject of its certificate
	URI  string `json:"uri"`
	HSM  bool   `json:"hsm"`
	// Root is the hierarchy whose root it is of, while that one counts.
	Root string `json:"root,omitempty"`
}

// keyCustody is what the holder of a CA's key says of it now.
type keyCustody struct {
	keyPlace
	Holder     string `json:"holder"`
	Exportable string `json:"exportable"`
	Fault      string `json:"fault,omitempty"` // why nothing is known
}

type keyCustodies struct {
	Keys []keyCustody `json:"keys"`
}

// restoredState says whether the records come from a backup.
type restoredState struct {
	Restored   bool      `json:"restored"`
	BackedUpAt time.Time `json:"backed_up_at,omitzero"`
	RestoredAt time.Time `json:"restored_at,omitzero"`
}

// withUpkeep adds the operations that look after the data directory itself.
func (a *app) withUpkeep(r *admin.Registry) *admin.Registry {
	admin.Register(r, "backup.snapshot", a.snapshot)
	admin.Register(r, "backup.state", a.restored)
	admin.Register(r, "keys.show", a.keyPlaces)
	admin.Register(r, "keys.custody", a.keyCustodies)
	return r
}

// snapshotLife is after which a copy is somebody's who didn't get to removing it.
const snapshotLife = time.Hour

func (a *app) snapshot(ctx context.Context, _ admin.None) (snapshot, error) {
	old, err := filepath.Glob(filepath.Join(a.dir, backup.SnapshotPrefix+"*"))
	if err != nil {
		return snapshot{}, err
	}
	for _, path := range old {
		if info, err := os.Stat(path); err == nil && time.Since(info.ModTime()) > snapshotLife {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return snapshot{}, fmt.Errorf("couldn't remove an old copy of the database: %w", err)
			}
		}
	}
	// The copy has to have the epoch its checkpoint belongs to.
	if _, err := a.notary.Checkpoint(ctx); err != nil {
		a.log.Warn("the backup gets no signed checkpoint", "err", err)
	}
	out := snapshot{File: backup.SnapshotPrefix + rand.Text(), MadeAt: time.Now().UTC()}
	if err := a.store.Record(ctx, ledger.Event{Kind: "backup.snapshot", Subject: "database", Actor: admin.Actor(ctx)}); err != nil {
		return snapshot{}, err
	}
	tree, err := a.store.Snapshot(ctx, filepath.Join(a.dir, out.File))
	if err != nil {
		return snapshot{}, err
	}
	out.Checkpoint = ledger.Checkpoint{Origin: "backup", Size: tree.Size(), Root: tree.Root()}.Text()
	signed, err := a.notary.CheckpointOf(ctx, tree)
	if err != nil {
		out.Unsigned = err.Error()
	}
	out.Signed = signed.Signed
	return out, nil
}

func (a *app) restored(ctx context.Context, _ admin.None) (restoredState, error) {
	gap, restored, err := a.store.Restoration(ctx)
	return restoredState{restored, gap.BackedUp, gap.Restored}, err
}

func (a *app) keyPlaces(ctx context.Context, _ admin.None) (keyPlaces, error) {
	out := keyPlaces{Keys: []keyPlace{}}
	for _, profile := range ca.CAProfiles() {
		list, err := a.store.Certificates(ctx, ca.Filter{Profile: profile, State: ca.StateIssued})
		if err != nil {
			return keyPlaces{}, err
		}
		for _, r := range list {
			uri, ok := strings.CutPrefix(r.Reference, "key:")
			if ok && uri != "" && !slices.ContainsFunc(out.Keys, func(k keyPlace) bool { return k.URI == uri }) {
				out.Keys = append(out.Keys, keyPlace{r.Subject, uri, keys.Held(uri), a.rootOf(r.KeyHash)})
			}
		}
	}
	return out, nil
}

func (a *app) keyCustodies(ctx context.Context, _ admin.None) (keyCustodies, error) {
	places, err := a.keyPlaces(ctx, admin.None{})
	out := keyCustodies{Keys: []keyCustody{}}
	for _, place := range places.Keys {
		k := keyCustody{keyPlace: place}
		said, err := a.keeper.Custody(ctx, place.URI, keys.RoleCA)
		if err != nil {
			k.Fault = err.Error()
		}
		k.Holder, k.Exportable = said.Holder, said.Exportable
		out.Keys = append(out.Keys, k)
	}
	return out, err
}

// rootOf is the hierarchy that has a key's root now, "" for another's key.
func (a *app) rootOf(keyHash string) string {
	for _, kind := range ca.Kinds() {
		for _, root := range a.authority.Roots(kind) {
			if fmt.Sprintf("%x", sha256.Sum256(root.RawSubjectPublicKeyInfo)) == keyHash {
				return string(kind)
			}
		}
	}
	return ""
}
