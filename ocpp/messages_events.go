package ocpp

import (
	"strings"
	"unicode"
)

// Actions a station tells of itself with.
const (
	ActionSecurityEvent = "SecurityEventNotification"
	ActionLogStatus     = "LogStatusNotification"

	ActionFirmwareStatus       = "FirmwareStatusNotification"
	ActionSignedFirmwareStatus = "SignedFirmwareStatusNotification" // 1.6
)

// SecurityEventRequest of all versions. The answer is an empty object. TechInfo
// is whatever the station wrote: hostile text, maybe with personal data.
type SecurityEventRequest struct {
	Type      string `json:"type"`               // at most 50 characters; names the lists below lack are legal
	Timestamp string `json:"timestamp"`          // RFC 3339
	TechInfo  string `json:"techInfo,omitempty"` // at most 255 characters
}

// Limits of a SecurityEventRequest in characters.
const (
	MaxEventType     = 50
	MaxEventTechInfo = 255
)

// LogStatusRequest of all versions. The answer is an empty object.
type LogStatusRequest struct {
	Status     string      `json:"status"`
	RequestID  *int        `json:"requestId,omitempty"`
	StatusInfo *StatusInfo `json:"statusInfo,omitempty"` // 2.1
}

// FirmwareStatusRequest of all versions, also SignedFirmwareStatusNotification
// of 1.6. The answer is an empty object.
type FirmwareStatusRequest struct {
	Status    string `json:"status"`
	RequestID *int   `json:"requestId,omitempty"`
}

// Security events Bollard acts on, in the spelling of 2.x.
const (
	EventInvalidStationCertificate = "InvalidChargingStationCertificate"
	EventDiscardedRenewed          = "DiscardedRenewedClientCertificate"
	EventFirmwareUpdated           = "FirmwareUpdated"
)

// SecurityEvent is an entry of the lists of security events: the white paper's
// section 8 for 1.6, appendix 1 of part 2 for 2.x.
type SecurityEvent struct {
	Name16     string // "" where 1.6 has none
	Name       string // in 2.x
	Critical16 bool
	Critical   bool // in 2.x
}

// In returns the event's name and criticality in one version. What only 2.x
// lists keeps name and criticality where a 1.6 station sends it.
func (e SecurityEvent) In(v Version) (name string, critical bool) {
	if v == V16 && e.Name16 != "" {
		return e.Name16, e.Critical16
	}
	return e.Name, e.Critical
}

// securityEvents is constant.
var securityEvents = [...]SecurityEvent{
	{EventFirmwareUpdated, EventFirmwareUpdated, true, true},
	{"FailedToAuthenticationAtCentralSystem", "FailedToAuthenticateAtCsms", false, false},
	{"CentralSystemFailedToAuthentication", "CsmsFailedToAuthenticate", false, false},
	{"SettingSystemTime", "SettingSystemTime", true, true},
	{"StartupOfTheDevice", "StartupOfTheDevice", true, true},
	{"ResetOrReboot", "ResetOrReboot", true, true},
	{"SecurityLogWasCleared", "SecurityLogWasCleared", true, true},
	{"ReconfigurationOfSecurityParameters", "ReconfigurationOfSecurityParameters", false, false},
	{"MemoryExhaustion", "MemoryExhaustion", true, true},
	{"InvalidMessages", "InvalidMessages", false, false},
	{"AttemptedReplayAttacks", "AttemptedReplayAttacks", false, false},
	{"TamperDetectionActivated", "TamperDetectionActivated", true, true},
	{"InvalidFirmwareSignature", "InvalidFirmwareSignature", false, true},
	{"InvalidFirmwareSigningCertificate", "InvalidFirmwareSigningCertificate", false, true},
	{"InvalidCentralSystemCertificate", "InvalidCsmsCertificate", false, true},
	{"InvalidChargePointCertificate", EventInvalidStationCertificate, false, true},
	{"InvalidTLSVersion", "InvalidTLSVersion", false, true},
	{"InvalidTLSCipherSuite", "InvalidTLSCipherSuite", false, true},
	{"", "MaintenanceLoginAccepted", false, true},
	{"", "MaintenanceLoginFailed", false, true},
	{"", EventDiscardedRenewed, false, true},
}

// FindSecurityEvent looks a name up in the lists of all versions, as stations
// write it: blanks within names are edition 1 of the white paper's, and case is
// not worth missing an event for.
func FindSecurityEvent(name string) (SecurityEvent, bool) {
	if len(name) > 2*MaxEventType {
		return SecurityEvent{}, false
	}
	name = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, name)
	for _, e := range securityEvents {
		if name != "" && (strings.EqualFold(name, e.Name16) || strings.EqualFold(name, e.Name)) {
			return e, true
		}
	}
	return SecurityEvent{}, false
}
