package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"bollard/firmware/depot"
	"bollard/keys"
	"bollard/locker"
)

// hostKey is the file of the key that stations know listen.sftp by.
const hostKey = "sftp-host.key"

// Users of SFTP. Who one is says the password.
const (
	fetcher = "firmware"
	bringer = "upload"
)

// maxSFTPLocation is the longest location that every version of OCPP takes.
const maxSFTPLocation = 512

// lockers give files to stations over SFTP, and take them.
type lockers struct {
	s      *server
	server *locker.Server
	base   string // sftp://HOST:PORT without the scheme
}

// openLockers serves SFTP where a listener is given.
func (s *server) openLockers(ctx context.Context) error {
	if s.doors.sftp == nil {
		return nil
	}
	base := s.cfg.Keys.URI
	if keys.Held(base) { // strangers' handshakes use the key
		base = keys.SchemeSoft + ":"
	}
	uri, err := keys.Join(base, hostKey)
	if err != nil {
		return err
	}
	key, err := s.keeper.Open(ctx, uri, keys.RoleSSH)
	if errors.Is(err, keys.ErrNotFound) {
		key, err = s.keeper.Create(ctx, uri, keys.RoleSSH, keys.P256)
	}
	if err != nil {
		return fmt.Errorf("couldn't open the host key of SFTP: %w", err)
	}
	l := &lockers{s: s, base: strings.TrimPrefix(s.cfg.SFTPURL(), "sftp://")}
	if l.server, err = locker.New(locker.Config{Key: key, Login: l.login, PerSource: s.cfg.Limits.PerSource, All: maxFileConnections, Log: s.log}); err != nil {
		return err
	}
	s.lockers = l
	s.log.Info("SFTP is served; stations that check host keys need this one", "host_key", strings.TrimSpace(l.server.HostKey()))
	return nil
}

// login opens the image of an update, or the place of an upload.
func (l *lockers) login(ctx context.Context, user, password string) (locker.Box, error) {
	if user == bringer {
		return locker.Box{Bring: func(ctx context.Context) (locker.Parcel, error) { return l.s.uploads.Bring(ctx, password) }}, l.s.uploads.Holds(password)
	}
	g, err := l.s.downloads.Holder(password)
	if err != nil || user != fetcher {
		return locker.Box{}, errors.Join(err, errors.New("no such user"))
	}
	sum, file, ok := l.s.updates.Image(ctx, g.Station, g.Job)
	if !ok {
		return locker.Box{}, errors.New("the update is over")
	}
	g.SHA256 = sum
	size, err := l.s.depot.Has(sum)
	if err != nil {
		return locker.Box{}, err
	}
	return locker.Box{Name: file, Size: size, Fetch: func(ctx context.Context) (locker.File, error) { return l.s.downloads.Take(ctx, g) }}, nil
}

// URL is where a station fetches its image (gate.Locker).
func (l *lockers) URL(g depot.Grant, name string) (string, error) {
	pass, err := l.s.downloads.Pass(g)
	if err != nil {
		return "", err
	}
	return l.url(fetcher, pass, name)
}

// uploadURL is where a station brings what it was asked for.
func (l *lockers) uploadURL(station string, request int64, expires time.Time) (string, error) {
	pass, err := l.s.uploads.Pass(station, request, expires)
	if err != nil {
		return "", err
	}
	return l.url(bringer, pass, "")
}

func (l *lockers) url(user, pass, name string) (string, error) {
	at := "sftp://" + user + ":" + pass + "@" + l.base + "/" + name
	if len(at) > maxSFTPLocation {
		return "", fmt.Errorf("a location over SFTP would have %d characters, and OCPP takes %d: shorten the host name or the identity", len(at), maxSFTPLocation)
	}
	return at, nil
}
