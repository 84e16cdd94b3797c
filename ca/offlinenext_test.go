package ca_test

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bollard/ca"
	"bollard/ca/quality"
)

// cross certifies the next root by this one.
func (o *offline) cross(t *testing.T, next *offline) []byte {
	t.Helper()
	read, err := o.ReadNextRoot(pemOf(next.Certificate()))
	if err != nil {
		t.Fatal(err)
	}
	if err := o.CheckNextRoot(t.Context(), read); err != nil {
		t.Fatal(err)
	}
	var issued *ca.Issued
	for range 2 { // once for a reference
		again, err := o.CertifyNext(t.Context(), read, "ceremony:next:"+ca.SerialOf(next.Certificate()))
		if err != nil || issued != nil && again.Serial != issued.Serial {
			t.Fatalf("%+v: %v", again, err)
		}
		issued = again
	}
	return pemOf(issued.Certificate, o.Certificate())
}

// One offline root follows another as any root does: trusted first, then served over a
// bridge that the old one signed where it is, then alone. What either CA issued, the one
// whose key moved included, leads to it, and is answered for.
func TestFromOneOfflineRootToTheNext(t *testing.T) {
	t.Parallel()
	r, old := takenRig(t)
	leaves := []*ca.Issued{r.issue(t, order(t, newKey(t)))}
	if err := r.ImportChain(t.Context(), ca.KindCSMS, old.answer(t, asked(t, r, "softkms:moved")), "operator"); err != nil {
		t.Fatal(err)
	}
	leaves = append(leaves, r.issue(t, leaf2(t)))
	waiting := asked(t, r, "softkms:further")
	third := func(c *ca.OfflineRootConfig) { c.Name = "csms-root-3" }
	next, foreign := newOffline(t, r, third), newOffline(t, r, third)
	former, err := r.RequestNamed(t.Context(), ca.KindCSMS, "csms-issuing", "operator")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.RequestNamed(t.Context(), ca.KindCSMS, "csms-root-2", "operator"); !errors.Is(err, ca.ErrNoHierarchy) {
		t.Errorf("the request of a root: %v", err)
	}
	one, list := next.certify(t, r), next.list(t, listLife)
	good := ca.RootElsewhere{Chain: files(slices.Concat(one, next.answer(t, former))), List: file(list), Cross: file(old.cross(t, next))}
	begin := func(from ca.RootElsewhere) (ca.Rollover, error) {
		return r.RolloverTo(t.Context(), ca.KindCSMS, from, "operator")
	}
	events := len(r.store.Events)
	for name, tt := range map[string]struct {
		edit func(*ca.RootElsewhere)
		want string
	}{
		"without the bridge":           {func(f *ca.RootElsewhere) { f.Cross = ca.File{} }, "--cross"},
		"without the former CA":        {func(f *ca.RootElsewhere) { f.Chain = files(one) }, "ca request csms --ca csms-issuing"},
		"a bridge to another root":     {func(f *ca.RootElsewhere) { f.Cross = file(old.cross(t, foreign)) }, "isn't the next root"},
		"a bridge by another root":     {func(f *ca.RootElsewhere) { f.Cross = file(foreign.cross(t, next)) }, "isn't signed by the root csms-root-2"},
		"the root itself as bridge":    {func(f *ca.RootElsewhere) { f.Cross = file(pemOf(next.Certificate())) }, "isn't signed by the root csms-root-2"},
		"a bridge that isn't any":      {func(f *ca.RootElsewhere) { f.Cross = file([]byte("paper")) }, "PEM"},
		"the present root once more":   {func(f *ca.RootElsewhere) { f.Chain = files(old.certify(t, r)) }, "is csms-root-2, which"},
		"the list of the present root": {func(f *ca.RootElsewhere) { f.List = file(old.list(t, listLife)) }, "isn't the root's"},
	} {
		from := good
		tt.edit(&from)
		if _, err := begin(from); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want one with %q", name, err, tt.want)
		}
	}
	if _, err := r.Rollover(t.Context(), ca.KindCSMS, "operator"); !errors.Is(err, ca.ErrRollover) || !strings.Contains(err.Error(), "--cross") {
		t.Errorf("a root made here: %v", err)
	}
	if phase := r.RolloverState(ca.KindCSMS).Phase; phase != ca.PhaseFinished || len(r.Roots(ca.KindCSMS)) != 1 {
		t.Errorf("it is %q, with %d entries", phase, len(r.store.Events)-events)
	}

	// Cut off, given up, begun once more, cut off, gone on with.
	cutOff := func() {
		t.Helper()
		r.store.FailWith("TakeIn", errors.New("cut off"))
		if _, err := begin(good); err == nil {
			t.Fatal("it wasn't cut off")
		}
		r.store.FailWith("TakeIn", nil)
		r.reopen(t)
		if len(r.Roots(ca.KindCSMS)) != 1 {
			t.Error("half of it was taken in")
		}
	}
	cutOff()
	if change, err := r.AbandonRollover(t.Context(), ca.KindCSMS, "operator"); err != nil || change.Phase != ca.PhaseAbandoned {
		t.Fatalf("%+v: %v", change, err)
	}
	cutOff()
	if change, err := begin(good); err != nil || change.Phase != ca.PhaseStarted || change.Generation != 3 {
		t.Fatalf("%+v: %v", change, err)
	}
	leads := func(what string, to ...*x509.Certificate) {
		t.Helper()
		r.reopen(t)
		for _, leaf := range append(leaves, r.issue(t, leaf2(t))) {
			found, err := r.Lookup(t.Context(), leaf.Serial)
			if err != nil {
				t.Fatal(err)
			}
			for _, root := range to {
				if out, err := r.opensslVerify(t, found.Certificate, found.Chain, []*x509.Certificate{root}); err != nil {
					t.Errorf("%s: a leaf of %s to %s: %v: %s", what, leaf.Issuer, root.Subject, err, out)
				}
			}
			if signer, err := r.OCSPSigner(t.Context(), leaf.Issuer); err != nil || signer.Certificate.CheckSignatureFrom(found.Chain[0]) != nil {
				t.Errorf("%s: the OCSP signer of %s: %v", what, leaf.Issuer, err)
			}
		}
	}
	leads("started", old.Certificate())
	if roots := r.Roots(ca.KindCSMS); len(roots) != 2 || !roots[1].Equal(next.Certificate()) || r.CrossRoot(ca.KindCSMS).CheckSignatureFrom(old.Certificate()) != nil {
		t.Errorf("%d roots are trusted", len(roots))
	}
	if err := r.ImportChain(t.Context(), ca.KindCSMS, old.answer(t, waiting), "operator"); !errors.Is(err, ca.ErrRollover) {
		t.Errorf("a successor meanwhile: %v", err)
	}
	if err := r.ImportChain(t.Context(), ca.KindCSMS, next.certify(t, r), "operator"); err != nil {
		t.Errorf("a further certificate under the next root: %v", err)
	}
	step := func(what string, do func() (ca.Rollover, error), to ...*x509.Certificate) {
		t.Helper()
		if _, err := do(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		leads(what, to...)
	}
	forward := func() (ca.Rollover, error) { return r.SwitchRollover(t.Context(), ca.KindCSMS, "operator") }
	back := func() (ca.Rollover, error) { return r.SwitchBack(t.Context(), ca.KindCSMS, "operator") }
	finish := func() (ca.Rollover, error) { return r.FinishRollover(t.Context(), ca.KindCSMS, "operator") }
	step("switched", forward, old.Certificate(), next.Certificate())
	step("back", back, old.Certificate())
	step("switched again", forward, old.Certificate(), next.Certificate())
	step("finished", finish, next.Certificate())
	if roots := r.Roots(ca.KindCSMS); len(roots) != 1 || !roots[0].Equal(next.Certificate()) {
		t.Errorf("%d roots are trusted", len(roots))
	}
	if lists, err := r.RootLists(t.Context(), ca.KindCSMS); err != nil || len(lists) != 1 || lists[0].Issuer != "csms-root-3" {
		t.Errorf("lists that have to be renewed: %+v, %v", lists, err)
	}
	if _, err := r.SignCRL(t.Context(), "csms-root-2"); err != nil {
		t.Errorf("the list of the root before: %v", err)
	}
	if err := r.ImportChain(t.Context(), ca.KindCSMS, next.answer(t, waiting), "operator"); err != nil {
		t.Fatal(err)
	}
	if issued := r.issue(t, leaf2(t)); issued.Issuer != "csms-issuing-3" {
		t.Errorf("%s issues", issued.Issuer)
	}
	leads("moved", next.Certificate())
	if err := r.CheckKeys(t.Context()); err != nil {
		t.Error(err)
	}
}

// The bridge that the present root has on its list isn't taken, nor one where its key is here.
func TestBridgeThatIsntTaken(t *testing.T) {
	t.Parallel()
	r, old := takenRig(t)
	next := newOffline(t, r, func(c *ca.OfflineRootConfig) { c.Name = "csms-root-3" })
	from := ca.RootElsewhere{Chain: files(next.certify(t, r)), List: file(next.list(t, listLife)), Cross: file(old.cross(t, next))}
	block, _ := pem.Decode(from.Cross.Data)
	bridge, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if err := old.Revoke(t.Context(), ca.SerialOf(bridge), "superseded"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ImportList(t.Context(), ca.KindCSMS, old.list(t, listLife), false, "operator"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.RolloverTo(t.Context(), ca.KindCSMS, from, "operator"); err == nil || !strings.Contains(err.Error(), "revokes what it certified the next root by") {
		t.Errorf("revoked: %v", err)
	}
	here := mobilityRig(t)
	made := newOffline(t, here, nil)
	from = ca.RootElsewhere{Chain: files(made.certify(t, here)), List: file(made.list(t, listLife)), Cross: file(old.cross(t, made))}
	if _, err := here.RolloverTo(t.Context(), ca.KindCSMS, from, "operator"); err == nil || !strings.Contains(err.Error(), "leave --cross out") {
		t.Errorf("the root is here: %v", err)
	}
	if read, err := old.ReadNextRoot(pemOf(old.Certificate())); err != nil {
		t.Error(err)
	} else if err := old.CheckNextRoot(t.Context(), read); err == nil {
		t.Error("a root would follow itself")
	}
}

// A next root's key is judged as every key is that gets a certificate, though the present
// root certified it where nobody knew better: nothing is begun with one that isn't good.
func TestNextRootWithAKnownKey(t *testing.T) {
	t.Parallel()
	r, old := takenRig(t)
	next := newOffline(t, r, func(c *ca.OfflineRootConfig) { c.Name = "csms-root-3" })
	from := ca.RootElsewhere{Chain: files(next.certify(t, r)), List: file(next.list(t, listLife)), Cross: file(old.cross(t, next))}
	sum := sha256.Sum256(next.Certificate().RawSubjectPublicKeyInfo)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "keys-blocked.txt"), []byte(hex.EncodeToString(sum[:])+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := quality.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer list.Close()
	cfg := r.config()
	cfg.StatusURL, cfg.Blocked = mobilityStatus, list
	if r.Authority, err = ca.New(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	_, err = r.RolloverTo(t.Context(), ca.KindCSMS, from, "operator")
	var refused *quality.Error
	if !errors.As(err, &refused) || refused.Reason != quality.Blocked {
		t.Errorf("got %v, want %q", err, quality.Blocked)
	}
	if phase := r.RolloverState(ca.KindCSMS).Phase; phase != ca.PhaseFinished {
		t.Errorf("it is %q", phase)
	}
}

// So it goes with the other hierarchies that can have one; what stations install of the
// manufacturer's is the same throughout.
func TestNextOfflineRootOfOthers(t *testing.T) {
	t.Parallel()
	r := mobilityRig(t, ca.KindManufacturer, ca.KindAttestation)
	for _, kind := range []ca.Kind{ca.KindManufacturer, ca.KindAttestation} {
		installed := r.Installable(kind)
		made := func(n string) *offline {
			return newOffline(t, r, func(c *ca.OfflineRootConfig) { c.Kind, c.Name = kind, string(kind)+"-root-"+n })
		}
		second, third := made("2"), made("3")
		for i, from := range []func() ca.RootElsewhere{
			func() ca.RootElsewhere {
				return ca.RootElsewhere{Chain: files(second.certify(t, r)), List: file(second.list(t, listLife))}
			},
			func() ca.RootElsewhere {
				return ca.RootElsewhere{Chain: files(third.certify(t, r)), List: file(third.list(t, listLife)), Cross: file(second.cross(t, third))}
			},
		} {
			if _, err := r.RolloverTo(t.Context(), kind, from(), "operator"); err != nil {
				t.Fatalf("%s, change %d: %v", kind, i+1, err)
			}
			if _, err := r.SwitchRollover(t.Context(), kind, "operator"); err != nil {
				t.Fatal(err)
			}
			if _, err := r.FinishRollover(t.Context(), kind, "operator"); err != nil {
				t.Fatal(err)
			}
			r.reopen(t)
		}
		if roots := r.Roots(kind); len(roots) != 1 || !roots[0].Equal(third.Certificate()) {
			t.Errorf("%s: %d roots", kind, len(roots))
		}
		below := r.Intermediates(kind)
		if out, err := r.opensslVerify(t, below[0], nil, r.Roots(kind)); err != nil {
			t.Errorf("%s: %v: %s", kind, err, out)
		}
		if kind == ca.KindManufacturer && !slices.EqualFunc(installed, r.Installable(kind), (*x509.Certificate).Equal) {
			t.Errorf("%s: stations would have to install something else", kind)
		}
	}
}
