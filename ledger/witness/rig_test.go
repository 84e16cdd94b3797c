package witness_test

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"bollard/ledger"
	"bollard/ledger/witness"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const origin = "gate.example/ledger/0a1b2c3d"

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// book is a ledger in memory that signs itself.
type book struct {
	mu      sync.Mutex
	tree    ledger.Tree
	entries []ledger.Entry
	signer  *ledger.Signer
	key     note.Verifier
	vkey    string
	kept    []ledger.Note // Cosigned
}

func newBook(t *testing.T) *book {
	t.Helper()
	key := ed25519.NewKeyFromSeed([]byte(strings.Repeat("l", 32)))
	public := key.Public().(ed25519.PublicKey)
	signer, err := ledger.NewSigner(origin, public, func(m []byte) ([]byte, error) { return ed25519.Sign(key, m), nil })
	must(t, err)
	vkey, err := ledger.VerifierKey(origin, public)
	must(t, err)
	v, err := ledger.NewVerifier(vkey)
	must(t, err)
	return &book{signer: signer, key: v, vkey: vkey}
}

func (b *book) grow(actor string, n int) *book {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range n {
		b.entries = append(b.entries, b.tree.Append(noon, ledger.Event{Kind: "a.b", Actor: actor}))
	}
	return b
}

func (b *book) Checkpoint(context.Context) (ledger.Note, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return ledger.Checkpoint{Origin: origin, Size: b.tree.Size(), Root: b.tree.Root()}.Sign(b.signer)
}

func (b *book) Cosigned(_ context.Context, n ledger.Note) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.kept = append(b.kept, n)
	return nil
}

func (b *book) checkpoint(t *testing.T) ledger.Note {
	t.Helper()
	n, err := b.Checkpoint(t.Context())
	must(t, err)
	return n
}

func (b *book) hashes(context.Context) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		var list []tlog.Hash
		for _, i := range indexes {
			seq, at := ledger.Place(i)
			list = append(list, b.entries[seq-1].Hashes[at])
		}
		return list, nil
	})
}

// peer is a witness as c2sp.org/tlog-witness describes one, made of sumdb's
// note and tlog alone.
type peer struct {
	key   ed25519.PrivateKey
	knows note.Verifier

	mu    sync.Mutex
	size  int64
	root  tlog.Hash
	asked int
}

func newPeer(knows note.Verifier) *peer {
	return &peer{key: ed25519.NewKeyFromSeed([]byte(strings.Repeat("w", 32))), knows: knows}
}

func (p *peer) Name() string { return "witness.example/w1" }

func (p *peer) material() []byte { return append([]byte{4}, p.key.Public().(ed25519.PublicKey)...) }

func (p *peer) KeyHash() uint32 {
	sum := sha256.Sum256(append([]byte(p.Name()+"\n"), p.material()...))
	return binary.BigEndian.Uint32(sum[:])
}

func (p *peer) vkey() string {
	return fmt.Sprintf("%s+%08x+%s", p.Name(), p.KeyHash(), base64.StdEncoding.EncodeToString(p.material()))
}

func (p *peer) Sign(msg []byte) ([]byte, error) {
	at := uint64(noon.Unix())
	return append(binary.BigEndian.AppendUint64(nil, at), ed25519.Sign(p.key, fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", at, msg))...), nil
}

func (p *peer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	if r.Method != http.MethodPost || r.URL.Path != "/w/add-checkpoint" {
		http.Error(w, "no such thing", http.StatusMethodNotAllowed)
		return
	}
	body := new(strings.Builder)
	if err := r.Write(body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	_, text, _ := strings.Cut(body.String(), "\r\n\r\n")
	head, signed, _ := strings.Cut(text, "\n\n")
	lines := strings.Split(head, "\n")
	var old int64
	if _, err := fmt.Sscanf(lines[0], "old %d", &old); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if !strings.HasPrefix(signed, p.knows.Name()+"\n") {
		http.Error(w, "unknown origin", http.StatusNotFound)
		return
	}
	n, err := note.Open([]byte(signed), note.VerifierList(p.knows))
	if err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	fields := strings.Split(n.Text, "\n")
	size, _ := strconv.ParseInt(fields[1], 10, 64)
	root, _ := tlog.ParseHash(fields[2])
	var proof tlog.TreeProof
	for _, line := range lines[1:] {
		h, _ := tlog.ParseHash(line)
		proof = append(proof, h)
	}
	switch {
	case old > size:
		http.Error(w, "old above size", http.StatusBadRequest)
		return
	case old != p.size, old == size && old > 0 && root != p.root:
		w.Header().Set("Content-Type", "text/x.tlog.size")
		w.WriteHeader(http.StatusConflict)
		fmt.Fprintf(w, "%d\n", p.size)
		return
	case old > 0 && old != size && tlog.CheckTree(proof, size, root, old, p.root) != nil, old == 0 && len(proof) > 0:
		http.Error(w, "no proof", http.StatusUnprocessableEntity)
		return
	}
	p.size, p.root = size, root
	out, _ := note.Sign(&note.Note{Text: n.Text}, p)
	fmt.Fprint(w, strings.TrimPrefix(string(out), n.Text+"\n"))
}

// serve runs a handler on loopback; the place may reach it.
func serve(t *testing.T, h http.Handler, path string) witness.HTTPConfig {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return witness.HTTPConfig{Name: "w", URL: s.URL + path, Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
