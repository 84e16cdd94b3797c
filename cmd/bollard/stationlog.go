package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"bollard/admin"
)

func (c *cli) stationLog() *cobra.Command {
	fetch := false
	cmd := &cobra.Command{
		Use:   "log ID",
		Short: "List the logs a station has uploaded, or ask for its security log now",
		Long: `List the logs a station has uploaded, newest first, with the files they are in,
and the back end each was for, where one asked for it, and when it was handed on to that.
Bollard asks by itself as security_log in bollard.yaml says; --fetch asks now.`,
		Args: cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			in := admin.StationRef{Identity: args[0]}
			if fetch {
				out, err := call[admin.StationRef, admin.StationLog](ctx, c, "station.fetch-log", in)
				if err != nil {
					return err
				}
				return c.print(out, func(w io.Writer) {
					fmt.Fprintf(w, "%s was asked for its security log, request %d: %s\n", args[0], out.Request, out.State)
				})
			}
			out, err := call[admin.StationRef, admin.StationLogs](ctx, c, "station.logs", in)
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) {
				t := newTable(w, "ASKED", "REQUEST", "KIND", "FOR", "STATE", "ARRIVED", "HANDED ON", "BYTES", "FILE", "NOTE")
				for _, l := range out.Logs {
					file, size := "", ""
					if l.File != "" {
						file, size = filepath.Join(c.data, uploadsName, l.File), strconv.FormatInt(l.Size, 10)
					}
					t.row(when(&l.AskedAt), strconv.Itoa(l.Request), l.Kind, l.Backend, l.State, when(l.ArrivedAt), when(l.HandedAt), size, file, l.Note)
				}
				t.flush()
			})
		}),
	}
	cmd.Flags().BoolVar(&fetch, "fetch", false, "ask the station for its security log now")
	return cmd
}
