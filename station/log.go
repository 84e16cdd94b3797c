package station

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"bollard/ocpp"
)

const (
	logLines   = 1000 // the security log rolls (A04.FR.04)
	uploadWait = 30 * time.Second
)

// upload is the one that runs; a second GetLog ends it (N01.FR.12).
type upload struct {
	request int
	cancel  context.CancelFunc
}

// logged writes an event to the security log, whether it is sent or not. The
// caller holds mu.
func (s *Station) logged(kind, at string) {
	if s.log = append(s.log, at+" "+kind); len(s.log) > logLines {
		s.log = s.log[1:]
	}
}

// getLog uploads a log over HTTPS (N01.FR.14, .15 [2.x]: it trusts the CSMS's
// chain).
func (l *link) getLog(payload []byte) reply {
	var req ocpp.GetLogRequest
	if r, ok := decode(payload, &req); !ok {
		return r
	}
	u, err := url.Parse(req.Log.RemoteLocation)
	if err != nil || u.Scheme != "https" || u.Host == "" || (req.LogType != ocpp.LogTypeSecurity && req.LogType != ocpp.LogTypeDiagnostics) {
		return l.refuse("UnsupportedParam")
	}
	s := l.s
	ctx, cancel := context.WithTimeout(s.ctx, uploadWait)
	s.mu.Lock()
	before := s.uploading
	s.uploading = &upload{req.RequestID, cancel}
	text := strings.Join(append([]string{"security log of " + s.cfg.Serial}, s.log...), "\n") + "\n"
	s.mu.Unlock()
	answer := object{"status": accepted, "filename": "security.log"}
	if before != nil {
		before.cancel()
		answer["status"] = ocpp.StatusAcceptedCanceled
	}
	return reply{payload: answer}.then(func(context.Context) {
		defer cancel()
		if before != nil && l.version != ocpp.V16 {
			s.logStatus(before.request, ocpp.StatusAcceptedCanceled) // N01.FR.20 [2.x]
		}
		s.logStatus(req.RequestID, "Uploading")
		outcome := "Uploaded"
		if err := s.put(ctx, u, text); err != nil {
			s.cfg.Log.Info("couldn't upload a log", "station", s.cfg.Identity, "err", err)
			outcome = "UploadFailure"
		}
		s.mu.Lock()
		replaced := s.uploading == nil || s.uploading.request != req.RequestID
		if !replaced {
			s.uploading = nil
		}
		s.mu.Unlock()
		if !replaced {
			s.logStatus(req.RequestID, outcome)
		}
	})
}

func (s *Station) logStatus(request int, status string) {
	// A CSMS that doesn't answer it isn't told again.
	_, _ = s.Call(s.ctx, ocpp.ActionLogStatus, ocpp.LogStatusRequest{Status: status, RequestID: &request})
}

// put uploads; redirects are a failure (N01.FR.30 [2.1]).
func (s *Station) put(ctx context.Context, u *url.URL, text string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, u.String(), bytes.NewReader([]byte(text)))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "text/plain")
	transport := &http.Transport{TLSClientConfig: &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: s.trust.pool(csmsRoot), ServerName: s.cfg.ServerName, Time: s.cfg.Clock,
	}, DisableKeepAlives: true}
	answer, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	_ = answer.Body.Close()
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("the server answered with status %d", answer.StatusCode)
	}
	return nil
}
