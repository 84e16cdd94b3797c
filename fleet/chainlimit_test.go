package fleet_test

import (
	"strings"
	"testing"

	"bollard/fleet"
	"bollard/ledger"
	"bollard/ocpp"
)

// A chain longer than the station takes is not sent; the order says why.
func TestChainLongerThanTheStationTakes(t *testing.T) { // A02.FR.16, MaxCertificateChainSize
	t.Parallel()
	for name, limit := range map[string]int{"too long": 100, "fits": 10000} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			s, _ := r.basic("CS-1", ocpp.V201, nil)
			if _, err := r.store.UpdatePlan(t.Context(), "cs-1", func(p *fleet.Plan) ([]ledger.Event, error) {
				p.Limits.Chain = limit
				return nil, nil
			}); err != nil {
				t.Fatal(err)
			}
			s.message(ocpp.FromStation, "SignCertificate", csrPayload(t, newKey(t), "SN-CS-1"))
			if limit == 100 {
				got := r.waitOrder("CS-1", fleet.OrderRejected)
				if !strings.Contains(got.Reason, "the station takes 100") || len(s.sent("CertificateSigned")) != 0 {
					t.Errorf("order %+v, %d chains sent", got, len(s.sent("CertificateSigned")))
				}
				return
			}
			r.waitOrder("CS-1", fleet.OrderDelivered)
		})
	}
}
