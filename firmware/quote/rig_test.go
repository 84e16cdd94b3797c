package quote_test

import (
	"bytes"
	"context"
	"crypto"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"bollard/ca"
	"bollard/ca/attestation"
	"bollard/ca/est"
	"bollard/detect"
	"bollard/firmware/catalogue"
	"bollard/firmware/quote"
	"bollard/firmware/release"
	"bollard/ledger"
	"bollard/tpm/attest"
	"bollard/tpm/device"
	"bollard/tpm/swtpm"
)

// rig is the door with the service behind it, and all that they ask in memory.
type rig struct {
	t       *testing.T
	service *quote.Service
	server  *httptest.Server

	now      time.Time
	entries  []catalogue.Entry
	unsigned map[string]bool // releases that don't verify
	unread   error           // of what says whether they do
	keys     map[string][]crypto.PublicKey
	ek       string // of every station
	judging  func() // called while a quote is judged
	stations map[string]quote.Station
	demands  map[string]time.Duration
	expects  string
	spent    bool // its budget
	records  map[string]quote.Record
	events   []ledger.Event
	alarms   []detect.Sign
	told     [][3]string // station, release, reason
	broken   error       // of the alarm
	behind   bool        // its clock
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{
		t: t, now: time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC), records: map[string]quote.Record{}, keys: map[string][]crypto.PublicKey{},
		stations: map[string]quote.Station{"cs-1": {Vendor: "Acme", Model: "AC-22", Firmware: "1.0"}}, demands: map[string]time.Duration{}, unsigned: map[string]bool{},
	}
	var err error
	r.service, err = quote.New(quote.Config{
		Store: r, Releases: r, Updates: r, Clock: r.clock,
		Station: func(_ context.Context, key string) (quote.Station, error) { return r.stations[key], nil },
		May:     func(string) bool { return !r.spent },
		Keys: func(_ context.Context, key string) (string, map[string]crypto.PublicKey, error) {
			keys := map[string]crypto.PublicKey{}
			for i, public := range r.keys[key] {
				keys[strconv.Itoa(i)] = public
			}
			return r.ek, keys, nil
		},
		Demand:  func(_ context.Context, key string) (time.Duration, error) { return r.demands[key], nil },
		Demands: func(context.Context) (map[string]time.Duration, error) { return r.demands, nil },
		CheckClock: func(context.Context) error {
			if r.behind {
				return errors.New("behind")
			}
			return nil
		},
		Alarm: func(_ context.Context, s detect.Sign) error { r.alarms = append(r.alarms, s); return r.broken },
	})
	if err != nil {
		t.Fatal(err)
	}
	handler, err := attestation.New(attestation.Config{Registrar: door{}, Quotes: r.service, Clock: r.clock, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	r.server = httptest.NewTLSServer(handler)
	t.Cleanup(r.server.Close)
	return r
}

func (r *rig) clock() time.Time { return r.now }

// door takes everybody's word for who they are.
type door struct{ attestation.Registrar }

func (door) Prove(_ context.Context, claim est.Claim) (est.Applicant, error) {
	if claim.Basic == nil {
		return nil, &est.Refusal{Status: http.StatusUnauthorized, Public: "who?"}
	}
	return applicant(claim.Basic.User), nil
}

type applicant string

func (a applicant) Station() string { return string(a) }
func (applicant) Certify(context.Context, ca.CSR) (*ca.Issued, error) {
	return nil, errors.New("nobody asks for that")
}

func (r *rig) Quote(_ context.Context, station string) (quote.Record, error) {
	return r.records[station], nil
}

func (r *rig) Quotes(context.Context) (map[string]quote.Record, error) {
	return maps.Clone(r.records), nil
}

func (r *rig) UpdateQuote(_ context.Context, station string, by *quote.TPM, change func(*quote.Record) ([]ledger.Event, error)) (quote.Record, error) {
	if _, known := r.stations[station]; !known {
		return quote.Record{}, quote.ErrUnknown
	}
	if by != nil && by.EK != r.ek {
		return quote.Record{}, quote.ErrOtherTPM
	}
	rec := r.records[station]
	events, err := change(&rec)
	if err != nil {
		return rec, err
	}
	r.records[station], r.events = rec, append(r.events, events...)
	return rec, nil
}

func (r *rig) List(context.Context) ([]catalogue.Entry, error) {
	if r.judging != nil {
		r.judging()
	}
	return r.entries, nil
}

func (r *rig) Verify(_ context.Context, e *catalogue.Entry) error {
	if r.unread != nil {
		return fmt.Errorf("signature: %w", r.unread)
	}
	if r.unsigned[e.Release.ID] {
		return errors.New("nobody signed it")
	}
	return nil
}

func (r *rig) Expects(context.Context, string) (string, error) { return r.expects, nil }

func (r *rig) Quoted(_ context.Context, station, release, reason string) error {
	r.told = append(r.told, [3]string{station, release, reason})
	return nil
}

// publish adds a release; its registers may be nil.
func (r *rig) publish(id, version string, registers *release.Registers) *catalogue.Entry {
	r.entries = append(r.entries, catalogue.Entry{State: catalogue.Published, Release: &release.Release{
		ID: id, Version: version, Sequence: uint64(len(r.entries) + 1), Models: []release.Model{{Vendor: "Acme", Model: "AC-22"}}, PCRs: registers,
	}})
	return &r.entries[len(r.entries)-1]
}

// ask makes a request as a station, and reads the answer into into.
func (r *rig) ask(station, operation string, body, into any) int {
	r.t.Helper()
	text, ok := body.([]byte)
	if !ok {
		var err error
		if text, err = json.Marshal(body); err != nil {
			r.t.Fatal(err)
		}
	}
	q, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, r.server.URL+attestation.Prefix+operation, bytes.NewReader(text))
	if err != nil {
		r.t.Fatal(err)
	}
	if station != "" {
		q.SetBasicAuth(station, "x")
	}
	resp, err := r.server.Client().Do(q)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	if resp.StatusCode == http.StatusOK && into != nil {
		if err := json.Unmarshal(answer, into); err != nil {
			r.t.Fatalf("%s: %v", answer, err)
		}
	}
	return resp.StatusCode
}

// nonce is what a station is asked to quote.
type nonce struct {
	Nonce     []byte
	Registers []int
	Log       bool
}

// answer is what came of a quote.
type answer struct {
	Outcome, Release, Version string
	Next                      int
}

// machine is a TPM with its attestation key.
type machine struct {
	*device.Device
	key crypto.PublicKey
}

func newMachine(t *testing.T) machine {
	t.Helper()
	tpm, _, stop, err := swtpm.StartAlone(context.WithoutCancel(t.Context()))
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	m := machine{Device: device.New(tpm)}
	area, err := m.AK()
	if err != nil {
		t.Fatal(err)
	}
	ak, err := attest.ParseAK(area)
	if err != nil {
		t.Fatal(err)
	}
	m.key = ak.Public()
	return m
}

// said is the body of a quote.
func (m machine) said(t *testing.T, over []byte, registers ...int) map[string]any {
	t.Helper()
	q, err := m.Quote(over, registers...)
	if err != nil {
		t.Fatal(err)
	}
	values := map[int][]byte{}
	maps.Copy(values, q.Registers)
	return map[string]any{"quoted": q.Statement, "signature": q.Signature, "registers": values}
}

func (m machine) measure(t *testing.T, register int, what string) string {
	t.Helper()
	if err := m.Extend(register, []byte(what)); err != nil {
		t.Fatal(err)
	}
	q, err := m.Quote([]byte("any"), register)
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(q.Registers[register])
}
