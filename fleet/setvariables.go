package fleet

import (
	"context"
	"encoding/json"
	"errors"

	"bollard/ocpp"
)

// setVariables keeps what each entry of a list gets for itself: what the back
// end may write goes on without the rest, and the station's results come back
// with Bollard's own between them, in the order of the request (B05.FR.01).
func (s *Service) setVariables(ctx context.Context, sess Session, m Message) (Verdict, error) {
	var set ocpp.SetVariablesRequest
	if err := ocpp.DecodeStrict(m.Payload, &set); err != nil {
		return Verdict{}, err
	}
	own := make([]*ocpp.SetVariableResult, len(set.SetVariableData))
	reason, answered := "", 0
	var after func(context.Context)
	for i, v := range set.SetVariableData {
		p := place{component: v.Component.Name, name: v.Variable.Name, value: v.AttributeValue}
		result := ocpp.SetVariableResult{AttributeType: v.AttributeType, Component: v.Component, Variable: v.Variable}
		if bare(p.component) == "securityctrlr" && isPassword(p) && (v.AttributeType == "" || v.AttributeType == "Actual") {
			if kept := s.upstreamPassword(ctx, sess, v.AttributeValue); kept.ok {
				result.AttributeStatus, own[i], after = ocpp.StatusAccepted, &result, kept.after
				answered++
				continue
			}
		}
		why := s.guarded(sess, p)
		if why == "" {
			continue
		}
		result.AttributeStatus = ocpp.StatusRejected
		result.AttributeStatusInfo = &ocpp.StatusInfo{ReasonCode: ocpp.ReasonUnsupportedRequest, AdditionalInfo: lockoutReason}
		own[i], reason = &result, "SetVariables: "+why
		answered++
		if after == nil && bare(p.name) == "networkconfigurationpriority" && sess.Security() != SecurityBollard {
			after = func(ctx context.Context) { s.learnSlot(ctx, sess) }
		}
	}
	switch _, signed := m.Head.BaseAction(); {
	case answered == 0:
		return Verdict{Act: Pass}, nil
	case answered == len(own):
		return Verdict{Act: Answer, Payload: mergeResults(own, nil), Reason: reason, After: after}, nil
	case signed: // its signature covers all of it, so nothing of it can go on
		for i, v := range set.SetVariableData {
			if own[i] == nil {
				own[i] = &ocpp.SetVariableResult{AttributeType: v.AttributeType, AttributeStatus: ocpp.StatusRejected, Component: v.Component, Variable: v.Variable,
					AttributeStatusInfo: &ocpp.StatusInfo{ReasonCode: ocpp.ReasonUnsupportedRequest, AdditionalInfo: "signed together with a variable that " + lockoutReason}}
			}
		}
		return Verdict{Act: Answer, Payload: mergeResults(own, nil), Reason: reason, After: after}, nil
	}
	rest, err := without(m.Payload, own)
	if err != nil {
		return Verdict{}, err
	}
	return Verdict{Act: Pass, Rewrite: rest, Reason: reason, After: after,
		Merge: func(result json.RawMessage) (any, error) {
			var got struct {
				SetVariableResult []json.RawMessage `json:"setVariableResult"`
			}
			if err := ocpp.DecodeStrict(result, &got); err != nil {
				return nil, err
			}
			return mergeResults(own, got.SetVariableResult), nil
		}}, nil
}

// without is the request less the entries Bollard answers itself. What stays
// keeps its spelling.
func without(payload json.RawMessage, own []*ocpp.SetVariableResult) (json.RawMessage, error) {
	var members map[string]json.RawMessage
	var entries, rest []json.RawMessage
	err := json.Unmarshal(payload, &members)
	if err == nil {
		err = json.Unmarshal(members["setVariableData"], &entries)
	}
	if err != nil || len(entries) != len(own) { // cannot be: it was decoded strictly
		return nil, errors.New("internal error: a SetVariables was read in two ways")
	}
	for i, e := range entries {
		if own[i] == nil {
			rest = append(rest, e)
		}
	}
	encoded, err := json.Marshal(rest)
	if err != nil {
		return nil, err
	}
	members["setVariableData"] = encoded
	return json.Marshal(members)
}

// mergeResults puts the station's results where Bollard has none of its own. A
// station that sends more or fewer than it was asked for is not corrected.
func mergeResults(own []*ocpp.SetVariableResult, station []json.RawMessage) any {
	list := make([]any, 0, len(own))
	for _, o := range own {
		switch {
		case o != nil:
			list = append(list, o)
		case len(station) > 0:
			list = append(list, station[0])
			station = station[1:]
		}
	}
	for _, left := range station {
		list = append(list, left)
	}
	return map[string]any{"setVariableResult": list}
}
