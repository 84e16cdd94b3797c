package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"bollard/admin"
)

func (c *cli) caCreate() *cobra.Command {
	return &cobra.Command{
		Use:   "create KIND",
		Short: "Make a further hierarchy, such as manufacturer, and print its root",
		Args:  cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			return c.printPEM(ctx, "ca.create", admin.KindRef{Kind: args[0]})
		}),
	}
}

func (c *cli) caRollover() *cobra.Command {
	return &cobra.Command{
		Use:   "rollover KIND start|switch|finish|show",
		Short: "Change a hierarchy's root in steps (M05)",
		Long: `Change a hierarchy's root in steps (M05); none can be taken back.

start   makes the new root, and its key certified by the old one; both roots are trusted, the old chain is served
switch  serves the new chain, with a bridge for stations that only have the old root
finish  ends the trust in the old root: stations that only have that one can't connect any more
show    tells how far it is and prints the roots`,
		Args:      cobra.ExactArgs(2),
		ValidArgs: admin.RolloverSteps(),
		RunE: c.do(func(ctx context.Context, args []string) error {
			if !slices.Contains(admin.RolloverSteps(), args[1]) {
				return admin.Usagef("steps are "+strings.Join(admin.RolloverSteps(), ", "), "a root change has no step %q", args[1])
			}
			out, err := call[admin.Rollover, admin.RolloverState](ctx, c, "ca.rollover", admin.Rollover{Kind: args[0], Step: args[1]})
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) {
				if out.Phase == "" {
					fmt.Fprintf(w, "# the root of %s was never changed\n", out.Kind)
				} else {
					fmt.Fprintf(w, "# the change to root %d of %s is %s since %s\n", out.Generation, out.Kind, out.Phase, when(out.At))
				}
				fmt.Fprint(w, out.Roots)
				if out.Cross != "" {
					fmt.Fprintf(w, "# the new root, certified by the old one\n%s", out.Cross)
				}
			})
		}),
	}
}
