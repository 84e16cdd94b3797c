package contract_test

import (
	"testing"

	"bollard/contract"
	"bollard/iso15118/message"
)

// BenchmarkProvision is a whole answer: request decoded and verified, contract
// looked up, answer made (cold) or found (ready), all on disk.
func BenchmarkProvision(b *testing.B) {
	for _, p := range protocols {
		b.Run(p.String()+" ready", func(b *testing.B) { provision(b, p, false) })
		b.Run(p.String()+" cold", func(b *testing.B) { provision(b, p, true) })
	}
}

func provision(b *testing.B, p message.Protocol, cold bool) {
	r := newRig(b, kindsOf(p)...)
	c := r.car(b, p)
	r.add(b)
	exi := sign(b, c.request(), c.key)
	ask := func() string {
		a, err := r.Provision(b.Context(), contract.Request{Protocol: p, EXI: exi, Actor: "operator"})
		if err != nil || a.Code != "OK" {
			b.Fatalf("%+v, %v", a, err)
		}
		return a.Serial
	}
	last := ask()
	b.ReportAllocs()
	for b.Loop() {
		if cold {
			b.StopTimer()
			if _, err := r.authority.Revoke(b.Context(), last, "superseded", "operator"); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
		last = ask()
	}
}
