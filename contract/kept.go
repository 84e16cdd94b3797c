package contract

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/cloudflare/circl/sign/ed448"

	"bollard/ca"
	"bollard/iso15118/envelope"
	"bollard/iso15118/identifier"
	"bollard/iso15118/message"
	"bollard/ocpp"
)

// Kept is contract data that another provider made, sealed for a car and had signed. It
// is given to the car as it came, as long as the car would take it.
type Kept struct {
	ID       string // random, as a contract's
	EMAID    identifier.EMAID
	PCID     identifier.PCID
	Protocol message.Protocol
	Serial   string    // of the contract certificate; another CA's may have the same
	Receiver string    // SHA-256 of the provisioning certificate it is sealed for, hex
	Until    time.Time // when the first certificate in it ends
	KeptAt   time.Time
	EXI      []byte // of the answer, for no session
}

// contract is what of it is a contract's.
func (k *Kept) contract() Contract {
	return Contract{ID: k.ID, EMAID: k.EMAID, PCID: k.PCID, State: StateActive, CreatedAt: k.KeptAt, EndsAt: k.Until, Serials: []string{k.Serial}, Foreign: true}
}

// Leaf is its contract certificate.
func (k *Kept) Leaf() (*x509.Certificate, error) {
	a, err := message.DecodeResponse(k.Protocol, k.EXI)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(a.Contract.Certificate)
}

// Keep takes contract data of another provider for a car: a CertificateInstallationRes
// with all that a car would check, for an account whose certificate leads to a root
// trusted for mo. It counts as sealed for the provisioning certificate that is in the
// pool. The account's newer data for the car takes the place of older. What is
// wrong with it is a *Fault; ErrTooMany while the car has MaxPerCar others.
func (s *Service) Keep(ctx context.Context, actor string, emaid identifier.EMAID, pcid identifier.PCID, p message.Protocol, exi []byte) (Kept, error) {
	car, ok, err := s.store.Provisioning(ctx, pcid, p)
	switch {
	case err != nil:
		return Kept{}, err
	case !ok:
		return Kept{}, badChain("the provisioning certificate of the car isn't in the pool")
	}
	a, err := message.DecodeResponse(p, exi)
	switch {
	case err != nil:
		return Kept{}, badChain("the answer can't be read: " + err.Error())
	case a.Update || a.Code != "OK":
		return Kept{}, badChain("it isn't a CertificateInstallationRes with code OK")
	}
	// Neither session nor time is the provider's to say, and nothing of either is signed.
	a.Session, a.Time, a.Remaining = make([]byte, 8), 0, 0
	k := Kept{ID: newID(), EMAID: emaid.Full(), PCID: pcid, Protocol: p, Receiver: hexOf(car.Certificate), KeptAt: s.clock().UTC()}
	if k.EXI, err = a.Encode(); err != nil {
		return Kept{}, badChain("the answer can't be written again: " + err.Error())
	}
	if n := base64.StdEncoding.EncodedLen(len(k.EXI)); n > ocpp.MaxEXIResponse21 {
		return Kept{}, badChain(fmt.Sprintf("the answer has %d characters, no station carries more than %d", n, ocpp.MaxEXIResponse21))
	}
	leaf, fault, err := s.verifyGiven(ctx, a, emaid)
	if err != nil {
		return Kept{}, err
	}
	if fault == nil {
		fault = sealed(a, leaf)
	}
	if fault != nil {
		return Kept{}, fault
	}
	k.Serial = ca.SerialOf(leaf)
	if k.Until, err = earliestEnd(a); err != nil {
		return Kept{}, err
	}
	c := k.contract()
	return k, s.store.PutKept(ctx, k, s.event("contract.kept", &c, actor, map[string]string{
		"serial": k.Serial, "protocol": p.String(), "until": k.Until.Format(time.RFC3339),
	}))
}

// verifyGiven verifies contract data of another provider as the car would, and beyond:
// signed, all of it, by a CPS under a trusted V2G root, with a contract certificate of
// the account, in force, under a root trusted for mo. An error is no verdict.
func (s *Service) verifyGiven(ctx context.Context, a *message.Response, emaid identifier.EMAID) (*x509.Certificate, *Fault, error) {
	if _, fault, err := s.signedByCPS(ctx, a); fault != nil || err != nil {
		return nil, fault, err
	}
	chain, fault := parse(a.Contract)
	if fault != nil {
		return nil, fault, nil
	}
	named, unreadable := identifier.ParseEMAID(chain[0].Subject.CommonName)
	inside, unread := identifier.ParseEMAID(a.EMAID)
	switch {
	case !s.fits(a.Protocol, chain[0]):
		return nil, badChain("the contract certificate is of another edition"), nil
	case unreadable != nil || !named.Same(emaid), a.Protocol == message.ISO2 && (unread != nil || !inside.Same(emaid)):
		return nil, badChain("the contract certificate or the answer is another account's"), nil
	}
	fault, err := s.verifyContract(ctx, a.Protocol, chain, s.clock())
	return chain[0], fault, err
}

// earliestEnd is when a car begins to refuse an answer.
func earliestEnd(a *message.Response) (end time.Time, err error) {
	for _, of := range []message.Chain{a.Contract, a.CPS} {
		chain, fault := parse(of)
		if fault != nil {
			return end, fault
		}
		for _, cert := range chain {
			if end.IsZero() || cert.NotAfter.Before(end) {
				end = cert.NotAfter.UTC()
			}
		}
	}
	return end, nil
}

// sealed checks that the contract's key has the length of an envelope of its edition
// ([V2G2-814] and following, [V2G20-2489] and following, table of the schema for TPM and
// X448), and isn't in it in clear: for whom it is sealed only its car can tell.
func sealed(a *message.Response, leaf *x509.Certificate) *Fault {
	lengths := [2]int{48, 65}
	if a.Protocol == message.ISO20 {
		lengths = map[message.Curve][2]int{message.SECP521: {94, 133}, message.X448: {84, 57}, message.TPM: {206, 133}}[a.Curve]
	}
	if len(a.Key) != lengths[0] || len(a.Public) != lengths[1] {
		return badChain(fmt.Sprintf("the contract's key isn't sealed as its edition has it: %d bytes with a public key of %d", len(a.Key), len(a.Public)))
	}
	if public, ok := leaf.PublicKey.(ed448.PublicKey); ok {
		if a.Curve != message.X448 {
			return badChain("the contract's key isn't sealed over X448, as one on Ed448 is")
		}
		if envelope.Bare448(a.Key, public) {
			return badChain("the contract's private key is in clear: it is known to whoever saw it, revoke its certificate")
		}
		return nil
	}
	public, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return badChain("the contract certificate's key is of no edition")
	}
	size := (public.Curve.Params().BitSize + 7) / 8
	for i := 0; i+size <= len(a.Key); i++ {
		key, err := ecdsa.ParseRawPrivateKey(public.Curve, a.Key[i:i+size])
		if err == nil && key.PublicKey.Equal(public) {
			return badChain("the contract's private key is in clear: it is known to whoever saw it, revoke its certificate")
		}
	}
	return nil
}

// hand gives contract data that was kept to its car, if it is still what it was when it
// came: CAs are revoked, and trust in roots ends.
func (s *Service) hand(ctx context.Context, in Request, r *message.Request, c *Contract, remaining int, now time.Time) (Answer, *Fault, error) {
	k, ok, err := s.store.Kept(ctx, c.ID)
	if err != nil {
		return Answer{}, nil, err
	}
	if !ok {
		return Answer{}, noContract("the contract data that was kept for the car was taken back"), nil
	}
	a, err := message.DecodeResponse(k.Protocol, k.EXI)
	if err != nil {
		return Answer{}, nil, err
	}
	if _, fault, err := s.verifyGiven(ctx, a, k.EMAID); fault != nil || err != nil {
		if fault != nil {
			// The codes are about what the car sent, and nothing is wrong with that.
			fault = unavailable("contract data that was kept for the car isn't good any more: " + fault.Reason)
		}
		return Answer{}, fault, err
	}
	a.Session, a.Remaining = r.Session, int64(remaining)
	if r.Protocol == message.ISO20 {
		a.Time = now.Unix()
	}
	out := Answer{Code: a.Code, Remaining: remaining, Serial: k.Serial, EMAID: k.EMAID}
	if out.EXI, err = a.Encode(); err != nil {
		return Answer{}, nil, err
	}
	out, given, err := s.give(ctx, in, out, s.event("contract.delivered", c, in.Actor, map[string]string{
		"serial": k.Serial, "protocol": r.Protocol.String(), "update": strconv.FormatBool(false), "kept": strconv.FormatBool(true),
	}))
	if given {
		s.delivered(courseOf(in, r), c.ID)
	}
	return out, nil, err
}

// contractsOf are a car's active contracts and the newest others, oldest first, and behind them those of
// others whose data is kept for its provisioning certificate: with another key it can't
// open what was sealed for the one before.
func (s *Service) contractsOf(ctx context.Context, pcid identifier.PCID, p message.Protocol, car *x509.Certificate) ([]Contract, error) {
	list, err := s.store.ContractsOf(ctx, pcid)
	if err != nil {
		return nil, err
	}
	kept, err := s.KeptOf(ctx, pcid)
	for i := range kept {
		if kept[i].Protocol == p && kept[i].Receiver == hexOf(car.Raw) {
			list = append(list, kept[i].contract())
		}
	}
	return list, err
}

// KeptOf returns what is kept for a car and can still be given to it, oldest first.
func (s *Service) KeptOf(ctx context.Context, pcid identifier.PCID) ([]Kept, error) {
	return s.lasting(s.store.KeptOf(ctx, pcid))
}

// KeptBy returns what of an account is kept and can still be given to cars, oldest first.
func (s *Service) KeptBy(ctx context.Context, emaid identifier.EMAID) ([]Kept, error) {
	return s.lasting(s.store.KeptBy(ctx, emaid.Bare()))
}

func (s *Service) lasting(list []Kept, err error) ([]Kept, error) {
	now := s.clock()
	var out []Kept
	for i := range list {
		if now.Before(list[i].Until) {
			out = append(out, list[i])
		}
	}
	return out, err
}

// AllKept returns all that is kept and can still be given to cars, oldest first.
func (s *Service) AllKept(ctx context.Context) ([]Kept, error) {
	return s.lasting(s.store.AllKept(ctx))
}

// keptFor is what is kept of an account, ended or not, for all cars or for one.
func (s *Service) keptFor(ctx context.Context, emaid identifier.EMAID, pcid identifier.PCID) ([]Kept, error) {
	list, err := s.store.KeptBy(ctx, emaid.Bare())
	return slices.DeleteFunc(list, func(k Kept) bool { return pcid != "" && k.PCID != pcid }), err
}

// discardOlder forgets what is kept for a car's earlier provisioning certificate.
func (s *Service) discardOlder(ctx context.Context, actor string, p *Provisioning) error {
	list, err := s.store.KeptOf(ctx, p.PCID)
	if err != nil {
		return err
	}
	hash := hexOf(p.Certificate)
	return s.discard(ctx, actor, slices.DeleteFunc(list, func(k Kept) bool { return k.Protocol != p.Protocol || k.Receiver == hash }))
}

// discard forgets what is kept.
func (s *Service) discard(ctx context.Context, actor string, list []Kept) error {
	for i := range list {
		c := list[i].contract()
		if err := s.store.RemoveKept(ctx, c.ID, s.event("contract.discarded", &c, actor, map[string]string{"serial": list[i].Serial})); err != nil {
			return err
		}
	}
	return nil
}
