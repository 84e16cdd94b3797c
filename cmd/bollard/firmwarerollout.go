package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"bollard/admin"
	"bollard/firmware/campaign"
	"bollard/internal/rollout"
)

func (c *cli) firmwareRollout() *cobra.Command {
	plan, dry := planFlags{}, false
	cmd := &cobra.Command{
		Use:   "rollout RELEASE [--dry-run]",
		Short: "Bring a published release to the stations it is for, ring by ring",
		Long: `Bring a published release to the stations it is for, ring by ring: those of the
group lab first, then a few of mixed models and sites, then more. A station gets it
while its window is open (firmware.windows in bollard.yaml), and one of a site at once:
never the last one that works, where a site has several.

It halts by itself where more stations of a ring fail than --fail-limit allows, where
one reports InvalidSignature, or where those of a ring reconnect, have faults, failed or
unmetered transactions more often while it soaks than those whose turn hasn't come, or,
of the last ring, than they did while the one before soaked, or transact and meter no
more; going on takes approvals then.

No station of a site begins while one of it says that the grid's operator limits it
(NotifyChargingLimit of OCPP 2.x; of 2.1 NotifyDERAlarm and NotifyDERStartStop too).

--dry-run shows who takes part in which ring, and why others don't. Beginning takes the
approval of firmware.start for the first ring with stations and for this very plan:
"firmware approve RELEASE --action start --ring R" takes the same options. Each further
ring takes that of firmware.widen for this very rollout, which can be given once the
release rolls; a halt voids what wasn't used by then. No ring ends before one of its
stations runs the release.`,
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only show what it would do")
	plan.on(cmd)
	cmd.RunE = c.do(func(ctx context.Context, args []string) error {
		in, err := plan.read()
		if err != nil {
			return err
		}
		in.Release = args[0]
		if dry {
			return c.dryRollout(ctx, in)
		}
		return c.showRollout(ctx, "firmware.rollout", in)
	})
	return cmd
}

func ringText(list []campaign.Ring) string {
	var out []string
	for _, r := range list {
		out = append(out, fmt.Sprintf("%s=%g%%", r.Name, r.Share*100))
	}
	return strings.Join(out, ",")
}

func (c *cli) dryRollout(ctx context.Context, in admin.ReleaseRollout) error {
	out, err := call[admin.ReleaseRollout, admin.ReleasePlan](ctx, c, "firmware.rollout.plan", in)
	if err != nil {
		return err
	}
	return c.print(out, func(w io.Writer) {
		t := newTable(w, "STATION", "RING", "SITE", "MODEL", "ONLINE", "WINDOW", "NOTE")
		for _, p := range out.Stations {
			opens := "open"
			switch {
			case !p.Opens.IsZero():
				opens = when(&p.Opens)
			case p.Limited:
				opens = "grid limit"
			}
			t.row(p.Station, p.Ring, p.Site, p.Model, map[bool]string{true: "yes", false: "no"}[p.Online], opens, p.Unable)
		}
		t.flush()
		fmt.Fprintf(w, "%d of %d stations would take part\n", out.Takes, len(out.Stations))
	})
}

// showRollout runs an operation that answers with how far a rollout is.
func (c *cli) showRollout(ctx context.Context, operation string, in any) error {
	out, err := call[any, admin.ReleaseProgress](ctx, c, operation, in)
	if err != nil {
		return err
	}
	return c.print(out, func(w io.Writer) { writeReleaseProgress(w, &out) })
}

func writeReleaseProgress(w io.Writer, p *admin.ReleaseProgress) {
	fmt.Fprintf(w, "rollout of %s (%s) is %s in ring %s of %s since %s\n", p.Version, p.Release, p.Phase, p.Ring, strings.Join(p.Rings, ", "), when(&p.At))
	if p.Terms != "" {
		fmt.Fprintf(w, "rollout %s: %s\n", p.ID, p.Terms)
	}
	if p.Why != "" {
		fmt.Fprintf(w, "reason: %s\n", p.Why)
	}
	if p.Asks != "" {
		fmt.Fprintf(w, "ring %s begins once it is approved: `bollard firmware approve %s --action widen --ring %s --rollout %s`\n", p.Asks, p.Release, p.Asks, p.ID)
	}
	fmt.Fprintf(w, "%d waiting, %d at work, %d done, %d failed, %d left\n", p.Count[rollout.Waiting], p.Count[rollout.Begun],
		p.Count[rollout.Done], p.Count[rollout.Failed], p.Count[rollout.Left])
}

func (c *cli) firmwareRollouts() *cobra.Command {
	return &cobra.Command{
		Use:   "rollouts [RELEASE]",
		Short: "List the rollouts of releases, or show that of one, station by station",
		Args:  cobra.MaximumNArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			if len(args) == 0 {
				return c.listRollouts(ctx)
			}
			out, err := call[admin.ReleaseRef, admin.ReleaseProgress](ctx, c, "firmware.rollout.show", admin.ReleaseRef{Release: args[0]})
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) {
				writeReleaseProgress(w, &out)
				t := newTable(w, "STATION", "RING", "STATE", "SINCE", "SHOWN", "NOTE")
				for _, m := range out.Stations {
					var shown []string
					for _, kind := range slices.Sorted(maps.Keys(m.Signs)) {
						shown = append(shown, fmt.Sprintf("%d %s", m.Signs[kind], kind))
					}
					t.row(m.Station, m.Ring, string(m.State), when(&m.At), strings.Join(shown, ", "), m.Note)
				}
				t.flush()
			})
		}),
	}
}

func (c *cli) listRollouts(ctx context.Context) error {
	out, err := call[admin.None, admin.ReleaseRollouts](ctx, c, "firmware.rollouts", admin.None{})
	if err != nil {
		return err
	}
	return c.print(out, func(w io.Writer) {
		t := newTable(w, "ROLLOUT", "VERSION", "SINCE", "PHASE", "RING", "WAITING", "AT WORK", "DONE", "FAILED", "LEFT", "RELEASE")
		for _, r := range out.Rollouts {
			n := func(s rollout.State) string { return strconv.Itoa(r.Count[s]) }
			t.row(r.ID, r.Version, when(&r.At), string(r.Phase), r.Ring, n(rollout.Waiting), n(rollout.Begun), n(rollout.Done), n(rollout.Failed), n(rollout.Left), r.Release)
		}
		t.flush()
	})
}

func (c *cli) rolloutDecision(name, short, long string) *cobra.Command {
	in := admin.RolloutDecision{}
	cmd := &cobra.Command{
		Use:   name + " RELEASE --reason TEXT",
		Short: short,
		Long:  long,
		Args:  cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			in.Release = args[0]
			return c.showRollout(ctx, "firmware."+name, in)
		}),
	}
	cmd.Flags().StringVar(&in.Reason, "reason", "", "why, for the ledger (required)")
	return cmd
}
