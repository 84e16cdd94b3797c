package contract_test

import (
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"bollard/iso15118/message"
	"bollard/station/ev"
)

// A car that shares no cryptography with the provider installs and updates what it
// is given, and takes nothing from a CPS under another root.
func TestCar(t *testing.T) {
	t.Parallel()
	for _, p := range protocols {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, kindsOf(p)...)
			c := r.car(t, p)
			r.add(t)
			vehicle := &ev.Car{Protocol: p, Key: c.key, Chain: c.chain, Roots: x509.NewCertPool(), Clock: r.clock.now}
			ask := func(exi []byte, err error, isUpdate bool) []byte {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
				a, _ := r.ask(t, p, exi, isUpdate)
				return a.EXI
			}
			exi, err := vehicle.Install()
			if _, _, err := vehicle.Take(ask(exi, err, false), c.key); err == nil {
				t.Error("taken without a V2G root")
			}
			vehicle.Roots.AddCert(r.authority.Roots(kindsOf(p)[0])[0])
			exi, err = vehicle.Install()
			got, remaining, err := vehicle.Take(ask(exi, err, false), c.key)
			if err != nil || remaining != 0 || got.EMAID != string(emaid.Full()) {
				t.Fatalf("%+v, %d, %v", got, remaining, err)
			}
			if p == message.ISO2 {
				exi, err = vehicle.Update(got)
				next, _, err := vehicle.Take(ask(exi, err, true), got.Key)
				if err != nil || next.Key.Equal(got.Key) {
					t.Errorf("update: %v", err)
				}
			}
			if _, err := r.Cancel(t.Context(), "operator", emaid, ""); err != nil {
				t.Fatal(err)
			}
			exi, err = vehicle.Install()
			if _, _, err := vehicle.Take(ask(exi, err, false), c.key); !errors.Is(err, ev.ErrRefused) {
				t.Errorf("after cancelling: %v", err)
			}
		})
	}
}

// While the V2G root changes, a car gets the chain of who signed up to the root it
// names, also for an answer that was made before; without one, the chain served.
func TestCarNamesItsRoot(t *testing.T) {
	t.Parallel()
	for _, p := range protocols {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			kinds := kindsOf(p)
			r := newRig(t, kinds...)
			c := r.car(t, p)
			r.add(t)
			v2g := kinds[0]
			old := r.authority.Roots(v2g)[0]
			take := func(trusts *x509.Certificate, names ...*x509.Certificate) error {
				t.Helper()
				r.clock.set(r.clock.now().Add(10 * time.Second))
				vehicle := &ev.Car{Protocol: p, Key: c.key, Chain: c.chain, Roots: x509.NewCertPool(), Names: names, Clock: r.clock.now}
				vehicle.Roots.AddCert(trusts)
				exi, err := vehicle.Install()
				if err != nil {
					t.Fatal(err)
				}
				a, _ := r.ask(t, p, exi, false)
				_, _, err = vehicle.Take(a.EXI, c.key)
				return err
			}
			if err := take(old, old); err != nil {
				t.Fatal(err)
			}
			if _, err := r.authority.Rollover(t.Context(), v2g, "operator"); err != nil {
				t.Fatal(err)
			}
			next := r.authority.Roots(v2g)[1]
			for name, err := range map[string]error{"old": take(old, old), "new": take(next, next), "old, unnamed": take(old)} {
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			if err := take(next, old); err == nil {
				t.Error("a chain to another root than the named one is taken")
			}
			if _, err := r.authority.SwitchRollover(t.Context(), v2g, "operator"); err != nil {
				t.Fatal(err)
			}
			for name, err := range map[string]error{"old": take(old, old), "new": take(next, next)} {
				if err != nil {
					t.Errorf("switched, %s: %v", name, err)
				}
			}
		})
	}
}
