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
		Long: `Make a further hierarchy, and print its root. KIND: ` + strings.Join(admin.Kinds()[1:], ", ") + `.

v2g, mo, oem and cps are those of ISO 15118-2, each with two sub-CAs, and with -20
those of ISO 15118-20; with -448 on Ed448, which contracts.curves_20 has to name. cps is made under the own v2g root if there is one.`,
		Args: cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			return c.printPEM(ctx, "ca.create", admin.KindRef{Kind: args[0]})
		}),
	}
}

func (c *cli) caRollover() *cobra.Command {
	force, share, chains, list, cross := false, "95%", []string{}, "", ""
	cmd := &cobra.Command{
		Use:   "rollover KIND start|abort|switch|back|finish|show",
		Short: "Change a hierarchy's root in steps (M05)",
		Long: `Change a hierarchy's root in steps (M05).

start   makes the new root, and its key certified by the old one; both roots are trusted, the old chain is served.
        With --chain and --list the new root is one that was made elsewhere, in a ceremony (docs/ceremony.md):
        its key never was here. --chain is given once for each CA below the root; --cross is the new root as
        the present one certified it, if that is offline, too. Refused, but with --force, while the key of a CA
        whose key moved doesn't open: the new root wouldn't certify it
abort   gives up a start with a root made elsewhere that was cut off and isn't to be gone on with; nothing
        of it stays, and what the old root certified for it is revoked
switch  serves the new chain, with a bridge for stations that only have the old root; refused while fewer
        than --share of the stations have reported the new root and connected once to a listener with
        rollover: true, which serves the new chain alone
back    serves the old chain again
finish  ends the trust in the old root: stations that only have that one can't connect any more, so it
        is refused while one hasn't reported the new root
show    tells how far it is, which stations haven't reported the new root, and prints the roots`,
		Args:      cobra.ExactArgs(2),
		ValidArgs: admin.RolloverSteps(),
		RunE: c.do(func(ctx context.Context, args []string) error {
			if !slices.Contains(admin.RolloverSteps(), args[1]) {
				return admin.Usagef("steps are "+strings.Join(admin.RolloverSteps(), ", "), "a root change has no step %q", args[1])
			}
			ready, err := percent(share)
			if err != nil {
				return admin.Usagef("", "--share: %w", err)
			}
			in := admin.Rollover{Kind: args[0], Step: args[1], Share: ready, Force: force}
			if (len(chains) == 0) != (list == "") || cross != "" && list == "" || list != "" && args[1] != "start" {
				return admin.Usagef("`bollard ca rollover "+args[0]+" start --chain FILE --list FILE`", "--chain and --list go together, with start, and --cross with them")
			}
			for _, chain := range chains {
				data, err := c.readInput(chain)
				if err != nil {
					return err
				}
				in.Chain = append(in.Chain, admin.File{Name: chain, Data: data})
			}
			if list != "" {
				in.List.Name = list
				if in.List.Data, err = c.readInput(list); err != nil {
					return err
				}
			}
			if cross != "" {
				in.Cross.Name = cross
				if in.Cross.Data, err = c.readInput(cross); err != nil {
					return err
				}
			}
			out, err := call[admin.Rollover, admin.RolloverState](ctx, c, "ca.rollover", in)
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) {
				if out.Phase == "" {
					fmt.Fprintf(w, "# the root of %s was never changed\n", out.Kind)
				} else {
					fmt.Fprintf(w, "# the change to root %d of %s is %s since %s\n", out.Generation, out.Kind, out.Phase, when(out.At))
				}
				if out.Moved > 0 || len(out.Waiting) > 0 {
					fmt.Fprintf(w, "# %d stations reported the new root, %d haven't\n", out.Moved, len(out.Waiting))
				}
				for _, identity := range out.Waiting {
					fmt.Fprintf(w, "# without it: %s\n", identity)
				}
				if out.Stations > 0 {
					fmt.Fprintf(w, "# %d of %d stations are ready for the switch\n", out.Ready, out.Stations)
				}
				for _, u := range out.Unready {
					fmt.Fprintf(w, "# not ready: %s: %s\n", u.Identity, u.Why)
				}
				fmt.Fprint(w, out.Roots)
				if out.Cross != "" {
					fmt.Fprintf(w, "# the new root, certified by the old one\n%s", out.Cross)
				}
			})
		}),
	}
	cmd.Flags().BoolVar(&force, "force", false, "take the step though stations aren't ready for it, or could be left behind")
	cmd.Flags().StringArrayVar(&chains, "chain", nil, "with start: the certificate of a CA here and its new root, made elsewhere")
	cmd.Flags().StringVar(&cross, "cross", "", "with start: that root as the present one certified it, whose key is offline, too")
	cmd.Flags().StringVar(&list, "list", "", "with start: the revocation list of that root")
	cmd.Flags().StringVar(&share, "share", share, "of the stations that must be ready for switch")
	return cmd
}
