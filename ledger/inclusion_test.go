package ledger_test

import (
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"bollard/ledger"
)

// one is a proof that a leaf is the only entry of a log.
func one(t testing.TB) (ledger.Inclusion, tlog.Hash) {
	t.Helper()
	leaf := tlog.RecordHash([]byte("leaf"))
	n := newBook(t).grow(1).checkpoint(t)
	n.Root = leaf
	signed, err := n.Checkpoint.Sign(newBook(t).signer)
	if err != nil {
		t.Fatal(err)
	}
	return ledger.Inclusion{Note: signed}, leaf
}

func TestInclusionHasOneSpelling(t *testing.T) {
	t.Parallel()
	p, leaf := one(t)
	must(t, p.Check(leaf))
	if p.Check(tlog.RecordHash([]byte("another"))) == nil {
		t.Error("another leaf is proven")
	}
	text := p.String()
	if back, err := ledger.ParseInclusion(text); err != nil || back.String() != text || back.Extra != nil {
		t.Errorf("%+v, %v", back, err)
	}
	for name, wrong := range map[string]string{
		"empty":           "",
		"another header":  strings.Replace(text, "@v1", "@v2", 1),
		"no index":        strings.Replace(text, "index 0\n", "", 1),
		"index spelt 00":  strings.Replace(text, "index 0", "index 00", 1),
		"negative index":  strings.Replace(text, "index 0", "index -1", 1),
		"extra in a knot": strings.Replace(text, "index", "extra YR==\nindex", 1),
		"extra behind":    strings.Replace(text, "index 0\n", "index 0\nextra YQ==\n", 1),
		"broken hash":     strings.Replace(text, "index 0\n", "index 0\nAAAA\n", 1),
		"no checkpoint":   text[:strings.Index(text, "\n\n")+2],
		"more behind it":  text + "x\n",
	} {
		if _, err := ledger.ParseInclusion(wrong); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	p.Index = 1
	if p.Check(leaf) == nil {
		t.Error("an index beyond the log is proven")
	}
}

func FuzzParseInclusion(f *testing.F) {
	p, _ := one(f)
	f.Add(p.String())
	p.Extra, p.Hashes = []byte("x"), tlog.RecordProof{{1}}
	f.Add(p.String())
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ledger.ParseInclusion(text)
		if err == nil && p.String() != strings.ReplaceAll(text, "\r\n", "\n") {
			t.Fatalf("%q is written as %q", text, p.String())
		}
	})
}
