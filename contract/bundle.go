package contract

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/cloudflare/circl/sign/ed448"

	"bollard/ca"
	"bollard/internal/curve448"
	"bollard/internal/failpoint"
	"bollard/iso15118/envelope"
	"bollard/iso15118/message"
	"bollard/ledger"
	"bollard/tpm"
)

// renewBefore is how long the contract certificate of a bundle must still be
// valid to be given again.
const renewBefore = 30 * 24 * time.Hour

// makeTimeout bounds the making of an answer, which doesn't end with who asked:
// what is begun is finished and found by the next request.
const makeTimeout = time.Minute

// prepare makes an answer before the car asks, if its certificate is in the pool.
func (s *Service) prepare(ctx context.Context, c *Contract, p message.Protocol) error {
	known, ok, err := s.store.Provisioning(ctx, c.PCID, p)
	if err != nil || !ok {
		return err
	}
	chain, fault := parse(message.Chain{Certificate: known.Certificate, SubCertificates: known.SubCertificates})
	if fault != nil {
		return fault
	}
	by, fault, err := s.verifyCar(ctx, p, chain, s.clock())
	if err != nil {
		return err
	}
	if fault != nil {
		return fault
	}
	to, fault := receiverOf(p, chain[0], by)
	if fault != nil {
		return fault
	}
	_, fault, err = s.bundle(ctx, c, p, to, false, "bollard")
	if fault != nil {
		return fault
	}
	return err
}

// receiver is who a contract key is sealed for.
type receiver struct {
	key     crypto.PublicKey // *ecdsa.PublicKey, or ed448.PublicKey in -20
	storage *tpm.Storage     // where a car of -20 with a TPM wants it; nil: sealed for key
	maker   maker            // who answers for the car; nobody in an update
}

func receiverOf(p message.Protocol, cert *x509.Certificate, by maker) (receiver, *Fault) {
	to := receiver{key: cert.PublicKey, maker: by}
	switch key := cert.PublicKey.(type) {
	case ed448.PublicKey:
		return to, nil // a TPM has no such key
	case *ecdsa.PublicKey:
		if p == message.ISO20 && key.Curve != elliptic.P521() {
			// Its fields have the lengths of P-521 and X448.
			return receiver{}, unavailable("contracts of ISO 15118-20 are on P-521 and Ed448, the car's key isn't ([V2G20-2709])").orElsewhere()
		}
	default:
		return receiver{}, badChain("the certificate's key is of no edition")
	}
	if p == message.ISO20 {
		var err error
		if to.storage, err = tpm.StorageOf(cert); err != nil {
			return to, badChain(err.Error())
		}
	}
	return to, nil
}

// hash names the receiver.
func (r receiver) hash() (string, error) {
	spki, err := curve448.MarshalPublicKey(r.key)
	if r.storage != nil {
		spki = append(append(spki, r.storage.Key.Bytes()...), r.storage.Policy...)
	}
	return hexOf(spki), err
}

// bundle returns the answer for a contract and a car's key: the one there is, or
// a new one. A request that is sent again, by the car or by somebody who listened to
// it, finds what it got before, also after others: nothing in it is fresh (in
// ISO 15118-2 not even the time is signed), and only the car can use the answer.
func (s *Service) bundle(ctx context.Context, c *Contract, p message.Protocol, to receiver, update bool, actor string) (Bundle, *Fault, error) {
	unlock, err := s.lock(ctx, c.ID)
	if err != nil {
		return Bundle{}, nil, err
	}
	defer unlock()
	hash, err := to.hash()
	if err != nil {
		return Bundle{}, nil, err
	}
	have, ok, err := s.store.Bundle(ctx, c.ID, p, hash)
	if err != nil {
		return Bundle{}, nil, err
	}
	if ok && s.clock().Before(have.Until) && have.Ends.Equal(c.EndsAt) && s.inForce(ctx, have.Serial) && (have.CPS == outsideCPS || s.inForce(ctx, have.CPS)) {
		// No key is both a car's and a contract's, but the answer would be the wrong one.
		if a, err := message.DecodeResponse(p, have.EXI); err == nil && a.Update == update {
			return have, nil, nil
		}
	}
	giveBack, fault, err := s.affordable(ctx, c, p, to)
	if fault != nil || err != nil {
		return Bundle{}, fault, err
	}
	b, fault, err := s.makeBundle(ctx, c, p, to, hash, update, actor)
	if fault != nil || err != nil {
		giveBack()
	}
	return b, fault, err
}

// inForce says whether a certificate is issued and not revoked.
func (s *Service) inForce(ctx context.Context, serial string) bool {
	record, err := s.authority.Record(ctx, serial)
	return err == nil && record.State == ca.StateIssued
}

func (s *Service) makeBundle(ctx context.Context, c *Contract, p message.Protocol, to receiver, hash string, update bool, actor string) (Bundle, *Fault, error) {
	var signer *ca.CPSSigner // nil: one elsewhere
	if s.cps == nil || p != message.ISO2 {
		var err error
		signer, err = s.authority.CPSSigner(ctx, kindsOf(p, to.key).cps)
		if errors.Is(err, ca.ErrNoHierarchy) {
			return Bundle{}, unavailable("nobody here signs for cars: " + err.Error()), nil
		}
		if err != nil {
			return Bundle{}, nil, err
		}
	}
	if err := ctx.Err(); err != nil {
		return Bundle{}, nil, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), makeTimeout)
	defer cancel()
	// 0. What an earlier attempt left is no second certificate.
	if err := s.abandon(ctx, actor, c.ID); err != nil {
		return Bundle{}, nil, err
	}
	b, fault, err := s.begin(ctx, c, p, signer, to, update, actor)
	if fault != nil || err != nil {
		// Nobody has the key of what was signed, if anything was.
		return Bundle{}, fault, errors.Join(err, s.abandon(ctx, actor, c.ID))
	}
	b.Receiver = hash
	failpoint.Hit("contract.signed")
	// 4. Kept, and from here on the car's.
	if err := s.store.PutBundle(ctx, b); err != nil {
		return Bundle{}, nil, errors.Join(err, s.abandon(ctx, actor, c.ID))
	}
	failpoint.Hit("contract.kept")
	return b, nil, nil
}

// begin makes an answer up to its signature.
func (s *Service) begin(ctx context.Context, c *Contract, p message.Protocol, signer *ca.CPSSigner, to receiver, update bool, actor string) (Bundle, *Fault, error) {
	// 1. The contract's key lives from here to the end of this function, and leaves
	// sealed. Copies that crypto/ecdsa makes on its way can't be cleared.
	key, err := s.newKey(to)
	if err != nil {
		return Bundle{}, nil, err
	}
	defer forget(key)
	issued, fault, err := s.certify(ctx, c, p, key, actor)
	if fault != nil || err != nil {
		return Bundle{}, fault, err
	}
	failpoint.Hit("contract.certified")
	// 2. Sealed for the car.
	a := message.Response{
		Protocol: p, Header: message.Header{Session: make([]byte, 8)}, Update: update, Code: "OK",
		EMAID: string(c.EMAID), Curve: message.SECP521, Processing: "Finished",
		Contract: chainOf(issued.Certificate, issued.Chain),
	}
	a.SetIDs()
	if err := s.seal(&a, key, to, string(c.PCID), issued.Certificate); err != nil {
		return Bundle{}, nil, fmt.Errorf("couldn't seal a contract key: %w", err)
	}
	// 3. Signed by the CPS, whose chain cars trust.
	cps, serial, err := s.complete(ctx, signer, &a)
	if err != nil {
		return Bundle{}, nil, err
	}
	b := Bundle{Contract: c.ID, Protocol: p, Serial: issued.Serial, CPS: serial, Until: issued.NotAfter.Add(-renewBefore), Ends: c.EndsAt}
	if !c.EndsAt.IsZero() && c.EndsAt.Sub(issued.NotAfter) < time.Minute {
		b.Until = issued.NotAfter // no certificate of it lasts longer
	}
	if last := cps.NotAfter.Add(-24 * time.Hour); last.Before(b.Until) {
		b.Until = last
	}
	if b.EXI, err = a.Encode(); err != nil {
		return Bundle{}, nil, fmt.Errorf("couldn't encode an answer for a car: %w", err)
	}
	return b, nil, nil
}

// newKey makes a contract's key, on the curve of the car's ([V2G20-2709]).
func (s *Service) newKey(to receiver) (crypto.Signer, error) {
	if key, ok := to.key.(*ecdsa.PublicKey); ok {
		return ecdsa.GenerateKey(key.Curve, s.random)
	}
	_, key, err := ed448.GenerateKey(s.random)
	return key, err
}

// seal puts the contract's private key into an answer, for its receiver alone.
func (s *Service) seal(a *message.Response, private crypto.Signer, to receiver, pcid string, cert *x509.Certificate) error {
	bound := envelope.Context{PCID: pcid, SubjectKeyID: cert.SubjectKeyId}
	if key, ok := private.(ed448.PrivateKey); ok {
		sealed, err := envelope.SealEd448(s.random, key, to.key.(ed448.PublicKey), bound)
		a.Curve, a.Public, a.Key = message.X448, sealed.Public, sealed.Key
		return err
	}
	key, own := private.(*ecdsa.PrivateKey), to.key.(*ecdsa.PublicKey) // as newKey has it
	switch {
	case to.storage != nil: // the only way such a car takes ([V2G20-2595])
		sealed, err := to.storage.Seal(s.random, key)
		a.Curve, a.Public, a.Key = message.TPM, sealed.Public, sealed.Key
		return err
	case a.Protocol == message.ISO20:
		sealed, err := envelope.Seal20(s.random, key, own, bound)
		a.Public, a.Key = sealed.Public, sealed.Key
		return err
	}
	sealed, err := envelope.Seal2(s.random, key, own)
	a.Public, a.Key = sealed.Public, sealed.Key
	return err
}

// certify issues the contract certificate by MO sub-CA 2. Its serial number is
// the contract's before anything is signed, so that cancelling finds it, and begun, so
// that a crash doesn't leave it in force.
func (s *Service) certify(ctx context.Context, c *Contract, p message.Protocol, key crypto.Signer, actor string) (*ca.Issued, *Fault, error) {
	proven, err := ca.GeneratedKey(key)
	if err != nil {
		return nil, nil, err
	}
	order := ca.Order{
		Profile: profileOf(p, key.Public()), Key: proven, Subject: ca.Subject{CommonName: string(c.EMAID)}, Requester: actor, Reference: Reference + c.ID,
	}
	if !c.EndsAt.IsZero() {
		// Whole seconds, as certificates have them.
		if order.Life = (c.EndsAt.Sub(s.clock()) - time.Second).Truncate(time.Second); order.Life <= 0 {
			return nil, cancelled("the contract is over"), nil
		}
	}
	prepared, err := s.authority.Prepare(ctx, order)
	if errors.Is(err, ca.ErrNoHierarchy) {
		return nil, unavailable("nobody here issues contract certificates: " + err.Error()), nil
	}
	if err != nil {
		return nil, nil, err
	}
	var fault *Fault
	_, err = s.store.UpdateContract(ctx, c.ID, func(now *Contract) ([]ledger.Event, error) {
		if !now.InForce(s.clock()) {
			fault = cancelled("the contract is cancelled")
			return nil, nil
		}
		serial := prepared.Intent().Serial
		now.Serials, now.Begun = append(now.Serials, serial), append(now.Begun, serial)
		*c = *now
		return nil, nil
	})
	if fault != nil || err != nil {
		return nil, fault, err
	}
	issued, err := s.authority.Issue(ctx, prepared)
	return issued, nil, err
}

// profileOf is the profile of a contract certificate on a key's curve.
func profileOf(p message.Protocol, key crypto.PublicKey) string {
	if _, ok := key.(ed448.PublicKey); ok {
		return ca.ProfileContract448
	}
	if p == message.ISO20 {
		return ca.ProfileContract20
	}
	return ca.ProfileContract
}

// Reference marks the records of contract certificates; the contract's ID follows.
const Reference = "contract:"

func chainOf(leaf *x509.Certificate, above []*x509.Certificate) message.Chain {
	c := message.Chain{Certificate: bytes.Clone(leaf.Raw)}
	for _, cert := range above {
		c.SubCertificates = append(c.SubCertificates, cert.Raw)
	}
	return c
}

// forget overwrites a private key.
func forget(key crypto.Signer) {
	switch key := key.(type) {
	case *ecdsa.PrivateKey:
		clear(key.D.Bits()) //nolint:staticcheck // nothing else lets go of it
	case ed448.PrivateKey:
		clear(key)
	}
}
