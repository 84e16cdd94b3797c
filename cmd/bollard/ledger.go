package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"bollard/admin"
	"bollard/ledger"
)

func (c *cli) ledgerCommand() *cobra.Command {
	return c.group("ledger", "The evidence of every decision: verify and export it", c.ledgerVerify(), c.ledgerExport())
}

func (c *cli) ledgerVerify() *cobra.Command {
	in := admin.VerifyLedger{}
	file := ""
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check that no entry was changed, removed or inserted",
		Long: `Check that no entry was changed, removed or inserted. What it prints as
checkpoint, kept on another machine and given later with --checkpoint, shows
that the ledger wasn't cut off or written anew since.`,
		Args: cobra.NoArgs,
		RunE: c.do(func(ctx context.Context, _ []string) error {
			out, err := c.verifyLedger(ctx, in, file)
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) {
				fmt.Fprintf(w, "%d entries, unbroken, the newest of %s\n", out.Entries, when(out.Newest))
				if out.Against == "" {
					fmt.Fprintln(w, "no checkpoint was given: a cut tail or a ledger written anew can't be seen")
				} else {
					fmt.Fprintf(w, "contains the checkpoint %s\n", out.Against)
				}
				if out.Checkpoint != "" {
					fmt.Fprintf(w, "checkpoint to keep elsewhere: %s\n", out.Checkpoint)
				}
			})
		}),
	}
	cmd.Flags().StringVar(&in.Checkpoint, "checkpoint", "", "SEQ:HASH an earlier verify printed")
	cmd.Flags().StringVar(&file, "file", "", "verify an export instead of the data directory; - is standard input")
	return cmd
}

func (c *cli) verifyLedger(ctx context.Context, in admin.VerifyLedger, file string) (admin.LedgerState, error) {
	if file == "" {
		return call[admin.VerifyLedger, admin.LedgerState](ctx, c, "ledger.verify", in)
	}
	kept, err := admin.ParseCheckpoint(in.Checkpoint)
	if err != nil {
		return admin.LedgerState{}, err
	}
	source := c.stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return admin.LedgerState{}, admin.Usagef("", "couldn't read the export: %w", err)
		}
		defer f.Close()
		source = f
	}
	return admin.VerifyEntries(exportedEntries(source), kept)
}

// maxEntry bounds one line of an export: ledger.Event's limits and JSON's escapes.
const maxEntry = 1 << 20

func exportedEntries(r io.Reader) func(yield func(ledger.Entry, error) bool) {
	return func(yield func(ledger.Entry, error) bool) {
		lines := bufio.NewScanner(r)
		lines.Buffer(nil, maxEntry)
		for lines.Scan() {
			var e ledger.Entry
			err := e.UnmarshalJSON(lines.Bytes())
			if !yield(e, err) || err != nil {
				return
			}
		}
		if err := lines.Err(); err != nil {
			yield(ledger.Entry{}, err)
		}
	}
}

func (c *cli) ledgerExport() *cobra.Command {
	from := uint64(1)
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Print the entries as JSON, one a line",
		Args:  cobra.NoArgs,
		RunE: c.do(func(ctx context.Context, _ []string) error {
			out := bufio.NewWriter(c.stdout)
			err := c.withOperations(ctx, func(ctx context.Context, v admin.Invoker) error {
				return exportLedger(ctx, v, max(from, 1), out)
			})
			if err := errors.Join(err, out.Flush()); err != nil {
				return fmt.Errorf("couldn't export the ledger: %w", err)
			}
			return nil
		}),
	}
	cmd.Flags().Uint64Var(&from, "from", 1, "first sequence number")
	return cmd
}

func exportLedger(ctx context.Context, v admin.Invoker, from uint64, out *bufio.Writer) error {
	for {
		page, err := admin.Call[admin.PageLedger, admin.LedgerPage](ctx, v, "ledger.page", admin.PageLedger{From: from, Limit: admin.MaxLedgerPage})
		if err != nil {
			return err
		}
		var b bytes.Buffer
		lines := json.NewEncoder(&b)
		for _, e := range page.Entries {
			if err := lines.Encode(e); err != nil {
				return err
			}
			from = e.Seq + 1
		}
		if _, err := out.Write(b.Bytes()); err != nil {
			return err
		}
		if len(page.Entries) < admin.MaxLedgerPage {
			return nil
		}
	}
}
