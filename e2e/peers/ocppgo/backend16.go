package main

import (
	"fmt"
	"sync/atomic"
	"time"

	ocpp16 "github.com/lorenzodonini/ocpp-go/ocpp1.6"
	"github.com/lorenzodonini/ocpp-go/ocpp1.6/core"
	"github.com/lorenzodonini/ocpp-go/ocpp1.6/remotetrigger"
	"github.com/lorenzodonini/ocpp-go/ocpp1.6/types"
)

// backend16 is an OCPP 1.6 central system.
type backend16 struct {
	core.CentralSystemHandler
	cs           ocpp16.CentralSystem
	transactions atomic.Int64
}

func openBackend16(t *teller) (peer, error) {
	server, err := newLoopbackServer(t)
	if err != nil {
		return nil, err
	}
	b := &backend16{cs: ocpp16.NewCentralSystem(nil, server)}
	b.cs.SetCoreHandler(b)
	go b.cs.Start(0, "/ocpp/{id}")
	return b, nil
}

// stop leaves the sockets to the end of the process: the library's own Stop
// waits for stations that may be gone.
func (b *backend16) stop() {}

// do sends the commands a back end gives and checks every answer.
func (b *backend16) do(c Command) error {
	if c.Do != "commands" {
		return fmt.Errorf("unknown command %q", c.Do)
	}
	w := newWaiter()
	err := b.cs.GetConfiguration(c.Identity, func(r *core.GetConfigurationConfirmation, err error) {
		if err == nil && len(r.ConfigurationKey) != 1 {
			err = fmt.Errorf("%d keys, want 1", len(r.ConfigurationKey))
		}
		w <- err
	}, []string{"HeartbeatInterval"})
	if err != nil {
		return fmt.Errorf("GetConfiguration: %w", err)
	}
	err = w.wait("GetConfiguration")
	if err != nil {
		return err
	}
	err = b.cs.ChangeConfiguration(c.Identity, func(r *core.ChangeConfigurationConfirmation, err error) {
		if err == nil {
			err = accepted(string(r.Status))
		}
		w <- err
	}, "HeartbeatInterval", "600")
	if err != nil {
		return fmt.Errorf("ChangeConfiguration: %w", err)
	}
	err = w.wait("ChangeConfiguration")
	if err != nil {
		return err
	}
	err = b.cs.TriggerMessage(c.Identity, func(r *remotetrigger.TriggerMessageConfirmation, err error) {
		if err == nil {
			err = accepted(string(r.Status))
		}
		w <- err
	}, remotetrigger.MessageTrigger(core.HeartbeatFeatureName))
	if err != nil {
		return fmt.Errorf("TriggerMessage: %w", err)
	}
	err = w.wait("TriggerMessage")
	if err != nil {
		return err
	}
	err = b.cs.Reset(c.Identity, func(r *core.ResetConfirmation, err error) {
		if err == nil {
			err = accepted(string(r.Status))
		}
		w <- err
	}, core.ResetTypeSoft)
	if err != nil {
		return fmt.Errorf("couldn't send Reset: %w", err)
	}
	return w.wait("Reset")
}

func (b *backend16) OnBootNotification(string, *core.BootNotificationRequest) (*core.BootNotificationConfirmation, error) {
	return core.NewBootNotificationConfirmation(types.NewDateTime(time.Now()), 300, core.RegistrationStatusAccepted), nil
}

func (b *backend16) OnStatusNotification(string, *core.StatusNotificationRequest) (*core.StatusNotificationConfirmation, error) {
	return core.NewStatusNotificationConfirmation(), nil
}

func (b *backend16) OnHeartbeat(string, *core.HeartbeatRequest) (*core.HeartbeatConfirmation, error) {
	return core.NewHeartbeatConfirmation(types.NewDateTime(time.Now())), nil
}

func (b *backend16) OnAuthorize(string, *core.AuthorizeRequest) (*core.AuthorizeConfirmation, error) {
	return core.NewAuthorizationConfirmation(types.NewIdTagInfo(types.AuthorizationStatusAccepted)), nil
}

func (b *backend16) OnStartTransaction(string, *core.StartTransactionRequest) (*core.StartTransactionConfirmation, error) {
	id := int(b.transactions.Add(1))
	return core.NewStartTransactionConfirmation(types.NewIdTagInfo(types.AuthorizationStatusAccepted), id), nil
}

func (b *backend16) OnMeterValues(string, *core.MeterValuesRequest) (*core.MeterValuesConfirmation, error) {
	return core.NewMeterValuesConfirmation(), nil
}

func (b *backend16) OnStopTransaction(string, *core.StopTransactionRequest) (*core.StopTransactionConfirmation, error) {
	return core.NewStopTransactionConfirmation(), nil
}
