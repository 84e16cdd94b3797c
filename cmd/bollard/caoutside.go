package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"bollard/admin"
)

func (c *cli) caRequest() *cobra.Command {
	in := admin.RequestCA{}
	cmd := &cobra.Command{
		Use:   "request KIND [--level N]",
		Short: "Print the CSR with which others, or an offline root, certify a CA here",
		Long: `Print the CSR with which others certify a CA here: of ISO 15118 v2g, mo, oem and cps, and
with -20 those of ISO 15118-20. Of csms, manufacturer and attestation it is the CA's below
the root that is there, for an offline root (docs/ceremony.md, bollard ca rollover).

Without the hierarchy its CA at this level is made and waits for bollard ca import-chain;
sub-CA 2 is then made here if sub-CA 1 is certified. Repeated, it prints a request for the
same key. For a hierarchy there is, the CA gets one more certificate under the name it
has: to be renewed by others, or to lead to one more of their roots.

With --new-key it is for a key of its own in place of the one that others certified, made
once until its chain is taken in. With that the new key issues; the old one answers
for what it issued until its certificate ends.

With --ca it is for one of KIND by its name, such as csms-issuing after its key moved (bollard
keys migrate): another root has to certify it, too, for what it issued.`,
		Args: cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			if in.CA != "" && (in.NewKey || in.Level != 1) {
				return admin.Usagef("give it alone", "--ca goes with neither --level nor --new-key")
			}
			in.Kind = args[0]
			out, err := call[admin.RequestCA, admin.PEM](ctx, c, "ca.request", in)
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) { fmt.Fprint(w, out.PEM) })
		}),
	}
	cmd.Flags().StringVar(&in.CA, "ca", "", "name of a CA there is, instead of its level")
	cmd.Flags().BoolVar(&in.NewKey, "new-key", false, "for a new key of a CA that others certify, at this level")
	cmd.Flags().IntVar(&in.Level, "level", 1, "1 for sub-CA 1, 2 for sub-CA 2, which issues; 0 for the own root, to be cross-certified")
	return cmd
}

func (c *cli) caImport() *cobra.Command {
	return &cobra.Command{
		Use:   "import-chain KIND FILE",
		Short: "Take in the chain that others made for a CA of ours",
		Long: `Take in the chain that others made for a CA of ours, as PEM: its certificate first,
then those above it. The root has to be trusted (bollard ca trust add --use v2g|mo|oem; v2g
for cps) and may be left out of FILE; - is standard input. Keys, signatures, path lengths,
key usages, sizes and lifetimes are checked. Prints the roots the hierarchy leads to.

For csms, manufacturer and attestation it is a certificate by their offline root: a further
one of the CA here, or that of a successor which bollard keys migrate made, which issues
from then on.`,
		Args: cobra.ExactArgs(2),
		RunE: c.do(func(ctx context.Context, args []string) error {
			in := admin.ImportChain{Kind: args[0], File: args[1]}
			var err error
			if in.PEM, err = c.readInput(args[1]); err != nil {
				return err
			}
			out, err := call[admin.ImportChain, admin.PEM](ctx, c, "ca.import", in)
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) { fmt.Fprint(w, out.PEM) })
		}),
	}
}

func (c *cli) caImportList() *cobra.Command {
	in := admin.ImportList{}
	cmd := &cobra.Command{
		Use:   "import-list KIND FILE",
		Short: "Take in a newer revocation list of a hierarchy's offline root",
		Long: `Take in a newer revocation list of a hierarchy's offline root, PEM or DER (docs/ceremony.md);
- is standard input. It has to be the root's, in force, and not older than the one there
is; it is served from then on. One that revokes a CA in force is refused: whoever reads it
follows nothing that was issued below. So is one that lacks what the one before revokes,
as one signed in an older copy of the root's folder does.`,
		Args: cobra.ExactArgs(2),
		RunE: c.do(func(ctx context.Context, args []string) error {
			in.Kind, in.File = args[0], args[1]
			var err error
			if in.List, err = c.readInput(args[1]); err != nil {
				return err
			}
			out, err := call[admin.ImportList, admin.RootLists](ctx, c, "ca.import-list", in)
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) {
				for _, l := range out.Lists {
					fmt.Fprintf(w, "the list of %s is good until %s\n", l.Root, when(l.Until))
					for _, name := range l.Revokes {
						fmt.Fprintf(w, "it revokes %s: whoever reads it follows nothing that was issued below\n", name)
					}
				}
			})
		}),
	}
	cmd.Flags().BoolVar(&in.Force, "force", false, "take it in though it revokes a CA in force, or forgets what was revoked")
	return cmd
}

func (c *cli) caChains() *cobra.Command {
	return &cobra.Command{
		Use:   "chains KIND",
		Short: "List the chains that others made for CAs of ours",
		Args:  cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			out, err := call[admin.ChainRef, admin.Chains](ctx, c, "ca.chains", admin.ChainRef{Kind: args[0]})
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) {
				t := newTable(w, "HASH", "CA", "ROOT", "EXPIRES", "NOTE")
				for _, one := range out.Chains {
					state := ""
					switch {
					case !one.Trusted:
						state = "root no longer trusted"
					case one.Over:
						state = "over: a certificate of it has ended"
					}
					t.row(one.Hash[:16], one.CA, one.Root, when(&one.NotAfter), state)
				}
				t.flush()
			})
		}),
	}
}

func (c *cli) caRemoveChain() *cobra.Command {
	return &cobra.Command{
		Use:   "remove-chain KIND HASH",
		Short: "Take out a chain that others made for a CA of ours",
		Long: `Take out a chain that others made for a CA of ours (bollard ca chains); eight digits of
its hash suffice. Nothing is given out along it any more, and its root is none the hierarchy
leads to. The last chain of a CA that others certify stays: what it issued is looked up
by it.`,
		Args: cobra.ExactArgs(2),
		RunE: c.do(func(ctx context.Context, args []string) error {
			out, err := call[admin.ChainRef, admin.Chain](ctx, c, "ca.remove-chain", admin.ChainRef{Kind: args[0], Hash: args[1]})
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) {
				fmt.Fprintf(w, "the chain of %s to %s is taken out\n", out.CA, out.Root)
			})
		}),
	}
}

func (c *cli) caRenew() *cobra.Command {
	return &cobra.Command{
		Use:   "renew [KIND]",
		Short: "Renew the CAs below a root, with the keys and names they have",
		Long: `Renew the CAs below a root, with the keys and names they have: those that are due, or
all of KIND. A running server renews what is due by itself. Roots are changed instead
(bollard ca rollover); what others certified they renew (bollard ca request).`,
		Args: cobra.MaximumNArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			in := admin.KindRef{}
			if len(args) > 0 {
				in.Kind = args[0]
			}
			out, err := call[admin.KindRef, admin.RenewedCAs](ctx, c, "ca.renew", in)
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) {
				if len(out.Renewed) == 0 {
					fmt.Fprintln(w, "nothing was to be renewed; what others or an offline root certified they renew (`bollard ca request KIND`)")
					return
				}
				t := newTable(w, "CA", "SERIAL", "EXPIRES")
				for _, r := range out.Renewed {
					t.row(r.Name, r.Serial, when(&r.NotAfter))
				}
				t.flush()
			})
		}),
	}
}
