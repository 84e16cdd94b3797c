package fleet

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"slices"

	"bollard/ca/hashdata"
	"bollard/ocpp"
)

// What a back end may not set, because a station would then come with a
// credential Bollard doesn't know, go round it, or fall back in security
// (promise 4, threat A6). The password is checked at Bollard's door whoever
// answers certificate messages, so it is kept in every security mode; profile,
// network and organisation belong to Bollard only where it runs the upgrade.
// Which settings are meant stands in guarded.go.

const lockoutReason = "is managed by the gateway"

func (s *Service) changeConfiguration(ctx context.Context, sess Session, payload json.RawMessage) (Verdict, error) {
	var change ocpp.ChangeConfigurationRequest16
	if err := ocpp.DecodeStrict(payload, &change); err != nil {
		return Verdict{}, err
	}
	p := place{name: change.Key, value: change.Value}
	if isPassword(p) {
		if kept := s.upstreamPassword(ctx, sess, change.Value); kept.ok {
			return Verdict{Act: Answer, Payload: ocpp.GenericStatus{Status: ocpp.StatusAccepted}, After: kept.after}, nil
		}
	}
	if reason := s.guarded(sess, p); reason != "" {
		return Verdict{Act: Answer, Payload: ocpp.GenericStatus{Status: ocpp.StatusRejected}, Reason: "ChangeConfiguration: " + reason}, nil
	}
	return Verdict{Act: Pass}, nil
}

// reset is refused while Bollard is changing what the station stands on: an
// answer would be lost, or the change left half done.
func (s *Service) reset(sess Session, payload json.RawMessage) (Verdict, error) {
	var reset ocpp.ResetRequest
	if err := ocpp.DecodeStrict(payload, &reset); err != nil {
		return Verdict{}, err
	}
	l := s.liveOf(sess)
	if l == nil || !l.changing() {
		return Verdict{Act: Pass}, nil
	}
	return Verdict{Act: Answer, Reason: "Reset: Bollard is changing the station's security at this moment",
		Payload: plainAnswer(sess)(ocpp.StatusRejected, ocpp.ReasonUnsupportedRequest, "gateway is changing the station's security, try again in a minute")}, nil
}

// installCertificate keeps the root a station checks Bollard's server
// certificate against in Bollard's hand: a station with room for one would lose
// the right one (threat C6). Where the back end answers certificate messages it
// may send the right one again.
func (s *Service) installCertificate(ctx context.Context, sess Session, payload json.RawMessage, answer answerShape) (Verdict, error) {
	var install ocpp.InstallCertificateRequest
	if err := ocpp.DecodeStrict(payload, &install); err != nil {
		return Verdict{}, err
	}
	if use := bare(install.CertificateType); use != bare(ocpp.CSMSRoot) && use != bare(ocpp.CentralSystemRoot) {
		return Verdict{Act: Pass}, nil
	}
	if sess.Security() != SecurityBollard && s.isServed(ctx, install.Certificate) {
		return Verdict{Act: Pass}, nil
	}
	return Verdict{Act: Answer, Reason: "InstallCertificate: the roots of the server certificate are Bollard's to install: `bollard station roots`",
		Payload: answer(ocpp.StatusRejected, ocpp.ReasonUnsupportedRequest, "CSMS root "+lockoutReason)}, nil
}

// isServed says whether a PEM text is one root that the server certificate
// leads to, or is about to.
func (s *Service) isServed(ctx context.Context, text string) bool {
	block, rest := pem.Decode([]byte(text))
	if block == nil || len(bytes.TrimSpace(rest)) > 0 {
		return false
	}
	roots, err := s.served(ctx)
	if err != nil {
		return false
	}
	if next, err := s.rollover(ctx); err == nil && next != nil {
		roots = append(slices.Clone(roots), next.New, next.Cross)
	}
	return slices.ContainsFunc(roots, func(root *x509.Certificate) bool { return bytes.Equal(root.Raw, block.Bytes) })
}

// deleteCertificate keeps the root on the station that its connection stands
// on, in every security mode: without it the station couldn't come back (M04).
func (s *Service) deleteCertificate(ctx context.Context, payload json.RawMessage, answer answerShape) (Verdict, error) {
	var remove ocpp.DeleteCertificateRequest
	if err := ocpp.DecodeStrict(payload, &remove); err != nil {
		return Verdict{}, err
	}
	refuse := func(reason string) (Verdict, error) {
		return Verdict{Act: Answer, Reason: "DeleteCertificate: " + reason,
			Payload: answer(ocpp.StatusFailed, ocpp.ReasonUnsupportedRequest, "certificate "+lockoutReason)}, nil
	}
	served, err := s.served(ctx)
	if err != nil {
		return refuse(err.Error())
	}
	for _, root := range served {
		if hashdata.MayName(remove.CertificateHashData, root, root) || hashdata.NamesIssuer(remove.CertificateHashData, root) {
			return refuse(fmt.Sprintf("without root %q the station couldn't check the server certificate any more", root.Issuer.String()))
		}
	}
	next, err := s.rollover(ctx)
	if err != nil {
		return refuse(err.Error())
	}
	if next != nil && (hashdata.MayName(remove.CertificateHashData, next.New, next.New) || hashdata.MayName(remove.CertificateHashData, next.Cross, next.Old)) {
		return refuse("the station needs the new root once the server certificate follows it")
	}
	return Verdict{Act: Pass}, nil
}
