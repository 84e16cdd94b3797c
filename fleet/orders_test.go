package fleet_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"bollard/ca"
	"bollard/fleet"
	"bollard/ocpp"

	"github.com/google/go-cmp/cmp"
)

func csrPayload(t testing.TB, key crypto.Signer, serial string) string {
	return marshal(t, map[string]any{"csr": csrPEM(t, key, serial, organisation)})
}

func marshal(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// waitOrder waits for the newest order to reach a state.
func (r *rig) waitOrder(identity string, state fleet.OrderState) fleet.Order {
	r.t.Helper()
	var newest fleet.Order
	eventually(r.t, identity+" order "+string(state), func() bool {
		orders, err := r.svc.Orders(r.t.Context(), identity)
		if err != nil {
			r.t.Fatal(err)
		}
		if len(orders) == 0 {
			return false
		}
		newest = orders[0]
		return newest.State == state
	})
	return newest
}

// basic opens a profile 2 session of a new station.
func (r *rig) basic(id string, v ocpp.Version, answer func(string, json.RawMessage) (any, error)) (*fakeSession, fleet.Claim) {
	c := withPassword(claim(r.t, id), r.add(fleet.Enrolment{Identity: id}))
	return r.openWith(r.admit(c), v, fleet.SecurityBollard, answer), c
}

func status(v fleet.Verdict) string {
	b, _ := json.Marshal(v.Payload)
	return string(b)
}

func chainOf(t testing.TB, payload json.RawMessage) []*x509.Certificate {
	t.Helper()
	var signed ocpp.CertificateSignedRequest
	if err := json.Unmarshal(payload, &signed); err != nil {
		t.Fatal(err)
	}
	var list []*x509.Certificate
	for rest := []byte(signed.CertificateChain); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return list
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, cert)
	}
}

func TestOrderToConfirmed(t *testing.T) { // A02, A03, TC_A_11, TC_074
	t.Parallel()
	for _, tt := range []struct {
		v     ocpp.Version
		extra map[string]any
		want  string
	}{
		{ocpp.V16, nil, `{"status":"Accepted"}`},
		{ocpp.V201, map[string]any{"certificateType": "ChargingStationCertificate"}, `{"status":"Accepted"}`},
		{ocpp.V21, map[string]any{"certificateType": "ChargingStationCertificate", "requestId": 0}, `{"status":"Accepted"}`},
	} {
		t.Run(tt.v.String(), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			s, c := r.basic("CS-1", tt.v, nil)
			key := newKey(t)
			request := map[string]any{"csr": csrPEM(t, key, "SN-CS-1", organisation)}
			for k, v := range tt.extra {
				request[k] = v
			}
			v := s.judge(ocpp.FromStation, "SignCertificate", marshal(t, request))
			if v.Act != fleet.Answer || status(v) != tt.want || v.After == nil {
				t.Fatalf("verdict = %+v", v)
			}
			// The promise is durable before it is given.
			if o := r.waitOrder("CS-1", fleet.OrderAccepted); !bytes.Equal(o.CSR, pemBytes(request["csr"].(string))) {
				t.Error("order holds another CSR")
			}
			v.After(s.ctx)
			order := r.waitOrder("CS-1", fleet.OrderDelivered)
			calls := s.sent("CertificateSigned")
			if len(calls) != 1 {
				t.Fatalf("%d CertificateSigned", len(calls))
			}
			var fields map[string]any
			if err := json.Unmarshal(calls[0], &fields); err != nil {
				t.Fatal(err)
			}
			delete(fields, "certificateChain")
			want := map[string]any{}
			for k, v := range tt.extra {
				want[k] = v
			}
			if id, ok := want["requestId"]; ok {
				want["requestId"] = float64(id.(int)) // A02.FR.25: copied, zero too
			}
			if diff := cmp.Diff(want, fields); diff != "" {
				t.Errorf("CertificateSigned (-want +got):\n%s", diff)
			}
			chain := chainOf(t, calls[0])
			if len(chain) != 2 || chain[0].Subject.CommonName != "SN-CS-1" || chain[1].Subject.String() == chain[1].Issuer.String() {
				t.Fatalf("chain of %d: leaf, then sub-CAs, without root", len(chain))
			}
			if !chain[0].PublicKey.(*ecdsa.PublicKey).Equal(key.Public()) {
				t.Error("another key was certified")
			}
			// Old way in until the new one was seen, then never again.
			r.admit(c)
			r.open(r.admit(withCertificates(claim(t, "CS-1"), chain...)), tt.v)
			if o := r.waitOrder("CS-1", fleet.OrderConfirmed); o.ID != order.ID {
				t.Error("another order was confirmed")
			}
			r.refusal(c)
		})
	}
}

func pemBytes(text string) []byte {
	block, _ := pem.Decode([]byte(text))
	return block.Bytes
}

func TestRequestRefused(t *testing.T) {
	t.Parallel()
	weak, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	weak.E = 65537
	for _, tt := range []struct {
		name    string
		version ocpp.Version
		payload func(t testing.TB) string
		want    string
		reason  string
	}{
		{"C1 CN of somebody else", ocpp.V201, func(t testing.TB) string { return csrPayload(t, newKey(t), "SN-CS-2") }, "InvalidCSR", "common name"},
		{"A02.FR.13 O of somebody else", ocpp.V201, func(t testing.TB) string {
			return marshal(t, map[string]any{"csr": csrPEM(t, newKey(t), "SN-CS-1", "Other")})
		}, "InvalidCSR", "CpoName"},
		{"not a CSR", ocpp.V201, func(testing.TB) string { return `{"csr":"hello"}` }, "InvalidCSR", "refused"},
		{"1.6 has no statusInfo", ocpp.V16, func(testing.TB) string { return `{"csr":"hello"}` }, `{"status":"Rejected"}`, "refused"},
		{"V2G has no hierarchy", ocpp.V201, func(t testing.TB) string {
			return marshal(t, map[string]any{"csr": csrPEM(t, newKey(t), "SN-CS-1", organisation), "certificateType": "V2GCertificate"})
		}, "UnsupportedRequest", "no hierarchy v2g:"},
		{"V2G20 has no hierarchy", ocpp.V21, func(t testing.TB) string {
			return marshal(t, map[string]any{"csr": csrPEM(t, newKey(t), "SN-CS-1", organisation), "certificateType": "V2G20Certificate"})
		}, "UnsupportedRequest", "no hierarchy v2g-20:"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			s, _ := r.basic("CS-1", tt.version, nil)
			v := s.judge(ocpp.FromStation, "SignCertificate", tt.payload(t))
			if v.Act != fleet.Answer || !strings.Contains(status(v), `"status":"Rejected"`) || !strings.Contains(status(v), tt.want) ||
				!strings.Contains(v.Reason, tt.reason) || v.After != nil {
				t.Errorf("verdict %s, reason %q", status(v), v.Reason)
			}
			if orders, err := r.svc.Orders(t.Context(), "CS-1"); err != nil || len(orders) != 0 {
				t.Errorf("%d orders, %v", len(orders), err)
			}
			if !strings.Contains(r.station("CS-1").PlanNote, tt.reason) {
				t.Errorf("plan note = %q", r.station("CS-1").PlanNote)
			}
		})
	}
}

func TestRequestSubjectOnlyWarns(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s, _ := r.basic("CS-1", ocpp.V201, nil)
	if _, err := r.svc.SetCheck(t.Context(), "operator", "CS-1", fleet.CheckCSRSubject, true); err != nil {
		t.Fatal(err)
	}
	s.message(ocpp.FromStation, "SignCertificate", csrPayload(t, newKey(t), "OCTT"))
	r.waitOrder("CS-1", fleet.OrderDelivered)
	// Promise 5: what it says comes from the record all the same.
	if got := chainOf(t, s.sent("CertificateSigned")[0])[0].Subject.CommonName; got != "SN-CS-1" {
		t.Errorf("CN = %q", got)
	}
	if len(r.events("check.warned")) != 1 {
		t.Error("the failed check isn't recorded")
	}
}

func TestRepeatedRequestIsOneOrder(t *testing.T) { // A02.FR.17, TC_A_23
	t.Parallel()
	r := newRig(t)
	s, _ := r.basic("CS-1", ocpp.V21, nil)
	csr := csrPEM(t, newKey(t), "SN-CS-1", organisation)
	for n := range 3 {
		s.message(ocpp.FromStation, "SignCertificate", marshal(t, map[string]any{"csr": csr, "requestId": n}))
		eventually(t, "delivery", func() bool { return len(s.sent("CertificateSigned")) == n+1 })
		r.waitOrder("CS-1", fleet.OrderDelivered)
	}
	calls := s.sent("CertificateSigned")
	first, last := chainOf(t, calls[0]), chainOf(t, calls[2])
	if !first[0].Equal(last[0]) {
		t.Error("a repeated CSR got a second certificate")
	}
	if !strings.Contains(string(calls[2]), `"requestId":2`) {
		t.Errorf("requestId of the repetition isn't copied")
	}
	if orders, _ := r.svc.Orders(t.Context(), "CS-1"); len(orders) != 1 {
		t.Errorf("%d orders", len(orders))
	}
	// A renewal needs a new key (A02.FR.02).
	r.advance(300 * 24 * time.Hour)
	if v := s.judge(ocpp.FromStation, "SignCertificate", marshal(t, map[string]any{"csr": csr})); !strings.Contains(v.Reason, "A02.FR.02") {
		t.Errorf("old CSR when a renewal is due: %+v", v)
	}
}

func TestNewRequestSupersedes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s, _ := r.basic("CS-1", ocpp.V201, nil)
	first := s.judge(ocpp.FromStation, "SignCertificate", csrPayload(t, newKey(t), "SN-CS-1"))
	second := s.judge(ocpp.FromStation, "SignCertificate", csrPayload(t, newKey(t), "SN-CS-1"))
	first.After(s.ctx)
	if n := len(s.sent("CertificateSigned")); n != 0 {
		t.Errorf("a stale key got %d certificates", n)
	}
	second.After(s.ctx)
	orders, err := r.svc.Orders(t.Context(), "CS-1")
	if err != nil || len(orders) != 2 || orders[0].State != fleet.OrderDelivered || orders[1].State != fleet.OrderSuperseded || orders[1].Serial != "" {
		t.Errorf("orders = %+v, %v", orders, err)
	}
}

func TestRequestsAreBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s, _ := r.basic("CS-1", ocpp.V201, nil)
	refused := 0
	for range 15 {
		if v := s.judge(ocpp.FromStation, "SignCertificate", csrPayload(t, newKey(t), "SN-CS-1")); strings.Contains(v.Reason, "too often") {
			refused++
		}
	}
	if refused != 5 {
		t.Errorf("%d of 15 refused, want 5", refused)
	}
}

// A flood of refused requests costs the operator a line per token, not per frame.
func TestRefusedRequestsDontFillTheLog(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s, _ := r.basic("CS-1", ocpp.V201, nil)
	for i := range 200 {
		if v := s.judge(ocpp.FromStation, "SignCertificate", marshal(t, map[string]any{"csr": "x", "certificateType": fmt.Sprint("Kind", i)})); v.Act != fleet.Answer {
			t.Fatalf("verdict = %+v", v)
		}
	}
	if n := strings.Count(r.logged(), "certificate request refused"); n != 11 {
		t.Errorf("%d log lines of 200 refusals, want one per token and one", n)
	}
}

// Every way a delivery can end.
func TestDeliveryOutcomes(t *testing.T) {
	t.Parallel()
	lost := errors.New("session lost")
	for _, tt := range []struct {
		name   string
		answer any
		err    error
		state  fleet.OrderState
	}{
		{"A02.FR.07 TC_A_14 rejected", map[string]any{"status": "Rejected"}, nil, fleet.OrderRejected},
		{"not implemented", nil, &ocpp.CallFailure{Code: ocpp.NotImplemented}, fleet.OrderRejected},
		{"internal error is tried again", nil, &ocpp.CallFailure{Code: ocpp.InternalError}, fleet.OrderIssued},
		{"answer lost", nil, lost, fleet.OrderIssued},
		{"answer unreadable", []int{1}, nil, fleet.OrderIssued},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			s, c := r.basic("CS-1", ocpp.V201, func(action string, _ json.RawMessage) (any, error) { return tt.answer, tt.err })
			s.message(ocpp.FromStation, "SignCertificate", csrPayload(t, newKey(t), "SN-CS-1"))
			eventually(t, "first try", func() bool { return len(s.sent("CertificateSigned")) > 0 })
			order := r.waitOrder("CS-1", tt.state)
			if tt.state == fleet.OrderRejected {
				if order.Reason == "" {
					t.Error("order doesn't tell why")
				}
				eventually(t, "note for the operator", func() bool { return r.station("CS-1").PlanNote != "" })
				return
			}
			eventually(t, "note", func() bool { return r.station("CS-1").PlanNote != "" })
			for n := 2; n <= 4; n++ { // bounded tries within a session
				eventually(t, "next try", func() bool { r.advance(5 * time.Minute); return len(s.sent("CertificateSigned")) >= n })
			}
			first := chainOf(t, s.sent("CertificateSigned")[0])[0]
			s.close()
			r.restart()
			again := r.open(r.admit(c), ocpp.V201)
			r.advance(10 * time.Second)
			r.waitOrder("CS-1", fleet.OrderDelivered)
			if got := chainOf(t, again.sent("CertificateSigned")[0])[0]; !got.Equal(first) {
				t.Error("second certificate for one CSR")
			}
		})
	}
}

func TestAcceptedOrderSurvivesRestart(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s, c := r.basic("CS-1", ocpp.V16, nil)
	s.judge(ocpp.FromStation, "SignCertificate", csrPayload(t, newKey(t), "SN-CS-1")) // killed before After
	r.restart()
	s = r.open(r.admit(c), ocpp.V16)
	if n := len(s.actions()); n != 0 {
		t.Errorf("%d CALLs before the station is ready", n)
	}
	r.advance(10 * time.Second)
	r.waitOrder("CS-1", fleet.OrderDelivered)
}

func TestCertificateWithoutOrderEntryIsFound(t *testing.T) { // crash between certificate and order
	t.Parallel()
	r := newRig(t)
	s, c := r.basic("CS-1", ocpp.V16, nil)
	s.judge(ocpp.FromStation, "SignCertificate", csrPayload(t, newKey(t), "SN-CS-1"))
	order := r.waitOrder("CS-1", fleet.OrderAccepted)
	csr, err := ca.ParseCSR(order.CSR)
	if err != nil {
		t.Fatal(err)
	}
	p, err := r.auth.Prepare(t.Context(), ca.Order{Profile: ca.ProfileStation, Key: csr.Key, Subject: ca.Subject{CommonName: "SN-CS-1"},
		Station: "cs-1", Requester: "station:cs-1", Reference: order.ID})
	if err != nil {
		t.Fatal(err)
	}
	issued, err := r.auth.Issue(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	r.restart()
	r.open(r.admit(c), ocpp.V16)
	r.advance(10 * time.Second)
	if got := r.waitOrder("CS-1", fleet.OrderDelivered); got.Serial != issued.Serial {
		t.Errorf("delivered %s, issued before the crash was %s", got.Serial, issued.Serial)
	}
}

// brokenSigner fails until it is mended, as an HSM does.
type brokenSigner struct {
	crypto.Signer
	broken *atomic.Bool
}

func (s brokenSigner) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if s.broken.Load() {
		return nil, errors.New("token is gone")
	}
	return s.Signer.Sign(random, digest, opts)
}

func TestSigningIsTriedAgain(t *testing.T) { // threat C10
	t.Parallel()
	r := newRig(t)
	var broken atomic.Bool
	r.dirty = func(s crypto.Signer) crypto.Signer { return brokenSigner{s, &broken} }
	r.start()
	broken.Store(true)
	s, _ := r.basic("CS-1", ocpp.V201, nil)
	s.message(ocpp.FromStation, "SignCertificate", csrPayload(t, newKey(t), "SN-CS-1"))
	eventually(t, "reason for the operator", func() bool { return strings.Contains(r.station("CS-1").PlanNote, "token is gone") })
	if o := r.waitOrder("CS-1", fleet.OrderAccepted); o.Serial != "" {
		t.Error("order has a serial")
	}
	broken.Store(false)
	eventually(t, "delivery", func() bool { r.advance(5 * time.Second); return len(s.sent("CertificateSigned")) == 1 })
	r.waitOrder("CS-1", fleet.OrderDelivered)
	eventually(t, "note taken away", func() bool { return r.station("CS-1").PlanNote == "" })
}

func TestSharedKeyEndsTheOrder(t *testing.T) { // threat C4
	t.Parallel()
	r := newRig(t)
	key := newKey(t)
	one, _ := r.basic("CS-1", ocpp.V201, nil)
	two, _ := r.basic("CS-2", ocpp.V201, nil)
	one.message(ocpp.FromStation, "SignCertificate", csrPayload(t, key, "SN-CS-1"))
	r.waitOrder("CS-1", fleet.OrderDelivered)
	two.message(ocpp.FromStation, "SignCertificate", csrPayload(t, key, "SN-CS-2"))
	if o := r.waitOrder("CS-2", fleet.OrderRejected); !strings.Contains(o.Reason, "in use") {
		t.Errorf("reason = %q", o.Reason)
	}
}

func TestEdition1(t *testing.T) { // white paper changelog 2
	t.Parallel()
	r := newRig(t)
	s, _ := r.basic("CS-1", ocpp.V16, nil)
	s.message(ocpp.FromStation, "SignCertificate", marshal(t, map[string]any{"csr": hex.EncodeToString(csrDER(t, newKey(t), "SN-CS-1", organisation))}))
	r.waitOrder("CS-1", fleet.OrderDelivered)
	var got struct {
		Cert  []string `json:"cert"`
		Chain *string  `json:"certificateChain"`
	}
	if err := json.Unmarshal(s.sent("CertificateSigned")[0], &got); err != nil || got.Chain != nil || len(got.Cert) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	der, err := hex.DecodeString(got.Cert[0])
	if err != nil {
		t.Fatal(err)
	}
	if cert, err := x509.ParseCertificate(der); err != nil || cert.Subject.CommonName != "SN-CS-1" {
		t.Errorf("leaf: %v", err)
	}
}

func TestDataTransferForm(t *testing.T) { // fact sheet 11
	t.Parallel()
	r := newRig(t)
	s, _ := r.basic("CS-1", ocpp.V16, func(action string, _ json.RawMessage) (any, error) {
		if action != "DataTransfer" {
			return nil, &ocpp.CallFailure{Code: ocpp.NotImplemented}
		}
		return map[string]any{"status": "Accepted", "data": `{"status":"Accepted"}`}, nil
	})
	request := func(inner map[string]any) string {
		return marshal(t, map[string]any{"vendorId": "org.openchargealliance.iso15118pnc", "messageId": "SignCertificate", "data": marshal(t, inner)})
	}
	csr := csrPEM(t, newKey(t), "SN-CS-1", organisation)
	v := s.message(ocpp.FromStation, "DataTransfer", request(map[string]any{"csr": csr, "certificateType": "V2GCertificate"}))
	if want := `{"status":"Accepted","data":"{\"status\":\"Rejected\",\"statusInfo\":{\"reasonCode\":\"UnsupportedRequest\"`; !strings.HasPrefix(status(v), want) {
		t.Errorf("V2G: %s", status(v))
	}
	v = s.message(ocpp.FromStation, "DataTransfer", request(map[string]any{"csr": csr}))
	if want := `{"status":"Accepted","data":"{\"status\":\"Accepted\"}"}`; status(v) != want {
		t.Errorf("answer = %s", status(v))
	}
	r.waitOrder("CS-1", fleet.OrderDelivered)
	var transfer struct {
		VendorID  string `json:"vendorId"`
		MessageID string `json:"messageId"`
		Data      string `json:"data"`
	}
	if err := json.Unmarshal(s.sent("DataTransfer")[0], &transfer); err != nil {
		t.Fatal(err)
	}
	if transfer.VendorID != "org.openchargealliance.iso15118pnc" || transfer.MessageID != "CertificateSigned" || len(chainOf(t, json.RawMessage(transfer.Data))) != 2 {
		t.Errorf("delivered %+v", transfer)
	}
	for _, other := range []string{`{"vendorId":"com.example","data":"x"}`, `{"vendorId":"org.openchargealliance.iso15118pnc","messageId":"Authorize","data":"{}"}`} {
		if v := s.judge(ocpp.FromStation, "DataTransfer", other); v.Act != fleet.Pass {
			t.Errorf("%s: %+v", other, v)
		}
	}
}

func TestOrdersNeverShareSerials(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s, _ := r.basic("CS-1", ocpp.V201, nil)
	var serials []string
	for range 5 {
		s.message(ocpp.FromStation, "SignCertificate", csrPayload(t, newKey(t), "SN-CS-1"))
		serials = append(serials, r.waitOrder("CS-1", fleet.OrderDelivered).Serial)
	}
	slices.Sort(serials)
	if len(slices.Compact(serials)) != 5 {
		t.Errorf("serials repeat: %v", serials)
	}
}

// Orders made one after the other stand side by side in the indexes, and two made in the
// same moment are two (RFC 9562 §5.7).
func TestOrderIDsRiseWithTime(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	last := ""
	for range 200 {
		id, same := fleet.NewOrderID(at), fleet.NewOrderID(at)
		if len(id) != 32 || id <= last || same <= last || id == same {
			t.Fatalf("%s and %s after %s", id, same, last)
		}
		last, at = max(id, same), at.Add(time.Millisecond)
	}
}
