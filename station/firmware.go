package station

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	"bollard/ocpp"
)

// Firmware a station can run begins with a line that has this and its version.
const imagePrefix = "bollard simulated firmware "

// Image makes an image of a version, of about so many bytes.
func Image(version string, size int) []byte {
	head := imagePrefix + version + "\n"
	return append([]byte(head), bytes.Repeat([]byte{0x5a}, max(size-len(head), 0))...)
}

const (
	downloadWait  = time.Minute
	maxImage      = 1 << 30
	firmwareEvent = "FirmwareUpdated"
)

// update is the one that runs; a second one ends it (L01.FR.24).
type update struct {
	request int
	cancel  context.CancelFunc
}

// firmwareWord is the newest status, for a trigger.
type firmwareWord struct {
	request int
	status  string
}

// updateFirmware is UpdateFirmware of 2.x and SignedUpdateFirmware of 1.6: the
// certificate is checked before the answer (L01.FR.21), the signature after the
// download (L01.FR.04).
func (l *link) updateFirmware(payload []byte) reply {
	var req ocpp.UpdateFirmwareRequest
	if r, ok := decode(payload, &req); !ok {
		return r
	}
	if req.RequestID == nil || req.Firmware == nil {
		return failure(ocpp.FormatViolation, "")
	}
	s, f := l.s, req.Firmware
	var signer *x509.Certificate
	switch {
	case s.cfg.Verify == Unsigned: // L02
	case f.Signature == "":
		return l.refuse("MissingSignature")
	case f.SigningCertificate == "":
		return l.refuse("MissingSigningCert")
	}
	if s.cfg.Verify != Unsigned || f.SigningCertificate != "" {
		var err error
		if signer, err = s.cfg.Verify.signer([]byte(f.SigningCertificate), s.trust.list(manufacturerRoot), s.now()); err != nil {
			s.queueEvent("InvalidFirmwareSigningCertificate")
			return status("InvalidCertificate")
		}
	}
	u, err := url.Parse(f.Location)
	if err != nil || u.Scheme != "https" && s.cfg.Transfer == nil || u.Host == "" {
		return l.refuse("UnsupportedParam")
	}
	ctx, cancel := context.WithCancel(s.ctx)
	s.mu.Lock()
	before := s.updating
	s.updating = &update{*req.RequestID, cancel}
	s.mu.Unlock()
	answer := status(accepted)
	if before != nil {
		before.cancel()
		answer = status(ocpp.StatusAcceptedCanceled)
	}
	return answer.then(func(context.Context) {
		defer cancel()
		if before != nil {
			s.firmwareStatus(s.ctx, before.request, "DownloadFailed")
		}
		s.install(ctx, &req, u, signer)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.updating != nil && s.updating.request == *req.RequestID {
			s.updating = nil
		}
	})
}

// updatePlain is UpdateFirmware of 1.6, which a station with signed firmware refuses
// (L01.FR.20 [1.6]).
func (l *link) updatePlain(payload []byte) reply {
	var req ocpp.UpdateFirmwareRequest16
	if r, ok := decode(payload, &req); !ok {
		return r
	}
	s := l.s
	u, err := url.Parse(req.Location)
	if s.cfg.Verify != Unsigned || err != nil {
		return failure(ocpp.NotSupported, "signed firmware only")
	}
	return reply{payload: object{}}.then(func(ctx context.Context) {
		s.install(ctx, &ocpp.UpdateFirmwareRequest{Retries: req.Retries, Firmware: &ocpp.Firmware{RetrieveDateTime: req.RetrieveDate}}, u, nil)
	})
}

// install does the update and tells of each step (L01.FR.01), those of 1.6 core alone
// where it isn't signed. Without a signer it verifies nothing.
func (s *Station) install(ctx context.Context, req *ocpp.UpdateFirmwareRequest, u *url.URL, signer *x509.Certificate) {
	tell := func(status string) {
		if req.RequestID != nil {
			s.firmwareStatus(ctx, *req.RequestID, status)
		} else if status != "InstallRebooting" && status != "DownloadScheduled" {
			s.update(func() { s.state.Update = status })
			// As in firmwareStatus.
			_ = s.deliver(ctx, ocpp.ActionFirmwareStatus, ocpp.FirmwareStatusRequest{Status: status}, nil)
		}
	}
	if !s.until(ctx, req.Firmware.RetrieveDateTime, func() { tell("DownloadScheduled") }) {
		return
	}
	tell("Downloading")
	file, sum, err := s.download(ctx, u, req.Retries)
	if err != nil {
		s.cfg.Log.Info("couldn't download firmware", "station", s.cfg.Identity, "err", err)
		if ctx.Err() == nil {
			tell("DownloadFailed")
		}
		return
	}
	defer func() { _ = os.Remove(file) }()
	tell("Downloaded")
	if signer != nil && !s.deviations().Unverified {
		signature, err := base64.StdEncoding.DecodeString(req.Firmware.Signature)
		if err == nil {
			err = s.cfg.Verify.verify(signer, sum, signature)
		}
		if err != nil {
			s.queueEvent("InvalidFirmwareSignature")
			tell("InvalidSignature")
			return
		}
		tell("SignatureVerified")
	}
	if !s.until(ctx, req.Firmware.InstallDateTime, func() { tell("InstallScheduled") }) {
		return
	}
	tell("Installing")
	version, err := imageVersion(file)
	if err != nil {
		tell("InstallVerificationFailed")
		return
	}
	tell("InstallRebooting")
	if !s.deviations().OldFirmware {
		s.update(func() { s.firmware, s.state.Firmware, s.image = version, version, sum })
	}
	s.rebootFor("FirmwareUpdate")
	if err := s.Await(ctx, func(st State) bool { return st.Connected && st.Registration == accepted }); err != nil {
		return
	}
	tell("Installed") // from the new image (L01.FR.32)
	s.queueEvent(firmwareEvent)
}

// until waits for a time, having told so; false if the update is over before.
func (s *Station) until(ctx context.Context, text string, scheduled func()) bool {
	at, err := time.Parse(time.RFC3339, text)
	if err != nil || !at.After(s.now()) {
		return ctx.Err() == nil
	}
	scheduled()
	return s.pause(ctx, at.Sub(s.now()))
}

// firmwareStatus tells of one step, over as many connections as it takes.
func (s *Station) firmwareStatus(ctx context.Context, request int, status string) {
	s.update(func() { s.told, s.state.Update = firmwareWord{request, status}, status })
	action := ocpp.ActionFirmwareStatus
	if s.State().Version == ocpp.V16 {
		action = ocpp.ActionSignedFirmwareStatus
	}
	// A CSMS that answers with an error is told the next step all the same.
	_ = s.deliver(ctx, action, ocpp.FirmwareStatusRequest{Status: status, RequestID: &request}, nil)
}

// repeatFirmware answers a trigger: the last status, or Idle (L01.FR.25, .26).
func (s *Station) repeatFirmware() {
	s.mu.Lock()
	told := s.told
	s.mu.Unlock()
	action := ocpp.ActionFirmwareStatus
	if s.State().Version == ocpp.V16 {
		action = ocpp.ActionSignedFirmwareStatus
	}
	if told.status == "" || told.status == "Installed" {
		_, _ = s.Call(s.ctx, action, ocpp.FirmwareStatusRequest{Status: "Idle"}) // nothing follows from a triggered message
		return
	}
	_, _ = s.Call(s.ctx, action, ocpp.FirmwareStatusRequest{Status: told.status, RequestID: &told.request})
}

// download fetches an image into a file. What broke off goes on where it ended, if
// the server has the same file still (RFC 9110 §13.1.5).
func (s *Station) download(ctx context.Context, u *url.URL, retries *int) (name string, sum [sha256.Size]byte, err error) {
	file, err := os.CreateTemp("", "station-firmware-")
	if err != nil {
		return "", sum, err
	}
	defer func() {
		if failed := file.Close(); err == nil {
			err = failed
		}
		if err != nil {
			_ = os.Remove(file.Name())
		}
	}()
	if u.Scheme != "https" {
		return s.transfer(ctx, u, file)
	}
	attempts := 3
	if retries != nil {
		attempts = *retries + 1
	}
	d := &download{to: file, sum: sha256.New()}
	for range attempts {
		if err = s.fetch(ctx, u, d); err == nil {
			copy(sum[:], d.sum.Sum(nil))
			return file.Name(), sum, nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return "", sum, err
}

// transfer leaves it to who knows how.
func (s *Station) transfer(ctx context.Context, u *url.URL, file *os.File) (name string, sum [sha256.Size]byte, err error) {
	if err := s.cfg.Transfer(ctx, u.String(), file.Name()); err != nil {
		return "", sum, err
	}
	digest := sha256.New()
	if _, err := io.Copy(digest, io.LimitReader(file, maxImage)); err != nil {
		return "", sum, err
	}
	copy(sum[:], digest.Sum(nil))
	return file.Name(), sum, nil
}

// download is what is here of an image.
type download struct {
	to   io.Writer
	sum  hash.Hash
	here int64
	etag string
}

var errCut = errors.New("the download was cut")

func (s *Station) fetch(ctx context.Context, u *url.URL, d *download) error {
	limited, cancel := context.WithTimeout(ctx, downloadWait)
	defer cancel()
	request, err := http.NewRequestWithContext(limited, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	want := http.StatusOK
	if d.here > 0 {
		request.Header.Set("Range", fmt.Sprintf("bytes=%d-", d.here))
		request.Header.Set("If-Range", d.etag)
		want = http.StatusPartialContent
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: s.trust.pool(csmsRoot), ServerName: s.cfg.ServerName, Time: s.cfg.Clock,
	}, DisableKeepAlives: true, DisableCompression: true}
	answer, err := transport.RoundTrip(request) // follows no redirects
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != want {
		return fmt.Errorf("the server answered with status %d", answer.StatusCode)
	}
	d.etag = answer.Header.Get("ETag")
	limit := int64(maxImage)
	cut := false
	s.Deviate(func(dev *Deviations) {
		if cut = dev.CutDownloads > 0; cut {
			dev.CutDownloads--
			limit = answer.ContentLength / 2
		}
	})
	n, err := io.Copy(io.MultiWriter(d.to, d.sum), io.LimitReader(answer.Body, limit))
	d.here += n
	if err == nil && cut {
		err = errCut
	}
	return err
}

// imageVersion reads the version out of an image.
func imageVersion(name string) (string, error) {
	file, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer file.Close()
	head := make([]byte, 128)
	n, err := io.ReadFull(file, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return "", err
	}
	line, _, ok := bytes.Cut(head[:n], []byte("\n"))
	version, image := bytes.CutPrefix(line, []byte(imagePrefix))
	if !ok || !image {
		return "", errors.New("it is no image of this station's")
	}
	return string(version), nil
}
