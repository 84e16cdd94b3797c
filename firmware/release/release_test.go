package release_test

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bollard/firmware/release"
)

// The canonical form is kept: another digest would void what was signed.
func TestCanonicalIsTheGoldenFile(t *testing.T) {
	t.Parallel()
	want, err := os.ReadFile("testdata/release.json")
	must(t, err)
	got, err := full().Canonical()
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	sum, err := full().Digest()
	must(t, err)
	if golden := "bd0825c9e07387e747e91187174b30e1972fbcaccce350a79f4edbc86904e770"; sum != golden { // sha256sum testdata/release.json
		t.Errorf("digest %s, want %s", sum, golden)
	}
	back, err := release.Parse(want)
	must(t, err)
	if diff := cmp.Diff(full(), back); diff != "" {
		t.Error(diff)
	}
}

func TestParseTakesOneSpelling(t *testing.T) {
	t.Parallel()
	text, err := full().Canonical()
	must(t, err)
	replace := func(old, to string) []byte {
		if !strings.Contains(string(text), old) {
			t.Fatalf("%s isn't in %s", old, text)
		}
		return []byte(strings.Replace(string(text), old, to, 1))
	}
	for name, wrong := range map[string][]byte{
		"empty":              {},
		"null":               []byte("null"),
		"list":               []byte("[]"),
		"line end":           append(bytes.Clone(text), '\n'),
		"more behind it":     append(bytes.Clone(text), text...),
		"space":              replace(`"size":`, `"size": `),
		"key twice":          replace(`"reboot":90`, `"reboot":90,"reboot":90`),
		"key in other case":  replace(`"reboot":90`, `"Reboot":90`),
		"key in two cases":   replace(`"reboot":90`, `"reboot":90,"Reboot":1`),
		"unknown key":        replace(`"reboot":90`, `"reboot":90,"retry":1`),
		"unknown key inside": replace(`"hardware":["A","B2"]`, `"hardware":["A","B2"],"hw":1`),
		"escaped letter":     replace(`"Acme"`, `"\u0041cme"`),
		"escaped mark":       replace(`<all>`, `\u003call>`),
		"number with point":  replace(`"reboot":90`, `"reboot":90.0`),
		"number as power":    replace(`"reboot":90`, `"reboot":9e1`),
		"number as text":     replace(`"reboot":90`, `"reboot":"90"`),
		"number beyond 2^53": replace(`"sequence":110`, `"sequence":9007199254740992`),
		"negative number":    replace(`"reboot":90`, `"reboot":-1`),
		"empty list":         replace(`"cves_fixed":["CVE-2026-12345"]`, `"cves_fixed":[]`),
		"null list":          replace(`"cves_fixed":["CVE-2026-12345"]`, `"cves_fixed":null`),
		"false":              replace(`"security_only":true`, `"security_only":false`),
		"time zone":          replace(`2026-11-25T22:00:00Z`, `2026-11-25T23:00:00+01:00`),
		"offset zero":        replace(`2026-11-25T22:00:00Z`, `2026-11-25T22:00:00+00:00`),
		"parts of seconds":   replace(`2026-11-25T22:00:00Z`, `2026-11-25T22:00:00.5Z`),
		"upper-case digest":  replace(digest(0x66, 32), strings.ToUpper(digest(0xaa, 32))),
		"too large":          bytes.Repeat([]byte("x"), release.MaxSize+1),
		"not UTF-8":          replace(`Acme`, "Acm\xff"),
	} {
		if _, err := release.Parse(wrong); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestReleaseIsRefused(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*release.Release){
		"release_id isn't":          func(r *release.Release) { r.ID = strings.Replace(r.ID, "-7", "-4", 1) },
		"vendor \"\"":               func(r *release.Release) { r.Vendor = "" },
		"vendor \"Acme \"":          func(r *release.Release) { r.Vendor = "Acme " },
		"vendor \"Ac\\nme\"":        func(r *release.Release) { r.Vendor = "Ac\nme" },
		"models: a release is":      func(r *release.Release) { r.Models = nil },
		"models: Acme AC-22":        func(r *release.Release) { r.Models = append(r.Models, r.Models[0]) },
		"model \"AC-22-and-more":    func(r *release.Release) { r.Models[0].Model = "AC-22-and-more-than-that" },
		"hardware: something":       func(r *release.Release) { r.Models[1].Hardware[1] = "A" },
		"hardware \"\"":             func(r *release.Release) { r.Models[1].Hardware[1] = "" },
		"component \"Firm\"":        func(r *release.Release) { r.Component = "Firm" },
		"version \"\"":              func(r *release.Release) { r.Version = "" },
		"sequence is 0":             func(r *release.Release) { r.Sequence = 0 },
		"sequence 9007199254740992": func(r *release.Release) { r.Sequence = release.MaxNumber + 1 },
		"min_from, max_from":        func(r *release.Release) { r.MinFrom = 110 },
		"min_from, max_from: give":  func(r *release.Release) { r.MaxFrom = 89 },
		"requires: \"firmware\"":    func(r *release.Release) { r.Requires[0].Component = "firmware" },
		"requires: sequence of":     func(r *release.Release) { r.Requires[0].Sequence = 0 },
		"requires: modem stands":    func(r *release.Release) { r.Requires = append(r.Requires, r.Requires[0]) },
		"file name \"../x\"":        func(r *release.Release) { r.File = "../x" },
		"file name \"-x\"":          func(r *release.Release) { r.File = "-x" },
		"file name \"a b\"":         func(r *release.Release) { r.File = "a b" },
		"size is 0":                 func(r *release.Release) { r.Size = 0 },
		"sha256, sha512, md5":       func(r *release.Release) { r.SHA512 = r.SHA256 },
		"sha256, sha512, md5: give": func(r *release.Release) { r.MD5 = "x" },
		"signatures: a release":     func(r *release.Release) { r.Signatures = nil },
		"signatures: there are two": func(r *release.Release) { r.Signatures[1] = r.Signatures[0] },
		"signatures: unknown":       func(r *release.Release) { r.Signatures[0].Dialect = "ecschnorr" },
		"signatures: salt of rsa":   func(r *release.Release) { r.Signatures[1].Salt = 20 },
		"signatures: salt of ecdsa": func(r *release.Release) { r.Signatures[0].Salt = 32 },
		"signatures: cert_sha256":   func(r *release.Release) { r.Signatures[0].Cert = "" },
		"signatures: signature":     func(r *release.Release) { r.Signatures[0].Value = "YW55\n" },
		"not_before, expires":       func(r *release.Release) { r.NotBefore = r.NotBefore.Add(1) },
		"release expires before":    func(r *release.Release) { r.Expires = r.NotBefore },
		"sbom_sha256":               func(r *release.Release) { r.SBOM = "x" },
		"cves_fixed: \"CVE-1\"":     func(r *release.Release) { r.CVEsFixed = []string{"CVE-1"} },
		"cves_fixed: something":     func(r *release.Release) { r.CVEsFixed = append(r.CVEsFixed, r.CVEsFixed...) },
		"supersedes, revokes":       func(r *release.Release) { r.Supersedes = r.ID },
		"log \"\"":                  func(r *release.Release) { r.Log = "" },
		"notes: give text":          func(r *release.Release) { r.Notes = "\x1b[2J" },
	} {
		r := full()
		change(r)
		if text, err := r.Canonical(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %s, %v", want, text, err)
		}
	}
}

// Whatever byte changes, it is refused or another release, never this one.
func TestReleaseTornAtEveryByte(t *testing.T) {
	t.Parallel()
	text, err := full().Canonical()
	must(t, err)
	for i := range text {
		torn := bytes.Clone(text)
		torn[i] ^= 0x20 // the other case of a letter, mostly
		if r, err := release.Parse(torn); err == nil && cmp.Equal(r, full()) {
			t.Errorf("byte %d: %q reads as before", i, torn)
		}
		if _, err := release.Parse(text[:i]); err == nil {
			t.Errorf("cut at %d: taken", i)
		}
	}
}

func TestCovers(t *testing.T) {
	t.Parallel()
	r := full()
	for name, tt := range map[string]struct {
		vendor, model, hardware string
		want                    bool
	}{
		"any revision":     {"Acme", "AC-22", "", true},
		"its revision":     {"Acme", "AC-11", "B2", true},
		"another revision": {"Acme", "AC-11", "B", false},
		"unknown revision": {"Acme", "AC-11", "", false},
		"another case":     {"ACME", "AC-22", "", false},
		"sister model":     {"Acme", "AC-22T", "", false},
		"another vendor":   {"Amce", "AC-22", "", false},
	} {
		if got := r.Covers(tt.vendor, tt.model, tt.hardware); got != tt.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// Sequences say which is newer, whatever the versions say: "1.9" isn't newer
// than "1.10".
func TestFollows(t *testing.T) {
	t.Parallel()
	r := full() // 110, over 90 to 109
	for installed, want := range map[uint64]bool{0: false, 89: false, 90: true, 109: true, 110: false, 111: false} {
		if r.Follows(installed) != want {
			t.Errorf("over %d: %t", installed, !want)
		}
	}
	r.MinFrom, r.MaxFrom = 0, 0
	if !r.Follows(0) || !r.Follows(109) || r.Follows(110) {
		t.Error("a release without bounds follows any older one, and only those")
	}
}

func TestNewID(t *testing.T) {
	t.Parallel()
	// RFC 9562 appendix A.6.
	at := time.UnixMilli(0x017F22E279B0)
	if got := release.NewID(at, [10]byte{0x0c, 0xc3, 0x18, 0xc4, 0xdc, 0x0c, 0x0c, 0x07, 0x39, 0x8f}); got != "017f22e2-79b0-7cc3-98c4-dc0c0c07398f" {
		t.Error(got)
	}
}

func FuzzParse(f *testing.F) {
	text, err := full().Canonical()
	must(f, err)
	f.Add(text)
	f.Add([]byte(`{"release_id":"01890a5d-ac96-774b-bcce-b302099a8057"}`))
	f.Add([]byte(`{"sha256":{},"events":{"9":["` + digest(0x22, 32) + `"]}}`))
	f.Add([]byte(`{"sha256":{"8":["` + digest(0x11, 32) + `"]},"events":{"9":["` + digest(0x22, 32) + `"]}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if registers, err := release.ParseRegisters(text); err == nil {
			again, err := json.Marshal(registers)
			back, failed := release.ParseRegisters(again)
			if third, err2 := json.Marshal(back); err != nil || failed != nil || err2 != nil || !bytes.Equal(again, third) {
				t.Fatalf("%q is read back as %s (%v, %v)", again, third, err, failed)
			}
		}
		r, err := release.Parse(text)
		if err != nil {
			return
		}
		again, err := r.Canonical()
		if err != nil || !bytes.Equal(again, text) {
			t.Fatalf("%q is written as %q (%v)", text, again, err)
		}
	})
}
