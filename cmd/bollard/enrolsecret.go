package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"bollard/admin"
)

func (c *cli) stationEnrolSecret() *cobra.Command {
	var valid time.Duration
	cmd := &cobra.Command{
		Use:   "enrol-secret ID",
		Short: "Make a one-time secret for a station's first certificate over EST; prints it, once",
		Args:  cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			in := admin.EnrolSecret{Identity: args[0], Valid: valid}
			out, err := call[admin.EnrolSecret, admin.NewEnrolSecret](ctx, c, "station.enrol-secret", in)
			if err != nil {
				return err
			}
			return c.printOnce(fmt.Sprintf("the secret of %s is made, but lost", out.Identity),
				"`bollard station enrol-secret "+shellWord(out.Identity)+"` makes another", out, func(w io.Writer) {
					fmt.Fprintf(w, "one-time secret: %s\nIt is shown this once, holds until %s and for one key; an earlier one of %s has ended.\n",
						out.Secret, when(&out.Until), out.Identity)
				})
		}),
	}
	spanVar(cmd, &valid, "valid", 24*time.Hour, "for how long, 1m to 2160h")
	return cmd
}
