package main

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"bollard/admin"
	"bollard/fleet"
)

func (c *cli) stationSECC() *cobra.Command {
	in, add := admin.StationSECC{}, fleet.SECC{}
	cmd := &cobra.Command{
		Use:   "secc ID [--add SECCID [--evse N] | --remove SECCID | --renew]",
		Short: "Show and change what cars may know a station by",
		Long: `Show and change the SECC identifiers for which a station gets certificates toward
cars (ISO 15118), one for each EVSE or one for all. An identifier is of one station.

The station is asked for its requests (SignV2GCertificate, SignV2G20Certificate) when
it is connected and has no certificate for one, or one that is due.`,
		Args: cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			wanted := 0
			for _, set := range []bool{add.ID != "", in.Remove != "", in.Renew} {
				if set {
					wanted++
				}
			}
			if wanted > 1 || add.EVSE != 0 && add.ID == "" {
				return admin.Usagef("such as --add DEABCE0001 --evse 1", "give one of --add, --remove and --renew; --evse goes with --add")
			}
			in.Identity = args[0]
			if add.ID != "" {
				in.Add = &add
			}
			out, err := call[admin.StationSECC, admin.Station](ctx, c, "station.secc", in)
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) {
				if len(out.SECCs) == 0 {
					fmt.Fprintf(w, "%s gets no certificates toward cars\n", out.Identity)
					return
				}
				t := newTable(w, "SECC", "EVSE")
				for _, s := range out.SECCs {
					evse := "all"
					if s.EVSE > 0 {
						evse = strconv.Itoa(s.EVSE)
					}
					t.row(s.ID, evse)
				}
				t.flush()
			})
		}),
	}
	f := cmd.Flags()
	f.StringVar(&add.ID, "add", "", "SECC identifier the station may have, the CN of its certificate")
	f.IntVar(&add.EVSE, "evse", 0, "EVSE it is of; without, it is the whole station's")
	f.StringVar(&in.Remove, "remove", "", "SECC identifier the station may have no longer; its certificates are revoked")
	f.BoolVar(&in.Renew, "renew", false, "have the station renew all its certificates toward cars")
	return cmd
}
