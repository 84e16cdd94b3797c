package fleet

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"bollard/ca"
	"bollard/ledger"
	"bollard/ocpp"
)

const maxAskedTypes = 4

// AskedKeys are the keys of a station's CSRs of one type, as hex SHA-256 of their
// SubjectPublicKeyInfo, the newest last.
type AskedKeys []string

// UnmarshalJSON takes a single key as well, as earlier versions remembered it.
func (k *AskedKeys) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*k = AskedKeys{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(k))
}

// with adds a key. Of certificates toward cars a station has one an EVSE, and asks for
// all of them at once (A02); of its own it has one, and the newest request counts.
func (k AskedKeys) with(hash, kind string) AskedKeys {
	most := 1
	if _, toCars := editionOf(kind); toCars {
		most = maxSECCs
	}
	list := append(slices.DeleteFunc(slices.Clone(k), func(known string) bool { return known == hash }), hash)
	return list[max(0, len(list)-most):]
}

// rememberKey records the key of a CSR that goes on to the back end: what comes
// back must be for it, after a restart of Bollard too. A CSR Bollard can't read
// is the back end's to refuse.
func (s *Service) rememberKey(ctx context.Context, sess Session, request *ocpp.SignCertificateRequest) error {
	csr, err := ca.ParseCSR([]byte(request.CSR))
	if err != nil {
		return nil //nolint:nilerr // what can't be read is the back end's to refuse
	}
	adm := sess.Admission()
	if s.curveFault(csr.Key, adm.Station.Vendor, adm.Station.Model, adm.TLS13) != "" {
		return nil // its certificate is refused
	}
	key, kind, hash := keyOfSession(sess), request.CertificateType, csr.Key.Hash()
	plan, err := s.store.Plan(ctx, key)
	if keys := plan.Asked[kind]; err == nil && len(keys) > 0 && keys[len(keys)-1] == hash {
		return nil
	}
	if err == nil {
		_, err = s.store.UpdatePlan(ctx, key, func(p *Plan) ([]ledger.Event, error) {
			if p.Asked == nil {
				p.Asked = map[string]AskedKeys{}
			}
			if known := p.Asked[kind]; known != nil || len(p.Asked) < maxAskedTypes {
				p.Asked[kind] = known.with(hash, kind)
			}
			return nil, nil
		})
	}
	if err != nil {
		return fmt.Errorf("couldn't record the key of a certificate request: %w", err)
	}
	return nil
}

// certificateSigned judges the back end's CertificateSigned. Where Bollard is
// the issuer, a second one is refused; where the back end is, its certificate
// must be for a key this station asked for (threat C5), and must not leave the
// station with one Bollard's door refuses.
func (s *Service) certificateSigned(ctx context.Context, sess Session, payload json.RawMessage, answer answerShape) (Verdict, error) {
	chain, kind, err := signedChain(payload)
	if err != nil {
		return Verdict{}, err
	}
	reject := func(reason string) (Verdict, error) {
		return Verdict{Act: Answer, Reason: "CertificateSigned: " + reason,
			Payload: answer(ocpp.StatusRejected, ocpp.ReasonInvalidCertificate, "certificate was not passed on")}, nil
	}
	switch sess.Security() {
	case SecurityObserve:
		if len(chain) > 0 {
			if fault := s.chainFault(ctx, sess, chain, kind); fault != "" {
				s.warned(ctx, keyOfSession(sess), "back-end-chain", fault)
			}
		}
		return Verdict{Act: Pass, Watch: len(chain) > 0}, nil
	case SecurityBackend:
	default:
		return reject("Bollard issues this station's certificates, not the back end")
	}
	if len(chain) == 0 {
		return reject("certificate chain can't be read")
	}
	plan, err := s.store.Plan(ctx, keyOfSession(sess))
	if err != nil {
		return reject("couldn't look up what the station asked for: " + err.Error())
	}
	hash := spkiHash(chain[0])
	known := slices.Contains(plan.Asked[kind], hash)
	if kind == "" { // 1.6 and stations with one use leave the type out
		for _, keys := range plan.Asked {
			known = known || slices.Contains(keys, hash)
		}
	}
	if !known {
		return reject("certificate is not for the key the station asked for")
	}
	if fault := s.chainFault(ctx, sess, chain, kind); fault != "" {
		if sess.Admission().Profile >= 3 {
			return reject(fault)
		}
		// The password still lets the station in.
		s.warned(ctx, keyOfSession(sess), "back-end-chain", fault)
	}
	return Verdict{Act: Pass, Watch: true}, nil
}

// chainFault says why Bollard's door wouldn't take a station certificate the
// back end sends, or "".
func (s *Service) chainFault(ctx context.Context, sess Session, chain []*x509.Certificate, kind string) string {
	for i, c := range chain[1:] {
		if chain[i].CheckSignatureFrom(c) != nil {
			return fmt.Sprintf("certificate %d of the chain isn't signed by the one after it", i+1)
		}
	}
	if kind != "" && kind != ocpp.ChargingStationCertificate {
		return "" // not for this door
	}
	st, err := s.store.Station(ctx, keyOfSession(sess))
	if err != nil {
		return "the station can't be looked up: " + err.Error()
	}
	now := s.clock()
	l, reason, err := s.judgeChain(ctx, chain, nil, now)
	switch {
	case err != nil:
		return err.Error()
	case l == nil:
		return reason + ": `bollard ca trust add --use station` adds the back end's root"
	case l.expired:
		return "certificate is expired"
	}
	// As it will be once recorded: the back end's, for this station.
	l.recorded, l.record = true, entry{station: keyOf(&st), state: ca.StateIssued}
	return s.proves(l, &st, now).refused
}

// signedChain returns the certificates of a chain, leaf first, none if it can't
// be read.
func signedChain(payload json.RawMessage) ([]*x509.Certificate, string, error) {
	var plain ocpp.CertificateSignedRequest
	if err := ocpp.DecodeStrict(payload, &plain); err != nil {
		return nil, "", err
	}
	var both struct {
		Chain json.RawMessage `json:"certificateChain"`
		Cert  json.RawMessage `json:"cert"`
		Type  json.RawMessage `json:"certificateType"`
		Of    json.RawMessage `json:"typeOfCertificate"`
	}
	if err := ocpp.DecodeStrict(payload, &both); err != nil {
		return nil, "", err
	}
	if both.Chain != nil && both.Cert != nil || both.Type != nil && both.Of != nil {
		return nil, "", &ocpp.FrameError{Code: ocpp.FormatViolation, Reason: "CertificateSigned carries its certificate in two spellings"}
	}
	var ders [][]byte
	for rest := []byte(plain.CertificateChain); len(ders) < maxPresented; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type == "CERTIFICATE" {
			ders = append(ders, block.Bytes)
		}
	}
	if plain.CertificateChain == "" {
		var first ocpp.CertificateSignedEdition1
		if err := ocpp.DecodeStrict(payload, &first); err != nil {
			return nil, "", err
		}
		for _, text := range first.Cert[:min(len(first.Cert), maxPresented)] {
			der, _ := hex.DecodeString(text) // what can't be decoded is no certificate below
			ders = append(ders, der)
		}
		plain.CertificateType = first.TypeOfCertificate
	}
	var chain []*x509.Certificate
	for _, der := range ders {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, plain.CertificateType, nil //nolint:nilerr // the caller refuses an empty chain by name
		}
		chain = append(chain, c)
	}
	return chain, plain.CertificateType, nil
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
	chain, _, err := signedChain(payload)
	if err != nil || len(chain) == 0 {
		return
	}
	leaf := chain[0]
	adm := sess.Admission()
	key := adm.Station.Key()
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
