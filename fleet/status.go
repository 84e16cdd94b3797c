package fleet

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

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
)

// Revocation learns the status of certificates from OCSP responders and CRLs. What
// can't be read is an error, and never a panic. *revocation.Checker is one.
type Revocation interface {
	// Response obtains the OCSP response in force about a certificate that hash data
	// names, DER. An error means that there is none to be had.
	Response(ctx context.Context, d ocpp.OCSPRequestData) ([]byte, error)
	// Status learns one of ocpp.CertificateGood, CertificateRevoked and
	// CertificateUnknown, and until when it counts; zero: it isn't known.
	Status(ctx context.Context, r ocpp.CertificateStatusRequest) (status string, next time.Time, err error)
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
	if len(data.ResponderURL) > longest {
		data.ResponderURL = ""
	}
	der, err := s.cfg.Revocation.Response(ctx, data)
	if err != nil {
		return "", err
	}
	result := base64.StdEncoding.EncodeToString(der)
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
		if _, ok := ocpp.HashNamed(r.CertificateHashData.HashAlgorithm); !ok {
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
	status, next, err := s.cfg.Revocation.Status(ctx, r)
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

func (s *Service) statusFailed(sess Session, action string, err error) {
	adm := sess.Admission()
	s.log.Info("certificate status not obtained", slog.String("station", adm.Station.Key()), slog.String("session", sess.ID()),
		slog.String("action", action), slog.String("reason", fact(err.Error())))
}
