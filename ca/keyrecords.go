package ca

import (
	"context"
	"fmt"
	"slices"
)

// RecordsOfKey returns what is recorded of certificates for a key, in any
// state, own and external, newest first.
func (a *Authority) RecordsOfKey(ctx context.Context, key ProvenKey) ([]Record, error) {
	records, err := a.cfg.Store.CertificatesByKey(ctx, key.Hash())
	if err != nil {
		return nil, fmt.Errorf("couldn't look up the certificates of a key: %w", err)
	}
	return records, nil
}

// KeyClasses returns the kinds of keys a profile takes, the preferred first;
// none for a profile there isn't.
func KeyClasses(profile string) []KeyClass { return slices.Clone(profiles[profile].Keys) }
