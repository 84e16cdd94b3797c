package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"bollard/internal/failpoint"
	"bollard/ocpp"
)

// passwordInSlot changes the password of a 2.1 station that has none in
// SecurityCtrlr: 2.1 moved it into the network profiles
// (NetworkConfiguration.BasicAuthPassword). It takes effect with a restart; a
// station that falls back comes with the old one, which decides. lacks is what
// the station answered before.
func (s *Service) passwordInSlot(ctx context.Context, sit *situation, secret string, lacks error) (string, error) {
	if sit.adm.Profile < 2 {
		return "", fmt.Errorf("%w; it keeps it in its network profiles, where it is changed on profile 2 only", lacks)
	}
	priority, active, err := slotsInUse(ctx, sit.sess)
	if err != nil {
		return "", fmt.Errorf("%w; %w", lacks, err)
	}
	err = s.fillFirst(ctx, sit, slotPlan{profile: sit.adm.Profile, url: s.cfg.PublicURL, password: secret}, priority, active)
	return ocpp.StatusRebootRequired, err
}

// slotsInUse are the order of network profiles and the one the station connected
// with, which a change of password has to know.
func slotsInUse(ctx context.Context, sess Session) (priority []string, active string, err error) {
	priority, active, err = networkProfiles(ctx, sess)
	if err == nil && active == "" {
		err = errors.New("it doesn't tell which network profile is in use (ActiveNetworkProfile)")
	}
	return priority, active, err
}

// fillFirst fills a network profile with a password and puts it first. The slots
// in use may not be written (B09.FR.21): it is the one whose password nobody
// takes any more, or a free one.
func (s *Service) fillFirst(ctx context.Context, sit *situation, want slotPlan, priority []string, active string) error {
	note := want.note
	want.mine = staleSlot(&sit.plan, active)
	want.note = func(p *Plan, slot string) {
		p.PasswordSlot, p.PasswordLeft = slot, active
		if note != nil {
			note(p, slot)
		}
	}
	used, err := withoutSlot(ctx, sit.sess, priority, want.mine)
	if err != nil {
		return err
	}
	slot, err := s.fillSlot(ctx, sit, want, used, active)
	if err != nil {
		return err
	}
	return setPriority(ctx, sit.sess, append([]string{slot}, used...))
}

// keepsInSlots says that a station comes with a password and keeps it in its
// network profiles: a new profile is of no use to it without one.
func keepsInSlots(ctx context.Context, sit *situation) (bool, error) {
	if sit.sess.Version() != ocpp.V21 || sit.adm.Profile > 2 || sit.st.Password == nil {
		return false, nil
	}
	answer, err := sit.sess.Call(ctx, ocpp.ActionGetVariables, ocpp.GetVariablesRequest{GetVariableData: []ocpp.GetVariable{
		{Component: ocpp.Component{Name: "SecurityCtrlr"}, Variable: ocpp.Variable{Name: "BasicAuthPassword"}},
	}})
	if err != nil {
		return false, unlessAnswered(err)
	}
	var result ocpp.GetVariablesResponse
	if err := ocpp.DecodeStrict(answer, &result); err != nil {
		return false, fmt.Errorf("couldn't read the station's answer to GetVariables: %w", err)
	}
	// Where it is, it is write-only, and reading it is refused (B06.FR.09).
	return slices.ContainsFunc(result.GetVariableResult, func(r ocpp.GetVariableResult) bool {
		return r.AttributeStatus == "UnknownVariable" || r.AttributeStatus == "UnknownComponent"
	}), nil
}

// moveWithPassword sends a station that keeps its password in its network
// profiles to another one. Bollard has only the hash of the one it uses, so that
// the new profile gets a new one; which of the two it has then, its login shows.
func (s *Service) moveWithPassword(ctx context.Context, sit *situation, want slotPlan) error {
	priority, active, err := slotsInUse(ctx, sit.sess)
	if err != nil {
		return err
	}
	secret, pending, err := s.pend(ctx, sit, func(*Station) bool { return true })
	if err != nil {
		return err
	}
	failpoint.Hit("fleet.plan-password-stored")
	want.password = secret
	err = s.fillFirst(ctx, sit, want, priority, active)
	switch {
	case err == nil:
		_, _, err = s.rebootFor(ctx, sit, pending)
	case unchanged(err):
		err = errors.Join(err, s.dropPending(ctx, sit.l.key, pending, "bollard"))
	}
	return err
}

// staleSlot is the one of two slots between which the password was changed last
// that isn't in use: it holds a password nobody takes. "": there is none.
func staleSlot(p *Plan, active string) string {
	switch active {
	case p.PasswordSlot:
		return p.PasswordLeft
	case p.PasswordLeft:
		return p.PasswordSlot
	}
	return ""
}

// withoutSlot takes a slot out of the order of those in use, so that it may be
// written, and returns the order.
func withoutSlot(ctx context.Context, sess Session, priority []string, slot string) ([]string, error) {
	rest := slices.DeleteFunc(slices.Clone(priority), func(n string) bool { return n == slot })
	if slot == "" || len(rest) == len(priority) || len(rest) == 0 {
		return priority, nil
	}
	return rest, setPriority(ctx, sess, rest)
}

// slotPassword sets a slot's password where SetNetworkProfile took the rest: its
// field for it is younger than the message.
func slotPassword(ctx context.Context, sess Session, slot string, data *ocpp.NetworkProfile) error {
	if data.BasicAuthPassword == "" {
		return nil
	}
	_, err := setVariable(ctx, sess, ocpp.Component{Name: "NetworkConfiguration", Instance: slot}, "BasicAuthPassword", data.BasicAuthPassword)
	return unlessAnswered(err)
}
