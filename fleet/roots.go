package fleet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"bollard/ca"
	"bollard/ca/hashdata"
	"bollard/internal/curve448"
	"bollard/ledger"
	"bollard/ocpp"
)

// Uses of the roots a station trusts, as operators name them.
const (
	RootCSMS         = "csms"
	RootManufacturer = "manufacturer"
	RootV2G          = "v2g"
	RootMO           = "mo"
	RootOEM          = "oem"
)

// RootUses lists them.
func RootUses() []string { return []string{RootCSMS, RootManufacturer, RootV2G, RootMO, RootOEM} }

// WantedRoot is one root the operator wants on a station, or off it.
type WantedRoot struct {
	Use string `json:"use"`
	// DER of a self-signed root; empty with Own, which is Bollard's roots of the
	// same kind whatever they are at the time, and with Drop. Of ISO 15118-20 Use is
	// then its hierarchy, such as v2g-20.
	DER  []byte `json:"der,omitempty"`
	Own  bool   `json:"own,omitempty"`
	Drop string `json:"drop,omitempty"` // SeenRoot.ID of a root that is to go
}

// onStation is the use that stations know it by: none of its own has ISO 15118-20.
func (w WantedRoot) onStation() string {
	if !w.Own {
		return w.Use
	}
	use, _, _ := strings.Cut(w.Use, "-")
	return use
}

// checkUse refuses a use that no root is wanted for.
func (s *Service) checkUse(w WantedRoot) error {
	if !slices.Contains(RootUses(), w.onStation()) {
		return badInput("no use %q of a root: there are %s", capped(w.Use), strings.Join(RootUses(), ", "))
	}
	if w.Own && len(s.cfg.Authority.PathRoots(ca.Kind(w.Use))) == 0 {
		return fmt.Errorf("there is no own hierarchy of kind %q: give a file", capped(w.Use))
	}
	return nil
}

// SeenRoot is a root as the station reported it.
type SeenRoot struct {
	ocpp.CertificateHashData
}

// ID names a root in commands: the same for every algorithm's spelling of case
// and zeros.
func (r SeenRoot) ID() string {
	p := hashdata.Plain(r.CertificateHashData)
	sum := sha256.Sum256([]byte(p.HashAlgorithm + "\x00" + p.IssuerNameHash + "\x00" + p.IssuerKeyHash + "\x00" + p.SerialNumber))
	return hex.EncodeToString(sum[:8])
}

// Rollover is the CSMS root that follows the present one (M05).
type Rollover struct {
	New   *x509.Certificate // self-signed
	Cross *x509.Certificate // New's name and key, signed by Old
	Old   *x509.Certificate
}

// target is one root that should be on a station: any of its forms will do.
type target struct {
	use   string
	root  *x509.Certificate
	cross *x509.Certificate // nil: none
	old   *x509.Certificate // issuer of cross
}

func (t *target) named(seen ocpp.CertificateHashData) bool {
	return hashdata.Names(seen, t.root, t.root) || t.cross != nil && hashdata.Names(seen, t.cross, t.old)
}

func (t *target) installed(p *Plan) bool {
	return slices.ContainsFunc(p.Seen[t.use], func(r SeenRoot) bool { return t.named(r.CertificateHashData) })
}

// wireUse is a use as a version's messages spell it; "": it has none.
func wireUse(v ocpp.Version, use string) string {
	switch use {
	case RootCSMS:
		if v == ocpp.V16 {
			return ocpp.CentralSystemRoot
		}
		return ocpp.CSMSRoot
	case RootManufacturer:
		return ocpp.ManufacturerRoot
	}
	switch {
	case v == ocpp.V16:
		return ""
	case use == RootV2G:
		return ocpp.V2GRoot
	case use == RootMO:
		return ocpp.MORoot
	case use == RootOEM && v == ocpp.V21:
		return ocpp.OEMRoot
	}
	return ""
}

// WantRoot adds a root to what is wanted on a station; with der nil it is
// Bollard's own of this kind, which may be one of ISO 15118-20 (v2g-20). Only a self-signed CA certificate is taken:
// stations accept intermediates and can then neither list nor delete them.
func (s *Service) WantRoot(ctx context.Context, actor, identity, use string, data []byte) (Plan, error) {
	want := WantedRoot{Use: use, Own: data == nil}
	if err := s.checkUse(want); err != nil {
		return Plan{}, err
	}
	label := "own"
	if !want.Own {
		block, rest := pem.Decode(data)
		if block == nil || block.Type != "CERTIFICATE" || len(strings.TrimSpace(string(rest))) > 0 {
			return Plan{}, errors.New("give one PEM certificate and nothing else: a station takes one root at a time")
		}
		cert, err := curve448.ParseCertificate(block.Bytes)
		if err != nil {
			return Plan{}, fmt.Errorf("couldn't read the certificate: %w", err)
		}
		if err := ca.CheckRoot(cert, s.clock()); err != nil {
			return Plan{}, err
		}
		want.DER = cert.Raw
		sum := sha256.Sum256(cert.Raw)
		label = hex.EncodeToString(sum[:])
	}
	return s.changeRoots(ctx, identity, func(key string, p *Plan) ([]ledger.Event, error) {
		p.Wanted = slices.DeleteFunc(p.Wanted, func(w WantedRoot) bool {
			return w.Drop == "" && w.Use == use && w.Own == want.Own && string(w.DER) == string(want.DER)
		})
		p.Wanted = append(p.Wanted, want)
		return []ledger.Event{{Kind: "roots.wanted", Subject: key, Actor: actor, Data: map[string]string{"use": use, "root": label}}}, nil
	})
}

// DropRoot has the station delete a root it reported. Whether that is safe is
// judged against what the station reports when it is done.
func (s *Service) DropRoot(ctx context.Context, actor, identity, id string) (Plan, error) {
	return s.changeRoots(ctx, identity, func(key string, p *Plan) ([]ledger.Event, error) {
		use, full, err := p.find(id)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(p.Wanted, func(w WantedRoot) bool { return w.Drop == full && w.Use == use }) {
			p.Wanted = append(p.Wanted, WantedRoot{Use: use, Drop: full})
		}
		return []ledger.Event{{Kind: "roots.drop", Subject: key, Actor: actor, Data: map[string]string{"use": use, "root": full}}}, nil
	})
}

// find looks a reported root up by the beginning of its ID.
func (p *Plan) find(id string) (use, full string, err error) {
	if len(id) < 4 {
		return "", "", errors.New("give at least four characters of the root's id, which `bollard station roots` shows")
	}
	for u, list := range p.Seen {
		for _, r := range list {
			if !strings.HasPrefix(r.ID(), strings.ToLower(id)) {
				continue
			}
			if full != "" && full != r.ID() {
				return "", "", fmt.Errorf("more than one root begins with %q", id)
			}
			use, full = u, r.ID()
		}
	}
	if full == "" {
		return "", "", fmt.Errorf("the station reported no root %q: `bollard station roots` shows what it reported", capped(id))
	}
	return use, full, nil
}

// LookRoots has the station report its roots anew.
func (s *Service) LookRoots(ctx context.Context, identity string) (Plan, error) {
	return s.changeRoots(ctx, identity, func(string, *Plan) ([]ledger.Event, error) { return nil, nil })
}

func (s *Service) changeRoots(ctx context.Context, identity string, change func(string, *Plan) ([]ledger.Event, error)) (Plan, error) {
	key, err := s.key(identity)
	if err != nil {
		return Plan{}, err
	}
	plan, err := s.store.UpdatePlan(ctx, key, func(p *Plan) ([]ledger.Event, error) {
		delete(p.Tries, StepRoots)
		p.SeenAt = time.Time{} // look again before anything is done
		p.Look = true
		return change(key, p)
	})
	if err != nil {
		return Plan{}, fmt.Errorf("couldn't change the roots of %q: %w", identity, err)
	}
	s.pokeStation(key)
	return plan, nil
}

// served are the roots the station checks Bollard's server certificate against.
func (s *Service) served(ctx context.Context) ([]*x509.Certificate, error) {
	if s.cfg.ServedRoots == nil {
		return s.cfg.Authority.Roots(ca.KindCSMS), nil
	}
	list, err := s.cfg.ServedRoots(ctx)
	if err != nil {
		return nil, fmt.Errorf("couldn't tell the roots of the server certificates: %w", err)
	}
	return list, nil
}

// targets are the roots that should be on the station: what the operator wants,
// what a higher profile needs (A05.FR.03), and the root that follows (M05).
func (s *Service) targets(ctx context.Context, sit *situation) ([]target, error) {
	var list []target
	add := func(use string, root *x509.Certificate) {
		if root != nil && !slices.ContainsFunc(list, func(t target) bool { return t.use == use && t.root.Equal(root) }) {
			list = append(list, target{use: use, root: root})
		}
	}
	wanted, err := s.wantedTargets(sit.plan.Wanted)
	if err != nil {
		return nil, err
	}
	for _, t := range wanted {
		add(t.use, t.root)
	}
	if sit.adm.Profile == 1 && sit.st.WantedProfile > 1 {
		roots, err := s.served(ctx)
		if err != nil {
			return nil, err
		}
		for _, root := range roots {
			if bytes.Equal(root.RawIssuer, root.RawSubject) { // else it isn't at hand
				add(RootCSMS, root)
			}
		}
	}
	if max(sit.adm.Profile, sit.st.WantedProfile) > 1 {
		next, err := s.rollover(ctx)
		if err != nil {
			return nil, fmt.Errorf("couldn't look up the next CSMS root: %w", err)
		}
		if next != nil {
			list = slices.DeleteFunc(list, func(t target) bool { return t.use == RootCSMS && t.root.Equal(next.New) })
			list = append(list, target{use: RootCSMS, root: next.New, cross: next.Cross, old: next.Old})
		}
	}
	return list, nil
}

// wantedTargets are the roots that are to be on a station by somebody's wish.
func (s *Service) wantedTargets(wanted []WantedRoot) ([]target, error) {
	var list []target
	for _, w := range wanted {
		switch {
		case w.Drop != "":
		case w.Own:
			for _, root := range s.cfg.Authority.PathRoots(ca.Kind(w.Use)) {
				list = append(list, target{use: w.onStation(), root: root})
			}
		default:
			root, err := curve448.ParseCertificate(w.DER)
			if err != nil {
				return nil, fmt.Errorf("couldn't read a wanted root: %w", err)
			}
			list = append(list, target{use: w.Use, root: root})
		}
	}
	return list, nil
}

func (s *Service) needsRoots(ctx context.Context, sit *situation) bool {
	if sit.plan.Look || slices.ContainsFunc(sit.plan.Wanted, func(w WantedRoot) bool { return w.Drop != "" }) {
		return true
	}
	// What the change of the root left behind goes (M04), if it may.
	if slices.ContainsFunc(sit.plan.Seen[RootCSMS], s.retired) && len(sit.plan.Seen[RootCSMS]) > 1 {
		return true
	}
	targets, err := s.targets(ctx, sit)
	if err != nil {
		return true // the step says why
	}
	return slices.ContainsFunc(targets, func(t target) bool { return !t.installed(&sit.plan) })
}

// rollover returns the change of the CSMS root that is under way, or nil.
func (s *Service) rollover(ctx context.Context) (*Rollover, error) {
	if s.cfg.Rollover != nil {
		return s.cfg.Rollover(ctx)
	}
	cross := s.cfg.Authority.CrossRoot(ca.KindCSMS)
	if cross == nil {
		return nil, nil
	}
	next := Rollover{Cross: cross}
	for _, root := range s.cfg.Authority.Roots(ca.KindCSMS) {
		if bytes.Equal(root.RawSubjectPublicKeyInfo, cross.RawSubjectPublicKeyInfo) {
			next.New = root
		} else if cross.CheckSignatureFrom(root) == nil {
			next.Old = root
		}
	}
	if next.New == nil || next.Old == nil {
		return nil, errors.New("the change of the CSMS root is incomplete: `bollard ca rollover csms show`")
	}
	return &next, nil
}

// RolloverMoved is Moved for the change of the CSMS root that is under way;
// zero without one.
func (s *Service) RolloverMoved(ctx context.Context) (moved int, waiting []string, err error) {
	next, err := s.rollover(ctx)
	if err != nil || next == nil {
		return 0, nil, err
	}
	return s.Moved(ctx, *next)
}

// Moved says how many stations that check a server certificate have the root
// that follows, and which haven't: the old one is served until none is left.
func (s *Service) Moved(ctx context.Context, next Rollover) (moved int, waiting []string, err error) {
	stations, err := s.store.Stations(ctx)
	if err != nil {
		return 0, nil, fmt.Errorf("couldn't read the stations: %w", err)
	}
	t := target{use: RootCSMS, root: next.New, cross: next.Cross, old: next.Old}
	for i := range stations {
		if stations[i].SeenProfile == 1 && stations[i].WantedProfile == 1 {
			continue
		}
		plan, err := s.store.Plan(ctx, keyOf(&stations[i]))
		if err != nil {
			return 0, nil, fmt.Errorf("couldn't read the plan of %q: %w", stations[i].Identity, err)
		}
		if t.installed(&plan) {
			moved++
		} else {
			waiting = append(waiting, stations[i].Identity)
		}
	}
	return moved, waiting, nil
}
