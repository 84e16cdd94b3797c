package main

import (
	"time"

	"bollard/ca/status"
	"bollard/fleet"
	"bollard/internal/safehttp"
)

// Bounds of what is fetched because a station asked about a certificate.
const (
	statusBytes   = 4 << 20
	statusTimeout = 8 * time.Second // within the 10 s of the message
)

// attachStatus lets the fleet answer questions about certificates: from the own
// responder and from those ocsp_hosts lists.
func (a *app) attachStatus(own *status.Server) error {
	var fetch fleet.Fetcher
	if len(a.cfg.OCSPHosts) > 0 {
		client, err := safehttp.New(safehttp.Config{Hosts: a.cfg.OCSPHosts, MaxBytes: statusBytes, Timeout: statusTimeout, Redirects: 1})
		if err != nil {
			return configFault(a.dir, "ocsp_hosts", err)
		}
		fetch = client
	}
	a.fleet.AttachStatus(own.Respond, fetch)
	return nil
}
