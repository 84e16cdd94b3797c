package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"bollard/admin"
	"bollard/ledger"
)

// acceptedClock is what accept-clock prints.
type acceptedClock struct {
	Newest time.Time `json:"newest_record"` // before
	Now    time.Time `json:"now"`
}

func (c *cli) caAcceptClock() *cobra.Command {
	return &cobra.Command{
		Use:   "accept-clock DATE",
		Short: "Sign again after a clock that was ahead was set right",
		Long: `Sign again after a clock that was ahead was set right. Nothing is signed while the clock
is behind anything on record, since dates would lie, and rollouts wait; what a clock
recorded that was ahead by months would keep it so for months. DATE is today's (UTC,
2026-11-27), which this machine's clock has to agree with: look at another one. The server
has to be stopped. When it starts again it has new server certificates in place of those
that begin later.

Certificates that stations were given meanwhile begin later, too: revoke them, and let
those stations in by a password or a one-time secret (docs/monitoring.md).`,
		Args: cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			today, err := time.Parse(time.DateOnly, args[0])
			if err != nil {
				return admin.Usagef("give today's date, such as 2026-11-27", "%.32q is no date", args[0])
			}
			out, err := c.acceptClock(ctx, today, time.Now)
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) {
				fmt.Fprintf(w, "the newest record was of %s; the clock counts from now, %s\n", when(&out.Newest), when(&out.Now))
			})
		}),
	}
}

func (c *cli) acceptClock(ctx context.Context, today time.Time, clock func() time.Time) (acceptedClock, error) {
	cfg, err := loadConfig(c.data)
	if err != nil {
		return acceptedClock{}, err
	}
	lock, err := lockForServer(ctx, c.data)
	if err != nil {
		return acceptedClock{}, err
	}
	defer lock.release()
	if err := refuseForeignOwner(c.data); err != nil {
		return acceptedClock{}, err
	}
	a, err := openAppAt(ctx, clock, c.data, cfg, quietLog(c.stderr), nil)
	if err != nil {
		return acceptedClock{}, err
	}
	out, err := a.acceptClock(ctx, today)
	return out, errors.Join(err, a.Close())
}

func (a *app) acceptClock(ctx context.Context, today time.Time) (acceptedClock, error) {
	out := acceptedClock{Now: a.clock().UTC()}
	newest, err := a.store.NewestTime(ctx)
	if err != nil {
		return out, err
	}
	out.Newest = newest
	switch {
	case out.Now.Format(time.DateOnly) != today.Format(time.DateOnly):
		return out, admin.Refusedf("set the clock (NTP), or give the right date", "the clock says %s, not %s", out.Now.Format(time.DateOnly), today.Format(time.DateOnly))
	case !out.Now.Before(newest):
		return out, admin.Refusedf("", "the clock isn't behind anything on record: there is nothing to accept")
	}
	return out, a.store.AcceptClock(ctx, ledger.Event{Kind: "ca.clock-accepted", Subject: "clock", Actor: admin.OperatorName(os.Geteuid()), Data: map[string]string{
		"newest": newest.Format(time.RFC3339), "now": out.Now.Format(time.RFC3339),
	}})
}
