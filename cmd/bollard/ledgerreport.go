package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"bollard/admin"
	"bollard/ledger"
	"bollard/ledger/report"
)

// reportFlags are those of ledger export for a time range.
type reportFlags struct {
	from, to, format string
	laws             []string
}

// asked says whether a range was asked for, and refuses half a question.
func (f *reportFlags) asked() (bool, error) {
	switch {
	case f.from != "":
		return true, nil
	case f.to != "" || len(f.laws) > 0 || f.format != "json":
		return false, admin.Usagef("give --from, the first day of the range, too", "--to, --law and --format are for the export of a time range")
	}
	return false, nil
}

// request reads the flags; the range ends now if nothing else is said.
func (f *reportFlags) request(now time.Time) (report.Request, error) {
	q := report.Request{To: now.UTC().Truncate(time.Millisecond), Laws: f.laws} // as exact as the ledger
	var err error
	if q.From, err = parseMoment(f.from); err != nil {
		return q, err
	}
	if f.to != "" {
		if q.To, err = parseMoment(f.to); err != nil {
			return q, err
		}
	}
	if f.format != "json" && f.format != "html" {
		return q, admin.Usagef("", "--format is json or html, not %q", f.format)
	}
	if err := q.Check(); err != nil {
		return q, admin.Usagef("", "%w", err)
	}
	return q, nil
}

// parseMoment reads a day, which begins at midnight UTC, or a moment.
func parseMoment(text string) (time.Time, error) {
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, admin.Usagef("", "%q is neither a day (2026-11-01, from midnight UTC) nor a moment (2026-11-01T12:00:00Z)", text)
}

// writeReport writes the evidence of a time range.
func (c *cli) writeReport(ctx context.Context, v admin.Invoker, f reportFlags, out io.Writer) error {
	q, err := f.request(time.Now())
	if err != nil {
		return err
	}
	found, err := admin.Call[admin.SpanLedger, admin.LedgerSpan](ctx, v, "ledger.span", admin.SpanLedger{From: q.From, To: q.To})
	if err != nil {
		return err
	}
	n, err := ledger.ParseNote(found.Note)
	if err != nil {
		return err
	}
	var entries []ledger.Entry
	err = eachEntry(ctx, v, found.First, found.First+found.Count-1, func(e ledger.Entry) error {
		entries = append(entries, e)
		return nil
	})
	if err != nil {
		return err
	}
	r, err := report.New(q, entries, ledger.Span{First: found.First, Hashes: found.Hashes, Note: n})
	if err != nil {
		return admin.Failedf("`bollard ledger verify` says more", "%w", err)
	}
	if f.format == "html" {
		epochs, err := admin.Call[admin.None, []ledger.Epoch](ctx, v, "ledger.epochs", admin.None{})
		if err != nil {
			return err
		}
		return r.WritePage(out, n, epochs[len(epochs)-1].Key)
	}
	raw, err := r.Write()
	if err == nil {
		_, err = out.Write(raw)
	}
	return err
}

// eachEntry hands over the entries from a sequence number to another.
func eachEntry(ctx context.Context, v admin.Invoker, from, last uint64, f func(ledger.Entry) error) error {
	for from <= last {
		limit := int(min(last-from+1, admin.MaxLedgerPage))
		page, err := admin.Call[admin.PageLedger, admin.LedgerPage](ctx, v, "ledger.page", admin.PageLedger{From: from, Limit: limit})
		if err != nil {
			return err
		}
		if len(page.Entries) == 0 {
			return fmt.Errorf("the ledger has no entry %d: `bollard ledger verify` says more", from)
		}
		for _, e := range page.Entries {
			if err := f(e); err != nil {
				return err
			}
			from = e.Seq + 1
		}
	}
	return nil
}

// verifiedReport is what verify --file prints of a report.
type verifiedReport struct {
	From    time.Time `json:"from"`
	To      time.Time `json:"to"`
	Entries int       `json:"entries"` // in the range
	Origin  string    `json:"origin"`
	Size    uint64    `json:"size"` // of the ledger it is from
}

// isReport looks at the beginning of a file without taking it.
func isReport(in *bufio.Reader) bool {
	head, _ := in.Peek(16) // a shorter file isn't one
	return report.Is(head)
}

func (c *cli) verifyReport(ctx context.Context, in io.Reader, check ledgerCheck) error {
	raw, err := io.ReadAll(in)
	if err != nil {
		return fmt.Errorf("couldn't read the report: %w", err)
	}
	key := check.key
	if key == "" {
		origin, err := report.Origin(raw)
		if err != nil {
			return admin.Failedf("don't trust it", "%w", err)
		}
		if key, err = c.keyOf(ctx, origin); err != nil {
			return err
		}
	}
	v, err := ledger.NewVerifier(key)
	if err != nil {
		return admin.Usagef("`bollard ledger verify` prints it", "%w", err)
	}
	r, n, err := report.Read(raw, v)
	if err != nil {
		return admin.Failedf("ask for it again, and for the ledger's checkpoints kept elsewhere", "%w", err)
	}
	for _, vkey := range check.witnesses {
		v, err := ledger.NewVerifier(vkey)
		if err != nil {
			return admin.Usagef("a witness publishes its key as NAME+HASH+KEY", "%w", err)
		}
		if !n.SignedBy(v) {
			return admin.Failedf("ask for a report made after the witness signed", "the witness %s didn't sign the report's checkpoint", v.Name())
		}
	}
	out := verifiedReport{r.From, r.To, len(r.Inside()), n.Origin, n.Size}
	return c.print(out, func(w io.Writer) {
		fmt.Fprintf(w, "%d entries from %s to before %s, all of the range, are in the ledger %s of %d entries\n",
			out.Entries, out.From.Format(time.RFC3339), out.To.Format(time.RFC3339), out.Origin, out.Size)
	})
}

// openExport opens the file verify was given; - is standard input.
func (c *cli) openExport(name string) (io.ReadCloser, error) {
	if name == standardInput {
		return io.NopCloser(c.stdin), nil
	}
	if err := wantFile(name); err != nil {
		return nil, err
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, unreadable(name, err)
	}
	return f, nil
}
