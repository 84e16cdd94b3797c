package main

import (
	"context"
	"slices"
	"time"

	"bollard/ca"
	"bollard/ca/revocation"
	"bollard/internal/safehttp"
)

// Bounds of what is fetched because a station asked about a certificate.
const (
	statusBytes   = 4 << 20
	statusTimeout = 8 * time.Second // within the 10 s of the message
)

// newRevocation asks about certificates: the own responder, and those ocsp_hosts lists.
func (a *app) newRevocation(authority *ca.Authority) (*revocation.Checker, error) {
	var fetch revocation.Fetcher
	if len(a.cfg.OCSPHosts) > 0 {
		clients, err := newStatusClients(a.cfg.OCSPHosts)
		if err != nil {
			return nil, configFault(a.dir, "ocsp_hosts", err)
		}
		fetch = clients
	}
	return revocation.New(revocation.Config{Authority: authority, Own: a.ownStatus, Fetch: fetch, Clock: a.clock})
}

// ownStatus is what the own responder answers; a command has none.
func (a *app) ownStatus(ctx context.Context, request []byte) (response []byte, own bool, err error) {
	if a.status == nil {
		return nil, false, nil
	}
	return a.status.Respond(ctx, request)
}

// statusClients fetch from listed hosts, each for those of one port.
type statusClients []*safehttp.Client

func newStatusClients(list []string) (statusClients, error) {
	ports, err := safehttp.ByPort(list)
	if err != nil {
		return nil, err
	}
	var clients statusClients
	for port, hosts := range ports {
		cfg := safehttp.Config{Hosts: hosts, MaxBytes: statusBytes, Timeout: statusTimeout, Redirects: 1}
		if port != 0 {
			cfg.Ports = []int{port}
		}
		client, err := safehttp.New(cfg)
		if err != nil {
			return nil, err
		}
		clients = append(clients, client)
	}
	return clients, nil
}

// of is the client that may fetch a URL, or any, which refuses it.
func (c statusClients) of(url string) *safehttp.Client {
	if i := slices.IndexFunc(c, func(one *safehttp.Client) bool { return one.Check(url) == nil }); i >= 0 {
		return c[i]
	}
	return c[0]
}

// Get is safehttp's.
func (c statusClients) Get(ctx context.Context, url string) (*safehttp.Response, error) {
	return c.of(url).Get(ctx, url)
}

// Post is safehttp's.
func (c statusClients) Post(ctx context.Context, url, contentType string, body []byte) (*safehttp.Response, error) {
	return c.of(url).Post(ctx, url, contentType, body)
}
