// Package attestation is the door where stations have their TPM's attestation key
// certified: in two requests, as go.step.sm/crypto's tpm/attestation client makes them;
// and where they then show by quotes of that key what they run, in two more.
//
// It promises that a certificate is given for nothing but the attestation key of the
// TPM that a proven station is known by, after that TPM opened a challenge for this key;
// and that each challenge and each nonce is answered once, in time.
package attestation

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"bollard/ca"
	"bollard/ca/est"
	"bollard/tpm/attest"
)

// Prefix is the path below which the two requests are.
const Prefix = "/attestation/"

const (
	maxBody = 32 << 10 // an endorsement certificate and an RSA key with its creation data are far below
	maxOpen = 1024     // challenges
	// patience of a challenge: a slow TPM takes some ten seconds.
	patience = 2 * time.Minute
)

// Registrar knows the stations and their TPMs. *fleet.Registrar is one. Errors are
// *est.Refusal, or something else if that couldn't be judged now.
type Registrar interface {
	Prove(ctx context.Context, claim est.Claim) (est.Applicant, error)
	// Endorse says whether the TPM of an endorsement key is the station's.
	Endorse(ctx context.Context, claim est.Claim, station string, ek attest.EK, certificates []*x509.Certificate) error
	// CertifyAttestation does so again, and returns the certificate of the key: a new
	// one, or the one it has. It is recorded before it is returned.
	CertifyAttestation(ctx context.Context, claim est.Claim, station string, ek attest.EK, certificates []*x509.Certificate, key ca.ProvenKey) (*ca.Issued, error)
}

// Config of a Door.
type Config struct {
	Registrar Registrar
	Quotes    Quotes // nil: none are taken
	Clock     func() time.Time
	// Served, if set, hears of each answer: the operation ("" for none of them) and its
	// HTTP status.
	Served func(operation string, status int)
	Log    *slog.Logger
}

// door is the handler.
type door struct {
	cfg    Config
	open   *attest.Pending[question] // by station: a further one ends the one before
	nonces *attest.Pending[[]byte]   // as well
}

// question is a challenge under way.
type question struct {
	challenge    attest.Challenge
	ek           attest.EK
	certificates []*x509.Certificate
	ak           *attest.AK
}

// New returns the handler of everything below Prefix. It serves requests that came
// over TLS only.
func New(cfg Config) (http.Handler, error) {
	if cfg.Registrar == nil || cfg.Clock == nil || cfg.Log == nil {
		return nil, errors.New("internal error: attestation.Config needs Registrar, Clock and Log")
	}
	if cfg.Served == nil {
		cfg.Served = func(string, int) {}
	}
	d := &door{cfg: cfg, open: attest.NewPending[question](maxOpen, patience), nonces: attest.NewPending[[]byte](maxNonces, patience)}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+Prefix+"attest", d.serve("attest", whole(d.attest)))
	mux.HandleFunc("POST "+Prefix+"secret", d.serve("secret", whole(d.secret)))
	if cfg.Quotes != nil {
		mux.HandleFunc("POST "+Prefix+"nonce", d.serve("nonce", whole(d.nonce)))
		mux.HandleFunc("POST "+Prefix+"quote", d.serve("quote", d.quote))
	}
	return mux, nil
}

// The messages of the client, as far as anything is read of them.
type (
	attestRequest struct {
		EK           []byte     `json:"ek"` // SubjectPublicKeyInfo
		Certificates [][]byte   `json:"ekCerts"`
		Parameters   parameters `json:"params"`
	}
	parameters struct {
		Public []byte `json:"public"` // TPMT_PUBLIC
	}
	attestAnswer struct {
		Credential []byte `json:"credential"`
		Secret     []byte `json:"secret"` // encrypted
	}
	secretRequest struct {
		Secret []byte `json:"secret"` // opened
	}
	secretAnswer struct {
		Chain [][]byte `json:"chain"` // DER, leaf first, without the root
	}
)

// action is what a request is for, once its sender is proven. It reads the body.
type action func(w http.ResponseWriter, r *http.Request, claim est.Claim, station string) (any, error)

// whole is an action that begins with the body, which is short.
func whole(act func(r *http.Request, claim est.Claim, station string, body []byte) (any, error)) action {
	return func(w http.ResponseWriter, r *http.Request, claim est.Claim, station string) (any, error) {
		body, err := readAll(w, r, maxBody)
		if err != nil {
			return nil, err
		}
		return act(r, claim, station, body)
	}
}

// serve is what the requests have in common: the sender comes first, a body of
// somebody unproven isn't read.
func (d *door) serve(operation string, act action) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		status := http.StatusOK
		answer, station, err := d.judge(w, r, act)
		var refused *est.Refusal
		switch {
		case errors.As(err, &refused):
			status = refused.Status
			d.cfg.Log.Warn("attestation refused", slog.String("station", station), slog.String("reason", refused.Reason))
			if status == http.StatusUnauthorized {
				w.Header().Set("WWW-Authenticate", `Basic realm="enrolment", charset="UTF-8"`)
			}
			if refused.RetryAfter > 0 {
				w.Header().Set("Retry-After", strconv.Itoa(max(1, int(refused.RetryAfter.Seconds()))))
			}
			http.Error(w, refused.Public, status)
		case err != nil:
			status = http.StatusServiceUnavailable
			d.cfg.Log.Error("attestation has to wait", slog.String("station", station), slog.Any("err", err))
			w.Header().Set("Retry-After", "60")
			http.Error(w, "try again later", status)
		default:
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Cache-Control", "no-store")
			_, _ = w.Write(answer) // a peer that left begins anew
		}
		d.cfg.Served(operation, status)
	}
}

func (d *door) judge(w http.ResponseWriter, r *http.Request, act action) ([]byte, string, error) {
	if r.TLS == nil {
		return nil, "", refusal(http.StatusForbidden, "attestation is served over TLS only")
	}
	claim := est.Claim{Certificates: r.TLS.PeerCertificates}
	if at, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		claim.Source = at.Addr()
	}
	if user, secret, ok := r.BasicAuth(); ok {
		claim.Basic = &est.Basic{User: user, Secret: []byte(secret)}
	}
	applicant, err := d.cfg.Registrar.Prove(r.Context(), claim)
	if err != nil {
		return nil, "", err
	}
	station := applicant.Station()
	said, err := act(w, r, claim, station)
	if err != nil {
		return nil, station, err
	}
	answer, err := json.Marshal(said)
	return answer, station, err
}

// attest makes a challenge for an endorsement key and an attestation key.
func (d *door) attest(r *http.Request, claim est.Claim, station string, body []byte) (any, error) {
	var in attestRequest
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, refusal(http.StatusBadRequest, "the request isn't the JSON of an attestation")
	}
	ek, err := attest.ParseEK(in.EK)
	if err != nil {
		return nil, refusal(http.StatusBadRequest, err.Error())
	}
	if len(in.Certificates) > maxCertificates {
		return nil, refusal(http.StatusBadRequest, fmt.Sprintf("at most %d certificates are taken", maxCertificates))
	}
	q := question{ek: ek}
	for _, der := range in.Certificates {
		cert, err := attest.ParseEKCertificate(der)
		if err != nil {
			return nil, refusal(http.StatusBadRequest, err.Error())
		}
		q.certificates = append(q.certificates, cert)
	}
	if q.ak, err = attest.ParseAK(in.Parameters.Public); err != nil {
		return nil, refusal(http.StatusBadRequest, err.Error())
	}
	if err := d.cfg.Registrar.Endorse(r.Context(), claim, station, ek, q.certificates); err != nil {
		return nil, err
	}
	if q.challenge, err = attest.NewChallenge(rand.Reader, ek, q.ak); err != nil {
		return nil, err
	}
	if err := d.open.Put(d.cfg.Clock(), station, q); err != nil {
		return nil, &est.Refusal{Status: http.StatusTooManyRequests, Public: err.Error(), Reason: err.Error(), RetryAfter: time.Minute}
	}
	return attestAnswer{q.challenge.Credential, q.challenge.Encrypted}, nil
}

// maxCertificates: an endorsement certificate with what is above it.
const maxCertificates = 6

// secret takes a challenge's answer, right or wrong, as its only one.
func (d *door) secret(r *http.Request, claim est.Claim, station string, body []byte) (any, error) {
	var in secretRequest
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, refusal(http.StatusBadRequest, "the request isn't the JSON of a secret")
	}
	q, ok := d.open.Take(d.cfg.Clock(), station)
	if !ok {
		return nil, refusal(http.StatusForbidden, "no challenge is open for this station: begin anew")
	}
	key, err := ca.ActivatedKey(q.challenge, in.Secret, q.ak)
	if err != nil {
		return nil, refusal(http.StatusForbidden, err.Error())
	}
	issued, err := d.cfg.Registrar.CertifyAttestation(r.Context(), claim, station, q.ek, q.certificates, key)
	if err != nil {
		return nil, err
	}
	answer := secretAnswer{Chain: [][]byte{issued.Certificate.Raw}}
	for _, c := range issued.Chain {
		answer.Chain = append(answer.Chain, c.Raw)
	}
	return answer, nil
}

func readAll(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, refusal(http.StatusRequestEntityTooLarge, fmt.Sprintf("the request is larger than %d bytes", limit))
	case err != nil:
		return nil, refusal(http.StatusBadRequest, "the body ended early")
	}
	return body, nil
}

// refusal is one whose reason holds nothing the client mustn't see.
func refusal(status int, text string) *est.Refusal {
	return &est.Refusal{Status: status, Public: text, Reason: text}
}
