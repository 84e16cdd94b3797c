package ocpp

// Actions that give stations firmware.
const (
	ActionUpdateFirmware       = "UpdateFirmware"
	ActionSignedUpdateFirmware = "SignedUpdateFirmware" // 1.6
	ActionPublishFirmware      = "PublishFirmware"      // 2.x, to a local controller
	// TriggerFirmwareStatus is what a trigger asks for; in 1.6 that of
	// ExtendedTriggerMessage, which the signed notification answers.
	TriggerFirmwareStatus = "FirmwareStatusNotification"
)

// Limits of a Firmware in characters. Location has 2000 in 2.1.
const (
	MaxFirmwareLocation    = 512
	MaxFirmwareCertificate = 5500
	MaxFirmwareSignature   = 800
)

// UpdateFirmwareRequest of 2.x, and SignedUpdateFirmware of 1.6.
type UpdateFirmwareRequest struct {
	RequestID     *int      `json:"requestId"`
	Retries       *int      `json:"retries,omitempty"`       // after the first; none: the station decides
	RetryInterval *int      `json:"retryInterval,omitempty"` // seconds
	Firmware      *Firmware `json:"firmware"`
}

// Firmware says where an image is, and who vouches for it. Certificate and
// signature are optional in 2.x (L02).
type Firmware struct {
	Location           string `json:"location"`
	RetrieveDateTime   string `json:"retrieveDateTime"`
	InstallDateTime    string `json:"installDateTime,omitempty"`
	SigningCertificate string `json:"signingCertificate,omitempty"` // one in PEM
	Signature          string `json:"signature,omitempty"`          // Base64, of the whole file
}

// UpdateFirmwareRequest16 is the unsigned one of 1.6. Its answer is empty.
type UpdateFirmwareRequest16 struct {
	Location      string `json:"location"`
	RetrieveDate  string `json:"retrieveDate"`
	Retries       *int   `json:"retries,omitempty"`
	RetryInterval *int   `json:"retryInterval,omitempty"`
}
