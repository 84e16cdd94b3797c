package ocpp_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"bollard/ocpp"
)

func ptr[T any](v T) *T { return &v }

// What Bollard writes fits the official schemas, which close every object, so
// a misspelt or needless member is found; and it reads back what it wrote.
func TestMessagesFitTheSchemas(t *testing.T) {
	t.Parallel()
	folder := filepath.Join("..", "..", "shared", "ocpp-schemas")
	if _, err := os.Stat(filepath.Dir(folder)); errors.Is(err, fs.ErrNotExist) {
		t.Skip("the official schemas are not beside this checkout")
	}
	info := &ocpp.StatusInfo{ReasonCode: ocpp.ReasonInvalidCSR, AdditionalInfo: "x"}
	plain := ocpp.GenericStatus{Status: ocpp.StatusAccepted}
	why := ocpp.GenericStatus{Status: ocpp.StatusRejected, StatusInfo: info}
	component, variable := ocpp.Component{Name: "SecurityCtrlr", EVSE: &ocpp.EVSE{ID: 1}}, ocpp.Variable{Name: "SecurityProfile", Instance: "x"}
	network := ocpp.SetNetworkProfileRequest{ConfigurationSlot: 1, ConnectionData: ocpp.NetworkProfile{
		OCPPVersion: "OCPP20", OCPPTransport: "JSON", OCPPCSMSURL: "wss://h/ocpp", MessageTimeout: 30, SecurityProfile: 3, OCPPInterface: "Wired0",
	}}
	network21 := network
	network21.ConnectionData.OCPPVersion, network21.ConnectionData.Identity, network21.ConnectionData.BasicAuthPassword = "OCPP21", "CS-1", "secret"
	both := map[string]any{
		"BootNotificationRequest":       ocpp.BootNotificationRequest{Reason: "PowerUp", ChargingStation: ocpp.ChargingStation{SerialNumber: "1", Model: "m", VendorName: "v", FirmwareVersion: "1"}},
		"BootNotificationResponse":      ocpp.BootNotificationResponse{Status: ocpp.StatusPending, CurrentTime: "2026-01-01T00:00:00Z", Interval: 1},
		"HeartbeatResponse":             ocpp.HeartbeatResponse{CurrentTime: "2026-01-01T00:00:00Z"},
		"SignCertificateRequest":        ocpp.SignCertificateRequest{CSR: "x", CertificateType: ocpp.ChargingStationCertificate},
		"SignCertificateResponse":       why,
		"CertificateSignedRequest":      ocpp.CertificateSignedRequest{CertificateChain: "x", CertificateType: ocpp.V2GCertificate},
		"CertificateSignedResponse":     plain,
		"DataTransferRequest":           ocpp.DataTransferRequest{VendorID: "v", MessageID: "m", Data: json.RawMessage(`{"a":1}`)},
		"DataTransferResponse":          ocpp.DataTransferResponse{Status: ocpp.StatusUnknownVendorID, StatusInfo: info},
		"TriggerMessageRequest":         ocpp.TriggerMessageRequest{RequestedMessage: ocpp.TriggerSignChargingStation, EVSE: &ocpp.EVSE{ID: 1, ConnectorID: 1}},
		"TriggerMessageResponse":        ocpp.GenericStatus{Status: ocpp.StatusNotImplemented},
		"ResetRequest":                  ocpp.ResetRequest{Type: ocpp.ResetOnIdle},
		"ResetResponse":                 ocpp.GenericStatus{Status: ocpp.StatusScheduled},
		"SetVariablesRequest":           ocpp.SetVariablesRequest{SetVariableData: []ocpp.SetVariable{{AttributeType: "Actual", AttributeValue: "3", Component: component, Variable: variable}}},
		"SetVariablesResponse":          ocpp.SetVariablesResponse{SetVariableResult: []ocpp.SetVariableResult{{AttributeStatus: ocpp.StatusRebootRequired, AttributeStatusInfo: info, Component: component, Variable: variable}}},
		"GetVariablesRequest":           ocpp.GetVariablesRequest{GetVariableData: []ocpp.GetVariable{{Component: component, Variable: variable}}},
		"GetVariablesResponse":          ocpp.GetVariablesResponse{GetVariableResult: []ocpp.GetVariableResult{{AttributeStatus: ocpp.StatusAccepted, AttributeValue: "1", Component: component, Variable: variable}}},
		"SetNetworkProfileRequest":      network,
		"SetNetworkProfileResponse":     ocpp.GenericStatus{Status: "Failed"},
		"AuthorizeRequest":              ocpp.AuthorizeRequest{IDToken: ocpp.IDToken{IDToken: "x", Type: "eMAID"}, Certificate: "x", HashData: []ocpp.OCSPRequestData{{HashAlgorithm: ocpp.HashSHA256, IssuerNameHash: "00", IssuerKeyHash: "00", SerialNumber: "1", ResponderURL: "x"}}},
		"AuthorizeResponse":             ocpp.AuthorizeResponse{IDTokenInfo: ocpp.IDTokenInfo{Status: "Accepted"}, CertificateStatus: "ContractCancelled"},
		"Get15118EVCertificateRequest":  ocpp.Get15118EVCertificateRequest{SchemaVersion: "urn:iso:15118:2:2013:MsgDef", Action: ocpp.EVCertificateUpdate, EXIRequest: "gA=="},
		"Get15118EVCertificateResponse": ocpp.Get15118EVCertificateResponse{Status: ocpp.StatusFailed, StatusInfo: info},
	}
	only21 := map[string]any{
		"Get15118EVCertificateRequest":  ocpp.Get15118EVCertificateRequest{SchemaVersion: "x", Action: ocpp.EVCertificateInstall, EXIRequest: "gA==", MaximumChains: ptr(2), Prioritized: []string{"x"}},
		"Get15118EVCertificateResponse": ocpp.Get15118EVCertificateResponse{Status: ocpp.StatusAccepted, EXIResponse: "gA==", Remaining: ptr(0)},
		"SignCertificateRequest":        ocpp.SignCertificateRequest{CSR: "x", CertificateType: ocpp.V2G20Certificate, RequestID: ptr(0)},
		"CertificateSignedRequest":      ocpp.CertificateSignedRequest{CertificateChain: "x", RequestID: ptr(0)},
		"SetNetworkProfileRequest":      network21,
	}
	for _, set := range []struct {
		folder   string
		messages map[string]any
	}{
		{"2.0.1", both}, {"2.1", both}, {"2.1", only21},
		{"1.6", map[string]any{
			"BootNotification":            ocpp.BootNotificationRequest16{ChargePointVendor: "v", ChargePointModel: "m", ChargePointSerialNumber: "1", ChargeBoxSerialNumber: "2", FirmwareVersion: "1"},
			"BootNotificationResponse":    both["BootNotificationResponse"],
			"HeartbeatResponse":           both["HeartbeatResponse"],
			"DataTransfer":                ocpp.DataTransferRequest{VendorID: "v", Data: json.RawMessage(`"x"`)},
			"DataTransferResponse":        ocpp.DataTransferResponse{Status: ocpp.StatusUnknownMessageID, Data: json.RawMessage(`"x"`)},
			"TriggerMessage":              ocpp.TriggerMessageRequest{RequestedMessage: ocpp.TriggerBootNotification, ConnectorID: 1},
			"TriggerMessageResponse":      plain,
			"Reset":                       ocpp.ResetRequest{Type: ocpp.ResetHard},
			"ResetResponse":               plain,
			"ChangeConfiguration":         ocpp.ChangeConfigurationRequest16{Key: "k", Value: "v"},
			"ChangeConfigurationResponse": ocpp.GenericStatus{Status: ocpp.StatusNotSupported},
			"GetConfiguration":            ocpp.GetConfigurationRequest16{Key: []string{"k"}},
			"GetConfigurationResponse":    ocpp.GetConfigurationResponse16{ConfigurationKey: []ocpp.ConfigurationKey16{{Key: "k", Value: ptr("")}, {Key: "l", ReadOnly: true}}, UnknownKey: []string{"x"}},
		}},
		{"1.6-security", map[string]any{
			"SignCertificate":                ocpp.SignCertificateRequest{CSR: "x"},
			"SignCertificateResponse":        plain,
			"CertificateSigned":              ocpp.CertificateSignedRequest{CertificateChain: "x"},
			"CertificateSignedResponse":      plain,
			"ExtendedTriggerMessage":         ocpp.TriggerMessageRequest{RequestedMessage: ocpp.TriggerSignChargePoint},
			"ExtendedTriggerMessageResponse": ocpp.GenericStatus{Status: ocpp.StatusNotImplemented},
		}},
	} {
		for name, message := range set.messages {
			schema, err := jsonschema.NewCompiler().Compile(filepath.Join(folder, set.folder, name+".json"))
			if err != nil {
				t.Fatal(err)
			}
			encoded, err := json.Marshal(message)
			if err != nil {
				t.Fatal(err)
			}
			value, err := jsonschema.UnmarshalJSON(bytes.NewReader(encoded))
			if err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(value); err != nil {
				t.Errorf("%s %s: %v", set.folder, name, err)
			}
			back := reflect.New(reflect.TypeOf(message))
			if err := ocpp.DecodeStrict(encoded, back.Interface()); err != nil || !reflect.DeepEqual(back.Elem().Interface(), message) {
				t.Errorf("%s %s came back as %+v, %v", set.folder, name, back.Elem(), err)
			}
		}
	}
}
