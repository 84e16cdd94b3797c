package main

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"bollard/firmware/depot"
	"bollard/firmware/gate"
	"bollard/fleet"
	"bollard/internal/crowd"
	"bollard/internal/ticket"
	"bollard/uploads"
)

// uploadsName is the folder of uploads in the data directory.
const uploadsName = "uploads"

// logPurpose is what tickets for security logs are for.
const logPurpose = "security-log"

// maxFileConnections bounds the open connections of listen.firmware.
const maxFileConnections = 1024

// tickets reads the key of tickets from the seal key: whoever has the database
// alone can't make one.
func (s *sealer) tickets() (*ticket.Keeper, error) {
	key, err := hkdf.Key(sha256.New, s.key, nil, "bollard tickets v1", ticket.KeySize)
	if err != nil {
		return nil, fmt.Errorf("couldn't derive the key of tickets: %w", err)
	}
	return ticket.New(key)
}

// openUploads lets stations upload what they are asked for.
func (s *server) openUploads() error {
	if s.doors.files == nil {
		return nil
	}
	keeper, err := s.seal.tickets()
	if err != nil {
		return err
	}
	s.uploads, err = uploads.New(uploads.Config{
		Dir: filepath.Join(s.dir, uploadsName), Base: s.cfg.FirmwareURL(), Purpose: logPurpose, Tickets: keeper,
		MaxBytes: int64(s.cfg.SecurityLog.MaxBytes), MaxTotal: int64(s.cfg.SecurityLog.TotalBytes),
		Arrived: func(ctx context.Context, t ticket.Ticket, f uploads.File) error {
			return s.fleet.LogArrived(ctx, t.Station, t.Request, f.Name, f.Size, f.SHA256)
		},
		Clock: time.Now, Log: s.log,
	})
	if err != nil {
		return err
	}
	every := s.cfg.SecurityLog.Every
	if s.cfg.SecurityLog.Off {
		every = 0
	}
	logs := fleet.Logs{Every: every, Keep: s.cfg.SecurityLog.Keep, URL: s.uploadURL, BackEnds: s.cfg.SecurityLog.BackEnds, Sweep: s.uploads.Sweep}
	if s.cfg.SecurityLog.HandOn {
		if logs.HandOn, err = s.handOn(); err != nil {
			return err
		}
	}
	s.fleet.AttachLogs(logs)
	return nil
}

// uploadURL is where a station may upload: by SFTP if its model knows nothing else.
func (s *server) uploadURL(station string, request int64, expires time.Time) (string, error) {
	if s.lockers != nil {
		st, err := s.store.Station(context.Background(), station)
		if err != nil {
			return "", err
		}
		if s.updateRule(gate.Station{Vendor: st.Vendor, Model: st.Model}).Place == gate.SFTP {
			return s.lockers.uploadURL(station, request, expires)
		}
	}
	return s.uploads.URL(station, request, expires)
}

// file finds the handler of a path as it came: http.ServeMux would redirect one
// that isn't clean, and stations take what is behind a redirect, or its body.
func (s *server) file(w http.ResponseWriter, r *http.Request) {
	switch {
	case strings.HasPrefix(r.URL.Path, depot.Path):
		s.downloads.ServeHTTP(w, r)
	case strings.HasPrefix(r.URL.Path, uploads.Path):
		s.uploads.ServeHTTP(w, r)
	default:
		http.Error(w, "no such file", http.StatusNotFound)
	}
}

// serveFiles serves listen.firmware until ctx ends.
func (s *server) serveFiles(ctx context.Context) error {
	server := &http.Server{
		Handler:           http.HandlerFunc(s.file),
		ReadHeaderTimeout: 10 * time.Second,
		// Bodies have a pace of their own: uploads and the depot set the deadlines.
		WriteTimeout:   time.Hour,
		IdleTimeout:    30 * time.Second,
		MaxHeaderBytes: 16 << 10,
		ConnContext:    depot.Gathers,
		ErrorLog:       slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), // what peers do wrong
		TLSConfig:      &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: s.certificates.get, NextProtos: []string{"http/1.1"}},
		TLSNextProto:   map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	// What was served is told until the last download has ended.
	telling, enough := context.WithCancel(context.WithoutCancel(ctx))
	told := make(chan struct{})
	go func() { s.downloads.Run(telling); close(told) }()
	defer func() { enough(); <-told }()
	ended := make(chan error, 1)
	go func() {
		ended <- server.ServeTLS(depot.Gather(crowd.Limit(s.doors.files, s.cfg.Limits.PerSource, maxFileConnections)), "", "")
	}()
	select {
	case err := <-ended:
		return fmt.Errorf("couldn't serve files on %s: %w", s.doors.files.Addr(), err)
	case <-ctx.Done():
	}
	patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Limits.Drain)
	defer cancel()
	if err := server.Shutdown(patience); err != nil {
		_ = server.Close() // the drain time is over: cut what still runs
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("couldn't serve files on %s: %w", s.doors.files.Addr(), err)
	}
	return s.uploads.Close()
}
