package main

import (
	"fmt"
	"time"

	ocpp2 "github.com/lorenzodonini/ocpp-go/ocpp2.0.1"
	"github.com/lorenzodonini/ocpp-go/ocpp2.0.1/authorization"
	"github.com/lorenzodonini/ocpp-go/ocpp2.0.1/availability"
	"github.com/lorenzodonini/ocpp-go/ocpp2.0.1/meter"
	"github.com/lorenzodonini/ocpp-go/ocpp2.0.1/provisioning"
	"github.com/lorenzodonini/ocpp-go/ocpp2.0.1/remotecontrol"
	"github.com/lorenzodonini/ocpp-go/ocpp2.0.1/transactions"
	"github.com/lorenzodonini/ocpp-go/ocpp2.0.1/types"
)

// backend201 is an OCPP 2.0.1 CSMS.
type backend201 struct {
	provisioning.CSMSHandler
	cs ocpp2.CSMS
}

func openBackend201(t *teller) (peer, error) {
	server, err := newLoopbackServer(t)
	if err != nil {
		return nil, err
	}
	b := &backend201{cs: ocpp2.NewCSMS(nil, server)}
	b.cs.SetProvisioningHandler(b)
	b.cs.SetAvailabilityHandler(b)
	b.cs.SetAuthorizationHandler(b)
	b.cs.SetTransactionsHandler(b)
	b.cs.SetMeterHandler(b)
	go b.cs.Start(0, "/ocpp/{id}")
	return b, nil
}

func (b *backend201) stop() {}

// do sends the commands a back end gives and checks every answer.
func (b *backend201) do(c Command) error {
	if c.Do != "commands" {
		return fmt.Errorf("unknown command %q", c.Do)
	}
	component := types.Component{Name: "OCPPCommCtrlr"}
	variable := types.Variable{Name: "HeartbeatInterval"}
	w := newWaiter()
	err := b.cs.GetVariables(c.Identity, func(r *provisioning.GetVariablesResponse, err error) {
		if err == nil && (len(r.GetVariableResult) != 1 || r.GetVariableResult[0].AttributeValue != "300") {
			err = fmt.Errorf("result is %+v, want one of value 300", r.GetVariableResult)
		}
		w <- err
	}, []provisioning.GetVariableData{{Component: component, Variable: variable}})
	if err != nil {
		return fmt.Errorf("GetVariables: %w", err)
	}
	err = w.wait("GetVariables")
	if err != nil {
		return err
	}
	err = b.cs.SetVariables(c.Identity, func(r *provisioning.SetVariablesResponse, err error) {
		if err == nil {
			err = accepted(string(r.SetVariableResult[0].AttributeStatus))
		}
		w <- err
	}, []provisioning.SetVariableData{{AttributeValue: "600", Component: component, Variable: variable}})
	if err != nil {
		return fmt.Errorf("SetVariables: %w", err)
	}
	err = w.wait("SetVariables")
	if err != nil {
		return err
	}
	err = b.cs.TriggerMessage(c.Identity, func(r *remotecontrol.TriggerMessageResponse, err error) {
		if err == nil {
			err = accepted(string(r.Status))
		}
		w <- err
	}, remotecontrol.MessageTriggerHeartbeat)
	if err != nil {
		return fmt.Errorf("TriggerMessage: %w", err)
	}
	err = w.wait("TriggerMessage")
	if err != nil {
		return err
	}
	err = b.cs.Reset(c.Identity, func(r *provisioning.ResetResponse, err error) {
		if err == nil {
			err = accepted(string(r.Status))
		}
		w <- err
	}, provisioning.ResetTypeOnIdle)
	if err != nil {
		return fmt.Errorf("couldn't send Reset: %w", err)
	}
	return w.wait("Reset")
}

func (b *backend201) OnBootNotification(string, *provisioning.BootNotificationRequest) (*provisioning.BootNotificationResponse, error) {
	return provisioning.NewBootNotificationResponse(types.NewDateTime(time.Now()), 300, provisioning.RegistrationStatusAccepted), nil
}

func (b *backend201) OnHeartbeat(string, *availability.HeartbeatRequest) (*availability.HeartbeatResponse, error) {
	return availability.NewHeartbeatResponse(*types.NewDateTime(time.Now())), nil
}

func (b *backend201) OnStatusNotification(string, *availability.StatusNotificationRequest) (*availability.StatusNotificationResponse, error) {
	return availability.NewStatusNotificationResponse(), nil
}

func (b *backend201) OnAuthorize(string, *authorization.AuthorizeRequest) (*authorization.AuthorizeResponse, error) {
	return authorization.NewAuthorizationResponse(*types.NewIdTokenInfo(types.AuthorizationStatusAccepted)), nil
}

func (b *backend201) OnTransactionEvent(string, *transactions.TransactionEventRequest) (*transactions.TransactionEventResponse, error) {
	return transactions.NewTransactionEventResponse(), nil
}

func (b *backend201) OnMeterValues(string, *meter.MeterValuesRequest) (*meter.MeterValuesResponse, error) {
	return meter.NewMeterValuesResponse(), nil
}
