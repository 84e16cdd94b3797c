package store_test

import (
	"errors"
	"testing"

	"bollard/ca"
	"bollard/fleet"
)

// A read that every certificate takes is planned once: one that is prepared anew each
// time makes several times the garbage, some for each column.
func TestKeyedReadsStayPrepared(t *testing.T) { //nolint:paralleltest // garbage is the whole process's
	s := open(t)
	must(t, s.AddStations(t.Context(), []fleet.Station{station("CS-1", "S1")}))
	must(t, s.PutRegistration(t.Context(), fleet.Registration{Station: "cs-1", Salt: []byte{1}, Hash: []byte{2}}))
	for name, read := range map[string]func() error{
		"applicant":   func() error { _, _, err := s.Applicant(t.Context(), "cs-1"); return err },
		"order":       func() error { _, _, err := s.OrderByCSR(t.Context(), "cs-1", "h1"); return err },
		"unconfirmed": func() error { _, _, err := s.UnconfirmedOrder(t.Context(), "cs-1", "a1"); return err },
		"orders":      func() error { _, err := s.OpenOrders(t.Context(), "cs-1"); return err },
		"certificate": func() error { // which nobody remembers, since there is none
			if _, err := s.Certificate(t.Context(), "a1"); !errors.Is(err, ca.ErrUnknownSerial) {
				return err
			}
			return nil
		},
		"key": func() error { _, err := s.CertificatesByKey(t.Context(), "k1"); return err },
	} {
		n := testing.AllocsPerRun(100, func() { must(t, read()) })
		most := 15.0
		if name == "applicant" { // a row of 48 columns
			most = 60
		}
		if n > most {
			t.Errorf("%s: %.0f allocations, at most %.0f are those of a prepared one", name, n, most)
		}
	}
}
