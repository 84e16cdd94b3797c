package main

import (
	"fmt"
	"time"

	ocpp16 "github.com/lorenzodonini/ocpp-go/ocpp1.6"
	"github.com/lorenzodonini/ocpp-go/ocpp1.6/core"
	"github.com/lorenzodonini/ocpp-go/ocpp1.6/remotetrigger"
	"github.com/lorenzodonini/ocpp-go/ocpp1.6/types"
)

// station16 is an OCPP 1.6 station. The embedded handlers stay nil: a message
// the test's back end never sends would panic the peer, which fails the test.
type station16 struct {
	core.ChargePointHandler
	cp     ocpp16.ChargePoint
	serial string
	beats  chan error // outcomes of triggered Heartbeats
}

type trigger16 struct{ s *station16 }

func openStation16(cfg Config, t *teller) (peer, error) {
	client, err := dialClient(cfg, t)
	if err != nil {
		return nil, err
	}
	s := &station16{cp: ocpp16.NewChargePoint(cfg.Identity, nil, client), serial: cfg.Serial, beats: make(chan error, 1)}
	s.cp.SetCoreHandler(s)
	s.cp.SetRemoteTriggerHandler(trigger16{s})
	err = s.cp.Start(cfg.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("couldn't connect: %w", err)
	}
	t.tell(Event{Event: "open", Identity: cfg.Identity})
	return s, nil
}

func (s *station16) stop() { s.cp.Stop() }

func (s *station16) do(c Command) error {
	switch c.Do {
	case "session":
		return s.session()
	case "heartbeat":
		_, err := s.cp.Heartbeat()
		return err
	case "triggered":
		return waiter(s.beats).wait("triggered Heartbeat")
	}
	return fmt.Errorf("unknown command %q", c.Do)
}

// session charges one car.
func (s *station16) session() error {
	boot, err := s.cp.BootNotification("Model-16", "VendorÄ", func(r *core.BootNotificationRequest) {
		r.ChargePointSerialNumber = s.serial
	})
	if err != nil {
		return fmt.Errorf("BootNotification: %w", err)
	}
	err = accepted(string(boot.Status))
	if err != nil {
		return fmt.Errorf("BootNotification: %w", err)
	}
	_, err = s.cp.StatusNotification(1, core.NoError, core.ChargePointStatusAvailable)
	if err != nil {
		return fmt.Errorf("StatusNotification: %w", err)
	}
	_, err = s.cp.Heartbeat()
	if err != nil {
		return fmt.Errorf("couldn't send Heartbeat: %w", err)
	}
	auth, err := s.cp.Authorize("TAG-0001")
	if err != nil {
		return fmt.Errorf("couldn't authorise: %w", err)
	}
	err = accepted(string(auth.IdTagInfo.Status))
	if err != nil {
		return fmt.Errorf("couldn't authorise: %w", err)
	}
	start, err := s.cp.StartTransaction(1, "TAG-0001", 1000, types.NewDateTime(time.Now()))
	if err != nil {
		return fmt.Errorf("StartTransaction: %w", err)
	}
	for i := range 3 {
		_, err = s.cp.MeterValues(1, []types.MeterValue{{
			Timestamp:    types.NewDateTime(time.Now()),
			SampledValue: []types.SampledValue{{Value: fmt.Sprint(1000 + 250*i), Measurand: types.MeasurandEnergyActiveImportRegister, Unit: types.UnitOfMeasureWh}},
		}}, func(r *core.MeterValuesRequest) { r.TransactionId = &start.TransactionId })
		if err != nil {
			return fmt.Errorf("MeterValues: %w", err)
		}
	}
	_, err = s.cp.StopTransaction(1750, types.NewDateTime(time.Now()), start.TransactionId)
	if err != nil {
		return fmt.Errorf("StopTransaction: %w", err)
	}
	return nil
}

func (s *station16) OnChangeConfiguration(*core.ChangeConfigurationRequest) (*core.ChangeConfigurationConfirmation, error) {
	return core.NewChangeConfigurationConfirmation(core.ConfigurationStatusAccepted), nil
}

func (s *station16) OnGetConfiguration(r *core.GetConfigurationRequest) (*core.GetConfigurationConfirmation, error) {
	value := "300"
	var keys []core.ConfigurationKey
	for _, k := range r.Key {
		keys = append(keys, core.ConfigurationKey{Key: k, Value: &value})
	}
	return core.NewGetConfigurationConfirmation(keys), nil
}

func (s *station16) OnReset(*core.ResetRequest) (*core.ResetConfirmation, error) {
	return core.NewResetConfirmation(core.ResetStatusAccepted), nil
}

// OnTriggerMessage sends what was asked for after the answer.
func (h trigger16) OnTriggerMessage(*remotetrigger.TriggerMessageRequest) (*remotetrigger.TriggerMessageConfirmation, error) {
	go func() {
		_, err := h.s.cp.Heartbeat()
		h.s.beats <- err
	}()
	return remotetrigger.NewTriggerMessageConfirmation(remotetrigger.TriggerMessageStatusAccepted), nil
}
