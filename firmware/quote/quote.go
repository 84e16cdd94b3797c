// Package quote judges what the TPMs of stations quote: whether a station runs a
// release as it was signed, and who hasn't shown it for too long.
//
// It promises that a station counts as shown to run a release by nothing but a quote
// over our nonce, of an attestation key certified for its own TPM, whose registers are
// those that the release's manufacturer signed; and that whatever else it shows is an
// alarm. A station of which nothing is demanded isn't missed.
package quote

import (
	"cmp"
	"context"
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"bollard/ca/attestation"
	"bollard/ca/est"
	"bollard/detect"
	"bollard/firmware/catalogue"
	"bollard/firmware/release"
	"bollard/ledger"
	"bollard/tpm/attest"
)

var _ attestation.Quotes = (*Service)(nil)

// Errors callers branch on.
var (
	ErrUnknown  = errors.New("no such station")
	ErrOtherTPM = errors.New("the quote isn't by the station's TPM any more")
)

// TPM is the one that a quote is by, as far as it is known when the quote comes.
type TPM struct {
	EK          string // hash of the endorsement key that the station is known by
	Certificate string // serial number of the attestation key's that signed; "": none known did
}

// Outcome is what the newest quote of a station showed.
type Outcome string

// The outcomes.
const (
	Delivered Outcome = "delivered" // it runs a release as it was signed
	Unknown   Outcome = "unknown"   // it's genuine, but nothing says what the registers should be
	Wrong     Outcome = "wrong"     // it isn't genuine, or a register isn't the release's
)

// Record is what is known of a station by its quotes.
type Record struct {
	At        time.Time         `json:"at,omitzero"` // of the newest quote
	Outcome   Outcome           `json:"outcome,omitempty"`
	Release   string            `json:"release,omitempty"` // ID; of a wrong one the release that it should have been
	Version   string            `json:"version,omitempty"` // the release's
	Reason    string            `json:"reason,omitempty"`
	Registers map[string]string `json:"registers,omitempty"` // as genuinely quoted, hex
	Resets    uint32            `json:"resets,omitempty"`    // how often the machine was switched on, by its TPM
	ShownAt   time.Time         `json:"shown_at,omitzero"`   // when it last showed to run what was delivered
	// DemandedAt is since when it has to, OverdueAt when it was last said not to have in
	// time.
	DemandedAt time.Time `json:"demanded_at,omitzero"`
	OverdueAt  time.Time `json:"overdue_at,omitzero"`
}

// Store keeps records. Every write is durable, together with its ledger events, before
// the method returns.
type Store interface {
	Quote(ctx context.Context, station string) (Record, error) // the zero Record if there is none
	Quotes(ctx context.Context) (map[string]Record, error)     // by station
	// UpdateQuote reads, changes and writes a record in one transaction; an error of
	// change leaves it as it was. ErrUnknown where there is no such station; ErrOtherTPM
	// where by, unless it is nil, isn't the one that the station is known by in this
	// transaction, or its key's certificate is in force no more.
	UpdateQuote(ctx context.Context, station string, by *TPM, change func(*Record) ([]ledger.Event, error)) (Record, error)
}

// Releases are where they are kept; *catalogue.Catalogue is one.
type Releases interface {
	List(ctx context.Context) ([]catalogue.Entry, error)
	// Verify says why a release doesn't count; with catalogue.ErrUnjudged nobody knows.
	Verify(ctx context.Context, e *catalogue.Entry) error
}

// Updates are those of stations; *gate.Gate is one.
type Updates interface {
	// Expects is the release of the update that a station is in the middle of, "" if it
	// is in none.
	Expects(ctx context.Context, station string) (string, error)
	// Quoted takes what a genuine quote showed: the release that the registers are, or ""
	// and why they aren't those of the release that the station says to run.
	Quoted(ctx context.Context, station, release, reason string) error
}

// Station is what releases know one by, and the version its newest boot showed.
type Station struct{ Vendor, Model, Hardware, Firmware string }

// Config of a Service.
type Config struct {
	Store    Store
	Releases Releases
	Updates  Updates
	Station  func(ctx context.Context, key string) (Station, error)
	// May takes from what a station may show at once.
	May func(station string) bool
	// Keys are the certified attestation keys of the TPM that a station is known by, by their
	// certificates' serial numbers, and the hash of its endorsement key.
	Keys func(ctx context.Context, station string) (ek string, keys map[string]crypto.PublicKey, err error)
	// Demand says how often a station has to show what it runs, Demands those of whom that
	// is demanded; 0: it is left to them.
	Demand  func(ctx context.Context, station string) (time.Duration, error)
	Demands func(ctx context.Context) (map[string]time.Duration, error)
	// Alarm has people look; it is durable when it returns nil.
	Alarm func(ctx context.Context, s detect.Sign) error
	Clock func() time.Time
	// CheckClock fails while Clock is behind what is on record: nobody is late. nil: it never is.
	CheckClock func(ctx context.Context) error
	Log        *slog.Logger
}

// Service is safe for concurrent use.
type Service struct{ cfg Config }

// New needs all of Config but Clock, CheckClock and Log.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Releases == nil || cfg.Updates == nil || cfg.Station == nil || cfg.May == nil || cfg.Keys == nil || cfg.Demand == nil || cfg.Demands == nil || cfg.Alarm == nil {
		return nil, errors.New("internal error: quote.Config needs Store, Releases, Updates, Station, May, Keys, Demand, Demands and Alarm")
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.CheckClock == nil {
		cfg.CheckClock = func(context.Context) error { return nil }
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Service{cfg}, nil
}

// candidate is a release that a station may run, with what its registers are then.
type candidate struct {
	release *release.Release
	want    attest.Expected
	booted  bool // the station's newest boot showed its version
}

// candidates are the releases with registers whose version a station's newest boot
// showed, the one it is being updated to before the newest; and last that one if its
// version wasn't shown yet.
func (s *Service) candidates(ctx context.Context, station string) ([]candidate, error) {
	st, err := s.cfg.Station(ctx, station)
	if err != nil {
		return nil, err
	}
	expected, err := s.cfg.Updates.Expects(ctx, station)
	if err != nil {
		return nil, err
	}
	entries, err := s.cfg.Releases.List(ctx)
	if err != nil {
		return nil, err
	}
	var list []candidate
	for i := range entries {
		e := &entries[i]
		r := e.Release
		// An exception may have brought it one that isn't for its model.
		booted := r.Version == strings.TrimSpace(st.Firmware) && (r.ID == expected || r.Covers(st.Vendor, st.Model, st.Hardware))
		if r.PCRs == nil || e.State == catalogue.Revoked || !booted && r.ID != expected {
			continue
		}
		switch err := s.cfg.Releases.Verify(ctx, e); {
		case err != nil && (errors.Is(err, catalogue.ErrUnjudged) || ctx.Err() != nil):
			return nil, err
		case err != nil:
			s.cfg.Log.Warn("registers of a release don't count: its signature doesn't", slog.String("release", r.ID), slog.Any("err", err))
			continue
		}
		want, err := expectedOf(r.PCRs)
		if err != nil {
			return nil, fmt.Errorf("release %s: %w", r.ID, err)
		}
		list = append(list, candidate{r, want, booted})
	}
	slices.SortStableFunc(list, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.rank(expected), b.rank(expected)), cmp.Compare(b.release.Sequence, a.release.Sequence))
	})
	return list, nil
}

// rank among a station's candidates, where expected is the one it is being updated to.
func (c candidate) rank(expected string) int {
	switch {
	case !c.booted:
		return 2
	case c.release.ID == expected:
		return 0
	}
	return 1
}

func expectedOf(r *release.Registers) (attest.Expected, error) {
	e := attest.Expected{}
	for _, of := range []struct {
		from map[string][]string
		into *map[int][][]byte
	}{{r.SHA256, &e.Values}, {r.Events, &e.Events}} {
		*of.into = map[int][][]byte{}
		for number, list := range of.from {
			n, err := strconv.Atoi(number)
			if err != nil {
				return e, err
			}
			for _, text := range list {
				v, err := hex.DecodeString(text)
				if err != nil {
					return e, err
				}
				(*of.into)[n] = append((*of.into)[n], v)
			}
		}
	}
	return e, nil
}

// Wanted says what a station is to quote.
func (s *Service) Wanted(ctx context.Context, station string) (attestation.Wanted, error) {
	if _, _, err := s.keys(ctx, station); err != nil {
		return attestation.Wanted{}, err
	}
	if !s.cfg.May(station) {
		return attestation.Wanted{}, &est.Refusal{Status: http.StatusTooManyRequests, Public: "too many quotes", Reason: "station quotes too often", RetryAfter: time.Minute}
	}
	list, err := s.candidates(ctx, station)
	if err != nil {
		return attestation.Wanted{}, err
	}
	w := attestation.Wanted{Registers: []int{}}
	for _, c := range list {
		w.Registers = append(w.Registers, c.want.Indexes()...)
		w.Log = w.Log || len(c.want.Events) > 0
	}
	slices.Sort(w.Registers)
	w.Registers = slices.Compact(w.Registers)
	return w, nil
}

func (s *Service) keys(ctx context.Context, station string) (string, map[string]crypto.PublicKey, error) {
	ek, list, err := s.cfg.Keys(ctx, station)
	if err == nil && len(list) == 0 {
		err = uncertified("no attestation key of the station's TPM is certified")
	}
	return ek, list, err
}

func uncertified(reason string) *est.Refusal {
	return &est.Refusal{Status: http.StatusForbidden, Public: "no attestation key of the station's TPM is certified: begin with attest", Reason: reason}
}

// judged is what a quote shows.
type judged struct {
	Record  // the fields of this quote
	by      TPM
	genuine bool  // it is the station's TPM's
	fault   error // of a wrong one
}

// Quoted judges a quote over a nonce that was given to the station, keeps what it shows
// and tells whoever waits for it. One that is wrong is an alarm and a refusal.
func (s *Service) Quoted(ctx context.Context, station string, nonce []byte, q attest.Quote, log []byte) (attestation.Shown, error) {
	ek, keys, err := s.keys(ctx, station)
	if err != nil {
		return attestation.Shown{}, err
	}
	j, err := s.judge(ctx, station, keys, nonce, q, log)
	j.by.EK = ek
	if err != nil {
		return attestation.Shown{}, err
	}
	if j.fault != nil {
		// Told before it is kept: a kill in between has the station quote again.
		if err := s.cfg.Alarm(ctx, detect.Sign{Kind: detect.QuoteWrong, Station: station, Detail: word(j.fault)}); err != nil {
			return attestation.Shown{}, err
		}
	}
	_, err = s.cfg.Store.UpdateQuote(ctx, station, &j.by, func(r *Record) ([]ledger.Event, error) { return r.take(station, &j.Record), nil })
	if errors.Is(err, ErrOtherTPM) {
		err = uncertified("station got another TPM, or its attestation key's certificate ended, while its quote was judged")
	}
	if err != nil {
		return attestation.Shown{}, err
	}
	if j.genuine && j.Outcome != Unknown { // what can't be told ends no update
		shown := j.Release
		if j.Outcome != Delivered {
			shown = ""
		}
		if err := s.cfg.Updates.Quoted(ctx, station, shown, j.Reason); err != nil {
			return attestation.Shown{}, err
		}
	}
	if j.fault != nil {
		return attestation.Shown{}, &est.Refusal{Status: http.StatusForbidden, Public: j.Reason, Reason: "its quote is wrong: " + j.Reason}
	}
	every, err := s.cfg.Demand(ctx, station)
	if err != nil {
		return attestation.Shown{}, err
	}
	return attestation.Shown{Outcome: string(j.Outcome), Release: j.Release, Version: j.Version, Next: every / 2}, nil
}

func (s *Service) judge(ctx context.Context, station string, keys map[string]crypto.PublicKey, nonce []byte, q attest.Quote, log []byte) (judged, error) {
	j := judged{Record: Record{At: s.cfg.Clock()}}
	var said attest.Quoted
	for serial, key := range keys {
		if said, j.fault = q.Verify(key, nonce); j.fault == nil || !errors.Is(j.fault, attest.ErrSignature) {
			j.by.Certificate = serial
			break
		}
	}
	if j.fault != nil {
		j.Outcome, j.Reason = Wrong, j.fault.Error()
		return j, nil //nolint:nilerr // that it is wrong was judged
	}
	j.genuine, j.Resets, j.Registers = true, said.Resets, map[string]string{}
	for i, v := range q.Registers {
		j.Registers[strconv.Itoa(i)] = hex.EncodeToString(v)
	}
	list, err := s.candidates(ctx, station)
	if err != nil {
		return j, err
	}
	j.Outcome, j.Reason = Unknown, "no release here says what the registers are of the version that its last boot showed"
	for i, c := range list {
		fault := c.want.Judge(q.Registers, log)
		if fault == nil {
			j.Outcome, j.Release, j.Version, j.Reason, j.fault = Delivered, c.release.ID, c.release.Version, "", nil
			return j, nil
		}
		// A station that didn't boot the release yet needn't have its registers.
		if i == 0 && c.booted {
			j.Outcome, j.Release, j.Version, j.Reason, j.fault = Wrong, c.release.ID, c.release.Version, fault.Error(), fault
		}
	}
	return j, nil
}

// word is what is wrong, in words that nobody outside chooses.
func word(fault error) string {
	for _, kind := range []error{attest.ErrNonce, attest.ErrSignature, attest.ErrRegister, attest.ErrLog, attest.ErrNotFromTPM} {
		if errors.Is(fault, kind) {
			return kind.Error()
		}
	}
	return attest.ErrMalformed.Error()
}

// take is a further quote. What it shows is evidence where it is something else than
// before.
func (r *Record) take(station string, q *Record) []ledger.Event {
	before := *r
	*r = *q
	r.ShownAt, r.DemandedAt, r.OverdueAt = before.ShownAt, before.DemandedAt, before.OverdueAt
	if r.Outcome == Delivered {
		r.ShownAt, r.OverdueAt = q.At, time.Time{}
	}
	if before.Outcome == r.Outcome && before.Release == r.Release && before.Reason == r.Reason && maps.Equal(before.Registers, r.Registers) {
		return nil
	}
	kind := "quote.shown"
	if r.Outcome == Wrong {
		kind = "quote.wrong"
	}
	e := ledger.Event{Kind: kind, Subject: station, Actor: "station:" + station, Data: map[string]string{"outcome": string(r.Outcome)}}
	for key, value := range map[string]string{"release": r.Release, "version": r.Version, "reason": r.Reason} {
		if value != "" {
			e.Data[key] = value
		}
	}
	return []ledger.Event{e}
}
