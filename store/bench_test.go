package store_test

import (
	"errors"
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

// BenchmarkKeyedReads measures the reads that admissions and certificates take: of so
// many rows that none is remembered.
func BenchmarkKeyedReads(b *testing.B) {
	s, err := store.Open(b.Context(), store.Config{Path: filepath.Join(b.TempDir(), "bollard.db")})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	const rows = 2000
	names, serials := make([]string, rows), make([]string, rows)
	stations := make([]fleet.Station, rows)
	for n := range rows {
		names[n], serials[n] = fmt.Sprintf("cs-%05d", n), fmt.Sprintf("%032x", n)
		stations[n] = station(names[n], "SN-"+names[n])
		stations[n].Vendor, stations[n].Model, stations[n].LeafSerial = "Vendor", "Model", serials[n]
		stations[n].Version, stations[n].SeenAt, stations[n].Admitted, stations[n].AdmittedAt = "ocpp2.0.1", at(5), "own", at(5)
	}
	if err := s.AddStations(b.Context(), stations); err != nil {
		b.Fatal(err)
	}
	for n := range rows {
		record := intent(serials[n])
		record.Station, record.TBSHash, record.KeyHash, record.Subject = names[n], serials[n]+serials[n], fmt.Sprintf("k%d", n), "CN=SN-"+names[n]
		err := errors.Join(
			s.PutIntent(b.Context(), record),
			s.PutIssued(b.Context(), serials[n], make([]byte, 600), at(2)),
			s.AddOrder(b.Context(), fleet.Order{ID: "o" + names[n], Station: names[n], CSR: make([]byte, 400), CSRHash: "h" + names[n], Serial: serials[n], State: fleet.OrderDelivered, CreatedAt: at(1)}),
			s.PutRegistration(b.Context(), fleet.Registration{Station: names[n], Salt: make([]byte, 16), Hash: make([]byte, 32), CreatedAt: at(1)}),
		)
		if err != nil {
			b.Fatal(err)
		}
	}
	for name, read := range map[string]func(n int) error{
		"station":     func(n int) error { _, err := s.Station(b.Context(), names[n]); return err },
		"certificate": func(n int) error { _, err := s.Certificate(b.Context(), serials[n]); return err },
		"unconfirmed": func(n int) error { _, _, err := s.UnconfirmedOrder(b.Context(), names[n], serials[n]); return err },
		"confirmed":   func(n int) error { _, _, err := s.UnconfirmedOrder(b.Context(), names[n], "another"); return err },
		"applicant":   func(n int) error { _, _, err := s.Applicant(b.Context(), names[n]); return err },
		"order":       func(n int) error { _, _, err := s.OrderByCSR(b.Context(), names[n], "none"); return err },
		"key":         func(int) error { _, err := s.CertificatesByKey(b.Context(), "none"); return err },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				if err := read(n * 1237 % rows); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
