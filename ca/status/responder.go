package status

import (
	"context"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"

	"bollard/ca"
)

// issuerID is how a CertID names an issuer, one a hash algorithm.
type issuerID struct {
	algorithm int
	name, key string
}

// issuer is one issuing CA under one hash algorithm.
type issuer struct {
	name          string // such as csms-issuing
	number        uint16 // publication.number
	nameHash, key []byte
}

// identify returns the CertID hashes of a CA (RFC 6960 §4.1.1): of its name
// and of the bits of its key.
func identify(by ca.StatusIssuer, number uint16) map[issuerID]*issuer {
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	out := map[issuerID]*issuer{}
	if _, err := asn1.Unmarshal(by.Certificate.RawSubjectPublicKeyInfo, &info); err != nil {
		return out // crypto/x509 has read it already
	}
	for i, algorithm := range hashAlgorithms {
		sum := func(b []byte) []byte {
			h := algorithm.hash.New()
			h.Write(b)
			return h.Sum(nil)
		}
		one := &issuer{name: by.Name, number: number, nameHash: sum(by.Certificate.RawSubject), key: sum(info.Key.Bytes)}
		out[issuerID{i, string(one.nameHash), string(one.key)}] = one
	}
	return out
}

// response is one that was signed.
type response struct {
	signed      []byte
	certificate []byte // of its signer, nil if that is the issuer itself
	thisUpdate  time.Time
	nextUpdate  time.Time
	keep        bool // others may be given it too
}

func (r response) usable(now time.Time) bool { return now.Before(r.nextUpdate) }

func (r response) due(now time.Time) bool { return !now.Before(r.thisUpdate.Add(refreshAfter)) }

// errUnauthorized answers for what this responder has no say about (RFC 5019
// §2.2.3): foreign issuers, unknown and expired certificates. Never good.
var errUnauthorized = errors.New("not authorised to answer")

// answer answers a request: with a kept response if it is for one certificate
// without nonce, else with one signed for it. What was signed may be at the end of buf.
func (s *Server) answer(ctx context.Context, r request, buf []byte) (response, error) {
	now, err := s.now()
	if err != nil {
		return response{}, err
	}
	if len(r.ids) > 1 || r.nonce != nil {
		return s.fresh(ctx, now, r)
	}
	var kept response
	var there bool
	s.mu.RLock()
	by := s.issuerOf(r.ids[0])
	if by != nil {
		kept, there = s.responses.get(responseID{by.number, uint8(r.ids[0].algorithm), r.ids[0].serial}, buf)
	}
	s.mu.RUnlock()
	there = there && kept.usable(now)
	if there && !kept.due(now) {
		return kept, nil
	}
	next, err := s.fresh(ctx, now, r)
	if err != nil && !errors.Is(err, errUnauthorized) && there {
		return kept, nil
	}
	return next, err
}

// issuerOf finds who is asked about; nil if it is none of ours. s.mu is held.
func (s *Server) issuerOf(id certID) *issuer {
	return s.issuers[issuerID{id.algorithm, string(id.name), string(id.key)}]
}

// issuersOf finds who is asked about, all the same CA: a signer speaks for one only.
func (s *Server) issuersOf(r request) ([]*issuer, error) {
	list := make([]*issuer, len(r.ids))
	s.mu.RLock()
	defer s.mu.RUnlock()
	for i, id := range r.ids {
		list[i] = s.issuerOf(id)
		if list[i] == nil || list[i].name != list[0].name {
			return nil, errUnauthorized
		}
	}
	return list, nil
}

// fresh signs for a request, within what may be signed at once.
func (s *Server) fresh(ctx context.Context, now time.Time, r request) (response, error) {
	issuers, err := s.issuersOf(r)
	if err != nil {
		return response{}, err
	}
	wait, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	select {
	case s.signing <- struct{}{}:
		defer func() { <-s.signing }()
	case <-wait.Done():
		return response{}, fmt.Errorf("too many OCSP responses are being signed: %w", wait.Err())
	}
	if err := s.authority.CheckClock(wait); err != nil {
		return response{}, err
	}
	return s.sign(wait, now, issuers, r)
}

// sign reads the records, signs what they say, and keeps it if it may be given
// to others and nothing was revoked meanwhile.
func (s *Server) sign(ctx context.Context, now time.Time, issuers []*issuer, r request) (response, error) {
	s.mu.RLock()
	epoch := s.epoch
	s.mu.RUnlock()
	now = now.Truncate(time.Second)
	next := now.Add(validity)
	singles := make([]single, len(r.ids))
	for i, id := range r.ids {
		one, until, err := s.status(ctx, now, issuers[i], id)
		if err != nil {
			return response{}, err
		}
		if one.status == unknown && len(r.ids) == 1 {
			return response{}, errUnauthorized
		}
		if !until.IsZero() && until.Before(next) {
			next = until
		}
		singles[i] = one
	}
	signer, err := s.authority.OCSPSigner(ctx, issuers[0].name)
	if err != nil {
		return response{}, err
	}
	if end := signer.Certificate.NotAfter; end.Before(next) {
		next = end // what it signed can't be checked after that
	}
	if !now.Before(next) {
		return response{}, errors.New("the OCSP signer expired")
	}
	for i := range singles {
		singles[i].thisUpdate, singles[i].nextUpdate = now, next
	}
	signed, err := signResponses(signer, now, singles, r.nonce)
	if err != nil {
		return response{}, err
	}
	out := response{
		signed: signed, certificate: companion(signer), thisUpdate: now, nextUpdate: next,
		keep: len(r.ids) == 1 && r.nonce == nil,
	}
	if out.keep {
		s.keep(responseID{issuers[0].number, uint8(r.ids[0].algorithm), r.ids[0].serial}, out, epoch)
	}
	return out, nil
}

// status is what the records say of one certificate, and until when that can
// hold at most (zero: no limit). An intent that isn't issued yet isn't known;
// an expired certificate is no longer vouched for.
func (s *Server) status(ctx context.Context, now time.Time, by *issuer, id certID) (single, time.Time, error) {
	one := single{algorithm: id.algorithm, name: by.nameHash, key: by.key, serial: id.number(), status: unknown}
	if one.serial.Sign() <= 0 {
		return one, time.Time{}, nil
	}
	record, err := s.authority.Record(ctx, one.serial.Text(16))
	if errors.Is(err, ca.ErrUnknownSerial) {
		return one, time.Time{}, nil
	}
	if err != nil {
		return one, time.Time{}, fmt.Errorf("couldn't read the status of a certificate: %w", err)
	}
	if record.External || record.Issuer != by.name {
		return one, time.Time{}, nil
	}
	switch record.State {
	case ca.StateIssued:
		if now.Before(record.NotAfter) {
			one.status = good
			return one, record.NotAfter, nil
		}
	case ca.StateRevoked, ca.StateOrphaned:
		one.status, one.reason = revoked, ca.ReasonCode(record.Reason)
		one.revokedAt = record.RevokedAt
		if one.revokedAt.IsZero() {
			one.revokedAt = record.CreatedAt
		}
		one.revokedAt = one.revokedAt.Truncate(time.Second)
	}
	return one, time.Time{}, nil
}

func (s *Server) keep(id responseID, r response, epoch uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epoch != epoch {
		return // it may be the one that was revoked
	}
	if _, there := s.responses.slips[id]; !there && len(s.responses.slips) >= s.limit {
		for victim := range s.responses.slips {
			s.responses.drop(victim)
			break
		}
	}
	s.responses.put(id, r)
}

// presigned are the hash algorithms signed for in advance: RFC 5019's and
// OCPP's. The others are signed, and kept, when asked for.
const presigned = 2

// batch is how many responses are signed without a pause in between.
const batch = 64

// Refresh signs what is missing or due: revocation lists first, then an OCSP
// response for each active certificate, in batches.
func (s *Server) Refresh(ctx context.Context) error {
	err := s.refresh(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = err
	return err
}

func (s *Server) refresh(ctx context.Context) error {
	now, err := s.now()
	if err != nil {
		return err
	}
	errs := []error{s.publish(ctx, now)}
	s.sweep(now)
	if err := s.authority.CheckClock(ctx); err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, by := range s.authority.StatusIssuers() {
		if by.Root {
			continue
		}
		whole, err := s.presign(ctx, now, by)
		errs = append(errs, err)
		if !whole && err == nil {
			return errors.Join(errs...) // Run begins anew
		}
	}
	s.mu.Lock()
	s.waiting = time.Time{}
	s.mu.Unlock()
	return errors.Join(errs...)
}

// sweep forgets what nobody may be given any more.
func (s *Server) sweep(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.responses.sweep(now)
}

// presign is done for one CA; not whole without an error: something was revoked, which
// comes first.
func (s *Server) presign(ctx context.Context, now time.Time, by ca.StatusIssuer) (whole bool, err error) {
	serials, err := s.authority.ActiveSerials(ctx, by.Name)
	if err != nil {
		return false, err
	}
	s.mu.RLock()
	p := s.published[by.Name]
	s.mu.RUnlock()
	if p == nil {
		return true, nil // Changed follows
	}
	issuers := make([]*issuer, len(hashAlgorithms))
	for id, one := range identify(by, p.number) {
		issuers[id.algorithm] = one
	}
	count := 0
	for _, text := range serials {
		number, ok := new(big.Int).SetString(text, 16)
		if !ok {
			continue
		}
		serial, ok := serialOf(number)
		if !ok {
			continue
		}
		for algorithm := range presigned {
			id := responseID{p.number, uint8(algorithm), serial}
			s.mu.RLock()
			there, fresh := s.responses.fresh(id, now)
			full := len(s.responses.slips) >= s.limit
			s.mu.RUnlock()
			if fresh || !there && full {
				continue
			}
			if count%batch == 0 {
				if ok, err := s.settled(ctx); !ok || err != nil {
					return false, err
				}
				if now, err = s.now(); err != nil {
					return false, err
				}
			}
			one := certID{algorithm: algorithm, serial: serial}
			_, err := s.sign(ctx, now, issuers[algorithm:algorithm+1], request{ids: []certID{one}})
			if err != nil && !errors.Is(err, errUnauthorized) { // revoked or expired meanwhile is no trouble
				return false, err
			}
			if count++; count%batch == 0 {
				if err := pause(ctx, 10*time.Millisecond); err != nil {
					return false, err
				}
			}
		}
	}
	return true, nil
}

// lookEvery is how often a calm moment is looked for, and longestWait how long at most: what
// is signed ahead is there for when its key can't be reached.
const (
	lookEvery   = 250 * time.Millisecond
	longestWait = 15 * time.Minute
)

// settled waits until there is time for what nobody asked for; false if something was
// revoked meanwhile.
func (s *Server) settled(ctx context.Context) (bool, error) {
	for !s.calm() && s.waits() {
		timer := time.NewTimer(lookEvery)
		select {
		case <-ctx.Done():
			timer.Stop()
			return false, ctx.Err()
		case <-s.wake:
			timer.Stop()
			s.wakeUp() // it is Run's
			return false, nil
		case <-timer.C:
		}
	}
	return true, nil
}

// waits says whether it is worth to wait for a calm moment still.
func (s *Server) waits() bool {
	now := s.clock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting.IsZero() {
		s.waiting = now
	}
	return now.Sub(s.waiting) < longestWait
}

// pause leaves the processor to stations.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// companion is the certificate a response comes with.
func companion(signer *ca.OCSPSigner) []byte {
	if signer.Certificate.IsCA {
		return nil
	}
	return signer.Certificate.Raw
}
