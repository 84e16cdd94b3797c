package fleet

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"bollard/ca"
	"bollard/internal/curve448"
)

// DefaultGroup is whose wants hold for stations of no other group.
const DefaultGroup = "default"

// Group is a set of stations of which the same is wanted: those with its name
// as their label, and those without a label that it matches.
type Group struct {
	Name      string     `json:"name"`
	Match     GroupMatch `json:"match,omitzero"`
	Wants     Wants      `json:"wants"`
	ChangedAt time.Time  `json:"changed_at"`
}

// GroupMatch selects stations without a label. Patterns have * and ? and are
// compared without case; the zero value matches none.
type GroupMatch struct {
	Vendor  string `json:"vendor,omitempty"`
	Model   string `json:"model,omitempty"`
	Backend string `json:"backend,omitempty"` // the one of the newest session
}

// Certificate types that can be wanted.
const (
	CertificateStation  = "station"  // for the CSMS connection alone
	CertificateCombined = "combined" // one for both uses (A00.FR.428 [2.x])
)

// Wants is what is wanted of each station of a group, or of one station; what is
// zero stays as it is, or as its group has it.
type Wants struct {
	Profile         int           `json:"profile,omitempty"`
	PasswordAge     time.Duration `json:"password_age,omitempty"` // older ones are changed
	CertificateType string        `json:"certificate_type,omitempty"`
	CertificateLife time.Duration `json:"certificate_life,omitempty"` // longest validity
	Roots           []WantedRoot  `json:"roots,omitempty"`
	Backend         string        `json:"backend,omitempty"`     // by its name in the configuration
	TimeSource      string        `json:"time_source,omitempty"` // ClockCtrlr.TimeSource (2.x)
	// Quotes is how often it has to show by a quote of its TPM that it runs what was
	// delivered; 0: never.
	Quotes time.Duration `json:"quotes,omitempty"`
	// Attested is AttestedYes where certificates are for keys alone that the station's
	// TPM made, from now on and without a rollout.
	Attested string `json:"attested,omitempty"`
}

// What may be wanted of where a key is.
const (
	AttestedYes = "yes"
	AttestedNo  = "no" // although the station's group wants it
)

const (
	minCertificateLife = 7 * 24 * time.Hour
	minPasswordAge     = 24 * time.Hour
	minQuotes          = time.Hour
	maxGroupName       = 64
)

// validate names what makes no sense.
func (g *Group) validate() error {
	switch {
	case g.Name == "" || !printable(g.Name, maxGroupName):
		return badInput("group %q: give a name of 1 to %d printable characters", capped(g.Name), maxGroupName)
	case g.Name == DefaultGroup && g.Match != GroupMatch{}:
		return fmt.Errorf("group %q takes whoever is left and has no match", DefaultGroup)
	}
	for _, pattern := range []string{g.Match.Vendor, g.Match.Model, g.Match.Backend} {
		if _, err := path.Match(pattern, ""); err != nil || !printable(pattern, maxText) {
			return badInput("pattern %q: give text with * and ?", capped(pattern))
		}
	}
	return g.Wants.validate()
}

func (w *Wants) validate() error {
	switch {
	case w.Profile < 0 || w.Profile > 3:
		return badInput("profile %d: give 1, 2 or 3", w.Profile)
	case w.PasswordAge != 0 && w.PasswordAge < minPasswordAge:
		return badInput("password age %s: give at least %s", w.PasswordAge, minPasswordAge)
	case w.Quotes != 0 && w.Quotes < minQuotes:
		return badInput("quotes every %s: give at least %s", w.Quotes, minQuotes)
	case w.CertificateLife != 0 && w.CertificateLife < minCertificateLife:
		return badInput("certificate life %s: give at least %s", w.CertificateLife, minCertificateLife)
	case w.CertificateType != "" && w.CertificateType != CertificateStation && w.CertificateType != CertificateCombined:
		return badInput("certificate type %q: give %s or %s", capped(w.CertificateType), CertificateStation, CertificateCombined)
	case w.Attested != "" && w.Attested != AttestedYes && w.Attested != AttestedNo:
		return badInput("attested %q: give %s or %s", capped(w.Attested), AttestedYes, AttestedNo)
	case !printable(w.Backend, maxText):
		return badInput("back end: give its name in the configuration")
	}
	for _, source := range splitList(w.TimeSource) {
		if !slices.Contains(timeSources(), source) {
			return badInput("time source %q: give of %s, the preferred one first", capped(source), strings.Join(timeSources(), ", "))
		}
	}
	return nil
}

// timeSources are the values of ClockCtrlr.TimeSource (OCPP 2.0.1 part 2
// appendix 3).
func timeSources() []string {
	return []string{"Heartbeat", "NTP", "GPS", "RealTimeClock", "MobileNetwork", "RadioTimeTransmitter"}
}

func (m GroupMatch) fits(st *Station) bool {
	if m == (GroupMatch{}) {
		return false
	}
	fits := func(pattern, text string) bool {
		ok, err := path.Match(strings.ToLower(pattern), strings.ToLower(text))
		return pattern == "" || err == nil && ok
	}
	return fits(m.Vendor, st.Vendor) && fits(m.Model, st.Model) && fits(m.Backend, st.SeenBackend)
}

// groupOf is the group whose wants hold for a station: its label's, else the
// first by name that matches, else the default one; nil if there is none.
func groupOf(groups []Group, st *Station) *Group {
	byName := func(name string) *Group {
		if i := slices.IndexFunc(groups, func(g Group) bool { return g.Name == name }); i >= 0 {
			return &groups[i]
		}
		return nil
	}
	if st.Group != "" {
		return byName(st.Group)
	}
	var found *Group
	for i := range groups {
		if groups[i].Match.fits(st) && (found == nil || groups[i].Name < found.Name) {
			found = &groups[i]
		}
	}
	return cmp.Or(found, byName(DefaultGroup))
}

// over is what is wanted of a station of which something is wanted beside what is
// of its group: its own stands for the group's, one by one.
func (w *Wants) over(group Wants) Wants {
	return Wants{
		Profile:         cmp.Or(w.Profile, group.Profile),
		PasswordAge:     cmp.Or(w.PasswordAge, group.PasswordAge),
		CertificateType: cmp.Or(w.CertificateType, group.CertificateType),
		CertificateLife: cmp.Or(w.CertificateLife, group.CertificateLife),
		Roots:           slices.Concat(w.Roots, group.Roots)[:cmp.Or(len(w.Roots), len(group.Roots))],
		Backend:         cmp.Or(w.Backend, group.Backend),
		TimeSource:      cmp.Or(w.TimeSource, group.TimeSource),
		Quotes:          cmp.Or(w.Quotes, group.Quotes),
		Attested:        cmp.Or(w.Attested, group.Attested),
	}
}

// Wanted is what is wanted of all stations at a time: of groups, and of single
// stations by key.
type Wanted struct {
	Groups []Group          `json:"groups"`
	Own    map[string]Wants `json:"own,omitempty"`
}

// of is what is wanted of a station and the name of its group; ok is false if
// that is nothing.
func (w *Wanted) of(st *Station) (wants Wants, group string, ok bool) {
	if g := groupOf(w.Groups, st); g != nil {
		wants, group, ok = g.Wants, g.Name, true
	}
	if own, has := w.Own[keyOf(st)]; has {
		wants, ok = own.over(wants), true
	}
	return wants, group, ok
}

// checkWants judges the roots that are wanted, and spells the rest in one way.
func (s *Service) checkWants(wants *Wants) error {
	wants.TimeSource = strings.Join(splitList(wants.TimeSource), ",")
	for _, w := range wants.Roots {
		if err := s.checkUse(w); err != nil {
			return err
		}
		switch {
		case w.Drop != "":
			return errors.New("a root is dropped station by station: `bollard station roots`")
		case w.Own:
		default:
			root, err := curve448.ParseCertificate(w.DER)
			if err != nil {
				return fmt.Errorf("couldn't read a root: %w", err)
			}
			if err := ca.CheckRoot(root, s.clock()); err != nil {
				return err
			}
		}
	}
	return nil
}
