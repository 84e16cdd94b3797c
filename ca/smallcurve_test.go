package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"strings"
	"testing"

	"bollard/ca/quality"
)

func smallCurveOrder(t *testing.T, profile string, allowed bool) Order {
	t.Helper()
	o := lintOrder(t, profile, false)
	key, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err == nil {
		o.Key, err = proven(key.Public())
	}
	if err != nil {
		t.Fatal(err)
	}
	o.P224 = allowed
	return o
}

// A key on P-224 is certified for a station whose model needs it, passes RFC
// 5280's lints like any other, and is told in the ledger; nothing else has one.
func TestP224OnlyWhereTheModelNeedsIt(t *testing.T) { // A00.FR.503
	t.Parallel()
	a, store := lintRig(t)
	for _, profile := range append(Profiles(), ProfileOCSP) {
		for _, allowed := range []bool{false, true} {
			before := len(store.records)
			_, err := a.prepareAny(t, smallCurveOrder(t, profile, allowed))
			if profile == ProfileStation && allowed {
				if err != nil {
					t.Error(err)
				}
				continue
			}
			var refused *CSRError
			if !errors.As(err, &refused) || refused.Fault != CSRKey || !strings.Contains(err.Error(), "A00.FR.503") || len(store.records) != before {
				t.Errorf("%s, allowed %t: %v", profile, allowed, err)
			}
		}
	}
	o := smallCurveOrder(t, ProfileStation, true)
	p, err := a.Prepare(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	issued, err := a.Issue(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if faults, err := lintRFC5280(issued.Certificate.Raw, ProfileStation); err != nil || len(faults) > 0 {
		t.Errorf("zlint: %v, %v", faults, err)
	}
	if got := p.event("certificate.intent").Data["curve"]; got != "P-224" {
		t.Errorf("the ledger says curve %q", got)
	}
	// Another entry doesn't speak of curves.
	if p, err = a.Prepare(t.Context(), lintOrder(t, ProfileStation, false)); err != nil || p.event("certificate.intent").Data["curve"] != "" {
		t.Errorf("a certificate on P-256: %v", err)
	}
}

// The lint is the second guard: a certificate on P-224 that got past the first
// one is stopped, and the clause named.
func TestP224FailsTheLintElsewhere(t *testing.T) {
	t.Parallel()
	a, _ := lintRig(t)
	for _, tt := range []struct {
		profile string
		allowed bool
	}{{ProfileStation, false}, {ProfileServer, true}, {ProfileFirmware, true}, {ProfileOCSP, true}} {
		o := smallCurveOrder(t, tt.profile, tt.allowed)
		plan, err := a.plan(a.hierarchy(KindCSMS).issuing, profiles[tt.profile], o, lintStart)
		if err != nil {
			t.Fatal(err)
		}
		tmpl, err := template(plan)
		if err != nil {
			t.Fatal(err)
		}
		tbs, err := plan.issuer.outline(tmpl, plan.key)
		if err != nil {
			t.Fatal(err)
		}
		der, err := withSignature(tbs, placeholder())
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		var fault *LintError
		if err := lint(cert, plan, newShapes()); !errors.As(err, &fault) || len(fault.Faults) != 1 || !strings.Contains(fault.Faults[0], "A00.FR.503") {
			t.Errorf("%s, allowed %t: %v", tt.profile, tt.allowed, err)
		}
	}
}

// Bollard makes no such key itself, nor signs with one.
func TestP224IsNoKeyOfBollards(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var refused *quality.Error
	if _, err := GeneratedKey(key); !errors.As(err, &refused) || refused.Reason != quality.Curve {
		t.Errorf("a generated key: %v", err)
	}
	if algorithm, err := signatureAlgorithm(key.Public()); err == nil {
		t.Errorf("a CA with it would sign with %s", algorithm)
	}
}
