package ocpp

// Actions Bollard acts on or sends. An action is case-sensitive.
const (
	ActionBootNotification    = "BootNotification"
	ActionSignCertificate     = "SignCertificate"
	ActionCertificateSigned   = "CertificateSigned"
	ActionDataTransfer        = "DataTransfer"
	ActionTriggerMessage      = "TriggerMessage"
	ActionExtendedTrigger     = "ExtendedTriggerMessage" // 1.6
	ActionChangeConfiguration = "ChangeConfiguration"    // 1.6
	ActionGetConfiguration    = "GetConfiguration"       // 1.6
	ActionSetVariables        = "SetVariables"           // 2.x
	ActionGetVariables        = "GetVariables"           // 2.x
	ActionSetNetworkProfile   = "SetNetworkProfile"      // 2.x
	ActionReset               = "Reset"
)

// Statuses of answers, as far as Bollard branches on them.
const (
	StatusAccepted         = "Accepted"
	StatusRejected         = "Rejected"
	StatusPending          = "Pending"          // BootNotification
	StatusScheduled        = "Scheduled"        // Reset, 2.x
	StatusRebootRequired   = "RebootRequired"   // ChangeConfiguration, SetVariables
	StatusNotSupported     = "NotSupported"     // ChangeConfiguration
	StatusNotImplemented   = "NotImplemented"   // TriggerMessage
	StatusUnknownMessageID = "UnknownMessageId" // DataTransfer
	StatusUnknownVendorID  = "UnknownVendorId"  // DataTransfer
)

// Reason codes of StatusInfo (OCPP 2.1 part 2 appendix 5).
const (
	ReasonInvalidCSR         = "InvalidCSR"
	ReasonInvalidCertificate = "InvalidCertificate"
	ReasonTooLargeElement    = "TooLargeElement"
	ReasonUnsupportedRequest = "UnsupportedRequest"
	ReasonInternalError      = "InternalError"
	// Of SetNetworkProfile (errata 2025-09, B09.FR.31, .32).
	ReasonNoSecurityDowngrade = "NoSecurityDowngrade"
	ReasonInvalidNetworkConf  = "InvalidNetworkConf"
)

// Certificate types of SignCertificate and CertificateSigned. No type means
// one certificate for both uses (OCPP 2.0.1 part 2 A02).
const (
	ChargingStationCertificate = "ChargingStationCertificate"
	V2GCertificate             = "V2GCertificate"
	V2G20Certificate           = "V2G20Certificate" // 2.1
)

// Messages a trigger may ask for.
const (
	TriggerSignChargePoint     = "SignChargePointCertificate"     // 1.6
	TriggerSignChargingStation = "SignChargingStationCertificate" // 2.x
	TriggerSignCombined        = "SignCombinedCertificate"        // 2.x
	TriggerSignV2G             = "SignV2GCertificate"             // 2.x
	TriggerSignV2G20           = "SignV2G20Certificate"           // 2.1
	TriggerBootNotification    = "BootNotification"
)

// Kinds of Reset: Hard and Soft in 1.6, OnIdle in 2.x.
const (
	ResetHard   = "Hard"
	ResetSoft   = "Soft"
	ResetOnIdle = "OnIdle"
)
