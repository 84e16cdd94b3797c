package ca_test

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
	"testing"

	"bollard/ca"
	"bollard/keys"
)

// A list that was signed in an older copy of the root's folder knows less than the one there
// is, whatever its number: what was revoked isn't forgotten unawares.
func TestListFromAnOlderCopy(t *testing.T) {
	t.Parallel()
	r := mobilityRig(t)
	keeper, err := keys.New(keys.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	safe := ca.NewMemStore()
	in := func(store *ca.MemStore) *offline {
		return newOffline(t, r, func(c *ca.OfflineRootConfig) { c.Store, c.Keeper = store, keeper })
	}
	o := in(safe)
	chain := o.certify(t, r)
	if _, err := r.RolloverTo(t.Context(), ca.KindCSMS, ca.RootElsewhere{Chain: files(chain), List: file(o.list(t, listLife))}, "operator"); err != nil {
		t.Fatal(err)
	}
	older := in(safe.Copy())
	if err := r.ImportChain(t.Context(), ca.KindCSMS, o.certify(t, r), "operator"); err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(chain)
	first, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Revoke(t.Context(), ca.SerialOf(first), "keyCompromise"); err != nil {
		t.Fatal(err)
	}
	take := func(list []byte, force bool) error {
		_, err := r.ImportList(t.Context(), ca.KindCSMS, list, force, "operator")
		return err
	}
	newest := o.list(t, listLife)
	for range 2 { // idempotent
		if err := take(newest, false); err != nil {
			t.Fatal(err)
		}
	}
	if err := take(older.list(t, listLife), true); err == nil || !strings.Contains(err.Error(), "another list 2") {
		t.Errorf("another one by the same number: %v", err)
	}
	forgets := older.list(t, listLife)
	events := len(r.store.Events)
	if err := take(forgets, false); !errors.Is(err, ca.ErrListForgets) || !strings.Contains(err.Error(), ca.SerialOf(first)) {
		t.Errorf("one by a higher number: %v", err)
	}
	if len(r.store.Events) != events {
		t.Error("it was taken in")
	}
	if err := take(o.list(t, listLife), false); err != nil { // 3, too
		t.Errorf("the newest of the root's own: %v", err)
	}
	if err := take(older.list(t, listLife), true); err != nil {
		t.Errorf("forced: %v", err)
	}
	if last := r.store.Events[len(r.store.Events)-1]; last.Kind != "crl.imported" || last.Data["forgets"] != ca.SerialOf(first) {
		t.Errorf("forced, it is recorded as %+v", last)
	}
}
