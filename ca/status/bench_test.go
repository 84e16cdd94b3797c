package status_test

import (
	"crypto"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"testing"
)

// BenchmarkGet is what an answer that was signed ahead costs beside net/http.
func BenchmarkGet(b *testing.B) {
	r := newRig(b)
	cert := r.issue(b)
	der := request(b, cert, r.issuing, crypto.SHA1)
	asked := httptest.NewRequest(http.MethodGet, "/ocsp/"+base64.RawURLEncoding.EncodeToString(der), nil)
	handler := r.status.Handler()
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, asked)
		if w.Code != 200 || w.Header().Get("ETag") == "" {
			b.Fatal(w.Code)
		}
	}
}
