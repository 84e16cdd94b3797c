package store_test

import (
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"bollard/ca"
	"bollard/fleet"
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

// BenchmarkVerifyMillion verifies a stored ledger of a million entries with
// four facts each, as `bollard ledger verify` does.
func BenchmarkVerifyMillion(b *testing.B) {
	s, err := store.Open(b.Context(), store.Config{Path: filepath.Join(b.TempDir(), "bollard.db")})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	const all, each = 1_000_000, 2000
	for n := range all / each {
		events := make([]ledger.Event, each)
		for i := range events {
			events[i] = ledger.Event{
				Kind: "certificate.intent", Subject: fmt.Sprintf("%032x", n*each+i), Actor: "station:cs-1",
				Data: map[string]string{"profile": "station", "issuer": "csms-issuing", "key": "0123456789abcdef0123456789abcdef", "reference": "order:1"},
			}
		}
		if err := s.Record(b.Context(), events...); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		sum, err := ledger.Verify(s.Entries(b.Context(), 1))
		if err != nil || sum.Count != all {
			b.Fatalf("%d entries, %v", sum.Count, err)
		}
	}
	b.ReportMetric(float64(b.N)*all/b.Elapsed().Seconds(), "entries/s")
}

// BenchmarkKeyedReads measures the reads that every certificate takes, none of which is
// remembered.
func BenchmarkKeyedReads(b *testing.B) {
	s, err := store.Open(b.Context(), store.Config{Path: filepath.Join(b.TempDir(), "bollard.db")})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	if err := s.AddStations(b.Context(), []fleet.Station{station("CS-1", "S1")}); err != nil {
		b.Fatal(err)
	}
	if err := s.PutRegistration(b.Context(), fleet.Registration{Station: "cs-1", Salt: []byte{1}, Hash: []byte{2}}); err != nil {
		b.Fatal(err)
	}
	for name, read := range map[string]func() error{
		"applicant": func() error { _, _, err := s.Applicant(b.Context(), "cs-1"); return err },
		"order":     func() error { _, _, err := s.OrderByCSR(b.Context(), "cs-1", "h1"); return err },
		"key":       func() error { _, err := s.CertificatesByKey(b.Context(), "k1"); return err },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := read(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
