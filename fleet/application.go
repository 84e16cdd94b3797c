package fleet

import (
	"cmp"
	"context"
	"fmt"
	"net/http"

	"bollard/ca"
	"bollard/ca/est"
	"bollard/ledger"
)

// Application is a station's request for a certificate over EST or ACME as it is recorded
// with the certificate: two transactions, of which one precedes the signature and
// one follows it. What a crash leaves is a request nothing is known of, one that
// is accepted and may be repeated, or one that has its certificate.
type Application struct {
	// With the intent: the order is added, unless it is Known.
	Order    Order
	Known    bool
	Accepted ledger.Event
	// And the one-time secret with the hash Secret is bound to the intent's key; nil
	// where something else proved the station. ErrRegistrationUsed as
	// UseRegistration's; Used is recorded the first time.
	Secret []byte
	Used   ledger.Event
	// With the certificate: Issued changes the order. It may be called again, with the
	// order as it was, and does nothing else.
	Issued func(order *Order, serial string) []ledger.Event
}

// apply drives a request through both phases. *certifiedError if its key has a
// certificate already.
func (a *applicant) apply(ctx context.Context, st *Station, csr *ca.CSR, attested ca.Attested, order Order, known bool) (*ca.Issued, error) {
	s := a.service
	if !known {
		now := s.clock()
		order = Order{
			ID: cmp.Or(a.order, newOrderID(now)), Station: a.station, CSR: csr.DER, CSRHash: csrHash(csr), Wire: a.wire,
			State: OrderAccepted, CreatedAt: now, UpdatedAt: now,
		}
	}
	return s.certify(ctx, st, ca.Order{
		Key: csr.Key, Reference: order.ID, Attested: attested,
		Judge: func(onRecord []ca.Record) error { return a.judge(csr.Key, attested, onRecord) },
		Recorder: a.store.Recorder(Application{
			Order: order, Known: known, Accepted: a.accepted(&order), Secret: a.secret, Used: a.used(csr.Key),
			Issued: a.issued,
		}),
	})
}

// certifiedError says which certificate a key has already.
type certifiedError struct{ serial string }

func (e *certifiedError) Error() string { return "the key has certificate " + e.serial }

// judge says what a key is to get: a new certificate, or the one it has
// (*certifiedError), since an answer that got lost is given again; a *est.Refusal
// where a renewal would keep its key (threat C13), the key is somebody else's, or its
// certificate says less of it than is shown now.
func (a *applicant) judge(key ca.ProvenKey, attested ca.Attested, onRecord []ca.Record) error {
	if a.leaf != nil && spkiHash(a.leaf.cert) == key.Hash() {
		return keyInUse("request repeats the key of the presented certificate: a renewal needs a new key pair (A02.FR.02)")
	}
	var has *certifiedError
	for _, r := range onRecord {
		switch {
		case r.Station != a.station || !r.External && r.Profile != ca.ProfileStation:
			return keyInUse("key belongs to certificate %s of %.64q", r.Serial, r.Station)
		case r.State == ca.StateIntended, r.State == ca.StateOrphaned:
			// Nobody ever got it.
		case r.State != ca.StateIssued || r.External:
			return keyInUse("key is that of certificate %s, which is %s: a new certificate needs a new key pair", r.Serial, r.State)
		case attested != (ca.Attested{}) && r.Attested == "":
			return keyInUse("key is that of certificate %s, which isn't on record as attested: one that is needs a new key pair", r.Serial)
		case has == nil:
			has = &certifiedError{r.Serial}
		}
	}
	if has != nil {
		return has
	}
	return nil
}

func keyInUse(format string, args ...any) *est.Refusal {
	return &est.Refusal{Status: http.StatusBadRequest, Public: "the key is in use already: make a new key pair", Reason: fmt.Sprintf(format, args...)}
}

// issued ends an order: if the answer doesn't arrive the station repeats
// its request.
func (a *applicant) issued(o *Order, serial string) []ledger.Event {
	o.Wire, o.Serial = a.wire, serial
	return a.service.move(o, OrderDelivered, "", "station:"+o.Station)
}

// again returns the certificate a request's key has already, unless it is due for
// renewal, and records that.
func (a *applicant) again(ctx context.Context, csr *ca.CSR, order Order, known bool, serial string) (*ca.Issued, error) {
	s := a.service
	issued, err := s.cfg.Authority.Lookup(ctx, serial)
	if err != nil {
		return nil, err
	}
	if !s.clock().Before(ca.RenewAt(issued.Certificate)) {
		return nil, keyInUse("key is that of certificate %s, which is due for renewal: a renewal needs a new key pair (A02.FR.02)", serial)
	}
	if a.secret != nil {
		if err := a.store.UseRegistration(ctx, a.station, a.secret, csr.Key.Hash(), a.used(csr.Key)); err != nil {
			return nil, err
		}
	}
	if known && order.Serial != serial {
		_, err = s.store.UpdateOrder(ctx, order.ID, func(o *Order) ([]ledger.Event, error) { return a.issued(o, serial), nil })
	}
	return issued, err
}

func (a *applicant) used(key ca.ProvenKey) ledger.Event {
	return ledger.Event{
		Kind: "station.enrol-secret-used", Subject: a.station, Actor: "station:" + a.station, Data: map[string]string{"key": key.Hash()},
	}
}
