package store_test

import (
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"bollard/ca"
	"bollard/ledger"
	"bollard/store"
)

// BenchmarkWrite measures acknowledged writes of a 900-byte certificate, one
// row each, and the same with a ledger entry. One caller pays a sync of the
// disk per write; many share it.
func BenchmarkWrite(b *testing.B) {
	for _, events := range [][]ledger.Event{nil, {event("certificate.issued")}} {
		for _, callers := range []int{1, 16, 64} {
			b.Run(fmt.Sprintf("events=%d/callers=%d", len(events), callers), func(b *testing.B) {
				s, err := store.Open(b.Context(), store.Config{Path: filepath.Join(b.TempDir(), "bollard.db")})
				if err != nil {
					b.Fatal(err)
				}
				der := make([]byte, 900)
				var next atomic.Int64
				b.ResetTimer()
				var wg sync.WaitGroup
				for range callers {
					wg.Go(func() {
						for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
							record := ca.Record{Intent: intent(fmt.Sprintf("%032x", n)), DER: der}
							if err := s.PutExternal(b.Context(), record, events...); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.StopTimer()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}
