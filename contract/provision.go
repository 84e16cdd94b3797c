package contract

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"time"

	"bollard/iso15118/identifier"
	"bollard/iso15118/message"
	"bollard/ledger"
	"bollard/ocpp"
)

// Request is what a station passes on for a car, or an operator from a file.
type Request struct {
	Protocol    message.Protocol
	Update      bool // the message is an update
	EXI         []byte
	Most        int      // contracts wanted in all, 0: as the message says
	Prioritized []string // eMAIDs wanted first, beside those of the message
	Actor       string   // who asks: "station:<key>", "operator"
	// Longest bounds the answer in characters of base64; 0: it doesn't.
	Longest int
	// Left is how long somebody still waits for the answer; nil: for as long as it takes.
	Left func() time.Duration
	// Final keeps a request from pools of others: it came from one.
	Final bool
}

// Answer is what goes back.
type Answer struct {
	// EXI is the car's answer, well-formed on failure too; empty if the request
	// couldn't be read.
	EXI       []byte
	Code      string           // its ResponseCode, "" without an answer
	Reason    string           // why not, for the operator; "": a certificate is in it
	Remaining int              // contracts the car can fetch by the same request
	Serial    string           // of the contract certificate
	EMAID     identifier.EMAID // its account; "" of what a pool of others answered
	// Withheld is OCPP's reason code for an answer that was made and doesn't go out.
	Withheld string
}

// maxEXI bounds a request: OCPP 2.1 carries 11,000 characters of base64.
const maxEXI = 16 << 10

// Provision answers a car's request for a contract certificate. An error means
// that nothing is known to be wrong with the request: the same may be tried again.
func (s *Service) Provision(ctx context.Context, in Request) (Answer, error) {
	now := s.clock()
	if !s.mayAsk(in.Actor, now) {
		return Answer{Reason: "certificates for cars are asked for too often"}, nil
	}
	if len(in.EXI) > maxEXI {
		return s.refuse(ctx, in, nil, noContract("a request of more than 16 KB"))
	}
	r, err := message.DecodeRequest(in.Protocol, in.EXI)
	if err != nil {
		return s.refuse(ctx, in, nil, noContract("the request can't be read: "+err.Error()))
	}
	if r.Update != in.Update {
		return s.refuse(ctx, in, r, badSignature("the request isn't of the kind its sender says"))
	}
	made, fault, err := s.answer(ctx, in, r, now)
	if err == nil && fault != nil && fault.elsewhere {
		made, fault, err = s.forward(ctx, in, r, fault)
	}
	switch {
	case err != nil:
		return Answer{}, err
	case fault != nil:
		return s.refuse(ctx, in, r, fault)
	}
	return made, nil
}

// refuse records and answers a failure.
func (s *Service) refuse(ctx context.Context, in Request, r *message.Request, fault *Fault) (Answer, error) {
	out := Answer{Reason: fault.Reason}
	if r != nil {
		var err error
		if out.EXI, err = fault.answer(r, s.clock().Unix()); err != nil {
			return Answer{}, err
		}
		out.Code = fault.Code(r.Protocol)
	}
	return out, s.recordRefusal(ctx, in, cmp.Or(out.Code, "none"), fault.pools)
}

// answer verifies a request, finds its contract, and makes or repeats the answer.
func (s *Service) answer(ctx context.Context, in Request, r *message.Request, now time.Time) (Answer, *Fault, error) {
	chain, fault := parse(r.Chain)
	if fault != nil {
		return Answer{}, fault, nil
	}
	if !s.fits(r.Protocol, chain[0]) {
		return Answer{}, badChain("the certificate's key isn't of the request's edition"), nil
	}
	// Who signed must hold the certificate's key, whatever it is worth.
	if fault := s.verifySignature(r, chain[0]); fault != nil {
		return Answer{}, fault, nil
	}
	var list []Contract
	var by maker // of an update nobody's: the contract's own key is replaced
	var err error
	if r.Update {
		list, fault, err = s.forUpdate(ctx, r, chain, now)
	} else {
		list, by, fault, err = s.forInstallation(ctx, r, chain, now)
	}
	if fault != nil || err != nil {
		return Answer{}, fault, err
	}
	c, remaining, fault := s.choose(in, r, list, now)
	for fault == nil && c.Foreign {
		a, bad, err := s.hand(ctx, in, r, &c, remaining, now)
		if bad == nil || err != nil {
			return a, nil, err
		}
		// What went bad keeps the car from none of the others.
		list = s.pass(courseOf(in, r), c.ID, list)
		if c, remaining, fault = s.choose(in, r, list, now); fault != nil || in.Left != nil && in.Left() <= reserve {
			fault = bad.orElsewhere()
		}
	}
	if fault != nil {
		return Answer{}, fault, nil
	}
	to, fault := receiverOf(r.Protocol, chain[0], by)
	if fault != nil {
		return Answer{}, fault, nil
	}
	b, fault, err := s.bundle(ctx, &c, r.Protocol, to, r.Update, in.Actor)
	if fault != nil || err != nil {
		return Answer{}, fault, err
	}
	a, err := message.DecodeResponse(r.Protocol, b.EXI)
	if err != nil {
		return Answer{}, nil, err
	}
	a.Session, a.Time, a.Remaining, a.CPS = r.Session, now.Unix(), int64(remaining), s.cpsChain(r, a.CPS)
	out := Answer{Code: a.Code, Remaining: remaining, Serial: b.Serial, EMAID: c.EMAID}
	if out.EXI, err = a.Encode(); err != nil {
		return Answer{}, nil, err
	}
	out, given, err := s.give(ctx, in, out, s.event("contract.delivered", &c, in.Actor, map[string]string{
		"serial": b.Serial, "protocol": r.Protocol.String(), "update": strconv.FormatBool(r.Update),
	}))
	if given {
		s.delivered(courseOf(in, r), c.ID)
	}
	return out, nil, err
}

// give records that an answer goes out, unless it doesn't.
func (s *Service) give(ctx context.Context, in Request, out Answer, delivered ledger.Event) (_ Answer, given bool, err error) {
	if n := base64.StdEncoding.EncodedLen(len(out.EXI)); in.Longest > 0 && n > in.Longest {
		// Never cut: a car can do nothing with a part.
		out, err = s.withhold(ctx, in, ocpp.ReasonTooLargeElement, fmt.Sprintf("the answer has %d characters, the station takes %d: "+
			"shorten organisation and public.status, or raise contracts.models[].max_response for a model that takes more", n, in.Longest))
		return out, false, err
	}
	if in.Left != nil && in.Left() <= 0 {
		out, err = s.withhold(ctx, in, ocpp.ReasonInternalError, "the answer came too late; the car's next request finds it")
		return out, false, err
	}
	// On record before it is given away.
	if err := s.store.Record(ctx, delivered); err != nil {
		return Answer{}, false, err
	}
	return out, true, nil
}

// withhold records that an answer doesn't go out.
func (s *Service) withhold(ctx context.Context, in Request, code, reason string) (Answer, error) {
	return Answer{Reason: reason, Withheld: code}, s.recordRefusal(ctx, in, code, "")
}

// forInstallation verifies the car's chain and returns its contracts, and its maker.
func (s *Service) forInstallation(ctx context.Context, r *message.Request, chain []*x509.Certificate, now time.Time) ([]Contract, maker, *Fault, error) {
	pcid, err := identifier.ParsePCID(chain[0].Subject.CommonName)
	if err != nil {
		return nil, maker{}, noContract("the certificate's common name isn't a car's"), nil
	}
	known, ok, err := s.store.Provisioning(ctx, pcid, r.Protocol)
	if err != nil {
		return nil, maker{}, nil, err
	}
	if ok {
		if string(known.Certificate) != string(chain[0].Raw) {
			return nil, maker{}, badChain("the car has another provisioning certificate than the one in the pool"), nil
		}
		more, fault := parse(message.Chain{Certificate: known.Certificate, SubCertificates: known.SubCertificates})
		if fault != nil {
			return nil, maker{}, fault, nil
		}
		chain = append(chain, more[1:]...)
	}
	list, err := s.contractsOf(ctx, pcid, r.Protocol, chain[0])
	if err != nil {
		return nil, maker{}, nil, err
	}
	by, fault, err := s.verifyCar(ctx, r.Protocol, chain, now)
	if err != nil {
		return nil, maker{}, nil, err
	}
	if fault != nil {
		// A car with a contract here has to prove itself here.
		fault.elsewhere = fault.elsewhere && !s.anyInForce(list)
		return nil, maker{}, fault, nil
	}
	return list, by, nil, nil
}

// forUpdate verifies the old contract's chain and returns the contract.
func (s *Service) forUpdate(ctx context.Context, r *message.Request, chain []*x509.Certificate, now time.Time) ([]Contract, *Fault, error) {
	fault, err := s.verifyContract(ctx, r.Protocol, chain, now)
	if err != nil {
		return nil, nil, err
	}
	c, ok, err := s.contractOf(ctx, chain[0])
	switch {
	case err != nil:
		return nil, nil, err
	case fault != nil && ok && c.State == StateCancelled:
		// Its certificate is revoked with it: say the former.
		return nil, cancelled("the contract is cancelled"), nil
	case fault != nil:
		return nil, fault, nil
	case !ok:
		return nil, noContract("the contract is another provider's").orElsewhere(), nil
	}
	named, err := identifier.ParseEMAID(r.EMAID)
	if err != nil || !named.Same(c.EMAID) {
		return nil, badChain("the request names another account than its certificate"), nil
	}
	return []Contract{c}, nil, nil
}

// contractOf finds the contract a certificate of ours was issued for.
func (s *Service) contractOf(ctx context.Context, cert *x509.Certificate) (c Contract, ok bool, err error) {
	record, known, err := s.authority.Status(ctx, cert)
	if err != nil {
		return c, false, err
	}
	emaid, unreadable := identifier.ParseEMAID(cert.Subject.CommonName)
	if !known || record.External || unreadable != nil {
		return c, false, nil //nolint:nilerr // what is no account has no contract here
	}
	list, err := s.store.ContractsBy(ctx, emaid.Bare())
	i := slices.IndexFunc(list, func(c Contract) bool { return slices.Contains(c.Serials, record.Serial) })
	if err != nil || i < 0 {
		return c, false, err
	}
	return list[i], true, nil
}
