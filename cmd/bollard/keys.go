package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"bollard/admin"
)

func (c *cli) keysCommand() *cobra.Command {
	return c.group("keys", "Move the keys of CAs", c.keysMigrate())
}

func (c *cli) keysMigrate() *cobra.Command {
	in := admin.MigrateKeys{}
	cmd := &cobra.Command{
		Use:   "migrate --to URI [--dry-run]",
		Short: "Issue with new keys that are kept elsewhere, such as in an HSM or Vault",
		Long: `Issue with new keys that are kept elsewhere, such as in an HSM or Vault. Keys don't move:
each CA below a root that is here gets a successor whose key is made at URI (a base as
keys.uri in bollard.yaml), certified by the same root, and the successor issues from then
on. What was issued stays good: its CA keeps its key where it is, and answers for it by
OCSP and lists until its own certificate ends. Nothing changes for stations and cars.

Cut off, the same command goes on. --dry-run says what would be done and, as the run
does, what isn't moved and why. Roots stay as they are (bollard ca rollover, ca
ceremony), and so do keys of TLS, SFTP and the ledger, which are files; keys.uri in
bollard.yaml says where OCSP signers and further CAs get theirs.`,
		Args: cobra.NoArgs,
		RunE: c.do(func(ctx context.Context, _ []string) error {
			if in.To == "" {
				return admin.Usagef("such as pkcs11:module-path=/usr/lib/…/MODULE.so;token=LABEL?pin-source=FILE (docs/keys.md)", "--to is missing")
			}
			out, err := call[admin.MigrateKeys, admin.Migrations](ctx, c, "keys.migrate", in)
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) { writeMigrations(w, out, in) })
		}),
	}
	cmd.Flags().StringVar(&in.To, "to", "", "where the new keys are made (required)")
	cmd.Flags().BoolVar(&in.DryRun, "dry-run", false, "say what would be done, and do nothing")
	return cmd
}

func writeMigrations(w io.Writer, out admin.Migrations, in admin.MigrateKeys) {
	did := "issues now; %s, whose key stays in %s, answers for what it issued"
	if in.DryRun {
		did = "would issue; %s, whose key stays in %s, would answer for what it issued"
	}
	moved := false
	for _, m := range out.Migrations {
		for _, one := range m.CAs {
			moved = true
			fmt.Fprintf(w, "%s: %s "+did+"\n", m.Kind, one.Next, one.Name, one.Key)
		}
		if m.Kept != "" {
			fmt.Fprintf(w, "%s: not moved: %s\n", m.Kind, m.Kept)
		}
	}
	if moved {
		fmt.Fprintf(w, "\nSet keys.uri in bollard.yaml to %s and restart the server: OCSP signers and further CAs get their keys there then.\n"+
			"Not moved: roots (bollard ca rollover), and the keys of TLS, SFTP and the ledger, which are files.\n", in.To)
	}
}
