package ca_test

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"bollard/ca"
	"bollard/keys"
)

// offline is a root on a machine of its own.
type offline struct {
	*ca.OfflineRoot
	kind ca.Kind
	n    int
}

// file is what comes back from elsewhere under no name, files several of it.
func file(data []byte) ca.File { return ca.File{Data: data} }

func files(data ...[]byte) []ca.File {
	var list []ca.File
	for _, d := range data {
		list = append(list, file(d))
	}
	return list
}

func newOffline(t *testing.T, r *rig, edit func(*ca.OfflineRootConfig)) *offline {
	t.Helper()
	keeper, err := keys.New(keys.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	c := ca.OfflineRootConfig{InitConfig: r.initConfig(), Name: "csms-root-2"}
	c.Store, c.Keeper, c.Kind, c.StatusURL, c.Actor = ca.NewMemStore(), keeper, ca.KindCSMS, mobilityStatus, "operator"
	if edit != nil {
		edit(&c)
	}
	root, err := ca.OpenOfflineRoot(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return &offline{OfflineRoot: root, kind: c.Kind}
}

// certify answers the request of the CA below the root.
func (o *offline) certify(t *testing.T, r *rig) []byte {
	t.Helper()
	csr, err := r.RequestCA(t.Context(), o.kind, 1, false, "operator")
	if err != nil {
		t.Fatal(err)
	}
	return o.answer(t, csr)
}

func (o *offline) answer(t *testing.T, csr []byte) []byte {
	t.Helper()
	sub, err := ca.ReadSubCA(o.kind, 1, "Example CPO", "NL", csr)
	if err != nil {
		t.Fatal(err)
	}
	o.n++
	issued, err := o.Certify(t.Context(), sub, "ceremony:"+strings.Repeat("x", o.n))
	if err != nil {
		t.Fatal(err)
	}
	return pemOf(issued.Certificate, o.Certificate())
}

func (o *offline) list(t *testing.T, validity time.Duration) []byte {
	t.Helper()
	der, err := o.List(t.Context(), validity)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

const listLife = 400 * 24 * time.Hour

// The root of the stations becomes one whose key never was here: stations follow it as
// they do any new root, its list is served as it was signed, and what needs its key says so.
func TestRootMadeElsewhere(t *testing.T) {
	t.Parallel()
	r := mobilityRig(t)
	old := r.Roots(ca.KindCSMS)[0]
	before := r.issue(t, order(t, newKey(t)))
	o := newOffline(t, r, nil)
	chain, list := o.certify(t, r), o.list(t, listLife)
	verify := func(what string, serial string, roots ...*x509.Certificate) {
		t.Helper()
		found, err := r.Lookup(t.Context(), serial)
		if err != nil {
			t.Fatal(err)
		}
		if out, err := r.opensslVerify(t, found.Certificate, found.Chain, roots); err != nil {
			t.Errorf("%s: %v: %s", what, err, out)
		}
	}
	if change, err := r.RolloverTo(t.Context(), ca.KindCSMS, ca.RootElsewhere{Chain: files(chain), List: file(list)}, "operator"); err != nil || change.Phase != ca.PhaseStarted {
		t.Fatalf("%+v: %v", change, err)
	}
	r.reopen(t)
	if roots := r.Roots(ca.KindCSMS); len(roots) != 2 || !roots[1].Equal(o.Certificate()) || r.CrossRoot(ca.KindCSMS).CheckSignatureFrom(old) != nil {
		t.Fatalf("%d roots", len(roots))
	}
	verify("the old chain", before.Serial, old)
	if _, err := r.SwitchRollover(t.Context(), ca.KindCSMS, "operator"); err != nil {
		t.Fatal(err)
	}
	verify("the new chain", before.Serial, o.Certificate())
	verify("the new chain over the bridge", before.Serial, old)
	if _, err := r.FinishRollover(t.Context(), ca.KindCSMS, "operator"); err != nil {
		t.Fatal(err)
	}
	r.reopen(t)
	verify("the new root alone", r.issue(t, leaf2(t)).Serial, o.Certificate())
	if err := r.CheckKeys(t.Context()); err != nil {
		t.Error(err)
	}
	served := func() []byte {
		t.Helper()
		der, err := r.SignCRL(t.Context(), "csms-root-2")
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
	}
	if string(served()) != string(list) || !slices.ContainsFunc(r.StatusIssuers(), func(s ca.StatusIssuer) bool { return s.Name == "csms-root-2" && s.Root }) {
		t.Error("its list isn't served")
	}
	if _, err := r.SignCRL(t.Context(), "csms-root"); err != nil {
		t.Errorf("the old root's list: %v", err)
	}

	// What would need its key.
	if _, err := r.Rollover(t.Context(), ca.KindCSMS, "operator"); !errors.Is(err, ca.ErrRollover) || r.RolloverState(ca.KindCSMS).Phase != ca.PhaseFinished {
		t.Errorf("a further change: %v", err)
	}
	if _, err := r.RequestCA(t.Context(), ca.KindCSMS, 1, true, "operator"); err == nil || !strings.Contains(err.Error(), "keys migrate") {
		t.Errorf("a new key: %v", err)
	}
	if renewed, err := r.RenewCAs(t.Context(), ca.KindCSMS, "operator"); err != nil || len(renewed) > 0 {
		t.Errorf("renewed %+v: %v", renewed, err)
	}
	// Another year: a newer list, a further certificate.
	r.now = r.now.AddDate(1, 0, 0)
	newer := o.list(t, listLife)
	for _, l := range [][]byte{newer, newer} {
		if _, err := r.ImportList(t.Context(), ca.KindCSMS, l, false, "operator"); err != nil {
			t.Fatal(err)
		}
	}
	if string(served()) != string(newer) {
		t.Error("the newer list isn't served")
	}
	foreign := newOffline(t, r, nil)
	for what, l := range map[string][]byte{"older": list, "another root's": foreign.list(t, listLife), "none": nil} {
		if _, err := r.ImportList(t.Context(), ca.KindCSMS, l, false, "operator"); err == nil || string(served()) != string(newer) {
			t.Errorf("the list was taken: %s", what)
		}
	}
	r.store.FailWith("RootList", errors.New("unreadable"))
	if _, err := r.ImportList(t.Context(), ca.KindCSMS, list, false, "operator"); err == nil {
		t.Error("an older list was taken, as the one there couldn't be read")
	}
	r.store.FailWith("RootList", nil)
	withdrawn := o.certify(t, r)
	first, _ := pem.Decode(withdrawn)
	sub, err := x509.ParseCertificate(first.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Revoke(t.Context(), ca.SerialOf(sub), "superseded"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ImportList(t.Context(), ca.KindCSMS, o.list(t, listLife), false, "operator"); err != nil {
		t.Fatal(err)
	}
	if err := r.ImportChain(t.Context(), ca.KindCSMS, withdrawn, "operator"); err == nil || !strings.Contains(err.Error(), "revokes") {
		t.Errorf("a certificate that the list revokes: %v", err)
	}
	further := o.certify(t, r)
	if err := r.ImportChain(t.Context(), ca.KindCSMS, foreign.certify(t, r), "operator"); err == nil {
		t.Error("a chain of another root was taken")
	}
	if err := r.ImportChain(t.Context(), ca.KindCSMS, further, "operator"); err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(further)
	if !slices.ContainsFunc(r.Intermediates(ca.KindCSMS), func(c *x509.Certificate) bool { return string(c.Raw) == string(block.Bytes) }) {
		t.Error("the further certificate isn't the CA's")
	}
	r.now = r.Intermediates(ca.KindCSMS)[0].NotAfter.AddDate(0, 0, -30)
	if due := r.DueCAs(); !slices.ContainsFunc(due, func(d ca.DueCA) bool { return d.Name == "csms-issuing" && d.Outside }) {
		t.Errorf("due: %+v", due)
	}
}

func leaf2(t *testing.T) ca.Order {
	o := order(t, newKey(t))
	o.Station, o.Requester = "cs2", "station:cs2"
	return o
}

// What comes back from elsewhere is taken as the profiles have it, or not at all.
func TestRootsMadeElsewhereOtherwise(t *testing.T) {
	t.Parallel()
	r := mobilityRig(t)
	good := newOffline(t, r, nil)
	chain, list := good.certify(t, r), good.list(t, listLife)
	other := newOffline(t, r, nil)
	block, root := pem.Decode(chain)
	elsewhere := func(edit func(*ca.OfflineRootConfig)) (chain, list []byte) {
		o := newOffline(t, r, edit)
		return o.certify(t, r), o.list(t, listLife)
	}
	rehearsal, rehearsalList := elsewhere(func(c *ca.OfflineRootConfig) { c.Rehearsal = true })
	foreign, foreignList := elsewhere(func(c *ca.OfflineRootConfig) { c.Name = "csms-root-3" })
	silent, silentList := elsewhere(func(c *ca.OfflineRootConfig) { c.StatusURL = "" })
	far := mobilityRig(t) // the CA of another machine
	away := newOffline(t, r, nil)
	before := len(r.store.Events)
	for name, tt := range map[string]struct {
		chain, list []byte
		want        string
	}{
		"a rehearsal":               {rehearsal, rehearsalList, "isn't one of"},
		"its list elsewhere":        {foreign, foreignList, "status and name in the script"},
		"its list nowhere":          {silent, silentList, "status and name in the script"},
		"another's list":            {chain, other.list(t, listLife), "isn't the root's"},
		"a list that is over":       {chain, good.list(t, time.Nanosecond), "in force"},
		"no list":                   {chain, nil, "revocation list"},
		"the root alone":            {root, list, "that of each CA here"},
		"the CA alone":              {pem.EncodeToMemory(block), list, "that of each CA here"},
		"a CA more":                 {append(slices.Clone(chain), good.certify(t, far)...), list, "there is more"},
		"a root more":               {append(slices.Clone(chain), pemOf(other.Certificate())...), list, "two roots"},
		"another root above it":     {append(pem.EncodeToMemory(block), pemOf(other.Certificate())...), other.list(t, listLife), "isn't signed by the root"},
		"the CA of another machine": {away.certify(t, far), away.list(t, listLife), "is for csms-issuing"},
		"the root as the CA":        {append(slices.Clone(root), root...), list, "that of each CA here"},
	} {
		if _, err := r.RolloverTo(t.Context(), ca.KindCSMS, ca.RootElsewhere{Chain: files(tt.chain), List: file(tt.list)}, "operator"); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want one with %q", name, err, tt.want)
		}
	}
	sub, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if err := good.Revoke(t.Context(), ca.SerialOf(sub), "superseded"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.RolloverTo(t.Context(), ca.KindCSMS, ca.RootElsewhere{Chain: files(chain), List: file(good.list(t, listLife))}, "operator"); err == nil || !strings.Contains(err.Error(), "revokes") {
		t.Errorf("a revoked certificate: %v", err)
	}
	if r.RolloverState(ca.KindCSMS).Phase != "" || len(r.store.Events) != before || len(r.Roots(ca.KindCSMS)) != 1 {
		t.Error("something was taken")
	}
	if _, err := r.RolloverTo(t.Context(), ca.KindV2G, ca.RootElsewhere{Chain: files(chain), List: file(list)}, "operator"); !errors.Is(err, ca.ErrRollover) {
		t.Errorf("a hierarchy of cars: %v", err)
	}
	// The chain of another root doesn't finish what was begun with one.
	r.store.FailWith("TakeIn", errors.New("full"))
	if _, err := r.RolloverTo(t.Context(), ca.KindCSMS, ca.RootElsewhere{Chain: files(chain), List: file(list)}, "operator"); err == nil {
		t.Fatal("nothing was full")
	}
	r.store.FailWith("TakeIn", nil)
	r.reopen(t)
	if _, err := r.RolloverTo(t.Context(), ca.KindCSMS, ca.RootElsewhere{Chain: files(other.certify(t, r)), List: file(other.list(t, listLife))}, "operator"); !errors.Is(err, ca.ErrRollover) {
		t.Errorf("another root than begun with: %v", err)
	}
	if _, err := r.Rollover(t.Context(), ca.KindCSMS, "operator"); !errors.Is(err, ca.ErrRollover) {
		t.Errorf("a root here instead: %v", err)
	}
	if change, err := r.RolloverTo(t.Context(), ca.KindCSMS, ca.RootElsewhere{Chain: files(chain), List: file(list)}, "operator"); err != nil || change.Phase != ca.PhaseStarted {
		t.Errorf("gone on with: %+v, %v", change, err)
	}
}
