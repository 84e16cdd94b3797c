package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"bollard/ca"
	"bollard/ledger"
	"bollard/ocpp"
)

const (
	// After a delivery the station is left alone this long to come back with the
	// certificate before it is asked for another one (A02.FR.29).
	deliveryRest = time.Hour
	// rejectionsKept is how many certificates a station may reject or discard in a
	// row before Bollard stops making new ones (A02.FR.20).
	rejectionsKept = 3
	// defaultRenewals is how many stations a minute are asked to renew because of
	// their certificates' age.
	defaultRenewals = 60
	// urgentBefore is how long before its end a certificate no longer waits for
	// the fleet's turn.
	urgentBefore = 24 * time.Hour
)

// Why an order ended after the station had accepted its certificate.
const (
	reasonDiscarded = "station discarded the renewed certificate (A02.FR.29)"
	reasonInvalid   = "station reported the certificate as invalid (A02.FR.07)"
)

// needsCertificate: the station has none of ours, the operator wants a new one,
// it is due (A03), or the wanted profile needs one.
func (s *Service) needsCertificate(ctx context.Context, sit *situation) bool {
	adm := sit.adm
	due := adm.Leaf != nil && !adm.Factory && !sit.now.Before(adm.Leaf.RenewAt())
	needsFirst := sit.st.WantedProfile == 3 && adm.Profile < 3
	if !sit.st.RenewWanted && !adm.Factory && !due && !needsFirst {
		return false // as with most, most of the time: what it was given isn't looked at
	}
	orders, ok := s.recentOrders(ctx, sit)
	if !ok {
		return false
	}
	now := sit.now
	usable, rested := false, true
	for i := range orders {
		o := &orders[i]
		if open(o) {
			return false // it is being worked on
		}
		if o.State != OrderDelivered && o.State != OrderConfirmed {
			continue
		}
		issued, err := s.cfg.Authority.Lookup(ctx, o.Serial)
		begun := err == nil && !now.Before(issued.Certificate.NotBefore) // else the clock was ahead
		if begun && issued.State == ca.StateIssued && now.Before(ca.RenewAt(issued.Certificate)) {
			usable = true
			if o.State == OrderDelivered && now.Sub(o.UpdatedAt) < deliveryRest {
				rested = false
			}
			break // newest first: older ones don't matter
		}
	}
	// A station that just got a certificate and comes back on what it had may
	// still be on its way to the new one (A02.FR.28).
	patient := !rested && adm.Leaf != nil && (adm.Factory || now.After(adm.Leaf.NotAfter()))
	return sit.st.RenewWanted && !patient ||
		adm.Factory && rested ||
		due && rested && (!usable || adm.Profile == 3) ||
		needsFirst && !usable
}

// renewalTurn is how long a station waits for its turn. A fleet that enrolled on
// one day or comes back from an outage together is asked one after the other;
// what can't wait doesn't.
func (s *Service) renewalTurn(sit *situation) time.Duration {
	leaf := sit.adm.Leaf
	if sit.st.RenewWanted || sit.adm.Factory || leaf == nil || sit.st.WantedProfile > sit.adm.Profile ||
		leaf.NotAfter().Sub(sit.now) < urgentBefore {
		return 0
	}
	return s.fleetTurn(sit)
}

// fleetTurn is how long a station waits until it is its turn among all.
func (s *Service) fleetTurn(sit *situation) time.Duration {
	perMinute := s.cfg.RenewalsPerMinute
	if perMinute <= 0 {
		perMinute = defaultRenewals
	}
	sit.l.mu.Lock()
	defer sit.l.mu.Unlock()
	if sit.l.renewAt.IsZero() {
		s.mu.Lock()
		at := sit.now
		if s.renewNext.After(at) {
			at = s.renewNext
		}
		s.renewNext = at.Add(time.Minute / time.Duration(perMinute))
		s.mu.Unlock()
		sit.l.renewAt = at
	}
	if wait := sit.l.renewAt.Sub(sit.now); wait > 0 {
		return wait
	}
	sit.l.renewAt = time.Time{} // the next try takes a turn of its own
	return 0
}

// trigger sets the organisation the CSR must carry (A02 prerequisite: CpoName,
// OrganizationName) and asks for a CSR. A station that can't set it may have it
// right already; its CSR will show.
func (s *Service) trigger(ctx context.Context, sit *situation) (string, bool, error) {
	sess := sit.sess
	if sit.plan.Rejected >= rejectionsKept {
		return "station refused its new certificate", false, fmt.Errorf("%d in a row: look at its clock and at its roots, then `bollard station renew %s`; %w",
			sit.plan.Rejected, sit.st.Identity, errPointless)
	}
	action, payload := ocpp.ActionTriggerMessage, ocpp.TriggerMessageRequest{RequestedMessage: ocpp.TriggerSignChargingStation}
	var err error
	if sess.Version() == ocpp.V16 {
		_, err = call(ctx, sess, ocpp.ActionChangeConfiguration, ocpp.ChangeConfigurationRequest16{Key: "CpoName", Value: s.cfg.Organisation},
			ocpp.StatusAccepted, ocpp.StatusRebootRequired)
		action, payload.RequestedMessage = ocpp.ActionExtendedTrigger, ocpp.TriggerSignChargePoint
	} else {
		_, err = setVariable(ctx, sess, ocpp.Component{Name: "SecurityCtrlr"}, "OrganizationName", s.cfg.Organisation)
	}
	if err != nil && !answered(err) {
		return "couldn't set the organisation for the certificate request", false, err
	}
	if sess.Version() != ocpp.V16 && sit.plan.CertificateType == CertificateCombined {
		payload.RequestedMessage = ocpp.TriggerSignCombined
	}
	_, err = call(ctx, sess, action, payload, ocpp.StatusAccepted)
	if lacks := errors.Is(pointless(err), errPointless); lacks && s.combined(ctx, sit) {
		// A station with one certificate for both uses may know only this trigger.
		payload.RequestedMessage = ocpp.TriggerSignCombined
		_, err = call(ctx, sess, action, payload, ocpp.StatusAccepted)
	}
	if err != nil {
		return "couldn't have the station ask for a certificate", false, err
	}
	s.recordStep(ctx, sess, "plan.triggered", nil)
	return "asked for a certificate request", false, nil
}

// combined says whether the station's last request was for one certificate for
// both uses: it named no type (2.x).
func (s *Service) combined(ctx context.Context, sit *situation) bool {
	if sit.sess.Version() == ocpp.V16 {
		return false
	}
	orders, ok := s.recentOrders(ctx, sit)
	return ok && len(orders) > 0 && orders[0].Type == ""
}

// certificateEvent acts on a SecurityEventNotification about a certificate, by
// its 2.x name.
func (s *Service) certificateEvent(ctx context.Context, sess Session, kind string) {
	reason, renew := reasonInvalid, false
	switch kind {
	case ocpp.EventDiscardedRenewed:
		reason, renew = reasonDiscarded, true
	case ocpp.EventInvalidStationCertificate:
	default:
		return
	}
	if sess.Security() != SecurityBollard {
		return
	}
	key := keyOfSession(sess)
	if err := s.certificateLost(ctx, key, reason, renew); err != nil && ctx.Err() == nil {
		s.log.Warn("couldn't act on a security event", slog.String("station", key), slog.String("reason", reason), slog.Any("err", err))
		return
	}
	if l := s.liveOf(sess); l != nil {
		l.poke(s)
	}
}

// certificateLost ends the order of a certificate the station accepted and
// wouldn't use. An event that fits no such order changes nothing: stations send
// wrong ones, and every event (spec of real stations, libocpp #182, #1061).
func (s *Service) certificateLost(ctx context.Context, key, reason string, renew bool) error {
	orders, err := s.store.Orders(ctx, key, ordersKept)
	if err != nil {
		return fmt.Errorf("couldn't read certificate orders: %w", err)
	}
	i := slices.IndexFunc(orders, func(o Order) bool {
		return o.State == OrderDelivered || o.State == OrderIssued || o.State == OrderConfirmed
	})
	if i < 0 || orders[i].State == OrderConfirmed {
		return nil
	}
	lost := false
	_, err = s.store.UpdateOrder(ctx, orders[i].ID, func(o *Order) ([]ledger.Event, error) {
		if lost = o.State == OrderDelivered || o.State == OrderIssued; !lost {
			return nil, nil
		}
		return s.move(o, OrderRejected, reason, "station:"+key), nil
	})
	if err != nil || !lost {
		return err
	}
	if err := s.rejected(ctx, &orders[i]); err != nil {
		return err
	}
	_, err = s.store.UpdateStation(ctx, key, func(st *Station) ([]ledger.Event, error) {
		st.RenewWanted, st.PlanNote = st.RenewWanted || renew, reason
		return nil, nil
	})
	return err
}

// rejected counts a certificate the station didn't take.
func (s *Service) rejected(ctx context.Context, order *Order) error {
	_, err := s.store.UpdatePlan(ctx, order.Station, func(p *Plan) ([]ledger.Event, error) {
		if order.SECC == "" {
			p.Rejected++
		} else {
			p.RejectedSECC++
		}
		return nil, nil
	})
	return err
}

// superseded revokes the certificate a station no longer uses, where the
// operator wants it. By default it stays good until it expires: a station that
// can't connect with the new one any more falls back to it (A02.FR.28).
func (s *Service) superseded(ctx context.Context, key, old string) error {
	if !s.cfg.RevokeSuperseded || old == "" {
		return nil
	}
	// An outside certificate that isn't on record may have the number of somebody else's.
	rec, err := s.cfg.Authority.Record(ctx, old)
	if errors.Is(err, ca.ErrUnknownSerial) || err == nil && rec.Station != key {
		return nil
	}
	if err == nil {
		_, err = s.cfg.Authority.Revoke(ctx, old, "superseded", "bollard")
	}
	return err
}
