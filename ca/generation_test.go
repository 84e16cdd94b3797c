package ca_test

import (
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"

	"bollard/ca"
	"bollard/ledger"
)

// A CA that others certify gets a new key: from its chain on the new one issues, under
// names of its own; the old one keeps its leaves' chain, list and OCSP until it ends.
func TestNewKeyOfAnOutsideCA(t *testing.T) {
	t.Parallel()
	for _, level := range []int{1, 2} {
		t.Run(string(rune('0'+level)), func(t *testing.T) {
			t.Parallel()
			r := mobilityRig(t)
			root := newOutsideRoot(t, r.now, elliptic.P256(), "Outside Root")
			r.trust(t, "mo", root.cert)
			by := root
			if level == 2 {
				by = root.sub(1)
			}
			take := func(csr []byte) error {
				chain := pemOf(by.certify(csr, nil))
				if level == 2 {
					chain = append(chain, pemOf(by.cert)...)
				}
				return r.ImportChain(t.Context(), ca.KindMO, chain, "operator")
			}
			anew := func(anew bool) []byte {
				t.Helper()
				csr, err := r.RequestCA(t.Context(), ca.KindMO, level, anew, "operator")
				if err != nil {
					t.Fatal(err)
				}
				return csr
			}
			if _, err := r.RequestCA(t.Context(), ca.KindMO, level, true, "operator"); !errors.Is(err, ca.ErrNoHierarchy) {
				t.Errorf("a second key before the first: %v", err)
			}
			if err := take(anew(false)); err != nil {
				t.Fatal(err)
			}
			before := r.issue(t, leafOf(t, ca.ProfileContract, "NLEXA1234567890"))
			old := r.Intermediates(ca.KindMO)

			first := mustRequest(t, anew(true))
			r.reopen(t)
			csr := anew(true)
			if again := mustRequest(t, csr); string(again.RawSubjectPublicKeyInfo) != string(first.RawSubjectPublicKeyInfo) || string(again.RawSubjectPublicKeyInfo) == string(old[0].RawSubjectPublicKeyInfo) {
				t.Error("a repeated request is for another key, or for the old one")
			}
			if present := mustRequest(t, anew(false)); string(present.RawSubjectPublicKeyInfo) != string(old[0].RawSubjectPublicKeyInfo) {
				t.Error("the present key isn't to be had certified any more")
			}
			if meanwhile := r.issue(t, leafOf(t, ca.ProfileContract, "NLEXA1234567891")); meanwhile.Issuer != before.Issuer {
				t.Errorf("%s issues before its chain is there", meanwhile.Issuer)
			}
			for range 2 { // idempotent
				if err := take(csr); err != nil {
					t.Fatal(err)
				}
			}
			r.reopen(t)
			after := r.issue(t, leafOf(t, ca.ProfileContract, "NLEXA1234567892"))
			if after.Issuer != before.Issuer+"-2" || len(r.Paths(ca.KindMO)) != 1 {
				t.Fatalf("issued by %s, %d ways", after.Issuer, len(r.Paths(ca.KindMO)))
			}
			for _, leaf := range []*ca.Issued{before, after} {
				found, err := r.Lookup(t.Context(), leaf.Serial)
				if err != nil {
					t.Fatal(err)
				}
				if out, err := r.opensslVerify(t, found.Certificate, found.Chain, []*x509.Certificate{root.cert}); err != nil {
					t.Errorf("%s: %v: %s", leaf.Issuer, err, out)
				}
				if len(r.Intermediates(ca.KindMO)) != 2*len(old) || !slices.ContainsFunc(r.Intermediates(ca.KindMO), leaf.Chain[0].Equal) {
					t.Errorf("%s: its CA isn't known any more", leaf.Issuer)
				}
				if _, err := r.Revoke(t.Context(), leaf.Serial, "keyCompromise", "operator"); err != nil {
					t.Fatal(err)
				}
				der, err := r.SignCRL(t.Context(), leaf.Issuer)
				if err != nil {
					t.Fatal(err)
				}
				list, err := x509.ParseRevocationList(der)
				if err != nil || list.CheckSignatureFrom(leaf.Chain[0]) != nil || len(list.RevokedCertificateEntries) != 1 || list.RevokedCertificateEntries[0].SerialNumber.Cmp(leaf.Certificate.SerialNumber) != 0 {
					t.Errorf("%s: its list: %v", leaf.Issuer, err)
				}
				if signer, err := r.OCSPSigner(t.Context(), leaf.Issuer); err != nil || signer.Certificate.CheckSignatureFrom(leaf.Chain[0]) != nil {
					t.Errorf("%s: its OCSP signer: %v", leaf.Issuer, err)
				}
				if !slices.ContainsFunc(r.StatusIssuers(), func(s ca.StatusIssuer) bool { return s.Name == leaf.Issuer && s.Issuing }) {
					t.Errorf("%s: its status isn't served", leaf.Issuer)
				}
			}
			if err := r.CheckKeys(t.Context()); err != nil {
				t.Error(err)
			}
			// The old CA is never renewed, and gone once it has ended.
			r.now = old[0].NotAfter.AddDate(0, 0, -40)
			if renewed, err := r.RenewCAs(t.Context(), ca.KindMO, "operator"); err != nil || slices.ContainsFunc(renewed, func(c ca.Renewed) bool { return !strings.HasSuffix(c.Name, "-2") }) {
				t.Errorf("renewed %+v: %v", renewed, err)
			}
			r.now = before.Chain[0].NotAfter.AddDate(0, 0, 1)
			r.reopen(t)
			if slices.ContainsFunc(r.StatusIssuers(), func(s ca.StatusIssuer) bool { return s.Name == before.Issuer }) {
				t.Error("it is there after its end")
			}
		})
	}
	own := mobilityRig(t, ca.KindMO)
	if _, err := own.RequestCA(t.Context(), ca.KindMO, 1, true, "operator"); !errors.Is(err, ca.ErrHierarchyExists) {
		t.Errorf("a hierarchy with a root of its own: %v", err)
	}
}

// What ends the trust in a root ends what is given out along chains to it: with another
// chain that one is left, without one nothing is issued, while lists go on; trusted
// again, it counts again. A chain can be taken out, but for a CA's last.
func TestTrustInAChainEnds(t *testing.T) {
	t.Parallel()
	r := mobilityRig(t)
	root, other := newOutsideRoot(t, r.now, elliptic.P256(), "Outside Root"), newOutsideRoot(t, r.now, elliptic.P256(), "Other Root")
	for _, o := range []*authority{root, other} {
		r.trust(t, "v2g", o.cert)
		if err := r.ImportChain(t.Context(), ca.KindV2G, pemOf(o.certify(r.ask(t, ca.KindV2G, 1), nil)), "operator"); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(o *authority) {
		t.Helper()
		list, err := r.Anchors(t.Context(), "v2g")
		i := slices.IndexFunc(list, func(a ca.TrustAnchor) bool { return string(a.DER) == string(o.cert.Raw) })
		if err == nil {
			_, err = r.RemoveAnchor(t.Context(), "v2g", list[i].Hash, "operator")
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	leads := func(what string, to ...*authority) {
		t.Helper()
		for range 2 {
			paths := r.Paths(ca.KindV2G)
			if !slices.EqualFunc(paths, to, func(p ca.Path, o *authority) bool { return p.Root.Equal(o.cert) }) {
				t.Errorf("%s: %d ways", what, len(paths))
			}
			if _, err := r.Prepare(t.Context(), leafOf(t, ca.ProfileSECC, "DE*ABC*E*1")); errors.Is(err, ca.ErrNoHierarchy) != (len(to) == 0) || (err == nil) == (len(to) == 0) {
				t.Errorf("%s: issuing: %v", what, err)
			}
			if _, err := r.CRL(t.Context(), ca.KindV2G); err != nil {
				t.Errorf("%s: its list: %v", what, err)
			}
			r.reopen(t)
		}
	}
	leads("both trusted", other, root)
	remove(other)
	leads("one trusted", root)
	remove(root)
	leads("none trusted")
	r.trust(t, "v2g", root.cert)
	leads("trusted again", root)
	r.trust(t, "v2g", other.cert)
	leads("both again", other, root)

	list, err := r.Chains(t.Context(), ca.KindV2G)
	if err != nil || len(list) != 2 || !list[0].Trusted || !list[0].Root.Equal(other.cert) {
		t.Fatalf("%d chains: %v", len(list), err)
	}
	if _, err := r.RemoveChain(t.Context(), ca.KindV2G, list[0].Hash[:7], "operator"); err == nil {
		t.Error("seven digits were taken")
	}
	if _, err := r.RemoveChain(t.Context(), ca.KindV2G, list[0].Hash[:8], "operator"); err != nil {
		t.Fatal(err)
	}
	leads("one taken out", root)
	if _, err := r.RemoveChain(t.Context(), ca.KindV2G, list[1].Hash, "operator"); !errors.Is(err, ca.ErrOnlyChain) {
		t.Errorf("the last one: %v", err)
	}
	leads("the last one is there", root)
	if !slices.ContainsFunc(r.store.Events, func(e ledger.Event) bool { return e.Kind == "ca.chain-removed" }) {
		t.Error("it isn't on record")
	}
}
