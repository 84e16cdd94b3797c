package fleet

import (
	"context"
	"crypto"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ocsp"

	"bollard/internal/safehttp"
	"bollard/ocpp"
)

const (
	// statusPatience bounds the answer to one message about certificate status.
	statusPatience = 10 * time.Second
	// statusRetry is told as nextUpdate where the status couldn't be learned
	// (M07.FR.08 wants one with every status).
	statusRetry = 15 * time.Minute
	// statusBurst and statusRefill bound what one station asks, in certificates: as many
	// as those toward cars of all its EVSEs at once (M06.FR.10: once a week), and then the
	// chain of a car every four seconds. Each may cost a signature here or a question elsewhere.
	statusBurst  = 3 * maxSECCs
	statusRefill = 1.0
	// fetchesAtOnce bounds the outside requests under way of all stations.
	fetchesAtOnce = 16
	// fetchesOfHost bounds those to one host: the others go on when it is slow.
	fetchesOfHost = 4
	// ocspBytes is more than any message takes.
	ocspBytes = 64 << 10
)

// Fetcher reaches the responders and CRLs that URLs from the wire name.
// *safehttp.Client is one.
type Fetcher interface {
	Get(ctx context.Context, rawURL string) (*safehttp.Response, error)
	Post(ctx context.Context, rawURL, contentType string, body []byte) (*safehttp.Response, error)
}

// OCSPResponder answers DER OCSP requests about certificates of the own CAs;
// own is false if the issuer is none of them.
type OCSPResponder func(ctx context.Context, request []byte) (response []byte, own bool, err error)

// statuses learns the status of certificates.
type statuses struct {
	own     OCSPResponder // nil: none
	fetch   Fetcher       // nil: nothing outside is asked
	clock   func() time.Time
	issuers func(ctx context.Context) (issuers, error)
	slots   chan struct{}
	hosts   *turns
	cache   *statusCache
}

// AttachStatus gives the service the own OCSP responder and what reaches those
// of others; nil is none. It is called before sessions are.
func (s *Service) AttachStatus(own OCSPResponder, fetch Fetcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.statuses = s.newStatuses(own, fetch)
}

func (s *Service) newStatuses(own OCSPResponder, fetch Fetcher) *statuses {
	return &statuses{own: own, fetch: fetch, clock: s.clock, issuers: s.knownIssuers, slots: make(chan struct{}, fetchesAtOnce), hosts: newTurns(fetchesOfHost), cache: newStatusCache()}
}

// statusOf is what AttachStatus left.
func (s *Service) statusOf() *statuses {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.statuses == nil {
		s.statuses = s.newStatuses(nil, nil)
	}
	return s.statuses
}

// subject is the certificate a status is wanted of.
type subject struct {
	hash              crypto.Hash
	nameHash, keyHash []byte
	serial            *big.Int
}

// hashNamed knows the algorithms OCPP has.
func hashNamed(name string) (crypto.Hash, bool) {
	switch strings.ToUpper(name) {
	case ocpp.HashSHA256:
		return crypto.SHA256, true
	case ocpp.HashSHA384:
		return crypto.SHA384, true
	case ocpp.HashSHA512:
		return crypto.SHA512, true
	}
	return 0, false
}

// parseSubject reads hash data, in upper or lower case, with or without leading
// zeros in the serial number.
func parseSubject(d ocpp.CertificateHashData) (subject, error) {
	var s subject
	var ok bool
	if s.hash, ok = hashNamed(d.HashAlgorithm); !ok {
		return s, errors.New("hashAlgorithm is not SHA256, SHA384 or SHA512")
	}
	for _, h := range []struct {
		text string
		into *[]byte
		name string
	}{{d.IssuerNameHash, &s.nameHash, "issuerNameHash"}, {d.IssuerKeyHash, &s.keyHash, "issuerKeyHash"}} {
		sum, err := hex.DecodeString(h.text)
		if err != nil || len(sum) != s.hash.Size() {
			return s, fmt.Errorf("%s is no %s in hex", h.name, strings.ToUpper(d.HashAlgorithm))
		}
		*h.into = sum
	}
	digits := d.SerialNumber
	if len(digits) == 0 || len(digits) > ocpp.MaxHashSerial || strings.Trim(digits, "0123456789abcdefABCDEF") != "" {
		return s, errors.New("serialNumber is not 1 to 40 digits of hex")
	}
	s.serial, _ = new(big.Int).SetString(digits, 16)
	return s, nil
}

// request is the RFC 6960 OCSPRequest about the subject.
func (s subject) request() ([]byte, error) {
	r := ocsp.Request{HashAlgorithm: s.hash, IssuerNameHash: s.nameHash, IssuerKeyHash: s.keyHash, SerialNumber: s.serial}
	return r.Marshal()
}

// answer is an OCSP response in force.
type answer struct {
	der      []byte
	status   int // of package ocsp
	next     time.Time
	verified bool // signed for an issuer Bollard knows
}

// errNotFetched is why nothing outside is asked.
var errNotFetched = errors.New("no responder may be asked; list it under ocsp_hosts")

// ocsp obtains the OCSP response about a subject, the own one or that of one of
// the responders, tried in turn.
func (t *statuses) ocsp(ctx context.Context, s subject, urls []string) (answer, error) {
	known, err := t.issuers(ctx)
	if err != nil {
		return answer{}, err
	}
	return t.ocspOf(ctx, s, urls, known)
}

// ocspOf is ocsp for issuers that are known already.
func (t *statuses) ocspOf(ctx context.Context, s subject, urls []string, known issuers) (answer, error) {
	request, err := s.request()
	if err != nil {
		return answer{}, fmt.Errorf("couldn't make an OCSP request: %w", err)
	}
	if t.own != nil {
		response, own, err := t.own(ctx, request)
		switch {
		case err != nil:
			return answer{}, fmt.Errorf("couldn't get the own OCSP response: %w", err)
		case own:
			return readOCSP(response, s, known, t.clock())
		}
	}
	err = errNotFetched
	for _, url := range urls {
		if t.fetch == nil || ctx.Err() != nil {
			break
		}
		var a answer
		if a, err = t.foreign(ctx, s, url, request, known); err == nil {
			return a, nil
		}
	}
	return answer{}, err
}

// foreign asks one responder, or the cache.
func (t *statuses) foreign(ctx context.Context, s subject, url string, request []byte, known issuers) (answer, error) {
	body, err := t.cache.get(ctx, cacheKey(known.answers(), url, request), t.clock, func(ctx context.Context) ([]byte, time.Time, error) {
		response, err := t.outside(ctx, url, func() (*safehttp.Response, error) {
			return t.fetch.Post(ctx, url, "application/ocsp-request", request)
		})
		if err != nil {
			return nil, time.Time{}, err
		}
		if kind := response.Header.Get("Content-Type"); response.Status != 200 || !strings.HasPrefix(strings.ToLower(kind), "application/ocsp-response") {
			return nil, time.Time{}, fmt.Errorf("the responder answered with HTTP status %d and no OCSP response", response.Status)
		}
		if len(response.Body) > ocspBytes {
			return nil, time.Time{}, fmt.Errorf("the OCSP response has %d bytes", len(response.Body))
		}
		a, err := readOCSP(response.Body, s, known, t.clock())
		return response.Body, a.next, err
	})
	if err != nil {
		return answer{}, err
	}
	return readOCSP(body, s, known, t.clock())
}

// outside makes one request when it is its turn: among those to its host, then among
// all, so that who waits for a slow host is in nobody else's way.
func (t *statuses) outside(ctx context.Context, rawURL string, fetch func() (*safehttp.Response, error)) (*safehttp.Response, error) {
	target, err := url.Parse(rawURL)
	if err != nil {
		return nil, errors.New("the responder's URL can't be read")
	}
	release, err := t.hosts.take(ctx, strings.ToLower(target.Hostname()))
	if err != nil {
		return nil, err
	}
	defer release()
	if err := acquire(ctx, t.slots); err != nil {
		return nil, err
	}
	defer func() { <-t.slots }()
	return fetch()
}

// mayAskStatus takes so many certificates from what a station may ask about.
func (s *Service) mayAskStatus(key string, certificates int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	if s.asked.left(key, now) < float64(certificates) {
		return false
	}
	for range certificates {
		s.asked.take(key, now)
	}
	return true
}

const statusTooOften = "station asks about certificates too often"

// certificateStatus answers GetCertificateStatus (M06), in its 2.x form and in
// that of a 1.6 DataTransfer. Where the back end answers certificate messages it
// answers this one.
func (s *Service) certificateStatus(sess Session, payload json.RawMessage, shape func(ocpp.GetCertificateStatusResponse) any) (Verdict, error) {
	if sess.Security() != SecurityBollard {
		return Verdict{Act: Pass}, nil
	}
	var request ocpp.GetCertificateStatusRequest
	if err := ocpp.DecodeStrict(payload, &request); err != nil {
		return Verdict{}, err
	}
	if !s.mayAskStatus(keyOfSession(sess), 1) {
		return Verdict{Act: Answer, Reason: statusTooOften, Payload: shape(ocpp.GetCertificateStatusResponse{
			Status: ocpp.StatusFailed, StatusInfo: &ocpp.StatusInfo{ReasonCode: ocpp.ReasonUnsupportedRequest, AdditionalInfo: "too many requests"},
		})}, nil
	}
	data := request.OCSPRequestData
	limit, longest := ocpp.MaxOCSPResult201, 512
	if sess.Version() == ocpp.V21 {
		limit, longest = ocpp.MaxOCSPResult21, ocpp.MaxStatusURL
	}
	return Verdict{Later: func(ctx context.Context) Verdict {
		ctx, cancel := context.WithTimeout(ctx, statusPatience)
		defer cancel()
		result, err := s.ocspResult(ctx, data, limit, longest)
		if err != nil { // M06.FR.04
			s.statusFailed(sess, ocpp.ActionGetCertificateStatus, err)
			return Verdict{Act: Answer, Reason: err.Error(), Payload: shape(ocpp.GetCertificateStatusResponse{
				Status: ocpp.StatusFailed, StatusInfo: &ocpp.StatusInfo{ReasonCode: ocpp.ReasonUnsupportedRequest, AdditionalInfo: "no OCSP response was obtained"},
			})}
		}
		return Verdict{Act: Answer, Reason: "OCSP response obtained", Payload: shape(ocpp.GetCertificateStatusResponse{Status: ocpp.StatusAccepted, OCSPResult: result})}
	}}, nil
}

// ocspResult obtains one OCSP response as base64 (M06.FR.08, .09).
func (s *Service) ocspResult(ctx context.Context, data ocpp.OCSPRequestData, limit, longest int) (string, error) {
	subject, err := parseSubject(ocpp.CertificateHashData{HashAlgorithm: data.HashAlgorithm, IssuerNameHash: data.IssuerNameHash,
		IssuerKeyHash: data.IssuerKeyHash, SerialNumber: data.SerialNumber})
	if err != nil {
		return "", err
	}
	var urls []string
	if data.ResponderURL != "" && len(data.ResponderURL) <= longest {
		urls = append(urls, data.ResponderURL)
	}
	a, err := s.statusOf().ocsp(ctx, subject, urls)
	if err != nil {
		return "", err
	}
	result := base64.StdEncoding.EncodeToString(a.der)
	if len(result) > limit {
		return "", fmt.Errorf("the OCSP response has %d characters, the message takes %d", len(result), limit)
	}
	return result, nil
}

// plainStatus is the answer of 2.x.
func plainStatus(r ocpp.GetCertificateStatusResponse) any { return r }

// wrappedStatus is that of a 1.6 DataTransfer.
func wrappedStatus(r ocpp.GetCertificateStatusResponse) any {
	return ocpp.DataTransferResponse{Status: ocpp.StatusAccepted, Data: Wrap(r)}
}

// certificateChainStatus answers GetCertificateChainStatus (M07) on a vehicle's
// chain: one status for each certificate, in order.
func (s *Service) certificateChainStatus(sess Session, payload json.RawMessage) (Verdict, error) {
	if sess.Security() != SecurityBollard {
		return Verdict{Act: Pass}, nil
	}
	var request ocpp.GetCertificateChainStatusRequest
	if err := ocpp.DecodeStrict(payload, &request); err != nil {
		return Verdict{}, err
	}
	if n := len(request.Requests); n == 0 || n > ocpp.MaxStatusRequests {
		return Verdict{}, &ocpp.FrameError{Code: ocpp.OccurrenceConstraintViolation, Reason: "there must be 1 to 4 certificateStatusRequests"}
	}
	for _, r := range request.Requests {
		if n := len(r.URLs); n == 0 || n > ocpp.MaxStatusURLs {
			return Verdict{}, &ocpp.FrameError{Code: ocpp.OccurrenceConstraintViolation, Reason: "there must be 1 to 5 urls for each certificate"}
		}
		if r.Source != ocpp.SourceOCSP && r.Source != ocpp.SourceCRL {
			return Verdict{}, &ocpp.FrameError{Code: ocpp.PropertyConstraintViolation, Reason: "source is neither OCSP nor CRL"}
		}
		// The answer repeats them; what can't be repeated can't be answered.
		if d := r.CertificateHashData; len(d.IssuerNameHash) > ocpp.MaxIssuerHash || len(d.IssuerKeyHash) > ocpp.MaxIssuerHash || len(d.SerialNumber) > ocpp.MaxHashSerial {
			return Verdict{}, &ocpp.FrameError{Code: ocpp.PropertyConstraintViolation, Reason: "certificateHashData is too long"}
		}
		if _, ok := hashNamed(r.CertificateHashData.HashAlgorithm); !ok {
			return Verdict{}, &ocpp.FrameError{Code: ocpp.PropertyConstraintViolation, Reason: "hashAlgorithm is not SHA256, SHA384 or SHA512"}
		}
	}
	if !s.mayAskStatus(keyOfSession(sess), len(request.Requests)) {
		response := ocpp.GetCertificateChainStatusResponse{}
		for _, r := range request.Requests {
			response.Statuses = append(response.Statuses, ocpp.CertificateStatus{
				CertificateHashData: r.CertificateHashData, Source: r.Source, Status: ocpp.CertificateFailed, NextUpdate: s.clock().Add(statusRetry).UTC().Format(time.RFC3339),
			})
		}
		return Verdict{Act: Answer, Reason: statusTooOften, Payload: response}, nil
	}
	return Verdict{Later: func(ctx context.Context) Verdict {
		ctx, cancel := context.WithTimeout(ctx, statusPatience)
		defer cancel()
		response := ocpp.GetCertificateChainStatusResponse{Statuses: make([]ocpp.CertificateStatus, len(request.Requests))}
		var all sync.WaitGroup
		for i, r := range request.Requests {
			all.Go(func() { response.Statuses[i] = s.chainStatus(ctx, sess, r) })
		}
		all.Wait()
		return Verdict{Act: Answer, Payload: response, Reason: "certificate chain status answered"}
	}}, nil
}

// chainStatus learns the status of one certificate. Here Bollard itself says
// Good, so an answer it can't verify is no answer.
func (s *Service) chainStatus(ctx context.Context, sess Session, r ocpp.CertificateStatusRequest) ocpp.CertificateStatus {
	out := ocpp.CertificateStatus{CertificateHashData: r.CertificateHashData, Source: r.Source}
	var status string
	var next time.Time
	err := contained(func() (err error) { status, next, err = s.learnStatus(ctx, r); return err })
	if err != nil {
		s.statusFailed(sess, ocpp.ActionGetCertificateChainStatus, err)
		status, next = ocpp.CertificateFailed, s.clock().Add(statusRetry)
	}
	if now := s.clock(); next.Before(now) { // a response without nextUpdate
		next = now
	}
	out.Status, out.NextUpdate = status, next.UTC().Format(time.RFC3339)
	return out
}

func (s *Service) learnStatus(ctx context.Context, r ocpp.CertificateStatusRequest) (string, time.Time, error) {
	subject, err := parseSubject(r.CertificateHashData)
	if err != nil {
		return "", time.Time{}, err
	}
	if r.Source == ocpp.SourceCRL {
		return s.statusOf().crl(ctx, subject, r.URLs)
	}
	a, err := s.statusOf().ocsp(ctx, subject, r.URLs)
	if err != nil {
		return "", time.Time{}, err
	}
	if !a.verified {
		return "", time.Time{}, errors.New("the OCSP response is of an issuer Bollard doesn't know; add its root with bollard ca trust add")
	}
	return statusWord(a.status), a.next, nil
}

func statusWord(status int) string {
	switch status {
	case ocsp.Good:
		return ocpp.CertificateGood
	case ocsp.Revoked:
		return ocpp.CertificateRevoked
	}
	return ocpp.CertificateUnknown
}

func (s *Service) statusFailed(sess Session, action string, err error) {
	adm := sess.Admission()
	s.log.Info("certificate status not obtained", slog.String("station", adm.Station.Key()), slog.String("session", sess.ID()),
		slog.String("action", action), slog.String("reason", fact(err.Error())))
}
