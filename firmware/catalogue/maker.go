package catalogue

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"bollard/firmware/bundle"
	"bollard/firmware/release"
	"bollard/firmware/tuf"
	"bollard/ledger"
)

// Maker is a manufacturer as the operator trusts it.
type Maker struct {
	Name    string
	Roots   []string // SHA-256 of the roots its signers stand under, in lower-case hex
	Vendors []string // it may sign for, to the letter as BootNotification has them
	Models  []string // of those, with * at the end for any that begin so; none: all
	// Metadata is the first root.json of its repository (firmware/tuf); nil: its
	// releases come without metadata.
	Metadata []byte
	own      bool // the operator, who may sign for all
}

// Anchor is what the chain of a signer's certificate ends in.
type Anchor struct {
	Root *x509.Certificate
	Own  bool // of the operator's own hierarchy
}

// MakerStore keeps what was seen of manufacturers' metadata. Every write is durable,
// together with its ledger events, before the method returns.
type MakerStore interface {
	// UpdateMaker reads, changes and writes what is kept under a name in one
	// transaction; nil is nothing yet.
	UpdateMaker(ctx context.Context, name string, change func(*tuf.Seen) (*tuf.Seen, []ledger.Event, error)) error
}

// maker is who stands behind a signer. A root that nobody named signs for the vendor
// that its subject's O names, which it said before it was trusted.
func (c *Catalogue) maker(ctx context.Context, signer *x509.Certificate, above []*x509.Certificate) (Maker, error) {
	a, err := c.cfg.Trust(ctx, signer, above)
	if err != nil || a.Own {
		return Maker{own: a.Own}, err
	}
	sum := sha256.Sum256(a.Root.Raw)
	hash := hex.EncodeToString(sum[:])
	for _, m := range c.cfg.Makers {
		if slices.Contains(m.Roots, hash) {
			return m, nil
		}
	}
	return Maker{Name: a.Root.Subject.String(), Vendors: a.Root.Subject.Organization}, nil
}

// may says why a manufacturer can't speak for a release, its own or one that it
// revokes, or nil.
func (m *Maker) may(r *release.Release) error {
	if m.own {
		return nil
	}
	named := func(vendor string) error {
		if !slices.Contains(m.Vendors, vendor) {
			return fmt.Errorf("%s may sign for the vendors %q, not for %q: firmware.makers in bollard.yaml says for whom", m.Name, m.Vendors, vendor)
		}
		return nil
	}
	if err := named(r.Vendor); err != nil {
		return err
	}
	for _, of := range r.Models {
		if err := named(of.Vendor); err != nil {
			return err
		}
		if len(m.Models) > 0 && !slices.ContainsFunc(m.Models, func(pattern string) bool { return fits(pattern, of.Model) }) {
			return fmt.Errorf("%s may sign for the models %q, not for %q: firmware.makers in bollard.yaml says for which", m.Name, m.Models, of.Model)
		}
	}
	return nil
}

func fits(pattern, model string) bool {
	begin, open := strings.CutSuffix(pattern, "*")
	return model == pattern || open && strings.HasPrefix(model, begin)
}

// delivered verifies a delivery against what was seen of its manufacturer, and keeps
// what is newer. A manufacturer with metadata delivers nothing without.
func (c *Catalogue) delivered(ctx context.Context, actor string, in *Bundle, r *release.Release) error {
	m, err := c.maker(ctx, in.Certificate, in.Chain)
	if err != nil || m.Metadata == nil {
		return err
	}
	if in.Metadata == nil {
		return fmt.Errorf("%s signs its releases' files with metadata: add the delivery it made (`bollard firmware pack`), not a folder", m.Name)
	}
	first := sha256.Sum256(m.Metadata)
	return c.cfg.Store.UpdateMaker(ctx, m.Name+" "+hex.EncodeToString(first[:]), func(seen *tuf.Seen) (*tuf.Seen, []ledger.Event, error) {
		if seen == nil {
			begin, err := tuf.Begin(m.Metadata)
			if err != nil {
				return nil, nil, fmt.Errorf("the root of %s: %w", m.Name, err)
			}
			seen = &begin
		}
		next, targets, err := seen.Update(in.Metadata, c.cfg.Clock())
		if err == nil {
			err = named(targets, in, r)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("the metadata of %s: %w", m.Name, err)
		}
		if next.Equal(*seen) {
			return seen, nil, nil
		}
		version, err := next.Version()
		if err != nil {
			return nil, nil, err
		}
		sum := sha256.Sum256(next.Targets)
		return &next, []ledger.Event{{Kind: "firmware.metadata", Subject: m.Name, Actor: actor, Data: map[string]string{
			"root-version": fmt.Sprint(version), "targets-sha256": hex.EncodeToString(sum[:]), "release": r.ID,
		}}}, nil
	})
}

// named says which file of a delivery the metadata doesn't name as it is.
func named(targets tuf.Targets, in *Bundle, r *release.Release) error {
	image, err := hexDigest(r.SHA256)
	if err != nil {
		return err
	}
	faults := []error{targets.Check(r.ID+"/"+r.File, int64(r.Size), image)} //nolint:gosec // at most 2^53
	check := func(name string, text []byte) {
		faults = append(faults, targets.Check(r.ID+"/"+name, int64(len(text)), sha256.Sum256(text)))
	}
	check(bundle.FileEnvelope, in.Envelope)
	check(bundle.FileCertificate, release.EncodeCertificate(in.Certificate))
	if len(in.Chain) > 0 {
		check(bundle.FileChain, release.EncodeChain(in.Chain))
	}
	for name, text := range in.Papers {
		check(name, text)
	}
	return errors.Join(faults...)
}

// papers checks what goes with a release: what the record names has to be there, as
// it was signed, since it is kept as long as the release.
func papers(ctx context.Context, in *Bundle, r *release.Release) error {
	image, err := hexDigest(r.SHA256)
	if err != nil {
		return err
	}
	for _, p := range []struct {
		name, digest string
		check        func(text []byte) error
	}{
		{bundle.FileSBOM, r.SBOM, func(text []byte) error { return bundle.CheckSBOM(text, image) }},
		{bundle.FileProvenance, r.Provenance, func(text []byte) error {
			_, err := bundle.CheckProvenance(ctx, text, in.Certificate, image)
			return err
		}},
	} {
		text, ok := in.Papers[p.name]
		switch sum := sha256.Sum256(text); {
		case p.digest == "" && ok:
			return fmt.Errorf("%s isn't part of the release: its record names none", p.name)
		case p.digest == "":
		case !ok:
			return fmt.Errorf("the release's record names %s, which isn't there", p.name)
		case hex.EncodeToString(sum[:]) != p.digest:
			return fmt.Errorf("%s isn't the file that the release's record names", p.name)
		default:
			if err := p.check(text); err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
		}
	}
	return nil
}
