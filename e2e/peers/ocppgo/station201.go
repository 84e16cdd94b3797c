package main

import (
	"fmt"
	"time"

	ocpp2 "github.com/lorenzodonini/ocpp-go/ocpp2.0.1"
	"github.com/lorenzodonini/ocpp-go/ocpp2.0.1/availability"
	"github.com/lorenzodonini/ocpp-go/ocpp2.0.1/provisioning"
	"github.com/lorenzodonini/ocpp-go/ocpp2.0.1/remotecontrol"
	"github.com/lorenzodonini/ocpp-go/ocpp2.0.1/transactions"
	"github.com/lorenzodonini/ocpp-go/ocpp2.0.1/types"
)

// station201 is an OCPP 2.0.1 station; see station16 for the nil handlers.
type station201 struct {
	provisioning.ChargingStationHandler
	cs     ocpp2.ChargingStation
	serial string
	beats  chan error
}

type trigger201 struct {
	remotecontrol.ChargingStationHandler
	s *station201
}

func openStation201(cfg Config, t *teller) (peer, error) {
	client, err := dialClient(cfg, t)
	if err != nil {
		return nil, err
	}
	s := &station201{cs: ocpp2.NewChargingStation(cfg.Identity, nil, client), serial: cfg.Serial, beats: make(chan error, 1)}
	s.cs.SetProvisioningHandler(s)
	s.cs.SetRemoteControlHandler(trigger201{s: s})
	err = s.cs.Start(cfg.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("couldn't connect: %w", err)
	}
	t.tell(Event{Event: "open", Identity: cfg.Identity})
	return s, nil
}

func (s *station201) stop() { s.cs.Stop() }

func (s *station201) do(c Command) error {
	switch c.Do {
	case "session":
		return s.session()
	case "heartbeat":
		_, err := s.cs.Heartbeat()
		return err
	case "triggered":
		return waiter(s.beats).wait("triggered Heartbeat")
	}
	return fmt.Errorf("unknown command %q", c.Do)
}

// session charges one car.
func (s *station201) session() error {
	boot, err := s.cs.BootNotification(provisioning.BootReasonPowerUp, "Model-201", "Vendorß", func(r *provisioning.BootNotificationRequest) {
		r.ChargingStation.SerialNumber = s.serial
	})
	if err != nil {
		return fmt.Errorf("BootNotification: %w", err)
	}
	err = accepted(string(boot.Status))
	if err != nil {
		return fmt.Errorf("BootNotification: %w", err)
	}
	_, err = s.cs.StatusNotification(types.NewDateTime(time.Now()), availability.ConnectorStatusAvailable, 1, 1)
	if err != nil {
		return fmt.Errorf("StatusNotification: %w", err)
	}
	_, err = s.cs.Heartbeat()
	if err != nil {
		return fmt.Errorf("couldn't send Heartbeat: %w", err)
	}
	auth, err := s.cs.Authorize("TAG-0001", types.IdTokenTypeISO14443)
	if err != nil {
		return fmt.Errorf("couldn't authorise: %w", err)
	}
	err = accepted(string(auth.IdTokenInfo.Status))
	if err != nil {
		return fmt.Errorf("couldn't authorise: %w", err)
	}
	token := &types.IdToken{IdToken: "TAG-0001", Type: types.IdTokenTypeISO14443}
	steps := []struct {
		event  transactions.TransactionEvent
		reason transactions.TriggerReason
		state  transactions.ChargingState
	}{
		{transactions.TransactionEventStarted, transactions.TriggerReasonAuthorized, transactions.ChargingStateCharging},
		{transactions.TransactionEventUpdated, transactions.TriggerReasonMeterValuePeriodic, transactions.ChargingStateCharging},
		{transactions.TransactionEventUpdated, transactions.TriggerReasonMeterValuePeriodic, transactions.ChargingStateSuspendedEV},
		{transactions.TransactionEventEnded, transactions.TriggerReasonStopAuthorized, transactions.ChargingStateIdle},
	}
	for seq, step := range steps {
		info := transactions.Transaction{TransactionID: "tx-" + s.serial, ChargingState: step.state}
		_, err = s.cs.TransactionEvent(step.event, types.NewDateTime(time.Now()), step.reason, seq, info,
			func(r *transactions.TransactionEventRequest) {
				r.IDToken = token
				r.MeterValue = meterValue(1000 + 250*seq)
			})
		if err != nil {
			return fmt.Errorf("TransactionEvent %s: %w", step.event, err)
		}
	}
	_, err = s.cs.MeterValues(1, meterValue(2000))
	if err != nil {
		return fmt.Errorf("MeterValues: %w", err)
	}
	return nil
}

func meterValue(wh int) []types.MeterValue {
	return []types.MeterValue{{
		Timestamp:    *types.NewDateTime(time.Now()),
		SampledValue: []types.SampledValue{{Value: float64(wh) + 0.5, Measurand: types.MeasurandEnergyActiveImportRegister}},
	}}
}

func (s *station201) OnGetVariables(r *provisioning.GetVariablesRequest) (*provisioning.GetVariablesResponse, error) {
	var results []provisioning.GetVariableResult
	for _, v := range r.GetVariableData {
		results = append(results, provisioning.GetVariableResult{
			AttributeStatus: provisioning.GetVariableStatusAccepted,
			AttributeValue:  "300",
			Component:       v.Component,
			Variable:        v.Variable,
		})
	}
	return provisioning.NewGetVariablesResponse(results), nil
}

func (s *station201) OnSetVariables(r *provisioning.SetVariablesRequest) (*provisioning.SetVariablesResponse, error) {
	var results []provisioning.SetVariableResult
	for _, v := range r.SetVariableData {
		results = append(results, provisioning.SetVariableResult{
			AttributeStatus: provisioning.SetVariableStatusAccepted,
			Component:       v.Component,
			Variable:        v.Variable,
		})
	}
	return provisioning.NewSetVariablesResponse(results), nil
}

func (s *station201) OnReset(*provisioning.ResetRequest) (*provisioning.ResetResponse, error) {
	r := provisioning.NewResetResponse(provisioning.ResetStatusAccepted)
	// Without it the library writes "statusInfo":null, which no schema allows.
	r.StatusInfo = types.NewStatusInfo("NoError", "")
	return r, nil
}

// OnTriggerMessage sends what was asked for after the answer.
func (h trigger201) OnTriggerMessage(*remotecontrol.TriggerMessageRequest) (*remotecontrol.TriggerMessageResponse, error) {
	go func() {
		_, err := h.s.cs.Heartbeat()
		h.s.beats <- err
	}()
	return remotecontrol.NewTriggerMessageResponse(remotecontrol.TriggerMessageStatusAccepted), nil
}
