package bundle

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"bollard/firmware/release"
	"bollard/ocpp"
)

// sbom is what is looked at of a bill of materials (CycloneDX, ECMA-424).
type sbom struct {
	Format      string `json:"bomFormat"`
	SpecVersion string `json:"specVersion"`
	Metadata    struct {
		Component sbomComponent `json:"component"`
	} `json:"metadata"`
	Components   []sbomComponent `json:"components"`
	Dependencies []struct {
		Ref       string   `json:"ref"`
		DependsOn []string `json:"dependsOn"`
	} `json:"dependencies"`
}

type sbomComponent struct {
	Ref     string `json:"bom-ref"`
	Type    string `json:"type"`
	Name    string `json:"name"`
	Version string `json:"version"`
	PURL    string `json:"purl"`
	Hashes  []struct {
		Alg     string `json:"alg"`
		Content string `json:"content"`
	} `json:"hashes"`
	Components []sbomComponent `json:"components"`
}

// sbomVersions are those of the format that have what is looked at.
var sbomVersions = []string{"1.2", "1.3", "1.4", "1.5", "1.6", "1.7"}

// CheckSBOM says whether a bill of materials is one, in JSON: parts with names,
// dependencies between parts that are there, and not of another image where it
// names the image's digest.
func CheckSBOM(text []byte, digest [sha256.Size]byte) error {
	var b sbom
	if err := ocpp.DecodeStrict(text, &b); err != nil {
		return errors.New("SBOM isn't CycloneDX in strict JSON")
	}
	if b.Format != "CycloneDX" || !slices.Contains(sbomVersions, b.SpecVersion) {
		return fmt.Errorf("SBOM is %.20q %.10q: give CycloneDX %s to %s in JSON", b.Format, b.SpecVersion, sbomVersions[0], sbomVersions[len(sbomVersions)-1])
	}
	if len(b.Components) == 0 {
		return errors.New("SBOM names no components")
	}
	refs := map[string]bool{}
	if b.Metadata.Component.Ref != "" {
		refs[b.Metadata.Component.Ref] = true
	}
	if err := collect(append(b.Components, b.Metadata.Component.Components...), refs); err != nil {
		return err
	}
	for _, d := range b.Dependencies {
		for _, ref := range append(d.DependsOn, d.Ref) {
			if !refs[ref] {
				return fmt.Errorf("SBOM has dependencies of %.80q, which isn't in it", ref)
			}
		}
	}
	for _, h := range b.Metadata.Component.Hashes {
		if h.Alg == "SHA-256" && !strings.EqualFold(h.Content, hex.EncodeToString(digest[:])) {
			return errors.New("SBOM is of another image: it names another SHA-256")
		}
	}
	return nil
}

func collect(list []sbomComponent, refs map[string]bool) error {
	for _, c := range list {
		switch {
		case c.Name == "" || c.Type == "":
			return errors.New("SBOM has a component without name or type")
		case c.Ref != "" && refs[c.Ref]:
			return fmt.Errorf("SBOM has the reference %.80q twice", c.Ref)
		case c.Ref != "":
			refs[c.Ref] = true
		}
		if err := collect(c.Components, refs); err != nil {
			return err
		}
	}
	return nil
}

// Part is one of a bill of materials.
type Part struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	PURL    string `json:"purl,omitempty"` // package URL
}

// Parts lists what a bill of materials that CheckSBOM takes names, parts of parts too.
func Parts(text []byte) ([]Part, error) {
	var b sbom
	if err := ocpp.DecodeStrict(text, &b); err != nil {
		return nil, errors.New("SBOM isn't CycloneDX in strict JSON")
	}
	var list []Part
	var walk func([]sbomComponent)
	walk = func(components []sbomComponent) {
		for _, c := range components {
			list = append(list, Part{c.Name, c.Version, c.PURL})
			walk(c.Components)
		}
	}
	walk(b.Components)
	walk(b.Metadata.Component.Components)
	return list, nil
}

// StatementType is the payload type of provenance in its envelope (in-toto v1).
const StatementType = "application/vnd.in-toto+json"

// Types of the statement (in-toto Statement v1, SLSA provenance v1).
const (
	statementForm  = "https://in-toto.io/Statement/v1"
	provenanceForm = "https://slsa.dev/provenance/v1"
)

// Build says where an image comes from.
type Build struct {
	Builder string // URI of who built it, for an allow-list
	Type    string // URI of how
	Source  string // URI of the repository
	Commit  string // in it, 40 or 64 hex digits
}

var commitForm = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

// CheckBuild says what is missing.
func (b Build) CheckBuild() error {
	for _, uri := range []string{b.Builder, b.Type, b.Source} {
		if u, err := url.Parse(uri); err != nil || u.Scheme == "" {
			return fmt.Errorf("provenance: builder, build type and source are URIs, and %.100q isn't one", uri)
		}
	}
	if !commitForm.MatchString(b.Commit) {
		return fmt.Errorf("provenance: the commit %.80q isn't 40 or 64 lower-case hex digits", b.Commit)
	}
	return nil
}

type statement struct {
	Type          string    `json:"_type"`
	Subject       []subject `json:"subject"`
	PredicateType string    `json:"predicateType"`
	Predicate     predicate `json:"predicate"`
}

type subject struct {
	Name   string            `json:"name"`
	URI    string            `json:"uri,omitempty"`
	Digest map[string]string `json:"digest"`
}

type predicate struct {
	Definition struct {
		Type         string            `json:"buildType"`
		Parameters   map[string]string `json:"externalParameters"`
		Dependencies []dependency      `json:"resolvedDependencies"`
	} `json:"buildDefinition"`
	Run struct {
		Builder struct {
			ID string `json:"id"`
		} `json:"builder"`
	} `json:"runDetails"`
}

type dependency struct {
	URI    string            `json:"uri"`
	Digest map[string]string `json:"digest"`
}

// Statement says of an image how it was built (in-toto Statement v1, SLSA v1).
func (b Build) Statement(file string, digest [sha256.Size]byte) ([]byte, error) {
	if err := b.CheckBuild(); err != nil {
		return nil, err
	}
	s := statement{Type: statementForm, PredicateType: provenanceForm, Subject: []subject{{Name: file, Digest: map[string]string{"sha256": hex.EncodeToString(digest[:])}}}}
	d := &s.Predicate.Definition
	d.Type, d.Parameters = b.Type, map[string]string{"source": b.Source}
	d.Dependencies = []dependency{{URI: b.Source, Digest: map[string]string{"gitCommit": b.Commit}}}
	s.Predicate.Run.Builder.ID = b.Builder
	text, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("couldn't write the provenance: %w", err)
	}
	return text, nil
}

// CheckProvenance reads a signed statement and returns who built the image.
func CheckProvenance(ctx context.Context, envelope []byte, cert *x509.Certificate, digest [sha256.Size]byte) (builder string, err error) {
	text, err := release.Unseal(ctx, StatementType, envelope, cert)
	if err != nil {
		return "", err
	}
	var s statement
	if err := ocpp.DecodeStrict(text, &s); err != nil || s.Type != statementForm || s.PredicateType != provenanceForm {
		return "", errors.New("it isn't SLSA provenance v1 in an in-toto statement v1")
	}
	if !slices.ContainsFunc(s.Subject, func(s subject) bool { return s.Digest["sha256"] == hex.EncodeToString(digest[:]) }) {
		return "", errors.New("it is about another image")
	}
	return s.Predicate.Run.Builder.ID, nil
}

// papers checks what the record names by digest: a file that is missing or another
// doesn't hold, one that the record doesn't name isn't part of the release.
func (c *checker) papers(ctx context.Context) {
	r := c.b.Release
	if r == nil {
		return
	}
	c.paper(FileSBOM, r.SBOM, func(text []byte) (string, error) {
		return "CycloneDX", CheckSBOM(text, c.image.SHA256)
	})
	c.paper(FileProvenance, r.Provenance, func(text []byte) (string, error) {
		if err := c.whole(); err != nil {
			return "", err
		}
		builder, err := CheckProvenance(ctx, text, c.b.Certificate, c.image.SHA256)
		return "built by " + builder, err
	})
}

func (c *checker) paper(name, digest string, check func(text []byte) (string, error)) {
	if digest == "" {
		return
	}
	c.add(name, func() (string, error) {
		text, err := c.b.read(name)
		if err != nil {
			return "", err
		}
		if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) != digest {
			return "", fmt.Errorf("it isn't the file that %s names", FileRelease)
		}
		return check(text)
	})
}
