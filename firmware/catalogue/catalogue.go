// Package catalogue keeps the releases an operator may roll out.
//
// It promises that what is in it was signed by a manufacturer the operator
// trusts, image and record, and that what is published enough people agreed to,
// over exactly what stations get; and that a revoked release stays revoked.
package catalogue

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"bollard/approval"
	"bollard/firmware/bundle"
	"bollard/firmware/depot"
	"bollard/firmware/release"
	"bollard/ledger"
)

// Errors callers branch on.
var (
	ErrUnknown = errors.New("no such firmware release")
	ErrExists  = errors.New("firmware release is here already, with another record")
	// ErrState: a release goes forward only.
	ErrState = errors.New("firmware release isn't where that can be done")
	// ErrUnjudged says nothing against a release or its signer: what is known of it couldn't
	// be read.
	ErrUnjudged = errors.New("what decides whom to trust couldn't be read")
)

// Entry is a release as it is kept.
type Entry struct {
	Release     *release.Release `json:"release"`
	Digest      string           `json:"digest"`      // SHA-256 of the record in its canonical form
	Envelope    []byte           `json:"envelope"`    // the record as it was signed (DSSE)
	Certificate []byte           `json:"certificate"` // the signer's, DER
	// Chain are CAs above the signer's as they came with the release, DER, nearest first.
	Chain       [][]byte  `json:"chain,omitempty"`
	State       State     `json:"state"`
	Reason      string    `json:"reason,omitempty"`    // why it came to its state
	Approval    string    `json:"approval,omitempty"`  // nonce of what published it
	Successor   string    `json:"successor,omitempty"` // ID of what superseded it
	AddedAt     time.Time `json:"added_at"`
	ChangedAt   time.Time `json:"changed_at,omitzero"` // when it came to its state
	PublishedAt time.Time `json:"published_at,omitzero"`
	RevokedAt   time.Time `json:"revoked_at,omitzero"`
	RemovedAt   time.Time `json:"removed_at,omitzero"` // when its image went
}

// Store keeps entries. Every write is durable, together with its ledger events,
// before the method returns.
type Store interface {
	MakerStore
	// AddRelease keeps a release with its papers, by name; it refuses a second one of
	// the same ID with ErrExists.
	AddRelease(ctx context.Context, e Entry, papers map[string][]byte, events ...ledger.Event) error
	// Paper is one of a release, or ErrUnknown.
	Paper(ctx context.Context, id, name string) ([]byte, error)
	Releases(ctx context.Context) ([]Entry, error) // newest first
	// UpdateReleases reads, changes and writes all in one transaction; what change
	// doesn't touch stays.
	UpdateReleases(ctx context.Context, change func(list []*Entry) ([]ledger.Event, error)) error
}

// Config of a Catalogue.
type Config struct {
	Store Store
	Depot *depot.Depot
	// Trust judges a manufacturer's chain now: over CAs that came with its releases to a
	// root the operator trusts for firmware, in its dates, not revoked as far as is known;
	// ErrUnjudged where that couldn't be told.
	Trust  func(ctx context.Context, signer *x509.Certificate, between []*x509.Certificate) (Anchor, error)
	Makers []Maker // for whom the roots sign
	// Logs are the transparency logs that count, for who asks for proof.
	Logs []bundle.Log
	// Keep is how long images are kept from their publication, if that is longer than
	// the ten years that the law asks for.
	Keep time.Duration
	// Station is what people read of a station before they make an exception for it; any
	// change of it voids what they agreed to. nil: nobody makes one.
	Station func(ctx context.Context, station string) (text string, err error)
	// Approved tells whether enough people agreed.
	Approved func(ctx context.Context, action, scope, text string) (approval.Grant, error)
	Clock    func() time.Time
}

// Catalogue is safe for concurrent use. One process alone has its store.
type Catalogue struct {
	cfg Config

	mu     sync.Mutex     // held while a release comes, or an image goes
	coming map[string]int // releases on their way here, by the digest of their image
}

// New needs all of Config but Clock.
func New(cfg Config) (*Catalogue, error) {
	if cfg.Store == nil || cfg.Depot == nil || cfg.Trust == nil || cfg.Approved == nil {
		return nil, errors.New("a firmware catalogue needs Store, Depot, Trust and Approved")
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	return &Catalogue{cfg: cfg, coming: map[string]int{}}, nil
}

// Bundle is a release as its manufacturer gives it away.
type Bundle struct {
	Envelope    []byte
	Certificate *x509.Certificate
	Chain       []*x509.Certificate // CAs above it, nearest first
	Papers      map[string][]byte   // bill of materials, provenance and proof of a log, as bundle names them
	// Metadata gives a file of the manufacturer's metadata, or fs.ErrNotExist; nil: the
	// release came without.
	Metadata func(name string) ([]byte, error)
	Image    func(to io.Writer) error // writes the image
}

// Add verifies a release and keeps it with its image. One that is here already
// stays as it is, and only its image is taken in again: backups have none, and
// disks lose some.
func (c *Catalogue) Add(ctx context.Context, actor string, in Bundle) (e Entry, again bool, err error) {
	now := c.cfg.Clock()
	r, err := release.Open(ctx, in.Envelope, in.Certificate)
	if err != nil {
		return Entry{}, false, err
	}
	e = Entry{Release: r, Envelope: in.Envelope, Certificate: in.Certificate.Raw, State: Added, AddedAt: now, ChangedAt: now}
	for _, ca := range in.Chain {
		e.Chain = append(e.Chain, ca.Raw)
	}
	if e.Digest, err = r.Digest(); err != nil {
		return Entry{}, false, err
	}
	if err := c.Verify(ctx, &e); err != nil {
		return Entry{}, false, err
	}
	if err := papers(ctx, &in, r); err != nil {
		return Entry{}, false, err
	}
	known, again, err := c.fits(ctx, &e)
	if err != nil {
		return Entry{}, false, err
	}
	if !again { // what is here was delivered once: only its image is of interest, which its digest proves
		if err := c.delivered(ctx, actor, &in, r); err != nil {
			return Entry{}, false, err
		}
	}
	defer c.comes(r.SHA256)()
	if err := c.makeRoom(ctx); err != nil {
		return Entry{}, false, err
	}
	want := depot.Image{SHA256: r.SHA256, SHA512: r.SHA512, MD5: r.MD5, Size: int64(r.Size)} //nolint:gosec // at most 2^53
	if _, err := c.cfg.Depot.Add(ctx, want, in.Image); err != nil {
		return Entry{}, false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if known, again, err = c.fits(ctx, &e); err != nil { // another one came meanwhile
		return Entry{}, false, errors.Join(err, c.unneeded(ctx, r.SHA256))
	}
	if again {
		err := c.cfg.Store.UpdateReleases(ctx, func(list []*Entry) ([]ledger.Event, error) {
			o, err := pick(list, known.Release.ID)
			if err != nil {
				return nil, err
			}
			o.RemovedAt = time.Time{}
			known = *o
			return []ledger.Event{event("firmware.image-added", actor, o)}, nil
		})
		return known, true, err
	}
	return e, false, c.cfg.Store.AddRelease(ctx, e, in.Papers, event(Added.kind(), actor, &e))
}

// comes keeps an image from being removed until its release is here, or isn't to be.
func (c *Catalogue) comes(sha256 string) (done func()) {
	add := func(n int) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.coming[sha256] += n; c.coming[sha256] == 0 {
			delete(c.coming, sha256)
		}
	}
	add(1)
	return func() { add(-1) }
}

// unneeded removes the image of a release that isn't to be, unless another has it. mu is
// held.
func (c *Catalogue) unneeded(ctx context.Context, sha256 string) error {
	list, err := c.cfg.Store.Releases(ctx)
	if err != nil || c.coming[sha256] > 1 || slices.ContainsFunc(list, func(o Entry) bool { return o.Release.SHA256 == sha256 && o.RemovedAt.IsZero() }) {
		return err
	}
	return c.cfg.Depot.Remove(sha256)
}

// makeRoom removes the images that no release has: a kill, or a full disk, may have come
// between one and its record.
func (c *Catalogue) makeRoom(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	list, err := c.cfg.Store.Releases(ctx)
	if err != nil {
		return err
	}
	return c.cfg.Depot.Sweep(func(digest string) bool {
		return c.coming[digest] > 0 || slices.ContainsFunc(list, func(e Entry) bool { return e.Release.SHA256 == digest && e.RemovedAt.IsZero() })
	})
}

// fits finds the release if it is here, and refuses another of its ID or another
// image of its sequence. A newer record of the same image renews it.
func (c *Catalogue) fits(ctx context.Context, e *Entry) (known Entry, here bool, err error) {
	list, err := c.cfg.Store.Releases(ctx)
	if err != nil {
		return Entry{}, false, err
	}
	for _, o := range list {
		switch {
		case o.Release.ID == e.Release.ID && o.Digest == e.Digest:
			return o, true, nil
		case o.Release.ID == e.Release.ID:
			return Entry{}, false, fmt.Errorf("%w: %s", ErrExists, e.Release.ID)
		case o.Release.Vendor == e.Release.Vendor && o.Release.Component == e.Release.Component && o.Release.Sequence == e.Release.Sequence && o.Release.SHA256 != e.Release.SHA256 && o.State != Revoked && overlap(o.Release, e.Release):
			return Entry{}, false, fmt.Errorf("release %s has sequence %d of %s already, with another image: which of the two is the newer nobody could tell", o.Release.ID, o.Release.Sequence, o.Release.Component)
		}
	}
	return Entry{}, false, nil
}

// overlap: there is a model both are for.
func overlap(a, b *release.Release) bool {
	return slices.ContainsFunc(a.Models, func(m release.Model) bool {
		return slices.ContainsFunc(b.Models, func(o release.Model) bool { return m.Vendor == o.Vendor && m.Model == o.Model })
	})
}

// Verify judges a release as things are now: record, signatures over the image's
// digest, and the trust in who made them.
func (c *Catalogue) Verify(ctx context.Context, e *Entry) error {
	cert, err := x509.ParseCertificate(e.Certificate)
	if err != nil {
		return fmt.Errorf("couldn't read the signing certificate: %w", err)
	}
	signed, err := release.Open(ctx, e.Envelope, cert)
	if err != nil {
		return err
	}
	digest, err := signed.Digest()
	if err != nil {
		return err
	}
	kept, err := e.Release.Digest() // what everybody goes by, not only what was signed
	if err != nil {
		return err
	}
	if digest != e.Digest || digest != kept {
		return errors.New("the record isn't the one that was signed")
	}
	sum, err := hexDigest(signed.SHA256)
	if err != nil {
		return err
	}
	for _, s := range signed.Signatures {
		if err := s.Verify(cert, sum); err != nil {
			return fmt.Errorf("signature in %s: %w", s.Dialect, err)
		}
	}
	if err := release.CheckCertificate(cert, false); err != nil { // stations check none of it
		return err
	}
	above, err := e.above()
	if err != nil {
		return err
	}
	m, err := c.maker(ctx, cert, above)
	if err != nil {
		return err
	}
	return m.may(signed)
}

// above are the CAs that came with a release.
func (e *Entry) above() ([]*x509.Certificate, error) {
	var list []*x509.Certificate
	for _, der := range e.Chain {
		ca, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("couldn't read a CA above the signing certificate: %w", err)
		}
		list = append(list, ca)
	}
	return list, nil
}

// Trusted says why firmware signed with a certificate isn't the manufacturer's. OCPP
// carries the certificate alone: the CAs above it are those of any release.
func (c *Catalogue) Trusted(ctx context.Context, signer *x509.Certificate) error {
	if err := release.CheckCertificate(signer, false); err != nil { // stations check none of it
		return err
	}
	list, err := c.List(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnjudged, err)
	}
	var known []*x509.Certificate
	for i := range list {
		above, err := list[i].above()
		if err != nil {
			return err
		}
		known = append(known, above...)
	}
	_, err = c.cfg.Trust(ctx, signer, known)
	return err
}

// Proven says why a release isn't in a transparency log that the operator trusts, with
// as many witnesses as that asks for, or nil.
func (c *Catalogue) Proven(ctx context.Context, e *Entry) error {
	r := e.Release
	if r.Log == release.NoLog {
		return errors.New("log: none, so it is in no transparency log")
	}
	i := slices.IndexFunc(c.cfg.Logs, func(l bundle.Log) bool { return l.Key.Name() == r.Log })
	if i < 0 {
		return fmt.Errorf("nobody trusts the log %.100q: firmware.logs in bollard.yaml has those that count", r.Log)
	}
	text, err := c.Paper(ctx, r.ID, bundle.FileProof)
	switch {
	case errors.Is(err, ErrUnknown):
		return err
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnjudged, err)
	}
	_, err = c.cfg.Logs[i].Check(r, text)
	return err
}

// Fault says why a release couldn't go to any station now, or nil.
func (c *Catalogue) Fault(ctx context.Context, e *Entry) error {
	if err := c.Verify(ctx, e); err != nil {
		return err
	}
	if now := c.cfg.Clock(); !now.Before(e.Release.Expires) {
		return fmt.Errorf("it expired at %s", e.Release.Expires.Format(time.RFC3339))
	}
	_, err := c.cfg.Depot.Has(e.Release.SHA256)
	return err
}

// List returns all, newest first.
func (c *Catalogue) List(ctx context.Context) ([]Entry, error) { return c.cfg.Store.Releases(ctx) }

// Paper is what goes with a release, as it was signed: ErrUnknown if it has none of
// the name.
func (c *Catalogue) Paper(ctx context.Context, id, name string) ([]byte, error) {
	return c.cfg.Store.Paper(ctx, id, name)
}

// Find looks one up by its ID or the beginning of it, or by its version if only
// one has it.
func (c *Catalogue) Find(ctx context.Context, ref string) (Entry, error) {
	list, err := c.List(ctx)
	if err != nil {
		return Entry{}, err
	}
	found := slices.DeleteFunc(list, func(e Entry) bool {
		return ref == "" || !strings.HasPrefix(e.Release.ID, strings.ToLower(ref)) && e.Release.Version != ref
	})
	switch len(found) {
	case 0:
		return Entry{}, fmt.Errorf("release %.80q: %w", ref, ErrUnknown)
	case 1:
		return found[0], nil
	}
	return Entry{}, fmt.Errorf("release %.80q: %d are called so, give more of the ID", ref, len(found))
}

// Publish lets a release go to stations, once enough people agreed. It revokes
// what its record revokes, if its signer may speak for that.
func (c *Catalogue) Publish(ctx context.Context, actor, ref string) (Entry, error) {
	e, err := c.Find(ctx, ref)
	if err != nil {
		return Entry{}, err
	}
	if !e.State.Before(Published) {
		return Entry{}, fmt.Errorf("%w: %s is %s", ErrState, e.Release.ID, e.State)
	}
	if err := c.Fault(ctx, &e); err != nil {
		return Entry{}, fmt.Errorf("release %s can't be published: %w", e.Release.ID, err)
	}
	grants, err := c.publishing(ctx, &e)
	if err != nil {
		return Entry{}, err
	}
	signer, err := x509.ParseCertificate(e.Certificate)
	if err != nil {
		return Entry{}, fmt.Errorf("couldn't read the signing certificate: %w", err)
	}
	above, err := e.above()
	if err != nil {
		return Entry{}, err
	}
	reach, err := c.maker(ctx, signer, above)
	if err != nil {
		return Entry{}, err
	}
	now := c.cfg.Clock()
	err = c.cfg.Store.UpdateReleases(ctx, func(list []*Entry) ([]ledger.Event, error) {
		var events []ledger.Event
		var by []string
		for _, g := range grants {
			events, by = append(events, g.Used(actor)), append(by, g.By...)
		}
		for _, o := range list {
			switch {
			case o.Release.ID == e.Release.ID:
				if o.Digest != e.Digest {
					return nil, fmt.Errorf("%w: %s was changed meanwhile", ErrState, o.Release.ID)
				}
				published, err := o.Move(Published, actor, "", now)
				if err != nil {
					return nil, err
				}
				o.Approval = grants[0].Request.Nonce
				published.Data["approval"], published.Data["approved-by"] = o.Approval, strings.Join(by, ",")
				published.People = []string{"approved-by"}
				events, e = append(events, published), *o
			case slices.Contains(e.Release.Revokes, o.Release.ID) && o.State.Before(Revoked):
				if err := reach.may(o.Release); err != nil {
					return nil, fmt.Errorf("release %s revokes %s, which it can't: %w", e.Release.ID, o.Release.ID, err)
				}
				revoked, err := o.Move(Revoked, actor, "revoked by release "+e.Release.ID, now)
				if err != nil {
					return nil, err
				}
				events = append(events, revoked)
			}
		}
		return events, nil
	})
	return e, err
}

// Revoke ends a release for good.
func (c *Catalogue) Revoke(ctx context.Context, actor, ref, reason string) (Entry, error) {
	return c.move(ctx, actor, ref, Revoked, reason)
}

// Withdraw takes a release back: nothing of it begins any more.
func (c *Catalogue) Withdraw(ctx context.Context, actor, ref, reason string) (Entry, error) {
	return c.move(ctx, actor, ref, Withdrawn, reason)
}

func (c *Catalogue) move(ctx context.Context, actor, ref string, to State, reason string) (Entry, error) {
	e, err := c.Find(ctx, ref)
	if err != nil {
		return Entry{}, err
	}
	err = c.cfg.Store.UpdateReleases(ctx, func(list []*Entry) ([]ledger.Event, error) {
		o, err := pick(list, e.Release.ID)
		if err != nil {
			return nil, err
		}
		ev, err := o.Move(to, actor, reason, c.cfg.Clock())
		e = *o
		return []ledger.Event{ev}, err
	})
	return e, err
}

func pick(list []*Entry, id string) (*Entry, error) {
	if i := slices.IndexFunc(list, func(e *Entry) bool { return e.Release.ID == id }); i >= 0 {
		return list[i], nil
	}
	return nil, fmt.Errorf("release %s: %w", id, ErrUnknown)
}

// Supersede says that a newer release, which stations are offered, takes the place
// of one: updates to that begin no more. The newer one must be for all its models.
func (c *Catalogue) Supersede(ctx context.Context, actor, ref, by string) (Entry, error) {
	e, err := c.Find(ctx, ref)
	if err != nil {
		return Entry{}, err
	}
	newer, err := c.Find(ctx, by)
	if err != nil {
		return Entry{}, err
	}
	if err := c.Fault(ctx, &newer); err != nil {
		return Entry{}, fmt.Errorf("release %s can't be sent in place of %s: %w", newer.Release.ID, e.Release.ID, err)
	}
	err = c.cfg.Store.UpdateReleases(ctx, func(list []*Entry) ([]ledger.Event, error) {
		o, err := pick(list, e.Release.ID)
		if err != nil {
			return nil, err
		}
		n, err := pick(list, newer.Release.ID)
		if err != nil {
			return nil, err
		}
		ev, err := o.Yield(n, actor, c.cfg.Clock())
		e = *o
		return []ledger.Event{ev}, err
	})
	return e, err
}

// Yield moves a release to Superseded in favour of a newer one.
func (e *Entry) Yield(to *Entry, actor string, now time.Time) (ledger.Event, error) {
	o, n := e.Release, to.Release
	switch {
	case !to.State.Offered():
		return ledger.Event{}, fmt.Errorf("%w: %s is %s: nothing would be offered in place of %s", ErrState, n.ID, to.State, o.ID)
	case n.Vendor != o.Vendor || n.Component != o.Component || n.Sequence < o.Sequence || n.ID == o.ID:
		return ledger.Event{}, fmt.Errorf("release %s isn't a newer one of %s %s", n.ID, o.Vendor, o.Component)
	case slices.ContainsFunc(o.Models, func(m release.Model) bool { return !slices.ContainsFunc(n.Models, m.Within) }):
		return ledger.Event{}, fmt.Errorf("release %s isn't for all the models of %s", n.ID, o.ID)
	}
	ev, err := e.Move(Superseded, actor, "superseded by release "+n.ID, now)
	if err == nil {
		e.Successor, ev.Data["by"] = n.ID, n.ID
	}
	return ev, err
}
