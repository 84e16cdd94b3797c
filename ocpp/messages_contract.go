package ocpp

// ActionGet15118EVCertificate asks for a contract certificate for a car (2.x, and
// 1.6 inside DataTransfer).
const ActionGet15118EVCertificate = "Get15118EVCertificate"

// Actions of Get15118EVCertificate.
const (
	EVCertificateInstall = "Install"
	EVCertificateUpdate  = "Update"
)

// Longest exiResponse, in characters of base64.
const (
	MaxEXIResponse   = 5600  // 2.0.1
	MaxEXIResponse21 = 17000 // 2.1
)

// Get15118EVCertificateRequest hands on a car's request.
type Get15118EVCertificateRequest struct {
	SchemaVersion string `json:"iso15118SchemaVersion"`
	Action        string `json:"action"`
	EXIRequest    string `json:"exiRequest"` // base64
	// Of 2.1, with ISO 15118-20 alone.
	MaximumChains *int     `json:"maximumContractCertificateChains,omitempty"`
	Prioritized   []string `json:"prioritizedEMAIDs,omitempty"` // 1 to 8
}

// Get15118EVCertificateResponse hands the answer back. EXIResponse is there on
// failure too, empty if there is no answer.
type Get15118EVCertificateResponse struct {
	Status      string      `json:"status"`
	StatusInfo  *StatusInfo `json:"statusInfo,omitempty"`
	EXIResponse string      `json:"exiResponse"` // base64
	Remaining   *int        `json:"remainingContracts,omitempty"`
}
