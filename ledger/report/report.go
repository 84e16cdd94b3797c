// Package report makes evidence of a time range for those who ask for it:
// authorities, auditors, a manufacturer's customers.
//
// It promises that a report shows, offline and to somebody who has only the
// ledger's public key, that its entries are those of the ledger, unchanged, and
// all of its range.
package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"bollard/ledger"
)

// form is the first member of a report.
const form = "bollard ledger report v1"

// Report is the evidence of a time range.
type Report struct {
	Form string    `json:"report"`
	From time.Time `json:"from"` // first moment of the range
	To   time.Time `json:"to"`   // first moment after it
	Laws []string  `json:"laws"` // the findings are for
	// Findings are what the entries say; the entries prove it.
	Findings []Finding `json:"findings"`
	// Entries are those of the range, in order, with the one before it, if there
	// is any, and the one after it: those show that none is missing at its ends.
	Entries []ledger.Entry `json:"entries"`
	// Proof are the hashes beside the entries in the checkpoint's tree.
	Proof      []tlog.Hash `json:"proof"`
	Checkpoint string      `json:"checkpoint"` // signed note
}

// Finding is what the range has for a clause.
type Finding struct {
	Duty
	Counts map[string]int `json:"counts"` // by kind; empty: nothing was recorded
	Seqs   []uint64       `json:"seqs"`   // of the entries
}

// Request is what a report is asked for.
type Request struct {
	From, To time.Time // From <= t < To
	Laws     []string  // names of Laws; none: all
}

// Check names what is wrong with the request.
func (q *Request) Check() error {
	if !q.From.Before(q.To) {
		return fmt.Errorf("the range is empty: it begins at %s and ends before %s", q.From.Format(time.RFC3339), q.To.Format(time.RFC3339))
	}
	var known []string
	for _, law := range Laws() {
		known = append(known, law.Name)
	}
	for _, name := range q.Laws {
		if !slices.Contains(known, name) {
			return fmt.Errorf("no law is named %q: there are %s", name, strings.Join(known, ", "))
		}
	}
	if len(q.Laws) == 0 {
		q.Laws = known
	}
	return nil
}

// New makes a report from the entries of the range with its neighbours, as
// Span.Check takes them. It is checked as a reader checks it.
func New(q Request, entries []ledger.Entry, s ledger.Span) (*Report, error) {
	if err := q.Check(); err != nil {
		return nil, err
	}
	r := &Report{
		Form: form, From: q.From.UTC(), To: q.To.UTC(), Laws: slices.Clone(q.Laws),
		Entries: slices.Clone(entries), Proof: s.Hashes, Checkpoint: s.Note.Signed,
	}
	if r.Proof == nil {
		r.Proof = []tlog.Hash{}
	}
	for i := range r.Entries {
		r.Entries[i].Hashes = nil // the proof stands for them
	}
	r.Findings = r.findings()
	return r, r.check(s.Note)
}

// Inside are the entries of the range alone.
func (r *Report) Inside() []ledger.Entry {
	list := r.Entries
	if len(list) > 0 && list[0].Time.Before(r.From) {
		list = list[1:]
	}
	if n := len(list); n > 0 && !list[n-1].Time.Before(r.To) {
		list = list[:n-1]
	}
	return list
}

func (r *Report) findings() []Finding {
	list := []Finding{}
	for _, d := range duties() {
		if !slices.Contains(r.Laws, d.Law) {
			continue
		}
		f := Finding{Duty: d, Counts: map[string]int{}, Seqs: []uint64{}}
		f.kinds = nil
		for _, e := range r.Inside() {
			if d.covers(e.Kind) {
				f.Counts[e.Kind]++
				f.Seqs = append(f.Seqs, e.Seq)
			}
		}
		list = append(list, f)
	}
	return list
}

// check judges everything but the signature.
func (r *Report) check(n ledger.Note) error {
	if r.Form != form {
		return fmt.Errorf("it isn't a %q", form)
	}
	if len(r.Entries) == 0 {
		return errors.New("it has no entry, not even one beside its range")
	}
	if err := (&Request{From: r.From, To: r.To, Laws: slices.Clone(r.Laws)}).Check(); err != nil {
		return err
	}
	if err := (ledger.Span{First: r.Entries[0].Seq, Hashes: r.Proof, Note: n}).Check(r.Entries); err != nil {
		return err
	}
	first, last := r.Entries[0], r.Entries[len(r.Entries)-1]
	inside := r.Inside()
	switch {
	case len(inside) > 0 && (inside[0].Time.Before(r.From) || !inside[len(inside)-1].Time.Before(r.To)):
		return errors.New("it has more than its range and the entry on either side")
	case first.Seq > 1 && !first.Time.Before(r.From):
		return fmt.Errorf("it begins in its range, with entry %d: entries before it may be missing", first.Seq)
	case last.Time.Before(r.To):
		// Also at the checkpoint's end: an old checkpoint would hide what came later.
		return fmt.Errorf("it ends in its range, with entry %d of %d: entries after it may be missing", last.Seq, n.Size)
	}
	return nil
}

// Write is the report as a file.
func (r *Report) Write() ([]byte, error) {
	raw, err := json.Marshal(r)
	return append(raw, '\n'), err
}

// Is says whether a file begins as a report does.
func Is(head []byte) bool {
	return bytes.HasPrefix(head, []byte(`{"report":`))
}

// Origin names the ledger a report says it is of. Nothing is judged.
func Origin(raw []byte) (string, error) {
	var r struct {
		Checkpoint string `json:"checkpoint"`
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		return "", fmt.Errorf("couldn't read the report: %w", err)
	}
	n, err := ledger.ParseNote(r.Checkpoint)
	if err != nil {
		return "", fmt.Errorf("couldn't read the report: %w", err)
	}
	return n.Origin, nil
}

// Read reads what Write wrote, byte for byte, and judges it: the entries are
// those of the checkpoint's tree, none is missing in the range, the findings are
// what the entries say, and one of the keys signed the checkpoint.
func Read(raw []byte, keys ...note.Verifier) (*Report, ledger.Note, error) {
	var r Report
	wrong := func(err error) (*Report, ledger.Note, error) {
		return nil, ledger.Note{}, fmt.Errorf("the report can't be trusted: %w", err)
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		return wrong(err)
	}
	n, err := ledger.ParseNote(r.Checkpoint)
	if err != nil {
		return wrong(err)
	}
	if !slices.ContainsFunc(keys, n.SignedBy) {
		return wrong(fmt.Errorf("its checkpoint of %s isn't signed by the ledger's key", n.Origin))
	}
	if err := r.check(n); err != nil {
		return wrong(err)
	}
	r.Findings = r.findings()
	again, err := r.Write()
	if err != nil {
		return wrong(err)
	}
	if !bytes.Equal(again, raw) {
		return wrong(errors.New("it isn't what was written: its findings or its spelling were altered"))
	}
	return &r, n, nil
}
