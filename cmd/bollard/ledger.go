package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"bollard/admin"
	"bollard/ledger"
	"bollard/store"
)

func (c *cli) ledgerCommand() *cobra.Command {
	return c.group("ledger", "The evidence of every decision: verify, prove and export it",
		c.ledgerVerify(), c.ledgerCheckpoint(), c.ledgerProve(), c.ledgerExport(), c.ledgerPerson(), c.ledgerForget())
}

// ledgerCheck is what verify is asked for.
type ledgerCheck struct {
	checkpoints, witnesses []string // files; verifier keys
	export, proof, key     string
}

func (c *cli) ledgerVerify() *cobra.Command {
	var in ledgerCheck
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check that no entry was changed, removed or inserted",
		Long: `Check that no entry was changed, removed or inserted. Neither a server nor a
key is needed. A checkpoint kept on another machine (ledger checkpoint prints
one) shows that the ledger wasn't cut off or written anew since it was made.`,
		Args: cobra.NoArgs,
		RunE: c.do(func(ctx context.Context, _ []string) error {
			if in.proof != "" {
				return c.verifyProof(ctx, in)
			}
			var export *bufio.Reader
			if in.export != "" {
				f, err := c.openExport(in.export)
				if err != nil {
					return err
				}
				defer f.Close()
				if export = bufio.NewReader(f); isReport(export) {
					return c.verifyReport(ctx, export, in)
				}
			}
			out, err := c.verifyLedger(ctx, in, export)
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) {
				fmt.Fprintf(w, "%d entries, unbroken, the newest of %s\n", out.Entries, when(out.Newest))
				fmt.Fprintf(w, "root %s\n", out.Root)
				if out.Beside > 0 {
					fmt.Fprintf(w, "continues the checkpoint of %d entries kept beside it\n", out.Beside)
				}
				if out.Against == 0 {
					fmt.Fprintln(w, "no checkpoint was given: a cut tail or a ledger written anew can't be seen")
				} else {
					fmt.Fprintf(w, "continues the checkpoint of %d entries that was given\n", out.Against)
				}
				if out.Key != "" {
					fmt.Fprintf(w, "its checkpoints are verified by %s\n", out.Key)
				}
			})
		}),
	}
	f := cmd.Flags()
	f.StringArrayVar(&in.checkpoints, "checkpoint", nil, "file with a checkpoint kept elsewhere; may be given several times")
	f.StringArrayVar(&in.witnesses, "witness-key", nil, "verifier key of a witness that must have cosigned one of the checkpoints")
	f.StringVar(&in.export, "file", "", "verify an export, whole or of a time range, instead of the data directory; - is standard input")
	f.StringVar(&in.proof, "proof", "", "verify what ledger prove printed instead")
	f.StringVar(&in.key, "key", "", "with --proof, or --file of a time range: the ledger's verifier key, if the data directory isn't at hand")
	cmd.MarkFlagsMutuallyExclusive("file", "proof")
	return cmd
}

// verifyLedger verifies an export, or without one the data directory's ledger.
func (c *cli) verifyLedger(ctx context.Context, in ledgerCheck, export *bufio.Reader) (admin.LedgerState, error) {
	notes, err := readCheckpoints(in.checkpoints)
	if err != nil {
		return admin.LedgerState{}, err
	}
	check := admin.VerifyLedger{Witnesses: in.witnesses}
	for _, n := range notes {
		check.Checkpoints = append(check.Checkpoints, n.Signed)
	}
	if export == nil {
		return withLedger(ctx, c, func(v admin.Invoker) (admin.LedgerState, error) {
			return admin.Call[admin.VerifyLedger, admin.LedgerState](ctx, v, "ledger.verify", check)
		}, func(s *store.Store) (admin.LedgerState, error) {
			return admin.VerifyStored(ctx, s, check)
		})
	}
	return admin.VerifyExport(export, check)
}

// withLedger asks the running server, or reads the database: with neither
// configuration nor keys, evidence has to be readable.
func withLedger[T any](ctx context.Context, c *cli, ask func(admin.Invoker) (T, error), read func(*store.Store) (T, error)) (T, error) {
	var none T
	database := filepath.Join(c.data, databaseName)
	if _, err := os.Stat(database); errors.Is(err, fs.ErrNotExist) {
		return none, noDataDirectory(c.data)
	}
	lock, client, err := lockOrServer(ctx, c.data)
	if err != nil {
		return none, err
	}
	if client != nil {
		return ask(client)
	}
	defer lock.release()
	if err := refuseForeignOwner(c.data); err != nil {
		return none, err
	}
	db, err := store.Open(ctx, store.Config{Path: database})
	if err != nil {
		return none, err
	}
	out, err := read(db)
	return out, errors.Join(err, db.Close())
}

// provenEntry is what verify --proof prints.
type provenEntry struct {
	Entry  ledger.Entry `json:"entry"`
	Origin string       `json:"origin"`
	Size   uint64       `json:"size"` // of the ledger it is in
}

func (c *cli) verifyProof(ctx context.Context, in ledgerCheck) error {
	text, err := c.readInput(in.proof)
	if err != nil {
		return err
	}
	p, err := ledger.ParseProof(string(text))
	if err != nil {
		return admin.Failedf("give what `bollard ledger prove` printed, as it is", "%s: %w", in.proof, err)
	}
	if err := p.Check(); err != nil {
		return err
	}
	key := in.key
	if key == "" {
		if key, err = c.keyOf(ctx, p.Note.Origin); err != nil {
			return err
		}
	}
	for _, vkey := range append([]string{key}, in.witnesses...) {
		v, err := ledger.NewVerifier(vkey)
		if err != nil {
			return admin.Usagef("`bollard ledger verify` prints it", "%w", err)
		}
		if !p.Note.SignedBy(v) {
			return admin.Failedf("don't trust the proof", "the checkpoint in the proof isn't signed by %s", vkey)
		}
	}
	out := provenEntry{p.Entry, p.Note.Origin, p.Note.Size}
	return c.print(out, func(w io.Writer) {
		line, _ := json.Marshal(p.Entry) // it was read from JSON
		fmt.Fprintf(w, "entry %d is in the ledger %s of %d entries:\n%s\n", p.Entry.Seq, p.Note.Origin, p.Note.Size, line)
	})
}

// keyOf reads the verifier key of an origin from the ledger itself.
func (c *cli) keyOf(ctx context.Context, origin string) (string, error) {
	epochs, err := withLedger(ctx, c, func(v admin.Invoker) ([]ledger.Epoch, error) {
		return admin.Call[admin.None, []ledger.Epoch](ctx, v, "ledger.epochs", admin.None{})
	}, func(s *store.Store) ([]ledger.Epoch, error) { return s.Epochs(ctx) })
	if err != nil {
		return "", err
	}
	for _, e := range epochs {
		if e.Origin == origin {
			return e.Key, nil
		}
	}
	return "", admin.Failedf("give the key of the ledger it is from with --key", "the proof is of another ledger, %s", origin)
}

func (c *cli) ledgerCheckpoint() *cobra.Command {
	return &cobra.Command{
		Use:   "checkpoint",
		Short: "Sign the ledger as it stands; keep what is printed on another machine",
		Args:  cobra.NoArgs,
		RunE: c.do(func(ctx context.Context, _ []string) error {
			return c.printNote(ctx, "ledger.checkpoint", admin.None{})
		}),
	}
}

func (c *cli) printNote(ctx context.Context, operation string, in any) error {
	var out admin.SignedNote
	err := c.withOperations(ctx, func(ctx context.Context, v admin.Invoker) error {
		var err error
		out, err = admin.Call[any, admin.SignedNote](ctx, v, operation, in)
		return err
	})
	if err != nil {
		return err
	}
	return c.print(out, func(w io.Writer) { fmt.Fprint(w, out.Text) })
}

func (c *cli) ledgerProve() *cobra.Command {
	since := ""
	cmd := &cobra.Command{
		Use:   "prove SEQ|SUBJECT",
		Short: "Print a proof that an entry is in the ledger, for somebody who doesn't have it",
		Long: `Print a proof that an entry is in the ledger, for somebody who doesn't have it:
the entry, the hashes from it to the root, and a signed checkpoint
(c2sp.org/tlog-proof). ledger verify --proof checks it, offline. SUBJECT is
what an entry is about, such as the serial number of a certificate.

With --since it shows instead that the ledger continues an older checkpoint.`,
		Args: cobra.MaximumNArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			in := admin.ProveLedger{}
			switch {
			case since != "" && len(args) == 0:
				notes, err := readCheckpoints([]string{since})
				if err != nil {
					return err
				}
				in.Since = notes[0].Signed
			case since != "" || len(args) == 0:
				return admin.Usagef("", "give an entry, or --since, not both")
			default:
				// Serial numbers of certificates are longer than any SEQ.
				seq, err := strconv.ParseUint(args[0], 10, 63)
				if err != nil || seq == 0 {
					in.Subject = args[0]
				} else {
					in.Seq = seq
				}
			}
			return c.printNote(ctx, "ledger.prove", in)
		}),
	}
	cmd.Flags().StringVar(&since, "since", "", "file with an older checkpoint")
	return cmd
}

func (c *cli) ledgerExport() *cobra.Command {
	f := reportFlags{}
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Print the ledger, or the evidence of a time range, as signed JSON or HTML",
		Long: `Print all entries as JSON, one a line, then a signed checkpoint.

With --from it prints the evidence of a time range instead: its entries, what
they are evidence for, clause by clause, and a proof that they are all of the
range and in the ledger as its checkpoint signs it. --format html is the same
for reading. ledger verify --file checks either JSON, offline.`,
		Args: cobra.NoArgs,
		RunE: c.do(func(ctx context.Context, _ []string) error {
			ranged, err := f.asked()
			if err != nil {
				return err
			}
			out := bufio.NewWriter(c.stdout)
			err = c.withOperations(ctx, func(ctx context.Context, v admin.Invoker) error {
				if ranged {
					return c.writeReport(ctx, v, f, out)
				}
				return exportLedger(ctx, v, out)
			})
			if err := errors.Join(err, out.Flush()); err != nil {
				return fmt.Errorf("couldn't export the ledger: %w", err)
			}
			return nil
		}),
	}
	fl := cmd.Flags()
	fl.StringVar(&f.from, "from", "", "first day (2026-11-01, UTC) or moment (2026-11-01T12:00:00Z) of a time range")
	fl.StringVar(&f.to, "to", "", "first day or moment after the range (default now)")
	fl.StringArrayVar(&f.laws, "law", nil, "cra, nis2, en18031, uk-2021-1467 or ocpp; may be given several times (default all)")
	fl.StringVar(&f.format, "format", "json", "of a time range: json or html")
	return cmd
}

// exportLedger writes what the checkpoint covers, and ends with it.
func exportLedger(ctx context.Context, v admin.Invoker, out *bufio.Writer) error {
	signed, err := admin.Call[admin.None, admin.SignedNote](ctx, v, "ledger.checkpoint", admin.None{})
	if err != nil {
		return err
	}
	end, err := ledger.ParseNote(signed.Text)
	if err != nil {
		return err
	}
	err = eachEntry(ctx, v, 1, end.Size, func(e ledger.Entry) error {
		line, err := e.MarshalJSON()
		if err == nil {
			_, err = out.Write(append(line, '\n'))
		}
		return err
	})
	if err != nil {
		return err
	}
	return ledger.WriteEnd(out, end)
}
