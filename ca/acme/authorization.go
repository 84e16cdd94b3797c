package acme

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"bollard/internal/failpoint"
	"bollard/ledger"
)

// attemptTimeout bounds the judgement of one answer.
const attemptTimeout = 20 * time.Second

// The id of an authorization is its order's and its place in it; that of a
// challenge has the place of the challenge besides.
func authorizationID(order string, i int) string { return order + "." + strconv.Itoa(i) }
func challengeID(order string, i, j int) string {
	return authorizationID(order, i) + "." + strconv.Itoa(j)
}

// place reads an id: places are -1 where there is none.
func place(id string, parts int) (order string, at [2]int, ok bool) {
	fields := strings.Split(id, ".")
	if len(fields) != parts+1 {
		return "", at, false
	}
	for i, text := range fields[1:] {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || strconv.Itoa(n) != text {
			return "", at, false
		}
		at[i] = n
	}
	return fields[0], at, true
}

type shownAuthorization struct {
	Identifier Identifier       `json:"identifier"`
	Status     State            `json:"status"`
	Expires    time.Time        `json:"expires"`
	Challenges []shownChallenge `json:"challenges"`
}

type shownChallenge struct {
	Type      ChallengeType `json:"type"`
	URL       string        `json:"url"`
	Token     string        `json:"token"`
	Status    State         `json:"status"`
	Validated *time.Time    `json:"validated,omitempty"`
	Error     *Problem      `json:"error,omitempty"`
}

func (d *Door) showAuthorization(m *message, o *Order, i int) shownAuthorization {
	z := &o.Authorizations[i]
	out := shownAuthorization{Identifier: z.Identifier, Status: z.State, Expires: o.ExpiresAt, Challenges: []shownChallenge{}}
	for j := range z.Challenges {
		if z.State == StateValid && z.Challenges[j].State != StateValid {
			continue // what nobody has to answer any more (RFC 8555 §7.1.4)
		}
		out.Challenges = append(out.Challenges, d.showChallenge(m, o, i, j))
	}
	return out
}

func (d *Door) showChallenge(m *message, o *Order, i, j int) shownChallenge {
	c := &o.Authorizations[i].Challenges[j]
	out := shownChallenge{Type: c.Type, URL: d.link(m.Request, "challenge", challengeID(o.ID, i, j)), Token: c.Token, Status: c.State, Error: c.Problem}
	if !c.At.IsZero() {
		out.Validated = &c.At
	}
	return out
}

// authorization tells, and gives up, an authorization (RFC 8555 §7.5, §7.5.2).
func (d *Door) authorization(w http.ResponseWriter, m *message) error {
	id, at, ok := place(m.id, 1)
	if !ok {
		return noSuch()
	}
	o, err := d.own(m, id)
	if err != nil {
		return err
	}
	i := at[0]
	if i >= len(o.Authorizations) {
		return noSuch()
	}
	if len(m.payload) > 0 {
		var in struct {
			Status string `json:"status"`
		}
		if err := json.Unmarshal(m.payload, &in); err != nil || in.Status != string(StateDeactivated) {
			return problem(malformed, "an authorization can be deactivated, nothing else")
		}
		now := d.cfg.Clock()
		changed, err := d.cfg.Store.UpdateACMEOrder(m.Context(), o.ID, func(o *Order) ([]ledger.Event, error) {
			if s := &o.Authorizations[i].State; *s == StatePending || *s == StateValid {
				*s = StateDeactivated
			}
			o.settle(now)
			return nil, nil
		})
		if err != nil {
			return err
		}
		o = &changed
	} else if o, err = d.retry(m, o, i); err != nil {
		return err
	}
	d.retryAfter(w, o, i)
	return send(w, http.StatusOK, d.showAuthorization(m, o, i))
}

func noSuch() *Problem {
	return &Problem{Type: malformed, Detail: "there is no such resource", Status: http.StatusNotFound}
}

// challenge tells a challenge, or takes an answer to it and judges that at once
// (RFC 8555 §7.5.1). One answer is judged; a wrong one ends the order, since whoever
// is who they say gives a right one to the next. One that couldn't be judged is taken
// once more at any time (§8.2).
func (d *Door) challenge(w http.ResponseWriter, m *message) error {
	id, at, ok := place(m.id, 2)
	if !ok {
		return noSuch()
	}
	o, err := d.own(m, id)
	if err != nil {
		return err
	}
	i, j := at[0], at[1]
	if i >= len(o.Authorizations) || j >= len(o.Authorizations[i].Challenges) {
		return noSuch()
	}
	if len(m.payload) > 0 && o.awaits(i, j) {
		if !json.Valid(m.payload) {
			return problem(malformed, "the answer isn't JSON")
		}
		tried := m.account.ID + "\x00" + o.Authorizations[i].Identifier.Value
		if !d.failures.Allow(tried) {
			return Busy("an account's answers for one identifier come too often", perFailure.Every)
		}
		if o, err = d.judge(m, o, i, j); err != nil {
			return err
		}
	} else if o, err = d.retry(m, o, i); err != nil {
		return err
	}
	d.retryAfter(w, o, i)
	w.Header().Add("Link", "<"+d.link(m.Request, "authz", authorizationID(o.ID, i))+`>;rel="up"`)
	return send(w, http.StatusOK, d.showChallenge(m, o, i, j))
}

// judge has an answer judged and records what came of it.
func (d *Door) judge(m *message, o *Order, i, j int) (*Order, error) {
	z, c := o.Authorizations[i], o.Authorizations[i].Challenges[j]
	select {
	case d.attempts <- struct{}{}:
		defer func() { <-d.attempts }()
	default:
		return nil, Busy("too many answers are judged at once", 5*time.Second)
	}
	ctx, cancel := context.WithTimeout(m.Context(), attemptTimeout)
	defer cancel()
	proof, err := d.cfg.Desk.Prove(ctx, Attempt{
		Identifier: z.Identifier, Type: c.Type, Token: c.Token, KeyAuth: keyAuthorization(c.Token, m.account.Thumbprint), Payload: m.payload,
	})
	var open *undecided
	var p *Problem
	if err != nil && !errors.As(err, &open) && !errors.As(err, &p) {
		return nil, err
	}
	failpoint.Hit("acme.judged")
	now := d.cfg.Clock().UTC().Truncate(time.Second)
	changed, err := d.cfg.Store.UpdateACMEOrder(m.Context(), o.ID, func(o *Order) ([]ledger.Event, error) {
		o.settle(now)
		if !o.awaits(i, j) {
			return nil, nil // decided meanwhile
		}
		z := &o.Authorizations[i]
		c := &z.Challenges[j]
		if open != nil {
			if c.postpone(open.problem, now) {
				return nil, nil
			}
			p = open.problem
		}
		data := map[string]string{"identifier": clip(z.Identifier.Value), "challenge": string(c.Type)}
		event := ledger.Event{Kind: "acme.proven", Subject: Reference(o.ID), Actor: Requester(m.account.ID), Data: data}
		if p != nil {
			event.Kind, data["what"], data["why"] = "acme.refused", "challenge", clip(p.Error())
			c.State, c.Problem, z.State = StateInvalid, p, StateInvalid
		} else {
			c.State, c.Problem, c.At, c.Proof, z.State = StateValid, nil, now, proof, StateValid
		}
		o.settle(now)
		return []ledger.Event{event}, nil
	})
	why := p
	if open != nil {
		why = open.problem
	}
	if why != nil {
		d.log.Tell(m.Request, slog.LevelWarn, "ACME challenge failed", slog.String("account", m.account.ID), slog.String("identifier", clip(z.Identifier.Value)),
			slog.String("challenge", string(c.Type)), slog.String("why", why.Error()), slog.Bool("again", p == nil))
	}
	return &changed, err
}
