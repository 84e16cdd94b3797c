// Package rollout paces one change over many members, such as stations: in
// waves, within limits per minute and per site, and halting where more fail
// than was allowed. It decides who begins when; what beginning means, and
// whether a member is done, its caller says.
//
// It promises that no member begins twice, that none begins while the rollout
// is paused or halted or before its wave, and that what Changes returned is
// enough to go on after a crash. It is pure: time and presence are arguments,
// and the order is a hash of names, so that it is the same on every machine.
package rollout

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Rules of a rollout.
type Rules struct {
	// Waves are shares of the members, cumulative and rising; the last is 1. A
	// first one of 0 has those alone that are to go first.
	Waves []float64 `json:"waves"`
	// Spread is over how long the beginnings are spread if everything goes well.
	Spread time.Duration `json:"spread"`
	Soak   time.Duration `json:"soak"` // between the end of a wave and the next
	// Patience is how long a member may take; after it, it has failed. An absent
	// one is waited for as long before its wave ends without it.
	Patience  time.Duration `json:"patience"`
	PerMinute int           `json:"per_minute"` // beginnings in any minute
	PerSite   int           `json:"per_site"`   // of one site at work at once; 0: any
	// FailLimit is the share of a wave that may fail: of n members, the whole
	// part of n × FailLimit.
	FailLimit float64 `json:"fail_limit"`
	// Sample is how many of a wave, or all of a smaller one, must have come to an
	// end before the next: absent members are waited for.
	Sample int `json:"sample,omitempty"`
	// Bound is the success a wave has to show: the lower end of its share's 95 %
	// interval (Wilson). A wave too small to show it must have no failure.
	Bound float64 `json:"bound,omitempty"`
	// Proof: no wave ends with nobody of it done while others of it could be, and the
	// last one not before anybody is.
	Proof bool `json:"proof,omitempty"`
	// Compare: after Soak a wave's members may show no more signs, and be away no more
	// often, than those that wait for their turn; those of the last wave, than they did
	// themselves while the wave before soaked.
	Compare bool `json:"compare,omitempty"`
}

// Validate names the first rule that makes no sense.
func (r *Rules) Validate() error {
	switch {
	case len(r.Waves) == 0 || len(r.Waves) > maxWaves:
		return fmt.Errorf("waves: give 1 to %d shares", maxWaves)
	case r.Waves[len(r.Waves)-1] != 1:
		return errors.New("waves: the last share must be 100%, or some members would never begin")
	case r.Waves[0] < 0 || !slices.IsSortedFunc(r.Waves, func(a, b float64) int {
		if a <= b { // equal ones would be an empty wave
			return -1
		}
		return 1
	}):
		return errors.New("waves: the shares must rise, up to 100%")
	case r.PerMinute < 1 || r.PerMinute > maxPerMinute:
		return fmt.Errorf("per-minute: give 1 to %d", maxPerMinute)
	case r.PerSite < 0:
		return errors.New("per-site can't be negative")
	case r.FailLimit < 0 || r.FailLimit >= 1:
		return errors.New("fail-limit: give a share from 0% to less than 100%")
	case r.Sample < 0:
		return errors.New("sample can't be negative")
	case r.Bound < 0 || r.Bound >= 1:
		return errors.New("bound: give a share from 0% to less than 100%")
	case r.Patience < time.Minute || r.Patience > maxTime:
		return fmt.Errorf("patience: give a minute to %s", maxTime)
	case r.Spread < 0 || r.Spread > maxTime || r.Soak < 0 || r.Soak > maxTime:
		return fmt.Errorf("spread and soak: give at most %s", maxTime)
	}
	return nil
}

const (
	maxWaves     = 10
	maxPerMinute = 100_000
	maxTime      = 90 * 24 * time.Hour
)

// Phase of a rollout.
type Phase string

// The phases. Halted is paused by the rules themselves.
const (
	Running   Phase = "running"
	Paused    Phase = "paused"
	Halted    Phase = "halted"
	Finished  Phase = "finished"
	Cancelled Phase = "cancelled"
)

// Over says that nothing more will happen.
func (p Phase) Over() bool { return p == Finished || p == Cancelled }

// Header is what is kept of a rollout beside its members.
type Header struct {
	Rules  Rules     `json:"rules"`
	Phase  Phase     `json:"phase"`
	Why    string    `json:"why,omitempty"`
	Wave   int       `json:"wave"` // present one, from 0
	WaveAt time.Time `json:"wave_at"`
	// Settled is when the present wave had its end, zero before.
	Settled time.Time `json:"settled,omitzero"`
	Failed  int       `json:"failed"` // while the present wave ran
	// Accepted are failures of the present wave that a resumption accepted.
	Accepted int `json:"accepted,omitempty"`
	// Heeded: what the present wave shows halted it, and is for people to judge.
	Heeded bool `json:"heeded,omitempty"`
	// Soaked: the present wave's Soak is over, and what members that wait for their turn
	// showed in it is kept as their past.
	Soaked bool `json:"soaked,omitempty"`
	// Past is 1 + the wave whose soak is the past of the present one's members; 0: none.
	Past int `json:"past,omitempty"`
}

// State of a member.
type State string

// A member waits, is at work, and is then done, failed, or left: it was never
// there, had no need of it, or the rollout ended before its turn.
const (
	Waiting State = "waiting"
	Begun   State = "begun"
	Done    State = "done"
	Failed  State = "failed"
	Left    State = "left"
)

// Member is one that is to change.
type Member struct {
	ID    string
	Site  string
	Wave  int
	Slot  float64 // its place within the time of its wave, 0 to 1
	State State
	Began time.Time // zero before
	At    time.Time // of State
	Note  string
	Signs Signs // while a wave soaked, its own or the one before its turn
}
