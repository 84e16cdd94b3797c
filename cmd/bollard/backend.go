package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"bollard/admin"
)

func (c *cli) backendCommand() *cobra.Command {
	return c.group("backend", "Secrets Bollard uses toward back ends", c.backendPassword())
}

func (c *cli) backendPassword() *cobra.Command {
	return &cobra.Command{
		Use:   "password ID",
		Short: "Store the password with which Bollard logs in as a station (auth: basic-per-station)",
		Long: `Store the password with which Bollard logs in to the back end as this station,
where the back end has auth: basic-per-station. It is read from standard input
(one line, hex:… for raw bytes) and kept encrypted.`,
		Args: cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			in := admin.SetPassword{Identity: args[0]}
			if err := c.readPassword(true, &in.Password); err != nil {
				return err
			}
			if _, err := call[admin.SetPassword, admin.None](ctx, c, "backend.password", in); err != nil {
				return err
			}
			return c.print(admin.StationRef{Identity: args[0]}, func(w io.Writer) {
				fmt.Fprintf(w, "the back-end password of %s is stored; it is used from the next session on\n", args[0])
			})
		}),
	}
}
