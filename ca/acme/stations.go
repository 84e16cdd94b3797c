package acme

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"bollard/ca"
	"bollard/tpm/attest"
)

// Registrar knows the stations and their TPMs. *fleet.Registrar is one. ca.ErrNotAttested
// is in the error of a statement that shows nothing.
type Registrar interface {
	// Attest says whether a statement is by the TPM of the station with this serial
	// number, in answer to a nonce.
	Attest(ctx context.Context, serial string, statement attest.Evidence, nonce []byte) error
	// CertifyAttested judges that again, and issues the station's certificate for the key
	// it is about, or returns the one the key has. Its errors are *Problem, too.
	CertifyAttested(ctx context.Context, o *Order, serial string, statement attest.Evidence, nonce []byte, csr ca.CSR) (*ca.Issued, error)
}

// maxSerial bounds the serial numbers asked about: longer than any station's (ub-serial-number).
const maxSerial = 64

// Stations is the desk for station certificates: a station is proven by its TPM, and by
// nothing else.
type Stations struct {
	Registrar    Registrar
	Certificates Certificates
}

// Offer takes any serial number: nobody learns from it which ones there are.
func (s *Stations) Offer(_ context.Context, _ *Account, id Identifier) (Identifier, []ChallengeType, error) {
	switch {
	case id.Type != TypePermanent:
		return id, nil, problem(unsupportedIdentifier, "identifiers are of type %s here", TypePermanent)
	case id.Value == "" || len(id.Value) > 4*maxSerial || id.Value != clip(id.Value) || strings.TrimSpace(id.Value) != id.Value:
		return id, nil, problem(rejectedIdentifier, "the identifier is the station's serial number")
	}
	return id, []ChallengeType{DeviceAttest01}, nil
}

// attestation is what proved a station: kept with its challenge, and judged anew for the
// certificate.
type attestation struct {
	Object []byte `json:"object"`
	Nonce  []byte `json:"nonce"`
}

// Prove judges an attestation object; qualifyingData is the digest of the key
// authorization (draft-ietf-acme-device-attest).
func (s *Stations) Prove(ctx context.Context, a Attempt) (json.RawMessage, error) {
	var in struct {
		Object string `json:"attObj"`
		Error  string `json:"error"`
	}
	if err := json.Unmarshal(a.Payload, &in); err != nil {
		return nil, problem(malformed, "the answer has no attObj")
	}
	if in.Error != "" {
		return nil, BadStatement("the client couldn't attest", "") // its words are a stranger's: none on record
	}
	object, err := base64.RawURLEncoding.DecodeString(in.Object)
	if err != nil {
		return nil, BadStatement("attObj isn't base64url without padding", "")
	}
	nonce := digest(a.KeyAuth)
	statement, err := attest.ParseObject(object)
	if err != nil {
		return nil, BadStatement(err.Error(), "")
	}
	if err := s.Registrar.Attest(ctx, a.Identifier.Value, statement, nonce[:]); err != nil {
		return nil, unattested(err)
	}
	return json.Marshal(attestation{object, nonce[:]})
}

// unattested tells the client no more than that: whose statement it is instead, say, is
// the operator's to know.
func unattested(err error) error {
	if errors.Is(err, ca.ErrNotAttested) {
		return BadStatement("the statement isn't one by the TPM of the station with this serial number, in answer to this challenge", err.Error())
	}
	return err
}

// Certify issues for the key that was attested.
func (s *Stations) Certify(ctx context.Context, o *Order, csr ca.CSR) (*ca.Issued, error) {
	issued, err := s.Certificates.LookupReference(ctx, Reference(o.ID))
	if err != nil {
		return nil, err
	}
	if issued != nil {
		if issued.KeyHash != csr.Key.Hash() {
			return nil, problem(badCSR, "the order has its certificate already, for another key")
		}
		return issued, nil
	}
	var proof attestation
	if err := json.Unmarshal(o.Authorizations[0].proof(), &proof); err != nil {
		return nil, fmt.Errorf("couldn't read what proved order %s: %w", o.ID, err)
	}
	statement, err := attest.ParseObject(proof.Object)
	if err != nil {
		return nil, fmt.Errorf("couldn't read what proved order %s: %w", o.ID, err)
	}
	issued, err = s.Registrar.CertifyAttested(ctx, o, o.Authorizations[0].Identifier.Value, statement, proof.Nonce, csr)
	return issued, unattested(err)
}
