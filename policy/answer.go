package policy

import (
	"encoding/json"

	"bollard/ocpp"
)

// told is what a peer learns: that it was policy, not which rule.
const told = "refused by policy"

// negative is how the message's own answer says no: the payload of a CALLRESULT
// in the version's shape, or nil, where only a CALLERROR can say it.
func (v *view) negative() any {
	if v.action == ocpp.ActionSetVariables && !v.wrapped {
		return v.everyVariable()
	}
	a, known := ocpp.FindAction(v.action)
	status := ""
	if known {
		status = a.Refusal(v.shape)
	}
	if status == "" {
		if v.wrapped { // the transfer itself can be rejected
			return ocpp.DataTransferResponse{Status: ocpp.StatusRejected}
		}
		return nil
	}
	answer := ocpp.GenericStatus{Status: status}
	if v.shape != ocpp.V16 {
		answer.StatusInfo = &ocpp.StatusInfo{ReasonCode: ocpp.ReasonUnsupportedRequest, AdditionalInfo: told}
	}
	if !v.wrapped {
		return answer
	}
	inner, err := json.Marshal(answer)
	if err != nil {
		panic("internal error: couldn't encode an own answer: " + err.Error())
	}
	outer, err := json.Marshal(string(inner))
	if err != nil {
		panic("internal error: couldn't encode an own answer: " + err.Error())
	}
	return ocpp.DataTransferResponse{Status: ocpp.StatusAccepted, Data: outer}
}

// everyVariable rejects each entry of SetVariables, which has no status of its own.
func (v *view) everyVariable() any {
	var set ocpp.SetVariablesRequest
	if err := ocpp.DecodeStrict(v.raw, &set); err != nil || len(set.SetVariableData) == 0 {
		return nil
	}
	out := ocpp.SetVariablesResponse{}
	for _, d := range set.SetVariableData {
		out.SetVariableResult = append(out.SetVariableResult, ocpp.SetVariableResult{
			AttributeType: d.AttributeType, AttributeStatus: ocpp.StatusRejected,
			AttributeStatusInfo: &ocpp.StatusInfo{ReasonCode: ocpp.ReasonUnsupportedRequest, AdditionalInfo: told},
			Component:           d.Component, Variable: d.Variable,
		})
	}
	return out
}
