package station_test

import (
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"bollard/ocpp"
	"bollard/station"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What the CSMS triggers, the station sends (F06, TriggerMessage).
func TestTriggeredMessages(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(version.String(), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, version, rigOptions{})
			r.ready()
			for _, action := range []string{"Heartbeat", "StatusNotification", "MeterValues", "BootNotification"} {
				before := r.count(action)
				r.wantStatus("TriggerMessage", object{"requestedMessage": action}, "Accepted")
				r.awaitCount(action, before+1)
			}
			r.wantStatus("TriggerMessage", object{"requestedMessage": "FirmwareStatusNotification"}, "Accepted")
			firmware, unknown := "FirmwareStatusNotification", "LogStatusNotification"
			if version == ocpp.V16 {
				firmware, unknown = "SignedFirmwareStatusNotification", "DiagnosticsStatusNotification"
			}
			r.awaitCount(firmware, 1)
			r.wantStatus("TriggerMessage", object{"requestedMessage": unknown}, "NotImplemented")
			checkSchemas(t, version, r.station.Frames())
		})
	}
}

// A report tells the device model whole, without write-only values (B07).
func TestBaseReport(t *testing.T) {
	t.Parallel()
	for _, version := range versions[1:] {
		t.Run(version.String(), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, version, rigOptions{})
			r.ready()
			r.wantStatus("GetBaseReport", object{"requestId": 7, "reportBase": "FullInventory"}, "Accepted")
			r.awaitCount("NotifyReport", 1)
			all := strings.Join(texts(r.csms.Seen(identity, ocpp.FromStation)), "\n")
			for _, want := range []string{"BasicAuthPassword", "OrganizationName", "MessageTimeout", `"WriteOnly"`} {
				if !strings.Contains(all, want) {
					t.Errorf("the report lacks %s", want)
				}
			}
			if strings.Contains(all, string(password)) {
				t.Error("the report tells the password")
			}
			checkSchemas(t, version, r.station.Frames())
		})
	}
}

// A remote start charges, a remote stop ends it early (F01–F03).
func TestRemoteStartAndStop(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(version.String(), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, version, rigOptions{station: func(c *station.Config, _ *rig) { c.MeterInterval = 20 * time.Second }})
			r.ready()
			start, stop, began, ended := "RequestStartTransaction", "RequestStopTransaction", "TransactionEvent", `"Remote"`
			token := object{"idToken": object{"idToken": "TAG-1", "type": "Central"}, "remoteStartId": 1}
			if version == ocpp.V16 {
				start, stop, began = "RemoteStartTransaction", "RemoteStopTransaction", "StartTransaction"
				token = object{"idTag": "TAG-1"}
			}
			r.wantStatus(start, token, "Accepted")
			r.awaitCount(began, 1)
			r.wantStatus(start, token, "Rejected") // one EVSE, and it is taken
			var id any = 1
			if version != ocpp.V16 {
				id = r.transaction()
			}
			r.wantStatus(stop, object{"transactionId": 4711}, "Rejected")
			r.wantStatus(stop, object{"transactionId": id}, "Accepted")
			r.awaitText(ended)
			checkSchemas(t, version, r.station.Frames())
		})
	}
}

// CALLs wait for the station's one slot, but never for a dead connection.
func TestCallEndsWithConnection(t *testing.T) {
	t.Parallel()
	r := newRig(t, ocpp.V201, rigOptions{manual: true})
	if _, err := r.station.Call(r.ctx, "Heartbeat", object{}); err == nil {
		t.Error("a CALL without a connection succeeded")
	}
	if err := r.station.Connect(r.ctx); err != nil {
		t.Fatal(err)
	}
	if err := r.station.Connect(r.ctx); err != nil || r.station.State().Connections != 1 {
		t.Errorf("connecting twice: %v, %d connections", err, r.station.State().Connections)
	}
	r.station.Close()
	if _, err := r.station.Call(r.ctx, "Heartbeat", object{}); err == nil {
		t.Error("a CALL of a closed station succeeded")
	}
	if err := r.station.Connect(r.ctx); err == nil {
		t.Error("a closed station connected")
	}
}
