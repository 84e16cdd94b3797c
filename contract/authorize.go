package contract

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"slices"
	"strings"

	"bollard/ca"
	"bollard/ca/hashdata"
	"bollard/internal/curve448"
	"bollard/iso15118/identifier"
	"bollard/iso15118/message"
	"bollard/ocpp"
)

// tokenEMAID is the type of an idToken that is an account (C07).
const tokenEMAID = "eMAID"

// Statuses of an Authorize with a contract.
const (
	tokenAccepted = "Accepted"
	tokenInvalid  = "Invalid"
	tokenExpired  = "Expired"
	tokenBlocked  = "Blocked"
	tokenUnknown  = "Unknown"

	chainAccepted  = "Accepted"
	chainCancelled = "ContractCancelled"
	chainExpired   = "CertificateExpired"
	chainRevoked   = "CertificateRevoked"
	chainFault     = "CertChainError"
)

// Authorize answers a station that asks whether an account may charge, with the
// contract certificate it was shown or hashes of it (C07); with neither, the account
// alone is judged. ours is false for
// accounts that have no contract here: whose they are decides.
func (s *Service) Authorize(ctx context.Context, in *ocpp.AuthorizeRequest) (out ocpp.AuthorizeResponse, ours bool, err error) {
	emaid, unreadable := identifier.ParseEMAID(in.IDToken.IDToken)
	if in.IDToken.Type != tokenEMAID || unreadable != nil {
		return out, false, nil //nolint:nilerr // what is no account has no contract here
	}
	list, err := s.store.ContractsBy(ctx, emaid.Bare())
	if err != nil || len(list) == 0 {
		return out, false, err
	}
	active := slices.ContainsFunc(list, func(c Contract) bool { return c.InForce(s.clock()) })
	pair := func(token, chain string) (ocpp.AuthorizeResponse, bool, error) {
		return ocpp.AuthorizeResponse{IDTokenInfo: ocpp.IDTokenInfo{Status: token}, CertificateStatus: chain}, true, nil
	}
	if in.Certificate == "" && len(in.HashData) == 0 {
		if active {
			return pair(tokenAccepted, "")
		}
		return pair(tokenBlocked, "")
	}
	serial, fault, err := s.shown(ctx, in)
	if err != nil {
		return out, true, err
	}
	i := slices.IndexFunc(list, func(c Contract) bool { return slices.Contains(c.Serials, serial) })
	switch {
	case i >= 0 && !list[i].InForce(s.clock()):
		// Its certificate is revoked with it; the contract's state counts more (C07.FR.13).
		return pair(tokenBlocked, chainCancelled)
	case fault == nil && i >= 0:
		return pair(tokenAccepted, chainAccepted) // C07.FR.14
	case fault == nil:
		return pair(tokenInvalid, chainFault) // another account's, or another provider's for this one
	}
	return fault.authorization(), true, nil
}

// authorization is what a station is told of a contract certificate that isn't good.
func (f *Fault) authorization() ocpp.AuthorizeResponse {
	out := ocpp.AuthorizeResponse{IDTokenInfo: ocpp.IDTokenInfo{Status: tokenInvalid}, CertificateStatus: chainFault} // C07.FR.17
	switch f.code2 {
	case expired("").code2:
		out.IDTokenInfo.Status, out.CertificateStatus = tokenExpired, chainExpired // C07.FR.15
	case revoked("").code2:
		out.CertificateStatus = chainRevoked // C07.FR.16
	}
	return out
}

// shown finds the contract certificate a station was shown, and what is wrong with
// it or its chain.
func (s *Service) shown(ctx context.Context, in *ocpp.AuthorizeRequest) (serial string, fault *Fault, err error) {
	if in.Certificate == "" {
		return s.named(ctx, in.HashData)
	}
	chain, p, fault := shownChain(in)
	if fault != nil {
		return "", fault, nil
	}
	// Serial numbers of different CAs may be equal: what isn't on record as ours has none.
	record, known, err := s.authority.Status(ctx, chain[0])
	if err != nil {
		return "", nil, err
	}
	if known && !record.External {
		serial = record.Serial
	}
	fault, err = s.verifyContract(ctx, p, chain, s.clock())
	return serial, fault, err
}

// shownChain reads the chain of an Authorize, which has to be the account's.
func shownChain(in *ocpp.AuthorizeRequest) ([]*x509.Certificate, message.Protocol, *Fault) {
	var chain []*x509.Certificate
	for rest := []byte(in.Certificate); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		cert, err := curve448.ParseCertificate(block.Bytes)
		if err != nil || len(chain) == maxChain {
			return nil, 0, badChain("a certificate of the chain can't be read")
		}
		chain = append(chain, cert)
	}
	if len(chain) == 0 {
		return nil, 0, badChain("there is no certificate")
	}
	p, err := protocolOf(chain[0])
	if err != nil || !sameAccount(chain[0].Subject.CommonName, in.IDToken.IDToken) {
		return nil, 0, badChain("the certificate isn't the account's")
	}
	return chain, p, nil
}

// maxChain is a leaf, two sub-CAs and the root.
const maxChain = 4

// sameAccount compares eMAIDs. Those of ISO 15118-20 in a form of their own are
// equal letter by letter.
func sameAccount(a, b string) bool {
	x, errX := identifier.ParseEMAID(a)
	y, errY := identifier.ParseEMAID(b)
	if errX != nil || errY != nil {
		return a == b
	}
	return x.Same(y)
}

// named judges a chain by hashes: one of them has to be of a contract certificate
// that an own MO sub-CA 2 issued.
func (s *Service) named(ctx context.Context, list []ocpp.OCSPRequestData) (string, *Fault, error) {
	now := s.clock()
	for i := range list {
		if !s.hashedByMO(&list[i]) {
			continue
		}
		record, err := s.authority.Record(ctx, strings.TrimLeft(strings.ToLower(list[i].SerialNumber), "0"))
		switch {
		case errors.Is(err, ca.ErrUnknownSerial):
			continue
		case err != nil:
			return "", nil, err
		case !strings.HasPrefix(record.Reference, Reference):
			continue // a CA's
		case record.State != ca.StateIssued:
			return record.Serial, revoked("certificate " + record.Serial + " is " + string(record.State)), nil
		case now.After(record.NotAfter):
			return record.Serial, expired("the certificate has expired"), nil
		case now.Before(record.NotBefore):
			return record.Serial, notYet("the certificate isn't valid yet"), nil
		}
		return record.Serial, nil, nil
	}
	return "", badChain("no such certificate was issued here"), nil
}

func (s *Service) hashedByMO(d *ocpp.OCSPRequestData) bool {
	for _, k := range allKinds() {
		if slices.ContainsFunc(s.authority.Intermediates(k.mo), func(by *x509.Certificate) bool { return isHashedBy(by, d) }) {
			return true
		}
	}
	return false
}

// isHashedBy tells whether hash data names a CA as a certificate's issuer (RFC 6960
// §4.1.1).
func isHashedBy(by *x509.Certificate, d *ocpp.OCSPRequestData) bool {
	h, ok := ocpp.HashNamed(d.HashAlgorithm)
	if !ok {
		return false
	}
	name, key, err := hashdata.OfIssuer(h, by)
	same := func(text string, sum []byte) bool {
		said, err := hex.DecodeString(text)
		return err == nil && bytes.Equal(said, sum)
	}
	return err == nil && same(d.IssuerNameHash, name) && same(d.IssuerKeyHash, key)
}
