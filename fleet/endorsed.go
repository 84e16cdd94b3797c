package fleet

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"

	"bollard/ca"
	"bollard/ca/attestation"
	"bollard/ca/est"
	"bollard/ledger"
	"bollard/tpm/attest"
)

var _ attestation.Registrar = (*Registrar)(nil)

// What the peer may know of why its TPM isn't taken.
const publicOtherTPM = "this TPM isn't the station's"

// SetEK records by which TPM a station is known, in place of the one before; the hash of
// its endorsement key, "" for none.
func (s *Service) SetEK(ctx context.Context, actor, identity, ek string) (Station, error) {
	if !hexDigest(ek) {
		return Station{}, badInput("give the SHA-256 of the endorsement key as 64 hex digits")
	}
	key, err := s.key(identity)
	if err != nil {
		return Station{}, err
	}
	if err := s.freeEK(ctx, key, ek); err != nil {
		return Station{}, err
	}
	// What is being issued to the TPM before is waited for, to be revoked too.
	release, err := s.takeTurn(ctx, key)
	if err != nil {
		return Station{}, err
	}
	defer release()
	if before, err := s.store.Station(ctx, key); err == nil && before.EK != "" && before.EK != ek {
		if err := s.endAttestation(ctx, actor, key, "superseded"); err != nil {
			return Station{}, err
		}
	}
	return s.update(ctx, key, func(st *Station) ([]ledger.Event, error) {
		if st.EK == ek {
			return nil, nil
		}
		st.EK = ek
		return []ledger.Event{tpmEvent(key, actor, ek)}, nil
	})
}

func tpmEvent(key, actor, ek string) ledger.Event {
	if ek == "" {
		ek = "none"
	}
	return ledger.Event{Kind: "station.tpm", Subject: key, Actor: actor, Data: map[string]string{"ek": ek}}
}

// freeEK refuses a TPM that is another station's; the store holds it against the same
// at once.
func (s *Service) freeEK(ctx context.Context, key, ek string) error {
	if ek == "" {
		return nil
	}
	other, err := s.store.StationByEK(ctx, ek)
	switch {
	case errors.Is(err, ErrUnknownStation):
		return nil
	case err != nil:
		return fmt.Errorf("couldn't look for the station of a TPM: %w", err)
	case keyOf(&other) != key:
		return fmt.Errorf("%w %q: a TPM is in one station; take it from that one first (bollard station tpm %s --none)", ErrOtherTPM, other.Identity, other.Identity)
	}
	return nil
}

// ErrOtherTPM says that a TPM is known as another station's.
var ErrOtherTPM = errors.New("this TPM belongs to station")

// Endorse says whether a TPM is the station's: the one it is known by, or else one
// whose certificate leads to a trusted manufacturer, which it is known by once it has a
// certificate.
func (r *Registrar) Endorse(ctx context.Context, claim est.Claim, station string, ek attest.EK, certificates []*x509.Certificate) error {
	s := r.service
	refuse := func(reason string) error {
		return r.refuse(claim, station, refusedCertificate, reason, http.StatusForbidden, publicOtherTPM)
	}
	st, err := s.store.Station(ctx, station)
	switch {
	case errors.Is(err, ErrUnknownStation):
		return refuse("station was removed meanwhile")
	case err != nil:
		return err
	case !st.LostAt.IsZero():
		return refuse(st.lost())
	case st.EK == ek.Hash():
		return nil
	case st.EK != "":
		return refuse(fmt.Sprintf("the TPM with endorsement key %s isn't the one station %s is known by", ek.Hash(), st.Identity))
	}
	anchors, err := s.cfg.Authority.Anchors(ctx, "tpm")
	if err != nil {
		return err
	}
	makers := attest.Manufacturers{}
	for _, a := range anchors {
		root, err := x509.ParseCertificate(a.DER)
		if err != nil {
			return fmt.Errorf("couldn't read a manufacturer's root: %w", err)
		}
		makers.Roots = append(makers.Roots, root)
	}
	if err := makers.Verify(ek, certificates, s.clock()); err != nil {
		return refuse(fmt.Sprintf("%v (endorsement key %s; `bollard station tpm %s --ek FILE` registers it, `bollard ca trust add --use tpm` trusts its manufacturer)", err, ek.Hash(), st.Identity))
	}
	if err := s.freeEK(ctx, station, ek.Hash()); errors.Is(err, ErrOtherTPM) {
		return refuse(err.Error())
	} else if err != nil {
		return err
	}
	return nil
}

// CertifyAttestation issues the certificate of an attestation key in two phases, or
// returns the one it has. The TPM is the station's from then on.
func (r *Registrar) CertifyAttestation(ctx context.Context, claim est.Claim, station string, ek attest.EK, certificates []*x509.Certificate, key ca.ProvenKey) (*ca.Issued, error) {
	s := r.service
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), certifyTimeout)
	defer cancel()
	if !s.mayAsk(station) {
		return nil, &est.Refusal{Status: http.StatusTooManyRequests, Public: publicBusy, Reason: "station asks for certificates too often", RetryAfter: busyRetry}
	}
	release, err := s.takeTurn(ctx, station)
	if err != nil {
		return nil, err
	}
	defer release()
	// What it is known by may have changed since the challenge was made.
	if err := r.Endorse(ctx, claim, station, ek, certificates); err != nil {
		return nil, err
	}
	st, err := s.store.UpdateStation(ctx, station, func(st *Station) ([]ledger.Event, error) {
		switch st.EK {
		case ek.Hash():
			return nil, nil
		case "":
		default:
			return nil, errors.New("the station got another TPM meanwhile")
		}
		st.EK = ek.Hash()
		return []ledger.Event{tpmEvent(station, "station:"+station, st.EK)}, nil
	})
	if err != nil {
		return nil, err
	}
	issued, err := s.certifyAttestation(ctx, &st, key)
	if errors.Is(err, ca.ErrKeyInUse) {
		return nil, &est.Refusal{Status: http.StatusForbidden, Public: "the key is in use already", Reason: err.Error()}
	}
	return issued, err
}

// certifyAttestation drives both phases, unless the key has a certificate that isn't due.
func (s *Service) certifyAttestation(ctx context.Context, st *Station, key ca.ProvenKey) (*ca.Issued, error) {
	station := keyOf(st)
	prepared, err := s.cfg.Authority.Prepare(ctx, ca.Order{
		Profile: ca.ProfileAttestation, Key: key, Subject: ca.Subject{CommonName: st.Serial}, Station: station, Requester: "station:" + station,
		Judge: func(onRecord []ca.Record) error {
			for _, rec := range onRecord {
				if rec.State != ca.StateIssued || rec.External || rec.Profile != ca.ProfileAttestation || rec.Station != station {
					continue
				}
				if cert, err := x509.ParseCertificate(rec.DER); err == nil && s.clock().Before(ca.RenewAt(cert)) && cert.Subject.CommonName == st.Serial {
					return &certifiedError{rec.Serial}
				}
			}
			return nil
		},
	})
	var has *certifiedError
	if errors.As(err, &has) {
		return s.cfg.Authority.Lookup(ctx, has.serial)
	}
	if err != nil {
		return nil, err
	}
	return s.cfg.Authority.Issue(ctx, prepared)
}
