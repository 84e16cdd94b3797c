package contract

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"bollard/iso15118/message"
)

// What a pool said or didn't say about a car is remembered for so long, and each request
// of the car doesn't ask anew: a no longer than silence, after which the answer may be
// ready.
const (
	refusalKept = 30 * time.Second
	silenceKept = 10 * time.Second
)

// remembered marks in the ledger what a pool wasn't asked again about.
const remembered = ",remembered"

// vain is a question to a pool that brought nothing.
type vain struct {
	outcome string
	said    *Fault // the pool's own no; nil: it said none
	until   time.Time
}

// askedOf names what a pool is asked about: a car and its wishes, whatever its session
// and signature. Only who has the car's key gets as far as to be remembered.
func askedOf(p *Outside, in Request, r *message.Request) string {
	named := slices.Concat([]string{p.Name, r.Protocol.String(), strconv.FormatBool(r.Update), r.EMAID}, in.Prioritized, r.Prioritized)
	return hexOf(append([]byte(strings.Join(named, "\n")+"\n"), r.Chain.Certificate...))
}

// inVain tells what came of a question the last time, if that was just now.
func (s *Service) inVain(key string) (vain, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.vain[key]
	if ok && !s.clock().Before(v.until) {
		delete(s.vain, key)
		ok = false
	}
	return v, ok
}

// remember keeps what came of a question, if another one so soon would bring no more:
// an answer that doesn't fit may fit once the operator has seen to it.
func (s *Service) remember(key, outcome string, said *Fault) {
	kept := silenceKept
	switch outcome {
	case poolNothing:
		kept = refusalKept
	case poolLate, poolFailed:
	default:
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.vain) >= maxTracked {
		clear(s.vain)
	}
	s.vain[key] = vain{outcome, said, s.clock().Add(kept)}
}
