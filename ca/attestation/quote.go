package attestation

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"bollard/ca/est"
	"bollard/tpm/attest"
)

const (
	maxNonces = 8192 // a fleet that comes back after a power cut asks at once
	nonceSize = 32
	// maxQuote is of a quote with its event log, in base64.
	maxQuote = attest.MaxLog*4/3 + maxBody
)

// Quotes judges what stations' TPMs quote. *quote.Service is one. Errors are as those
// of a Registrar.
type Quotes interface {
	// Wanted says what a station is to quote; a *est.Refusal for one whose attestation key
	// has no certificate.
	Wanted(ctx context.Context, station string) (Wanted, error)
	// Quoted judges a quote over the nonce that the station was given. What it shows is
	// durable before it returns.
	Quoted(ctx context.Context, station string, nonce []byte, q attest.Quote, log []byte) (Shown, error)
}

// Wanted is what a station is to quote.
type Wanted struct {
	Registers []int // none: any
	Log       bool  // the event log is needed
}

// Shown is what a quote showed.
type Shown struct {
	Outcome, Release, Version string
	Next                      time.Duration // when the next is wanted; 0: at the next boot
}

type (
	nonceAnswer struct {
		Nonce     []byte `json:"nonce"`
		Registers []int  `json:"registers"` // of the SHA-256 bank; none: any
		Log       bool   `json:"log,omitempty"`
	}
	quoteRequest struct {
		Quoted    []byte            `json:"quoted"`    // TPMS_ATTEST
		Signature []byte            `json:"signature"` // TPMT_SIGNATURE
		Registers map[string][]byte `json:"registers"` // by number, those quoted
		Log       []byte            `json:"log"`
	}
	quoteAnswer struct {
		Outcome string `json:"outcome"`
		Release string `json:"release,omitempty"`
		Version string `json:"version,omitempty"`
		Next    int    `json:"next,omitempty"` // seconds
	}
)

// nonce gives a station a nonce for one quote.
func (d *door) nonce(r *http.Request, _ est.Claim, station string, _ []byte) (any, error) {
	wanted, err := d.cfg.Quotes.Wanted(r.Context(), station)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, nonceSize)
	_, _ = rand.Read(nonce) // never fails (crypto/rand)
	if err := d.nonces.Put(d.cfg.Clock(), station, nonce); err != nil {
		return nil, &est.Refusal{Status: http.StatusTooManyRequests, Public: err.Error(), Reason: err.Error(), RetryAfter: time.Minute}
	}
	return nonceAnswer{nonce, wanted.Registers, wanted.Log}, nil
}

// quote takes a nonce's quote, right or wrong, as its only one. The nonce goes before
// the body is read, which with a log is long: a station has one under way.
func (d *door) quote(w http.ResponseWriter, r *http.Request, _ est.Claim, station string) (any, error) {
	nonce, ok := d.nonces.Take(d.cfg.Clock(), station)
	if !ok {
		return nil, refusal(http.StatusForbidden, "no nonce is open for this station: ask for one")
	}
	body, err := readAll(w, r, maxQuote)
	if err != nil {
		return nil, err
	}
	var in quoteRequest
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, refusal(http.StatusBadRequest, "the request isn't the JSON of a quote")
	}
	q := attest.Quote{Statement: in.Quoted, Signature: in.Signature, Registers: attest.Registers{}}
	for number, value := range in.Registers {
		n, err := strconv.Atoi(number)
		if err != nil || strconv.Itoa(n) != number {
			return nil, refusal(http.StatusBadRequest, "registers are named by their numbers")
		}
		q.Registers[n] = value
	}
	shown, err := d.cfg.Quotes.Quoted(r.Context(), station, nonce, q, in.Log)
	if err != nil {
		return nil, err
	}
	return quoteAnswer{shown.Outcome, shown.Release, shown.Version, int(shown.Next.Seconds())}, nil
}
