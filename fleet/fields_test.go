package fleet_test

import (
	"encoding/json"
	"strings"
	"testing"

	"bollard/fleet"
	"bollard/ledger"
	"bollard/ocpp"
)

const exiField = "Get15118EVCertificateResponse.exiResponse"

// A station of 2.x is asked how long an answer for a car it takes, where cars are answered
// here, once for each firmware version; what isn't longer than its version's, and what is
// no number, counts for nothing.
func TestFieldLength(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		v     ocpp.Version
		said  string
		want  int
		never bool
	}{
		"longer":           {v: ocpp.V201, said: " 7500", want: 7500},
		"longer, of 2.1":   {v: ocpp.V21, said: "20000", want: 20000},
		"the schema's":     {v: ocpp.V201, said: "5600"},
		"shorter, of 2.1":  {v: ocpp.V21, said: "7500"},
		"no number":        {v: ocpp.V201, said: "plenty"},
		"below nothing":    {v: ocpp.V201, said: "-7500"},
		"without end":      {v: ocpp.V201, said: "999999999999", want: 1 << 20},
		"nothing":          {v: ocpp.V201},
		"1.6":              {v: ocpp.V16, said: "7500", never: true},
		"no cars answered": {v: ocpp.V201, said: "7500", never: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.cars = func() bool { return name != "no cars answered" }
			r.restart()
			answer := obedient(nil)
			s, claim := r.basic("CS-1", tt.v, func(action string, payload json.RawMessage) (any, error) {
				if action == "GetVariables" && strings.Contains(string(payload), exiField) {
					result := ocpp.GetVariableResult{AttributeStatus: "Accepted", AttributeValue: tt.said}
					if tt.said == "" {
						result.AttributeStatus = "UnknownVariable"
					}
					return ocpp.GetVariablesResponse{GetVariableResult: []ocpp.GetVariableResult{result}}, nil
				}
				return answer(action, payload)
			})
			s.ready()
			asked := func(s *fakeSession) (n int) {
				for _, payload := range s.sent("GetVariables") {
					if strings.Contains(string(payload), exiField) {
						n++
					}
				}
				return n
			}
			key := s.adm.Station.Key()
			if !tt.never {
				eventually(t, "the answer is on record", func() bool { plan, err := r.store.Plan(t.Context(), key); return err == nil && !plan.FieldsAt.IsZero() })
			}
			eventually(t, "the station is at rest", s.wg.idle)
			want := 1
			if tt.never {
				want = 0
			}
			if n := asked(s); n != want {
				t.Errorf("asked %d times", n)
			}
			if got, err := r.svc.CarAnswer(t.Context(), key, tt.v); err != nil || got != tt.want {
				t.Errorf("takes %d, %v", got, err)
			}
			if name != "longer" {
				return
			}
			if _, err := r.store.UpdatePlan(t.Context(), key, func(p *fleet.Plan) ([]ledger.Event, error) { p.Firmware = "2.0"; return nil, nil }); err != nil {
				t.Fatal(err)
			}
			s.close()
			again := r.openWith(r.admit(claim), tt.v, fleet.SecurityBollard, s.answer)
			again.ready()
			eventually(t, "asked anew by its new firmware", func() bool { return asked(again) == 1 })
		})
	}
}
