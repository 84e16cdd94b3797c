package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"

	"bollard/admin"
	"bollard/internal/config"
)

// doors are the bound listeners of a server. They are bound before anything
// else is opened, so that an address in use is found first.
type doors struct {
	ocpp   []net.Listener
	pki    net.Listener // nil: not configured, as the following
	status net.Listener
	admin  net.Listener
	files  net.Listener // listen.firmware
	sftp   net.Listener // listen.sftp
	acme   net.Listener // listen.acme
	socket net.Listener
}

func openDoors(ctx context.Context, dir string, cfg *config.File) (*doors, error) {
	d := &doors{}
	err := d.open(ctx, dir, cfg)
	if err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

func (d *doors) open(ctx context.Context, dir string, cfg *config.File) error {
	if err := checkPrivate(dir); err != nil {
		return err // before the socket, which relies on it
	}
	for i, l := range cfg.Listen.OCPP {
		// Deadlines and pings find a dead peer; TCP's own probes would cost four
		// system calls a station.
		bound, err := bind(ctx, net.ListenConfig{KeepAlive: -1}, fmt.Sprintf("listen.ocpp[%d].address", i), l.Address)
		if err != nil {
			return err
		}
		d.ocpp = append(d.ocpp, bound)
	}
	for _, one := range []struct {
		key, address string
		into         *net.Listener
	}{{"listen.pki", cfg.Listen.PKI, &d.pki}, {"listen.status", cfg.Listen.Status, &d.status}, {"listen.admin", cfg.Listen.Admin, &d.admin}, {"listen.firmware", cfg.Listen.Firmware, &d.files}, {"listen.sftp", cfg.Listen.SFTP, &d.sftp}, {"listen.acme", cfg.Listen.ACME, &d.acme}} {
		if one.address == "" {
			continue
		}
		bound, err := bind(ctx, net.ListenConfig{}, one.key, one.address)
		if err != nil {
			return err
		}
		*one.into = bound
	}
	socket, err := admin.ListenSocket(dir)
	d.socket = socket
	return err
}

func bind(ctx context.Context, lc net.ListenConfig, key, address string) (net.Listener, error) {
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, admin.Failedf("another program may use the address: `bollard doctor` looks, "+key+" in "+configName+" changes it",
			"couldn't listen for %s: %w", key, err)
	}
	return l, nil
}

// Close closes what is still open; servers that ran have closed theirs.
func (d *doors) Close() {
	for _, l := range append(d.ocpp, d.pki, d.status, d.admin, d.files, d.sftp, d.acme, d.socket) {
		if l == nil {
			continue
		}
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			continue // nothing more can be done with a listener that won't close
		}
	}
}

func (d *doors) addresses() addresses {
	var a addresses
	for _, l := range d.ocpp {
		a.OCPP = append(a.OCPP, l.Addr().String())
	}
	if d.pki != nil {
		a.PKI = d.pki.Addr().String()
	}
	if d.status != nil {
		a.Status = d.status.Addr().String()
	}
	if d.admin != nil {
		a.Admin = d.admin.Addr().String()
	}
	if d.files != nil {
		a.Firmware = d.files.Addr().String()
	}
	if d.sftp != nil {
		a.SFTP = d.sftp.Addr().String()
	}
	if d.acme != nil {
		a.ACME = d.acme.Addr().String()
	}
	return a
}

// derivePublic completes the URLs told to stations where a listener was
// configured with port 0, which only the bound one knows.
func (d *doors) derivePublic(cfg *config.File) {
	if d.status != nil {
		if bound, ok := d.status.Addr().(*net.TCPAddr); ok && cfg.Public.Status == "http://"+net.JoinHostPort(cfg.Host, "0") {
			cfg.Public.Status = "http://" + net.JoinHostPort(cfg.Host, strconv.Itoa(bound.Port))
		}
	}
	if d.files != nil {
		if bound, ok := d.files.Addr().(*net.TCPAddr); ok && cfg.Public.Firmware == "https://"+net.JoinHostPort(cfg.Host, "0") {
			cfg.Public.Firmware = "https://" + net.JoinHostPort(cfg.Host, strconv.Itoa(bound.Port))
		}
	}
	if d.sftp != nil {
		if bound, ok := d.sftp.Addr().(*net.TCPAddr); ok && cfg.Public.SFTP == "sftp://"+net.JoinHostPort(cfg.Host, "0") {
			cfg.Public.SFTP = "sftp://" + net.JoinHostPort(cfg.Host, strconv.Itoa(bound.Port))
		}
	}
	for i, l := range cfg.Listen.OCPP {
		if _, port, err := net.SplitHostPort(l.Address); err != nil || port != "0" || slices.Contains(l.Profiles, 1) {
			continue
		}
		bound, ok := d.ocpp[i].Addr().(*net.TCPAddr)
		if l.Rollover {
			if ok && cfg.Public.Rollover == "wss://"+net.JoinHostPort(cfg.Host, "0")+"/ocpp" {
				cfg.Public.Rollover = "wss://" + net.JoinHostPort(cfg.Host, strconv.Itoa(bound.Port)) + "/ocpp"
			}
			continue
		}
		if ok && cfg.Public.OCPP == "wss://"+net.JoinHostPort(cfg.Host, "0")+"/ocpp" {
			cfg.Public.OCPP = "wss://" + net.JoinHostPort(cfg.Host, strconv.Itoa(bound.Port)) + "/ocpp"
		}
	}
}
