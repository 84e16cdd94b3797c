package fleet_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"testing"

	"bollard/ca/catest"
	"bollard/ca/revocation"
	responder "bollard/ca/status"
	"bollard/fleet"
	"bollard/ocpp"
)

// statusRig is a fleet that answers for its own CA and may ask one outside
// responder, which answers for a root of use v2g.
type statusRig struct {
	*rig
	*catest.Web
	v2g *maker
}

func newStatusRig(t *testing.T) *statusRig {
	t.Helper()
	w := &statusRig{rig: newRig(t), Web: catest.NewWeb(t)}
	w.add(fleet.Enrolment{})
	w.v2g = newMaker(t, w.clock())
	w.trustFor("v2g", w.v2g)
	own, err := responder.New(responder.Config{Authority: w.auth, Clock: w.clock})
	if err != nil {
		t.Fatal(err)
	}
	w.asks(own.Respond, w.Client)
	return w
}

// asks has the service learn from these from now on; nil: from nobody.
func (w *statusRig) asks(own revocation.Responder, fetch revocation.Fetcher) {
	w.t.Helper()
	var err error
	if w.checker.Checker, err = revocation.New(revocation.Config{Authority: w.auth, Own: own, Fetch: fetch, Clock: w.clock}); err != nil {
		w.t.Fatal(err)
	}
}

func statusRequest(d ocpp.CertificateHashData, url string) string {
	b, err := json.Marshal(ocpp.GetCertificateStatusRequest{OCSPRequestData: ocpp.OCSPRequestData{HashAlgorithm: d.HashAlgorithm,
		IssuerNameHash: d.IssuerNameHash, IssuerKeyHash: d.IssuerKeyHash, SerialNumber: d.SerialNumber, ResponderURL: url}})
	if err != nil {
		panic(err)
	}
	return string(b)
}

// ask sends a GetCertificateStatus; nil: Failed.
func (s *fakeSession) ask(d ocpp.CertificateHashData, url string) []byte {
	s.r.t.Helper()
	v := s.message(ocpp.FromStation, ocpp.ActionGetCertificateStatus, statusRequest(d, url))
	answer, ok := v.Payload.(ocpp.GetCertificateStatusResponse)
	if v.Act != fleet.Answer || !ok {
		s.r.t.Fatalf("verdict %+v", v)
	}
	return readStatus(s.r.t, answer)
}

func readStatus(t testing.TB, answer ocpp.GetCertificateStatusResponse) []byte {
	t.Helper()
	switch {
	case answer.Status == ocpp.StatusFailed && answer.OCSPResult == "":
		return nil
	case answer.Status != ocpp.StatusAccepted:
		t.Fatalf("answer %+v", answer)
	}
	der, err := base64.StdEncoding.DecodeString(answer.OCSPResult)
	if err != nil || len(der) == 0 {
		t.Fatalf("ocspResult: %v", err)
	}
	return der
}

func equalDER(a, b []byte) bool { return len(a) > 0 && bytes.Equal(a, b) }
