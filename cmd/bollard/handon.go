package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"time"

	"bollard/fleet"
	"bollard/internal/safehttp"
)

const (
	// handOnTime bounds one connection that brings a log to where a back end wants it.
	handOnTime = 15 * time.Minute
	// handOnAnswer bounds what is read of the answer.
	handOnAnswer = 64 << 10
)

// handOn brings what back ends asked for to where they wanted it: over HTTPS, to hosts
// that the rules in force let stations be sent to.
func (s *server) handOn() (*fleet.HandOn, error) {
	cfg, err := s.reach()
	if err != nil {
		return nil, err
	}
	cfg.Schemes, cfg.MaxBytes, cfg.Timeout = []string{"https"}, handOnAnswer, handOnTime
	return &fleet.HandOn{
		Seal: s.seal.Seal, Open: s.seal.Open,
		Check: func(location string) error {
			_, err := s.stationClient(cfg, location)
			return whyNot(err)
		},
		Send: func(ctx context.Context, location string, l fleet.StationLog) error {
			client, err := s.stationClient(cfg, location)
			if err != nil {
				return fmt.Errorf("%w: %w", fleet.ErrNotTaken, whyNot(err))
			}
			return s.bring(ctx, client, location, l)
		},
	}, nil
}

// bring sends one file, by PUT, or by POST where that isn't known (N01.FR.18).
func (s *server) bring(ctx context.Context, client *safehttp.Client, location string, l fleet.StationLog) error {
	f, err := s.uploads.Open(l.File)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: its file is gone", fleet.ErrNotTaken)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if strings.HasSuffix(location, "/") { // a folder (N01.FR.21)
		location += l.File + ".log"
	}
	header := http.Header{"Content-Type": {"application/octet-stream"}}
	for _, method := range []string{http.MethodPut, http.MethodPost} {
		answer, err := client.Send(ctx, method, location, header, io.NewSectionReader(f, 0, l.Size), l.Size)
		switch {
		case err != nil && forGood(err):
			return fmt.Errorf("%w: %w", fleet.ErrNotTaken, whyNot(err))
		case err != nil:
			return whyNot(err)
		case answer.Status < 300:
			return nil
		case method == http.MethodPut && (answer.Status == http.StatusMethodNotAllowed || answer.Status == http.StatusNotImplemented):
			continue
		case answer.Status >= 500 || slices.Contains([]int{http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests}, answer.Status):
			return fmt.Errorf("the answer to %s is %d", method, answer.Status)
		}
		return fmt.Errorf("%w: the answer to %s is %d", fleet.ErrNotTaken, method, answer.Status)
	}
	return nil
}

// whyNot is the rule that was broken: the text of the whole is about fetching.
func whyNot(err error) error {
	if fault, ok := errors.AsType[*safehttp.Error](err); ok {
		return fmt.Errorf("%s (rule %s)", fault.Reason, fault.Rule)
	}
	return err
}

// forGood says whether another try would break the same rule.
func forGood(err error) bool {
	fault, ok := errors.AsType[*safehttp.Error](err)
	return ok && slices.Contains([]safehttp.Rule{safehttp.RuleForm, safehttp.RuleAddress, safehttp.RuleRedirect}, fault.Rule)
}
