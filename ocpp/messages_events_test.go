package ocpp_test

import (
	"testing"

	"bollard/ocpp"
)

func TestSecurityEventCriticality(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		sent       string
		name16     string
		critical16 bool
		name       string
		critical   bool
	}{
		{"FirmwareUpdated", "FirmwareUpdated", true, "FirmwareUpdated", true},
		{"InvalidMessages", "InvalidMessages", false, "InvalidMessages", false},
		{"InvalidFirmwareSignature", "InvalidFirmwareSignature", false, "InvalidFirmwareSignature", true},
		{"InvalidChargePointCertificate", "InvalidChargePointCertificate", false, "InvalidChargingStationCertificate", true},
		{"InvalidCsmsCertificate", "InvalidCentralSystemCertificate", false, "InvalidCsmsCertificate", true},
		{"Central SystemFailedToAuthentication", "CentralSystemFailedToAuthentication", false, "CsmsFailedToAuthenticate", false},
		{"FailedToAuthentication AtCentral\u00a0System", "FailedToAuthenticationAtCentralSystem", false, "FailedToAuthenticateAtCsms", false},
		{"tamperdetectionactivated", "TamperDetectionActivated", true, "TamperDetectionActivated", true},
		{"MaintenanceLoginFailed", "MaintenanceLoginFailed", true, "MaintenanceLoginFailed", true},
		{"DiscardedRenewedClientCertificate", "DiscardedRenewedClientCertificate", true, "DiscardedRenewedClientCertificate", true},
	} {
		e, ok := ocpp.FindSecurityEvent(test.sent)
		if !ok {
			t.Errorf("%q is not known", test.sent)
			continue
		}
		if name, critical := e.In(ocpp.V16); name != test.name16 || critical != test.critical16 {
			t.Errorf("%q in 1.6: %q, %t", test.sent, name, critical)
		}
		for _, v := range []ocpp.Version{ocpp.V201, ocpp.V21} {
			if name, critical := e.In(v); name != test.name || critical != test.critical {
				t.Errorf("%q in %v: %q, %t", test.sent, v, name, critical)
			}
		}
	}
	for _, name := range []string{"", " ", "VendorsOwn", "FirmwareUpdated2", "\x1b[31mFirmwareUpdated"} {
		if e, ok := ocpp.FindSecurityEvent(name); ok {
			t.Errorf("%q became %+v", name, e)
		}
	}
}
