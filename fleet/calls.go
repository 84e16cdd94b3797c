package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"

	"bollard/ledger"
	"bollard/ocpp"
)

// refusedStep is a station's negative answer.
type refusedStep struct{ status string }

func (e refusedStep) Error() string { return "station answered " + e.status }

// call sends a CALL whose answer is a status, and accepts some of them.
func call(ctx context.Context, sess Session, action string, payload any, accept ...string) (string, error) {
	answer, err := sess.Call(ctx, action, payload)
	if err != nil {
		return "", err
	}
	var status ocpp.GenericStatus
	if err := ocpp.DecodeStrict(answer, &status); err != nil {
		return "", fmt.Errorf("couldn't read the station's answer to %s: %w", action, err)
	}
	for _, a := range accept {
		if status.Status == a {
			return status.Status, nil
		}
	}
	return "", refusedStep{capped(status.Status)}
}

// answered says that the station did answer, only not what was hoped for.
func answered(err error) bool {
	var refused refusedStep
	var failure *ocpp.CallFailure
	return errors.As(err, &refused) || errors.As(err, &failure)
}

// setVariable sets one variable (2.x) and returns its attribute status.
func setVariable(ctx context.Context, sess Session, component ocpp.Component, variable, value string) (string, error) {
	answer, err := sess.Call(ctx, ocpp.ActionSetVariables, ocpp.SetVariablesRequest{SetVariableData: []ocpp.SetVariable{{
		AttributeValue: value, Component: component, Variable: ocpp.Variable{Name: variable},
	}}})
	if err != nil {
		return "", err
	}
	var result ocpp.SetVariablesResponse
	if err := ocpp.DecodeStrict(answer, &result); err != nil {
		return "", fmt.Errorf("couldn't read the station's answer to SetVariables: %w", err)
	}
	if len(result.SetVariableResult) != 1 {
		return "", fmt.Errorf("station answered SetVariables with %d results instead of one", len(result.SetVariableResult))
	}
	status := result.SetVariableResult[0].AttributeStatus
	if status != ocpp.StatusAccepted && status != ocpp.StatusRebootRequired {
		return "", refusedStep{capped(status)}
	}
	return status, nil
}

// getVariables reads variables of one component (2.x); those the station
// doesn't have are missing from the result.
func getVariables(ctx context.Context, sess Session, component ocpp.Component, names ...string) (map[string]string, error) {
	request := ocpp.GetVariablesRequest{}
	for _, n := range names {
		request.GetVariableData = append(request.GetVariableData, ocpp.GetVariable{Component: component, Variable: ocpp.Variable{Name: n}})
	}
	answer, err := sess.Call(ctx, ocpp.ActionGetVariables, request)
	if err != nil {
		return nil, err
	}
	var result ocpp.GetVariablesResponse
	if err := ocpp.DecodeStrict(answer, &result); err != nil {
		return nil, fmt.Errorf("couldn't read the station's answer to GetVariables: %w", err)
	}
	out := map[string]string{}
	for _, r := range result.GetVariableResult {
		if r.AttributeStatus == ocpp.StatusAccepted {
			out[r.Variable.Name] = r.AttributeValue
		}
	}
	return out, nil
}

func (s *Service) recordStep(ctx context.Context, sess Session, kind string, data map[string]string) {
	key := keyOfSession(sess)
	if err := s.record(ctx, ledger.Event{Kind: kind, Subject: key, Actor: "bollard", Data: data}); err != nil && ctx.Err() == nil {
		s.log.Warn("couldn't record a step of a plan", slog.String("station", key), slog.Any("err", err))
	}
}

func profileData(profile int) map[string]string {
	return map[string]string{"profile": strconv.Itoa(profile)}
}

// getInstance reads one instance of a variable (2.x); "" if the station doesn't
// have it.
func getInstance(ctx context.Context, sess Session, component ocpp.Component, name, instance string) (string, error) {
	answer, err := sess.Call(ctx, ocpp.ActionGetVariables, ocpp.GetVariablesRequest{GetVariableData: []ocpp.GetVariable{
		{Component: component, Variable: ocpp.Variable{Name: name, Instance: instance}},
	}})
	if err != nil {
		return "", err
	}
	var result ocpp.GetVariablesResponse
	if err := ocpp.DecodeStrict(answer, &result); err != nil {
		return "", fmt.Errorf("couldn't read the station's answer to GetVariables: %w", err)
	}
	if len(result.GetVariableResult) != 1 || result.GetVariableResult[0].AttributeStatus != ocpp.StatusAccepted {
		return "", nil
	}
	return result.GetVariableResult[0].AttributeValue, nil
}

// configuration reads keys of a 1.6 station; those it doesn't have are missing
// from the result.
func configuration(ctx context.Context, sess Session, keys ...string) (map[string]string, error) {
	answer, err := sess.Call(ctx, ocpp.ActionGetConfiguration, ocpp.GetConfigurationRequest16{Key: keys})
	if err != nil {
		return nil, err
	}
	var response ocpp.GetConfigurationResponse16
	if err := ocpp.DecodeStrict(answer, &response); err != nil {
		return nil, fmt.Errorf("couldn't read the station's answer to GetConfiguration: %w", err)
	}
	out := map[string]string{}
	for _, k := range response.ConfigurationKey {
		if k.Value != nil {
			out[k.Key] = *k.Value
		}
	}
	return out, nil
}
