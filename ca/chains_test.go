package ca_test

import (
	"context"
	"crypto"
	"crypto/elliptic"
	"errors"
	"slices"
	"testing"
	"time"

	"bollard/ca"
	"bollard/keys"
)

// away is where the keys of a rig are, which can be gone.
type away struct{ gone bool }

func (w *away) open(r *rig) ca.KeyOpener {
	return func(ctx context.Context, uri string) (crypto.Signer, error) {
		if w.gone {
			return nil, keys.ErrNotFound
		}
		return r.keeper.Open(ctx, uri, keys.RoleCA)
	}
}

// outsideRig is a rig whose v2g others certified, over each of some roots.
func outsideRig(t *testing.T, roots ...*authority) *rig {
	t.Helper()
	r := mobilityRig(t)
	for _, root := range roots {
		r.trust(t, "v2g", root.cert)
		if err := r.ImportChain(t.Context(), ca.KindV2G, pemOf(root.certify(r.ask(t, ca.KindV2G, 1), nil)), "operator"); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func (r *rig) leadsTo(t *testing.T, what string, to ...*authority) {
	t.Helper()
	if paths := r.Paths(ca.KindV2G); !slices.EqualFunc(paths, to, func(p ca.Path, o *authority) bool { return p.Root.Equal(o.cert) }) {
		t.Errorf("%s: %d ways, want %d", what, len(paths), len(to))
	}
	prepared, err := r.Prepare(t.Context(), leafOf(t, ca.ProfileSECC, "DE*ABC*E*1"))
	if len(to) == 0 {
		if !errors.Is(err, ca.ErrNoHierarchy) {
			t.Errorf("%s: issuing: %v", what, err)
		}
		return
	}
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	issued, err := r.Issue(t.Context(), prepared)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if top := issued.Chain[len(issued.Chain)-1]; top.CheckSignatureFrom(to[0].cert) != nil {
		t.Errorf("%s: given out along another chain", what)
	}
}

// The trust in a root ends and begins at once, whether a key can be opened then or the
// database be read.
func TestTrustEndsWithTheKeysAway(t *testing.T) {
	t.Parallel()
	root := newOutsideRoot(t, start, elliptic.P256(), "Outside Root")
	other := newOutsideRoot(t, start, elliptic.P256(), "Other Root")
	for what, fail := range map[string]func(*rig, *away){
		"keys":     func(_ *rig, w *away) { w.gone = true },
		"database": func(r *rig, _ *away) { r.store.Fail["OutsideChains"] = errors.New("disk I/O error") },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			r := outsideRig(t, root, other)
			w := &away{}
			c := r.config()
			c.StatusURL, c.Keys = mobilityStatus, w.open(r)
			a, err := ca.New(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			r.Authority = a
			r.leadsTo(t, "before", other, root)
			fail(r, w)
			for i, left := range [][]*authority{{root}, {}} {
				gone := []*authority{other, root}[i]
				list, err := r.Anchors(t.Context(), "v2g")
				if err != nil {
					t.Fatal(err)
				}
				n := slices.IndexFunc(list, func(a ca.TrustAnchor) bool { return string(a.DER) == string(gone.cert.Raw) })
				if _, err := r.RemoveAnchor(t.Context(), "v2g", list[n].Hash, "operator"); err != nil {
					t.Errorf("removed: %v", err)
				}
				r.leadsTo(t, "afterwards", left...)
			}
			delete(r.store.Fail, "OutsideChains")
			r.trust(t, "v2g", root.cert)
			r.leadsTo(t, "trusted again", root)
		})
	}
}

// Nothing is given out along a chain that has ended, whether or not a server was started
// since; another one goes on. The ended one is shown as such.
func TestChainEnds(t *testing.T) {
	t.Parallel()
	short, long := newOutsideRoot(t, start, elliptic.P256(), "Short Root"), newOutsideRoot(t, start, elliptic.P256(), "Long Root")
	short.cert.NotAfter = start.AddDate(3, 0, 0)
	short.cert = short.sign(short.cert, short.key.Public())
	for name, tt := range map[string]struct{ roots, left []*authority }{
		"another is left": {[]*authority{long, short}, []*authority{long}},
		"it was the last": {[]*authority{short}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := outsideRig(t, tt.roots...)
			if _, err := r.Prepare(t.Context(), leafOf(t, ca.ProfileSECC, "DE*ABC*E*1")); err != nil || !r.Paths(ca.KindV2G)[0].Root.Equal(short.cert) {
				t.Fatalf("before: %v", err)
			}
			if end, outside := r.Paths(ca.KindV2G)[0].OutsideEnd(); !outside || !end.Equal(short.cert.NotAfter) {
				t.Errorf("it ends on %s, want %s", end, short.cert.NotAfter)
			}
			r.now = short.cert.NotAfter.Add(time.Second)
			r.leadsTo(t, "without a restart", tt.left...)
			list, err := r.Chains(t.Context(), ca.KindV2G)
			if last := list[len(list)-1]; err != nil || !last.Over || !last.Root.Equal(short.cert) {
				t.Errorf("it isn't shown as over: %v", err)
			}
			r.reopen(t)
			r.leadsTo(t, "after one", tt.left...)
		})
	}
}
