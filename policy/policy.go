// Package policy decides which messages between a station and its back end may
// go on: rules in YAML with conditions in CEL.
//
// It promises that one message, one rule set and the same counts always give the
// same decision, with the rule and the reason; that a condition which can't be
// evaluated counts against the message, never for it; and that judging a message
// costs no more than a fixed bound, whatever rule or message. It is pure: files,
// time and all state come in as arguments.
package policy

import (
	"encoding/json"
	"time"

	"cel.dev/cel-go/common/types/ref"

	"bollard/ocpp"
)

// Source is one rule file.
type Source struct {
	Name string // for errors
	Data []byte
}

// Config of a Set.
type Config struct {
	Files []Source // the operator's, in the order in which they count
	Bare  bool     // without the built-in rules
}

// Set is a checked set of rules. It never changes and is safe for concurrent use.
type Set struct {
	rules    []*rule // in the order in which they judge
	index    map[place]*group
	folded   map[string]string  // folded spelling of an indexed action → the action
	values   map[string]ref.Val // lists.NAME and numbers.NAME
	findings []*Error
}

// group are the rules for one place, in order.
type group struct {
	rewrites []*rule // before the others, as their fields need it
	rules    []*rule
	fields   map[string]string // folded → the spelling rules look at
}

// place is where a rule is looked up. Version 0 are the messages inside a plug &
// charge DataTransfer of 1.6, action "" those of which no rule names the action.
type place struct {
	version   ocpp.Version
	direction ocpp.Direction
	action    string
}

// Station is what rules may know of a station.
type Station struct {
	Identity, Serial, Vendor, Model string
	Profile                         int // security profile of the session, 1 to 3
}

// Input is one CALL or SEND and what is known about it. The functions are asked
// only if a rule wants to know; they may be nil.
type Input struct {
	Version         ocpp.Version
	Direction       ocpp.Direction
	Action          string // base action, "-Signed" taken off
	Signed          bool
	Payload         []byte // of -Signed, what was signed
	Station         Station
	Backend         string // its name
	BackendSecurity string // bollard, backend or observe
	Boot            Boot
	Now             time.Time // in the zone in which rules tell hours
	Counters        *Counters // nil: every count is 0
	// Anchors are the key hashes (Anchor) of the roots that may be installed, by
	// certificateType as a station is told.
	Anchors func() map[string][]string
	// Group is the one whose wants hold for the station, "" without one.
	Group func() string
	// Owner says whose transaction an id is.
	Owner func(id string) Owner
	// Released says whether the operator let this message past a rule that holds.
	Released func(rule string, message []byte) bool
}

// Boot is how far the session's BootNotification has come.
type Boot string

// BootNone: none was sent, as after a reconnect (B01). BootAsked: not answered yet.
const (
	BootNone     Boot = "none"
	BootAsked    Boot = "asked"
	BootAccepted Boot = "accepted"
	BootPending  Boot = "pending"
	BootRejected Boot = "rejected"
)

// Owner of a transaction.
type Owner string

// OwnerOther is certain; what isn't known belongs to OwnerUnknown.
const (
	OwnerThis    Owner = "this"
	OwnerOther   Owner = "other"
	OwnerUnknown Owner = "unknown"
)

// Act is what becomes of a message.
type Act uint8

// Pass hands it on, rewritten if Decision.Rewritten says so. Refuse answers it.
// Hold refuses it until the operator releases it.
const (
	Pass Act = iota
	Refuse
	Hold
)

// String returns the word rule files use.
func (a Act) String() string { return [...]string{"pass", "refuse", "hold"}[min(a, Hold)] }

// Decision about one message.
type Decision struct {
	Act    Act
	Rule   string // that decided; "" if none did
	Reason string // the rule's, for the operator; holds nothing of the message
	// Answer is the payload of the CALLRESULT that says no; nil: a CALLERROR with Code.
	Answer any
	Code   ocpp.ErrorCode
	// Rewritten, with Pass, is the payload to hand on; Rewrites names the rules.
	Rewritten json.RawMessage
	Rewrites  []string
	// Held, with Hold, is the message in one canonical spelling, what Input.Released
	// is asked with. It may hold personal data.
	Held   []byte
	Shadow []Hit // what rules in shadow would have done
}

// Hit is a rule in shadow that a message met.
type Hit struct {
	Rule   string
	Then   string // what it would have done
	Failed bool   // its condition couldn't be evaluated
}

// Interest says whether any rule may want to see this base action. A spelling
// that differs by case or white space from one a rule names is of interest too:
// there is no such action, but peers exist that would obey it.
func (s *Set) Interest(v ocpp.Version, d ocpp.Direction, action string) bool {
	if s.at(v, d, action) != nil {
		return true
	}
	if v == ocpp.V16 && (action == ocpp.ActionDataTransfer || s.canonical(action) == ocpp.ActionDataTransfer) {
		for p := range s.index {
			if p.version == 0 && p.direction == d {
				return true
			}
		}
	}
	spelt := s.canonical(action)
	return spelt != action && s.at(v, d, spelt) != nil
}

// at returns the rules for an action, nil without any.
func (s *Set) at(v ocpp.Version, d ocpp.Direction, action string) *group {
	if g := s.index[place{v, d, action}]; g != nil {
		return g
	}
	return s.index[place{v, d, ""}]
}

// canonical is how a rule spells this action, itself if none does.
func (s *Set) canonical(action string) string {
	if spelt, ok := s.folded[fold(action)]; ok {
		return spelt
	}
	return action
}

// Reads says whether a rule's condition reads the variable, so that nobody keeps
// what nobody asks for.
func (s *Set) Reads(variable string) bool {
	for _, r := range s.rules {
		if r.reads[variable] && !r.dormant {
			return true
		}
	}
	return false
}

// Findings are what is odd about the operator's rules without making them
// unusable, such as a rule that can never match.
func (s *Set) Findings() []*Error { return s.findings }

// Rule describes one.
type Rule struct {
	Name    string   `json:"name"`
	File    string   `json:"file"`
	Line    int      `json:"line"`
	Mode    string   `json:"mode"` // enforce or shadow
	Then    string   `json:"then"`
	Reason  string   `json:"reason"`
	Promise int      `json:"promise,omitempty"` // the promise it keeps: it can't be taken back
	Dormant bool     `json:"dormant,omitempty"` // can't match with the lists as they are, and costs nothing
	Actions []string `json:"actions"`
	// BuiltIn rules come with the program.
	BuiltIn bool `json:"built_in"`
}

// Rules are all rules in the order in which they judge.
func (s *Set) Rules() []Rule {
	list := make([]Rule, len(s.rules))
	for i, r := range s.rules {
		list[i] = Rule{Name: r.name, File: r.file, Line: r.line, Mode: r.mode(), Then: r.then, Reason: r.reason,
			Promise: r.promise, Dormant: r.dormant, Actions: r.actions, BuiltIn: r.builtIn}
	}
	return list
}

// Rule returns the rule of this name.
func (s *Set) Rule(name string) (Rule, bool) {
	for _, r := range s.Rules() {
		if r.Name == name {
			return r, true
		}
	}
	return Rule{}, false
}

// StationHosts is lists.station_hosts: where stations may be sent, as HOST or
// HOST:PORT.
func (s *Set) StationHosts() []string {
	list, _ := texts(s.values["lists.station_hosts"]) // the built-in rules have it, Bare ones none
	return list
}
