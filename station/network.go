package station

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"bollard/ocpp"
)

// slots is how many network profiles fit (B09.FR.06 wants two at least).
const slots = 4

// endpoint is one way to the CSMS: a network profile of 2.x, or a security
// profile of 1.6, which has no slots.
type endpoint struct {
	Slot     int
	URL      string
	Profile  int
	Password []byte // nil: the station's
}

// network is what a station knows of ways to its CSMS.
type network struct {
	slots    map[int]endpoint
	priority []int // NetworkConfigurationPriority
	active   int
	// wanted is the security profile a 1.6 station was told to move to; 0: none.
	wanted int
}

func newNetwork(cfg Config) network {
	first := endpoint{Slot: 1, URL: cfg.URL, Profile: cfg.Profile}
	return network{slots: map[int]endpoint{1: first}, priority: []int{1}, active: 1}
}

// plan lists the endpoints to try, in order. After a reboot it starts with the
// first slot (A05.FR.05, B10.FR.04), otherwise with the one in use; the old one
// is always among them as the way back (A05.FR.08 [1.6], B10.FR.07).
func (s *Station) plan() []endpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.isV2() {
		var out []endpoint
		for _, profile := range []int{s.net.wanted, s.state.Profile} {
			if profile == 0 {
				continue
			}
			url := s.cfg.URL
			if other, ok := s.cfg.ProfileURL[profile]; ok {
				url = other
			}
			out = append(out, endpoint{Slot: 1, URL: url, Profile: profile})
		}
		return out
	}
	order := slices.Clone(s.net.priority)
	if i := slices.Index(order, s.net.active); i > 0 && !s.reboot {
		order = append([]int{s.net.active}, slices.Delete(order, i, i+1)...)
	}
	if !slices.Contains(order, s.net.active) {
		order = append(order, s.net.active)
	}
	var out []endpoint
	for _, slot := range order {
		if e, ok := s.net.slots[slot]; ok {
			out = append(out, e)
		}
	}
	return out
}

// arrived records that an endpoint has connected. Under mu.
// A higher profile is kept for good: lower slots are deleted and leave the
// priority list (A05.FR.06).
func (s *Station) arrived(e endpoint) (switched bool) {
	switched = s.net.active != e.Slot || s.state.Profile != e.Profile
	s.net.wanted = 0
	s.net.active = e.Slot
	if e.Password != nil {
		s.set.password = e.Password
	}
	if e.Profile > s.state.Profile {
		for slot, other := range s.net.slots {
			if other.Profile < e.Profile {
				delete(s.net.slots, slot)
			}
		}
		s.net.priority = slices.DeleteFunc(s.net.priority, func(slot int) bool {
			_, ok := s.net.slots[slot]
			return !ok
		})
	}
	if !s.isV2() {
		s.net.slots = map[int]endpoint{1: e}
	}
	s.state.Slot, s.state.Profile = e.Slot, e.Profile
	return switched
}

// ready says why the station can't move to a security profile, or "".
// (A05.FR.02–.04 [1.6], A05.FR.02/.03 [2.x]). Under mu.
func (s *Station) ready(profile int, password []byte) string {
	if profile < 3 && len(password) == 0 {
		return "no password is set"
	}
	if profile > 1 && len(s.trust.list(csmsRoot)) == 0 {
		return "no CSMS root certificate is installed"
	}
	if profile > 2 && len(s.keys.candidates()) == 0 {
		return "no station certificate is installed"
	}
	return ""
}

// parsePriority reads a NetworkConfigurationPriority: known, configured slots,
// each once, with the preconditions of their security profiles met (A05.FR.02,
// .03, B10.FR.02). Under mu.
func (s *Station) parsePriority(value string) ([]int, error) {
	var out []int
	for text := range strings.SplitSeq(value, ",") {
		slot, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("slot %q is no number", text)
		}
		e, ok := s.net.slots[slot]
		if !ok || slices.Contains(out, slot) {
			return nil, fmt.Errorf("slot %d is not configured or named twice", slot)
		}
		password := s.set.password
		if e.Password != nil {
			password = e.Password
		}
		if why := s.ready(e.Profile, password); why != "" {
			return nil, fmt.Errorf("slot %d: %s", slot, why)
		}
		out = append(out, slot)
	}
	return out, nil
}

func (s *Station) formatPriority() string {
	var out []string
	for _, slot := range s.net.priority {
		out = append(out, strconv.Itoa(slot))
	}
	return strings.Join(out, ",")
}

// isV2 says that the station speaks OCPP 2.0.1 or 2.1. Under mu.
func (s *Station) isV2() bool { return s.state.Version != 0 && s.state.Version != ocpp.V16 }
