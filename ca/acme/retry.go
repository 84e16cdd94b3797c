package acme

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// undecided is a challenge that couldn't be judged, through no fault of who answered it:
// our resolver failed, say. It is judged again when the client asks what became of it
// (RFC 8555 §8.2), so that nothing goes on here that nobody waits for.
type undecided struct{ problem *Problem }

func (u *undecided) Error() string { return u.problem.Error() }

// How often that is: a client asks for a minute or some, and the last of it is for who
// comes back. After that the challenge is invalid, as the standard has it end.
const (
	maxTries   = 8
	firstRetry = 3 * time.Second
	lastRetry  = 2 * time.Minute
)

// awaits says whether an answer to a challenge is still to be judged.
func (o *Order) awaits(i, j int) bool {
	z := &o.Authorizations[i]
	s := z.Challenges[j].State
	return o.State == StatePending && z.State == StatePending && (s == StatePending || s == StateProcessing)
}

// postpone leaves a challenge processing, with what was the matter; false if it was tried
// often enough.
func (c *Challenge) postpone(p *Problem, now time.Time) bool {
	c.Tries++
	if c.Tries >= maxTries {
		return false
	}
	c.State, c.Problem = StateProcessing, p
	c.Next = now.Add(min(firstRetry<<(c.Tries-1), lastRetry))
	return true
}

// retry judges a challenge of an authorization again that is processing and due.
func (d *Door) retry(m *message, o *Order, i int) (*Order, error) {
	for j := range o.Authorizations[i].Challenges {
		c := &o.Authorizations[i].Challenges[j]
		if c.State != StateProcessing || !o.awaits(i, j) || d.cfg.Clock().Before(c.Next) || !d.enter(o.ID) {
			continue
		}
		defer d.leave(o.ID)
		if d.count(m) != nil { // it connects, though nothing is answered
			return o, nil // later, then
		}
		changed, err := d.judge(m, o, i, j)
		var busy *Problem
		if errors.As(err, &busy) {
			return o, nil // likewise
		}
		return changed, err
	}
	return o, nil
}

// retryAfter tells when that is next (RFC 8555 §8.2).
func (d *Door) retryAfter(w http.ResponseWriter, o *Order, i int) {
	var wait []time.Duration
	for j := range o.Authorizations[i].Challenges {
		if c := &o.Authorizations[i].Challenges[j]; c.State == StateProcessing && o.awaits(i, j) {
			wait = append(wait, c.Next.Sub(d.cfg.Clock()))
		}
	}
	if len(wait) > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(max(1, int((slices.Min(wait)+time.Second-1)/time.Second))))
	}
}
