package signing_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"bollard/firmware/bundle"
	"bollard/firmware/release"
	"bollard/firmware/signing"
	"bollard/ledger"
	"bollard/ledger/tiles"
)

const goodSBOM = `{"bomFormat":"CycloneDX","specVersion":"1.6","metadata":{"component":{"bom-ref":"top","type":"firmware","name":"ac22"}},` +
	`"components":[{"bom-ref":"a","type":"library","name":"openssl","version":"3.0.19"},{"bom-ref":"b","type":"library","name":"zlib"}],` +
	`"dependencies":[{"ref":"top","dependsOn":["a"]},{"ref":"a","dependsOn":["b"]}]}`

var goodBuild = bundle.Build{
	Builder: "https://ci.acme.example/builder@v1", Type: "https://acme.example/yocto/v1",
	Source: "git+https://git.acme.example/ac22", Commit: "0123456789abcdef0123456789abcdef01234567",
}

// newLog is a log of its own key.
func newLog(t testing.TB) (*tiles.Log, note.Verifier) {
	t.Helper()
	const origin = "acme.example/firmware"
	public, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	s, err := ledger.NewSigner(origin, public, func(m []byte) ([]byte, error) { return ed25519.Sign(key, m), nil })
	must(t, err)
	vkey, err := ledger.VerifierKey(origin, public)
	must(t, err)
	v, err := ledger.NewVerifier(vkey)
	must(t, err)
	dir := filepath.Join(t.TempDir(), "log")
	must(t, tiles.Create(dir, origin, s))
	l, err := tiles.Open(t.Context(), dir, s, v)
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l, v
}

type fullLog struct{ signing.Log }

func (fullLog) Append(context.Context, []byte) (ledger.Inclusion, error) {
	return ledger.Inclusion{}, errors.New("the log is full")
}

// What others' programs look for in the papers is there.
func TestPapers(t *testing.T) {
	t.Parallel()
	m, image := newMaker(t, ecKey(t), nil), image(t)
	cfg := config(t, m, image)
	cfg.SBOM, cfg.Build = []byte(goodSBOM), &goodBuild
	cfg.Log, cfg.LogKey = newLog(t)
	r := sign(t, cfg)
	if wrong := faults(check(t, cfg.Out, image, bundle.Trust{Roots: []*x509.Certificate{m.root}, At: now, Log: cfg.LogKey})); len(wrong) > 0 {
		t.Error(wrong)
	}
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(cfg.Out, name))
		must(t, err)
		return data
	}
	if string(read(bundle.FileSBOM)) != goodSBOM {
		t.Error("the SBOM isn't the one given")
	}
	payload, err := release.Unseal(t.Context(), "application/vnd.in-toto+json", read(bundle.FileProvenance), m.chain[0])
	must(t, err)
	var s struct {
		Type    string `json:"_type"`
		Subject []struct {
			Digest map[string]string
		}
		PredicateType string
		Predicate     struct {
			BuildDefinition struct {
				BuildType            string
				ResolvedDependencies []struct{ Digest map[string]string }
			}
			RunDetails struct{ Builder struct{ ID string } }
		}
	}
	must(t, json.Unmarshal(payload, &s))
	p := s.Predicate
	if s.Type != "https://in-toto.io/Statement/v1" || s.PredicateType != "https://slsa.dev/provenance/v1" || s.Subject[0].Digest["sha256"] != r.SHA256 ||
		p.RunDetails.Builder.ID != goodBuild.Builder || p.BuildDefinition.BuildType != goodBuild.Type || p.BuildDefinition.ResolvedDependencies[0].Digest["gitCommit"] != goodBuild.Commit {
		t.Errorf("%s", payload)
	}
	// The log's leaf is the SHA-256 of the record; worked out by hand.
	sum := sha256.Sum256(read(bundle.FileRelease))
	leaf := tlog.Hash(sha256.Sum256(append([]byte{0}, sum[:]...)))
	proof := string(read(bundle.FileProof))
	want := "c2sp.org/tlog-proof@v1\nindex 0\n\nacme.example/firmware\n1\n" + base64.StdEncoding.EncodeToString(leaf[:]) + "\n\n\u2014 acme.example/firmware "
	if !strings.HasPrefix(proof, want) {
		t.Errorf("%q, want %q", proof, want)
	}
}

// A release that was to be in a log doesn't hold without it being known to be.
func TestLogNoneIsSaid(t *testing.T) {
	t.Parallel()
	m, image := newMaker(t, ecKey(t), nil), image(t)
	cfg := config(t, m, image)
	if r := sign(t, cfg); r.Log != release.NoLog {
		t.Error(r.Log)
	}
	trust := bundle.Trust{At: now}
	if wrong := faults(check(t, cfg.Out, image, trust)); len(wrong) > 0 {
		t.Error(wrong)
	}
	_, trust.Log = newLog(t)
	if wrong := faults(check(t, cfg.Out, image, trust)); len(wrong) != 1 || wrong[bundle.FileProof] == "" {
		t.Errorf("%v", wrong)
	}
}

// As many witnesses as somebody asks for must have cosigned, each counted once; what a
// witness didn't sign isn't given away.
func TestWitnessesAreCounted(t *testing.T) {
	t.Parallel()
	m, image := newMaker(t, ecKey(t), nil), image(t)
	cfg := config(t, m, image)
	cfg.Log, cfg.LogKey = newLog(t)
	var keys []note.Verifier
	var signers []note.Signer
	for _, name := range []string{"w1.example", "w2.example", "w3.example"} {
		public, key, err := ed25519.GenerateKey(rand.Reader)
		must(t, err)
		s, err := ledger.NewSigner(name, public, func(m []byte) ([]byte, error) { return ed25519.Sign(key, m), nil })
		must(t, err)
		vkey, err := ledger.VerifierKey(name, public)
		must(t, err)
		v, err := ledger.NewVerifier(vkey)
		must(t, err)
		keys, signers = append(keys, v), append(signers, s)
	}
	cfg.Cosign = func(context.Context, ledger.Note) (ledger.Note, error) { return ledger.Note{}, errors.New("no") }
	if _, err := signing.Sign(t.Context(), cfg); err == nil {
		t.Fatal("a witness refused, and the release was kept")
	}
	if _, err := os.Stat(cfg.Out); err == nil {
		t.Fatal("a witness refused, and the bundle is there")
	}
	cfg.Cosign = func(_ context.Context, n ledger.Note) (ledger.Note, error) {
		signed, err := note.Sign(&note.Note{Text: n.Text()}, signers[0], signers[1])
		must(t, err)
		n, ok := n.Merge(strings.TrimPrefix(string(signed), n.Text()+"\n"), keys[0], keys[1])
		if !ok {
			t.Error("the witnesses' own signatures aren't good")
		}
		return n, nil
	}
	sign(t, cfg)
	for name, tt := range map[string]struct {
		keys   []note.Verifier
		needed int
		good   bool
	}{
		"both":             {keys[:2], 0, true},
		"one of one":       {keys[1:2], 0, true},
		"two of three":     {keys, 2, true},
		"all of three":     {keys, 0, false},
		"three of three":   {keys, 3, false},
		"who didn't":       {keys[2:], 0, false},
		"one of two twice": {[]note.Verifier{keys[0], keys[0], keys[2]}, 2, false},
	} {
		wrong := faults(check(t, cfg.Out, image, bundle.Trust{At: now, Log: cfg.LogKey, Witnesses: tt.keys, Needed: tt.needed}))
		if (len(wrong) == 0) != tt.good {
			t.Errorf("%s: %v", name, wrong)
		}
	}
}
