package status_test

import (
	"crypto"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/debug"
	"testing"
)

// BenchmarkGet is what an answer that was signed ahead costs beside net/http, with so many
// others kept, and the collector set as in cmd/bollard.
func BenchmarkGet(b *testing.B) {
	floor := make([]byte, 40<<20)
	defer runtime.KeepAlive(floor)
	defer debug.SetGCPercent(debug.SetGCPercent(40))
	for _, others := range []int{0, 24_000, 200_000} {
		b.Run(fmt.Sprint(others), func(b *testing.B) { benchmarkGet(b, others) })
	}
}

func benchmarkGet(b *testing.B, others int) {
	r := newRig(b)
	cert := r.issue(b)
	der := request(b, cert, r.issuing, crypto.SHA1)
	asked := httptest.NewRequest(http.MethodGet, "/ocsp/"+base64.RawURLEncoding.EncodeToString(der), nil)
	handler := r.status.Handler()
	handler.ServeHTTP(httptest.NewRecorder(), asked)
	r.status.Fill(others)
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, asked)
		if w.Code != 200 || w.Header().Get("ETag") == "" {
			b.Fatal(w.Code)
		}
	}
}
