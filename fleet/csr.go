package fleet

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
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

// A station asks a few times a year; one that asks ten times at once and then
// every minute is broken or hostile, and each order costs disk writes.
const (
	csrBurst  = 10
	csrRefill = 1.0 / 60
)

// ordersKept is how many of a station's orders are looked at: newest first.
const ordersKept = 50

func (s *Service) signCertificate(ctx context.Context, sess Session, m Message) (Verdict, error) {
	return s.certificateRequest(ctx, sess, m.Payload, WirePlain, plainAnswer(sess))
}

// certificateRequest judges a SignCertificate in any of its forms.
func (s *Service) certificateRequest(ctx context.Context, sess Session, payload json.RawMessage, wire Wire, answer answerShape) (Verdict, error) {
	var request ocpp.SignCertificateRequest
	if err := ocpp.DecodeStrict(payload, &request); err != nil {
		return Verdict{}, err
	}
	if request.CertificateType == "" {
		request.CertificateType = request.TypeOfCertificate
	}
	if sess.Security() != SecurityBollard {
		if err := s.rememberKey(ctx, sess, &request); err != nil {
			// The station asks again; without the record its certificate would be refused.
			return Verdict{Act: Answer, Payload: answer(ocpp.StatusRejected, ocpp.ReasonInternalError, "try again later"), Reason: err.Error()}, nil //nolint:nilerr // the verdict carries it
		}
		return Verdict{Act: Pass}, nil
	}
	if wire == WirePlain && hexOnly(request.CSR) {
		wire = WireEdition1
	}
	order, refused := s.take(ctx, sess, &request, wire)
	if refused == nil {
		if err := s.supersede(ctx, &order); err != nil {
			// The order stands; the others are superseded when they are looked at.
			s.log.Warn("couldn't close older certificate orders", slog.String("station", order.Station), slog.Any("err", err))
		}
	}
	if refused != nil {
		if refused.code == ocpp.ReasonInvalidCSR {
			s.noticed(sess, detect.CSRMismatch, "")
		}
		s.tellRefused(ctx, sess, refused.reason)
		return Verdict{Act: Answer, Payload: answer(ocpp.StatusRejected, refused.code, refused.public), Reason: refused.reason}, nil
	}
	return Verdict{Act: Answer, Payload: answer(ocpp.StatusAccepted, "", ""), Reason: "order " + order.ID,
		After: func(ctx context.Context) {
			failpoint.Hit("fleet.answered")
			s.work(ctx, sess, &order)
		}}, nil
}

const tooOften = "station asks for certificates too often"

// tellRefused tells the operator. Every reason but tooOften costs the station a
// token; that one is told once in a row, so that a flood makes no flood of lines.
func (s *Service) tellRefused(ctx context.Context, sess Session, reason string) {
	key := keyOfSession(sess)
	if known := s.notedBefore(key+"\x00csr", reason); !known || reason != tooOften {
		s.log.Warn("certificate request refused", slog.String("station", key), slog.String("session", sess.ID()), slog.String("reason", reason))
	}
	s.note(ctx, key, "certificate request refused: "+reason)
}

// refusedRequest is why a CSR is answered Rejected: public goes to the station.
type refusedRequest struct{ code, public, reason string }

// take turns a CSR into a durable order, or finds the one it already is: a
// station that got no certificate in time repeats its CSR (A02.FR.17), and two
// certificates for one CSR are never issued.
func (s *Service) take(ctx context.Context, sess Session, request *ocpp.SignCertificateRequest, wire Wire) (Order, *refusedRequest) {
	invalid := func(reason string) (Order, *refusedRequest) {
		return Order{}, &refusedRequest{ocpp.ReasonInvalidCSR, "the request was refused", reason}
	}
	key := keyOfSession(sess)
	if !s.mayAsk(key) {
		return Order{}, &refusedRequest{ocpp.ReasonUnsupportedRequest, "too many requests", tooOften}
	}
	edition, toCars := editionOf(request.CertificateType)
	if !toCars && request.CertificateType != "" && request.CertificateType != ocpp.ChargingStationCertificate {
		return Order{}, unsupported("no hierarchy issues certificates of a type the standard doesn't know")
	}
	csr, err := ca.ParseCSR([]byte(request.CSR))
	if err != nil {
		return invalid(err.Error())
	}
	internal := func(err error) (Order, *refusedRequest) {
		return Order{}, &refusedRequest{ocpp.ReasonInternalError, "try again later", err.Error()}
	}
	st, err := s.store.Station(ctx, key)
	if err != nil {
		return internal(fmt.Errorf("couldn't look up the station: %w", err))
	}
	now := s.clock()
	order := Order{
		ID: newOrderID(now), Station: key, CSR: csr.DER, CSRHash: csrHash(&csr), Type: request.CertificateType, RequestID: request.RequestID,
		Wire: wire, State: OrderAccepted, CreatedAt: now, UpdatedAt: now,
	}
	reason := ""
	if toCars {
		var refused *refusedRequest
		if reason, refused = s.judgeSECC(sess, edition, &csr, &st, request.HashRoot, &order); refused != nil {
			return Order{}, refused
		}
	} else {
		adm := sess.Admission()
		if curve := s.curveFault(csr.Key, st.Vendor, st.Model, adm.TLS13); curve != "" {
			return invalid(curve)
		}
		if _, err := s.Attestation(ctx, &st, &csr); errors.Is(err, ca.ErrNotAttested) {
			s.unattested(ctx, key, wire, &csr, err)
			return invalid(err.Error())
		} else if err != nil {
			return internal(err)
		}
		reason = s.csrReason(&csr, &st)
	}
	if reason != "" {
		if !slices.Contains(st.Warn, CheckCSRSubject) {
			return invalid(reason)
		}
		s.warned(ctx, key, CheckCSRSubject, reason)
	}
	before, known, err := s.store.OrderByCSR(ctx, key, order.CSRHash)
	if err != nil {
		return internal(fmt.Errorf("couldn't look for an order of this request: %w", err))
	}
	if known {
		return s.takeAgain(ctx, sess, before, &order)
	}
	if err := s.store.AddOrder(ctx, order, orderEvent(&order, "order.accepted", "station:"+key)); err != nil {
		return internal(fmt.Errorf("couldn't store the order: %w", err))
	}
	failpoint.Hit("fleet.order-accepted")
	return order, nil
}

// unsupported refuses what Bollard doesn't do, or not here.
func unsupported(reason string) *refusedRequest {
	return &refusedRequest{ocpp.ReasonUnsupportedRequest, "no certificates of this type here", reason}
}

// takeAgain answers a CSR that is an order already. What was issued for it is
// delivered again; what came to nothing before a certificate existed is tried
// anew.
func (s *Service) takeAgain(ctx context.Context, sess Session, order Order, asked *Order) (Order, *refusedRequest) {
	now := s.clock()
	if order.SECC != asked.SECC || order.SECC != "" && order.Type != asked.Type {
		return Order{}, &refusedRequest{ocpp.ReasonInvalidCSR, "another certificate needs a new key pair",
			"request repeats one for another kind of certificate: each needs a key pair of its own"}
	}
	issued, err := s.cfg.Authority.LookupReference(ctx, order.ID)
	if err == nil && issued != nil && (issued.State != ca.StateIssued || now.After(ca.RenewAt(issued.Certificate))) {
		return Order{}, &refusedRequest{ocpp.ReasonInvalidCSR, "a renewal needs a new key pair",
			"request repeats that of certificate " + issued.Serial + ", which is revoked or due for renewal: a renewal needs a new key pair (A02.FR.02)"}
	}
	if err == nil {
		order, err = s.store.UpdateOrder(ctx, order.ID, func(o *Order) ([]ledger.Event, error) {
			o.Type, o.RequestID, o.Wire, o.Root = asked.Type, asked.RequestID, asked.Wire, asked.Root
			state := OrderAccepted
			if o.Serial != "" {
				state = OrderIssued
			}
			return s.move(o, state, "", "station:"+o.Station), nil
		})
	}
	if err != nil {
		return Order{}, &refusedRequest{ocpp.ReasonInternalError, "try again later", fmt.Sprintf("couldn't reopen order of session %s: %v", sess.ID(), err)}
	}
	return order, nil
}

// csrReason compares what a CSR asks for with what the certificate will say
// whatever it asks for: a difference shows a station set up for somebody else, or an attacker
// (A02 notes; threat C1: an error, not silently mended).
func (s *Service) csrReason(csr *ca.CSR, st *Station) string {
	if csr.CommonName != st.Serial && !slices.Contains(st.Aliases, csr.CommonName) {
		return fmt.Sprintf("CSR's common name %.64q is not the registered serial number %q", csr.CommonName, st.Serial)
	}
	if len(csr.Organisation) != 1 || csr.Organisation[0] != s.cfg.Organisation {
		return fmt.Sprintf("CSR's organisation is not %q: it comes from CpoName or SecurityCtrlr.OrganizationName (A02.FR.13)", s.cfg.Organisation)
	}
	if csr.CA {
		return "CSR asks for a certificate that can issue others (CA:TRUE)"
	}
	return ""
}

// move changes an order's state and returns the evidence of it.
func (s *Service) move(o *Order, to OrderState, reason, actor string) []ledger.Event {
	if o.State == to && o.Reason == reason {
		return nil
	}
	o.State, o.Reason, o.UpdatedAt = to, reason, s.clock()
	return []ledger.Event{orderEvent(o, "order."+string(to), actor)}
}

func orderEvent(o *Order, kind, actor string) ledger.Event {
	e := ledger.Event{Kind: kind, Subject: o.ID, Actor: actor, Data: map[string]string{"station": o.Station}}
	if o.Serial != "" {
		e.Data["serial"] = o.Serial
	}
	if o.Reason != "" {
		e.Data["reason"] = fact(o.Reason)
	}
	if o.SECC != "" {
		e.Data["secc"], e.Data["type"] = o.SECC, o.Type
	}
	return e
}

// newOrderID begins with the time, as version 7 of a UUID does (RFC 9562 §5.7), so that
// orders made together stand together in the indexes; 80 bits of it are random.
func newOrderID(now time.Time) string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], uint64(now.UnixMilli())<<16)
	_, _ = rand.Read(b[6:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

func hexOnly(text string) bool {
	text = strings.TrimSpace(text)
	_, err := hex.DecodeString(text)
	return err == nil && text != ""
}

func keyOfSession(sess Session) string {
	adm := sess.Admission()
	return adm.Station.Key()
}

// note tells the operator on the station's page why something hasn't come about.
// A note that is there already isn't written again.
func (s *Service) note(ctx context.Context, key, text string) {
	st, err := s.store.Station(ctx, key)
	if err != nil || st.PlanNote == text {
		return
	}
	_, err = s.store.UpdateStation(ctx, key, func(st *Station) ([]ledger.Event, error) {
		st.PlanNote = text
		return nil, nil
	})
	if err != nil && ctx.Err() == nil && !errors.Is(err, ErrUnknownStation) {
		s.log.Warn("couldn't note the state of a plan", slog.String("station", key), slog.Any("err", err))
	}
}

// retryDelay doubles from first up to most.
func retryDelay(first, most time.Duration, tries int) time.Duration {
	d := first
	for range tries {
		if d *= 2; d >= most {
			return most
		}
	}
	return d
}
