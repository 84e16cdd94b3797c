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
	switch p := profiles[profile]; {
	case slices.Equal(p.Keys, keys20):
		return slices.DeleteFunc(a.Keys20(), func(c KeyClass) bool { return c == ClassEd448 })
	case slices.Equal(p.Keys, keys448) && !slices.Contains(a.Keys20(), ClassEd448):
		return nil
	}
	return KeyClasses(profile)
}

// countsHere refuses a hierarchy on a curve that the configuration doesn't name.
func (a *Authority) countsHere(h hierarchy) error {
	if h.class == ClassEd448 && !slices.Contains(a.Keys20(), ClassEd448) {
		return fmt.Errorf("%w: keys of %s are on Ed448, which doesn't count here; contracts.curves_20: [Ed448] in bollard.yaml lets it ([V2G20-2320])", ErrNoHierarchy, h.kind)
	}
	return nil
}

// Keys20 are the kinds of keys that count in ISO 15118-20, the preferred first.
func (a *Authority) Keys20() []KeyClass { return slices.Concat(keys20, a.cfg.Curves20) }
