package report_test

import (
	"crypto/ed25519"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"bollard/ledger"
	"bollard/ledger/report"
)

const origin = "gate.example/ledger/0a1b2c3d"

func day(n int) time.Time { return time.Date(2026, 11, n, 0, 0, 0, 0, time.UTC) }

// book is a ledger with an entry at noon of each day from the first on.
type book struct {
	entries []ledger.Entry
	note    ledger.Note
	key     note.Verifier
	vkey    string
}

func newBook(t testing.TB, kinds ...string) *book {
	t.Helper()
	key := ed25519.NewKeyFromSeed([]byte("0123456789abcdef0123456789abcdef"))
	public := key.Public().(ed25519.PublicKey)
	signer, err := ledger.NewSigner(origin, public, func(m []byte) ([]byte, error) { return ed25519.Sign(key, m), nil })
	must(t, err)
	b := &book{}
	b.vkey, err = ledger.VerifierKey(origin, public)
	must(t, err)
	b.key, err = ledger.NewVerifier(b.vkey)
	must(t, err)
	var tree ledger.Tree
	for i, kind := range kinds {
		b.entries = append(b.entries, tree.Append(day(i+1).Add(12*time.Hour), ledger.Event{
			Kind: kind, Subject: fmt.Sprint("cs-", i+1), Actor: "operator", Data: map[string]string{"reason": "<b>&x"},
		}))
	}
	b.note, err = ledger.Checkpoint{Origin: origin, Size: tree.Size(), Root: tree.Root()}.Sign(signer)
	must(t, err)
	return b
}

func week(t testing.TB) *book {
	t.Helper()
	return newBook(t, "ledger.epoch", "station.added", "claim.refused", "claim.refused", "certificate.revoked", "policy.refused", "log.received")
}

// span proves the entries from a number to another.
func (b *book) span(t testing.TB, first, last int) ledger.Span {
	t.Helper()
	s, err := ledger.ProveSpan(uint64(first), uint64(last-first+1), b.note, tlog.HashReaderFunc(func(places []int64) ([]tlog.Hash, error) {
		var list []tlog.Hash
		for _, p := range places {
			seq, at := ledger.Place(p)
			list = append(list, b.entries[seq-1].Hashes[at])
		}
		return list, nil
	}))
	must(t, err)
	return s
}

func (b *book) report(t testing.TB, q report.Request, first, last int) *report.Report {
	t.Helper()
	r, err := report.New(q, b.entries[first-1:last], b.span(t, first, last))
	must(t, err)
	return r
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestReportProvesItsRange(t *testing.T) {
	t.Parallel()
	b := week(t)
	r := b.report(t, report.Request{From: day(3), To: day(6), Laws: []string{"cra"}}, 2, 6)
	raw, err := r.Write()
	must(t, err)
	if !report.Is(raw) {
		t.Errorf("it isn't recognised: %.40s", raw)
	}
	again, n, err := report.Read(raw, b.key)
	must(t, err)
	if n.Size != 7 || len(again.Inside()) != 3 || again.Inside()[0].Seq != 3 {
		t.Errorf("of %d entries: %v", n.Size, again.Inside())
	}
	var incident report.Finding
	for _, f := range again.Findings {
		if f.Law != "cra" {
			t.Errorf("a finding for %s, which wasn't asked for", f.Law)
		}
		if strings.HasPrefix(f.Clause, "art. 14") {
			incident = f
		}
	}
	if diff := cmp.Diff(map[string]int{"claim.refused": 2, "certificate.revoked": 1}, incident.Counts); diff != "" {
		t.Errorf("art. 14: %s", diff)
	}
	if diff := cmp.Diff([]uint64{3, 4, 5}, incident.Seqs); diff != "" {
		t.Errorf("art. 14: %s", diff)
	}
}

// Nothing can be left out of a range, at its ends neither.
func TestReportLeavesNothingOut(t *testing.T) {
	t.Parallel()
	b := week(t)
	tests := map[string]struct {
		from, to    int // days
		first, last int // entries given
		whole       bool
	}{
		"with its neighbours":     {3, 6, 2, 6, true},
		"with more than those":    {3, 6, 1, 7, false},
		"first entry missing":     {3, 6, 3, 6, false},
		"last entry missing":      {3, 6, 2, 5, false},
		"two missing":             {2, 6, 3, 6, false},
		"from the beginning":      {1, 3, 1, 3, true},
		"to the last but one":     {5, 7, 4, 7, true},
		"not over yet":            {6, 20, 5, 7, false}, // an old checkpoint would say the same
		"everything, not over":    {1, 20, 1, 7, false},
		"everything but the last": {1, 7, 1, 7, true},
		"before everything":       {-9, 1, 1, 1, true},
		"after everything":        {10, 20, 7, 7, false},
		"after, without the last": {10, 20, 6, 6, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := report.New(report.Request{From: day(tt.from), To: day(tt.to)}, b.entries[tt.first-1:tt.last], b.span(t, tt.first, tt.last))
			if (err == nil) != tt.whole {
				t.Errorf("error %v, want one: %t", err, !tt.whole)
			}
		})
	}
}

// A change is found, unless it makes a report that is as true: of a range that
// begins or ends between the same entries.
func TestReportTornAtEveryByte(t *testing.T) {
	t.Parallel()
	b := week(t)
	raw, err := b.report(t, report.Request{From: day(3), To: day(5), Laws: []string{"ocpp"}}, 2, 5).Write()
	must(t, err)
	for i := range raw {
		torn := append([]byte(nil), raw...)
		torn[i] ^= 1
		if r, _, err := report.Read(torn, b.key); err == nil {
			if !r.From.After(day(2).Add(12*time.Hour)) || r.From.After(day(3).Add(12*time.Hour)) || !r.To.After(day(4).Add(12*time.Hour)) || r.To.After(day(5).Add(12*time.Hour)) {
				t.Fatalf("byte %d, %q, was changed and nobody saw it", i, raw[max(0, i-20):min(len(raw), i+20)])
			}
			if diff := cmp.Diff(b.entries[2:4], r.Inside(), cmpopts.IgnoreFields(ledger.Entry{}, "Hashes")); diff != "" {
				t.Fatalf("byte %d: %s", i, diff)
			}
		}
		if _, _, err := report.Read(raw[:i], b.key); err == nil {
			t.Fatalf("it was cut at byte %d and nobody saw it", i)
		}
	}
}

func TestReportNeedsTheLedgersKey(t *testing.T) {
	t.Parallel()
	b := week(t)
	raw, err := b.report(t, report.Request{From: day(3), To: day(5)}, 2, 5).Write()
	must(t, err)
	public := ed25519.NewKeyFromSeed([]byte("another seed of thirty-two bytes")).Public().(ed25519.PublicKey)
	vkey, err := ledger.VerifierKey(origin, public)
	must(t, err)
	other, err := ledger.NewVerifier(vkey)
	must(t, err)
	for name, keys := range map[string][]note.Verifier{"none": nil, "another": {other}} {
		if _, _, err := report.Read(raw, keys...); err == nil || !strings.Contains(err.Error(), "isn't signed by the ledger's key") {
			t.Errorf("with %s key: %v", name, err)
		}
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	t.Parallel()
	for name, q := range map[string]report.Request{
		"empty":       {From: day(2), To: day(2)},
		"backwards":   {From: day(3), To: day(2)},
		"unknown law": {From: day(1), To: day(2), Laws: []string{"cra", "gdpr"}},
	} {
		if err := q.Check(); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestPage(t *testing.T) {
	t.Parallel()
	b := week(t)
	var page strings.Builder
	must(t, b.report(t, report.Request{From: day(3), To: day(6)}, 2, 6).WritePage(&page, b.note, b.vkey))
	for _, want := range []string{
		"2 × a connection was refused", "Cyber Resilience Act", "NIS 2", "EN 18031", "2021/1467", "OCPP 2.0.1", `<tr id="e5">`, "3–5", "&lt;b&gt;&amp;x", b.vkey,
		"nothing in this range",
	} {
		if !strings.Contains(page.String(), strings.ReplaceAll(want, "+", "&#43;")) {
			t.Errorf("the page lacks %q", want)
		}
	}
	for _, not := range []string{"<b>&x", `<tr id="e2">`, `<tr id="e6">`, "ZgotmplZ", "<script", "http"} {
		if strings.Contains(page.String(), not) {
			t.Errorf("the page has %q", not)
		}
	}
}

func FuzzRead(f *testing.F) {
	b := week(f)
	raw, err := b.report(f, report.Request{From: day(3), To: day(6)}, 2, 6).Write()
	must(f, err)
	f.Add(raw)
	f.Add([]byte(`{"report":"bollard ledger report v1"}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		r, _, err := report.Read(in, b.key)
		if err != nil {
			return
		}
		again, err := r.Write()
		must(t, err)
		if string(again) != string(in) {
			t.Errorf("taken, but not as it was written: %q", in)
		}
	})
}
