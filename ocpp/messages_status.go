package ocpp

// Actions that ask for the status of certificates.
const (
	ActionGetCertificateStatus      = "GetCertificateStatus"      // 2.x
	ActionGetCertificateChainStatus = "GetCertificateChainStatus" // 2.1
)

// OCSPRequestData names a certificate by hashes of its issuer and says who to
// ask about it. All of it is the station's word.
type OCSPRequestData struct {
	HashAlgorithm  string `json:"hashAlgorithm"`
	IssuerNameHash string `json:"issuerNameHash"` // hex, at most 128 characters
	IssuerKeyHash  string `json:"issuerKeyHash"`  // hex, at most 128 characters
	SerialNumber   string `json:"serialNumber"`   // hex, at most 40 characters
	ResponderURL   string `json:"responderURL"`   // at most 512 characters, 2000 in 2.1
}

// GetCertificateStatusRequest asks for the OCSP response on one certificate (2.x).
type GetCertificateStatusRequest struct {
	OCSPRequestData OCSPRequestData `json:"ocspRequestData"`
}

// GetCertificateStatusResponse answers it. Accepted says that an OCSP response
// was obtained, not that the certificate is good (M06.FR.02).
type GetCertificateStatusResponse struct {
	Status     string      `json:"status"`
	OCSPResult string      `json:"ocspResult,omitempty"` // base64 of the DER; at most 5500 characters, 18000 in 2.1
	StatusInfo *StatusInfo `json:"statusInfo,omitempty"`
}

// GetCertificateChainStatusRequest asks for the status of a vehicle's chain (2.1).
type GetCertificateChainStatusRequest struct {
	Requests []CertificateStatusRequest `json:"certificateStatusRequests"` // 1 to 4
}

// CertificateStatusRequest names one certificate and where to learn its status.
type CertificateStatusRequest struct {
	CertificateHashData CertificateHashData `json:"certificateHashData"`
	Source              string              `json:"source"`
	URLs                []string            `json:"urls"` // 1 to 5
}

// GetCertificateChainStatusResponse has one status for each request, in order.
type GetCertificateChainStatusResponse struct {
	Statuses []CertificateStatus `json:"certificateStatus"`
}

// CertificateStatus is the status of one certificate.
type CertificateStatus struct {
	CertificateHashData CertificateHashData `json:"certificateHashData"`
	Source              string              `json:"source"`
	Status              string              `json:"status"`
	NextUpdate          string              `json:"nextUpdate"` // RFC 3339; required with every status
}

// Sources and statuses of GetCertificateChainStatus.
const (
	SourceOCSP = "OCSP"
	SourceCRL  = "CRL"

	CertificateGood    = "Good"
	CertificateRevoked = "Revoked"
	CertificateUnknown = "Unknown"
	CertificateFailed  = "Failed"
)

// Limits of the certificate status messages.
const (
	MaxOCSPResult201  = 5500  // characters of ocspResult in 2.0.1
	MaxOCSPResult21   = 18000 // in 2.1
	MaxStatusRequests = 4
	MaxStatusURLs     = 5
	MaxIssuerHash     = 128 // characters of a hash
	MaxHashSerial     = 40  // characters of a serial number
	MaxStatusURL      = 2000
)
