package ocpp

import (
	"crypto"
	_ "crypto/sha256" // SHA256
	_ "crypto/sha512" // SHA384, SHA512
	"strings"
)

// Actions on the roots a station trusts (M03, M04, M05).
const (
	ActionInstallCertificate         = "InstallCertificate"
	ActionDeleteCertificate          = "DeleteCertificate"
	ActionGetInstalledCertificateIDs = "GetInstalledCertificateIds"
)

// Statuses of their answers beside Accepted and Rejected.
const (
	StatusFailed   = "Failed"
	StatusNotFound = "NotFound"
)

// Uses of a root in InstallCertificate. 1.6 has CentralSystemRoot and
// ManufacturerRoot only; OEMRoot came with 2.1.
const (
	CentralSystemRoot = "CentralSystemRootCertificate" // 1.6
	CSMSRoot          = "CSMSRootCertificate"          // 2.x
	ManufacturerRoot  = "ManufacturerRootCertificate"
	V2GRoot           = "V2GRootCertificate"
	MORoot            = "MORootCertificate"
	OEMRoot           = "OEMRootCertificate" // 2.1
)

// Hash algorithms of CertificateHashData.
const (
	HashSHA256 = "SHA256"
	HashSHA384 = "SHA384"
	HashSHA512 = "SHA512"
)

// HashNamed is the algorithm that a hashAlgorithm names, in upper or lower case; ok is
// false for all but the three.
func HashNamed(name string) (h crypto.Hash, ok bool) {
	switch strings.ToUpper(name) {
	case HashSHA256:
		return crypto.SHA256, true
	case HashSHA384:
		return crypto.SHA384, true
	case HashSHA512:
		return crypto.SHA512, true
	}
	return 0, false
}

// CertificateHashData names a certificate on a station. The hashes are those of
// the certificate's issuer; all three are hex and compared without case.
type CertificateHashData struct {
	HashAlgorithm  string `json:"hashAlgorithm"`
	IssuerNameHash string `json:"issuerNameHash"` // over the DER of the issuer name
	IssuerKeyHash  string `json:"issuerKeyHash"`  // over the issuer's key bits, as in RFC 6960 CertID
	SerialNumber   string `json:"serialNumber"`   // without leading zeros
}

// InstallCertificateRequest is answered with a GenericStatus: Accepted,
// Rejected or Failed.
type InstallCertificateRequest struct {
	CertificateType string `json:"certificateType"`
	Certificate     string `json:"certificate"` // one PEM certificate; at most 5500 characters, 10000 in 2.1
}

// DeleteCertificateRequest is answered with a GenericStatus: Accepted, Failed
// or NotFound.
type DeleteCertificateRequest struct {
	CertificateHashData CertificateHashData `json:"certificateHashData"`
}

// GetInstalledCertificateIDsRequest16 asks for one use.
type GetInstalledCertificateIDsRequest16 struct {
	CertificateType string `json:"certificateType"`
}

// GetInstalledCertificateIDsResponse16 has no list when nothing was found.
type GetInstalledCertificateIDsResponse16 struct {
	Status              string                `json:"status"`
	CertificateHashData []CertificateHashData `json:"certificateHashData,omitempty"`
}

// GetInstalledCertificateIDsRequest asks for some uses, or all (2.x).
type GetInstalledCertificateIDsRequest struct {
	CertificateType []string `json:"certificateType,omitempty"`
}

// GetInstalledCertificateIDsResponse has no list when nothing was found.
type GetInstalledCertificateIDsResponse struct {
	Status                   string                     `json:"status"`
	CertificateHashDataChain []CertificateHashDataChain `json:"certificateHashDataChain,omitempty"`
	StatusInfo               *StatusInfo                `json:"statusInfo,omitempty"`
}

// CertificateHashDataChain names a certificate and those below it.
type CertificateHashDataChain struct {
	CertificateType          string                `json:"certificateType"`
	CertificateHashData      CertificateHashData   `json:"certificateHashData"`
	ChildCertificateHashData []CertificateHashData `json:"childCertificateHashData,omitempty"`
}
