package release

import (
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// MaxNumber bounds every number of a release: RFC 8785 writes numbers as
// IEEE 754 doubles do, and above it those have gaps (RFC 7493 §2.2).
const MaxNumber = 1<<53 - 1

// Bounds of a release. Texts that stations compare have OCPP's own: vendor 50
// characters (20 in 1.6), model 20, firmwareVersion 50 (BootNotification).
const (
	maxVendor, maxModel, maxVersion = 50, 20, 50
	maxModels, maxHardware          = 64, 64
	maxRequires, maxRevokes         = 64, 256
	maxCVEs                         = 512
	maxNotes                        = 16 << 10 // bytes
	maxLog, maxWarnings             = 200, 16
)

var (
	idForm        = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	componentForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)
	// fileForm has nothing a URL or a shell reads otherwise: stations hand it to
	// curl, unquoted.
	fileForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)
	cveForm  = regexp.MustCompile(`^CVE-[0-9]{4}-[0-9]{4,19}$`)
)

// CheckFile says whether an image may have a name.
func CheckFile(name string) error {
	if !fileForm.MatchString(name) {
		return fmt.Errorf("file name %.120q: it becomes part of a URL that stations hand on unquoted: give letters, digits and . _ -, at most 100, the first a letter or digit", name)
	}
	return nil
}

// NewID makes a release's ID: a UUID of version 7 (RFC 9562 §5.7) of the time and
// random bits.
func NewID(at time.Time, random [10]byte) string {
	var b [16]byte
	for i, ms := 5, at.UnixMilli(); i >= 0; i, ms = i-1, ms>>8 {
		b[i] = byte(ms)
	}
	copy(b[6:], random[:])
	b[6] = b[6]&0x0f | 0x70
	b[8] = b[8]&0x3f | 0x80
	x := hex.EncodeToString(b[:])
	return strings.Join([]string{x[:8], x[8:12], x[12:16], x[16:20], x[20:]}, "-")
}

// validate names the first field that isn't as it must be.
func (r *Release) validate() error {
	for _, check := range []func() error{r.checkWho, r.checkOrder, r.checkImage, r.checkLife, r.checkPapers} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (r *Release) checkWho() error {
	if !idForm.MatchString(r.ID) {
		return errors.New("release_id isn't a UUID of version 7 in lower case")
	}
	if err := line("vendor", r.Vendor, maxVendor); err != nil {
		return err
	}
	if len(r.Models) == 0 || len(r.Models) > maxModels {
		return fmt.Errorf("models: a release is for 1 to %d models, this one for %d", maxModels, len(r.Models))
	}
	for i, m := range r.Models {
		if err := errors.Join(line("vendor of a model", m.Vendor, maxVendor), line("model", m.Model, maxModel), distinct("hardware", m.Hardware, maxHardware)); err != nil {
			return err
		}
		for _, revision := range m.Hardware {
			if err := line("hardware", revision, maxVersion); err != nil {
				return err
			}
		}
		if slices.ContainsFunc(r.Models[:i], func(o Model) bool { return o.Vendor == m.Vendor && o.Model == m.Model }) {
			return fmt.Errorf("models: %s %s stands there twice", m.Vendor, m.Model)
		}
	}
	if !componentForm.MatchString(r.Component) {
		return fmt.Errorf("component %.80q: give lower-case letters, digits and . _ -, at most 64", r.Component)
	}
	return line("version", r.Version, maxVersion)
}

func (r *Release) checkOrder() error {
	for _, n := range []struct {
		field string
		value uint64
	}{{"sequence", r.Sequence}, {"security_epoch", r.SecurityEpoch}, {"min_from", r.MinFrom}, {"max_from", r.MaxFrom}, {"size", r.Size}, {"reboot", r.Reboot}} {
		if n.value > MaxNumber {
			return fmt.Errorf("%s %d is above %d, where numbers of JSON get gaps", n.field, n.value, uint64(MaxNumber))
		}
	}
	if r.Sequence == 0 {
		return errors.New("sequence is 0: the first release has 1")
	}
	if r.MinFrom >= r.Sequence || r.MaxFrom >= r.Sequence || r.MaxFrom != 0 && r.MaxFrom < r.MinFrom {
		return errors.New("min_from, max_from: give older sequences, the smaller first")
	}
	if len(r.Requires) > maxRequires {
		return fmt.Errorf("requires: more than %d components", maxRequires)
	}
	for i, q := range r.Requires {
		switch {
		case !componentForm.MatchString(q.Component) || q.Component == r.Component:
			return fmt.Errorf("requires: %.80q isn't another component", q.Component)
		case q.Sequence == 0 || q.Sequence > MaxNumber:
			return fmt.Errorf("requires: sequence of %s isn't one", q.Component)
		case slices.ContainsFunc(r.Requires[:i], func(o Requirement) bool { return o.Component == q.Component }):
			return fmt.Errorf("requires: %s stands there twice", q.Component)
		}
	}
	return nil
}

func (r *Release) checkImage() error {
	if err := CheckFile(r.File); err != nil {
		return err
	}
	if r.Size == 0 {
		return errors.New("size is 0: there is no image")
	}
	if !isHex(r.SHA256, 32) || r.SHA512 != "" && !isHex(r.SHA512, 64) || r.MD5 != "" && !isHex(r.MD5, 16) {
		return errors.New("sha256, sha512, md5: give digests in lower-case hex")
	}
	if len(r.Signatures) == 0 || len(r.Signatures) > len(Dialects()) {
		return fmt.Errorf("signatures: a release has 1 to %d, this one %d", len(Dialects()), len(r.Signatures))
	}
	for i, s := range r.Signatures {
		if err := s.validate(); err != nil {
			return err
		}
		if slices.ContainsFunc(r.Signatures[:i], func(o Signature) bool { return o.Dialect == s.Dialect }) {
			return fmt.Errorf("signatures: there are two in %s", s.Dialect)
		}
	}
	return nil
}

func (r *Release) checkLife() error {
	for _, at := range []time.Time{r.NotBefore, r.Expires} {
		if at.Location() != time.UTC || at.Nanosecond() != 0 || at.Year() < 2000 || at.Year() > 9999 {
			return errors.New("not_before, expires: give times in UTC, in whole seconds")
		}
	}
	if !r.NotBefore.Before(r.Expires) {
		return errors.New("release expires before it begins")
	}
	return nil
}

func (r *Release) checkPapers() error {
	if r.SBOM != "" && !isHex(r.SBOM, 32) || r.Provenance != "" && !isHex(r.Provenance, 32) {
		return errors.New("sbom_sha256, provenance_sha256: give digests in lower-case hex")
	}
	if err := errors.Join(distinct("cves_fixed", r.CVEsFixed, maxCVEs), distinct("revokes", r.Revokes, maxRevokes)); err != nil {
		return err
	}
	for _, cve := range r.CVEsFixed {
		if !cveForm.MatchString(cve) {
			return fmt.Errorf("cves_fixed: %.80q isn't an id such as CVE-2026-0001", cve)
		}
	}
	others := r.Revokes
	if r.Supersedes != "" {
		others = append(slices.Clip(others), r.Supersedes)
	}
	for _, id := range others {
		if !idForm.MatchString(id) || id == r.ID {
			return fmt.Errorf("supersedes, revokes: %.80q isn't the id of another release", id)
		}
	}
	if r.PCRs != nil {
		if err := r.PCRs.check(); err != nil {
			return err
		}
	}
	if err := line("log", r.Log, maxLog); err != nil {
		return err
	}
	if err := distinct("warnings", r.Warnings, maxWarnings); err != nil {
		return err
	}
	for _, w := range r.Warnings {
		if err := line("warnings", w, maxLog); err != nil {
			return err
		}
	}
	if len(r.Notes) > maxNotes || !utf8.ValidString(r.Notes) || strings.ContainsFunc(r.Notes, func(c rune) bool { return !unicode.IsPrint(c) && c != '\n' && c != '\t' }) {
		return fmt.Errorf("notes: give text of at most %d bytes", maxNotes)
	}
	return nil
}

// line wants a text of one line without spaces at its ends, which people don't
// see and stations compare.
func line(field, text string, limit int) error {
	if text == "" || utf8.RuneCountInString(text) > limit || strings.TrimSpace(text) != text || !utf8.ValidString(text) ||
		strings.ContainsFunc(text, func(c rune) bool { return !unicode.IsPrint(c) }) {
		return fmt.Errorf("%s %.80q: give 1 to %d printable characters, without spaces at the ends", field, text, limit)
	}
	return nil
}

func distinct(field string, list []string, limit int) error {
	if len(list) > limit {
		return fmt.Errorf("%s: more than %d", field, limit)
	}
	sorted := slices.Sorted(slices.Values(list))
	if len(slices.Compact(sorted)) != len(list) {
		return fmt.Errorf("%s: something stands there twice", field)
	}
	return nil
}

func isHex(s string, bytes int) bool {
	raw, err := hex.DecodeString(s)
	return err == nil && len(raw) == bytes && hex.EncodeToString(raw) == s
}
