package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"bollard/ocpp"
)

// switchProfile asks the station to come back on a higher security profile
// (A05). The lower one stays accepted until it was seen on the new one.
func (s *Service) switchProfile(ctx context.Context, sess Session, profile int) (string, error) {
	var err error
	what := "couldn't raise the security profile"
	if sess.Version() == ocpp.V16 {
		err = s.switch16(ctx, sess, profile)
	} else {
		err = s.switch2(ctx, sess, profile)
	}
	if err != nil {
		return what, err
	}
	s.recordStep(ctx, sess, "plan.profile", profileData(profile))
	return fmt.Sprintf("asked to come back on security profile %d", profile), nil
}

// switch16: the station disconnects and comes back by itself on Accepted
// (A05.FR.05); real ones may want a reset (OCTT TC_083).
func (s *Service) switch16(ctx context.Context, sess Session, profile int) error {
	status, err := call(ctx, sess, ocpp.ActionChangeConfiguration,
		ocpp.ChangeConfigurationRequest16{Key: "SecurityProfile", Value: strconv.Itoa(profile)}, ocpp.StatusAccepted, ocpp.StatusRebootRequired)
	if err != nil {
		return err
	}
	if status == ocpp.StatusRebootRequired {
		_, err = call(ctx, sess, ocpp.ActionReset, ocpp.ResetRequest{Type: ocpp.ResetSoft}, ocpp.StatusAccepted)
	}
	return err
}

// Slots tried for the new network profile: a station has at least two
// (B09.FR.06) and rejects those it doesn't have (B09.FR.05).
const (
	firstSlot = 0
	lastSlot  = 9
	slotTries = 4
	// callTimeout of the station's new profile, in seconds (part 2 §3.2).
	profileTimeout = 30
)

// switch2 fills a free slot, puts it before those in use and resets when idle.
// The slots in use stay behind it, so that the station can fall back (A05, B10).
func (s *Service) switch2(ctx context.Context, sess Session, profile int) error {
	component := ocpp.Component{Name: "OCPPCommCtrlr"}
	vars, err := getVariables(ctx, sess, component, "NetworkConfigurationPriority", "ActiveNetworkProfile")
	if err != nil {
		return err
	}
	priority := splitList(vars["NetworkConfigurationPriority"])
	active := strings.TrimSpace(vars["ActiveNetworkProfile"])
	if len(priority) == 0 {
		if active == "" {
			return errors.New("station tells neither NetworkConfigurationPriority nor ActiveNetworkProfile: set the network profile on the station")
		}
		priority = []string{active}
	}
	slot, err := s.fillSlot(ctx, sess, profile, priority, active)
	if err != nil {
		return err
	}
	order := append([]string{slot}, priority...)
	if _, err := setVariable(ctx, sess, component.Name, "NetworkConfigurationPriority", strings.Join(order, ",")); err != nil {
		return fmt.Errorf("couldn't put network profile %s first: %w", slot, err)
	}
	_, err = call(ctx, sess, ocpp.ActionReset, ocpp.ResetRequest{Type: ocpp.ResetOnIdle}, ocpp.StatusAccepted, ocpp.StatusScheduled)
	return err
}

// fillSlot writes the new network profile into a slot that isn't in use
// (B09.FR.21) and returns it.
func (s *Service) fillSlot(ctx context.Context, sess Session, profile int, used []string, active string) (string, error) {
	data := ocpp.NetworkProfile{
		OCPPVersion: "OCPP20", OCPPTransport: "JSON", OCPPCSMSURL: s.cfg.PublicURL,
		MessageTimeout: profileTimeout, SecurityProfile: profile, OCPPInterface: "Wired0",
	}
	if sess.Version() == ocpp.V21 {
		data.OCPPVersion, data.OCPPInterface = "OCPP21", "Any"
	}
	// Where the station tells which interface it uses, that one goes on.
	if active != "" {
		vars, err := getVariables(ctx, sess, ocpp.Component{Name: "NetworkConfiguration", Instance: active}, "OcppInterface")
		if err != nil && !answered(err) {
			return "", err
		}
		if in := vars["OcppInterface"]; knownInterface(in, sess.Version()) {
			data.OCPPInterface = in
		}
	}
	tries, refused := 0, error(errors.New("station has no slot that isn't in use"))
	for n := firstSlot; n <= lastSlot && tries < slotTries; n++ {
		slot := strconv.Itoa(n)
		if slot == active || slices.Contains(used, slot) {
			continue
		}
		tries++
		_, err := call(ctx, sess, ocpp.ActionSetNetworkProfile, ocpp.SetNetworkProfileRequest{ConfigurationSlot: n, ConnectionData: data}, ocpp.StatusAccepted)
		if err == nil {
			return slot, nil
		}
		if !answered(err) {
			return "", err
		}
		refused = err
	}
	return "", fmt.Errorf("couldn't set a network profile: %w", refused)
}

func knownInterface(name string, v ocpp.Version) bool {
	for n := range 4 {
		if name == "Wired"+strconv.Itoa(n) || name == "Wireless"+strconv.Itoa(n) {
			return true
		}
	}
	return v == ocpp.V21 && name == "Any"
}

func splitList(text string) []string {
	var out []string
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			out = append(out, item)
		}
	}
	return out
}
