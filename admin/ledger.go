package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"bollard/ledger"
)

// LedgerStore is what the ledger's operations read. *store.Store is one.
type LedgerStore interface {
	Entries(ctx context.Context, from uint64) iter.Seq2[ledger.Entry, error]
	EntryAbout(ctx context.Context, subject string) (ledger.Entry, bool, error)
	TreeHashes(ctx context.Context) tlog.HashReader
	Epochs(ctx context.Context) ([]ledger.Epoch, error)
	Record(ctx context.Context, events ...ledger.Event) error
	// Checkpoints are those kept beside the ledger.
	Checkpoints(ctx context.Context) ([]ledger.Note, error)
	// Pseudonym is what stands for a person in the ledger.
	Pseudonym(ctx context.Context, name string) (string, error)
	// Forget destroys what ties a person to the pseudonym.
	Forget(ctx context.Context, name string, event func(pseudonym string) ledger.Event) (string, error)
}

// Notary signs the ledger as it stands: never less than was recorded before
// the call.
type Notary interface {
	Checkpoint(ctx context.Context) (ledger.Note, error)
}

// VerifyLedger checks the tree, and that it continues checkpoints kept
// elsewhere.
type VerifyLedger struct {
	Checkpoints []string `json:"checkpoints,omitempty"` // signed notes
	// Witnesses are verifier keys; each must have cosigned one of the checkpoints.
	Witnesses []string `json:"witnesses,omitempty"`
}

// LedgerState is what was verified.
type LedgerState struct {
	Entries uint64     `json:"entries"`
	Newest  *time.Time `json:"newest,omitempty"`
	Root    tlog.Hash  `json:"root"`
	Origin  string     `json:"origin,omitempty"` // in force
	Key     string     `json:"key,omitempty"`    // verifies its checkpoints
	// Against is the size of the newest checkpoint given, Beside that of the
	// newest kept with the ledger itself; without the first a tail cut off
	// together with the second can't be seen. 0: none.
	Against uint64 `json:"against,omitempty"`
	Beside  uint64 `json:"beside,omitempty"`
}

// PageLedger asks for entries from a sequence number on.
type PageLedger struct {
	From  uint64 `json:"from"`
	Limit int    `json:"limit"` // 1 to MaxLedgerPage
}

// MaxLedgerPage bounds one answer.
const MaxLedgerPage = 1000

// LedgerPage is a run of entries; an empty one is behind the end.
type LedgerPage struct {
	Entries []ledger.Entry `json:"entries"`
}

// ProveLedger asks for a proof of one entry, or that the ledger continues an
// older checkpoint. One of the three is given.
type ProveLedger struct {
	Seq     uint64 `json:"seq,omitempty"`
	Subject string `json:"subject,omitempty"` // such as a certificate's serial number
	Since   string `json:"since,omitempty"`   // signed note
}

// SpanLedger asks for the entries of a time range: From <= t < To.
type SpanLedger struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

// LedgerSpan are the entries of a range with the one before it, if any, and the
// one after it, which is at the latest that of the export itself, and what proves them in the tree of a checkpoint made for it (ledger.Span).
type LedgerSpan struct {
	First  uint64      `json:"first"`
	Count  uint64      `json:"count"`
	Hashes []tlog.Hash `json:"hashes"`
	Note   string      `json:"note"`
}

// PersonRef names a person: an operator's account, or an approver.
type PersonRef struct {
	Name string `json:"name"`
}

// Person is what stands for one in the ledger.
type Person struct {
	Pseudonym string `json:"pseudonym"`
}

func unknownPerson(name string, err error) error {
	if errors.Is(err, ledger.ErrNobody) {
		return Refusedf("give an account or an approver's name as it was when something was recorded; who was forgotten can't be found", "%w: %q", err, name)
	}
	return err
}

// SignedNote is a text in one of c2sp.org's forms.
type SignedNote struct {
	Text string `json:"text"`
	Size uint64 `json:"size"` // of the tree it is about
}

func (o *operations) registerLedger(r *Registry) {
	Register(r, "ledger.verify", o.ledgerVerify)
	Register(r, "ledger.page", o.ledgerPage)
	Register(r, "ledger.checkpoint", o.ledgerCheckpoint)
	Register(r, "ledger.prove", o.ledgerProve)
	Register(r, "ledger.span", o.ledgerSpan)
	Register(r, "ledger.person", func(ctx context.Context, in PersonRef) (Person, error) {
		pseudonym, err := o.cfg.Ledger.Pseudonym(ctx, in.Name)
		return Person{pseudonym}, unknownPerson(in.Name, err)
	})
	Register(r, "ledger.forget", func(ctx context.Context, in PersonRef) (Person, error) {
		actor := Actor(ctx)
		pseudonym, err := o.cfg.Ledger.Forget(ctx, in.Name, func(pseudonym string) ledger.Event {
			return ledger.Event{Kind: "ledger.forgot", Subject: pseudonym, Actor: actor}
		})
		return Person{pseudonym}, unknownPerson(in.Name, err)
	})
	Register(r, "ledger.epochs", func(ctx context.Context, _ None) ([]ledger.Epoch, error) { return o.cfg.Ledger.Epochs(ctx) })
}

func (o *operations) ledgerVerify(ctx context.Context, in VerifyLedger) (LedgerState, error) {
	return VerifyStored(ctx, o.cfg.Ledger, in)
}

// VerifyStored verifies a stored ledger against the checkpoints beside it and
// those given.
func VerifyStored(ctx context.Context, s LedgerStore, in VerifyLedger) (LedgerState, error) {
	beside, err := s.Checkpoints(ctx)
	if err != nil {
		return LedgerState{}, Failedf(keepCopies, "%w", err)
	}
	return verify(in, func(given []ledger.Note) (ledger.Summary, []ledger.Note, error) {
		sum, err := ledger.Verify(s.Entries(ctx, 1), slices.Concat(beside, given)...)
		return sum, beside, err
	})
}

// VerifyExport verifies what `ledger export` printed.
func VerifyExport(r io.Reader, in VerifyLedger) (LedgerState, error) {
	return verify(in, func(given []ledger.Note) (ledger.Summary, []ledger.Note, error) {
		sum, last, err := ledger.VerifyExport(r, given...)
		return sum, []ledger.Note{last}, err
	})
}

const keepCopies = "keep a copy of the data directory as it is, and compare with exports and checkpoints kept elsewhere"

// verify tells what a verification against the checkpoints given and those
// beside the ledger saw, and that the witnesses cosigned one of the former.
func verify(in VerifyLedger, run func(given []ledger.Note) (ledger.Summary, []ledger.Note, error)) (LedgerState, error) {
	given, err := ParseCheckpoints(in.Checkpoints)
	if err != nil {
		return LedgerState{}, err
	}
	if err := witnessed(given, in.Witnesses); err != nil {
		return LedgerState{}, err
	}
	sum, beside, err := run(given)
	var lost *ledger.CheckpointError
	switch {
	case errors.As(err, &lost) && lost.Problem == ledger.Lost:
		return LedgerState{}, Failedf("what they recorded is only where checkpoints and exports of that time were kept; keep a new checkpoint", "%w", err)
	case err != nil:
		return LedgerState{}, Failedf(keepCopies, "%w", err)
	}
	out := LedgerState{Entries: sum.Count, Newest: instant(sum.LastTime), Root: sum.Root, Against: largest(given), Beside: largest(beside)}
	if n := len(sum.Epochs); n > 0 {
		out.Origin, out.Key = sum.Epochs[n-1].Origin, sum.Epochs[n-1].Key
	}
	return out, nil
}

func largest(list []ledger.Note) uint64 {
	size := uint64(0)
	for _, n := range list {
		size = max(size, n.Size)
	}
	return size
}

// witnessed says which witness cosigned none of the checkpoints.
func witnessed(list []ledger.Note, witnesses []string) error {
	for _, vkey := range witnesses {
		v, err := ledger.NewVerifier(vkey)
		if err != nil {
			return Usagef("a witness publishes its key as NAME+HASH+KEY", "%w", err)
		}
		if !slices.ContainsFunc(list, func(n ledger.Note) bool { return n.SignedBy(v) }) {
			return Failedf("give the checkpoint it signed with --checkpoint", "the witness %s signed none of the checkpoints given", v.Name())
		}
	}
	return nil
}

// ParseCheckpoints reads signed notes.
func ParseCheckpoints(texts []string) ([]ledger.Note, error) {
	var list []ledger.Note
	for _, text := range texts {
		n, err := ledger.ParseNote(text)
		if err != nil {
			return nil, Usagef("give a file with what `bollard ledger checkpoint` printed", "couldn't read the checkpoint: %w", err)
		}
		list = append(list, n)
	}
	return list, nil
}

func (o *operations) ledgerCheckpoint(ctx context.Context, _ None) (SignedNote, error) {
	n, err := o.cfg.Notary.Checkpoint(ctx)
	return SignedNote{n.Signed, n.Size}, err
}

func (o *operations) ledgerProve(ctx context.Context, in ProveLedger) (SignedNote, error) {
	n, err := o.cfg.Notary.Checkpoint(ctx)
	if err != nil {
		return SignedNote{}, err
	}
	if in.Since != "" {
		old, err := ParseCheckpoints([]string{in.Since})
		if err != nil {
			return SignedNote{}, err
		}
		if old[0].Size > n.Size {
			return SignedNote{}, Failedf(keepCopies, "the ledger ends at entry %d, before the checkpoint of %d", n.Size, old[0].Size)
		}
		g, err := ledger.ProveGrowth(old[0].Size, n, o.cfg.Ledger.TreeHashes(ctx))
		return SignedNote{g.String(), n.Size}, err
	}
	e, err := o.entry(ctx, in)
	if err != nil {
		return SignedNote{}, err
	}
	if e.Seq > n.Size {
		return SignedNote{}, fmt.Errorf("entry %d was recorded after the checkpoint of %d", e.Seq, n.Size)
	}
	p, err := ledger.Prove(e, n, o.cfg.Ledger.TreeHashes(ctx))
	if err == nil {
		err = p.Check() // what the store has may be damaged
	}
	return SignedNote{p.String(), n.Size}, err
}

func (o *operations) entry(ctx context.Context, in ProveLedger) (ledger.Entry, error) {
	if in.Seq == 0 {
		e, found, err := o.cfg.Ledger.EntryAbout(ctx, in.Subject)
		if err == nil && !found {
			err = Refusedf("`bollard ledger export` lists all", "no ledger entry is about %q", in.Subject)
		}
		return e, err
	}
	for e, err := range o.cfg.Ledger.Entries(ctx, in.Seq) {
		return e, err
	}
	return ledger.Entry{}, Refusedf("`bollard ledger export` lists all", "there is no ledger entry %d", in.Seq)
}

// ledgerSpan finds the range by the time each entry has: from the first one not
// before it to the last one before its end, whatever a clock did in between.
func (o *operations) ledgerSpan(ctx context.Context, in SpanLedger) (LedgerSpan, error) {
	if in.To.After(o.cfg.Clock()) {
		return LedgerSpan{}, Refusedf("end it now, or earlier", "the range isn't over before %s: nobody can show yet that all of it is there", in.To.Format(time.RFC3339))
	}
	err := o.cfg.Ledger.Record(ctx, ledger.Event{Kind: "ledger.exported", Subject: "range", Actor: Actor(ctx),
		Data: map[string]string{"from": in.From.Format(time.RFC3339), "to": in.To.Format(time.RFC3339)}})
	if err != nil {
		return LedgerSpan{}, err
	}
	n, err := o.cfg.Notary.Checkpoint(ctx)
	if err != nil {
		return LedgerSpan{}, err
	}
	before, last := uint64(0), uint64(0) // entries before the range; the last one before its end
	for e, err := range o.cfg.Ledger.Entries(ctx, 1) {
		if err != nil {
			return LedgerSpan{}, err
		}
		if e.Seq > n.Size {
			break
		}
		if before == e.Seq-1 && e.Time.Before(in.From) {
			before = e.Seq
		}
		if e.Time.Before(in.To) {
			last = e.Seq
		}
	}
	first := max(before, 1)
	out := LedgerSpan{First: first, Count: min(last+1, n.Size) - first + 1, Note: n.Signed}
	s, err := ledger.ProveSpan(out.First, out.Count, n, o.cfg.Ledger.TreeHashes(ctx))
	out.Hashes = s.Hashes
	return out, err
}

func (o *operations) ledgerPage(ctx context.Context, in PageLedger) (LedgerPage, error) {
	if in.Limit < 1 || in.Limit > MaxLedgerPage {
		return LedgerPage{}, Usagef("", "a page has 1 to %d entries", MaxLedgerPage)
	}
	out := LedgerPage{Entries: make([]ledger.Entry, 0, in.Limit)}
	for e, err := range o.cfg.Ledger.Entries(ctx, in.From) {
		if err != nil {
			return LedgerPage{}, err
		}
		out.Entries = append(out.Entries, e)
		if len(out.Entries) == in.Limit {
			break
		}
	}
	return out, nil
}
