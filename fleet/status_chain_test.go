package fleet_test

import (
	"encoding/json"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"bollard/ca/catest"
	"bollard/fleet"
	"bollard/ocpp"
)

// chainStatus sends a GetCertificateChainStatus and checks the answer's form.
func (s *fakeSession) chainStatus(requests ...ocpp.CertificateStatusRequest) []ocpp.CertificateStatus {
	s.r.t.Helper()
	payload, err := json.Marshal(ocpp.GetCertificateChainStatusRequest{Requests: requests})
	if err != nil {
		s.r.t.Fatal(err)
	}
	v := s.message(ocpp.FromStation, ocpp.ActionGetCertificateChainStatus, string(payload))
	answer, ok := v.Payload.(ocpp.GetCertificateChainStatusResponse)
	if v.Act != fleet.Answer || !ok || len(answer.Statuses) != len(requests) {
		s.r.t.Fatalf("verdict %+v", v)
	}
	for i, status := range answer.Statuses { // M07.FR.08
		if status.CertificateHashData != requests[i].CertificateHashData || status.Source != requests[i].Source {
			s.r.t.Errorf("status %d is of another certificate: %+v", i, status)
		}
		if next, err := time.Parse(time.RFC3339, status.NextUpdate); err != nil || next.Before(s.r.clock()) {
			s.r.t.Errorf("nextUpdate %q, %v", status.NextUpdate, err)
		}
	}
	return answer.Statuses
}

func (w *statusRig) chainRequest(source string, serial int64, urls ...string) ocpp.CertificateStatusRequest {
	return ocpp.CertificateStatusRequest{CertificateHashData: catest.HashData(w.t, "SHA256", big.NewInt(serial), w.v2g.Cert), Source: source, URLs: urls}
}

// M07.FR.01–.03, .08: by OCSP, any one of the URLs, each certificate for itself.
func TestM07FR01OCSP(t *testing.T) {
	t.Parallel()
	w := newStatusRig(t)
	s := w.connected(ocpp.V21, fleet.SecurityBollard)
	w.Answers(func(rw http.ResponseWriter, r *http.Request, body []byte) {
		q, err := ocsp.ParseRequest(body)
		if err != nil || r.URL.Path != "/ok" {
			http.Error(rw, "no", http.StatusNotFound)
			return
		}
		rw.Header().Set("Content-Type", "application/ocsp-response")
		_, _ = rw.Write(w.v2g.Said(w.clock(), q.SerialNumber.Int64(), func(r *ocsp.Response) {
			r.Status = map[int64]int{1: ocsp.Good, 2: ocsp.Revoked, 3: ocsp.Unknown}[q.SerialNumber.Int64()]
			r.RevokedAt = w.clock()
		}))
	})
	got := s.chainStatus(w.chainRequest(ocpp.SourceOCSP, 1, "http://evil.example/", w.URL+"down", w.URL+"ok"), w.chainRequest(ocpp.SourceOCSP, 2, w.URL+"ok"),
		w.chainRequest(ocpp.SourceOCSP, 3, w.URL+"ok"), w.chainRequest(ocpp.SourceOCSP, 4, w.URL+"down"))
	for i, want := range []string{ocpp.CertificateGood, ocpp.CertificateRevoked, ocpp.CertificateUnknown, ocpp.CertificateFailed} {
		if got[i].Status != want {
			t.Errorf("certificate %d: %s, want %s", i, got[i].Status, want)
		}
	}
	if want := w.clock().Add(24 * time.Hour).Format(time.RFC3339); got[0].NextUpdate != want {
		t.Errorf("nextUpdate %s, want the response's %s", got[0].NextUpdate, want)
	}
	// A response without nextUpdate still needs one in the message.
	w.Serves(w.v2g.Said(w.clock(), 5, func(r *ocsp.Response) { r.NextUpdate = time.Time{} }))
	if got := s.chainStatus(w.chainRequest(ocpp.SourceOCSP, 5, w.URL)); got[0].Status != ocpp.CertificateGood {
		t.Errorf("%+v", got)
	}
}

func TestM07FR08Bounds(t *testing.T) {
	t.Parallel()
	w := newStatusRig(t)
	s := w.connected(ocpp.V21, fleet.SecurityBollard)
	one := w.chainRequest(ocpp.SourceOCSP, 1, w.URL)
	edit := func(f func(*ocpp.CertificateStatusRequest)) []ocpp.CertificateStatusRequest {
		r := one
		f(&r)
		return []ocpp.CertificateStatusRequest{r}
	}
	for name, requests := range map[string][]ocpp.CertificateStatusRequest{
		"none":      nil,
		"five":      {one, one, one, one, one},
		"no URL":    edit(func(r *ocpp.CertificateStatusRequest) { r.URLs = nil }),
		"six URLs":  edit(func(r *ocpp.CertificateStatusRequest) { r.URLs = []string{"a", "b", "c", "d", "e", "f"} }),
		"source":    edit(func(r *ocpp.CertificateStatusRequest) { r.Source = "LDAP" }),
		"algorithm": edit(func(r *ocpp.CertificateStatusRequest) { r.CertificateHashData.HashAlgorithm = "MD5" }),
		"long hash": edit(func(r *ocpp.CertificateStatusRequest) { r.CertificateHashData.IssuerKeyHash = strings.Repeat("a", 129) }),
	} {
		payload, err := json.Marshal(ocpp.GetCertificateChainStatusRequest{Requests: requests})
		if err != nil {
			t.Fatal(err)
		}
		if v := s.message(ocpp.FromStation, ocpp.ActionGetCertificateChainStatus, string(payload)); v.Act != fleet.Refuse {
			t.Errorf("%s: %+v", name, v)
		}
	}
	bad := one
	bad.CertificateHashData.SerialNumber = "x"
	if got := s.chainStatus(bad, one); got[0].Status != ocpp.CertificateFailed {
		t.Errorf("%+v", got)
	}
	if w.Asked() != 1 {
		t.Errorf("%d requests", w.Asked())
	}
}
