package fleet

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"bollard/internal/redact"
	"bollard/ledger"
	"bollard/ocpp"
)

// Enrolment is a station as an operator adds it.
type Enrolment struct {
	Identity, Serial, Vendor, Model, Alias string
	// FactoryHash pins the maker's certificate, FactoryKey its public key alone.
	FactoryHash, FactoryKey string
	EK                      string // SHA-256 of its TPM's endorsement key
	Group, Site, Hardware   string
	SECCs                   []SECC // what cars may know it by
	Profile                 int
	Password                redact.Secret // nil: generate for profiles 1 and 2
	// NoPassword leaves the station without one, for its back end to tell by
	// adoption.
	NoPassword bool
	// OneTime has the password replaced at the first contact, by one nobody is
	// told (A01): what lay on paper until then is worth nothing after it.
	OneTime bool
	Reuse   bool // the identity may be one that was decommissioned
	Line    int  // of an import file, for errors
}

// Enrolled tells the password Bollard generated, once.
type Enrolled struct {
	Station  Station
	Password string // "" if the operator gave one or the profile is 3
}

// Longest values: a CN has 64 characters (RFC 5280 ub-common-name), vendor and
// model 20 to 50 in the versions' BootNotification.
const (
	maxSerial = 64
	maxText   = 50
)

var hostLike = regexp.MustCompile(`^(?i:www\..*|([a-z0-9-]+\.)+[a-z]{2,})(:\d+)?$`)

// Add enrols stations, all or none; errors name the line of the first bad one.
//
// A station enrolled for profile 3 with a password may use it until it was seen
// with a certificate; without one it must bring its maker's certificate.
func (s *Service) Add(ctx context.Context, actor string, list []Enrolment) ([]Enrolled, error) {
	if len(list) == 0 {
		return nil, errors.New("no stations to add")
	}
	taken, err := s.taken(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]Enrolled, 0, len(list))
	stations := make([]Station, 0, len(list))
	events := make([]ledger.Event, 0, len(list))
	for _, e := range list {
		added, err := s.enrol(ctx, e, taken)
		if err != nil {
			if e.Line > 0 {
				return nil, fmt.Errorf("line %d: %w", e.Line, err)
			}
			return nil, err
		}
		out = append(out, added)
		stations = append(stations, added.Station)
		events = append(events, ledger.Event{Kind: "station.added", Subject: keyOf(&added.Station), Actor: actor, Data: map[string]string{
			"serial": added.Station.Serial, "profile": strconv.Itoa(added.Station.WantedProfile), "reuse": strconv.FormatBool(e.Reuse),
		}})
		if ek := added.Station.EK; ek != "" {
			events = append(events, tpmEvent(keyOf(&added.Station), actor, ek))
		}
		for _, secc := range added.Station.SECCs {
			events = append(events, seccEvent(keyOf(&added.Station), actor, "added", secc))
		}
	}
	if err := s.store.AddStations(ctx, stations, events...); err != nil {
		return nil, fmt.Errorf("couldn't add the stations: %w", err)
	}
	if err := s.learnSecrets(ctx); err != nil {
		return nil, err
	}
	return out, nil
}

// takenNames are the identities, serial numbers and SECC identifiers and TPMs in use, with who
// uses them.
type takenNames struct {
	keys, serials map[string]string
	seccs         map[string]string // in lower case
	eks           map[string]string
	retired       map[string]time.Time
}

func (s *Service) taken(ctx context.Context) (takenNames, error) {
	stations, err := s.store.Stations(ctx)
	if err != nil {
		return takenNames{}, fmt.Errorf("couldn't read the stations: %w", err)
	}
	retired, err := s.store.Retired(ctx)
	if err != nil {
		return takenNames{}, err
	}
	t := takenNames{keys: make(map[string]string), serials: make(map[string]string), seccs: make(map[string]string), eks: make(map[string]string), retired: retired}
	for i := range stations {
		t.add(&stations[i])
	}
	return t, nil
}

func (t takenNames) add(st *Station) {
	t.keys[keyOf(st)] = st.Identity
	t.serials[st.Serial] = st.Identity
	for _, a := range st.Aliases {
		t.serials[a] = st.Identity
	}
	for _, secc := range st.SECCs {
		t.seccs[strings.ToLower(secc.ID)] = st.Identity
	}
	if st.EK != "" {
		t.eks[st.EK] = st.Identity
	}
}

func (t takenNames) check(st *Station) error {
	if other, ok := t.keys[keyOf(st)]; ok {
		return fmt.Errorf("identity %q: %w as %q (identities are compared without case)", st.Identity, ErrStationExists, other)
	}
	for _, serial := range append([]string{st.Serial}, st.Aliases...) {
		if other, ok := t.serials[serial]; ok {
			return fmt.Errorf("serial number %q of %q belongs to %q: %w", serial, st.Identity, other, ErrStationExists)
		}
	}
	for _, secc := range st.SECCs {
		if other, ok := t.seccs[strings.ToLower(secc.ID)]; ok {
			return fmt.Errorf("SECC identifier %q of %q belongs to %q: %w", secc.ID, st.Identity, other, ErrStationExists)
		}
	}
	if other, ok := t.eks[st.EK]; ok {
		return fmt.Errorf("tpm of %q: %w %q: a TPM is in one station", st.Identity, ErrOtherTPM, other)
	}
	return nil
}

func (s *Service) enrol(ctx context.Context, e Enrolment, taken takenNames) (Enrolled, error) {
	id, err := ocpp.ParseIdentity(e.Identity)
	if err != nil {
		return Enrolled{}, badInput("identity %q: %w", capped(e.Identity), err)
	}
	st := Station{
		Identity: id.Name, Serial: e.Serial, Vendor: e.Vendor, Model: e.Model, Group: e.Group, Site: e.Site, Hardware: e.Hardware, SECCs: e.SECCs,
		WantedProfile: e.Profile, FloorProfile: e.Profile, FactoryHash: strings.ToLower(e.FactoryHash), FactoryKey: strings.ToLower(e.FactoryKey), EK: strings.ToLower(e.EK), CreatedAt: s.clock(),
	}
	if id.NeedsEnrolment() {
		st.Escaped = id.Escaped
	}
	if e.Alias != "" && e.Alias != e.Serial {
		st.Aliases = []string{e.Alias}
	}
	if err := checkFacts(&st); err != nil {
		return Enrolled{}, err
	}
	if err := checkSECCs(&st); err != nil {
		return Enrolled{}, err
	}
	if strings.Contains(id.Name, ":") && (e.Profile < 3 || e.Password != nil) {
		return Enrolled{}, badInput("identity %q: a colon ends the user name in HTTP Basic (RFC 7617 §2), so this station can never use a password: enrol it for profile 3 without one", capped(e.Identity))
	}
	if err := taken.check(&st); err != nil {
		return Enrolled{}, err
	}
	if at, was := taken.retired[keyOf(&st)]; was && !e.Reuse {
		return Enrolled{}, fmt.Errorf("identity %q: %w on %s", st.Identity, ErrRetired, at.UTC().Format(time.DateOnly))
	}
	taken.add(&st)
	added := Enrolled{}
	switch {
	case e.Password != nil:
		if st.Password, err = s.secrets.givenCredential(ctx, e.Password, s.clock()); err != nil {
			return Enrolled{}, err
		}
		st.FloorProfile = min(st.FloorProfile, 2)
	case e.Profile < 3 && !e.NoPassword:
		added.Password = generatePassword()
		if st.Password, err = s.secrets.newCredential(ctx, kindGenerated, []byte(added.Password), s.clock()); err != nil {
			return Enrolled{}, err
		}
	}
	st.RotateWanted = e.OneTime && st.Password != nil
	added.Station = st
	return added, nil
}

// checkFacts judges what goes into certificates, logs and pages about a station.
func checkFacts(st *Station) error {
	if st.WantedProfile < 1 || st.WantedProfile > 3 {
		return badInput("profile %d of %q: give 1, 2 or 3", st.WantedProfile, st.Identity)
	}
	if err := checkSerial("serial number", st.Serial); err != nil {
		return err
	}
	for _, a := range st.Aliases {
		if err := checkSerial("alias", a); err != nil {
			return err
		}
	}
	if !printable(st.Vendor, maxText) {
		return badInput("vendor of %q: give at most %d printable characters", st.Identity, maxText)
	}
	if !printable(st.Model, maxText) {
		return badInput("model of %q: give at most %d printable characters", st.Identity, maxText)
	}
	if err := checkLabels(st); err != nil {
		return err
	}
	if !hexDigest(st.FactoryHash) {
		return badInput("cert_sha256 of %q: give the SHA-256 of the certificate's DER as 64 hex digits", st.Identity)
	}
	if !hexDigest(st.EK) {
		return badInput("tpm of %q: give the SHA-256 of the endorsement key's SubjectPublicKeyInfo as 64 hex digits", st.Identity)
	}
	if !hexDigest(st.FactoryKey) {
		return badInput("key_sha256 of %q: give the SHA-256 of the public key's SubjectPublicKeyInfo as 64 hex digits", st.Identity)
	}
	return nil
}

// hexDigest: the hex of a SHA-256, or nothing.
func hexDigest(text string) bool {
	b, err := hex.DecodeString(text)
	return text == "" || err == nil && len(b) == 32
}

// checkSerial: a serial number becomes the CN of a certificate and must not look
// like a URL or an IP address (A00.FR.511).
func checkSerial(what, serial string) error {
	if serial == "" {
		return badInput("%s is missing", what)
	}
	if !printable(serial, maxSerial) {
		return badInput("%s %q: give at most %d printable characters", what, capped(serial), maxSerial)
	}
	bare := strings.Trim(serial, "[]")
	_, addrErr := netip.ParseAddr(bare)
	_, portErr := netip.ParseAddrPort(serial)
	_, prefixErr := netip.ParsePrefix(serial)
	if addrErr == nil || portErr == nil || prefixErr == nil {
		return badInput("%s %q looks like an IP address (A00.FR.511)", what, serial)
	}
	if strings.Contains(serial, "://") || hostLike.MatchString(serial) {
		return badInput("%s %q looks like a URL (A00.FR.511)", what, serial)
	}
	return nil
}

func printable(text string, most int) bool {
	if !utf8.ValidString(text) || utf8.RuneCountInString(text) > most || strings.TrimSpace(text) != text {
		return false
	}
	return !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}
