package main

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"

	"bollard/admin"
	"bollard/internal/config"
	"bollard/keys"
	"bollard/ledger"
	"bollard/store"
)

// ledgerKey is the file of the key that signs checkpoints. It is never in a
// token: those rarely have Ed25519, which is what others verify notes with.
const ledgerKey = "ledger.key"

// notary signs the ledger. The key is made, and the first epoch opened, when
// it is first needed.
type notary struct {
	store *store.Store
	keep  *keys.Keeper
	base  string // of key URIs
	host  string

	mu     sync.Mutex
	signer *ledger.Signer // nil: not opened yet
}

func newNotary(db *store.Store, keep *keys.Keeper, cfg *config.File) *notary {
	n := &notary{store: db, keep: keep, base: cfg.Keys.URI, host: cfg.Host}
	if keys.Held(n.base) {
		n.base = keys.SchemeSoft + ":"
	}
	return n
}

// Checkpoint signs the ledger as it stands and keeps what it signed; one of the
// same size is returned as it was, with the signatures of witnesses.
func (n *notary) Checkpoint(ctx context.Context) (ledger.Note, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	signer, err := n.open(ctx)
	if err != nil {
		return ledger.Note{}, err
	}
	tree, err := n.store.Tree(ctx)
	if err != nil {
		return ledger.Note{}, err
	}
	return n.sign(ctx, signer, tree)
}

// CheckpointOf signs an earlier state of the ledger, such as that of a copy.
func (n *notary) CheckpointOf(ctx context.Context, tree *ledger.Tree) (ledger.Note, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	signer, err := n.open(ctx)
	if err != nil {
		return ledger.Note{}, err
	}
	return n.sign(ctx, signer, tree)
}

// Cosigned keeps a checkpoint with the signatures it gained.
func (n *notary) Cosigned(ctx context.Context, note ledger.Note) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.store.PutCheckpoint(ctx, note)
}

func (n *notary) sign(ctx context.Context, signer *ledger.Signer, tree *ledger.Tree) (ledger.Note, error) {
	kept, found, err := n.store.NewestCheckpoint(ctx, signer.Name())
	if err != nil || found && kept.Size == tree.Size() && kept.Root == tree.Root() {
		return kept, err
	}
	signed, err := ledger.Checkpoint{Origin: signer.Name(), Size: tree.Size(), Root: tree.Root()}.Sign(signer)
	if err != nil {
		return ledger.Note{}, err
	}
	return signed, n.store.PutCheckpoint(ctx, signed)
}

// open opens the key and makes sure that it is the one of the epoch in force.
func (n *notary) open(ctx context.Context) (*ledger.Signer, error) {
	if n.signer != nil {
		return n.signer, nil
	}
	uri, err := keys.Join(n.base, ledgerKey)
	if err != nil {
		return nil, err
	}
	epochs, err := n.store.Epochs(ctx)
	if err != nil {
		return nil, err
	}
	begun := len(epochs) > 0
	key, err := n.keep.Open(ctx, uri, keys.RoleLedger)
	if errors.Is(err, keys.ErrNotFound) && !begun {
		key, err = n.keep.Create(ctx, uri, keys.RoleLedger, keys.Ed25519)
	}
	if err != nil {
		return nil, fmt.Errorf("couldn't open the ledger's key: %w", err)
	}
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return nil, admin.Failedf("restore it from a backup", "the ledger's key %s isn't an Ed25519 key", uri)
	}
	var epoch ledger.Epoch
	if begun {
		epoch = epochs[len(epochs)-1]
	} else {
		sum := sha256.Sum256(public)
		epoch = ledger.Epoch{Number: 1, Origin: fmt.Sprintf("%s/ledger/%x", n.host, sum[:4])}
		if epoch.Key, err = ledger.VerifierKey(epoch.Origin, public); err != nil {
			return nil, err
		}
		if err := n.store.Record(ctx, epoch.Event("bollard")); err != nil {
			return nil, err
		}
	}
	signer, err := ledger.NewSigner(epoch.Origin, public, func(message []byte) ([]byte, error) {
		return key.Sign(rand.Reader, message, crypto.Hash(0))
	})
	if err != nil {
		return nil, err
	}
	if vkey, err := ledger.VerifierKey(epoch.Origin, public); err != nil || vkey != epoch.Key {
		return nil, admin.Failedf("restore it from a backup", "%s isn't the key of the ledger %s", uri, epoch.Origin)
	}
	n.signer = signer
	return signer, nil
}
