package contract

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"bollard/ca"
	"bollard/iso15118/identifier"
	"bollard/iso15118/message"
	"bollard/ledger"
	"bollard/ocpp"
)

// Pool is a provider elsewhere that answers cars. *pool.Client is one.
type Pool interface {
	// Ask hands a car's request on as it came and returns the answers there are for
	// it, the preferred one first; none if there is nothing for the car. It ends with
	// ctx. The error says nothing of the request. Safe for concurrent use.
	Ask(ctx context.Context, p message.Protocol, exi []byte) ([][]byte, error)
}

// Outside is a pool and what it is asked for.
type Outside struct {
	Name string // for the log and the ledger
	Pool Pool
	// Providers are those whose accounts it has; none: anybody's.
	Providers []identifier.Provider
	// Roots are the V2G roots its answers are signed under, by the SHA-256 of their
	// DER; none: that isn't known.
	Roots []string
}

const (
	// longestWait is for pools if nobody says how long they wait.
	longestWait = 10 * time.Second
	// reserve is left of the wait for judging, recording and handing on.
	reserve = 500 * time.Millisecond
	// fairTurn is what a pool must have had to be remembered as late: a connection and an
	// answer take it.
	fairTurn = 250 * time.Millisecond
)

// What became of a pool that was asked, in the ledger.
const (
	poolAnswered = "answered"
	poolNothing  = "nothing"
	poolLate     = "late"
	poolFailed   = "failed"
	poolUnfit    = "unfit" // its answer isn't one for this car
)

// forward asks pools of others, one after the other, for a car that there is nothing
// for here: each for its share of the time that is left, so that one that hangs keeps
// none of the others. own is what the car is told if there is none to ask.
func (s *Service) forward(ctx context.Context, in Request, r *message.Request, own *Fault) (Answer, *Fault, error) {
	list, err := s.candidates(ctx, in, r)
	if err != nil || len(list) == 0 {
		return Answer{}, own, err
	}
	left := longestWait
	if in.Left != nil {
		left = in.Left() - reserve
	}
	wait, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	end, _ := wait.Deadline()
	var said *Fault
	var course, outcomes []string
	for i, p := range list {
		key := askedOf(&p, in, r)
		before, known := s.inVain(key)
		outcome, no := before.outcome, before.said
		if !known {
			share := time.Until(end) / time.Duration(len(list)-i)
			turn, done := context.WithTimeout(wait, share)
			answers, err := p.Pool.Ask(turn, r.Protocol, in.EXI)
			late := turn.Err() != nil
			done()
			outcome = poolNothing
			switch {
			case err != nil && late:
				outcome = poolLate
			case err != nil:
				outcome = poolFailed
			}
			if err != nil {
				s.log.Warn("a pool didn't answer for a car", "pool", p.Name, "err", err)
			}
			for _, exi := range answers {
				a, unfit := s.judge(wait, p, r, exi)
				switch {
				case unfit != nil:
					outcome = poolUnfit
					s.log.Warn("a pool's answer isn't given to the car", "pool", p.Name, "reason", unfit.Error())
				case !good(a.Code):
					if no == nil {
						no = &Fault{code2: a.Code, code20: a.Code, Reason: "pool " + p.Name + " answers " + a.Code, retry: a.Retry}
					}
				default:
					return s.handOn(ctx, in, r, p, a, exi, append(course, p.Name+"="+poolAnswered))
				}
			}
			// Whose turn was cut, since nobody waits any more, wasn't late.
			if outcome != poolLate || ctx.Err() == nil && share >= fairTurn {
				s.remember(key, outcome, no)
			}
		}
		if said == nil && no != nil {
			copied := *no // its record is this request's
			said = &copied
		}
		outcomes = append(outcomes, outcome)
		if known {
			outcome += remembered
		}
		course = append(course, p.Name+"="+outcome)
	}
	if said == nil {
		said = own
		if slices.ContainsFunc(outcomes, func(o string) bool { return o != poolNothing }) {
			said = unavailable("no pool had an answer that can be given to the car: " + strings.Join(course, ", "))
		}
	}
	said.pools = strings.Join(course, " ")
	return Answer{}, said, nil
}

// handOn gives a pool's answer to the car: as it came, but for the session, which no
// signature covers and answers made in advance don't know.
func (s *Service) handOn(ctx context.Context, in Request, r *message.Request, p Outside, a *message.Response, exi []byte, course []string) (Answer, *Fault, error) {
	out := Answer{EXI: exi, Code: a.Code, Remaining: int(a.Remaining)}
	if !bytes.Equal(a.Session, r.Session) {
		a.Session = r.Session
		var err error
		if out.EXI, err = a.Encode(); err != nil {
			return Answer{}, nil, err
		}
	}
	out, _, err := s.give(ctx, in, out, ledger.Event{Kind: "contract.delivered", Subject: hexOf(in.EXI)[:16], Actor: in.Actor, Data: map[string]string{
		"pool": p.Name, "pools": strings.Join(course, " "), "protocol": r.Protocol.String(), "update": strconv.FormatBool(r.Update),
	}})
	return out, nil, err
}

// candidates are the pools to ask, in the order of the configuration: those that
// have the accounts the car names, if it names any; and of these, if the car names a
// root of one, those that don't sign under other roots. What cars write as a root's
// name is free text, so that a list which fits none is none.
func (s *Service) candidates(ctx context.Context, in Request, r *message.Request) ([]Outside, error) {
	if in.Final {
		return nil, nil
	}
	named := append(slices.Clone(in.Prioritized), r.Prioritized...)
	if r.Update {
		named = append(named, r.EMAID)
	}
	wanted := accounts(named)
	list := slices.DeleteFunc(slices.Clone(s.pools), func(p Outside) bool {
		return len(p.Providers) > 0 && len(wanted) > 0 &&
			!slices.ContainsFunc(wanted, func(e identifier.EMAID) bool { return slices.Contains(p.Providers, e.Provider()) })
	})
	if !slices.ContainsFunc(list, func(p Outside) bool { return len(p.Roots) > 0 }) {
		return list, nil
	}
	trusted, err := s.v2gRoots(ctx, r.Protocol)
	if err != nil {
		return nil, err
	}
	fits := func(p Outside) bool {
		return slices.ContainsFunc(trusted, func(root *x509.Certificate) bool {
			return slices.Contains(p.Roots, hexOf(root.Raw)) && slices.ContainsFunc(r.Roots, func(id message.RootID) bool { return names(id, root) })
		})
	}
	if slices.ContainsFunc(list, fits) {
		list = slices.DeleteFunc(list, func(p Outside) bool { return len(p.Roots) > 0 && !fits(p) })
	}
	return list, nil
}

// names tells whether a car means a root: by serial number, and by the common name
// somewhere in what it writes for the issuer.
func names(id message.RootID, root *x509.Certificate) bool {
	return id.Serial != nil && id.Serial.Cmp(root.SerialNumber) == 0 && strings.Contains(id.Issuer, root.Subject.CommonName)
}

// v2gRoots are the own V2G roots of an edition and those trusted for the use v2g.
func (s *Service) v2gRoots(ctx context.Context, p message.Protocol) ([]*x509.Certificate, error) {
	list, err := s.rootsFor(ctx, kindsOf(p, nil).v2g, "v2g")
	if p == message.ISO20 {
		list = append(list, s.authority.Roots(ca.KindV2G448)...)
	}
	return list, err
}

// good tells a code with a contract from one without.
func good(code string) bool { return code == "OK" || strings.HasPrefix(code, "OK_") }

// judge reads what a pool answers. With a contract it has to be what this car could
// take: signed by a CPS under a V2G root that is trusted here, all of it, for an
// account of the pool's providers. Only the car can open the key.
func (s *Service) judge(ctx context.Context, p Outside, r *message.Request, exi []byte) (*message.Response, error) {
	a, err := message.DecodeResponse(r.Protocol, exi)
	switch {
	case err != nil:
		return nil, fmt.Errorf("it can't be read: %w", err)
	case a.Update != r.Update:
		return nil, errors.New("it is an answer to another kind of request")
	case !good(a.Code):
		return a, nil
	}
	if _, fault, err := s.signedByCPS(ctx, a); err != nil {
		return nil, err
	} else if fault != nil {
		return nil, fault
	}
	now := s.clock()
	chain, fault := parse(a.Contract)
	if fault != nil {
		return nil, fault
	}
	account, err := identifier.ParseEMAID(chain[0].Subject.CommonName)
	if err != nil {
		return nil, errors.New("its contract certificate names no account")
	}
	inside, unreadable := identifier.ParseEMAID(a.EMAID)
	named, unnamed := identifier.ParseEMAID(r.EMAID)
	switch {
	case !s.fits(r.Protocol, chain[0]):
		return nil, errors.New("its contract certificate is of another edition")
	case now.After(chain[0].NotAfter):
		return nil, errors.New("its contract certificate has expired")
	case r.Protocol == message.ISO2 && (unreadable != nil || !inside.Same(account)), r.Update && (unnamed != nil || !named.Same(account)):
		return nil, errors.New("it is for another account than its certificate or the request")
	case len(p.Providers) > 0 && !slices.Contains(p.Providers, account.Provider()):
		return nil, errors.New("its contract is of a provider that isn't among contracts.pools[].providers")
	}
	// As at Authorize: where no root of others is trusted for mo, that is for cars and
	// back ends to judge.
	if vets, err := s.Vets(ctx); err != nil || !vets {
		return a, err
	}
	if fault, err := s.verifyContract(ctx, r.Protocol, chain, now); err != nil {
		return nil, err
	} else if fault != nil {
		return nil, fmt.Errorf("its contract certificate: %w", fault)
	}
	return a, nil
}

// Elsewhere tells whether a request is for nobody here: its car has no contract in
// force here, and no pool is there to be asked. What can't be read is for us to refuse.
func (s *Service) Elsewhere(ctx context.Context, question *ocpp.Get15118EVCertificateRequest) (bool, error) {
	in, err := requestOf(question)
	if err != nil || len(in.EXI) > maxEXI {
		return false, nil //nolint:nilerr // refused when it is answered
	}
	r, err := message.DecodeRequest(in.Protocol, in.EXI)
	if err != nil {
		return false, nil //nolint:nilerr // as above
	}
	chain, fault := parse(message.Chain{Certificate: r.Chain.Certificate})
	if fault != nil {
		return false, nil //nolint:nilerr // as above
	}
	if list, err := s.candidates(ctx, in, r); err != nil || len(list) > 0 {
		return false, err
	}
	if r.Update {
		_, ours, err := s.contractOf(ctx, chain[0])
		return !ours, err
	}
	pcid, err := identifier.ParsePCID(chain[0].Subject.CommonName)
	if err != nil {
		return true, nil //nolint:nilerr // no car of ours
	}
	list, err := s.contractsOf(ctx, pcid, r.Protocol, chain[0])
	return !s.anyInForce(list), err
}

func (s *Service) anyInForce(list []Contract) bool {
	now := s.clock()
	return slices.ContainsFunc(list, func(c Contract) bool { return c.InForce(now) })
}
