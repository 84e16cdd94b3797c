package station

import (
	"context"
	"crypto/md5" //nolint:gosec // the only checksum PublishFirmware has (L03)
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"bollard/ocpp"
)

// shelf is what a local controller offers to the stations of its site, over plain HTTP.
type shelf struct {
	dir, base string
	names     map[string]string // of files, by their MD5
}

// publishWord is the newest status, for a trigger.
type publishWord struct {
	request int
	status  string
	places  []string
}

// publishFirmware downloads an image, compares its checksum and offers it to others
// (L03).
func (l *link) publishFirmware(payload []byte) reply {
	s := l.s
	var req ocpp.PublishFirmwareRequest
	switch r, ok := decode(payload, &req); {
	case s.cfg.Controller == nil:
		return failure(ocpp.NotImplemented, "")
	case !ok:
		return r
	case req.RequestID == nil:
		return failure(ocpp.FormatViolation, "")
	}
	u, err := url.Parse(req.Location)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return l.refuse("UnsupportedParam")
	}
	return status(accepted).then(func(ctx context.Context) { s.offer(ctx, &req, u) })
}

func (s *Station) offer(ctx context.Context, req *ocpp.PublishFirmwareRequest, u *url.URL) {
	tell := func(status string, places ...string) {
		s.update(func() { s.offered, s.state.Publishing = publishWord{*req.RequestID, status, places}, status })
		// A CSMS that answers with an error is told the next step all the same.
		_ = s.deliver(ctx, ocpp.ActionPublishStatus, ocpp.PublishFirmwareStatusRequest{Status: status, RequestID: req.RequestID, Location: places}, nil)
	}
	tell("Downloading")
	file, _, err := s.download(ctx, u, req.Retries)
	if err != nil {
		tell("DownloadFailed")
		return
	}
	defer func() { _ = os.Remove(file) }()
	tell("Downloaded")
	sum, err := md5Of(file)
	if err != nil || !strings.EqualFold(sum, req.Checksum) {
		tell("InvalidChecksum")
		return
	}
	tell("ChecksumVerified")
	at, err := s.shelve(file, sum, fmt.Sprintf("%d.bin", *req.RequestID))
	if err != nil {
		s.cfg.Log.Info("couldn't offer firmware", "station", s.cfg.Identity, "err", err)
		tell("PublishFailed")
		return
	}
	tell("Published", at)
}

// repeatPublish answers a trigger: the last status, or Idle when it was the end
// (L03.FR.10, .11).
func (s *Station) repeatPublish(ctx context.Context) {
	s.mu.Lock()
	told := s.offered
	s.mu.Unlock()
	word := ocpp.PublishFirmwareStatusRequest{Status: "Idle"}
	if told.status != "" && told.status != "Published" {
		word = ocpp.PublishFirmwareStatusRequest{Status: told.status, RequestID: &told.request, Location: told.places}
	}
	_, _ = s.Call(ctx, ocpp.ActionPublishStatus, word) // nothing follows from a triggered message
}

// unpublishFirmware takes an image off (L04).
func (l *link) unpublishFirmware(payload []byte) reply {
	s := l.s
	var req ocpp.UnpublishFirmwareRequest
	switch r, ok := decode(payload, &req); {
	case s.cfg.Controller == nil:
		return failure(ocpp.NotImplemented, "")
	case !ok:
		return r
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := strings.ToLower(req.Checksum)
	if s.shelf == nil || s.shelf.names[sum] == "" {
		return status("NoFirmware")
	}
	_ = os.Remove(filepath.Join(s.shelf.dir, s.shelf.names[sum])) // what stays goes with the directory
	delete(s.shelf.names, sum)
	return status("Unpublished")
}

// shelve keeps an image where others find it, and says where that is.
func (s *Station) shelve(file, sum, name string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return "", s.ctx.Err()
	}
	if s.shelf == nil {
		if err := s.openShelf(); err != nil {
			return "", err
		}
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	if s.dev.OtherImage && len(content) > 0 {
		content[len(content)-1] ^= 1
	}
	s.shelf.names[sum] = name
	return s.shelf.base + name, os.WriteFile(filepath.Join(s.shelf.dir, name), content, 0o600)
}

// openShelf begins to serve, until the station is closed. The caller holds mu.
func (s *Station) openShelf() error {
	dir, err := os.MkdirTemp("", "station-shelf-")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: http.FileServerFS(os.DirFS(dir)), ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(s.ctx, func() { _ = server.Close() })
	s.wg.Go(func() {
		_ = server.Serve(s.cfg.Controller) // until Close
		_ = os.RemoveAll(dir)
	})
	s.shelf = &shelf{dir: dir, base: fmt.Sprintf("http://%s/", s.cfg.Controller.Addr()), names: map[string]string{}}
	return nil
}

func md5Of(name string) (string, error) {
	file, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer file.Close()
	sum := md5.New() //nolint:gosec // see the import
	if _, err := io.Copy(sum, io.LimitReader(file, maxImage)); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
