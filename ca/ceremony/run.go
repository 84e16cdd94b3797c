package ceremony

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path"
	"strings"
	"time"

	"bollard/ca"
	"bollard/internal/failpoint"
	"bollard/keys"
	"bollard/ledger"
)

// Store is the root's own: records, and the ledger that becomes the transcript.
type Store interface {
	ca.Store
	// Entries streams the ledger from an entry on.
	Entries(ctx context.Context, from uint64) iter.Seq2[ledger.Entry, error]
}

// Config of a run.
type Config struct {
	Script *Script
	Inputs *os.Root // with the requests
	Dir    *os.Root // the root's own folder; what is made goes into one below it
	Store  Store
	Keeper *keys.Keeper
	// KeyBase is where the key is in a rehearsal, in place of the script's; "": there.
	KeyBase string
	// Encrypted says that key files are encrypted to a passphrase.
	Encrypted bool
	Rehearsal bool
	KeysThere bool     // keys lay in files in Dir before this run
	Present   []string // roles
	Program   string   // version of this program
	Actor     string
	Clock     func() time.Time
	Log       *slog.Logger
	Say       func(line string) // told of each step
}

// Result is what a ceremony made.
type Result struct {
	Folder string   `json:"folder"` // below Config.Dir
	Files  []string `json:"files"`
	Digest string   `json:"sha256"` // of the transcript
}

// run is one ceremony under way.
type run struct {
	Config
	base    string
	subs    []ca.SubCA
	next    ca.NextRoot
	past    past
	folder  string
	out     *os.Root
	outputs map[string]string // SHA-256 by file, of this ceremony
}

// past is what the ledger of the root says of ceremonies.
type past struct {
	entries   []ledger.Entry
	ended     bool              // this script's is over
	abandoned bool              // this script's was, by a later one
	open      string            // title of one that isn't, of another script
	openBy    string            // digest of that
	resumed   bool              // this script's was begun
	before    map[string]string // data of the newest that ended, of another script
	rehearsal string            // "yes", "no", "" before the first
}

// Run does what a script says, or what is left of it. An error says what kept it from
// going on; the same call goes on from there.
func Run(ctx context.Context, cfg Config) (Result, error) {
	r := &run{Config: cfg, base: cfg.Script.Keys, outputs: map[string]string{}, folder: cfg.Script.digest[:12]}
	if cfg.KeyBase != "" {
		r.base = cfg.KeyBase
	}
	if err := r.judge(ctx); err != nil {
		return Result{}, err
	}
	if err := r.begin(ctx); err != nil {
		return Result{}, err
	}
	defer func() { _ = r.out.Close() }() // a directory
	if r.past.ended {
		return r.again(ctx)
	}
	root, err := ca.OpenOfflineRoot(ctx, r.rootConfig())
	if err != nil {
		return Result{}, err
	}
	if err := r.steps(ctx, root); err != nil {
		return Result{}, err
	}
	return r.transcribe(ctx, root)
}

func (r *run) rootConfig() ca.OfflineRootConfig {
	s := r.Script
	return ca.OfflineRootConfig{
		InitConfig: ca.InitConfig{
			Store: r.Store, Keeper: r.Keeper, KeyBase: r.base, Kind: ca.Kind(s.Hierarchy), Algorithm: keys.Algorithm(s.Algorithm),
			StatusURL: s.Status, Organisation: s.Organisation, Country: s.Country, Actor: r.Actor, Clock: r.Clock, Log: r.Log,
		},
		Name: s.Name, Rehearsal: r.Rehearsal,
	}
}

// judge refuses what can't be done as the script says, before anything is.
func (r *run) judge(ctx context.Context) error {
	s := r.Script
	if err := s.checkPresent(r.Present); err != nil {
		return err
	}
	for i, c := range s.Certify {
		data, err := r.input(fmt.Sprintf("certify[%d]", i), ".request", c.Request, c.SHA256)
		if err != nil {
			return err
		}
		sub, err := ca.ReadSubCA(ca.Kind(s.Hierarchy), c.Level, s.Organisation, s.Country, data)
		if err != nil {
			return s.fail(fmt.Sprintf("certify[%d].request", i), "%s: %v", c.Request, err)
		}
		r.subs = append(r.subs, sub)
	}
	if s.NextRoot != (NextRoot{}) {
		if err := r.judgeNext(); err != nil {
			return err
		}
	}
	if !keys.Held(r.base) && !r.Encrypted && !r.Rehearsal {
		return s.fail("keys", "the root's key would be a file that anybody can use: set BOLLARD_KEY_PASSPHRASE to encrypt it, or name a token")
	}
	if err := r.look(ctx); err != nil {
		return err
	}
	if r.past.ended { // what is left is to write files that are gone
		return nil
	}
	if err := s.checkTime(r.Clock(), r.past.resumed); err != nil || r.past.resumed {
		return err
	}
	return r.plan(ctx)
}

// input is a file beside the script, which says which one it is.
func (r *run) input(key, fileKey, name, sum string) ([]byte, error) {
	data, err := r.Inputs.ReadFile(name)
	if err != nil {
		return nil, r.Script.fail(key+fileKey, "couldn't read %s beside the script: %v", name, err)
	}
	if got := hashOf(data); got != sum {
		return nil, r.Script.fail(key+".sha256", "%s is another file: its SHA-256 is %s", name, got)
	}
	return data, nil
}

func (r *run) judgeNext() error {
	n := r.Script.NextRoot
	data, err := r.input("next_root", ".certificate", n.Certificate, n.SHA256)
	if err != nil {
		return err
	}
	p, err := ca.PlanOfflineRoot(r.rootConfig())
	if err != nil {
		return err
	}
	if r.next, err = p.ReadNextRoot(data); err != nil {
		return r.Script.fail("next_root.certificate", "%s: %v", n.Certificate, err)
	}
	return nil
}

// plan refuses a script that couldn't be brought to its end: once begun, no other one may.
func (r *run) plan(ctx context.Context) error {
	s := r.Script
	p, err := ca.PlanOfflineRoot(r.rootConfig())
	if err != nil {
		return err
	}
	for i, sub := range r.subs {
		if err := p.CheckSubCA(ctx, sub); err != nil {
			return s.fail(fmt.Sprintf("certify[%d].request", i), "%s: %v", s.Certify[i].Request, err)
		}
	}
	if n := s.NextRoot; n != (NextRoot{}) {
		if err := p.CheckNextRoot(ctx, r.next); err != nil {
			return s.fail("next_root.certificate", "%s: %v", n.Certificate, err)
		}
	}
	for i, revoked := range s.Revoke {
		if err := p.CheckRevocation(ctx, revoked.Serial); err != nil {
			return s.fail(fmt.Sprintf("revoke[%d].serial", i), "%v", err)
		}
	}
	return nil
}

// look reads what was done in the folder before.
func (r *run) look(ctx context.Context) error {
	p := &r.past
	began := map[string]map[string]string{}
	for e, err := range r.Store.Entries(ctx, 1) {
		if err != nil {
			return err
		}
		p.entries = append(p.entries, e)
		mine := e.Subject == r.Script.digest
		switch {
		case e.Kind == kindBegan:
			p.rehearsal, p.resumed, p.open, p.openBy = e.Data["rehearsal"], mine, "", ""
			began[e.Subject] = e.Data
			if !mine {
				p.open, p.openBy = e.Data["title"], e.Subject
			}
		case e.Kind == kindAbandoned:
			p.abandoned = p.abandoned || mine
		case e.Kind == kindEnded && mine:
			p.ended = true
		case e.Kind == kindEnded:
			p.open, p.openBy, p.before = "", "", began[e.Subject]
		case e.Kind == kindOutput && p.resumed:
			r.outputs[e.Subject] = e.Data["sha256"]
		}
		if p.ended {
			break // what came later is another ceremony's
		}
	}
	return r.fits()
}

// fits holds the script against what was done before.
func (r *run) fits() error {
	p, s := r.past, r.Script
	rehearsal := yes(r.Rehearsal)
	switch {
	case p.rehearsal != "" && p.rehearsal != rehearsal:
		return errors.New("rehearsals and ceremonies each have a folder of their own: this one had the other")
	case r.Rehearsal && p.rehearsal == "" && r.KeysThere:
		return errors.New("there are keys here, and no record of a rehearsal that made them: one deletes keys at its end, and has a folder of its own")
	case p.abandoned:
		return errors.New("this script's ceremony was abandoned by a later one")
	case p.ended || p.resumed:
		return nil
	case p.openBy != "" && s.Abandons != p.openBy:
		return fmt.Errorf("the ceremony %q was begun here and isn't over: run it to its end with its own script first; if that can't be, a script with `root: kept` goes on without it (`abandons: \"%s\"`), and a new root has another folder", p.open, p.openBy)
	case p.openBy == "" && s.Abandons != "":
		return s.fail("abandons", "no ceremony is under way here")
	case s.Root == rootNew && p.before != nil:
		return s.fail("root", "there is a root here from the ceremony %q: `root: kept` goes on with it, a new one has a folder of its own", p.before["title"])
	case s.Root == rootKept && p.before == nil:
		return s.fail("root", "there is no root here that could be kept")
	case s.Root == rootNew:
		return nil
	}
	for key, now := range map[string]string{"hierarchy": s.Hierarchy, "keys": r.base, "name": s.Name, "organisation": s.Organisation} {
		if was := p.before[key]; was != now {
			return s.fail(key, "is %q, and was %q when the root was made", now, was)
		}
	}
	return nil
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// begin records that it begins, or goes on, and who is present.
func (r *run) begin(ctx context.Context) error {
	s, present := r.Script, strings.Join(r.Script.Roles, ", ")
	var events []ledger.Event
	if s.Abandons != "" {
		events = append(events, ledger.Event{Kind: kindAbandoned, Subject: s.Abandons, Actor: r.Actor, Data: map[string]string{"by": s.digest}})
	}
	event := ledger.Event{Kind: kindBegan, Subject: s.digest, Actor: r.Actor, Data: map[string]string{
		"title": s.Title, "hierarchy": s.Hierarchy, "organisation": s.Organisation, "name": s.Name, "keys": r.base, "root": s.Root,
		"present": present, "rehearsal": yes(r.Rehearsal), "program": r.Program,
	}}
	switch {
	case r.past.ended:
		r.Say("the ceremony is over: nothing is done again")
	case r.past.resumed:
		if r.Clock().After(s.until) {
			r.Say("the script's time is over: what was begun in it goes on")
		}
		events, event = nil, ledger.Event{Kind: kindResumed, Subject: s.digest, Actor: r.Actor, Data: map[string]string{"present": present}}
		fallthrough
	default:
		if err := r.Store.Record(ctx, append(events, event)...); err != nil {
			return err
		}
		r.Say(fmt.Sprintf("%s: script %s, present: %s", event.Kind, s.digest, present))
	}
	failpoint.Hit("ceremony.began")
	if err := r.Dir.Mkdir(r.folder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("couldn't make the folder of what is made: %w", err)
	}
	var err error
	r.out, err = r.Dir.OpenRoot(r.folder)
	return err
}

// steps are those of the script, each of which is done once.
func (r *run) steps(ctx context.Context, root *ca.OfflineRoot) error {
	s := r.Script
	custody, err := r.Keeper.Custody(ctx, root.KeyURI(), keys.RoleCA)
	if err != nil {
		return err
	}
	key := ledger.Event{Kind: kindKey, Subject: hashOf(root.Certificate().RawSubjectPublicKeyInfo), Actor: r.Actor, Data: map[string]string{
		"holder": custody.Holder, "exportable": custody.Exportable,
	}}
	if !r.recorded(key) {
		if err := r.Store.Record(ctx, key); err != nil {
			return err
		}
	}
	r.Say(fmt.Sprintf("the root is %s; its key is in %s; exportable: %s", root.Certificate().Subject, key.Data["holder"], key.Data["exportable"]))
	if err := r.certificates(ctx, root); err != nil {
		return err
	}
	for i, revoked := range s.Revoke {
		if err := root.Revoke(ctx, revoked.Serial, revoked.Reason); err != nil {
			return fmt.Errorf("revoke[%d]: %w", i, err)
		}
	}
	if there, err := r.there(ListFile); err != nil {
		return err
	} else if !there {
		der, err := root.List(ctx, time.Duration(s.ListDays)*24*time.Hour)
		if err != nil {
			return err
		}
		failpoint.Hit("ceremony.list")
		if err := r.put(ctx, ListFile, "the root's revocation list", pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})); err != nil {
			return err
		}
	}
	ended := ledger.Event{Kind: kindEnded, Subject: s.digest, Actor: r.Actor, Data: map[string]string{"root": fingerprint(root.Certificate())}}
	if err := r.Store.Record(ctx, ended); err != nil {
		return err
	}
	failpoint.Hit("ceremony.ended")
	return nil
}

// certificates are the root's, and those that it gives CAs.
func (r *run) certificates(ctx context.Context, root *ca.OfflineRoot) error {
	if err := r.put(ctx, RootFile, "the root", certificates(root.Certificate().Raw)); err != nil {
		return err
	}
	failpoint.Hit("ceremony.root")
	for i, c := range r.Script.Certify {
		issued, err := root.Certify(ctx, r.subs[i], fmt.Sprintf("ceremony:%s:%d", r.Script.digest, i))
		if err != nil {
			return fmt.Errorf("certify[%d], %s: %w", i, c.Request, err)
		}
		what := fmt.Sprintf("%s, for request %s", issued.Certificate.Subject, c.SHA256)
		if err := r.put(ctx, c.To, what, certificates(issued.Certificate.Raw, root.Certificate().Raw)); err != nil {
			return err
		}
		failpoint.Hit("ceremony.certified")
	}
	n := r.Script.NextRoot
	if n == (NextRoot{}) {
		return nil
	}
	issued, err := root.CertifyNext(ctx, r.next, fmt.Sprintf("ceremony:%s:next", r.Script.digest))
	if err != nil {
		return fmt.Errorf("next_root, %s: %w", n.Certificate, err)
	}
	what := fmt.Sprintf("the next root, %s, for certificate %s", issued.Certificate.Subject, n.SHA256)
	return r.put(ctx, n.To, what, certificates(issued.Certificate.Raw, root.Certificate().Raw))
}

// recorded tells whether the ledger has such an entry already.
func (r *run) recorded(event ledger.Event) bool {
	for _, e := range r.past.entries {
		if e.Kind == event.Kind && e.Subject == event.Subject {
			return true
		}
	}
	return false
}

// there tells whether a file that the ceremony made is still as it was.
func (r *run) there(name string) (bool, error) {
	have, recorded := r.outputs[name]
	if !recorded {
		return false, nil
	}
	data, err := r.out.ReadFile(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case hashOf(data) != have:
		return false, fmt.Errorf("%s isn't what the ceremony made (SHA-256 %s): bring that back, or move the file away to have it made again", path.Join(r.folder, name), have)
	}
	r.Say(fmt.Sprintf("%s is there", name))
	return true, nil
}

// put makes a file, whole under its name or not at all, and records its digest.
func (r *run) put(ctx context.Context, name, what string, data []byte) error {
	if there, err := r.there(name); err != nil || there {
		return err
	}
	if err := replace(r.out, name, data); err != nil {
		return fmt.Errorf("couldn't make %s: %w", path.Join(r.folder, name), err)
	}
	sum := hashOf(data)
	event := ledger.Event{Kind: kindOutput, Subject: name, Actor: r.Actor, Data: map[string]string{"what": what, "sha256": sum}}
	if r.outputs[name] != sum {
		if err := r.Store.Record(ctx, event); err != nil {
			return err
		}
		r.outputs[name] = sum
	}
	r.Say(fmt.Sprintf("%s: %s, SHA-256 %s", name, what, sum))
	return nil
}

// transcribe writes the ledger as it stood at the ceremony's end, signed.
func (r *run) transcribe(ctx context.Context, root *ca.OfflineRoot) (Result, error) {
	entries, err := r.entries(ctx)
	if err != nil {
		return Result{}, err
	}
	data, err := write(entries, root.Certificate(), root.SignStatement)
	if err != nil {
		return Result{}, err
	}
	t, err := ReadTranscript(data)
	if err != nil {
		return Result{}, fmt.Errorf("internal error: the transcript doesn't verify: %w", err)
	}
	if err := replace(r.out, TranscriptFile, data); err != nil {
		return Result{}, fmt.Errorf("couldn't make the transcript: %w", err)
	}
	r.Say(fmt.Sprintf("%s: signed by the root's key; SHA-256 of its entries %s", TranscriptFile, t.Digest))
	return r.result(t.Digest, true), nil
}

// entries are the ledger's up to the ceremony's end.
func (r *run) entries(ctx context.Context) ([]ledger.Entry, error) {
	var entries []ledger.Entry
	for e, err := range r.Store.Entries(ctx, 1) {
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
		if e.Kind == kindEnded && e.Subject == r.Script.digest {
			break
		}
	}
	return entries, nil
}

// again holds what a ceremony that is over made against its records, and writes from them
// what is gone. The root's key is opened for that only.
func (r *run) again(ctx context.Context) (Result, error) {
	files := r.result("", false).Files
	gone := false
	for _, name := range files[:len(files)-1] {
		there, err := r.there(name)
		if err != nil {
			return Result{}, err
		}
		gone = gone || !there
	}
	listed, err := r.there(ListFile)
	if err != nil {
		return Result{}, err
	}
	if !listed {
		r.Say(ListFile + " is gone, and no copy is kept: a ceremony with `root: kept` signs another")
	}
	t, err := r.transcript()
	if err != nil {
		return Result{}, err
	}
	if t != nil {
		r.Say(fmt.Sprintf("%s is there; SHA-256 of its entries %s", TranscriptFile, t.Digest))
		if !gone {
			return r.result(t.Digest, listed), nil
		}
	}
	root, err := ca.OpenOfflineRoot(ctx, r.rootConfig())
	if err != nil {
		return Result{}, err
	}
	if err := r.certificates(ctx, root); err != nil {
		return Result{}, err
	}
	if t != nil {
		return r.result(t.Digest, listed), nil
	}
	result, err := r.transcribe(ctx, root)
	return r.result(result.Digest, listed), err
}

// transcript is the one of this ceremony that is there already, nil without. It counts
// if it tells what the ledger does, to the letter.
func (r *run) transcript() (*Transcript, error) {
	data, err := r.out.ReadFile(TranscriptFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	}
	lines, err := linesOf(r.past.entries)
	if err != nil {
		return nil, err
	}
	t, err := ReadTranscript(data)
	if err == nil && t.Digest != hashOf(lines) {
		err = errors.New("it tells of something else than the ledger here")
	}
	if err != nil {
		return nil, fmt.Errorf("%s isn't what the ceremony made: move it away to have it made again: %w", path.Join(r.folder, TranscriptFile), err)
	}
	return t, nil
}

func (r *run) result(digest string, list bool) Result {
	out := Result{Folder: r.folder, Files: []string{RootFile}, Digest: digest}
	for _, c := range r.Script.Certify {
		out.Files = append(out.Files, c.To)
	}
	if to := r.Script.NextRoot.To; to != "" {
		out.Files = append(out.Files, to)
	}
	if list {
		out.Files = append(out.Files, ListFile)
	}
	out.Files = append(out.Files, TranscriptFile)
	return out
}

// replace makes a file appear whole under its name, on disk.
func replace(dir *os.Root, name string, data []byte) error {
	draft := name + draftSuffix
	f, err := dir.OpenFile(draft, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := dir.Rename(draft, name); err != nil {
		return err
	}
	d, err := dir.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func certificates(list ...[]byte) []byte {
	var text []byte
	for _, der := range list {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return text
}

func hashOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
