// Package ceremony makes roots, and what they sign, on a machine of their own: by a
// script, before witnesses, with a transcript that the root's key signs.
//
// It promises that nothing is made but what the script says, from the files whose
// digests it has, in its time and with everybody present that it names; that a run which
// was cut off goes on where it was; and that a transcript is believed only whole, and as
// the holder of the root signed it.
package ceremony

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"bollard/ca"
	"bollard/internal/config"
	"bollard/keys"
)

// Script is what a ceremony does. docs/ceremony.md tells of its keys.
type Script struct {
	Title        string       `yaml:"ceremony"`
	Hierarchy    string       `yaml:"hierarchy"`
	Organisation string       `yaml:"organisation"`
	Country      string       `yaml:"country"`
	From         string       `yaml:"from"`
	Until        string       `yaml:"until"`
	Roles        []string     `yaml:"roles"`
	Root         string       `yaml:"root"`
	Name         string       `yaml:"name"`
	Keys         string       `yaml:"keys"`
	Algorithm    string       `yaml:"algorithm"`
	Status       string       `yaml:"status"`
	Certify      []Certify    `yaml:"certify"`
	NextRoot     NextRoot     `yaml:"next_root"`
	Revoke       []Revocation `yaml:"revoke"`
	ListDays     int          `yaml:"list_days"`
	Abandons     string       `yaml:"abandons"` // SHA-256 of a script

	path        string
	digest      string // SHA-256 of its text, lower-case hex
	from, until time.Time
	lines       map[string]int
}

// Certify is one CA to be certified.
type Certify struct {
	Request string `yaml:"request"` // file beside the script
	SHA256  string `yaml:"sha256"`  // of that file
	Level   int    `yaml:"level"`   // 1: below the root
	To      string `yaml:"to"`      // file to be made
}

// NextRoot is the root that is to follow a kept one, to be certified by it.
type NextRoot struct {
	Certificate string `yaml:"certificate"` // file beside the script, its own by itself
	SHA256      string `yaml:"sha256"`      // of that file
	To          string `yaml:"to"`          // file to be made
}

// Revocation is a CA that the root certified and no longer vouches for.
type Revocation struct {
	Serial string `yaml:"serial"`
	Reason string `yaml:"reason"`
}

// What a script's root may be.
const (
	rootNew  = "new"
	rootKept = "kept"
)

// Files that every ceremony makes.
const (
	RootFile       = "root.pem"
	ListFile       = "root.crl.pem"
	TranscriptFile = "transcript.jsonl"
)

const (
	draftSuffix     = ".new"
	defaultListDays = 400 // a year, and a month to come together again
	maxRoles        = 20
)

var (
	plainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$`)
	plainRole = regexp.MustCompile(`^[a-z0-9][a-z0-9 -]{0,38}[a-z0-9]$`)
	digest    = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// ParseScript reads a script as strictly as the configuration is read: its errors name
// file, line and key.
func ParseScript(path string, data []byte) (*Script, error) {
	sum := sha256.Sum256(data)
	s := &Script{path: path, digest: hex.EncodeToString(sum[:])}
	var err error
	if s.lines, err = config.Decode(path, data, s); err != nil {
		return nil, err
	}
	if s.Root == "" {
		s.Root = rootNew
	}
	if s.ListDays == 0 {
		s.ListDays = defaultListDays
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	return s, s.checkFiles()
}

// Digest is the SHA-256 of the script's text, lower-case hex.
func (s *Script) Digest() string { return s.digest }

func (s *Script) fail(key, format string, args ...any) error {
	return &config.Error{Path: s.path, Line: s.lines[key], Key: key, Text: fmt.Sprintf(format, args...)}
}

func (s *Script) check() error {
	var errFrom, errUntil error
	s.from, errFrom = time.Parse(time.RFC3339, s.From)
	s.until, errUntil = time.Parse(time.RFC3339, s.Until)
	_, errKeys := keys.Join(s.Keys, "root.key")
	errCountry, errStatus := ca.CheckCountry(s.Country), ca.CheckStatusURL(s.Status)
	switch {
	case strings.TrimSpace(s.Title) == "" || len(s.Title) > 200:
		return s.fail("ceremony", "is missing, or longer than 200 bytes: the ceremony's title")
	case !slices.Contains(ca.Kinds(), ca.Kind(s.Hierarchy)):
		return s.fail("hierarchy", "%q is none (known: %s)", s.Hierarchy, kinds())
	case s.Organisation == "":
		return s.fail("organisation", "is missing: as it stands in the bollard.yaml of the machine that asks")
	case errCountry != nil:
		return s.fail("country", "%v", errCountry)
	case errStatus != nil:
		return s.fail("status", "%v", errStatus)
	case errFrom != nil:
		return s.fail("from", "wants a time in quotes, such as \"2026-11-26T09:00:00Z\"")
	case errUntil != nil || !s.until.After(s.from):
		return s.fail("until", "wants a time after from, in quotes, such as \"2026-11-26T18:00:00Z\"")
	case s.until.Sub(s.from) > 31*24*time.Hour:
		return s.fail("until", "is more than a month after from: a ceremony has its day")
	case s.Root != rootNew && s.Root != rootKept:
		return s.fail("root", "%q is neither %s nor %s", s.Root, rootNew, rootKept)
	case s.Name != "" && !plainName.MatchString(s.Name):
		return s.fail("name", "%q isn't the name of a root, such as csms-root-2", s.Name)
	case errKeys != nil || len(s.Keys) > 1000:
		return s.fail("keys", "says where the root's key is: softkms: or pkcs11:…, vault:…, awskms:… (%v)", errKeys)
	case s.Abandons != "" && (!digest.MatchString(s.Abandons) || s.Root != rootKept):
		return s.fail("abandons", "wants the SHA-256 of the script of a ceremony that was begun and can't be gone on with, and root: kept")
	case s.ListDays < 1 || s.ListDays > 10*366:
		return s.fail("list_days", "wants a number of days, at most ten years")
	}
	return s.checkRoles()
}

func (s *Script) checkRoles() error {
	if len(s.Roles) < 2 || len(s.Roles) > maxRoles {
		return s.fail("roles", "names who has to be present, 2 to %d roles, such as [ceremony master, witness]", maxRoles)
	}
	for i, role := range s.Roles {
		key := fmt.Sprintf("roles[%d]", i)
		switch {
		case !plainRole.MatchString(role):
			return s.fail(key, "%q isn't a role: lower-case letters, digits, spaces and hyphens, at most 40", role)
		case slices.Contains(s.Roles[:i], role):
			return s.fail(key, "%q stands there twice; number them", role)
		}
	}
	return nil
}

// checkFiles: a script names files beside it and below the ceremony's folder by plain
// names, which lead nowhere else.
func (s *Script) checkFiles() error {
	made := []string{RootFile, ListFile, TranscriptFile}
	check := func(key, file, fileKey, sum, to string) error {
		switch {
		case !plainName.MatchString(file):
			return s.fail(key+fileKey, "%q isn't the plain name of a file beside the script", file)
		case !digest.MatchString(sum):
			return s.fail(key+".sha256", "wants the SHA-256 of %s in 64 lower-case hex digits, as sha256sum prints it", file)
		case !plainName.MatchString(to):
			return s.fail(key+".to", "%q isn't the plain name of a file", to)
		case strings.HasSuffix(strings.ToLower(to), draftSuffix):
			return s.fail(key+".to", "%q: files have such names while they are written", to)
		case slices.ContainsFunc(made, func(m string) bool { return strings.EqualFold(m, to) }): // sticks know no case
			return s.fail(key+".to", "%s is made already", to)
		}
		made = append(made, to)
		return nil
	}
	for i, c := range s.Certify {
		key := fmt.Sprintf("certify[%d]", i)
		if err := check(key, c.Request, ".request", c.SHA256, c.To); err != nil {
			return err
		}
		if c.Level < 1 {
			return s.fail(key+".level", "wants 1 for a CA below the root")
		}
	}
	if n := s.NextRoot; n != (NextRoot{}) {
		switch {
		case s.Root != rootKept:
			return s.fail("next_root", "is certified by the root before it: it wants `root: kept`")
		case ca.AnchorUse(ca.Kind(s.Hierarchy)) != "":
			return s.fail("next_root", "isn't for %s: each root of ISO 15118 is trusted by itself, and certifies what is below it", s.Hierarchy)
		}
		if err := check("next_root", n.Certificate, ".certificate", n.SHA256, n.To); err != nil {
			return err
		}
	}
	for i, r := range s.Revoke {
		if !slices.Contains(ca.Reasons(), r.Reason) {
			return s.fail(fmt.Sprintf("revoke[%d].reason", i), "%q is none (known: %s)", r.Reason, strings.Join(ca.Reasons(), ", "))
		}
		if s.Root == rootNew {
			return s.fail(fmt.Sprintf("revoke[%d]", i), "a new root has certified nobody yet")
		}
	}
	return nil
}

func kinds() string {
	var names []string
	for _, k := range ca.Kinds() {
		names = append(names, string(k))
	}
	return strings.Join(names, ", ")
}

// checkPresent wants each role of the script present, and none that it doesn't name.
func (s *Script) checkPresent(present []string) error {
	for _, role := range present {
		if !slices.Contains(s.Roles, role) {
			return fmt.Errorf("the script has no role %q (its roles: %s)", role, strings.Join(s.Roles, ", "))
		}
	}
	for _, role := range s.Roles {
		if !slices.Contains(present, role) {
			return fmt.Errorf("the %s isn't present: nothing is done without (`--present %q` says that they are)", role, role)
		}
	}
	return nil
}

// checkTime keeps a script from being used on another day, and a machine whose clock is
// wrong from dating a root by it. What was begun in time may be brought to its end later:
// no other script may begin until then.
func (s *Script) checkTime(now time.Time, begun bool) error {
	if now.Before(s.from) || now.After(s.until) && !begun {
		return fmt.Errorf("the script is for %s to %s, and this machine's clock says %s: set the clock right, or write the script anew",
			s.from.Format(time.RFC3339), s.until.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return nil
}
