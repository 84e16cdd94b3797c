package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"bollard/admin"
)

func (c *cli) rotatePassword(ctx context.Context, identity string) error {
	out, err := call[admin.StationRef, admin.Station](ctx, c, "station.rotate", admin.StationRef{Identity: identity})
	if err != nil {
		return err
	}
	return c.print(out, func(w io.Writer) {
		at := "when it connects"
		if out.Online {
			at = "now"
		}
		fmt.Fprintf(w, "%s is given a new password %s; the old one is taken until the station was seen with the new one\n", out.Identity, at)
	})
}

func (c *cli) stationRoots() *cobra.Command {
	want, drop, look := "", "", false
	cmd := &cobra.Command{
		Use:   "roots ID [--want USE=FILE|USE=own | --drop ROOT | --look]",
		Short: "Show and change the root certificates on a station",
		Long: `Show the root certificates a station reported, and change what is wanted on it.

Uses are csms, manufacturer, v2g, mo and oem. FILE holds one self-signed root as
PEM; own is Bollard's own of this use, for those of ISO 15118-20 with v2g-20=own and
the like: stations know both as v2g. ROOT is the id this command shows. A root that
the server certificate leads to, that is the last of its kind or that is wanted is
never deleted.`,
		Args: cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			in := admin.StationRoots{Identity: args[0], Drop: drop, Look: look}
			if want != "" {
				use, from, ok := strings.Cut(want, "=")
				if !ok || from == "" || drop != "" || look {
					return admin.Usagef("such as --want v2g=root.pem or --want csms=own, alone", "--want %q can't be understood", want)
				}
				in.Use, in.Own = use, from == "own"
				if !in.Own {
					data, err := c.readInput(from)
					if err != nil {
						return err
					}
					in.PEM = string(data)
				}
			}
			out, err := call[admin.StationRoots, admin.RootsOfStation](ctx, c, "station.roots", in)
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) {
				if out.SeenAt == nil {
					fmt.Fprintf(w, "%s hasn't reported its roots yet; it is asked when it is connected\n", out.Identity)
				}
				t := newTable(w, "USE", "ROOT", "SERIAL", "HASH", "NOTE")
				for _, r := range out.Roots {
					state := ""
					if r.Dropped {
						state = "to be deleted"
					}
					t.row(r.Use, r.ID, r.Serial, r.Algorithm, state)
				}
				t.flush()
			})
		}),
	}
	f := cmd.Flags()
	f.StringVar(&want, "want", "", "root to be installed: USE=FILE or USE=own")
	f.StringVar(&drop, "drop", "", "root to be deleted, by the beginning of its id")
	f.BoolVar(&look, "look", false, "have the station report its roots anew")
	return cmd
}
