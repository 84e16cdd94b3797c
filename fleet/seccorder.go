package fleet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"bollard/ca"
	"bollard/ca/hashdata"
	"bollard/ocpp"
)

// edition is what differs between certificates toward cars of ISO 15118-2 and -20.
type edition struct {
	name    string // of the standard
	kind    ca.Kind
	profile string
	asked   string // certificateType
	trigger string
	step    StepName
	since21 bool // OCPP 2.0.1 doesn't know it
}

var (
	edition2 = edition{name: "ISO 15118-2", kind: ca.KindV2G, profile: ca.ProfileSECC,
		asked: ocpp.V2GCertificate, trigger: ocpp.TriggerSignV2G, step: StepSECC}
	edition20 = edition{name: "ISO 15118-20", kind: ca.KindV2G20, profile: ca.ProfileSECC20,
		asked: ocpp.V2G20Certificate, trigger: ocpp.TriggerSignV2G20, step: StepSECC20, since21: true}
)

// editionOf is that of a certificateType; ok is false if it is none toward cars.
func editionOf(certificateType string) (e edition, ok bool) {
	for _, e := range []edition{edition2, edition20} {
		if certificateType == e.asked {
			return e, true
		}
	}
	return edition{}, false
}

// purpose tells a station's orders apart: a newer one of the same takes the place
// of an older one.
type purpose struct{ secc, kind string }

func (o *Order) purpose() purpose {
	if o.SECC == "" {
		return purpose{} // one certificate, whatever it is called
	}
	return purpose{o.SECC, o.Type}
}

// step is the one of the plan that asks for such orders.
func (o *Order) step() StepName {
	if e, ok := editionOf(o.Type); ok && o.SECC != "" {
		return e.step
	}
	return StepCertificate
}

// seccOrdersKept is how many are looked at: a few of each identifier and edition.
const seccOrdersKept = 8 * maxSECCs

// ordersLike are the station's orders of the same sort, newest first.
func (s *Service) ordersLike(ctx context.Context, o *Order) ([]Order, error) {
	if o.SECC != "" {
		return s.store.SECCOrders(ctx, o.Station, seccOrdersKept)
	}
	return s.store.Orders(ctx, o.Station, ordersKept)
}

// judgeSECC judges a request for a certificate toward cars and completes its order.
// reason is a fault that may be set to warn; what isn't in the station's record
// never may.
func (s *Service) judgeSECC(sess Session, e edition, csr *ca.CSR, st *Station, root *ocpp.CertificateHashData, order *Order) (reason string, refused *refusedRequest) {
	invalid := func(reason string) (string, *refusedRequest) {
		return "", &refusedRequest{ocpp.ReasonInvalidCSR, "the request was refused", reason}
	}
	paths := s.cfg.Authority.Paths(e.kind)
	switch {
	case e.since21 && sess.Version() != ocpp.V21:
		return "", unsupported("certificates of " + e.name + " came with OCPP 2.1")
	case len(paths) == 0:
		return "", unsupported(fmt.Sprintf("there is no hierarchy %s: `bollard ca create %s` makes it", e.kind, e.kind))
	case !st.has(csr.CommonName):
		return invalid(fmt.Sprintf("CSR's common name %.64q is no SECC identifier of the station's: `bollard station secc %s --add` records one", csr.CommonName, st.Identity))
	case !slices.Contains(s.cfg.Authority.KeyClasses(e.profile), csr.Key.Class()):
		return invalid(fmt.Sprintf("CSR's key is on %s, certificates of %s have %s", csr.Key.Class(), e.name, ca.KeyClasses(e.profile)[0]))
	}
	if root != nil {
		i := slices.IndexFunc(paths, func(p ca.Path) bool { return hashdata.Names(*root, p.Root, p.Root) })
		if i < 0 {
			return "", unsupported("hashRootCertificate names no root that the hierarchy " + string(e.kind) + " leads to (A02.FR.27)")
		}
		order.Root = fingerprint(paths[i].Root)
	}
	order.SECC = csr.CommonName
	switch {
	case len(csr.Organisation) != 1 || csr.Organisation[0] != s.cfg.Organisation:
		return fmt.Sprintf("CSR's organisation is not %q: it comes from ISO15118Ctrlr.OrganizationName", s.cfg.Organisation), nil
	case csr.CA:
		return "CSR asks for a certificate that can issue others (CA:TRUE)", nil
	}
	return "", nil
}

func fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return hex.EncodeToString(sum[:])
}

// has says whether the identifier is one of the station's, byte for byte.
func (st *Station) has(secc string) bool {
	return slices.ContainsFunc(st.SECCs, func(s SECC) bool { return s.ID == secc })
}

// errNotItsSECC ends the order of an identifier the station lost meanwhile.
var errNotItsSECC = errors.New("the SECC identifier isn't the station's any more")

// certifySECC runs both phases for a certificate toward cars. What is recorded
// counts as it is now.
func (s *Service) certifySECC(ctx context.Context, st *Station, order *Order, key ca.ProvenKey) (*ca.Issued, error) {
	if !st.LostAt.IsZero() {
		return nil, fmt.Errorf("%w: %s", errLost, st.LostReason)
	}
	e, ok := editionOf(order.Type)
	if !ok || !st.has(order.SECC) {
		return nil, fmt.Errorf("%w: %s", errNotItsSECC, order.SECC)
	}
	prepared, err := s.cfg.Authority.Prepare(ctx, ca.Order{
		Profile: e.profile, Key: key, Subject: ca.Subject{CommonName: order.SECC},
		Station: keyOf(st), Requester: "station:" + keyOf(st), Reference: order.ID,
	})
	if err != nil {
		return nil, err
	}
	return s.cfg.Authority.Issue(ctx, prepared)
}

// chainFor is the chain to the root the station asked for (A02.FR.27), the one
// served if it asked for none or that root is no more.
func (s *Service) chainFor(order *Order, served []*x509.Certificate) []*x509.Certificate {
	e, ok := editionOf(order.Type)
	if !ok || order.Root == "" {
		return served
	}
	for _, p := range s.cfg.Authority.Paths(e.kind) {
		// What an older key issued keeps that one's chain.
		if fingerprint(p.Root) == order.Root && len(served) > 0 && bytes.Equal(p.Chain[0].SubjectKeyId, served[0].SubjectKeyId) {
			return p.Chain
		}
	}
	return served
}

// stepSECC has the station ask for the certificates toward cars it should have and
// doesn't, or that are due.
func (s *Service) stepSECC(e edition) planStep {
	return planStep{
		name: e.step,
		needed: func(ctx context.Context, sit *situation) bool {
			due, err := s.dueSECCs(ctx, sit, e)
			return err == nil && len(due) > 0
		},
		do: func(ctx context.Context, sit *situation) (string, bool, error) { return s.triggerSECCs(ctx, sit, e) },
	}
}

// dueSECCs are the station's identifiers without a certificate that is good for
// some time, and none on its way.
func (s *Service) dueSECCs(ctx context.Context, sit *situation, e edition) ([]SECC, error) {
	if len(sit.st.SECCs) == 0 || e.since21 && sit.sess.Version() != ocpp.V21 || len(s.cfg.Authority.Paths(e.kind)) == 0 {
		return nil, nil
	}
	orders, err := s.store.SECCOrders(ctx, sit.l.key, seccOrdersKept)
	if err != nil {
		return nil, fmt.Errorf("couldn't read certificate orders: %w", err)
	}
	var due []SECC
	for _, secc := range sit.st.SECCs {
		if until, err := s.seccUntil(ctx, orders, purpose{secc.ID, e.asked}, sit.plan.SECCSince); err != nil {
			return nil, err
		} else if !sit.now.Before(until) {
			due = append(due, secc)
		}
	}
	return due, nil
}

// seccUntil is when a certificate of this purpose is to be renewed, far away while
// one is on its way; the zero time without one.
func (s *Service) seccUntil(ctx context.Context, orders []Order, of purpose, since time.Time) (time.Time, error) {
	for i := range orders {
		o := &orders[i]
		switch {
		case o.purpose() != of:
		case open(o):
			return s.clock().AddDate(1, 0, 0), nil
		case o.State == OrderDelivered && !o.CreatedAt.Before(since):
			issued, err := s.cfg.Authority.Lookup(ctx, o.Serial)
			if err != nil {
				return time.Time{}, err
			}
			if issued.State == ca.StateIssued {
				return ca.RenewAt(issued.Certificate), nil
			}
		}
	}
	return time.Time{}, nil
}

// seccsAtOnce bounds how many requests a station is asked for in one go: they count
// against what it may ask for.
const seccsAtOnce = 4

// triggerSECCs tells the station who it is toward cars, as far as it lets itself be
// told, and asks for one request each (A02: a trigger for each SeccId with its evse).
func (s *Service) triggerSECCs(ctx context.Context, sit *situation, e edition) (string, bool, error) {
	const what = "couldn't have the station ask for its certificates toward cars"
	if sit.plan.RejectedSECC >= rejectionsKept {
		return what, false, fmt.Errorf("it refused %d in a row: look at its clock and its V2G roots, then `bollard station secc %s --renew`; %w",
			sit.plan.RejectedSECC, sit.st.Identity, errPointless)
	}
	due, err := s.dueSECCs(ctx, sit, e)
	if err != nil {
		return what, false, err
	}
	sess := sit.sess
	if sess.Version() == ocpp.V16 {
		sess = transferred{sess} // OCA plug & charge note
	}
	asked := 0
	var failures []error
	batch := nextSECCs(due, sit.plan.Tries[e.step].Count, sit.now)
	for _, secc := range batch {
		if !s.mayBeAsked(sit.l.key, asked) {
			break // it would be refused, and might give plug & charge up (A02.FR.21)
		}
		if err := s.triggerSECC(ctx, sess, sit.sess.Version(), e, secc); err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", secc.ID, pointless(err)))
			if !answered(err) {
				break // the others would wait for an answer as long
			}
			continue
		}
		s.recordStep(ctx, sit.sess, "plan.triggered", map[string]string{"secc": secc.ID, "type": e.asked})
		asked++
	}
	switch {
	case len(failures) == len(batch):
		return what, false, oneLine(failures)
	case len(failures) > 0:
		return what, false, errors.New(oneLine(failures).Error()) // others may do: it isn't pointless
	case asked == 0:
		return what, false, errors.New("it asked for many certificates just now")
	}
	return fmt.Sprintf("asked for %d certificate requests of %s", asked, e.name), false, nil
}

// nextSECCs are those a try is about: other ones each time, in turn, so that none that
// fail keep the rest from it. Tries count to stepTries, then there is one a day.
func nextSECCs(due []SECC, try int, now time.Time) []SECC {
	start := (try + int(now.Unix()/int64(stepRetryMax/time.Second))) * seccsAtOnce % max(len(due), 1)
	return slices.Concat(due[start:], due[:start])[:min(len(due), seccsAtOnce)]
}

func (s *Service) triggerSECC(ctx context.Context, sess Session, version ocpp.Version, e edition, secc SECC) error {
	var evse *ocpp.EVSE
	if secc.EVSE > 0 {
		evse = &ocpp.EVSE{ID: secc.EVSE}
	}
	if version != ocpp.V16 {
		for _, v := range []struct {
			of          *ocpp.EVSE
			name, value string
		}{{nil, "OrganizationName", s.cfg.Organisation}, {evse, "SeccId", secc.ID}} {
			// A station that can't be told may know it already: its CSR will show.
			if _, err := setVariable(ctx, sess, ocpp.Component{Name: "ISO15118Ctrlr", EVSE: v.of}, v.name, v.value); err != nil && !answered(err) {
				return err
			}
		}
	}
	_, err := call(ctx, sess, ocpp.ActionTriggerMessage, ocpp.TriggerMessageRequest{RequestedMessage: e.trigger, EVSE: evse}, ocpp.StatusAccepted)
	return err
}
