package gate

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"bollard/approval"
	"bollard/firmware/catalogue"
	"bollard/firmware/depot"
	"bollard/firmware/job"
	"bollard/firmware/origin"
	"bollard/firmware/release"
	"bollard/internal/safehttp"
	"bollard/ocpp"
)

// Block is why an update isn't sent, in one word or two.
type Block string

// The blocks.
const (
	NoDoor         Block = "no-door"         // stations have nowhere to download
	Malformed      Block = "malformed"       // it can't be read in exactly one way
	Signed         Block = "signed-message"  // its sender signed what would have to be rewritten
	Unsigned       Block = "unsigned"        // neither certificate nor signature
	HalfSigned     Block = "half-signed"     // one of the two
	Busy           Block = "busy"            // the station has an update that isn't over
	InQuarantine   Block = "quarantined"     // until a person has looked at the station
	UnknownRelease Block = "unknown-release" // what it leads to is no release
	Unapproved     Block = "unapproved"      // nobody published it
	WrongModel     Block = "wrong-model"
	IsRevoked      Block = "revoked"
	Frozen         Block = "frozen" // expired, or not valid yet
	Rollback       Block = "rollback"
	Epoch          Block = "epoch"
	Path           Block = "path" // not from what is installed
	Missing        Block = "missing"
	BadSignature   Block = "bad-signature"
	BadChain       Block = "bad-chain"
	NoDialect      Block = "no-dialect"  // none that the model verifies
	NoProof        Block = "no-proof"    // of a transparency log, which Strict asks for
	Location       Block = "location"    // it can't be fetched from there
	Size           Block = "size"        // what is there is too large
	Digest         Block = "digest"      // what is there is another image
	Fetching       Block = "fetching"    // what is there isn't known yet
	TooFar         Block = "too-far"     // it is to begin in a long time
	Publish        Block = "publish"     // a local controller of no site
	NoChecksum     Block = "no-checksum" // the release has none that PublishFirmware could name
	OtherSite      Block = "other-site"  // its local controller is of another one
	Ring           Block = "ring"        // its rollout hasn't come to the station
	OnHold         Block = "halted"      // its rollout was halted
	Installing     Block = "installing"  // a Reset could break that off
	Ended          Block = "ended"       // cancelled before it was sent
	Failure        Block = "failure"     // of Bollard's
)

// code is the block as a reasonCode of StatusInfo, of at most 20 characters.
func (b Block) code() string {
	out := strings.Builder{}
	out.WriteString("Gw")
	for word := range strings.SplitSeq(string(b), "-") {
		out.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return out.String()
}

// blocked is a Block with what the operator is told.
type blocked struct {
	block Block
	text  string
}

func (b *blocked) Error() string { return string(b.block) + ": " + b.text }

func block(b Block, text string) error { return &blocked{b, text} }

// against makes a block of what the catalogue says against a release; what couldn't be read
// says nothing against it, and the same may pass later.
func against(ctx context.Context, b Block, err error) error {
	if errors.Is(err, catalogue.ErrUnjudged) || ctx.Err() != nil {
		return err
	}
	return block(b, err.Error())
}

// asked is what a back end wants, in any version.
type asked struct {
	action                 string
	requestID              *int // nil: UpdateFirmware of 1.6
	location               string
	retrieve, install      time.Time // zero: at once
	retries, retryInterval *int
	certificate, signature string
	sha256                 string           // of the payload
	upgraded               bool             // 1.6 UpdateFirmware that goes on signed
	foundAt                time.Time        // when its location led to the release's image
	rollout                string           // whose it is, if nobody asked
	checksum               string           // MD5, of PublishFirmware
	publication            *job.Publication // what becomes of it there
	near                   *job.Job         // the publication its location is of
	plain                  bool             // it goes without a signature
	// grants are the exceptions it passed by, and excused what they let pass.
	grants  map[catalogue.Action]approval.Grant
	excused []Block
}

// read decodes a request. Its fields keep to the limits of their version.
func read(v ocpp.Version, action string, payload []byte) (*asked, error) {
	a := &asked{}
	var retrieve, install string
	switch {
	case action == ocpp.ActionPublishFirmware:
		var err error
		if a, err = readPublish(payload); err != nil {
			return nil, err
		}
	case v == ocpp.V16 && action == ocpp.ActionUpdateFirmware:
		var m ocpp.UpdateFirmwareRequest16
		if err := ocpp.DecodeStrict(payload, &m); err != nil {
			return nil, err
		}
		a.location, retrieve, a.retries, a.retryInterval, a.upgraded = m.Location, m.RetrieveDate, m.Retries, m.RetryInterval, true
	default:
		var m ocpp.UpdateFirmwareRequest
		if err := ocpp.DecodeStrict(payload, &m); err != nil {
			return nil, err
		}
		if m.RequestID == nil || m.Firmware == nil {
			return nil, errors.New("requestId or firmware is missing")
		}
		a.requestID, a.location, a.certificate, a.signature = m.RequestID, m.Firmware.Location, m.Firmware.SigningCertificate, m.Firmware.Signature
		retrieve, install, a.retries, a.retryInterval = m.Firmware.RetrieveDateTime, m.Firmware.InstallDateTime, m.Retries, m.RetryInterval
	}
	a.action, a.sha256 = action, hexSum(string(payload))
	limit := ocpp.MaxFirmwareLocation
	if v == ocpp.V21 {
		limit = 2000
	}
	for _, f := range []struct {
		name, text string
		limit      int
	}{{"location", a.location, limit}, {"signingCertificate", a.certificate, ocpp.MaxFirmwareCertificate}, {"signature", a.signature, ocpp.MaxFirmwareSignature}} {
		if utf8.RuneCountInString(f.text) > f.limit {
			return nil, errors.New(f.name + " is too long")
		}
	}
	if a.location == "" || strings.ContainsFunc(a.location, func(r rune) bool { return r > unicode.MaxASCII || !unicode.IsPrint(r) || r == ' ' }) {
		return nil, errors.New("location is no URL in printable ASCII")
	}
	if action == ocpp.ActionPublishFirmware { // it begins at once
		return a, nil
	}
	var err error
	if a.retrieve, err = moment(retrieve); err != nil {
		return nil, errors.New("retrieveDateTime is no time")
	}
	if install != "" {
		if a.install, err = moment(install); err != nil {
			return nil, errors.New("installDateTime is no time")
		}
	}
	return a, nil
}

func hexSum(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// moment reads a time of OCPP. Real back ends leave out the zone.
func moment(text string) (time.Time, error) {
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		at, err = time.Parse("2006-01-02T15:04:05", text)
	}
	return at.UTC(), err
}

// vet finds the release that is meant, and says why the station can't have it.
func (g *Gate) vet(ctx context.Context, v ocpp.Version, st Station, a *asked, rule Rule, origins Origins) (catalogue.Entry, error) {
	signed, certified := a.signature != "", a.certificate != ""
	var unsigned error
	switch {
	case a.upgraded && !rule.Upgrade:
		unsigned = block(Unsigned, "UpdateFirmware of OCPP 1.6 carries no signature; upgrade: true for the model sends it signed")
	case a.upgraded:
	case signed != certified:
		return catalogue.Entry{}, block(HalfSigned, "signingCertificate and signature go together")
	case !signed && !certified && (v != ocpp.V16 && !rule.SignFill):
		unsigned = block(Unsigned, "it carries no signature (L02); sign_fill: true for the model completes it")
	case !signed && v == ocpp.V16:
		return catalogue.Entry{}, block(Unsigned, "SignedUpdateFirmware without signature")
	}
	if unsigned != nil {
		may, err := g.plain(ctx, st)
		if err != nil {
			return catalogue.Entry{}, err
		}
		if !may {
			return catalogue.Entry{}, unsigned
		}
	}
	if last := g.cfg.Clock().Add(longestAhead); a.retrieve.After(last) || a.install.After(last) {
		return catalogue.Entry{}, block(TooFar, "it is to begin in more than 30 days: until then the station could get no other")
	}
	if err := g.quarantine(ctx, st.Key); err != nil {
		return catalogue.Entry{}, err
	}
	var err error
	if a.near, err = g.near(ctx, st, a.location); err != nil {
		return catalogue.Entry{}, err
	}
	e, err := g.find(ctx, a, origins)
	if err != nil {
		return catalogue.Entry{}, err
	}
	excuse := func(err error) error { return g.excuse(ctx, st, a, &e, err) }
	if unsigned != nil {
		if err := excuse(unsigned); err != nil {
			return e, err
		}
		a.plain = true
	}
	if err := g.fits(ctx, st, &e, excuse); err != nil {
		return e, err
	}
	if err := excuse(g.turn(e.Release.ID, st.Key)); err != nil {
		return e, err
	}
	if signed {
		if err := g.vouched(ctx, a, &e); err != nil {
			return e, err
		}
	}
	return e, nil
}

// quarantine blocks a station that was put there and not let out.
func (g *Gate) quarantine(ctx context.Context, station string) error {
	in, err := g.cfg.Store.InQuarantine(ctx, station)
	if err != nil {
		return err
	}
	if in {
		return block(InQuarantine, "the station installed what it didn't verify; `bollard firmware clear` lets it out once somebody has looked at it")
	}
	return nil
}

// longestAhead is how far ahead a download or an installation may be: the URL is
// good until then.
const longestAhead = 30 * 24 * time.Hour

// historyJobs is how many of a station's former updates are looked at.
const historyJobs = 100

// find maps a request to a release: by our own location or a local controller's, by its
// signature or checksum, or by what its location leads to.
func (g *Gate) find(ctx context.Context, a *asked, origins Origins) (catalogue.Entry, error) {
	list, err := g.cfg.Catalogue.List(ctx)
	if err != nil {
		return catalogue.Entry{}, err
	}
	by := func(is func(*release.Release) bool) (catalogue.Entry, bool) {
		found := slices.DeleteFunc(slices.Clone(list), func(e catalogue.Entry) bool { return !is(e.Release) })
		if len(found) == 0 {
			return catalogue.Entry{}, false
		}
		return g.counts(found), true
	}
	digest, ours := "", false
	switch {
	case a.near != nil:
		digest, ours = a.near.SHA256, true
	case g.cfg.Door != nil:
		digest, ours = g.cfg.Door.Digest(a.location)
	}
	if !ours && a.checksum != "" {
		if e, ok := by(a.byChecksum); ok {
			return e, nil
		}
	}
	if !ours && a.signature != "" {
		if e, ok := by(func(r *release.Release) bool {
			return slices.ContainsFunc(r.Signatures, func(s release.Signature) bool { return s.Value == a.signature })
		}); ok {
			if e.State.Offered() && !g.inDates(&e) { // a newer record may have renewed it
				e, _ = by(func(r *release.Release) bool { return r.SHA256 == e.Release.SHA256 && r.Sequence == e.Release.Sequence })
			}
			return e, nil
		}
	}
	if !ours && origins != nil && len(list) > 0 {
		lead, err := fetched(ctx, origins, a.location, nil)
		if err != nil {
			return catalogue.Entry{}, err
		}
		digest = lead.SHA256
	}
	e, ok := by(func(r *release.Release) bool { return digest != "" && r.SHA256 == digest })
	if !ok {
		return catalogue.Entry{}, block(UnknownRelease, "what it leads to is no release here; `bollard firmware add` takes one in")
	}
	return e, nil
}

// here sees to it that a release's image is in the depot: one that was lost is taken
// in from where the back end has it.
func (g *Gate) here(ctx context.Context, a *asked, r *release.Release) error {
	_, err := g.cfg.Depot.Has(r.SHA256)
	if err == nil {
		return nil
	}
	if !errors.Is(err, depot.ErrUnknown) {
		return err
	}
	if _, ours := g.cfg.Door.Digest(a.location); ours || g.cfg.Origins == nil || a.rollout != "" {
		return block(Missing, "the image isn't in the depot: add the release again")
	}
	_, err = fetched(ctx, g.cfg.Origins, a.location, &depot.Image{SHA256: r.SHA256, SHA512: r.SHA512, MD5: r.MD5, Size: int64(r.Size)}) //nolint:gosec // at most 2^53
	return err
}

// fetched asks for what a location leads to, for half of the time there is: the other
// half is the station's, to answer in.
func fetched(ctx context.Context, origins Origins, location string, want *depot.Image) (origin.Lead, error) {
	if until, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(until)/2)
		defer cancel()
	}
	lead, err := origins.Find(ctx, location, want)
	if underway, ok := errors.AsType[*origin.Underway](err); ok {
		return lead, block(Fetching, underway.Error())
	}
	if fault, ok := errors.AsType[*origin.Fault](err); ok {
		switch fault.Rule {
		case "":
			return lead, block(Digest, fault.Reason)
		case safehttp.RuleSize:
			return lead, block(Size, fault.Error())
		}
		return lead, block(Location, fault.Error())
	}
	return lead, err
}

// counts chooses among records of one image: one that is offered, in its dates if
// there is one.
func (g *Gate) counts(list []catalogue.Entry) catalogue.Entry {
	best := list[0]
	for _, e := range list {
		if e.State.Offered() && (!best.State.Offered() || !g.inDates(&best) && g.inDates(&e)) {
			best = e
		}
	}
	return best
}

func (g *Gate) inDates(e *catalogue.Entry) bool {
	now := g.cfg.Clock()
	return !now.Before(e.Release.NotBefore) && now.Before(e.Release.Expires)
}

// offered says why no station could be given a release now, or nil.
func (g *Gate) offered(e *catalogue.Entry) error {
	r, now := e.Release, g.cfg.Clock()
	switch {
	case e.State == catalogue.Revoked:
		return block(IsRevoked, "release "+r.ID+" is revoked")
	// Before what may be excused: no exception lets an expired one pass.
	case now.Before(r.NotBefore):
		return block(Frozen, "release "+r.ID+" isn't valid yet")
	case !now.Before(r.Expires):
		return block(Frozen, "release "+r.ID+" has expired: a newer record of it is needed")
	case e.State == catalogue.Halted:
		return block(OnHold, "release "+r.ID+" is halted: "+e.Reason)
	case !e.State.Offered():
		return block(Unapproved, "release "+r.ID+" is "+string(e.State))
	}
	return nil
}

// fits judges a release for a station. What it finds may be excused.
func (g *Gate) fits(ctx context.Context, st Station, e *catalogue.Entry, excuse func(error) error) error {
	if err := excuse(g.offered(e)); err != nil {
		return err
	}
	r := e.Release
	if !r.Covers(st.Vendor, st.Model, st.Hardware) {
		return block(WrongModel, otherModel(r, st))
	}
	floor, err := g.floor(ctx, st, r.Component)
	if err != nil {
		return err
	}
	if r.SecurityEpoch < floor.SecurityEpoch {
		err = block(Epoch, "release "+r.ID+" is of a security epoch below the station's")
	}
	if err = excuse(err); err != nil {
		return err
	}
	if r.Sequence <= floor.Sequence {
		err = block(Rollback, "release "+r.ID+" isn't newer than what the station has run")
	} else if !r.Follows(floor.Sequence) {
		err = block(Path, "release "+r.ID+" can't be installed over what the station runs")
	}
	if err = excuse(err); err != nil {
		return err
	}
	for _, q := range r.Requires {
		other, err := g.floor(ctx, st, q.Component)
		if err != nil {
			return err
		}
		if other.Sequence < q.Sequence {
			if err := excuse(block(Path, "release "+r.ID+" needs "+q.Component+" first")); err != nil {
				return err
			}
		}
	}
	return nil
}

// never excuses nothing.
func never(err error) error { return err }

// otherModel says why a release isn't for a station, and what would make it so.
func otherModel(r *release.Release, st Station) string {
	why := "release " + r.ID + " isn't for " + st.Vendor + " " + st.Model
	for _, m := range r.Models {
		switch {
		case m.Vendor != st.Vendor || m.Model != st.Model:
		case st.Hardware == "":
			return why + " of an unknown revision, but for " + strings.Join(m.Hardware, ", ") + ": `bollard station group " + st.Key + " --hardware REVISION` says which it is"
		default:
			return why + " " + st.Hardware + ", but for " + strings.Join(m.Hardware, ", ")
		}
	}
	return why
}

// floor is the least a station may be given: what it was brought to, and what its
// boot shows it to run.
func (g *Gate) floor(ctx context.Context, st Station, component string) (job.Floor, error) {
	if st.Unread != nil {
		return job.Floor{}, st.Unread
	}
	f, err := g.cfg.Store.Floor(ctx, st.Key, component)
	if err != nil {
		return f, err
	}
	list, err := g.cfg.Catalogue.List(ctx)
	if err != nil {
		return f, err
	}
	for _, e := range list {
		if e.Release.Component == component && st.runs(e.Release, st.Firmware) {
			f = f.Raised(job.Floor{Sequence: e.Release.Sequence, SecurityEpoch: e.Release.SecurityEpoch})
		}
	}
	return f, nil
}

// runs says whether a version that a station shows is a release's.
func (s Station) runs(r *release.Release, version string) bool {
	return r.Version == strings.TrimSpace(version) && r.Covers(s.Vendor, s.Model, s.Hardware)
}

// vouched checks the back end's own certificate and signature: what the station is
// sent is the release's, but a back end that sends another has been lied to.
func (g *Gate) vouched(ctx context.Context, a *asked, e *catalogue.Entry) error {
	if slices.ContainsFunc(e.Release.Signatures, func(s release.Signature) bool { return s.Value == a.signature }) {
		return nil
	}
	raw, err := release.DecodeSignature(a.signature)
	if err != nil {
		return block(BadSignature, err.Error())
	}
	p, rest := pem.Decode([]byte(a.certificate))
	if p == nil || p.Type != "CERTIFICATE" || strings.TrimSpace(string(rest)) != "" {
		return block(BadChain, "signingCertificate isn't one PEM certificate")
	}
	cert, err := x509.ParseCertificate(p.Bytes)
	if err != nil {
		return block(BadChain, "signingCertificate can't be read")
	}
	sum, err := hex.DecodeString(e.Release.SHA256)
	if err != nil || len(sum) != sha256.Size {
		return errors.New("internal error: a release without a digest was kept")
	}
	if !slices.ContainsFunc(release.Dialects(), func(d release.Dialect) bool { return d.Verify(cert.PublicKey, [sha256.Size]byte(sum), raw) == nil }) {
		return block(BadSignature, "the back end's signature isn't one of this image")
	}
	if err := g.cfg.Catalogue.Trusted(ctx, cert); err != nil {
		return against(ctx, BadChain, err)
	}
	return nil
}
