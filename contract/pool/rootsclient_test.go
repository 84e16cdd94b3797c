package pool_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"bollard/ca"
)

// The roots that a pool lists are read, each of them or none.
func TestRootsOfOthers(t *testing.T) {
	t.Parallel()
	h, e := newHouse(t), newElsewhere(t)
	v2g, mo := h.authority.Roots(ca.KindV2G)[0], h.authority.Roots(ca.KindMO)[0]
	one := func(kind, certificate string) string {
		return fmt.Sprintf(`{"rootCertificateId":"x","rootType":%q,"caCertificate":%q,"organizationName":"Other"}`, kind, certificate)
	}
	list := func(of ...string) string {
		return `{"RootCertificateCollection":{"rootCertificates":[` + strings.Join(of, ",") + `]}}`
	}
	good := one("V2G", b64(v2g.Raw))
	status, body := 200, list(good, one("mo", b64(mo.Raw)))
	e.answer = func(w http.ResponseWriter, r *http.Request, _ int) {
		if r.Method != http.MethodGet || r.URL.Path != "/base/v1/root/rootCerts" || !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer token-") {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
	c := e.client(t)
	got, err := c.Roots(t.Context())
	if err != nil || len(got) != 2 || got[0].Type != "V2G" || !got[0].Certificate.Equal(v2g) || got[1].Type != "MO" || !got[1].Certificate.Equal(mo) {
		t.Fatalf("%+v: %v", got, err)
	}
	for name, tt := range map[string]struct {
		status int
		body   string
	}{
		"refused":        {403, `{}`},
		"no JSON":        {200, `<html>`},
		"no base64":      {200, list(good, one("V2G", "%"))},
		"no certificate": {200, list(good, one("V2G", "AAAA"))},
	} {
		status, body = tt.status, tt.body
		if got, err := c.Roots(t.Context()); err == nil {
			t.Errorf("%s: %d roots", name, len(got))
		}
	}
	status, body = 200, `{}`
	if got, err := c.Roots(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("an empty list: %v", err)
	}
}
