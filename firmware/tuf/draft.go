package tuf

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// Draft is a root to be, for a repository that is there or isn't yet. Nobody has signed
// it: those who keep the keys do, each on a machine of their own (Payload, Sign), and
// Take puts it in force.
func Draft(dir string, roles Roles) ([]byte, error) {
	version := int64(1)
	r, err := Open(dir, nil)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	default:
		defer func() { _ = r.Close() }() // it was only read
		if there, err := os.ReadDir(dir); err != nil || len(there) > 0 {
			newest, failed := r.newest()
			if err = errors.Join(err, failed); err != nil {
				return nil, err
			}
			version = newest + 1
		}
	}
	m, err := rootOf(roles, version)
	if err != nil {
		return nil, err
	}
	return m.ToBytes(true)
}

// Payload is what is signed of a draft: the bytes that go-tuf verifies signatures over.
func Payload(draft []byte) ([]byte, error) {
	m, err := readRoot(draft)
	if err != nil {
		return nil, err
	}
	return payload(m)
}

func payload[T metadata.Roles](m *metadata.Metadata[T]) ([]byte, error) {
	text, err := cjson.EncodeCanonical(m.Signed)
	if err != nil {
		return nil, fmt.Errorf("couldn't write the metadata: %w", err)
	}
	return text, nil
}

// Sign signs a draft, as ECDSA with SHA-256 in ASN.1 (such as `openssl dgst -sha256 -sign`
// of the Payload).
func Sign(draft []byte, key crypto.Signer, random io.Reader) ([]byte, error) {
	text, err := Payload(draft)
	if err != nil {
		return nil, err
	}
	if _, _, err := keyOf(key.Public()); err != nil {
		return nil, err
	}
	digest := sha256.Sum256(text)
	signature, err := key.Sign(random, digest[:], crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("couldn't sign the metadata: %w", err)
	}
	return signature, nil
}

// Take puts a draft in force with the signatures of those whose keys it names, and of
// those whose keys the root before names: as many as both ask for. A repository that
// isn't there begins with it.
func Take(dir string, draft []byte, signatures [][]byte) (version int64, err error) {
	m, err := readRoot(draft)
	if err != nil {
		return 0, err
	}
	text, err := payload(m)
	if err != nil {
		return 0, err
	}
	version = m.Signed.Version
	if version == 1 {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return 0, fmt.Errorf("couldn't make the repository: %w", err)
		}
		if there, err := os.ReadDir(dir); err != nil || len(there) > 0 {
			return 0, errors.Join(fmt.Errorf("couldn't begin a repository in %s: it isn't empty", dir), err)
		}
	}
	r, err := Open(dir, nil)
	if err != nil {
		return 0, err
	}
	defer func() { _ = r.Close() }() // what was written is on disk
	keys := rootKeys(m)
	var before []byte
	if version > 1 {
		if newest, err := r.newest(); err != nil || newest != version-1 {
			return 0, errors.Join(fmt.Errorf("the draft is of version %d, and the newest root isn't the one before: draft it anew", version), err)
		}
		if before, err = r.Read(FileRoot(version - 1)); err != nil {
			return 0, fmt.Errorf("couldn't read the root: %w", err)
		}
		old, err := readRoot(before)
		if err != nil {
			return 0, err
		}
		keys = append(keys, rootKeys(old)...)
	}
	m.Signatures = []metadata.Signature{}
	for i, signature := range signatures {
		id, err := signerOf(keys, text, signature)
		if err != nil {
			return 0, fmt.Errorf("signature %d: %w", i+1, err)
		}
		if !slices.ContainsFunc(m.Signatures, func(s metadata.Signature) bool { return s.KeyID == id }) {
			m.Signatures = append(m.Signatures, metadata.Signature{KeyID: id, Signature: signature})
		}
	}
	whole, err := m.ToBytes(true)
	if err != nil {
		return 0, fmt.Errorf("couldn't write the metadata: %w", err)
	}
	if version == 1 {
		_, err = Begin(whole)
	} else if t, broken := load(before); broken != nil {
		err = broken
	} else {
		_, err = t.UpdateRoot(whole)
	}
	if err != nil {
		return 0, fmt.Errorf("nobody would take the root, and it wasn't kept: %w", err)
	}
	return version, r.write(FileRoot(version), whole)
}

func readRoot(text []byte) (*metadata.Metadata[metadata.RootType], error) {
	if len(text) > MaxFile {
		return nil, fmt.Errorf("the root has more than %d bytes", MaxFile)
	}
	m, err := metadata.Root().FromBytes(text)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the root: %w", err)
	}
	return m, nil
}

// rootKeys are those that sign roots.
func rootKeys(m *metadata.Metadata[metadata.RootType]) (list []*metadata.Key) {
	role := m.Signed.Roles[metadata.ROOT]
	if role == nil {
		return nil
	}
	for _, id := range role.KeyIDs {
		if key := m.Signed.Keys[id]; key != nil {
			list = append(list, key)
		}
	}
	return list
}

// signerOf finds the key that made a signature.
func signerOf(keys []*metadata.Key, text, signature []byte) (id string, err error) {
	digest := sha256.Sum256(text)
	for _, key := range keys {
		public, err := key.ToPublicKey()
		if err != nil {
			continue // of a kind that isn't made here: others may have signed
		}
		if p, ok := public.(*ecdsa.PublicKey); ok && ecdsa.VerifyASN1(p, digest[:], signature) {
			return key.ID()
		}
	}
	return "", errors.New("it is of no key that may sign this root, or over something else")
}
