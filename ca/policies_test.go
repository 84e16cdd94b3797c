package ca_test

import (
	"crypto/rand"
	"crypto/x509"
	"strings"
	"testing"

	"bollard/ca"
	"bollard/keys"
)

// Path validation that demands a policy of assurance finds a path (RFC 5280 §6.1), under
// the one root and under both while they change; one that demands another finds none, and
// none below a CA of an earlier version, which says nothing of policies.
func TestPathsHavePolicies(t *testing.T) {
	t.Parallel()
	const attested, other = "1.3.6.1.4.1.99999.1", "1.3.6.1.4.1.99999.2"
	r := bareRig(t)
	parse := func(text string) x509.OID {
		oid, err := x509.ParseOID(text)
		if err != nil {
			t.Fatal(err)
		}
		return oid
	}
	r.assurance = ca.Assurance{Attested: parse(attested), Other: parse(other)}
	if err := ca.Init(t.Context(), r.initConfig()); err != nil {
		t.Fatal(err)
	}
	r.open(t)
	demand := func(what, policy string, want bool, leaf *x509.Certificate, chain, roots []*x509.Certificate) {
		t.Helper()
		out, err := r.opensslVerify(t, leaf, chain, roots, "-x509_strict", "-policy_check", "-explicit_policy", "-policy", policy)
		if (err == nil) != want || !want && !strings.Contains(out, "policy") {
			t.Errorf("%s: %v, want a path: %t\n%s", what, err, want, out)
		}
	}
	old := r.Roots(ca.KindCSMS)
	issued := r.issue(t, order(t, newKey(t)))
	demand("its own", other, true, issued.Certificate, issued.Chain, old)
	demand("any", "2.5.29.32.0", true, issued.Certificate, issued.Chain, old)
	demand("another", attested, false, issued.Certificate, issued.Chain, old)

	key, err := r.keeper.Open(t.Context(), "softkms:csms-root.key", keys.RoleCA)
	if err != nil {
		t.Fatal(err)
	}
	silent := *issued.Chain[0]
	silent.Policies = nil
	der, err := x509.CreateCertificate(rand.Reader, &silent, old[0], silent.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	before, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	demand("below a CA that says nothing", other, false, issued.Certificate, []*x509.Certificate{before}, old)

	if _, err := r.Rollover(t.Context(), ca.KindCSMS, "operator"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.SwitchRollover(t.Context(), ca.KindCSMS, "operator"); err != nil {
		t.Fatal(err)
	}
	next := r.Roots(ca.KindCSMS)[1:]
	issued = r.issue(t, order(t, newKey(t)))
	demand("the next root", other, true, issued.Certificate, issued.Chain, next)
	demand("the old one, over the next", other, true, issued.Certificate, append(issued.Chain[:len(issued.Chain):len(issued.Chain)], r.CrossRoot(ca.KindCSMS)), old)
}
