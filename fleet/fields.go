package fleet

import (
	"context"
	"strconv"
	"strings"

	"bollard/ledger"
	"bollard/ocpp"
)

// exiField is the field whose length decides whether a car can be given its contract
// (OCPPCommCtrlr.FieldLength, 2.x device model).
const exiField = "Get15118EVCertificateResponse.exiResponse"

// longestField bounds what a station is believed: no answer for a car is as long.
const longestField = 1 << 20

// needsFields: answers for cars are made here, and the station hasn't said with the
// firmware it runs how long one it takes. OCPP 1.6 has no such variable.
func (s *Service) needsFields(_ context.Context, sit *situation) bool {
	return s.cfg.AnswersCars != nil && s.cfg.AnswersCars() && sit.sess.Version() != ocpp.V16 &&
		(sit.plan.FieldsAt.IsZero() || sit.plan.FieldsOf != sit.plan.Firmware)
}

// readFields asks for it. The variable is there where a field is longer than the schema's;
// a shorter one, or none, is the schema's.
func (s *Service) readFields(ctx context.Context, sit *situation) (string, bool, error) {
	const what = "couldn't learn how long an answer for a car the station takes"
	text, err := getInstance(ctx, sit.sess, ocpp.Component{Name: "OCPPCommCtrlr"}, "FieldLength", exiField)
	if err := unlessAnswered(err); err != nil {
		return what, false, err
	}
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil || n < 0 {
		n = 0
	}
	firmware := sit.plan.Firmware
	_, err = s.store.UpdatePlan(ctx, sit.l.key, func(p *Plan) ([]ledger.Event, error) {
		p.CarAnswer, p.FieldsOf, p.FieldsAt = min(n, longestField), firmware, s.clock()
		return nil, nil
	})
	return "", err == nil, err
}

// CarAnswer is the longest answer for a car that a station takes, by its own word; 0: it
// said none that is longer than the version's.
func (s *Service) CarAnswer(ctx context.Context, key string, v ocpp.Version) (int, error) {
	plan, err := s.store.Plan(ctx, key)
	if err != nil {
		return 0, err
	}
	schema := ocpp.MaxEXIResponse
	if v == ocpp.V21 {
		schema = ocpp.MaxEXIResponse21
	}
	if v == ocpp.V16 || plan.CarAnswer <= schema {
		return 0, nil
	}
	return plan.CarAnswer, nil
}
