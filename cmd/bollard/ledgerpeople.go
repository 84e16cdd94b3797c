package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"bollard/admin"
)

func (c *cli) ledgerPerson() *cobra.Command {
	return &cobra.Command{
		Use:   "person NAME",
		Short: "Print the pseudonym that stands for an operator or approver in the ledger",
		Args:  cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			out, err := call[admin.PersonRef, admin.Person](ctx, c, "ledger.person", admin.PersonRef{Name: args[0]})
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) { fmt.Fprintln(w, out.Pseudonym) })
		}),
	}
}

func (c *cli) ledgerForget() *cobra.Command {
	return &cobra.Command{
		Use:   "forget NAME",
		Short: "Destroy what ties a person to the pseudonym in the ledger; nothing brings it back",
		Long: `Destroy what ties a person to the pseudonym in the ledger, the name in
rollouts, and the closed approvals that have it. The entries stay, and the
ledger verifies as before; nobody can tell any more who they were about. What
the person does later gets another pseudonym.

Backups made before still have the tie, and bollard.yaml an approver's name.`,
		Args: cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			out, err := call[admin.PersonRef, admin.Person](ctx, c, "ledger.forget", admin.PersonRef{Name: args[0]})
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) {
				fmt.Fprintf(w, "forgotten: nobody can tell any more who %s was\n", out.Pseudonym)
				fmt.Fprintln(w, "backups made before today still can: remove them when you may")
			})
		}),
	}
}
