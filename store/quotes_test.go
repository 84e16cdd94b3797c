package store_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bollard/firmware/quote"
	"bollard/fleet"
	"bollard/ledger"
)

func TestQuotesAreKept(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	must(t, s.AddStations(ctx, []fleet.Station{station("CS-1", "SN-1"), station("CS-2", "SN-2")}))
	if got, err := s.Quote(ctx, "cs-1"); err != nil || !cmp.Equal(got, quote.Record{}) {
		t.Errorf("%+v, %v", got, err)
	}
	want := quote.Record{At: at(5), Outcome: quote.Wrong, Release: "r", Version: "1", Reason: "why", Registers: map[string]string{"8": "ab"}, Resets: 7, ShownAt: at(1), DemandedAt: at(2), OverdueAt: at(3)}
	for range 2 {
		got, err := s.UpdateQuote(ctx, "cs-1", nil, func(r *quote.Record) ([]ledger.Event, error) {
			*r = want
			return []ledger.Event{event("quote.wrong")}, nil
		})
		must(t, err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	if _, err := s.UpdateQuote(ctx, "cs-1", nil, func(r *quote.Record) ([]ledger.Event, error) { r.Reason = ""; return nil, errors.New("no") }); err == nil {
		t.Error("an error of change was lost")
	}
	if _, err := s.UpdateQuote(ctx, "cs-3", nil, func(*quote.Record) ([]ledger.Event, error) { return nil, nil }); !errors.Is(err, quote.ErrUnknown) {
		t.Errorf("a station there isn't: %v", err)
	}
	got, err := s.Quote(ctx, "cs-1")
	must(t, err)
	all, err := s.Quotes(ctx)
	must(t, err)
	if diff := cmp.Diff(map[string]quote.Record{"cs-1": want}, all) + cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"quote.wrong", "quote.wrong"}, kinds(t, s)); diff != "" {
		t.Error(diff)
	}
	// What one TPM showed doesn't stand for the next.
	for _, tt := range []struct {
		ek   string
		kept int
	}{{"aa", 1}, {"aa", 1}, {"bb", 0}, {"bb", 1}, {"", 0}} {
		_, err := s.UpdateStation(ctx, "cs-1", func(st *fleet.Station) ([]ledger.Event, error) { st.EK = tt.ek; return nil, nil })
		must(t, err)
		if all, err := s.Quotes(ctx); err != nil || len(all) != tt.kept {
			t.Errorf("with TPM %q: %v, %v", tt.ek, all, err)
		}
		_, err = s.UpdateQuote(ctx, "cs-1", nil, func(r *quote.Record) ([]ledger.Event, error) { *r = want; return nil, nil })
		must(t, err)
	}
	// A quote is kept of the TPM that the station is known by, by a key in force, and of no
	// other.
	for _, serial := range []string{"a1", "a2", "a3"} {
		i := intent(serial)
		if i.Station = "cs-1"; serial == "a3" {
			i.Station = "cs-2"
		}
		must(t, s.PutIntent(ctx, i))
		must(t, s.PutIssued(ctx, serial, []byte("der"), at(2)))
	}
	must(t, s.SetRevoked(ctx, "a2", "superseded", at(3)))
	if _, err := s.UpdateStation(ctx, "cs-1", func(st *fleet.Station) ([]ledger.Event, error) { st.EK = "cc"; return nil, nil }); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		by   quote.TPM
		want error
	}{
		"its own":                {quote.TPM{EK: "cc", Certificate: "a1"}, nil},
		"its own, a wrong quote": {quote.TPM{EK: "cc"}, nil},
		"the one before":         {quote.TPM{EK: "bb", Certificate: "a1"}, quote.ErrOtherTPM},
		"none":                   {quote.TPM{}, quote.ErrOtherTPM},
		"a key that was revoked": {quote.TPM{EK: "cc", Certificate: "a2"}, quote.ErrOtherTPM},
		"another station's key":  {quote.TPM{EK: "cc", Certificate: "a3"}, quote.ErrOtherTPM},
		"a key nobody knows":     {quote.TPM{EK: "cc", Certificate: "a9"}, quote.ErrOtherTPM},
	} {
		_, err := s.UpdateQuote(ctx, "cs-1", &tt.by, func(r *quote.Record) ([]ledger.Event, error) { *r = want; return nil, nil })
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	must(t, s.RemoveStation(ctx, "cs-1", func(*fleet.Station) []ledger.Event { return nil }))
	if all, err := s.Quotes(ctx); err != nil || len(all) > 0 {
		t.Errorf("of a station that was removed: %v, %v", all, err)
	}
}
