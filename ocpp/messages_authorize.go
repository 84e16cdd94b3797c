package ocpp

// ActionAuthorize asks whether a token may charge.
const ActionAuthorize = "Authorize"

// AuthorizeRequest of 2.x, and of 1.6 with plug & charge inside DataTransfer: what
// a contract needs of it (C07).
type AuthorizeRequest struct {
	IDToken     IDToken           `json:"idToken"`
	Certificate string            `json:"certificate,omitempty"` // PEM chain, leaf first
	HashData    []OCSPRequestData `json:"iso15118CertificateHashData,omitempty"`
}

// IDToken names who wants to charge.
type IDToken struct {
	IDToken string `json:"idToken"`
	Type    string `json:"type"`
}

// AuthorizeResponse answers it.
type AuthorizeResponse struct {
	IDTokenInfo       IDTokenInfo `json:"idTokenInfo"`
	CertificateStatus string      `json:"certificateStatus,omitempty"`
}

// IDTokenInfo says whether the token may charge.
type IDTokenInfo struct {
	Status string `json:"status"`
}
