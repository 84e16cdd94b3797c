package ceremony_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bollard/ca/ceremony"
	"bollard/keys"
	"bollard/store"
)

const good = `ceremony: Root of cars
hierarchy: csms
organisation: Example CPO
country: NL
from: "2026-06-01T09:00:00Z"
until: "2026-06-01T18:00:00Z"
roles: [ceremony master, witness]
keys: "softkms:"
certify:
  - {request: csms.csr, sha256: SUM, level: 1, to: csms.pem}
`

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// request is that of a CA under the name Bollard gives one with its key.
func request(t testing.TB, organisation string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	name := pkix.Name{Country: []string{"NL"}, Organization: []string{organisation}, CommonName: fmt.Sprintf("CSMS Issuing CA %x", sha256.Sum256(spki))[:len("CSMS Issuing CA ")+8]}
	constraints := pkix.Extension{Id: []int{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 3, 1, 1, 0xff}}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: name, ExtraExtensions: []pkix.Extension{constraints}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// table is where a ceremony takes place.
type table struct {
	beside, dir string
	present     []string
	rehearsal   bool
	keysThere   bool
	now         time.Time
	said        []string
}

func newTable(t testing.TB) *table {
	return &table{beside: t.TempDir(), dir: t.TempDir(), present: []string{"witness", "ceremony master"}, now: noon}
}

// lay puts a request on it, and returns the script for it.
func (tb *table) lay(t testing.TB, name string, request []byte) string {
	t.Helper()
	if err := os.WriteFile(filepath.Join(tb.beside, name), request, 0o600); err != nil {
		t.Fatal(err)
	}
	return strings.Replace(good, "SUM", fmt.Sprintf("%x", sha256.Sum256(request)), 1)
}

// run does what a script says.
func (tb *table) run(t testing.TB, text string) (ceremony.Result, error) {
	t.Helper()
	script, err := ceremony.ParseScript("script.yaml", []byte(text))
	if err != nil {
		return ceremony.Result{}, err
	}
	inputs, err := os.OpenRoot(tb.beside)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.OpenRoot(tb.dir)
	if err != nil {
		t.Fatal(err)
	}
	clock := func() time.Time { return tb.now }
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(tb.dir, "root.db"), Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	keeper, err := keys.New(keys.Config{Dir: filepath.Join(tb.dir, "keys")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _, _, _ = inputs.Close(), dir.Close(), db.Close(), keeper.Close() }() // what a run kept is looked at by the next
	return ceremony.Run(t.Context(), ceremony.Config{
		Script: script, Inputs: inputs, Dir: dir, Store: db, Keeper: keeper, Encrypted: true, Rehearsal: tb.rehearsal, KeysThere: tb.keysThere,
		Present: tb.present, Actor: "operator", Clock: clock, Say: func(line string) { tb.said = append(tb.said, line) },
	})
}

// Nothing is made by a script that is wrong in anything, and the error says where.
func TestWrongScriptsMakeNothing(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ old, new, want string }{
		"unknown key":           {"roles:", "rolez:", "rolez"},
		"no title":              {"ceremony: Root of cars", "ceremony: ' '", "ceremony: is missing"},
		"no such hierarchy":     {"hierarchy: csms", "hierarchy: cars", "hierarchy"},
		"no day":                {"2026-06-01T09:00:00Z", "today", "from"},
		"ends before it begins": {"2026-06-01T18:00:00Z", "2026-06-01T08:00:00Z", "until"},
		"a script for years":    {"2026-06-01T18:00:00Z", "2027-06-01T18:00:00Z", "more than a month"},
		"yesterday's":           {"from: \"2026-06-01T09:00:00Z\"\nuntil: \"2026-06-01T18:00:00Z\"", "from: \"2026-05-31T09:00:00Z\"\nuntil: \"2026-05-31T18:00:00Z\"", "this machine's clock says 2026-06-01"},
		"nobody beside":         {"[ceremony master, witness]", "[ceremony master]", "roles"},
		"one role twice":        {"[ceremony master, witness]", "[witness, witness]", "stands there twice"},
		"a role that is a name": {"[ceremony master, witness]", "[ceremony master, 'Jane\\nDoe']", "isn't a role"},
		"keys nowhere":          {`"softkms:"`, `"paper:"`, "keys"},
		"a PIN in the script":   {`"softkms:"`, `"pkcs11:module-path=/m.so;token=t?pin-value=1234"`, "keys"},
		"next of a new root":    {"certify:", "next_root: {certificate: next.pem, sha256: SUM, to: cross.pem}\ncertify:", "next_root: is certified by the root before it"},
		"a root of old":         {"keys:", "root: kept\nkeys:", "there is no root here"},
		"revoked by a new root": {"certify:", "revoke: [{serial: '12', reason: superseded}]\ncertify:", "certified nobody"},
		"no such algorithm":     {"keys:", "algorithm: p224\nkeys:", "p224"},
		"request up the path":   {"request: csms.csr", "request: ../csms.csr", "certify[0].request"},
		"request by a link":     {"request: csms.csr", "request: link.csr", "couldn't read link.csr"},
		"no request":            {"request: csms.csr", "request: gone.csr", "couldn't read gone.csr"},
		"no digest":             {"sha256: ", "sha256: 00", "certify[0].sha256"},
		"result up the path":    {"to: csms.pem", "to: ../csms.pem", "certify[0].to"},
		"result over another":   {"to: csms.pem", "to: root.pem", "is made already"},
		"result as a draft":     {"to: csms.pem", "to: root.crl.pem.NEW", "while they are written"},
		"result but for case":   {"to: csms.pem", "to: Root.pem", "is made already"},
		"gives up nothing":      {"keys:", "abandons: SUM\nkeys:", "abandons"},
		"no plain status":       {"keys:", "status: https://example.com\nkeys:", "status: \"https://example.com\" isn't plain http"},
		"no country":            {"country: NL", "country: nl", "country: country \"nl\" isn't two capital letters"},
		"result that is hidden": {"to: csms.pem", "to: .profile", "certify[0].to"},
		"level of the root":     {"level: 1", "level: 0", "certify[0].level"},
		"level below all":       {"level: 1", "level: 2", "no CA at level 2"},
		"another organisation":  {"Example CPO", "Another CPO", "is called"},
		"another hierarchy":     {"hierarchy: csms", "hierarchy: manufacturer", "is called"},
		"a list without end":    {"keys:", "list_days: 9999\nkeys:", "list_days"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tb := newTable(t)
			text := tb.lay(t, "csms.csr", request(t, "Example CPO"))
			if err := os.Symlink("../../../../../../etc/hostname", filepath.Join(tb.beside, "link.csr")); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(text, tt.old) {
				t.Fatalf("%q isn't in the script", tt.old)
			}
			_, err := tb.run(t, strings.Replace(text, tt.old, tt.new, 1))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want one with %q", err, tt.want)
			}
			if left, err := filepath.Glob(filepath.Join(tb.dir, "keys", "*")); err != nil || len(left) > 0 {
				t.Errorf("it made %v", left)
			}
			if begun := tb.began(t); begun > 0 {
				t.Error("it was begun")
			}
		})
	}
	tb := newTable(t)
	text := tb.lay(t, "csms.csr", request(t, "Example CPO"))
	tb.lay(t, "csms.csr", request(t, "Example CPO")) // in its place
	if _, err := tb.run(t, text); err == nil || !strings.Contains(err.Error(), "csms.csr is another file") {
		t.Errorf("another request in its place: %v", err)
	}
	tb.present = tb.present[1:]
	if _, err := tb.run(t, tb.lay(t, "csms.csr", request(t, "Example CPO"))); err == nil || !strings.Contains(err.Error(), "the witness isn't present") {
		t.Errorf("without a witness: %v", err)
	}
}

// began counts the ceremonies that began.
func (tb *table) began(t testing.TB) int {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(tb.dir, "root.db"), Clock: func() time.Time { return tb.now }})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	n := 0
	for e, err := range db.Entries(t.Context(), 1) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind == "ceremony.began" {
			n++
		}
	}
	return n
}

// cutOff runs a script up to its list, which can't be written.
func (tb *table) cutOff(t testing.TB, text string) (folder string) {
	t.Helper()
	script, err := ceremony.ParseScript("script.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	folder = filepath.Join(tb.dir, script.Digest()[:12])
	if err := os.MkdirAll(filepath.Join(folder, ceremony.ListFile), 0o700); err != nil { // in the list's place
		t.Fatal(err)
	}
	if _, err := tb.run(t, text); err == nil {
		t.Fatal("a list was made where a folder is")
	}
	if err := os.Remove(filepath.Join(folder, ceremony.ListFile)); err != nil {
		t.Fatal(err)
	}
	return folder
}

// No script locks a root in: one that can't be done isn't begun, one that was cut off
// goes on after its time, and one that can't go on is given up by the next, by name.
func TestNothingLocksARootIn(t *testing.T) {
	t.Parallel()
	_, tb := held(t)
	kept, _, _ := strings.Cut(strings.Replace(good, "keys:", "root: kept\nkeys:", 1), "certify:")
	for _, serial := range []string{"'12'", "no number"} {
		if _, err := tb.run(t, kept+"revoke: [{serial: "+serial+", reason: superseded}]\n"); err == nil || !strings.Contains(err.Error(), "revoke[0].serial") {
			t.Errorf("serial number %s: %v", serial, err)
		}
	}
	if n := tb.began(t); n != 1 {
		t.Fatalf("%d ceremonies began", n)
	}

	folder := tb.cutOff(t, kept)
	tb.now = noon.AddDate(0, 0, -1)
	if _, err := tb.run(t, kept); err == nil || !strings.Contains(err.Error(), "clock") {
		t.Errorf("by a clock that is slow: %v", err)
	}
	tb.now = noon.AddDate(0, 1, 0)
	if _, err := tb.run(t, kept); err != nil {
		t.Errorf("after its time: %v", err)
	}
	if _, err := os.Stat(filepath.Join(folder, ceremony.TranscriptFile)); err != nil {
		t.Error(err)
	}
	if _, err := tb.run(t, kept+"list_days: 30\n"); err == nil || !strings.Contains(err.Error(), "clock") {
		t.Errorf("another one, after its time: %v", err)
	}

	kept = strings.ReplaceAll(kept, "2026-06-01", tb.now.Format(time.DateOnly))
	other := kept + "list_days: 30\n"
	tb.cutOff(t, other)
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte(other)))
	further := kept + "list_days: 60\n"
	for _, text := range []string{further, further + "abandons: '" + strings.Repeat("0", 64) + "'\n"} {
		if _, err := tb.run(t, text); err == nil || !strings.Contains(err.Error(), "`abandons: \""+sum+"\"`") {
			t.Errorf("another one meanwhile: %v", err)
		}
	}
	if _, err := tb.run(t, further+"abandons: '"+sum+"'\n"); err != nil {
		t.Errorf("in its place: %v", err)
	}
	if _, err := tb.run(t, other); err == nil || !strings.Contains(err.Error(), "was abandoned") {
		t.Errorf("the one given up: %v", err)
	}
	if _, err := tb.run(t, kept+"list_days: 90\nabandons: "+sum+"\n"); err == nil || !strings.Contains(err.Error(), "no ceremony is under way") {
		t.Errorf("given up twice: %v", err)
	}
	if _, err := tb.run(t, kept+"list_days: 90\n"); err != nil {
		t.Errorf("the next one: %v", err)
	}
}

// A rehearsal deletes keys at its end: it begins in no folder where others lie.
func TestRehearsalBesideKeysOfOthers(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	tb.rehearsal, tb.keysThere = true, true
	text := tb.lay(t, "csms.csr", request(t, "Example CPO"))
	if _, err := tb.run(t, text); err == nil || !strings.Contains(err.Error(), "there are keys here") || tb.began(t) > 0 {
		t.Errorf("keys without a record: %v", err)
	}
	tb.keysThere = false
	tb.cutOff(t, text)
	tb.keysThere = true // its own
	if _, err := tb.run(t, text); err != nil {
		t.Error(err)
	}
}

// held is a ceremony that took place.
func held(t testing.TB) (transcript []byte, tb *table) {
	t.Helper()
	tb = newTable(t)
	made, err := tb.run(t, tb.lay(t, "csms.csr", request(t, "Example CPO")))
	if err != nil {
		t.Fatal(err)
	}
	transcript, err = os.ReadFile(filepath.Join(tb.dir, made.Folder, ceremony.TranscriptFile))
	if err != nil {
		t.Fatal(err)
	}
	return transcript, tb
}

// A transcript counts whole, in its order, letter for letter, under its own root's
// signature, and no other.
func TestTouchedTranscriptsAreRefused(t *testing.T) {
	t.Parallel()
	data, tb := held(t)
	read, err := ceremony.ReadTranscript(data)
	if err != nil || read.Title != "Root of cars" || read.Roles != "ceremony master, witness" || len(read.Outputs) != 3 || read.Rehearsal {
		t.Fatalf("%+v: %v", read, err)
	}
	lines := bytes.SplitAfter(bytes.TrimSuffix(data, []byte("\n")), []byte("\n"))
	refused := func(what string, data []byte) {
		t.Helper()
		if _, err := ceremony.ReadTranscript(data); err == nil {
			t.Errorf("%s: it was believed", what)
		}
	}
	for i := range lines {
		left := bytes.Join(append(append([][]byte{}, lines[:i]...), lines[i+1:]...), nil)
		refused(fmt.Sprintf("line %d is gone", i+1), append(left, '\n'))
	}
	for i := 0; i < len(data); i += 37 {
		flipped := bytes.Clone(data)
		flipped[i] ^= 1
		refused(fmt.Sprintf("byte %d is another", i), flipped)
	}
	refused("a line more", append(bytes.Clone(data), "{}\n"...))
	refused("nothing", nil)
	foreign, _ := held(t)
	other := bytes.SplitAfter(bytes.TrimSuffix(foreign, []byte("\n")), []byte("\n"))
	refused("another root's signature", append(append(bytes.Join(lines[:len(lines)-1], nil), other[len(other)-1]...), '\n'))
	refused("another spelling of the signature", bytes.Replace(data, []byte(`,"signature":`), []byte(`, "signature":`), 1))

	// What was made is held against it.
	folder := filepath.Join(tb.dir, read.Script[:12])
	for _, name := range []string{ceremony.RootFile, ceremony.ListFile, "csms.pem"} {
		made, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := read.CheckOutput(name, made); err != nil {
			t.Error(err)
		}
		if err := read.CheckOutput(name, append(made, '\n')); err == nil {
			t.Errorf("%s with a byte more was believed", name)
		}
	}
}

// What a ceremony made and somebody took away is made again; what somebody changed isn't
// passed over.
func TestResultsThatAreGoneOrChanged(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	text := tb.lay(t, "csms.csr", request(t, "Example CPO"))
	folder := tb.cutOff(t, text)
	before, err := os.ReadFile(filepath.Join(folder, "csms.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "csms.pem"), []byte("changed"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := tb.run(t, text); err == nil || !strings.Contains(err.Error(), "csms.pem isn't what the ceremony made") {
		t.Errorf("a changed result: %v", err)
	}
	if err := os.Remove(filepath.Join(folder, "csms.pem")); err != nil {
		t.Fatal(err)
	}
	if _, err := tb.run(t, text); err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(filepath.Join(folder, "csms.pem")); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the CA was certified once more: %v", err)
	}
	// Over, it can be written out again on any day, and says the same.
	tb.now = noon.AddDate(1, 0, 0)
	first, err := os.ReadFile(filepath.Join(folder, ceremony.TranscriptFile))
	if err != nil {
		t.Fatal(err)
	}
	told, err := ceremony.ReadTranscript(first)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{ceremony.TranscriptFile, ceremony.RootFile, "csms.pem", ceremony.ListFile} {
		file := filepath.Join(folder, name)
		made, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, made[:len(made)-1], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := tb.run(t, text); err == nil || !strings.Contains(err.Error(), name+" isn't what the ceremony made") {
			t.Errorf("%s was changed: %v", name, err)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		tb.said = nil
		again, err := tb.run(t, text)
		if err != nil || again.Digest != told.Digest || !strings.Contains(strings.Join(tb.said, "\n"), told.Digest) {
			t.Errorf("%s is gone: %+v, %v", name, again, err)
		}
		data, err := os.ReadFile(file)
		switch {
		case name == ceremony.ListFile: // another one would be another list
			if err == nil || slices.Contains(again.Files, name) || !strings.Contains(strings.Join(tb.said, "\n"), "no copy is kept") {
				t.Error("the list is there again")
			}
		case name == ceremony.TranscriptFile:
			if read, err := ceremony.ReadTranscript(data); err != nil || read.Digest != told.Digest || bytes.Equal(data, made) {
				t.Errorf("signed anew: %+v, %v", read, err)
			}
		case err != nil || !bytes.Equal(data, made):
			t.Errorf("%s is another: %v", name, err)
		}
	}
	// A transcript that holds by itself and is another ceremony's isn't this one's.
	foreign, _ := held(t)
	if err := os.WriteFile(filepath.Join(folder, ceremony.TranscriptFile), foreign, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := tb.run(t, text); err == nil || !strings.Contains(err.Error(), "something else") {
		t.Errorf("another's transcript: %v", err)
	}
}

// Roots on every kind of key sign their transcripts.
func TestKindsOfRoots(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []string{"p384", "p521", "rsa2048"} {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			tb := newTable(t)
			text := strings.Replace(tb.lay(t, "csms.csr", request(t, "Example CPO")), "keys:", "algorithm: "+algorithm+"\nkeys:", 1)
			if _, err := tb.run(t, text); err != nil {
				t.Error(err)
			}
		})
	}
	tb := newTable(t)
	text, _, _ := strings.Cut(strings.Replace(good, "hierarchy: csms", "hierarchy: v2g-448", 1), "certify:")
	if _, err := tb.run(t, text); err != nil {
		t.Errorf("on Ed448: %v", err)
	}
}

func FuzzReadTranscript(f *testing.F) {
	data, _ := held(f)
	f.Add(data)
	f.Add(data[bytes.IndexByte(data, '\n')+1:])
	f.Add([]byte("{\"root\":\"\",\"signature\":\"\"}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, err := ceremony.ReadTranscript(text); err != nil {
			return
		}
		// Each process of the fuzzer has a root of its own: what is believed may be another
		// one's, but not with any letter of it changed.
		for i := 0; i < len(text); i += 1 + len(text)/16 {
			changed := bytes.Clone(text)
			changed[i] ^= 1
			if read, err := ceremony.ReadTranscript(changed); err == nil {
				t.Errorf("believed with byte %d changed: %+v", i, read)
			}
		}
	})
}
