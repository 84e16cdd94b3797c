package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"bollard/admin"
)

func (c *cli) stationLost() *cobra.Command {
	var in admin.LostStation
	cmd := &cobra.Command{
		Use:   "lost ID --reason TEXT | lost ID --found",
		Short: "Keep everybody out who comes as a lost or stolen station; its record stays",
		Long: `Keep everybody out who comes as this station: its certificates are revoked as
compromised, its password is forgotten, its session ends, its record stays.
With --found it may come back: with a new password, a one-time secret for EST or
its factory certificate. What was revoked stays revoked.`,
		Args: cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			in.Identity = args[0]
			if in.Profile != 0 && !in.Found {
				return admin.Usagef("", "--profile goes with --found")
			}
			out, err := call[admin.LostStation, admin.Station](ctx, c, "station.lost", in)
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) {
				if in.Found {
					fmt.Fprintf(w, "%s may come back; `bollard station password %s` or `station enrol-secret %s` gives it the means\n", out.Identity, shellWord(out.Identity), shellWord(out.Identity))
					return
				}
				fmt.Fprintf(w, "%s is kept out and its certificates are revoked\n", out.Identity)
			})
		}),
	}
	cmd.Flags().StringVar(&in.Reason, "reason", "", "what happened, for the ledger")
	cmd.Flags().BoolVar(&in.Found, "found", false, "let it come back")
	cmd.Flags().IntVar(&in.Profile, "profile", 0, "with --found: lowest security profile it may begin with; 0: no lower than before")
	return cmd
}

func (c *cli) stationReplace() *cobra.Command {
	var in admin.ReplaceStation
	cmd := &cobra.Command{
		Use:   "replace ID --serial NEW --reason TEXT",
		Short: "Give a station's identity to another board; prints its password, once",
		Long: `Give a station's identity to another board: the old one's certificates are
revoked and its password ends. The new one proves itself by the password printed
here (--profile 1 or 2), a one-time secret for EST, or its factory certificate.`,
		Args: cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			in.Identity = args[0]
			if in.Serial == "" {
				return admin.Usagef("it becomes the CN of the station's certificate", "--serial is missing")
			}
			out, err := call[admin.ReplaceStation, admin.Replaced](ctx, c, "station.replace", in)
			if err != nil {
				return err
			}
			id := out.Station.Identity
			return c.printOnce(fmt.Sprintf("the board of %s is replaced, but its password is lost", id), "`bollard station password "+shellWord(id)+"` makes another", out, func(w io.Writer) {
				fmt.Fprintf(w, "%s is the board with serial %s now, never below security profile %d\n", id, out.Station.Serial, out.Station.FloorProfile)
				if out.Password != "" {
					fmt.Fprintf(w, "password: %s\nIt is shown this once.\n", out.Password)
				} else {
					fmt.Fprintf(w, "`bollard station enrol-secret %s` gives it a certificate over EST\n", id)
				}
			})
		}),
	}
	f := cmd.Flags()
	f.StringVar(&in.Serial, "serial", "", "serial number of the new board (required)")
	f.StringVar(&in.FactoryHash, "cert-sha256", "", "SHA-256 of the maker's certificate it comes with")
	f.StringVar(&in.FactoryKey, "key-sha256", "", "SHA-256 of that certificate's public key (SubjectPublicKeyInfo)")
	f.IntVar(&in.Profile, "profile", 0, "lowest security profile it may begin with; 0: no lower than before")
	f.StringVar(&in.Reason, "reason", "", "why, for the ledger (required)")
	return cmd
}

func (c *cli) stationDecommission() *cobra.Command {
	var in admin.Decommission
	cmd := &cobra.Command{
		Use:   "decommission ID --reason TEXT",
		Short: "End a station for good: revoke, forget what it told, use its identity up",
		Args:  cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			in.Identity = args[0]
			if _, err := call[admin.Decommission, admin.None](ctx, c, "station.decommission", in); err != nil {
				return err
			}
			return c.print(admin.StationRef{Identity: args[0]}, func(w io.Writer) {
				fmt.Fprintf(w, "%s is decommissioned; its identity isn't enrolled again without --reuse\n", args[0])
			})
		}),
	}
	cmd.Flags().StringVar(&in.Reason, "reason", "", "why, for the ledger (required)")
	return cmd
}
