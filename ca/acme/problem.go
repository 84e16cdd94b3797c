package acme

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// kind is the last part of urn:ietf:params:acme:error:… (RFC 8555 §6.7).
type kind string

const (
	accountDoesNotExist     kind = "accountDoesNotExist"
	alreadyRevoked          kind = "alreadyRevoked"
	badAttestationStatement kind = "badAttestationStatement" // draft-ietf-acme-device-attest §5
	badCSR                  kind = "badCSR"
	badNonce                kind = "badNonce"
	badPublicKey            kind = "badPublicKey"
	badRevocationReason     kind = "badRevocationReason"
	badSignatureAlgorithm   kind = "badSignatureAlgorithm"
	connection              kind = "connection"
	dnsFault                kind = "dns"
	externalAccountRequired kind = "externalAccountRequired"
	incorrectResponse       kind = "incorrectResponse"
	malformed               kind = "malformed"
	orderNotReady           kind = "orderNotReady"
	rateLimited             kind = "rateLimited"
	rejectedIdentifier      kind = "rejectedIdentifier"
	serverInternal          kind = "serverInternal"
	unauthorized            kind = "unauthorized"
	unsupportedIdentifier   kind = "unsupportedIdentifier"
)

// statuses are the HTTP statuses of kinds; 400 for those that aren't here.
var statuses = map[kind]int{
	unauthorized:            http.StatusForbidden,
	externalAccountRequired: http.StatusForbidden,
	orderNotReady:           http.StatusForbidden,
	badPublicKey:            http.StatusBadRequest,
	rateLimited:             http.StatusTooManyRequests,
	serverInternal:          http.StatusInternalServerError,
}

// Problem is a refusal as the client is told (RFC 7807, RFC 8555 §6.7). It holds
// nothing the client mustn't see; Reason, if set, is for the operator.
type Problem struct {
	Type        kind          `json:"type"`
	Detail      string        `json:"detail"`
	Identifier  *Identifier   `json:"identifier,omitempty"`
	Algorithms  []string      `json:"algorithms,omitempty"` // of badSignatureAlgorithm
	Subproblems []Problem     `json:"subproblems,omitempty"`
	Status      int           `json:"status,omitempty"` // 0: the kind's own
	Reason      string        `json:"-"`
	RetryAfter  time.Duration `json:"-"`
}

// Error is for the operator.
func (p *Problem) Error() string {
	if p.Reason != "" {
		return p.Reason
	}
	return p.Detail
}

// kindPrefix makes a kind a URN.
const kindPrefix = "urn:ietf:params:acme:error:"

// MarshalText writes the URN.
func (k kind) MarshalText() ([]byte, error) { return []byte(kindPrefix + string(k)), nil }

// UnmarshalText reads what MarshalText wrote.
func (k *kind) UnmarshalText(text []byte) error {
	if len(text) <= len(kindPrefix) || string(text[:len(kindPrefix)]) != kindPrefix {
		return errors.New("it is no type of an ACME problem")
	}
	*k = kind(text[len(kindPrefix):])
	return nil
}

func problem(k kind, format string, args ...any) *Problem {
	return &Problem{Type: k, Detail: fmt.Sprintf(format, args...)}
}

// Unauthorized is a desk's refusal: the detail goes to the client, the reason to the
// operator.
func Unauthorized(detail, reason string) *Problem {
	return &Problem{Type: unauthorized, Detail: detail, Reason: reason}
}

// BadStatement refuses an attestation statement.
func BadStatement(detail, reason string) *Problem {
	return &Problem{Type: badAttestationStatement, Detail: detail, Reason: reason}
}

// BadRequest refuses a certificate request.
func BadRequest(detail, reason string) *Problem {
	return &Problem{Type: badCSR, Detail: detail, Reason: reason}
}

// Busy refuses for now.
func Busy(reason string, retry time.Duration) *Problem {
	return &Problem{Type: rateLimited, Detail: "too many requests", Reason: reason, RetryAfter: retry}
}

func (p *Problem) status() int {
	switch {
	case p.Status != 0:
		return p.Status
	case statuses[p.Type] != 0:
		return statuses[p.Type]
	}
	return http.StatusBadRequest
}

// fail answers an error. What isn't a Problem stays here; the client is told to
// come back.
func fail(w http.ResponseWriter, err error) {
	var p *Problem
	if !errors.As(err, &p) {
		p = &Problem{Type: serverInternal, Detail: "this can't be done now: try again later", Status: http.StatusServiceUnavailable, RetryAfter: time.Minute}
	}
	shown := *p
	shown.Status = p.status()
	body, err := json.Marshal(&shown)
	if err != nil {
		panic("internal error: couldn't encode a problem: " + err.Error())
	}
	if p.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(max(1, int(p.RetryAfter.Seconds()))))
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(shown.Status)
	_, _ = w.Write(body) // nobody is left to be told
}
