package main

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"bollard/admin"
)

func (c *cli) stationEvents() *cobra.Command {
	in := admin.StationEvents{}
	cmd := &cobra.Command{
		Use:   "events ID",
		Short: "Show the security events a station reported, newest first",
		Args:  cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			in.Identity = args[0]
			out, err := call[admin.StationEvents, admin.SecurityEvents](ctx, c, "station.events", in)
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) { writeEvents(w, out) })
		}),
	}
	cmd.Flags().IntVar(&in.Limit, "limit", 100, "how many, 1000 at most")
	return cmd
}

// writeEvents quotes whatever is the station's text: it may be meant for the
// operator's terminal.
func writeEvents(w io.Writer, out admin.SecurityEvents) {
	t := newTable(w, "RECEIVED", "TYPE", "CRITICAL", "SENT AT", "TECHNICAL INFORMATION")
	for _, e := range out.Events {
		kind := e.Type
		if !e.Listed {
			kind = strconv.QuoteToASCII(kind)
		}
		info := ""
		if e.TechInfo != "" {
			info = strconv.QuoteToASCII(e.TechInfo)
		}
		t.row(when(&e.ReceivedAt), kind, map[bool]string{true: "yes", false: "no"}[e.Critical], strconv.QuoteToASCII(e.Timestamp), info)
	}
	t.flush()
	if out.DroppedEvents > 0 {
		fmt.Fprintf(w, "%d older events were not kept\n", out.DroppedEvents)
	}
	if out.DroppedCopies > 0 {
		fmt.Fprintf(w, "%d events never reached the back end\n", out.DroppedCopies)
	}
}
