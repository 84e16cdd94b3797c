package catalogue_test

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"bollard/firmware/bundle"
	"bollard/firmware/catalogue"
	"bollard/firmware/release"
	"bollard/firmware/tuf"
	"bollard/ledger"
)

func named(vendor, model string) func(*release.Release) {
	return func(r *release.Release) { r.Vendor, r.Models = vendor, []release.Model{{Vendor: vendor, Model: model}} }
}

// A manufacturer signs for those vendors and models that the operator named, also
// when its release is used, and revokes no other's.
func TestWhoSignsForWhom(t *testing.T) { // promise 10
	t.Parallel()
	for name, tt := range map[string]struct {
		maker  catalogue.Maker
		change func(*release.Release)
		ok     bool
	}{
		"the root's own name":    {catalogue.Maker{}, named("ACME", "Volt"), true},
		"another vendor":         {catalogue.Maker{}, named("Other", "Volt"), false},
		"another case":           {catalogue.Maker{}, named("acme", "Volt"), false},
		"a model of another":     {catalogue.Maker{}, func(r *release.Release) { r.Models = append(r.Models, release.Model{Vendor: "Other", Model: "Volt"}) }, false},
		"another vendor's name":  {catalogue.Maker{}, func(r *release.Release) { r.Vendor = "Other" }, false},
		"named":                  {catalogue.Maker{Vendors: []string{"Other", "More"}}, named("More", "Volt"), true},
		"others are named":       {catalogue.Maker{Vendors: []string{"Other"}}, named("ACME", "Volt"), false},
		"a model that begins so": {catalogue.Maker{Vendors: []string{"ACME"}, Models: []string{"Amp", "Volt*"}}, named("ACME", "Volt 2"), true},
		"another model":          {catalogue.Maker{Vendors: []string{"ACME"}, Models: []string{"Amp", "Volt*"}}, named("ACME", "Ampere"), false},
	} {
		s := newShelf(t)
		if tt.maker.Vendors != nil {
			sum := sha256.Sum256(s.cert.Raw)
			tt.maker.Name, tt.maker.Roots = "maker", []string{hex.EncodeToString(sum[:])}
			s.trust(tt.maker)
		}
		r, in := s.sign(7, "image", tt.change)
		if _, _, err := s.Add(t.Context(), "operator:root", in); (err == nil) != tt.ok {
			t.Errorf("%s: %v", name, err)
		}
		s.anchor.Own = true
		if _, _, err := s.Add(t.Context(), "operator:root", in); err != nil {
			t.Errorf("%s, signed by the operator: %v", name, err)
		}
		s.anchor.Own = false
		e, err := s.Find(t.Context(), r.ID)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Verify(t.Context(), &e); (err == nil) != tt.ok {
			t.Errorf("%s, when it is used: %v", name, err)
		}
	}

	s := newShelf(t)
	s.anchor.Own = true
	other, same := s.publish(5, named("Other", "Volt")), s.publish(6)
	s.anchor.Own = false
	r := s.add(8, func(r *release.Release) { r.Revokes = []string{same.ID, other.ID} })
	s.granted["firmware.publish release:"+r.ID] = []string{"alice"}
	if _, err := s.Publish(t.Context(), "operator:root", r.ID); err == nil || s.state(other.ID) != catalogue.Published || s.state(same.ID) != catalogue.Published || s.state(r.ID) != catalogue.Added {
		t.Errorf("it revokes another vendor's: %v", err)
	}
	r = s.add(9, func(r *release.Release) { r.Revokes = []string{same.ID} })
	s.granted["firmware.publish release:"+r.ID] = []string{"alice"}
	if _, err := s.Publish(t.Context(), "operator:root", r.ID); err != nil || s.state(same.ID) != catalogue.Revoked {
		t.Errorf("it revokes its own: %v", err)
	}
}

func read(files map[string][]byte) func(name string) ([]byte, error) {
	return func(name string) ([]byte, error) {
		text, ok := files[name]
		if !ok {
			return nil, fs.ErrNotExist
		}
		return text, nil
	}
}

// Of a manufacturer with metadata only what that names is taken, and nothing older.
func TestDeliveriesAreOfTheMetadata(t *testing.T) { // promise 10
	t.Parallel()
	s := newShelf(t)
	dir := filepath.Join(t.TempDir(), "tuf")
	keys := []crypto.Signer{s.key}
	public := []crypto.PublicKey{s.key.Public()}
	if err := tuf.Create(dir, tuf.Roles{Root: public, Targets: public, Online: public, RootThreshold: 1, TargetThreshold: 1, Expires: s.now.AddDate(1, 0, 0)}, keys, rand.Reader); err != nil {
		t.Fatal(err)
	}
	repo, err := tuf.Open(dir, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	defer repo.Close()
	root, err := repo.Read(tuf.FileRoot(1))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(s.cert.Raw)
	s.trust(catalogue.Maker{Name: "acme", Roots: []string{hex.EncodeToString(sum[:])}, Vendors: []string{"ACME"}, Metadata: root})
	enter := func(r *release.Release, in *catalogue.Bundle, leaveOut string) (metadata map[string][]byte) {
		t.Helper()
		image, err := hex.DecodeString(r.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		files := map[string]tuf.File{r.ID + "/" + r.File: {Size: int64(r.Size), SHA256: [32]byte(image)}}
		for name, text := range map[string][]byte{bundle.FileEnvelope: in.Envelope, bundle.FileCertificate: release.EncodeCertificate(in.Certificate)} {
			files[r.ID+"/"+name] = tuf.File{Size: int64(len(text)), SHA256: sha256.Sum256(text)}
		}
		delete(files, r.ID+"/"+leaveOut)
		if err := repo.Publish(files, keys, s.now.Add(24*time.Hour), s.now); err != nil {
			t.Fatal(err)
		}
		metadata = map[string][]byte{}
		names, err := repo.Files()
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if metadata[name], err = repo.Read(name); err != nil {
				t.Fatal(err)
			}
		}
		return metadata
	}
	r, in := s.sign(7, "image 7")
	if _, _, err := s.Add(t.Context(), "operator:root", in); err == nil || !strings.Contains(err.Error(), "pack") {
		t.Errorf("without metadata: %v", err)
	}
	for _, name := range []string{r.File, bundle.FileEnvelope, bundle.FileCertificate} {
		r, in := s.sign(8, "image 8")
		in.Metadata = read(enter(r, &in, name))
		if _, _, err := s.Add(t.Context(), "operator:root", in); err == nil || !strings.Contains(err.Error(), "isn't in the manufacturer's") {
			t.Errorf("%s isn't named: %v", name, err)
		}
	}
	never, neverIn := s.sign(6, "image 6")
	enter(never, &neverIn, "")
	old := enter(r, &in, "")
	in.Metadata = read(old)
	if _, _, err := s.Add(t.Context(), "operator:root", in); err != nil {
		t.Fatal(err)
	}
	if last := s.events[len(s.events)-2]; last.Kind != "firmware.metadata" || last.Subject != "acme" {
		t.Errorf("%+v", s.events)
	}
	next, nextIn := s.sign(9, "image 9")
	nextIn.Metadata = read(enter(next, &nextIn, ""))
	if _, _, err := s.Add(t.Context(), "operator:root", nextIn); err != nil {
		t.Fatal(err)
	}
	neverIn.Metadata = read(old)
	if _, _, err := s.Add(t.Context(), "operator:root", neverIn); err == nil || s.seenIn(never.ID) {
		t.Errorf("what is older than what was seen was taken in: %v", err)
	}
	in.Metadata = read(old)
	if _, again, err := s.Add(t.Context(), "operator:root", in); err != nil || !again { // its image was lost
		t.Errorf("the image of a release that is here: %v", err)
	}
	in = neverIn
	in.Papers = map[string][]byte{bundle.FileSBOM: []byte("{}")}
	in.Metadata = nextIn.Metadata
	if _, _, err := s.Add(t.Context(), "operator:root", in); err == nil {
		t.Error("with a paper that nobody signed")
	}
}

// What the record names has to be there as it was signed: it is kept with the release.
func TestPapersAreKept(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	text := []byte(`{"bomFormat":"CycloneDX","specVersion":"1.5","components":[{"type":"library","name":"openssl","version":"3.0.1"}]}`)
	sum := sha256.Sum256(text)
	_, in := s.sign(7, "image", func(r *release.Release) { r.SBOM = hex.EncodeToString(sum[:]) })
	for name, papers := range map[string]map[string][]byte{
		"none": nil, "another": {bundle.FileSBOM: append(text, ' ')}, "one nobody named": {bundle.FileSBOM: text, bundle.FileProvenance: text},
	} {
		in.Papers = papers
		if _, _, err := s.Add(t.Context(), "operator:root", in); err == nil {
			t.Errorf("%s: it was taken in", name)
		}
	}
	in.Papers = map[string][]byte{bundle.FileSBOM: text}
	if _, _, err := s.Add(t.Context(), "operator:root", in); err != nil || string(s.papers[bundle.FileSBOM]) != string(text) {
		t.Errorf("%v, %q", err, s.papers)
	}
}

// What counts for the level strict is a log that the operator trusts, and the proof
// that came with the release.
func TestProven(t *testing.T) {
	t.Parallel()
	const origin = "acme.example/firmware"
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ledger.NewSigner(origin, public, func(m []byte) ([]byte, error) { return ed25519.Sign(key, m), nil })
	if err != nil {
		t.Fatal(err)
	}
	vkey, err := ledger.VerifierKey(origin, public)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := ledger.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	prove := func(r *release.Release) []byte {
		entry, err := bundle.LogEntry(r)
		if err != nil {
			t.Fatal(err)
		}
		n, err := ledger.Checkpoint{Origin: origin, Size: 1, Root: tlog.RecordHash(entry)}.Sign(signer)
		if err != nil {
			t.Fatal(err)
		}
		return []byte(ledger.Inclusion{Note: n}.String())
	}
	s := newShelf(t)
	logged := func(r *release.Release) { r.Log = origin }
	r, in := s.sign(7, "image", logged)
	other, _ := s.sign(8, "other", logged)
	for name, tt := range map[string]struct {
		logs  []bundle.Log
		proof []byte
		ok    bool
	}{
		"proven":       {[]bundle.Log{{Key: verifier}}, prove(r), true},
		"no log":       {nil, prove(r), false},
		"no proof":     {[]bundle.Log{{Key: verifier}}, nil, false},
		"of another":   {[]bundle.Log{{Key: verifier}}, prove(other), false},
		"not cosigned": {[]bundle.Log{{Key: verifier, Witnesses: []note.Verifier{verifier, verifier}, Needed: 2}}, prove(r), false},
		"nothing":      {[]bundle.Log{{Key: verifier}}, []byte("x"), false},
	} {
		s := newShelf(t)
		s.cert, s.anchor.Root, s.logs = in.Certificate, in.Certificate, tt.logs
		s.trust()
		s.papers = map[string][]byte{}
		if tt.proof != nil {
			s.papers[bundle.FileProof] = tt.proof
		}
		if err := s.Proven(t.Context(), &catalogue.Entry{Release: r}); (err == nil) != tt.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	none, _ := s.sign(9, "third")
	s.logs = []bundle.Log{{Key: verifier}}
	s.trust()
	if err := s.Proven(t.Context(), &catalogue.Entry{Release: none}); err == nil || !strings.Contains(err.Error(), "log: none") {
		t.Errorf("in no log: %v", err)
	}
}
