package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"bollard/admin"
)

// stationExport is the way out of Bollard, and the way into another one: what
// it writes, import reads.
func (c *cli) stationExport() *cobra.Command {
	return &cobra.Command{
		Use:   "export",
		Short: "Print all stations as CSV that import reads; without passwords, which nobody can read back",
		Args:  cobra.NoArgs,
		RunE: c.do(func(ctx context.Context, _ []string) error {
			out, err := call[admin.None, admin.Stations](ctx, c, "station.list", admin.None{})
			if err != nil {
				return err
			}
			var table bytes.Buffer
			if err := writeStations(&table, out.Stations); err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) { _, _ = table.WriteTo(w) })
		}),
	}
}

func writeStations(w io.Writer, stations []admin.Station) error {
	table := csv.NewWriter(w)
	_ = table.Write([]string{"identity", "serial", "profile", "vendor", "model", "cert_sha256", "key_sha256", "alias", "group", "site", "hardware", "secc", "tpm"}) // Error tells
	for _, st := range stations {
		alias := ""
		switch len(st.Aliases) {
		case 0:
		case 1:
			alias = st.Aliases[0]
		default:
			return fmt.Errorf("station %q has %d aliases and a line holds one: take `bollard station list --json`", st.Identity, len(st.Aliases))
		}
		_ = table.Write([]string{st.Identity, st.Serial, strconv.Itoa(st.WantedProfile), st.Vendor, st.Model, st.FactoryHash, st.FactoryKey, alias, st.Group, st.Site, st.Hardware, writeSECCs(st.SECCs), st.EK})
	}
	table.Flush()
	return table.Error()
}
