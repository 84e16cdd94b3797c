package contract

import (
	"slices"
	"strings"
	"time"

	"bollard/iso15118/identifier"
	"bollard/iso15118/message"
)

// A station asks for cars it has plugged in: ten at once and then one in ten
// seconds is more than any has. Each answer costs signatures and writes.
const (
	burst  = 10
	refill = 10 * time.Second
	// maxTracked bounds both maps: peers make their keys.
	maxTracked = 10_000
	// courseTime is how long a car may take to fetch its contracts one by one.
	courseTime = 10 * time.Minute
)

type allowance struct {
	left float64
	at   time.Time
}

// mayAsk takes one request from a station's allowance. An operator's are its own.
func (s *Service) mayAsk(actor string, now time.Time) bool {
	return !strings.HasPrefix(actor, stationActor) || s.within(actor, now)
}

// within takes one from an allowance.
func (s *Service) within(key string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.asked[key]
	if a == nil {
		if len(s.asked) >= maxTracked {
			clear(s.asked)
		}
		a = &allowance{left: burst, at: now}
		s.asked[key] = a
	}
	a.left = min(burst, a.left+now.Sub(a.at).Seconds()/refill.Seconds())
	a.at = now
	if a.left < 1 {
		return false
	}
	a.left--
	return true
}

const stationActor = "station:"

// course is how far a car of ISO 15118-20 is in fetching its contracts: it asks on
// in its session, signing anew or not, until none remains.
type course struct {
	given  []string // IDs, in their order
	passed []string // IDs of what went bad, and isn't given
	begun  time.Time
}

// choose picks the contract a request gets, and says how many remain.
func (s *Service) choose(in Request, r *message.Request, list []Contract, now time.Time) (Contract, int, *Fault) {
	if len(list) == 0 {
		return Contract{}, 0, noContract("no contract for this car").orElsewhere()
	}
	list = slices.DeleteFunc(slices.Clone(list), func(c Contract) bool { return !c.InForce(now) })
	if len(list) == 0 {
		return Contract{}, 0, cancelled("the contract is cancelled or over").orElsewhere()
	}
	wanted := accounts(append(slices.Clone(in.Prioritized), r.Prioritized...))
	place := func(c Contract) int {
		i := slices.IndexFunc(wanted, func(id identifier.EMAID) bool { return id.Same(c.EMAID) })
		if i < 0 {
			return len(wanted)
		}
		return i
	}
	slices.SortStableFunc(list, func(a, b Contract) int { return place(a) - place(b) })
	if r.Protocol == message.ISO2 {
		return list[0], 0, nil
	}
	if len(wanted) > 0 && place(list[0]) == len(wanted) {
		return Contract{}, 0, unknownAccount("none of the accounts the car names has a contract for it here").orElsewhere()
	}
	most := int(r.MaximumChains)
	if in.Most > 0 {
		most = min(most, in.Most)
	}
	if most < 1 {
		return Contract{}, 0, unavailable("the car has no room for a contract")
	}
	c, remaining, ok := s.next(courseOf(in, r), list, most, now)
	if !ok {
		return Contract{}, 0, unavailable("none of the contracts kept for the car is good any more").orElsewhere()
	}
	return c, remaining, nil
}

// courseOf is one car in one session at one station.
func courseOf(in Request, r *message.Request) string {
	return hexOf(slices.Concat([]byte(in.Actor+"\n"), r.Session, r.Chain.Certificate))
}

// accounts reads what can be read.
func accounts(texts []string) []identifier.EMAID {
	var list []identifier.EMAID
	for _, text := range texts {
		if id, err := identifier.ParseEMAID(text); err == nil {
			list = append(list, id)
		}
	}
	return list
}

// next is the next of the first most contracts of a course, which goes on once it is
// delivered; ok is false if all were passed over.
func (s *Service) next(key string, list []Contract, most int, now time.Time) (next Contract, remaining int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.courses[key]
	if c == nil || now.Sub(c.begun) > courseTime {
		c = &course{}
	}
	list = slices.DeleteFunc(list, func(of Contract) bool { return slices.Contains(c.passed, of.ID) })
	list = list[:min(len(list), most)]
	if len(list) == 0 {
		return Contract{}, 0, false
	}
	begins := func() bool { // with what was given, and goes on
		return len(c.given) < len(list) && slices.EqualFunc(c.given, list[:len(c.given)], func(id string, of Contract) bool { return id == of.ID })
	}
	if c.begun.IsZero() || !begins() {
		if len(s.courses) >= maxTracked {
			clear(s.courses)
		}
		c = &course{passed: c.passed, begun: now}
		s.courses[key] = c
	}
	return list[len(c.given)], len(list) - len(c.given) - 1, true
}

// delivered takes a course past a contract, once however many asked for it together.
func (s *Service) delivered(key, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.courses[key]; c != nil && !slices.Contains(c.given, id) {
		c.given = append(c.given, id)
	}
}

// pass leaves a contract out of what is left to choose from, and of its course.
func (s *Service) pass(key, id string, list []Contract) []Contract {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.courses[key]; c != nil {
		c.passed = append(c.passed, id)
	}
	return slices.DeleteFunc(list, func(c Contract) bool { return c.ID == id })
}
