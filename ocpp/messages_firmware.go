package ocpp

// Actions that give stations firmware.
const (
	ActionUpdateFirmware       = "UpdateFirmware"
	ActionSignedUpdateFirmware = "SignedUpdateFirmware" // 1.6
	ActionPublishFirmware      = "PublishFirmware"      // 2.x, to a local controller
	ActionUnpublishFirmware    = "UnpublishFirmware"
	ActionPublishStatus        = "PublishFirmwareStatusNotification"
	// TriggerFirmwareStatus is what a trigger asks for; in 1.6 that of
	// ExtendedTriggerMessage, which the signed notification answers.
	TriggerFirmwareStatus = "FirmwareStatusNotification"
)

// Limits of a Firmware in characters. Location has 2000 in 2.1.
const (
	MaxFirmwareLocation    = 512
	MaxFirmwareCertificate = 5500
	MaxFirmwareSignature   = 800
	FirmwareChecksum       = 32 // MD5 in hexadecimal digits, exactly
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

// PublishFirmwareRequest has a local controller offer an image to other stations (2.x
// L03).
type PublishFirmwareRequest struct {
	RequestID     *int   `json:"requestId"`
	Location      string `json:"location"`
	Checksum      string `json:"checksum"` // MD5 in hexadecimal digits: the image's name, not its protection
	Retries       *int   `json:"retries,omitempty"`
	RetryInterval *int   `json:"retryInterval,omitempty"`
}

// UnpublishFirmwareRequest ends that (2.x L04).
type UnpublishFirmwareRequest struct {
	Checksum string `json:"checksum"`
}

// PublishFirmwareStatusRequest tells how far it is. The answer is an empty object.
type PublishFirmwareStatusRequest struct {
	Status    string   `json:"status"`
	Location  []string `json:"location,omitempty"` // where it is offered; with Published
	RequestID *int     `json:"requestId,omitempty"`
}
