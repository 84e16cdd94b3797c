package fleet

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"bollard/ca"
	"bollard/ocpp"
)

// Classes of refusals, for counting.
const (
	refusedUnknown     = "unknown-identity"
	refusedPassword    = "password"
	refusedCertificate = "certificate"
	refusedProfile     = "lower-profile"
	refusedBusy        = "busy"
)

const busyRetry = 10 * time.Second

// Subjects are the CA names sent in TLS CertificateRequest.
func (s *Service) Subjects(ctx context.Context) (*x509.CertPool, error) {
	pools, err := s.cfg.Authority.StationPools(ctx)
	if err != nil {
		return nil, fmt.Errorf("couldn't load the roots for station certificates: %w", err)
	}
	return pools.Subjects, nil
}

// Admit proves a claim. The error is a *Refusal, or something else if the proof
// couldn't be judged. Nothing is switched off here: what an admission changes
// for the future is written when the session is up (Opened).
//
// What the peer can tell apart is only what it presented: a claim with a
// certificate and without a password is refused with 403, every other with 401,
// whether the identity is enrolled or not.
func (s *Service) Admit(ctx context.Context, claim Claim) (Admission, error) {
	adm, err := s.admit(ctx, claim)
	adm.NewChain = err == nil && claim.TLS && claim.NewChain
	adm.TLS13 = err == nil && claim.TLS13
	adm.Listener = claim.Listener
	return adm, err
}

func (s *Service) admit(ctx context.Context, claim Claim) (Admission, error) {
	now := s.clock()
	// 1. The work that doesn't depend on who is claimed comes first.
	var presented *leaf
	untrusted := ""
	if claim.TLS && len(claim.Certificates) > 0 {
		var err error
		if untrusted = claim.Untrusted; untrusted != "" {
			// It was looked at in vain a moment ago, and isn't verified twice.
		} else if presented, untrusted, err = s.judgeChain(ctx, claim.Certificates, claim.Trust, now); err != nil {
			return Admission{}, err
		}
	}
	// 2. Who is claimed.
	st, unknown, err := s.claimed(ctx, claim)
	if err != nil {
		return Admission{}, err
	}
	status := http.StatusUnauthorized
	if claim.Basic == nil && len(claim.Certificates) > 0 {
		status = http.StatusForbidden
	}
	if unknown != "" {
		if r := s.equalWork(ctx, claim); r != nil {
			return Admission{}, r
		}
		if s.cfg.UnknownIdentity == http.StatusNotFound {
			status = http.StatusNotFound
		}
		return Admission{}, s.refuse(claim, "", refusedUnknown, unknown, status)
	}
	// 3. How it is proven: one profile at a time (A00.FR.001). A password decides
	// where one is presented and still accepted; a certificate where it is not.
	basicProfile, floor := 1, st.floor(now)
	if claim.TLS {
		basicProfile = 2
	}
	switch {
	case claim.Basic != nil && st.Password != nil && basicProfile >= floor && slices.Contains(claim.Profiles, basicProfile):
		return s.admitBasic(ctx, claim, st, basicProfile, presented, now)
	case claim.TLS && len(claim.Certificates) > 0 && slices.Contains(claim.Profiles, 3):
		return s.admitCertificate(ctx, claim, st, presented, untrusted, status, now)
	case claim.Basic != nil && st.Password == nil && basicProfile >= floor && slices.Contains(claim.Profiles, basicProfile):
		adm, refused := s.adopting(claim, &st, basicProfile)
		if refused == "" {
			return adm, nil
		}
		if r := s.equalWork(ctx, claim); r != nil {
			return Admission{}, r
		}
		return Admission{}, s.refuse(claim, keyOf(&st), refusedPassword, refused, status)
	}
	// 4. Neither: say why, after the work of a wrong password.
	if r := s.equalWork(ctx, claim); r != nil {
		return Admission{}, r
	}
	class, reason := refusedPassword, "neither a password nor a certificate was presented"
	switch {
	case basicProfile < floor && (claim.Basic != nil || !claim.TLS):
		// A05.FR.09 [1.6], A05.FR.07 [2.x], A00.FR.002, TC_A_19.
		class, reason = refusedProfile, fmt.Sprintf("came with security profile %d; nothing below %d is accepted from it", basicProfile, floor)
	case claim.Basic != nil && !slices.Contains(claim.Profiles, basicProfile):
		class, reason = refusedProfile, fmt.Sprintf("listener %q doesn't take security profile %d", claim.Listener, basicProfile)
	case claim.Basic != nil:
		reason = fmt.Sprintf("no password is set: `bollard station password %s` sets one", st.Identity)
	case len(claim.Certificates) > 0:
		class, reason = refusedProfile, fmt.Sprintf("listener %q doesn't take security profile 3", claim.Listener)
	}
	return Admission{}, s.refuse(claim, keyOf(&st), class, reason, status)
}

// claimed finds the record of a claimed identity; unknown is why there is none.
func (s *Service) claimed(ctx context.Context, claim Claim) (st Station, unknown string, err error) {
	key := claim.Identity.Key()
	st, err = s.store.Station(ctx, key)
	switch {
	case errors.Is(err, ErrUnknownStation):
		return Station{}, "identity is not enrolled", nil
	case err != nil:
		return Station{}, "", fmt.Errorf("couldn't look up the station: %w", err)
	}
	if !st.LostAt.IsZero() {
		return Station{}, st.lost(), nil
	}
	// An escaped spelling is an identity of its own: only a station enrolled with
	// exactly this one may use it, and may use no other.
	enrolled := st.Escaped
	if enrolled == "" && claim.Identity.NeedsEnrolment() || enrolled != "" && enrolled != claim.Identity.Escaped {
		return Station{}, fmt.Sprintf("identity is enrolled as %q and came spelt differently", st.Identity), nil
	}
	if len(claim.Allow) > 0 && !slices.ContainsFunc(claim.Allow, func(a string) bool { return strings.EqualFold(a, key) }) {
		return Station{}, fmt.Sprintf("listener %q is not for this station", claim.Listener), nil
	}
	return st, "", nil
}

// equalWork does what checking a wrong password costs, for claims that are
// refused whatever they presented.
func (s *Service) equalWork(ctx context.Context, claim Claim) error {
	if claim.Basic == nil {
		return nil
	}
	key := claim.Identity.Key()
	slowly := s.budget.over(key, claim.Source)
	s.budget.failed(key, claim.Source)
	if _, err := s.secrets.verify(ctx, key, nil, claim.Basic.Password, slowly); err != nil {
		return s.busy(err)
	}
	return nil
}

func (s *Service) admitBasic(ctx context.Context, claim Claim, st Station, profile int, presented *leaf, now time.Time) (Admission, error) {
	key := keyOf(&st)
	right, err := s.secrets.verify(ctx, key, st.Password, claim.Basic.Password, s.budget.over(key, claim.Source))
	if err != nil {
		return Admission{}, s.busy(err)
	}
	// While a password change is undecided the new one is as good (A01; the gap
	// when the answer to the change was lost).
	renewed := false
	if !right && st.Pending != nil {
		renewed, err = s.secrets.verify(ctx, key, &st.Pending.Credential, claim.Basic.Password, false)
		if err != nil {
			return Admission{}, s.busy(err)
		}
		right = renewed
	}
	refuse := func(class, reason string) (Admission, error) {
		s.budget.failed(key, claim.Source)
		return Admission{}, s.refuse(claim, key, class, reason, http.StatusUnauthorized)
	}
	switch {
	case !right:
		return refuse(refusedPassword, "wrong password")
	case claim.Basic.User != claim.Identity.Name: // A00.FR.204, .207, TC_A_02
		return refuse(refusedPassword, "user name is not the identity in the URL (A00.FR.204)")
	case s.namesAnother(presented, &st):
		return refuse(refusedCertificate, "presented another station's certificate beside the password")
	}
	adm := Admission{Station: st.Proven(), Profile: profile, NewPassword: renewed}
	if presented != nil && presented.own {
		// For the record only: at this profile the password is the proof.
		if v := s.proves(presented, &st, now); v.refused != "" {
			adm.Notes = append(adm.Notes, "certificate beside the password: "+v.refused)
		}
	}
	return adm, nil
}

func (s *Service) admitCertificate(ctx context.Context, claim Claim, st Station, presented *leaf, untrusted string, status int, now time.Time) (Admission, error) {
	if presented == nil {
		return Admission{}, s.refuse(claim, keyOf(&st), refusedCertificate, untrusted, status)
	}
	v := s.proves(presented, &st, now)
	if v.refused != "" {
		return Admission{}, s.refuse(claim, keyOf(&st), refusedCertificate, v.refused, status)
	}
	switch err := s.recover(ctx, presented, &st); {
	case errors.Is(err, ca.ErrKeyInUse) || errors.Is(err, ca.ErrNotRecoverable):
		return Admission{}, s.refuse(claim, keyOf(&st), refusedCertificate, err.Error(), status)
	case err != nil:
		return Admission{}, fmt.Errorf("couldn't record the presented certificate again: %w", err)
	}
	proven := st.Proven()
	proven.Password, proven.Pending = nil, nil // they proved nothing
	return Admission{Station: proven, Profile: 3, Leaf: ca.LeafOf(presented.cert), Factory: v.factory, Notes: v.notes}, nil
}

func (s *Service) busy(err error) error {
	if !errors.Is(err, errBusy) {
		return err // the claim's context ended
	}
	s.count(refusedBusy)
	return &Refusal{Status: http.StatusServiceUnavailable, Reason: err.Error(), RetryAfter: busyRetry}
}

// keyOf is the primary key of a station's record.
func keyOf(st *Station) string { return ocpp.Identity{Name: st.Identity}.Key() }
