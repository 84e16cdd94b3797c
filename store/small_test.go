package store_test

import (
	"errors"
	"slices"
	"testing"

	"bollard/ca"
	"bollard/ledger"

	"github.com/google/go-cmp/cmp"
)

func TestAnchors(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	a := ca.TrustAnchor{Use: "station", Hash: "aa", Subject: "CN=Maker", DER: []byte("der"), AddedAt: at(1)}
	b := a
	b.Use = "v2g"
	must(t, s.AddAnchor(ctx, b, event("anchor.added")))
	must(t, s.AddAnchor(ctx, a, event("anchor.added")))
	again := a
	again.AddedAt = at(9)
	must(t, s.AddAnchor(ctx, again, event("anchor.again")))
	for use, want := range map[string][]ca.TrustAnchor{"": {a, b}, "station": {a}, "v2g": {b}, "mo": {}} {
		got, err := s.Anchors(ctx, use)
		must(t, err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("use %q: %s", use, diff)
		}
	}
	must(t, s.RemoveAnchor(ctx, "station", "aa", event("anchor.removed")))
	if err := s.RemoveAnchor(ctx, "station", "aa", event("anchor.gone")); !errors.Is(err, ca.ErrUnknownAnchor) {
		t.Errorf("got %v", err)
	}
	if diff := cmp.Diff([]string{"anchor.added", "anchor.added", "anchor.removed"}, kinds(t, s)); diff != "" {
		t.Error(diff)
	}
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	for _, step := range []struct {
		set  []byte
		want string
		ok   bool
	}{{[]byte("one"), "one", true}, {[]byte("two"), "two", true}, {nil, "", false}} {
		must(t, s.SetSecret(ctx, "upstream", step.set, event("secret.set")))
		got, ok, err := s.Secret(ctx, "upstream")
		if err != nil || string(got) != step.want || ok != step.ok {
			t.Errorf("set %q: %q, %v, %v", step.set, got, ok, err)
		}
	}
	if n := len(kinds(t, s)); n != 3 {
		t.Errorf("%d ledger entries", n)
	}
}

func TestEntriesFromAnywhere(t *testing.T) {
	t.Parallel()
	s := open(t)
	const count = 2345 // more than two pages
	for range count / 35 {
		must(t, s.Record(t.Context(), slices.Repeat([]ledger.Event{event("a.b")}, 35)...))
	}
	if got := kinds(t, s); len(got) != count {
		t.Fatalf("%d entries, want %d", len(got), count)
	}
	var first, n uint64
	for e, err := range s.Entries(t.Context(), 1990) {
		must(t, err)
		if first == 0 {
			first = e.Seq
		}
		if n++; n == 20 {
			break
		}
	}
	if first != 1990 || n != 20 {
		t.Errorf("%d entries from %d", n, first)
	}
	for e := range s.Entries(t.Context(), count+1) {
		t.Errorf("entry %d after the last", e.Seq)
	}
}
