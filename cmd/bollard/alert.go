package main

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"bollard/admin"
)

func (c *cli) alertCommand() *cobra.Command {
	return c.group("alert", "What looks like an attack or a fault, and who is told", c.alertList(), c.alertTest())
}

func (c *cli) alertList() *cobra.Command {
	in := admin.AlertFilter{}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Show findings, newest first, and the receivers of alerts",
		Args:  cobra.NoArgs,
		RunE: c.do(func(ctx context.Context, _ []string) error {
			out, err := call[admin.AlertFilter, admin.Alerts](ctx, c, "alert.list", in)
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) { writeAlerts(w, out) })
		}),
	}
	cmd.Flags().StringVar(&in.Station, "station", "", "only those about this station")
	cmd.Flags().IntVar(&in.Limit, "limit", 100, "how many, 1000 at most")
	return cmd
}

func writeAlerts(w io.Writer, out admin.Alerts) {
	t := newTable(w, "LAST", "FINDING", "CRITICALITY", "STATION", "SOURCE", "COUNT", "FIRST", "REASON")
	for _, f := range out.Findings {
		t.row(when(&f.Last), f.Name, string(f.Criticality), f.Station, f.Source, strconv.Itoa(f.Count), when(&f.First), f.Reason)
	}
	t.flush()
	for _, r := range out.Receivers {
		text := fmt.Sprintf("receiver %s: %d alerts wait", r.Name, r.Waiting)
		if r.Oldest != nil {
			text += ", the oldest since " + when(r.Oldest)
		}
		if r.Lost > 0 {
			text += fmt.Sprintf("; %d were given up", r.Lost)
		}
		fmt.Fprintln(w, text)
	}
	if len(out.Receivers) == 0 {
		fmt.Fprintln(w, "nobody is told: alerts: in bollard.yaml names receivers")
	}
}

func (c *cli) alertTest() *cobra.Command {
	return &cobra.Command{
		Use:   "test [RECEIVER]",
		Short: "Send a test alert to one receiver, or to all",
		Args:  cobra.MaximumNArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			in := admin.TestAlert{}
			if len(args) == 1 {
				in.Receiver = args[0]
			}
			out, err := call[admin.TestAlert, admin.TestedAlerts](ctx, c, "alert.test", in)
			if err != nil {
				return err
			}
			failed := 0
			for _, r := range out.Results {
				if !r.OK {
					failed++
				}
			}
			if err := c.print(out, func(w io.Writer) {
				for _, r := range out.Results {
					if r.OK {
						fmt.Fprintf(w, "%s took the test alert\n", r.Receiver)
					} else {
						fmt.Fprintf(w, "%s: %s\n", r.Receiver, r.Text)
					}
				}
			}); err != nil {
				return err
			}
			if failed > 0 {
				return admin.Failedf("mend it under alerts: in bollard.yaml, or at the receiver", "%d of %d receivers didn't take the test alert", failed, len(out.Results))
			}
			return nil
		}),
	}
}
