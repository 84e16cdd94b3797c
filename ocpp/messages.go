package ocpp

import "encoding/json"

// The messages below have the fields Bollard reads or writes, in the schemas'
// spelling; encoding leaves out what is empty (OCPP 2.1 part 4 §4.1.5). Types
// named …16 exist in OCPP 1.6 only, the others in 2.0.1 and 2.1, or in all
// three where their comment says so.

// StatusInfo explains a status (2.x).
type StatusInfo struct {
	ReasonCode     string `json:"reasonCode"`               // at most 20 characters
	AdditionalInfo string `json:"additionalInfo,omitempty"` // at most 512 characters in 2.0.1, 1024 in 2.1
}

// GenericStatus answers SignCertificate, CertificateSigned, the triggers,
// Reset, ChangeConfiguration and SetNetworkProfile, in all versions. 1.6 knows
// no StatusInfo.
type GenericStatus struct {
	Status     string      `json:"status"`
	StatusInfo *StatusInfo `json:"statusInfo,omitempty"`
}

// BootNotificationRequest of 2.x.
type BootNotificationRequest struct {
	Reason          string          `json:"reason"`
	ChargingStation ChargingStation `json:"chargingStation"`
}

// ChargingStation describes the station in a BootNotification. SerialNumber
// must equal the CN of the certificate in profile 3 (B01.FR.11).
type ChargingStation struct {
	SerialNumber    string `json:"serialNumber,omitempty"`
	Model           string `json:"model"`
	VendorName      string `json:"vendorName"`
	FirmwareVersion string `json:"firmwareVersion,omitempty"`
}

// BootNotificationRequest16 is that of 1.6, which has two serial numbers.
type BootNotificationRequest16 struct {
	ChargePointVendor       string `json:"chargePointVendor"`
	ChargePointModel        string `json:"chargePointModel"`
	ChargePointSerialNumber string `json:"chargePointSerialNumber,omitempty"`
	ChargeBoxSerialNumber   string `json:"chargeBoxSerialNumber,omitempty"` // deprecated in 1.6
	FirmwareVersion         string `json:"firmwareVersion,omitempty"`
}

// BootNotificationResponse of all versions.
type BootNotificationResponse struct {
	Status      string `json:"status"`
	CurrentTime string `json:"currentTime"` // RFC 3339
	Interval    int    `json:"interval"`    // seconds
}

// HeartbeatResponse of all versions.
type HeartbeatResponse struct {
	CurrentTime string `json:"currentTime"` // RFC 3339
}

// SignCertificateRequest of all versions; 1.6 has only CSR. The answer is a
// GenericStatus.
type SignCertificateRequest struct {
	CSR             string `json:"csr"` // PEM; hex DER from stations of the white paper's edition 1
	CertificateType string `json:"certificateType,omitempty"`
	// TypeOfCertificate is CertificateType as edition 1 of the 1.6 white paper
	// spelt it.
	TypeOfCertificate string `json:"typeOfCertificate,omitempty"`
	RequestID         *int   `json:"requestId,omitempty"` // 2.1
	// HashRoot is the root the certificate is to lead to (2.1, A02.FR.27).
	HashRoot *CertificateHashData `json:"hashRootCertificate,omitempty"`
}

// CertificateSignedRequest of all versions; 1.6 has only CertificateChain. The
// answer is a GenericStatus.
type CertificateSignedRequest struct {
	CertificateChain string `json:"certificateChain"` // PEM, leaf first, without the root; at most 10000 characters
	CertificateType  string `json:"certificateType,omitempty"`
	RequestID        *int   `json:"requestId,omitempty"` // 2.1, copied from SignCertificate
}

// CertificateSignedEdition1 is the request for stations built to edition 1 of
// the 1.6 white paper.
type CertificateSignedEdition1 struct {
	Cert              []string `json:"cert"` // DER in hexadecimal, leaf first
	TypeOfCertificate string   `json:"typeOfCertificate,omitempty"`
}

// DataTransferRequest of all versions. Data is a string in 1.6, any JSON in 2.x.
type DataTransferRequest struct {
	VendorID  string          `json:"vendorId"`
	MessageID string          `json:"messageId,omitempty"`
	Data      json.RawMessage `json:"data,omitempty"`
}

// DataTransferResponse of all versions.
type DataTransferResponse struct {
	Status     string          `json:"status"`
	Data       json.RawMessage `json:"data,omitempty"`
	StatusInfo *StatusInfo     `json:"statusInfo,omitempty"` // 2.x
}

// TriggerMessageRequest of all versions, also ExtendedTriggerMessage of the 1.6
// white paper. The answer is a GenericStatus.
type TriggerMessageRequest struct {
	RequestedMessage string `json:"requestedMessage"`
	ConnectorID      int    `json:"connectorId,omitempty"` // 1.6
	EVSE             *EVSE  `json:"evse,omitempty"`        // 2.x
}

// EVSE names an EVSE and, if not zero, its connector.
type EVSE struct {
	ID          int `json:"id"`
	ConnectorID int `json:"connectorId,omitempty"`
}

// ResetRequest of all versions. The answer is a GenericStatus.
type ResetRequest struct {
	Type string `json:"type"`
}

// ChangeConfigurationRequest16 is answered with a GenericStatus. Value may be a
// secret (key AuthorizationKey): never log it.
type ChangeConfigurationRequest16 struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// GetConfigurationRequest16 asks for some keys, or all.
type GetConfigurationRequest16 struct {
	Key []string `json:"key,omitempty"`
}

// GetConfigurationResponse16 answers it.
type GetConfigurationResponse16 struct {
	ConfigurationKey []ConfigurationKey16 `json:"configurationKey,omitempty"`
	UnknownKey       []string             `json:"unknownKey,omitempty"`
}

// ConfigurationKey16 is one key of a station. A key without value differs from
// one with an empty value.
type ConfigurationKey16 struct {
	Key      string  `json:"key"`
	ReadOnly bool    `json:"readonly"`
	Value    *string `json:"value,omitempty"`
}

// Component and Variable name a place in the device model (2.x). Names are
// compared without case (OCPP 2.0.1 part 2, identifierString).
type Component struct {
	Name     string `json:"name"`
	Instance string `json:"instance,omitempty"`
	EVSE     *EVSE  `json:"evse,omitempty"`
}

// Variable of a Component.
type Variable struct {
	Name     string `json:"name"`
	Instance string `json:"instance,omitempty"`
}

// SetVariablesRequest sets one or more variables.
type SetVariablesRequest struct {
	SetVariableData []SetVariable `json:"setVariableData"`
}

// SetVariable is one of them. AttributeValue may be a secret
// (BasicAuthPassword): never log it.
type SetVariable struct {
	AttributeType  string    `json:"attributeType,omitempty"` // Actual if empty
	AttributeValue string    `json:"attributeValue"`
	Component      Component `json:"component"`
	Variable       Variable  `json:"variable"`
}

// SetVariablesResponse has one result for each variable, in order.
type SetVariablesResponse struct {
	SetVariableResult []SetVariableResult `json:"setVariableResult"`
}

// SetVariableResult says what became of one variable.
type SetVariableResult struct {
	AttributeType       string      `json:"attributeType,omitempty"`
	AttributeStatus     string      `json:"attributeStatus"`
	AttributeStatusInfo *StatusInfo `json:"attributeStatusInfo,omitempty"`
	Component           Component   `json:"component"`
	Variable            Variable    `json:"variable"`
}

// GetVariablesRequest reads one or more variables.
type GetVariablesRequest struct {
	GetVariableData []GetVariable `json:"getVariableData"`
}

// GetVariable is one of them.
type GetVariable struct {
	AttributeType string    `json:"attributeType,omitempty"` // Actual if empty
	Component     Component `json:"component"`
	Variable      Variable  `json:"variable"`
}

// GetVariablesResponse has one result for each variable, in order.
type GetVariablesResponse struct {
	GetVariableResult []GetVariableResult `json:"getVariableResult"`
}

// GetVariableResult is the value of one variable.
type GetVariableResult struct {
	AttributeType       string      `json:"attributeType,omitempty"`
	AttributeStatus     string      `json:"attributeStatus"`
	AttributeValue      string      `json:"attributeValue,omitempty"`
	AttributeStatusInfo *StatusInfo `json:"attributeStatusInfo,omitempty"`
	Component           Component   `json:"component"`
	Variable            Variable    `json:"variable"`
}

// SetNetworkProfileRequest fills a slot of the station's connection profiles.
// The answer is a GenericStatus.
type SetNetworkProfileRequest struct {
	ConfigurationSlot int            `json:"configurationSlot"`
	ConnectionData    NetworkProfile `json:"connectionData"`
}

// NetworkProfile is one way to a CSMS. APN and VPN stay as they came.
type NetworkProfile struct {
	OCPPVersion       string          `json:"ocppVersion,omitempty"` // OCPP20 for 2.0.1; OCPP21
	OCPPTransport     string          `json:"ocppTransport"`         // JSON
	OCPPCSMSURL       string          `json:"ocppCsmsUrl"`           // without the identity
	MessageTimeout    int             `json:"messageTimeout"`        // seconds
	SecurityProfile   int             `json:"securityProfile"`
	OCPPInterface     string          `json:"ocppInterface"`               // such as Wired0
	Identity          string          `json:"identity,omitempty"`          // 2.1
	BasicAuthPassword string          `json:"basicAuthPassword,omitempty"` // 2.1; never log it
	APN               json.RawMessage `json:"apn,omitempty"`
	VPN               json.RawMessage `json:"vpn,omitempty"`
}
