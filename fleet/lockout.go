package fleet

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"bollard/ca"
	"bollard/ocpp"
)

// What a back end may not set, because a station would then come with a
// credential Bollard doesn't know, go round it, or fall back in security
// (promise 4, threat A6). The password is checked at Bollard's door whoever
// answers certificate messages, so it is kept in every security mode; profile,
// network and organisation belong to Bollard only where it runs the upgrade.

const lockoutReason = "is managed by the gateway"

// owned says whether a configuration key (1.6) or variable (2.x) is Bollard's
// in this session, and why. Names are compared without case: stations do so.
func (s *Service) owned(sess Session, component, variable, value string) string {
	is := func(text string, names ...string) bool {
		text = strings.TrimSpace(text)
		return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, text) })
	}
	bollard := sess.Security() == SecurityBollard
	switch {
	case component == "" && is(variable, "AuthorizationKey"),
		is(component, "SecurityCtrlr") && is(variable, "BasicAuthPassword", "Identity"),
		is(component, "NetworkConfiguration") && is(variable, "BasicAuthPassword", "Identity"):
		return "a new credential would lock the station out: `bollard station password` changes it"
	case !bollard:
		return ""
	case component == "" && is(variable, "SecurityProfile"),
		is(component, "SecurityCtrlr") && is(variable, "SecurityProfile", "AllowSecurityProfileDowngrade"):
		return "the security profile is raised with `bollard station profile` and never lowered"
	case is(component, "OCPPCommCtrlr") && is(variable, "NetworkConfigurationPriority"),
		is(component, "NetworkConfiguration"):
		return "another network profile could lead the station past the gateway"
	case component == "" && is(variable, "CpoName"),
		is(component, "SecurityCtrlr") && is(variable, "OrganizationName"):
		if value != s.cfg.Organisation {
			return "another organisation in the CSR would stop the station's renewals (A00.FR.404)"
		}
	}
	return ""
}

func (s *Service) changeConfiguration(sess Session, m Message) (Verdict, error) {
	var change ocpp.ChangeConfigurationRequest16
	if err := ocpp.DecodeStrict(m.Payload, &change); err != nil {
		return Verdict{}, err
	}
	if reason := s.owned(sess, "", change.Key, change.Value); reason != "" {
		return Verdict{Act: Answer, Payload: ocpp.GenericStatus{Status: ocpp.StatusRejected}, Reason: "ChangeConfiguration: " + reason}, nil
	}
	return Verdict{Act: Pass}, nil
}

// setVariables answers all of a mixed request itself: it can't be split without
// making up what the station would have said to the rest.
func (s *Service) setVariables(sess Session, m Message) (Verdict, error) {
	var set ocpp.SetVariablesRequest
	if err := ocpp.DecodeStrict(m.Payload, &set); err != nil {
		return Verdict{}, err
	}
	reason := ""
	owned := make([]bool, len(set.SetVariableData))
	for i, v := range set.SetVariableData {
		if why := s.owned(sess, v.Component.Name, v.Variable.Name, v.AttributeValue); why != "" {
			owned[i], reason = true, why
		}
	}
	if reason == "" {
		return Verdict{Act: Pass}, nil
	}
	out := ocpp.SetVariablesResponse{}
	for i, v := range set.SetVariableData {
		info := "set together with a variable that " + lockoutReason
		if owned[i] {
			info = lockoutReason
		}
		out.SetVariableResult = append(out.SetVariableResult, ocpp.SetVariableResult{
			AttributeType: v.AttributeType, AttributeStatus: ocpp.StatusRejected,
			AttributeStatusInfo: &ocpp.StatusInfo{ReasonCode: ocpp.ReasonUnsupportedRequest, AdditionalInfo: info},
			Component:           v.Component, Variable: v.Variable,
		})
	}
	return Verdict{Act: Answer, Payload: out, Reason: "SetVariables: " + reason}, nil
}

func (s *Service) setNetworkProfile(sess Session, m Message) (Verdict, error) {
	var set ocpp.SetNetworkProfileRequest
	if err := ocpp.DecodeStrict(m.Payload, &set); err != nil {
		return Verdict{}, err
	}
	reason := "another network profile could lead the station past the gateway"
	if sess.Security() != SecurityBollard {
		if set.ConnectionData.BasicAuthPassword == "" && set.ConnectionData.Identity == "" {
			return Verdict{Act: Pass}, nil
		}
		reason = "a new credential would lock the station out: `bollard station password` changes it"
	}
	return Verdict{Act: Answer, Reason: "SetNetworkProfile: " + reason,
		Payload: ocpp.GenericStatus{Status: ocpp.StatusRejected,
			StatusInfo: &ocpp.StatusInfo{ReasonCode: ocpp.ReasonUnsupportedRequest, AdditionalInfo: "network profile " + lockoutReason}}}, nil
}

// installCertificate keeps the root a station checks Bollard's server
// certificate against in Bollard's hand, where it is the authority of that
// root: a station with room for one would lose the right one (threat C6).
func (s *Service) installCertificate(sess Session, payload json.RawMessage, answer answerShape) (Verdict, error) {
	var install ocpp.InstallCertificateRequest
	if err := ocpp.DecodeStrict(payload, &install); err != nil {
		return Verdict{}, err
	}
	use := strings.TrimSpace(install.CertificateType)
	if sess.Security() != SecurityBollard || !strings.EqualFold(use, ocpp.CSMSRoot) && !strings.EqualFold(use, ocpp.CentralSystemRoot) {
		return Verdict{Act: Pass}, nil
	}
	return Verdict{Act: Answer, Reason: "InstallCertificate: the roots of the server certificate are Bollard's to install: `bollard station roots`",
		Payload: answer(ocpp.StatusRejected, ocpp.ReasonUnsupportedRequest, "CSMS root "+lockoutReason)}, nil
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
		if mayName(remove.CertificateHashData, root, root) {
			return refuse(fmt.Sprintf("without root %s the station couldn't check the server certificate any more", ca.SerialOf(root)))
		}
	}
	next, err := s.rollover(ctx)
	if err != nil {
		return refuse(err.Error())
	}
	if next != nil && (mayName(remove.CertificateHashData, next.New, next.New) || mayName(remove.CertificateHashData, next.Cross, next.Old)) {
		return refuse("the station needs the new root once the server certificate follows it")
	}
	return Verdict{Act: Pass}, nil
}

// mayName is names for a request that must not get past: by an algorithm
// Bollard doesn't know, the serial number alone decides.
func mayName(d ocpp.CertificateHashData, cert, issuer *x509.Certificate) bool {
	if _, err := CertificateHashData(d.HashAlgorithm, cert, issuer); err != nil {
		return plainHash(d).SerialNumber == plainHash(ocpp.CertificateHashData{SerialNumber: ca.SerialOf(cert)}).SerialNumber
	}
	return names(d, cert, issuer)
}
