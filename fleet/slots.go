package fleet

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"bollard/ledger"
	"bollard/ocpp"
)

// Where the back end runs the upgrade it may fill slots and order them, as long
// as every slot it puts in use leads to Bollard on no lower profile. What is in
// a slot that was filled before, or elsewhere, nobody can ask: such a slot is
// vouched for by nothing, unless it is the one in use.

// maxVouched bounds the record; stations have a handful of slots.
const maxVouched = 16

// priorityFault says why a list of slots may not be put in use.
func (s *Service) priorityFault(sess Session, value string) string {
	plan, err := s.store.Plan(context.Background(), keyOfSession(sess))
	if err != nil {
		return "the station's slots can't be looked up: " + err.Error()
	}
	slots := splitList(strings.Trim(strings.TrimSpace(value), "[]"))
	if len(slots) == 0 {
		return networkReason
	}
	for _, slot := range slots {
		if !slices.Contains(plan.Vouched, strings.Trim(slot, `"`)) {
			return "nothing is known of network profile " + capped(slot) + ": set it anew first; the slot in use is being asked for"
		}
	}
	return ""
}

// learnSlot asks the station for the slot it connected with, which leads here.
func (s *Service) learnSlot(ctx context.Context, sess Session) {
	vars, err := getVariables(ctx, sess, ocpp.Component{Name: "OCPPCommCtrlr"}, "NetworkConfigurationPriority", "ActiveNetworkProfile")
	if err != nil {
		return // the back end is refused until the station can say
	}
	slot := strings.TrimSpace(vars["ActiveNetworkProfile"])
	if list := splitList(vars["NetworkConfigurationPriority"]); slot == "" && len(list) == 1 {
		slot = list[0]
	}
	if _, err := strconv.Atoi(slot); err == nil {
		s.vouch(ctx, sess, slot)
	}
}

// vouch records that a slot leads to Bollard on no lower profile.
func (s *Service) vouch(ctx context.Context, sess Session, slot string) {
	_, err := s.store.UpdatePlan(ctx, keyOfSession(sess), func(p *Plan) ([]ledger.Event, error) {
		if !slices.Contains(p.Vouched, slot) && len(p.Vouched) < maxVouched {
			p.Vouched = append(p.Vouched, slot)
		}
		return nil, nil
	})
	if err != nil && ctx.Err() == nil {
		s.log.Warn("couldn't record a network profile's slot", "station", keyOfSession(sess), "err", err)
	}
}

func (s *Service) setNetworkProfile(sess Session, m Message) (Verdict, error) {
	var set ocpp.SetNetworkProfileRequest
	if err := ocpp.DecodeStrict(m.Payload, &set); err != nil {
		return Verdict{}, err
	}
	refuse := func(code, reason string) (Verdict, error) {
		return Verdict{Act: Answer, Reason: "SetNetworkProfile: " + reason,
			Payload: ocpp.GenericStatus{Status: ocpp.StatusRejected,
				StatusInfo: &ocpp.StatusInfo{ReasonCode: code, AdditionalInfo: "network profile " + lockoutReason}}}, nil
	}
	adm := sess.Admission()
	data := &set.ConnectionData
	switch {
	case sess.Security() == SecurityBollard:
		return refuse(ocpp.ReasonUnsupportedRequest, networkReason)
	case data.BasicAuthPassword != "" || data.Identity != "":
		return refuse(ocpp.ReasonUnsupportedRequest, credentialReason)
	case data.SecurityProfile < lowestProfile(&adm):
		return refuse(ocpp.ReasonNoSecurityDowngrade, profileReason)
	case !s.ownURL(data.OCPPCSMSURL):
		return refuse(ocpp.ReasonInvalidNetworkConf, networkReason)
	}
	return Verdict{Act: Pass, Watch: true, After: func(ctx context.Context) { s.learnSlot(ctx, sess) }}, nil
}

// slotFilled takes note of the station's answer to a SetNetworkProfile.
func (s *Service) slotFilled(ctx context.Context, sess Session, call Message, answer ocpp.Head) {
	var set ocpp.SetNetworkProfileRequest
	var status ocpp.GenericStatus
	if answer.Type != ocpp.CallResult || ocpp.DecodeStrict(call.Payload, &set) != nil ||
		ocpp.DecodeStrict(answer.Payload, &status) != nil || status.Status != ocpp.StatusAccepted {
		return
	}
	s.vouch(ctx, sess, strconv.Itoa(set.ConfigurationSlot))
}
