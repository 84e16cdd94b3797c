package contract_test

import (
	"crypto/x509"
	"errors"
	"testing"

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
