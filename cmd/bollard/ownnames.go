package main

import (
	"net/url"
	"slices"
	"strings"

	"bollard/internal/config"
)

// ownNames are what Bollard is dialled by: host, and the hosts of the public URLs. Whoever
// had a certificate for one could pose as it, so that no door issues any.
func ownNames(cfg *config.File) []string {
	names := []string{strings.ToLower(cfg.Host)}
	p := cfg.Public
	for _, text := range []string{p.OCPP, p.Rollover, p.Firmware, p.SFTP, p.Status} {
		u, err := url.Parse(text)
		if err != nil || u.Hostname() == "" {
			continue // not served
		}
		// A name with the root's dot is the same one (RFC 3986 §3.2.2).
		if name := strings.TrimSuffix(strings.ToLower(u.Hostname()), "."); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
