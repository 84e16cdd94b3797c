package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"bollard/ca"
	"bollard/ocpp"
)

// Change is one kind of difference a rollout brings about.
type Change string

// The changes.
const (
	ChangeProfile     Change = "profile"
	ChangePassword    Change = "password"
	ChangeCertificate Change = "certificate"
	ChangeRoots       Change = "roots"
	ChangeBackend     Change = "backend"
	ChangeTime        Change = "time"
	// ChangeChain is nothing a group wants: it moves stations once to the listener
	// of the next CSMS root, while that is changed, and only where it is asked for.
	ChangeChain Change = "chain"
)

// Changes lists them.
func Changes() []Change {
	return []Change{ChangeProfile, ChangePassword, ChangeCertificate, ChangeRoots, ChangeBackend, ChangeTime, ChangeChain}
}

// Drift is one difference between what is wanted of a station and what was
// seen of it.
type Drift struct {
	Change Change `json:"change"`
	Wanted string `json:"wanted"`
	Seen   string `json:"seen"`
	// Unable is why Bollard can't bring it about; "" if it can.
	Unable string `json:"unable,omitempty"`
}

// aim is what one station is to be brought to.
type aim struct {
	wants Wants
	only  []Change  // nothing else; empty: all
	since time.Time // certificates from before are renewed; zero: not for their age
}

func (a *aim) has(c Change) bool { return len(a.only) == 0 || slices.Contains(a.only, c) }

// drift compares a station with an aim.
func (s *Service) drift(ctx context.Context, st *Station, plan *Plan, a *aim) ([]Drift, error) {
	var list []Drift
	add := func(c Change, wanted, seen, unable string) {
		list = append(list, Drift{c, wanted, seen, unable})
	}
	w := &a.wants
	unseen := ""
	if st.SeenProfile == 0 {
		unseen = "it was never connected"
	}
	if a.has(ChangeProfile) && w.Profile > st.SeenProfile {
		add(ChangeProfile, strconv.Itoa(w.Profile), strconv.Itoa(st.SeenProfile), unseen)
	}
	// On its way to certificates alone a station needs no other password.
	if a.has(ChangePassword) && w.PasswordAge > 0 && st.Password != nil && st.FloorProfile < 3 && w.Profile < 3 {
		if age := s.clock().Sub(st.Password.SetAt); age >= w.PasswordAge {
			add(ChangePassword, "younger than "+days(w.PasswordAge), days(age)+" old", unseen)
		}
	}
	if a.has(ChangeCertificate) {
		d, err := s.certificateDrift(ctx, st, a)
		if err != nil {
			return nil, err
		}
		if d != nil {
			d.Unable = cmp.Or(unseen, s.issuedElsewhere(st), d.Unable)
			list = append(list, *d)
		}
	}
	if a.has(ChangeRoots) {
		for _, root := range w.Roots {
			targets, err := s.wantedTargets([]WantedRoot{root})
			if err != nil {
				return nil, err
			}
			if !slices.ContainsFunc(targets, func(t target) bool { return !t.installed(plan) }) {
				continue
			}
			unable := unseen
			if v, ok := ocpp.ParseSubprotocol("ocpp" + st.Version); ok && wireUse(v, root.onStation()) == "" {
				unable = fmt.Sprintf("OCPP %s has no %s roots", st.Version, root.onStation())
			}
			seen := "not reported"
			if !plan.SeenAt.IsZero() {
				seen = "not installed"
			}
			add(ChangeRoots, root.Use, seen, unable)
		}
	}
	if a.has(ChangeBackend) && w.Backend != "" && (st.Backend != w.Backend || st.SeenBackend != w.Backend) {
		add(ChangeBackend, w.Backend, st.SeenBackend, unseen)
	}
	if slices.Contains(a.only, ChangeChain) {
		d, err := s.chainDrift(ctx, st, plan)
		if err != nil {
			return nil, err
		}
		if d != nil {
			list = append(list, *d)
		}
	}
	if a.has(ChangeTime) && w.TimeSource != "" && plan.TimeSource != w.TimeSource {
		unable := unseen
		if st.Version == ocpp.V16.String() {
			unable = "OCPP 1.6 has no setting for it"
		}
		add(ChangeTime, w.TimeSource, plan.TimeSource, unable)
	}
	return list, nil
}

// issuedElsewhere says that a connected station asks its back end for certificates, "" if
// it doesn't.
func (s *Service) issuedElsewhere(st *Station) string {
	s.mu.Lock()
	sessions := s.sessions
	s.mu.Unlock()
	if sessions == nil {
		return ""
	}
	if sess, ok := sessions.Session(keyOf(st)); ok && sess.Security() != SecurityBollard {
		return "its back end issues its certificates"
	}
	return ""
}

// certificateDrift looks at the newest certificate a station took or was seen
// with; a station without one gets it with profile 3, or its first renewal.
func (s *Service) certificateDrift(ctx context.Context, st *Station, a *aim) (*Drift, error) {
	w := &a.wants
	if w.CertificateLife == 0 && w.CertificateType == "" && w.Attested != AttestedYes && a.since.IsZero() {
		return nil, nil
	}
	issued, combined, err := s.newestCertificate(ctx, st)
	if err != nil || issued == nil {
		return nil, err
	}
	life := issued.NotAfter.Sub(issued.IssuedAt)
	switch {
	case w.Attested == AttestedYes && issued.Attested == "":
		d := &Drift{Change: ChangeCertificate, Wanted: "a key attested by its TPM", Seen: "a key that isn't attested"}
		if st.EK == "" {
			d.Unable = "no TPM of it is known (bollard station tpm)"
		}
		return d, nil
	case w.CertificateLife > 0 && life > w.CertificateLife:
		return &Drift{Change: ChangeCertificate, Wanted: "valid for " + days(w.CertificateLife), Seen: "valid for " + days(life)}, nil
	case w.CertificateType != "" && st.Version != ocpp.V16.String() && combined != (w.CertificateType == CertificateCombined):
		return &Drift{Change: ChangeCertificate, Wanted: "type " + w.CertificateType, Seen: "another type"}, nil
	case issued.IssuedAt.Before(a.since):
		return &Drift{Change: ChangeCertificate, Wanted: "made after " + a.since.UTC().Format(time.RFC3339), Seen: "made " + issued.IssuedAt.UTC().Format(time.RFC3339)}, nil
	}
	return nil, nil
}

// newestCertificate is the last certificate of ours the station took, nil if
// there is none. combined: it asked for one for both uses.
func (s *Service) newestCertificate(ctx context.Context, st *Station) (issued *ca.Issued, combined bool, err error) {
	orders, err := s.store.Orders(ctx, keyOf(st), ordersKept)
	if err != nil {
		return nil, false, fmt.Errorf("couldn't read the orders of %q: %w", st.Identity, err)
	}
	serial := st.LeafSerial
	if i := slices.IndexFunc(orders, func(o Order) bool { return o.State == OrderDelivered || o.State == OrderConfirmed }); i >= 0 {
		serial, combined = orders[i].Serial, orders[i].Type == ""
	}
	if serial == "" {
		return nil, false, nil
	}
	issued, err = s.cfg.Authority.Lookup(ctx, serial)
	if errors.Is(err, ca.ErrUnknownSerial) || err == nil && issued.Station != keyOf(st) { // of an outside one, not on record
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("couldn't look up the certificate of %q: %w", st.Identity, err)
	}
	return issued, combined, nil
}

func days(d time.Duration) string {
	return strings.TrimSuffix(strconv.FormatFloat(d.Hours()/24, 'f', 1, 64), ".0") + " days"
}
