package fleet

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"bollard/ca"
	"bollard/detect"
	"bollard/internal/failpoint"
	"bollard/ledger"
	"bollard/ocpp"
)

// Retries while the station is connected. What can't be signed now (clock,
// disk, key) is tried as long as the session lasts; what can't be delivered is
// tried a few times and then in the next session.
const (
	issueRetry    = 2 * time.Second
	issueRetryMax = 5 * time.Minute
	deliverRetry  = 10 * time.Second
	deliverTries  = 4
	// maxChain is the longest certificateChain in characters, in all versions.
	maxChain = 10000
)

// open says that an order is a session's to work on. What came over EST or
// ACME goes back there, and must not keep a session waiting for it.
func open(o *Order) bool {
	return o.Wire != WireEST && o.Wire != WireACME && (o.State == OrderAccepted || o.State == OrderIssued)
}

// supersede closes the station's other open orders: the newest request counts.
func (s *Service) supersede(ctx context.Context, order *Order) error {
	orders, err := s.ordersLike(ctx, order)
	if err != nil {
		return err
	}
	for i := range orders {
		if orders[i].ID == order.ID || !open(&orders[i]) || orders[i].purpose() != order.purpose() {
			continue
		}
		_, err := s.store.UpdateOrder(ctx, orders[i].ID, func(o *Order) ([]ledger.Event, error) {
			if !open(o) {
				return nil, nil
			}
			return s.move(o, OrderSuperseded, "station asked again with another request", "station:"+o.Station), nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// resume takes up what an earlier session or a crash left open: of each purpose the
// order that changed last; older ones it supersedes.
func (s *Service) resume(ctx context.Context, l *live) error {
	orders, err := s.store.OpenOrders(ctx, l.key)
	if err != nil || len(orders) == 0 {
		return err
	}
	newest := map[purpose]*Order{}
	var list []*Order
	for i := range orders {
		o := &orders[i]
		if !open(o) {
			continue
		}
		switch known := newest[o.purpose()]; {
		case known == nil:
			newest[o.purpose()] = o
			list = append(list, o)
		case o.UpdatedAt.After(known.UpdatedAt):
			*known = *o
		}
	}
	slices.SortStableFunc(list, func(a, b *Order) int { // a station's own first
		return cmp.Compare(min(len(a.SECC), 1), min(len(b.SECC), 1))
	})
	for _, o := range list {
		if err := s.supersede(ctx, o); err != nil {
			return err
		}
		s.work(ctx, l.session, o)
	}
	return nil
}

// outcome of one step of an order.
type outcome uint8

const (
	finished outcome = iota
	retryIssue
	retryDelivery
)

// work drives one order until it is delivered, refused or the session ends. Any
// number of sessions may call it for one order; one at a time has its turn.
func (s *Service) work(ctx context.Context, sess Session, order *Order) {
	for issues, deliveries := 0, 0; ; {
		release, err := s.takeTurn(ctx, order.Station)
		if err != nil {
			return
		}
		changed := func() {}
		if l := s.liveOf(sess); l != nil {
			changed = l.begin()
		}
		next, reason := s.advance(ctx, sess, order)
		changed()
		release()
		if ctx.Err() != nil {
			return
		}
		if next == finished {
			break
		}
		s.log.Warn("certificate order waits", slog.String("station", order.Station), slog.String("session", sess.ID()),
			slog.String("order", order.ID), slog.String("reason", reason))
		s.note(ctx, order.Station, reason)
		delay := time.Duration(0)
		if next == retryIssue {
			delay = retryDelay(issueRetry, issueRetryMax, issues)
			issues++
		} else {
			if deliveries++; deliveries == deliverTries {
				return // the next session, or the next look at this one, takes it up
			}
			delay = retryDelay(deliverRetry, issueRetryMax, deliveries-1)
		}
		if s.sleep(ctx, delay) != nil {
			return
		}
	}
	if l := s.liveOf(sess); l != nil {
		l.poke(s) // what waited for the certificate can go on
	}
}

func (s *Service) sleep(ctx context.Context, d time.Duration) error {
	passed := make(chan struct{})
	stop := s.after(d, func() { close(passed) })
	select {
	case <-passed:
		return nil
	case <-ctx.Done():
		stop()
		return ctx.Err()
	}
}

// advance takes the order as far as it goes now. The steps survive a crash at
// any point: what exists is found by the order's reference, never made twice.
func (s *Service) advance(ctx context.Context, sess Session, order *Order) (outcome, string) {
	now, ok, err := s.store.OrderByCSR(ctx, order.Station, order.CSRHash)
	switch {
	case err != nil:
		return retryIssue, fmt.Sprintf("couldn't read the certificate order: %v", err)
	case !ok || now.ID != order.ID || !open(&now):
		return finished, ""
	}
	// 1. A certificate for this order exists already, or is issued.
	issued, err := s.cfg.Authority.LookupReference(ctx, order.ID)
	if err == nil && issued == nil {
		issued, err = s.issue(ctx, &now)
	}
	if err != nil {
		if permanent(err) {
			if badKey(err) {
				s.noticed(sess, detect.CSRMismatch, "")
			}
			return s.close(ctx, &now, "couldn't issue: "+err.Error())
		}
		return retryIssue, fmt.Sprintf("couldn't issue the certificate, it is tried again: %v", err)
	}
	if issued.State != ca.StateIssued {
		return s.close(ctx, &now, fmt.Sprintf("certificate %s was %s before it was delivered", issued.Serial, issued.State))
	}
	// 2. The order knows it.
	if now.State != OrderIssued || now.Serial != issued.Serial {
		_, err := s.store.UpdateOrder(ctx, now.ID, func(o *Order) ([]ledger.Event, error) {
			if !open(o) {
				return nil, nil
			}
			o.Serial = issued.Serial
			return s.move(o, OrderIssued, "", "bollard"), nil
		})
		if err != nil {
			return retryIssue, fmt.Sprintf("couldn't record the certificate: %v", err)
		}
		now.State, now.Serial = OrderIssued, issued.Serial
	}
	// 3. The station gets it.
	issued.Chain = s.chainFor(&now, issued.Chain)
	return s.deliver(ctx, sess, &now, issued)
}

func (s *Service) issue(ctx context.Context, order *Order) (*ca.Issued, error) {
	st, err := s.store.Station(ctx, order.Station)
	if err != nil {
		return nil, err
	}
	csr, err := ca.ParseCSR(order.CSR)
	if err != nil {
		return nil, err
	}
	if order.SECC != "" {
		return s.certifySECC(ctx, &st, order, csr.Key)
	}
	attested, err := s.evidence(ctx, &st, &csr)
	var issued *ca.Issued
	if err == nil {
		issued, err = s.certify(ctx, &st, ca.Order{Key: csr.Key, Reference: order.ID, Attested: attested})
	}
	if errors.Is(err, ca.ErrNotAttested) { // by now: it was taken for attested
		s.unattested(ctx, order.Station, order.Wire, &csr, err)
	}
	return issued, err
}

// permanent errors don't go away by trying again.
func permanent(err error) bool {
	var csr *ca.CSRError
	var lint *ca.LintError
	return errors.Is(err, ca.ErrKeyInUse) || errors.Is(err, ca.ErrNotAttested) || errors.Is(err, ErrUnknownStation) || errors.Is(err, errNotItsSECC) || errors.Is(err, errLost) || errors.As(err, &csr) || errors.As(err, &lint)
}

// badKey says that what a station asked for is the fault.
func badKey(err error) bool {
	var csr *ca.CSRError
	return errors.Is(err, ca.ErrKeyInUse) || errors.As(err, &csr)
}

func (s *Service) close(ctx context.Context, order *Order, reason string) (outcome, string) {
	_, err := s.store.UpdateOrder(ctx, order.ID, func(o *Order) ([]ledger.Event, error) {
		if !open(o) {
			return nil, nil
		}
		return s.move(o, OrderRejected, reason, "bollard"), nil
	})
	if err != nil {
		return retryIssue, fmt.Sprintf("couldn't record the end of a certificate order: %v", err)
	}
	s.log.Error("certificate order ended without a certificate in use", slog.String("station", order.Station),
		slog.String("order", order.ID), slog.String("serial", order.Serial), slog.String("reason", reason))
	s.note(ctx, order.Station, reason)
	return finished, reason
}

// deliver sends CertificateSigned as a CALL of its own (A02.FR.14 and .25: type
// and requestId copied).
func (s *Service) deliver(ctx context.Context, sess Session, order *Order, issued *ca.Issued) (outcome, string) {
	action, payload, err := signedMessage(order, issued)
	if err != nil {
		return s.close(ctx, order, err.Error())
	}
	if reason, err := s.chainTooLong(ctx, order, payload); err != nil {
		return retryDelivery, err.Error()
	} else if reason != "" {
		return s.close(ctx, order, reason)
	}
	failpoint.Hit("fleet.before-deliver")
	answer, err := sess.Call(ctx, action, payload)
	if err == nil && order.Wire == WireDataTransfer {
		answer, err = unwrapAnswer(answer)
	}
	var failure *ocpp.CallFailure
	switch {
	case errors.As(err, &failure) && failure.Code != ocpp.InternalError && failure.Code != ocpp.GenericError:
		return s.close(ctx, order, "station can't take certificates: it answered "+capped(string(failure.Code)))
	case err != nil:
		return retryDelivery, fmt.Sprintf("couldn't deliver the certificate: %v", err)
	}
	failpoint.Hit("fleet.after-deliver")
	var status ocpp.GenericStatus
	if err := ocpp.DecodeStrict(answer, &status); err != nil {
		return retryDelivery, fmt.Sprintf("couldn't read the station's answer to CertificateSigned: %v", err)
	}
	if status.Status != ocpp.StatusAccepted {
		// No automatic retry (A02.FR.20): the station waits for a trigger.
		if err := s.rejected(ctx, order); err != nil && !errors.Is(err, ErrUnknownStation) {
			return retryDelivery, fmt.Sprintf("couldn't record that the station rejected its certificate: %v", err)
		}
		reason := "station rejected certificate " + issued.Serial
		if status.StatusInfo != nil {
			reason += ": " + fmt.Sprintf("%.20q", status.StatusInfo.ReasonCode)
		}
		return s.close(ctx, order, reason)
	}
	return s.delivered(ctx, order)
}

func (s *Service) delivered(ctx context.Context, order *Order) (outcome, string) {
	_, err := s.store.UpdateOrder(ctx, order.ID, func(o *Order) ([]ledger.Event, error) {
		if o.State != OrderIssued {
			return nil, nil // the station was seen with it already, or asked anew
		}
		return s.move(o, OrderDelivered, "", "station:"+o.Station), nil
	})
	if err == nil {
		_, err = s.store.UpdateStation(ctx, order.Station, func(st *Station) ([]ledger.Event, error) {
			st.PlanNote = ""
			if order.SECC == "" {
				st.RenewWanted = false
			}
			return nil, nil
		})
	}
	if err == nil {
		err = s.delivery(ctx, order)
	}
	if err != nil && !errors.Is(err, ErrUnknownStation) {
		// The station has it; saying so again does no harm.
		return retryDelivery, fmt.Sprintf("couldn't record that the certificate was delivered: %v", err)
	}
	return finished, ""
}

// chainTooLong compares a chain with the limit the station reported of itself
// (MaxCertificateChainSize, CertificateSignedMaxChainSize; A02.FR.16).
func (s *Service) chainTooLong(ctx context.Context, order *Order, payload any) (string, error) {
	signed, plain := payload.(ocpp.CertificateSignedRequest)
	if !plain {
		return "", nil
	}
	plan, err := s.store.Plan(ctx, order.Station)
	if err != nil {
		return "", fmt.Errorf("couldn't read the station's limits: %w", err)
	}
	if n := len(signed.CertificateChain); plan.Limits.Chain > 0 && n > plan.Limits.Chain {
		return fmt.Sprintf("certificate chain has %d characters, the station takes %d", n, plan.Limits.Chain), nil
	}
	return "", nil
}

// delivery forgets how often the station was asked: it did ask.
func (s *Service) delivery(ctx context.Context, order *Order) error {
	plan, err := s.store.Plan(ctx, order.Station)
	step := order.step()
	if _, tried := plan.Tries[step]; err != nil || !tried && (order.SECC == "" || plan.RejectedSECC == 0) {
		return err
	}
	_, err = s.store.UpdatePlan(ctx, order.Station, func(p *Plan) ([]ledger.Event, error) {
		delete(p.Tries, step)
		if order.SECC != "" {
			p.RejectedSECC = 0
		}
		return nil, nil
	})
	return err
}

// signedMessage builds CertificateSigned in the shape the CSR came in: leaf
// first, then the sub-CAs, the root left out.
func signedMessage(order *Order, issued *ca.Issued) (action string, payload any, err error) {
	if order.Wire == WireEdition1 {
		list := []string{hex.EncodeToString(issued.Certificate.Raw)}
		for _, c := range issued.Chain {
			list = append(list, hex.EncodeToString(c.Raw))
		}
		return ocpp.ActionCertificateSigned, ocpp.CertificateSignedEdition1{Cert: list, TypeOfCertificate: order.Type}, nil
	}
	var chain strings.Builder
	chain.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issued.Certificate.Raw}))
	for _, c := range issued.Chain {
		chain.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	if chain.Len() > maxChain {
		return "", nil, fmt.Errorf("certificate chain has %d characters, OCPP takes %d", chain.Len(), maxChain)
	}
	signed := ocpp.CertificateSignedRequest{CertificateChain: chain.String(), CertificateType: order.Type, RequestID: order.RequestID}
	if order.Wire == WireDataTransfer {
		return ocpp.ActionDataTransfer, ocpp.DataTransferRequest{VendorID: pncVendor, MessageID: ocpp.ActionCertificateSigned, Data: Wrap(signed)}, nil
	}
	return ocpp.ActionCertificateSigned, signed, nil
}

// certificatesOf lists the serials of a station's certificates that are good, own and
// outside ones, whichever way they were asked for. The serial number it was seen with says
// less: that of an outside certificate which isn't on record may be another's here.
func (s *Service) certificatesOf(ctx context.Context, st *Station) ([]string, error) {
	records, err := s.cfg.Authority.IssuedTo(ctx, keyOf(st))
	if err != nil {
		return nil, err
	}
	var serials []string
	for _, r := range records {
		serials = append(serials, r.Serial)
	}
	return serials, nil
}
