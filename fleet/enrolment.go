package fleet

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"bollard/ca"
	"bollard/ca/est"
	"bollard/ledger"
	"bollard/ocpp"
)

// WireEST marks the order of a request that came over EST: its certificate goes
// back in the answer, never by CertificateSigned.
const WireEST Wire = "est"

// Proofs of an applicant, for the ledger.
const (
	proofSecret      = "one-time secret"
	proofFactory     = "factory certificate"
	proofCertificate = "certificate"
)

// certifyTimeout bounds an issue whether its requester waits for it or not: what
// was begun is finished and recorded.
const certifyTimeout = 30 * time.Second

// What the peer may know: the operator's reasons stay here.
const (
	publicUnproven    = "give the station's certificate, or its identity and one-time secret"
	publicCertificate = "the certificate proves no station that may enrol here"
	publicBusy        = "too many requests"
)

var _ est.Registrar = (*Registrar)(nil)

// applicant is a station that proved itself for enrolment.
type applicant struct {
	*Registrar
	station string // key
	proof   string
	wire    Wire   // how its request came
	order   string // ID of the order of a new request; "": a random one
	leaf    *leaf  // what proved it; nil: something else did
	secret  []byte // stored hash of the one-time secret that proved it
	notes   []string
}

// Station names the applicant.
func (a *applicant) Station() string { return a.station }

// Prove finds out whose request it is: a one-time secret decides where one is
// presented, a certificate where none is. A renewal is proven by the
// certificate alone.
func (r *Registrar) Prove(ctx context.Context, claim est.Claim) (est.Applicant, error) {
	s, now := r.service, r.service.clock()
	var presented *leaf
	untrusted := ""
	if len(claim.Certificates) > 0 {
		var err error
		if presented, untrusted, err = s.judgeChain(ctx, claim.Certificates, nil, now); err != nil {
			return nil, err
		}
	}
	var a *applicant
	var err error
	switch {
	case claim.Basic != nil && !claim.Renewal:
		a, err = r.proveSecret(ctx, claim, presented, now)
	case presented != nil:
		a, err = r.proveCertificate(ctx, claim, presented, now)
	case len(claim.Certificates) > 0:
		err = r.refuse(claim, "", refusedCertificate, untrusted, http.StatusForbidden, publicCertificate)
	case claim.Renewal:
		err = r.refuse(claim, "", refusedCertificate, "a renewal without a certificate", http.StatusForbidden, "a renewal needs the certificate to be renewed in TLS")
	default:
		err = &est.Refusal{Status: http.StatusUnauthorized, Public: publicUnproven, Reason: "nothing was presented"}
	}
	if err != nil {
		return nil, err
	}
	return a, nil
}

func (r *Registrar) proveSecret(ctx context.Context, claim est.Claim, presented *leaf, now time.Time) (*applicant, error) {
	s := r.service
	// The same look-ups and the same hash whoever is named.
	id, idErr := ocpp.ParseIdentity(claim.Basic.User)
	key := id.Key()
	st, reg, err := r.store.Applicant(ctx, key)
	if err != nil && !errors.Is(err, ErrUnknownStation) {
		return nil, fmt.Errorf("couldn't look up the station: %w", err)
	}
	known := err == nil && idErr == nil
	right := r.right(reg, known, claim.Basic.Secret)
	reason, class := "", refusedPassword
	switch {
	case !known:
		reason, class, key = "identity is not enrolled", refusedUnknown, ""
	case reg == nil:
		reason = fmt.Sprintf("no one-time secret is set: `bollard station enrol-secret %s` makes one", st.Identity)
	case !st.LostAt.IsZero():
		reason = st.lost()
	case !right:
		reason = "wrong one-time secret"
	case !now.Before(reg.ExpiresAt):
		reason = fmt.Sprintf("one-time secret expired: `bollard station enrol-secret %s` makes another", st.Identity)
	case s.namesAnother(presented, &st):
		reason, class = "presented another station's certificate beside the one-time secret", refusedCertificate
	default:
		return &applicant{Registrar: r, station: key, proof: proofSecret, wire: WireEST, secret: reg.Hash}, nil
	}
	// Over budget the answer changes, the right secret is still taken: a stranger
	// must not be able to keep a station out.
	budget := id.Key()
	over := s.budget.over(budget, claim.Source)
	s.budget.failed(budget, claim.Source)
	if over {
		refused := r.refuse(claim, key, refusedBusy, reason, http.StatusTooManyRequests, publicBusy)
		refused.RetryAfter = busyRetry
		return nil, refused
	}
	return nil, r.refuse(claim, key, class, reason, http.StatusUnauthorized, publicUnproven)
}

// proveCertificate finds the station a certificate belongs to and lets the
// rules of the front door judge it (certificate.go).
func (r *Registrar) proveCertificate(ctx context.Context, claim est.Claim, presented *leaf, now time.Time) (*applicant, error) {
	s := r.service
	refuse := func(key, reason, public string) (*applicant, error) {
		return nil, r.refuse(claim, key, refusedCertificate, reason, http.StatusForbidden, public)
	}
	st, err := r.holder(ctx, presented)
	if errors.Is(err, ErrUnknownStation) {
		return refuse("", "certificate belongs to no enrolled station", publicCertificate)
	}
	if err != nil {
		return nil, fmt.Errorf("couldn't look up the station of a certificate: %w", err)
	}
	key := keyOf(&st)
	v := s.proves(presented, &st, now)
	switch {
	case v.refused != "":
		return refuse(key, v.refused, publicCertificate)
	case claim.Renewal && v.factory:
		return refuse(key, "a renewal was asked for with the factory certificate", "a factory certificate isn't renewed here: use simpleenroll")
	case claim.Renewal && !(presented.recorded && presented.record.station == key):
		return refuse(key, "certificate to be renewed is not on record", publicCertificate)
	}
	a := &applicant{Registrar: r, station: key, proof: proofCertificate, wire: WireEST, leaf: presented, notes: v.notes}
	if v.factory {
		a.proof = proofFactory
	}
	return a, nil
}

// holder is the station a certificate names: by our records, by its common
// name, or because it is pinned.
func (r *Registrar) holder(ctx context.Context, l *leaf) (Station, error) {
	if l.recorded && l.record.station != "" {
		return r.service.store.Station(ctx, l.record.station)
	}
	return r.service.named(ctx, l.cert)
}

func (r *Registrar) refuse(claim est.Claim, key, class, reason string, status int, public string) *est.Refusal {
	named := Claim{Source: claim.Source, Listener: "pki", Identity: ocpp.Identity{Name: key}}
	if key == "" && claim.Basic != nil {
		named.Identity.Name = claim.Basic.User
	}
	_ = r.service.refuse(named, key, class, reason, status) // counts and logs; its answer is the front door's
	return &est.Refusal{Status: status, Public: public, Reason: reason}
}

// Certify issues the certificate for a request's key, in two phases and under
// the reference of a durable order, or returns the one its key has already. One
// request of a station at a time has its turn.
func (a *applicant) Certify(ctx context.Context, csr ca.CSR) (*ca.Issued, error) {
	s := a.service
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), certifyTimeout)
	defer cancel()
	if !s.mayAsk(a.station) {
		return nil, &est.Refusal{Status: http.StatusTooManyRequests, Public: publicBusy, Reason: "station asks for certificates too often", RetryAfter: time.Minute}
	}
	release, err := s.takeTurn(ctx, a.station)
	if err != nil {
		return nil, err
	}
	defer release()
	st, err := s.store.Station(ctx, a.station)
	if errors.Is(err, ErrUnknownStation) {
		return nil, &est.Refusal{Status: http.StatusForbidden, Public: publicCertificate, Reason: "station was removed meanwhile"}
	}
	if err != nil {
		return nil, err
	}
	if reason := s.estReason(&csr, &st); reason != "" {
		if !slices.Contains(st.Warn, CheckCSRSubject) {
			return nil, &est.Refusal{Status: http.StatusBadRequest, Public: reason, Reason: reason}
		}
		s.warned(ctx, a.station, CheckCSRSubject, reason)
	}
	if reason := s.curveFault(csr.Key, st.Vendor, st.Model, false); reason != "" {
		return nil, &est.Refusal{Status: http.StatusBadRequest, Public: "a key on P-224 isn't taken: make one on P-256", Reason: reason}
	}
	attested, err := s.evidence(ctx, &st, &csr)
	var issued *ca.Issued
	if err == nil {
		issued, err = a.fulfil(ctx, &st, &csr, attested)
	}
	if errors.Is(err, ca.ErrNotAttested) {
		s.unattested(ctx, a.station, WireEST, &csr, err)
		return nil, &est.Refusal{Status: http.StatusBadRequest, Public: publicEvidence, Reason: err.Error()}
	}
	if err != nil {
		return nil, a.unissued(&st, err)
	}
	return issued, nil
}

// mayAsk takes from the station's budget of certificate requests.
func (s *Service) mayAsk(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	if s.csrs.left(key, now) < 1 {
		return false
	}
	s.csrs.take(key, now)
	return true
}

// mayBeAsked says whether a station's answer to one more trigger would be within that
// budget, after so many that it hasn't answered yet.
func (s *Service) mayBeAsked(key string, open int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.csrs.left(key, s.clock()) >= float64(open)+2
}

// estReason is csrReason for requests that didn't come over OCPP: nobody told
// their sender the operator's organisation before, so it may be missing.
func (s *Service) estReason(csr *ca.CSR, st *Station) string {
	if len(csr.Organisation) == 0 {
		named := *csr
		named.Organisation = []string{s.cfg.Organisation}
		return s.csrReason(&named, st)
	}
	return s.csrReason(csr, st)
}

// fulfil drives a request to its certificate, which is the one its key has if it
// has one. The steps survive a crash at any point: what exists is found by its key
// or by the order.
func (a *applicant) fulfil(ctx context.Context, st *Station, csr *ca.CSR, attested ca.Attested) (*ca.Issued, error) {
	s := a.service
	order, known, err := s.store.OrderByCSR(ctx, a.station, csrHash(csr))
	if err == nil && !known && a.order != "" {
		// The same key in another request, since ECDSA signs anew: its first try was cut off.
		order, known, err = s.store.Order(ctx, a.order)
		known = known && order.Station == a.station
	}
	if err != nil {
		return nil, err
	}
	issued, err := a.apply(ctx, st, csr, attested, order, known)
	var has *certifiedError
	if errors.As(err, &has) {
		issued, err = a.again(ctx, csr, order, known, has.serial)
	}
	if err != nil {
		return nil, err
	}
	if st.RenewWanted {
		_, err := s.store.UpdateStation(ctx, a.station, func(st *Station) ([]ledger.Event, error) {
			st.RenewWanted, st.PlanNote = false, ""
			return nil, nil
		})
		if err != nil {
			return nil, err
		}
	}
	return issued, nil
}

// csrHash is what an order remembers a request by.
func csrHash(csr *ca.CSR) string {
	sum := sha256.Sum256(csr.DER)
	return hex.EncodeToString(sum[:])
}

func (a *applicant) accepted(o *Order) ledger.Event {
	e := orderEvent(o, "order.accepted", "station:"+a.station)
	e.Data["door"], e.Data["proof"] = string(a.wire), a.proof
	if len(a.notes) > 0 {
		e.Data["notes"] = fact(strings.Join(a.notes, "; "))
	}
	return e
}

// unissued tells what will never be issued from what may be later.
func (a *applicant) unissued(st *Station, err error) error {
	var lint *ca.LintError
	switch {
	case errors.Is(err, errLost):
		return &est.Refusal{Status: http.StatusForbidden, Public: publicCertificate, Reason: st.lost()}
	case errors.Is(err, ErrRegistrationUsed):
		return &est.Refusal{Status: http.StatusForbidden, Public: "the one-time secret was used for another key",
			Reason: fmt.Sprintf("one-time secret was used for another key: `bollard station enrol-secret %s` makes another", st.Identity)}
	case errors.As(err, &lint):
		return &est.Refusal{Status: http.StatusInternalServerError, Public: "the certificate can't be issued", Reason: err.Error()}
	case permanent(err):
		return &est.Refusal{Status: http.StatusBadRequest, Public: "the key is in use already: make a new key pair", Reason: err.Error()}
	}
	return err
}

// certify runs both phases for a station and what is set of an order: its key and
// reference, and how it is judged and recorded.
func (s *Service) certify(ctx context.Context, st *Station, order ca.Order) (*ca.Issued, error) {
	if !st.LostAt.IsZero() {
		return nil, fmt.Errorf("%w: %s", errLost, st.LostReason)
	}
	plan, err := s.store.Plan(ctx, keyOf(st))
	if err != nil {
		return nil, err
	}
	if err := s.demandAttested(ctx, st, &plan, order.Attested); err != nil {
		return nil, err
	}
	order.Profile, order.Subject = ca.ProfileStation, ca.Subject{CommonName: st.Serial}
	order.Station, order.Requester = keyOf(st), "station:"+keyOf(st)
	order.Life, order.P224 = plan.CertificateLife, s.MayHaveP224(st.Vendor, st.Model)
	prepared, err := s.cfg.Authority.Prepare(ctx, order)
	if err != nil {
		return nil, err
	}
	return s.cfg.Authority.Issue(ctx, prepared)
}
