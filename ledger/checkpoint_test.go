package ledger_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"bollard/ledger"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// What others read with golang.org/x/mod/sumdb alone.
func TestCheckpointIsASignedNote(t *testing.T) {
	t.Parallel()
	b := newBook(t).grow(11)
	v, err := note.NewVerifier(b.epoch.Key)
	must(t, err)
	n, err := note.Open([]byte(b.checkpoint(t).Signed), note.VerifierList(v))
	must(t, err)
	root := b.tree.Root()
	if want := fmt.Sprintf("%s\n11\n%s\n", origin, base64.StdEncoding.EncodeToString(root[:])); n.Text != want {
		t.Errorf("text %q, want %q", n.Text, want)
	}
}

func TestParseNote(t *testing.T) {
	t.Parallel()
	n := newBook(t).grow(3).checkpoint(t)
	for name, text := range map[string]string{
		"as it is":       n.Signed,
		"after output":   "checkpoint to keep elsewhere:\n\n" + n.Signed,
		"by mail":        strings.ReplaceAll(n.Signed, "\n", "\r\n"),
		"without an end": strings.TrimSuffix(n.Signed, "\n"),
		"blank lines":    n.Signed + "\n\n",
	} {
		if got, err := ledger.ParseNote(text); err != nil || got != n {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for name, text := range map[string]string{
		"nothing":       "",
		"text alone":    n.Text(),
		"leading zero":  strings.Replace(n.Signed, "\n3\n", "\n03\n", 1),
		"no size":       strings.Replace(n.Signed, "\n3\n", "\nx\n", 1),
		"negative":      strings.Replace(n.Signed, "\n3\n", "\n-3\n", 1),
		"signature cut": n.Signed[:strings.LastIndex(n.Signed, " ")+3] + "\n",
		"too long":      strings.Repeat("x", 1<<17) + n.Signed,
	} {
		if got, err := ledger.ParseNote(text); err == nil {
			t.Errorf("%s: read as %+v", name, got)
		}
	}
}

// No byte of a checkpoint can be changed or cut unseen.
func TestCheckpointTornAtEveryByte(t *testing.T) {
	t.Parallel()
	b := newBook(t).grow(5)
	n := b.checkpoint(t)
	fits := func(text string) bool {
		got, err := ledger.ParseNote(text)
		if err != nil {
			return false
		}
		_, err = ledger.Verify(sequence(b.entries), got)
		return err == nil && got != n
	}
	for i := range n.Signed {
		if fits(n.Signed[:i]) {
			t.Errorf("cut at %d it still fits", i)
		}
		torn := []byte(n.Signed)
		torn[i] ^= 1
		if fits(string(torn)) {
			t.Errorf("changed at %d it still fits", i)
		}
	}
}

// witness cosigns as c2sp.org/tlog-cosignature says.
type witness struct {
	name string
	key  ed25519.PrivateKey
	at   uint64
}

func (w witness) vkey() string {
	public := append([]byte{4}, w.key.Public().(ed25519.PublicKey)...)
	return fmt.Sprintf("%s+%08x+%s", w.name, w.KeyHash(), base64.StdEncoding.EncodeToString(public))
}

func (w witness) Name() string { return w.name }

func (w witness) KeyHash() uint32 {
	public := append([]byte{4}, w.key.Public().(ed25519.PublicKey)...)
	sum := sha256.Sum256([]byte(w.name + "\n" + string(public)))
	return binary.BigEndian.Uint32(sum[:])
}

func (w witness) Sign(msg []byte) ([]byte, error) {
	signed := fmt.Sprintf("cosignature/v1\ntime %d\n%s", w.at, msg)
	return append(binary.BigEndian.AppendUint64(nil, w.at), ed25519.Sign(w.key, []byte(signed))...), nil
}

func (w witness) cosign(t *testing.T, n ledger.Note) string {
	t.Helper()
	signed, err := note.Sign(&note.Note{Text: n.Text()}, w)
	must(t, err)
	return strings.TrimPrefix(string(signed), n.Text()+"\n")
}

func TestCosignature(t *testing.T) {
	t.Parallel()
	n := newBook(t).grow(4).checkpoint(t)
	w := witness{"witness.example/w1", ed25519.NewKeyFromSeed([]byte(strings.Repeat("w", 32))), 1_795_000_000}
	v, err := ledger.NewVerifier(w.vkey())
	must(t, err)
	if n.SignedBy(v) {
		t.Error("the witness signed before it was asked")
	}
	line := w.cosign(t, n)
	both, ok := n.Merge(line, v)
	if !ok || !both.SignedBy(v) {
		t.Fatalf("merged %v: %q", ok, both.Signed)
	}
	own, err := ledger.NewVerifier(newBook(t).epoch.Key)
	must(t, err)
	if !both.SignedBy(own) {
		t.Error("the ledger's own signature is gone")
	}
	if again, err := ledger.ParseNote(both.Signed); err != nil || again != both {
		t.Errorf("%+v, %v", again, err)
	}
	w.at++
	later, ok := both.Merge(w.cosign(t, n), v)
	if !ok || strings.Count(later.Signed, w.name) != 1 || later == both {
		t.Errorf("a later cosignature doesn't take the place of the first: %q", later.Signed)
	}
	for name, bad := range map[string]string{
		"of another checkpoint": w.cosign(t, newBook(t).grow(5).checkpoint(t)),
		"nothing":               "",
		"no line":               "ok\n",
		"of a stranger":         witness{"witness.example/w2", w.key, w.at}.cosign(t, n),
		"with another key":      witness{w.name, ed25519.NewKeyFromSeed([]byte(strings.Repeat("x", 32))), w.at}.cosign(t, n),
	} {
		if _, ok := n.Merge(bad, v); ok {
			t.Errorf("%s: taken", name)
		}
	}
	for name, vkey := range map[string]string{
		"other name": strings.Replace(w.vkey(), "w1", "w2", 1), "short": w.vkey()[:60], "empty": "", "nonsense": "a+b+c",
	} {
		if _, err := ledger.NewVerifier(vkey); err == nil {
			t.Errorf("verifier key, %s: accepted", name)
		}
	}
}

func TestProofIsTakenByTlog(t *testing.T) {
	t.Parallel()
	b := newBook(t).grow(23)
	n := b.checkpoint(t)
	for _, e := range b.entries {
		p, err := ledger.Prove(e, n, b.hashes())
		must(t, err)
		// Read with nothing of ours: c2sp.org/tlog-proof by hand.
		lines := strings.Split(p.String(), "\n")
		if lines[0] != "c2sp.org/tlog-proof@v1" || lines[2] != fmt.Sprintf("index %d", e.Seq-1) {
			t.Fatalf("%q", lines[:3])
		}
		var hashes []tlog.Hash
		for _, line := range lines[3:] {
			if line == "" {
				break
			}
			h, err := tlog.ParseHash(line)
			must(t, err)
			hashes = append(hashes, h)
		}
		must(t, tlog.CheckRecord(hashes, 23, b.tree.Root(), int64(e.Seq-1), tlog.RecordHash(e.Leaf())))
		again, err := ledger.ParseProof(p.String())
		must(t, err)
		must(t, again.Check())
	}
	for old := uint64(1); old <= n.Size; old++ {
		g, err := ledger.ProveGrowth(old, n, b.hashes())
		must(t, err)
		must(t, tlog.CheckTree(g.Hashes, int64(n.Size), n.Root, int64(old), newBook(t).grow(int(old)).tree.Root()))
	}
}

func TestProofTornAtEveryByte(t *testing.T) {
	t.Parallel()
	b := newBook(t).grow(6)
	p, err := ledger.Prove(b.entries[3], b.checkpoint(t), b.hashes())
	must(t, err)
	own, err := ledger.NewVerifier(b.epoch.Key)
	must(t, err)
	holds := func(text string) bool {
		got, err := ledger.ParseProof(text)
		return err == nil && got.Check() == nil && got.Note.SignedBy(own)
	}
	text := p.String()
	if !holds(text) {
		t.Fatal("the proof as it is doesn't hold")
	}
	for i := range text {
		torn := []byte(text)
		torn[i] ^= 1
		if holds(text[:i]) || holds(string(torn)) {
			t.Errorf("torn at byte %d (%q) it still holds", i, text[max(0, i-5):i+1])
		}
	}
}
