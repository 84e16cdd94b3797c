package main

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"strings"
	"time"

	"bollard/firmware/depot"
	"bollard/keys"
	"bollard/locker"
)

// hostKey is a key that stations know listen.sftp by, and its file.
type hostKey struct {
	file      string
	algorithm keys.Algorithm
}

// hostKeys are one of each kind that stations' SSH may be limited to.
func hostKeys() []hostKey {
	return []hostKey{{"sftp-host.key", keys.P256}, {"sftp-host-ed25519.key", keys.Ed25519}, {"sftp-host-rsa.key", keys.RSA3072}}
}

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
	var own []crypto.Signer
	for _, k := range hostKeys() {
		uri, err := keys.Join(base, k.file)
		if err != nil {
			return err
		}
		key, err := s.keeper.Open(ctx, uri, keys.RoleSSH)
		if errors.Is(err, keys.ErrNotFound) {
			key, err = s.keeper.Create(ctx, uri, keys.RoleSSH, k.algorithm)
		}
		if err != nil {
			return fmt.Errorf("couldn't open a host key of SFTP: %w", err)
		}
		own = append(own, key)
	}
	var err error
	l := &lockers{s: s, base: strings.TrimPrefix(s.cfg.SFTPURL(), "sftp://")}
	if l.server, err = locker.New(locker.Config{Keys: own, Login: l.login, PerSource: s.cfg.Limits.PerSource, All: maxFileConnections, Log: s.log}); err != nil {
		return err
	}
	s.lockers = l
	for _, line := range l.server.HostKeys() {
		s.log.Info("SFTP is served; stations that check host keys need this one, or another", "host_key", line)
	}
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
