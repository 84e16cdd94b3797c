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

// KeyClasses are those of a profile, with Config.Curves20 in ISO 15118-20.
func (a *Authority) KeyClasses(profile string) []KeyClass {
	if p := profiles[profile]; slices.Equal(p.Keys, keys20) {
		return a.Keys20()
	}
	return KeyClasses(profile)
}

// Keys20 are the kinds of keys that count in ISO 15118-20, the preferred first.
func (a *Authority) Keys20() []KeyClass { return slices.Concat(keys20, a.cfg.Curves20) }
