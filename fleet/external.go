package fleet

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"

	"bollard/ca"
	"bollard/ocpp"
)

// askedKeys are the keys of the CSRs a station's back end was handed, by
// certificate type: hex SHA-256 of the SubjectPublicKeyInfo. They are kept in
// memory; after a restart the station has to ask again.
type askedKeys map[string]string

const maxAskedTypes = 4

// rememberKey takes note of the key of a CSR that goes on to the back end. A
// CSR Bollard can't read is the back end's to refuse.
func (s *Service) rememberKey(sess Session, request *ocpp.SignCertificateRequest) {
	csr, err := ca.ParseCSR([]byte(request.CSR))
	if err != nil {
		return
	}
	adm := sess.Admission()
	key := keyOf(&adm.Station)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked[key] == nil {
		s.asked[key] = askedKeys{}
	}
	// A type that is there already gives way to its renewal, however many there are.
	if _, again := s.asked[key][request.CertificateType]; again || len(s.asked[key]) < maxAskedTypes {
		s.asked[key][request.CertificateType] = csr.Key.Hash()
	}
}

// certificateSigned judges the back end's CertificateSigned. Where Bollard is
// the issuer, a second one is refused; where the back end is, its certificate
// must be for the key this station asked for (threat C5).
func (s *Service) certificateSigned(_ context.Context, sess Session, payload json.RawMessage, answer answerShape) (Verdict, error) {
	leaf, kind, err := signedLeaf(payload)
	if err != nil {
		return Verdict{}, err
	}
	reject := func(reason string) (Verdict, error) {
		return Verdict{Act: Answer, Reason: "CertificateSigned: " + reason,
			Payload: answer(ocpp.StatusRejected, ocpp.ReasonInvalidCertificate, "certificate was not passed on")}, nil
	}
	switch sess.Security() {
	case SecurityObserve:
		return Verdict{Act: Pass, Watch: leaf != nil}, nil
	case SecurityBackend:
	default:
		return reject("Bollard issues this station's certificates, not the back end")
	}
	if leaf == nil {
		return reject("certificate chain can't be read")
	}
	adm := sess.Admission()
	s.mu.Lock()
	keys := s.asked[keyOf(&adm.Station)]
	known := keys[kind] == spkiHash(leaf)
	if !known && kind == "" { // 1.6 and stations with one use leave the type out
		for _, k := range keys {
			known = known || k == spkiHash(leaf)
		}
	}
	s.mu.Unlock()
	if !known {
		return reject("certificate is not for the key the station asked for")
	}
	return Verdict{Act: Pass, Watch: true}, nil
}

// signedLeaf returns the leaf of a chain, nil if there is none to be read.
func signedLeaf(payload json.RawMessage) (*x509.Certificate, string, error) {
	var plain ocpp.CertificateSignedRequest
	if err := ocpp.DecodeStrict(payload, &plain); err != nil {
		return nil, "", err
	}
	der := []byte(nil)
	if block, _ := pem.Decode([]byte(plain.CertificateChain)); block != nil && block.Type == "CERTIFICATE" {
		der = block.Bytes
	}
	if plain.CertificateChain == "" {
		var first ocpp.CertificateSignedEdition1
		if err := ocpp.DecodeStrict(payload, &first); err != nil {
			return nil, "", err
		}
		if len(first.Cert) > 0 {
			der, _ = hex.DecodeString(first.Cert[0]) // what can't be decoded is no certificate below
		}
		plain.CertificateType = first.TypeOfCertificate
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, plain.CertificateType, nil
	}
	return leaf, plain.CertificateType, nil
}

func spkiHash(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

// externalAnswered records the back end's certificate once the station took it.
func (s *Service) externalAnswered(ctx context.Context, sess Session, call Message, answer ocpp.Head) {
	if answer.Type != ocpp.CallResult {
		return
	}
	payload, result := call.Payload, json.RawMessage(answer.Payload)
	if call.Action == ocpp.ActionDataTransfer {
		var transfer ocpp.DataTransferRequest
		if ocpp.DecodeStrict(call.Payload, &transfer) != nil {
			return
		}
		var text string
		if json.Unmarshal(transfer.Data, &text) != nil {
			return
		}
		payload = json.RawMessage(text)
		var err error
		if result, err = unwrapAnswer(result); err != nil {
			return
		}
	}
	var status ocpp.GenericStatus
	if ocpp.DecodeStrict(result, &status) != nil || status.Status != ocpp.StatusAccepted {
		return
	}
	leaf, _, err := signedLeaf(payload)
	if err != nil || leaf == nil {
		return
	}
	adm := sess.Admission()
	key := keyOf(&adm.Station)
	if err := s.cfg.Authority.RecordExternal(ctx, leaf, key, "backend"); err != nil {
		s.log.Warn("couldn't record the back end's certificate", slog.String("station", key), slog.String("session", sess.ID()), slog.Any("err", err))
	}
}

// unwrapAnswer takes the 2.0.1 answer out of a DataTransfer answer.
func unwrapAnswer(payload json.RawMessage) (json.RawMessage, error) {
	var transfer ocpp.DataTransferResponse
	if err := ocpp.DecodeStrict(payload, &transfer); err != nil {
		return nil, err
	}
	if transfer.Status != ocpp.StatusAccepted {
		return nil, &ocpp.CallFailure{Code: ocpp.NotSupported, Description: "DataTransfer answered " + capped(transfer.Status)}
	}
	var text string
	if err := json.Unmarshal(transfer.Data, &text); err != nil {
		return nil, errors.New("data of a DataTransfer answer is not a string")
	}
	return json.RawMessage(text), nil
}
