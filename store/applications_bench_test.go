package store_test

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"bollard/ca"
	"bollard/fleet"
	"bollard/ledger"
	"bollard/store"
)

// BenchmarkApplication measures what the store does for a certificate over EST: 32
// stations at once, each with its one-time secret, order, intent and certificate. CPU
// is the process's, the disk's syncs included.
func BenchmarkApplication(b *testing.B) {
	s, err := store.Open(b.Context(), store.Config{Path: filepath.Join(b.TempDir(), "bollard.db")})
	if err != nil {
		b.Fatal(err)
	}
	name := func(i int) string { return fmt.Sprintf("cs-%08d", i) }
	var list []fleet.Station
	for i := range b.N {
		list = append(list, station(name(i), ""))
	}
	if err := s.AddStations(b.Context(), list); err != nil {
		b.Fatal(err)
	}
	each := func(do func(i int) error) {
		var next atomic.Int64
		var wg sync.WaitGroup
		for range 32 {
			wg.Go(func() {
				for i := next.Add(1) - 1; i < int64(b.N); i = next.Add(1) - 1 {
					if err := do(int(i)); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
	}
	each(func(i int) error {
		return s.PutRegistration(b.Context(), fleet.Registration{Station: name(i), Salt: make([]byte, 16), Hash: make([]byte, 32)})
	})
	b.ReportAllocs()
	before := spent()
	b.ResetTimer()
	each(func(i int) error { return certify(b, s, name(i)) })
	b.StopTimer()
	b.ReportMetric(float64((spent()-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}

func certify(b *testing.B, s *store.Store, station string) error {
	now, text := time.Now(), hexText
	wanted := ca.Intent{
		Serial: text(16), Issuer: "issuing-1", Profile: ca.ProfileStation, Station: station, Requester: "station:" + station, Reference: fmt.Sprintf("%012x", now.UnixNano()) + text(8),
		TBSHash: text(32), KeyHash: text(32), Subject: "CN=" + station + ",O=Test", NotBefore: now, NotAfter: now.Add(time.Hour), CreatedAt: now,
	}
	facts := func(kind string) ledger.Event {
		return ledger.Event{Kind: kind, Subject: wanted.Serial, Actor: wanted.Requester, Data: map[string]string{
			"issuer": wanted.Issuer, "profile": wanted.Profile, "tbs": wanted.TBSHash, "key": wanted.KeyHash,
			"not_after": wanted.NotAfter.UTC().Format(time.RFC3339), "station": station, "reference": wanted.Reference,
		}}
	}
	order := func(state string) ledger.Event {
		return ledger.Event{Kind: "order." + state, Subject: station, Actor: wanted.Requester, Data: map[string]string{"order": wanted.Reference, "wire": "est"}}
	}
	r := s.Recorder(fleet.Application{
		Order: fleet.Order{
			ID: wanted.Reference, Station: station, CSR: make([]byte, 350), CSRHash: text(32), Wire: fleet.WireEST,
			State: fleet.OrderAccepted, CreatedAt: now, UpdatedAt: now,
		},
		Accepted: order("accepted"), Secret: make([]byte, 32),
		Used: ledger.Event{Kind: "station.enrol-secret-used", Subject: station, Actor: wanted.Requester, Data: map[string]string{"key": wanted.KeyHash}},
		Issued: func(o *fleet.Order, serial string) []ledger.Event {
			o.State, o.Serial = fleet.OrderDelivered, serial
			return []ledger.Event{order("delivered")}
		},
	})
	if err := r.PutIntent(b.Context(), wanted, facts("certificate.intent")); err != nil {
		return err
	}
	return r.PutIssued(b.Context(), wanted.Serial, make([]byte, 620), now, facts("certificate.issued"))
}

// hexText is of that many random bytes.
func hexText(n int) string {
	raw := make([]byte, n)
	_, _ = rand.Read(raw) // it never fails
	return hex.EncodeToString(raw)
}

// spent is the processor time of this process.
func spent() time.Duration {
	var used syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &used) != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
