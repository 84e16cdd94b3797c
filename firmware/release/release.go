// Package release is what a manufacturer says of one firmware image, and signs:
// for whom it is, what it replaces, its digests, and how stations verify it.
//
// It promises that a release has one spelling: Parse takes what Canonical writes,
// byte for byte, and nothing else, so that its digest names what it says, and
// no two readers read it differently. It does no I/O and is given the time.
package release

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/gowebpki/jcs"
)

// MaxSize bounds a release record in its canonical form.
const MaxSize = 256 << 10

// NoLog is the Log of a release that is in no transparency log.
const NoLog = "none"

// Release is the record. Its zero values are left out of the canonical form,
// where a field says below that it may be missing.
type Release struct {
	ID        string  `json:"release_id"` // UUID, version 7
	Vendor    string  `json:"vendor"`     // the manufacturer, as people write it
	Models    []Model `json:"models"`
	Component string  `json:"component"` // what of the station is replaced, such as firmware or modem
	Version   string  `json:"version"`   // as BootNotification shows it once installed
	// Sequence rises with each release of a component: the value that says which
	// of two is the newer. Version is for people.
	Sequence uint64 `json:"sequence"`
	// SecurityEpoch is the floor: whoever has run an epoch goes below it no more.
	SecurityEpoch uint64        `json:"security_epoch"`
	MinFrom       uint64        `json:"min_from,omitempty"` // sequences this can be installed over; missing: any
	MaxFrom       uint64        `json:"max_from,omitempty"`
	Requires      []Requirement `json:"requires,omitempty"`

	File   string `json:"file"` // name of the image, for the end of a download's URL
	Size   uint64 `json:"size"` // of the image, in bytes
	SHA256 string `json:"sha256"`
	SHA512 string `json:"sha512,omitempty"` // a second opinion, for who asks for it: it costs twice what SHA256 does
	// MD5 is the only checksum PublishFirmware can carry (OCPP 2.x L03); missing
	// in releases that aren't published that way.
	MD5        string      `json:"md5,omitempty"`
	Signatures []Signature `json:"signatures"`

	NotBefore time.Time `json:"not_before"` // UTC, whole seconds, as Expires
	// Expires ends what is installed newly: a release nobody renews can't be
	// offered for ever as the newest.
	Expires       time.Time `json:"expires"`
	SecurityOnly  bool      `json:"security_only,omitempty"`  // mends faults and changes nothing else
	LegalRelevant bool      `json:"legal_relevant,omitempty"` // metrology: has an approval of its own
	Reboot        uint64    `json:"reboot"`                   // expected downtime in seconds

	// PCRs are what stations with a TPM show once they run it; missing: nothing is
	// demanded of them.
	PCRs *Registers `json:"pcrs,omitempty"`

	SBOM       string   `json:"sbom_sha256,omitempty"`
	Provenance string   `json:"provenance_sha256,omitempty"`
	CVEsFixed  []string `json:"cves_fixed,omitempty"`
	Supersedes string   `json:"supersedes,omitempty"` // ID of a release
	Revokes    []string `json:"revokes,omitempty"`    // IDs of releases
	Log        string   `json:"log"`                  // origin of the transparency log it goes to, or NoLog
	Warnings   []string `json:"warnings,omitempty"`   // the signer's own, such as of a legacy dialect
	Notes      string   `json:"notes,omitempty"`
}

// Model is whom a release is for: the vendor and model of BootNotification, to
// the letter, and revisions of the hardware, none for any.
type Model struct {
	Vendor   string   `json:"vendor"`
	Model    string   `json:"model"`
	Hardware []string `json:"hardware,omitempty"`
}

// Requirement is another component's release, or a newer one, that must be
// installed first.
type Requirement struct {
	Component string `json:"component"`
	Sequence  uint64 `json:"sequence"`
}

// Covers says whether the release is for a station. A release for certain
// revisions isn't for a station whose revision nobody knows.
func (r *Release) Covers(vendor, model, hardware string) bool {
	return slices.ContainsFunc(r.Models, func(m Model) bool {
		return m.Vendor == vendor && m.Model == model && (len(m.Hardware) == 0 || slices.Contains(m.Hardware, hardware))
	})
}

// Within says whether all that a model names is in another: its revisions too.
func (m Model) Within(o Model) bool {
	return m.Vendor == o.Vendor && m.Model == o.Model &&
		(len(o.Hardware) == 0 || len(m.Hardware) > 0 && !slices.ContainsFunc(m.Hardware, func(revision string) bool { return !slices.Contains(o.Hardware, revision) }))
}

// Follows says whether the release may be installed over a sequence: over an
// older one only, and within its own bounds.
func (r *Release) Follows(installed uint64) bool {
	return r.Sequence > installed && installed >= r.MinFrom && (r.MaxFrom == 0 || installed <= r.MaxFrom)
}

// Signature returns the signature in a dialect.
func (r *Release) Signature(d Dialect) (Signature, bool) {
	i := slices.IndexFunc(r.Signatures, func(s Signature) bool { return s.Dialect == d })
	if i < 0 {
		return Signature{}, false
	}
	return r.Signatures[i], true
}

// Canonical is the release's only spelling (RFC 8785).
func (r *Release) Canonical() ([]byte, error) {
	if err := r.validate(); err != nil {
		return nil, fmt.Errorf("couldn't write the release: %w", err)
	}
	return r.canonical()
}

func (r *Release) canonical() ([]byte, error) {
	text, err := json.Marshal(r)
	if err == nil {
		text, err = jcs.Transform(text)
	}
	if err != nil {
		return nil, fmt.Errorf("couldn't write the release: %w", err)
	}
	if len(text) > MaxSize {
		return nil, fmt.Errorf("release has %d bytes, and at most %d are read", len(text), MaxSize)
	}
	return text, nil
}

// Digest is the SHA-256 of the canonical form in lower-case hex: what people
// approve and a transparency log has.
func (r *Release) Digest() (string, error) {
	text, err := r.Canonical()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

// Parse reads a release in its canonical form.
func Parse(text []byte) (*Release, error) {
	if len(text) > MaxSize {
		return nil, fmt.Errorf("release has %d bytes, and at most %d are read", len(text), MaxSize)
	}
	r := &Release{}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(r); err != nil {
		return nil, fmt.Errorf("couldn't read the release: %w", err)
	}
	if err := r.validate(); err != nil {
		return nil, fmt.Errorf("couldn't read the release: %w", err)
	}
	// A key given twice or in another case, white space, another spelling of a
	// text or a number: all of it would be written otherwise.
	again, err := r.canonical()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, text) {
		return nil, fmt.Errorf("release isn't in the canonical form of RFC 8785: give the file as it was signed")
	}
	return r, nil
}
