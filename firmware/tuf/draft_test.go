package tuf_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bollard/firmware/tuf"
)

// drafted is a root to be, and what its keepers make of it.
type drafted struct {
	t    *testing.T
	dir  string
	text []byte
}

func draft(t *testing.T, dir string, roles tuf.Roles) drafted {
	t.Helper()
	text, err := tuf.Draft(dir, roles)
	if err != nil {
		t.Fatal(err)
	}
	return drafted{t, dir, text}
}

func (d drafted) signed(by ...crypto.Signer) (list [][]byte) {
	d.t.Helper()
	for _, key := range by {
		signature, err := tuf.Sign(d.text, key, rand.Reader)
		if err != nil {
			d.t.Fatal(err)
		}
		list = append(list, signature)
	}
	return list
}

// A root is signed by its keepers one by one, none of whom has another's key; it is in
// force once enough of them signed, and of those of the root before, and not earlier.
func TestRootOfSeveralKeepers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	dir := filepath.Join(t.TempDir(), "repo")
	first := draft(t, dir, r.roles())
	payload, err := tuf.Payload(first.text)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(payload)
	elsewhere, err := r.root[1].Sign(rand.Reader, digest[:], crypto.SHA256) // by another program
	if err != nil {
		t.Fatal(err)
	}
	if !ecdsa.VerifyASN1(r.root[0].Public().(*ecdsa.PublicKey), digest[:], first.signed(r.root[0])[0]) {
		t.Error("what is signed isn't the payload")
	}
	stranger := newKey(t)
	for name, list := range map[string][][]byte{
		"nobody":            nil,
		"one":               first.signed(r.root[0]),
		"one of them twice": first.signed(r.root[0], r.root[0]),
		"a stranger":        first.signed(r.root[0], stranger),
		"a key of targets":  first.signed(r.root[0], r.target[0]),
		"no signature":      {first.signed(r.root[0])[0], []byte("x")},
	} {
		if _, err := tuf.Take(dir, first.text, list); err == nil {
			t.Errorf("%s: it is in force", name)
		}
	}
	if version, err := tuf.Take(dir, first.text, append(first.signed(r.root[0]), elsewhere)); err != nil || version != 1 {
		t.Fatalf("%d, %v", version, err)
	}
	if _, err := tuf.Take(dir, first.text, first.signed(r.root...)); err == nil {
		t.Error("a repository begins twice")
	}

	// Other keys: those of the root before sign too.
	before := append([]crypto.Signer{}, r.root...)
	r.root = []crypto.Signer{newKey(t), newKey(t)}
	next := draft(t, dir, r.roles())
	for name, list := range map[string][][]byte{
		"the new ones":       next.signed(r.root...),
		"the old ones":       next.signed(before...),
		"one old one":        next.signed(r.root[0], r.root[1], before[0]),
		"of the first draft": append(next.signed(r.root[0], r.root[1], before[0]), elsewhere),
	} {
		if _, err := tuf.Take(dir, next.text, list); err == nil {
			t.Errorf("%s: it is in force", name)
		}
	}
	other := draft(t, dir, r.roles())
	if version, err := tuf.Take(dir, next.text, next.signed(append(before, r.root...)...)); err != nil || version != 2 {
		t.Fatalf("%d, %v", version, err)
	}
	if _, err := tuf.Take(dir, other.text, other.signed(append(before, r.root...)...)); err == nil || !strings.Contains(err.Error(), "draft it anew") {
		t.Errorf("a second root of one version: %v", err)
	}
	// Who trusts the first follows.
	r.dir = dir
	r.publish("id/x.bin", "firmware", begun.AddDate(0, 1, 0))
	text, err := os.ReadFile(filepath.Join(dir, tuf.FileRoot(1)))
	if err != nil {
		t.Fatal(err)
	}
	seen, err := tuf.Begin(text)
	if err != nil {
		t.Fatal(err)
	}
	if seen, _, err = seen.Update(r.delivery().read, begun); err != nil {
		t.Fatal(err)
	}
	if version, err := seen.Version(); err != nil || version != 2 {
		t.Errorf("%d, %v", version, err)
	}
}
