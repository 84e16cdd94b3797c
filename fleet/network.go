package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"bollard/internal/failpoint"
	"bollard/ledger"
	"bollard/ocpp"
)

// needsProfile: another profile is wanted, and what it stands on is there as far
// as Bollard can tell.
func (s *Service) needsProfile(ctx context.Context, sit *situation) bool {
	if sit.st.lowering(sit.now) {
		return s.needsLower(ctx, sit)
	}
	if sit.st.WantedProfile <= sit.adm.Profile || sit.st.Pending != nil || !s.idle(ctx, sit) {
		return false
	}
	// From profile 1 the station needs the CSMS root first (A05.FR.03). Stations
	// refuse certificate messages there (libocpp #857) and may have it all the
	// same: once that was tried to its end, the station judges itself.
	tried := sit.plan.Tries[StepRoots]
	return sit.adm.Profile > 1 || tried.Count > 0 && tried.Begun.IsZero() || !s.needsRoots(ctx, sit)
}

// switchProfile asks the station to come back on another security profile
// (A05). The one it has stays accepted until it was seen on the new one.
func (s *Service) switchProfile(ctx context.Context, sit *situation) (string, bool, error) {
	profile := sit.st.WantedProfile
	const what = "couldn't change the security profile"
	var err error
	if profile < sit.adm.Profile {
		if err := s.allowsLower(ctx, sit); err != nil {
			return what, false, err
		}
	}
	if sit.sess.Version() == ocpp.V16 {
		err = s.switch16(ctx, sit.sess, profile)
	} else {
		err = s.switch2(ctx, sit, profile)
	}
	if err != nil {
		return what, false, pointless(err)
	}
	s.recordStep(ctx, sit.sess, "plan.profile", profileData(profile))
	return fmt.Sprintf("asked to come back on security profile %d", profile), false, nil
}

// switch16: the station disconnects and comes back by itself on Accepted
// (A05.FR.05); real ones may want a reset (OCTT TC_083).
func (s *Service) switch16(ctx context.Context, sess Session, profile int) error {
	status, err := call(ctx, sess, ocpp.ActionChangeConfiguration,
		ocpp.ChangeConfigurationRequest16{Key: "SecurityProfile", Value: strconv.Itoa(profile)}, ocpp.StatusAccepted, ocpp.StatusRebootRequired)
	if err == nil && status == ocpp.StatusRebootRequired {
		err = s.restart(ctx, sess)
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
func (s *Service) switch2(ctx context.Context, sit *situation, profile int) error {
	if profile == 2 {
		inSlots, err := keepsInSlots(ctx, sit)
		if err != nil {
			return err
		}
		if inSlots {
			return s.moveWithPassword(ctx, sit, slotPlan{profile: profile, url: s.cfg.PublicURL})
		}
	}
	priority, active, err := networkProfiles(ctx, sit.sess)
	if err != nil {
		return err
	}
	// The slot of an earlier try that came to nothing after this point is first
	// already: the station only has to restart.
	if mine := sit.plan.Slot; mine == "" || sit.plan.SlotProfile != profile || priority[0] != mine || mine == active {
		if priority, err = withoutSlot(ctx, sit.sess, priority, staleSlot(&sit.plan, active)); err != nil {
			return err
		}
		slot, err := s.fillSlot(ctx, sit, slotPlan{profile: profile, url: s.cfg.PublicURL, mine: sit.plan.Slot, note: func(p *Plan, slot string) {
			p.Slot, p.SlotProfile = slot, profile
		}}, priority, active)
		if err != nil {
			return err
		}
		failpoint.Hit("fleet.plan-slot-filled")
		order := append([]string{slot}, priority...)
		if err := setPriority(ctx, sit.sess, order); err != nil {
			return err
		}
		failpoint.Hit("fleet.plan-slot-first")
	}
	return s.restart(ctx, sit.sess)
}

// networkProfiles asks for the order of slots and the one in use.
func networkProfiles(ctx context.Context, sess Session) (priority []string, active string, err error) {
	vars, err := getVariables(ctx, sess, ocpp.Component{Name: "OCPPCommCtrlr"}, "NetworkConfigurationPriority", "ActiveNetworkProfile")
	if err != nil {
		return nil, "", err
	}
	priority = splitList(vars["NetworkConfigurationPriority"])
	active = strings.TrimSpace(vars["ActiveNetworkProfile"])
	if len(priority) == 0 {
		if active == "" {
			return nil, "", errors.New("station tells neither NetworkConfigurationPriority nor ActiveNetworkProfile: set the network profile on the station")
		}
		priority = []string{active}
	}
	return priority, active, nil
}

func setPriority(ctx context.Context, sess Session, order []string) error {
	if _, err := setVariable(ctx, sess, ocpp.Component{Name: "OCPPCommCtrlr"}, "NetworkConfigurationPriority", strings.Join(order, ",")); err != nil {
		return fmt.Errorf("couldn't put network profile %s first: %w", order[0], err)
	}
	return nil
}

// slotPlan is what a network profile slot is filled with.
type slotPlan struct {
	profile  int
	url      string
	mine     string                     // slot of an earlier try, or ""
	note     func(p *Plan, slot string) // or nil
	password string                     // the slot's own (2.1), or ""
}

// fillSlot writes the new network profile into a slot that isn't in use
// (B09.FR.21) and returns it. The slot is recorded before it is written: a try
// that was cut off is repeated on the same one.
func (s *Service) fillSlot(ctx context.Context, sit *situation, want slotPlan, used []string, active string) (string, error) {
	sess := sit.sess
	data := ocpp.NetworkProfile{
		OCPPVersion: "OCPP20", OCPPTransport: "JSON", OCPPCSMSURL: want.url,
		MessageTimeout: profileTimeout, SecurityProfile: want.profile, OCPPInterface: "Wired0",
	}
	if sess.Version() == ocpp.V21 {
		data.OCPPVersion, data.OCPPInterface, data.BasicAuthPassword = "OCPP21", "Any", want.password
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
	refused := errors.New("station has no slot that isn't in use")
	for _, slot := range freeSlots(want.mine, used, active) {
		plan, err := s.store.UpdatePlan(ctx, sit.l.key, func(p *Plan) ([]ledger.Event, error) {
			want.note(p, slot)
			return nil, nil
		})
		if err != nil {
			return "", fmt.Errorf("couldn't record the network profile's slot: %w", err)
		}
		sit.plan = plan
		failpoint.Hit("fleet.plan-slot")
		if err = s.setSlot(ctx, sess, slot, &data); err == nil {
			return slot, nil
		}
		if !answered(err) {
			return "", err
		}
		refused = err
	}
	return "", fmt.Errorf("couldn't set a network profile: %w", refused)
}

// freeSlots are the slots to try, the one of an earlier try first.
func freeSlots(mine string, used []string, active string) []string {
	var list []string
	for n := firstSlot; n <= lastSlot; n++ {
		if slot := strconv.Itoa(n); slot != active && !slices.Contains(used, slot) {
			list = append(list, slot)
		}
	}
	if i := slices.Index(list, mine); i > 0 {
		list = append([]string{mine}, slices.Delete(list, i, i+1)...)
	}
	return list[:min(len(list), slotTries)]
}

// setSlot writes one slot. 2.1 stations may have the NetworkConfiguration
// component instead of SetNetworkProfile, which it deprecates.
func (s *Service) setSlot(ctx context.Context, sess Session, slot string, data *ocpp.NetworkProfile) error {
	n, err := strconv.Atoi(slot)
	if err != nil {
		return fmt.Errorf("slot %.8q is no number", slot)
	}
	_, err = call(ctx, sess, ocpp.ActionSetNetworkProfile, ocpp.SetNetworkProfileRequest{ConfigurationSlot: n, ConnectionData: *data}, ocpp.StatusAccepted)
	if err == nil {
		return slotPassword(ctx, sess, slot, data)
	}
	if sess.Version() != ocpp.V21 || !answered(err) {
		return err
	}
	component := ocpp.Component{Name: "NetworkConfiguration", Instance: slot}
	values := [][2]string{
		{"OcppCsmsUrl", data.OCPPCSMSURL}, {"OcppInterface", data.OCPPInterface}, {"OcppTransport", data.OCPPTransport},
		{"MessageTimeout", strconv.Itoa(data.MessageTimeout)}, {"SecurityProfile", strconv.Itoa(data.SecurityProfile)},
	}
	if data.BasicAuthPassword != "" {
		values = append(values, [2]string{"BasicAuthPassword", data.BasicAuthPassword})
	}
	for _, v := range values {
		if _, failed := setVariable(ctx, sess, component, v[0], v[1]); failed != nil {
			if !answered(failed) {
				return failed
			}
			return fmt.Errorf("SetNetworkProfile: %w; NetworkConfiguration.%s: %w", err, v[0], failed)
		}
	}
	return nil
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
