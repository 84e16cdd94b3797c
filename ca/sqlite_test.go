package ca_test

import (
	"path/filepath"
	"testing"
	"time"

	"bollard/ca"
	"bollard/keys"
	"bollard/store"
)

// The whole life of a certificate over the real database, across restarts.
func TestLifeOfACertificateOnSQLite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	clock := func() time.Time { return start }
	open := func() *store.Store {
		t.Helper()
		s, err := store.Open(t.Context(), store.Config{Path: filepath.Join(dir, "bollard.db"), Clock: clock})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	keeper, err := keys.New(keys.Config{Dir: filepath.Join(dir, "keys")})
	if err != nil {
		t.Fatal(err)
	}
	db := open()
	if err := ca.Init(t.Context(), ca.InitConfig{Store: db, Keeper: keeper, Organisation: "Example CPO", Country: "NL", Clock: clock}); err != nil {
		t.Fatal(err)
	}
	authority := func() *ca.Authority {
		t.Helper()
		a, err := ca.New(t.Context(), ca.Config{Store: db, Keeper: keeper, Organisation: "Example CPO", Country: "NL", Clock: clock})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	a := authority()
	o := order(t, newKey(t))
	o.Reference = "order-1"
	p, err := a.Prepare(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	issued, err := a.Issue(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	abandoned, err := a.Prepare(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	servers, err := a.ServerCertificates(t.Context(), serverNames, filepath.Join(dir, "server"))
	if err != nil {
		t.Fatal(err)
	}
	maker := newForeign(t, nil)
	if _, err := a.AddAnchor(t.Context(), "station", toPEM(maker.cert), "operator"); err != nil {
		t.Fatal(err)
	}

	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = open()
	defer db.Close()
	a = authority()
	got, err := a.LookupReference(t.Context(), "order-1")
	if err != nil || !got.Certificate.Equal(issued.Certificate) || len(got.Chain) != 1 {
		t.Fatalf("after restart: %+v, %v", got, err)
	}
	if rec, err := db.Certificate(t.Context(), abandoned.Intent().Serial); err != nil || rec.State != ca.StateOrphaned {
		t.Errorf("abandoned intent: %s, %v", rec.State, err)
	}
	again, err := a.ServerCertificates(t.Context(), serverNames, filepath.Join(dir, "server"))
	if err != nil || !again.Current()[0].Leaf.Equal(servers.Current()[0].Leaf) {
		t.Errorf("server certificate issued anew: %v", err)
	}
	if list, err := a.Anchors(t.Context(), "station"); err != nil || len(list) != 1 {
		t.Errorf("anchors %v, %v", list, err)
	}
	if _, err := a.Revoke(t.Context(), issued.Serial, "superseded", "operator"); err != nil {
		t.Fatal(err)
	}
	if rec, known, err := a.Status(t.Context(), issued.Certificate); err != nil || !known || rec.State != ca.StateRevoked {
		t.Errorf("status %+v, %t, %v", rec, known, err)
	}
	r := &rig{Authority: a}
	if list := parseCRL(t, r); len(list.RevokedCertificateEntries) != 2 {
		t.Errorf("%d entries on the CRL, want the revoked and the orphaned one", len(list.RevokedCertificateEntries))
	}
	count := map[string]int{}
	for e, err := range db.Entries(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		count[e.Kind]++
	}
	// root, issuing, station, abandoned, two servers
	if count["certificate.intent"] != 6 || count["certificate.issued"] != 5 || count["certificate.revoked"] != 1 || count["trust.added"] != 1 || count["crl.intent"] != 1 {
		t.Errorf("ledger has %v", count)
	}
}
