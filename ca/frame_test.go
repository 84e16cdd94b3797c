package ca

import (
	"bytes"
	"crypto/x509"
	"testing"
	"time"
)

// Out of a frame comes what crypto/x509 makes, to the byte, and never from a frame of
// another kind, or of what didn't pass lint.
func TestFramesGiveWhatX509Gives(t *testing.T) {
	t.Parallel()
	a, _ := lintRig(t)
	by := a.hierarchy(KindCSMS).issuing
	policy, err := x509.ParseOID("1.3.6.1.4.1.32473.1")
	if err != nil {
		t.Fatal(err)
	}
	ec, other, rsa := lintOrder(t, ProfileStation, false), lintOrder(t, ProfileStation, false), lintOrder(t, ProfileStation, true)
	other.Subject.CommonName = "Müller & Söhne, 7"
	short := other
	short.Life = time.Hour
	plans := map[string]plan{}
	for name, o := range map[string]Order{"first": ec, "another": other, "RSA": rsa, "shorter": short} {
		p, err := a.plan(by, profiles[ProfileStation], o, lintStart)
		if err != nil {
			t.Fatal(err)
		}
		plans[name] = p
		p.policies = []x509.OID{policy}
		plans[name+", with a policy"] = p
	}
	late := plans["another"]
	late.notAfter = time.Date(2050, 1, 1, 0, 0, 0, 0, time.UTC)
	plans["of 2050"] = late
	for range 2 { // the second time all come from frames
		for name, p := range plans {
			made, err := template(p)
			if err != nil {
				t.Fatal(err)
			}
			want, err := by.outline(made, p.key)
			if err != nil {
				t.Fatal(err)
			}
			got, err := a.frames.outline(p, template)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %v\n%x, want\n%x", name, err, got, want)
			}
			a.frames.learn(p, want)
		}
	}
	if n := len(a.frames.known); n != 2 {
		t.Errorf("%d frames are known, want one with a policy and one without", n)
	}
	bad := authorityWith(a, func(p plan) (*x509.Certificate, error) {
		c, err := template(p)
		c.OCSPServer = []string{"http://elsewhere.example/ocsp"}
		return c, err
	})
	if _, err := bad.Prepare(t.Context(), ec); err == nil || len(bad.frames.known) != 0 {
		t.Errorf("%v: a frame is remembered of what failed its lint", err)
	}
}

// What a frame gives is linted like anything else: one that says another thing than
// the plan stops issuing.
func TestFramesAreLinted(t *testing.T) {
	t.Parallel()
	a, store := lintRig(t)
	if _, err := a.Prepare(t.Context(), lintOrder(t, ProfileStation, false)); err != nil {
		t.Fatal(err)
	}
	for _, f := range a.frames.known {
		f.extensions[f.keyID-1] ^= 1
	}
	before := len(store.records)
	if _, err := a.Prepare(t.Context(), lintOrder(t, ProfileStation, false)); err == nil || len(store.records) != before {
		t.Errorf("%v: a certificate from a damaged frame was prepared", err)
	}
}

// BenchmarkOutline puts to-be-signed bytes of a station together.
func BenchmarkOutline(b *testing.B) {
	a, _ := lintRig(b)
	p, err := a.plan(a.hierarchy(KindCSMS).issuing, profiles[ProfileStation], lintOrder(b, ProfileStation, false), lintStart)
	if err != nil {
		b.Fatal(err)
	}
	made, err := template(p)
	if err != nil {
		b.Fatal(err)
	}
	tbs, err := p.issuer.outline(made, p.key)
	if err != nil {
		b.Fatal(err)
	}
	a.frames.learn(p, tbs)
	for name, outline := range map[string]func() ([]byte, error){
		"x509":  func() ([]byte, error) { return p.issuer.outline(made, p.key) },
		"frame": func() ([]byte, error) { return a.frames.outline(p, template) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := outline(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
