package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"bollard/admin"
	"bollard/fleet"
	"bollard/gateway"
	"bollard/internal/config"
	"bollard/internal/ws"
	"bollard/ledger"
	"bollard/store"
)

// gatewayBackends makes the gateway's back ends of the configured ones. The
// files they name are read now, so that a missing one is found at start.
func gatewayBackends(dir string, cfg *config.File, db *store.Store, seal *sealer) ([]gateway.Backend, error) {
	list := make([]gateway.Backend, len(cfg.Backends))
	for i, b := range cfg.Backends {
		backend, err := gatewayBackend(dir, b)
		if err != nil {
			return nil, configFault(dir, fmt.Sprintf("backends[%d]", i), err)
		}
		if b.Auth == "basic-per-station" {
			backend.Password = upstreamPassword(db, seal)
			backend.Keep = keepUpstreamPassword(db, seal)
		}
		list[i] = backend
	}
	return list, nil
}

func gatewayBackend(dir string, b config.Backend) (gateway.Backend, error) {
	out := gateway.Backend{
		Name: b.Name, URL: b.URL, Security: fleet.SecurityMode(b.Security), Auth: b.Auth, CNOnly: b.CNOnly,
		Match: gateway.Match{Identity: b.Match.Identity, Vendor: b.Match.Vendor, Model: b.Match.Model, Profile: b.Match.Profile},
	}
	if b.Adopt.Until != "" {
		until, err := config.AdoptUntil(b.Adopt.Until)
		if err != nil {
			return out, &keyedError{"adopt.until", err}
		}
		out.AdoptUntil = until
	}
	if b.Auth == "basic-shared" {
		shared, err := secretFile(within(dir, b.PasswordFile))
		if err != nil {
			return out, &keyedError{"password_file", err}
		}
		out.Password = func(context.Context, string) ([]byte, error) { return shared, nil }
	}
	if b.Trust == "" && b.Certificate == "" {
		return out, nil
	}
	out.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	if b.Trust != "" {
		pool, err := readRoots(within(dir, b.Trust))
		if err != nil {
			return out, &keyedError{"trust", err}
		}
		out.TLS.RootCAs = pool
	}
	if b.Certificate != "" {
		pair, err := readKeyPair(within(dir, b.Certificate), within(dir, b.Key))
		if err != nil {
			return out, &keyedError{"certificate", err}
		}
		out.TLS.Certificates = []tls.Certificate{pair}
	}
	return out, nil
}

// keepUpstreamPassword stores an adopted password for the station's later
// sessions.
func keepUpstreamPassword(db *store.Store, seal *sealer) func(context.Context, string, []byte) error {
	return func(ctx context.Context, station string, password []byte) error {
		return storeUpstreamPassword(ctx, db, seal, station, password, ledger.Event{Kind: "backend.password", Subject: station, Actor: "backend"})
	}
}

func storeUpstreamPassword(ctx context.Context, db *store.Store, seal *sealer, station string, password []byte, e ledger.Event) error {
	name := admin.UpstreamSecret(station)
	sealed, err := seal.Seal(name, password)
	if err != nil {
		return err
	}
	return db.SetSecret(ctx, name, sealed, e)
}

// keepUpstream stores what a back end sets as a station's password, if that back
// end is one Bollard logs in to as each station.
func (a *app) keepUpstream(ctx context.Context, backend, station string, password []byte, e ledger.Event) (bool, error) {
	for i, b := range *a.backends.Load() {
		if b.Auth == "basic-per-station" && backendName(b, i) == backend {
			return true, storeUpstreamPassword(ctx, a.store, a.seal, station, password, e)
		}
	}
	return false, nil
}

func guardRules(list []config.Guard) []fleet.GuardRule {
	rules := make([]fleet.GuardRule, len(list))
	for i, g := range list {
		rules[i] = fleet.GuardRule{Vendor: g.Vendor, Model: g.Model, Keys: g.Keys, Transfers: g.Transfers, Allow: g.Allow}
	}
	return rules
}

func models(list []config.Model) []fleet.Model {
	out := make([]fleet.Model, len(list))
	for i, m := range list {
		out[i] = fleet.Model(m)
	}
	return out
}

// upstreamPassword finds what `bollard backend password` stored for a station.
func upstreamPassword(db *store.Store, seal *sealer) func(context.Context, string) ([]byte, error) {
	return func(ctx context.Context, station string) ([]byte, error) {
		name := admin.UpstreamSecret(station)
		sealed, ok, err := db.Secret(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("couldn't read the back-end password: %w", err)
		}
		if !ok {
			return nil, fmt.Errorf("no back-end password is stored for this station: `bollard backend password %s` sets it", station)
		}
		return seal.Open(name, sealed)
	}
}

func readRoots(path string) (*x509.CertPool, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("there is no PEM certificate in %s", path)
	}
	return pool, nil
}

// readKeyPair reads a PEM chain and its key, which only the owner may read.
func readKeyPair(certificate, key string) (tls.Certificate, error) {
	info, err := os.Stat(key)
	if err != nil {
		return tls.Certificate{}, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return tls.Certificate{}, fmt.Errorf("the private key %s is open to other users (mode %04o): `chmod 600 %s`", key, mode, key)
	}
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("couldn't use %s with %s: %w", certificate, key, err)
	}
	return pair, nil
}

func gatewayLimits(cfg *config.File) gateway.Limits {
	l := cfg.Limits
	return gateway.Limits{
		WS: ws.Limits{
			MaxMessage: l.MessageBytes, WriteTimeout: l.Write, PingInterval: l.Ping, Compression: cfg.Compression,
		},
		Handshake: l.Handshake, Header: l.Header, HandshakesAtOnce: l.HandshakesAtOnce, PerSource: l.PerSource,
		CallTimeout: l.CallTimeout, QueuedCalls: l.QueuedCalls, Outstanding: l.Outstanding,
		TakeoversPerMin: l.Takeovers, RetryAfter: l.RetryAfter, DrainTimeout: l.Drain,
	}
}
