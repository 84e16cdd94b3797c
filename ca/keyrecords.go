package ca

import (
	"context"
	"fmt"
	"slices"
)

// IssuedTo returns the records of a station's certificates that are issued and
// not revoked, own and external, newest first.
func (a *Authority) IssuedTo(ctx context.Context, station string) ([]Record, error) {
	records, err := a.cfg.Store.Certificates(ctx, Filter{Station: station, State: StateIssued})
	if err != nil {
		return nil, fmt.Errorf("couldn't look up the certificates of %q: %w", station, err)
	}
	return records, nil
}

// KeyClasses returns the kinds of keys a profile takes, the preferred first;
// none for a profile there isn't.
func KeyClasses(profile string) []KeyClass { return slices.Clone(profiles[profile].Keys) }
