package fleet

import (
	"context"
	"fmt"
	"slices"

	"bollard/ocpp"
)

// passwordInSlot changes the password of a 2.1 station that has none in
// SecurityCtrlr: 2.1 moved it into the network profiles
// (NetworkConfiguration.BasicAuthPassword). The slots in use may not be written
// (B09.FR.21), so that another one is filled, with the new password, and put
// first. It takes effect with a restart; a station that falls back comes with
// the old one, which decides. lacks is what the station answered before.
func (s *Service) passwordInSlot(ctx context.Context, sit *situation, secret string, lacks error) (string, error) {
	if sit.adm.Profile < 2 {
		return "", fmt.Errorf("%w; it keeps it in its network profiles, where it is changed on profile 2 only", lacks)
	}
	priority, active, err := networkProfiles(ctx, sit.sess)
	if err != nil {
		return "", fmt.Errorf("%w; %w", lacks, err)
	}
	if active == "" {
		return "", fmt.Errorf("%w; it doesn't tell which network profile is in use (ActiveNetworkProfile)", lacks)
	}
	stale := staleSlot(&sit.plan, active)
	used, err := withoutSlot(ctx, sit.sess, priority, stale)
	if err != nil {
		return "", err
	}
	slot, err := s.fillSlot(ctx, sit, slotPlan{profile: sit.adm.Profile, url: s.cfg.PublicURL, mine: stale, password: secret, note: func(p *Plan, slot string) {
		p.PasswordSlot, p.PasswordLeft = slot, active
	}}, used, active)
	if err == nil {
		err = setPriority(ctx, sit.sess, append([]string{slot}, used...))
	}
	return ocpp.StatusRebootRequired, err
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
