package tuf_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"io/fs"
	"maps"
	"strings"
	"testing"
	"time"

	"bollard/firmware/tuf"
)

var begun = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// rig is a manufacturer with two keys of two for the root, two of three for targets.
type rig struct {
	t            *testing.T
	dir          string
	root, target []crypto.Signer
	online       crypto.Signer
}

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir() + "/tuf", online: newKey(t)}
	for range 2 {
		r.root = append(r.root, newKey(t))
	}
	for range 3 {
		r.target = append(r.target, newKey(t))
	}
	if err := tuf.Create(r.dir, r.roles(), r.root, rand.Reader); err != nil {
		t.Fatal(err)
	}
	return r
}

func public(signers ...crypto.Signer) (list []crypto.PublicKey) {
	for _, s := range signers {
		list = append(list, s.Public())
	}
	return list
}

func (r *rig) roles() tuf.Roles {
	return tuf.Roles{Root: public(r.root...), Targets: public(r.target...), Online: public(r.online), RootThreshold: 2, TargetThreshold: 2, Expires: begun.AddDate(5, 0, 0)}
}

func file(text string) tuf.File {
	return tuf.File{Size: int64(len(text)), SHA256: sha256.Sum256([]byte(text))}
}

func (r *rig) open() *tuf.Repository {
	r.t.Helper()
	repo, err := tuf.Open(r.dir, rand.Reader)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = repo.Close() })
	return repo
}

func (r *rig) publish(path, text string, expires time.Time) {
	r.t.Helper()
	if err := r.open().Publish(map[string]tuf.File{path: file(text)}, append(r.target[:2:2], r.online), expires, begun); err != nil {
		r.t.Fatal(err)
	}
}

// delivery is what the repository has now, in memory.
type delivery map[string][]byte

func (r *rig) delivery() delivery {
	r.t.Helper()
	repo := r.open()
	names, err := repo.Files()
	if err != nil {
		r.t.Fatal(err)
	}
	d := delivery{}
	for _, name := range names {
		if d[name], err = repo.Read(name); err != nil {
			r.t.Fatal(err)
		}
	}
	return d
}

func (d delivery) read(name string) ([]byte, error) {
	text, ok := d[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return text, nil
}

func (d delivery) with(name string, text []byte) delivery {
	other := maps.Clone(d)
	other[name] = text
	return other
}

func (r *rig) trust(d delivery) tuf.Seen {
	r.t.Helper()
	seen, err := tuf.Begin(d[tuf.FileRoot(1)])
	if err != nil {
		r.t.Fatal(err)
	}
	return seen
}

const month = 30 * 24 * time.Hour

// What the manufacturer publishes is taken, and named by size and digest; what was
// taken is never replaced by older.
func TestDeliveriesGoForward(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.publish("one/image", "first", begun.Add(month))
	old := r.delivery()
	seen, targets, err := r.trust(old).Update(old.read, begun)
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]tuf.File{"another content": file("other"), "another size": {Size: 4, SHA256: sha256.Sum256([]byte("first"))}} {
		if targets.Check("one/image", f.Size, f.SHA256) == nil {
			t.Error(name)
		}
	}
	if f := file("first"); targets.Check("one/image", f.Size, f.SHA256) != nil || targets.Check("two/image", f.Size, f.SHA256) == nil {
		t.Error("the wrong file is in the list")
	}
	again, _, err := seen.Update(old.read, begun)
	if err != nil || !again.Equal(seen) {
		t.Errorf("the same once more: %v", err)
	}
	r.publish("two/image", "second", begun.Add(2*month))
	next := r.delivery()
	newer, targets, err := seen.Update(next.read, begun)
	if err != nil || newer.Equal(seen) {
		t.Fatal(err)
	}
	for path, text := range map[string]string{"one/image": "first", "two/image": "second"} { // what was published stays
		if f := file(text); targets.Check(path, f.Size, f.SHA256) != nil {
			t.Errorf("%s isn't in it", path)
		}
	}
	if _, _, err := newer.Update(old.read, begun); err == nil {
		t.Error("an older delivery was taken") // rollback
	}
	for _, name := range []string{tuf.FileSnapshot, tuf.FileTargets, tuf.FileTimestamp} {
		if _, _, err := seen.Update(next.with(name, old[name]).read, begun); err == nil && name != tuf.FileTimestamp {
			t.Errorf("a mixture with the old %s was taken", name)
		}
	}
	if _, _, err := newer.Update(next.read, begun.Add(2*month+time.Second)); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("frozen past its expiry: %v", err)
	}
	if err := r.open().Publish(map[string]tuf.File{"one/image": file("changed")}, append(r.target[:2:2], r.online), begun.Add(month), begun); err == nil {
		t.Error("a published file was changed")
	}
}

// Fewer signatures than the root asks, the same key twice, or changed bytes count for
// nothing, on both sides.
func TestThresholds(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for name, signers := range map[string][]crypto.Signer{
		"one of two": {r.target[0], r.online}, "one twice": {r.target[0], r.target[0], r.online}, "none online": {r.target[0], r.target[1]},
		"of the root": append(r.root[:2:2], r.online), "strangers": {newKey(t), newKey(t), r.online},
	} {
		if err := r.open().Publish(map[string]tuf.File{"x": file("x")}, signers, begun.Add(month), begun); err == nil {
			t.Errorf("%s: published", name)
		}
	}
	r.publish("x", "x", begun.Add(month))
	d := r.delivery()
	for _, name := range []string{tuf.FileTargets, tuf.FileSnapshot, tuf.FileTimestamp} {
		spoil := func(change func(m map[string]any)) []byte {
			m := map[string]any{}
			if err := json.Unmarshal(d[name], &m); err != nil {
				t.Fatal(err)
			}
			change(m)
			text, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			return text
		}
		for what, text := range map[string][]byte{
			"unsigned":    spoil(func(m map[string]any) { m["signatures"] = []any{} }),
			"longer life": spoil(func(m map[string]any) { m["signed"].(map[string]any)["expires"] = "2099-01-01T00:00:00Z" }),
			"nothing":     {}, "too large": make([]byte, tuf.MaxFile+1),
		} {
			if _, _, err := r.trust(d).Update(d.with(name, text).read, begun); err == nil {
				t.Errorf("%s of %s was taken", what, name)
			}
		}
		without := maps.Clone(d)
		delete(without, name)
		if _, _, err := r.trust(d).Update(without.read, begun); err == nil {
			t.Errorf("without %s", name)
		}
	}
	if err := tuf.Create(t.TempDir()+"/x", r.roles(), r.root[:1], rand.Reader); err == nil {
		t.Error("a root signed by one of two")
	}
}

// A new root needs the thresholds of the one before and its own; keys it leaves out
// count no more, and a timestamp they drove up is forgotten.
func TestRootRotation(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for range 3 {
		r.publish("x", "x", begun.Add(month))
	}
	d := r.delivery()
	seen, _, err := r.trust(d).Update(d.read, begun)
	if err != nil {
		t.Fatal(err)
	}
	old := *r
	r.root = []crypto.Signer{old.root[0], newKey(t)}
	r.online = newKey(t)
	for name, signers := range map[string][]crypto.Signer{
		"the new ones alone": r.root, "the old ones alone": old.root, "one of each": {old.root[0]},
	} {
		if _, err := r.open().Rotate(r.roles(), signers); err == nil {
			t.Errorf("signed by %s", name)
		}
	}
	if v, err := r.open().Rotate(r.roles(), append(old.root[:2:2], r.root...)); err != nil || v != 2 {
		t.Fatal(v, err)
	}
	if err := r.open().Publish(map[string]tuf.File{"y": file("y")}, append(r.target[:2:2], old.online), begun.Add(month), begun); err == nil {
		t.Error("signed with a key that the new root left out")
	}
	r.publish("y", "y", begun.Add(month))
	next := r.delivery()
	newer, targets, err := seen.Update(next.read, begun)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := newer.Version(); err != nil || v != 2 {
		t.Errorf("root %d, %v", v, err)
	}
	if f := file("y"); targets.Check("y", f.Size, f.SHA256) != nil {
		t.Error("what the new keys signed isn't in it")
	}
	// Who hasn't seen the new root goes by the old one, and its keys are gone.
	without := maps.Clone(next)
	delete(without, tuf.FileRoot(2))
	if _, _, err := seen.Update(without.read, begun); err == nil {
		t.Error("signed by keys that the root in force doesn't name")
	}
	if _, _, err := newer.Update(d.read, begun); err == nil {
		t.Error("the old root's delivery was taken")
	}
	if _, _, err := seen.Update(next.with(tuf.FileRoot(2), d[tuf.FileRoot(1)]).read, begun); err == nil {
		t.Error("the same root as a newer version was taken")
	}
	if _, _, err := newer.Update(next.read, begun.AddDate(6, 0, 0)); err == nil {
		t.Error("after the root's expiry")
	}
}
