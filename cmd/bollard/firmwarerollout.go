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
	in := admin.ReleaseRollout{}
	var rings, limit, success, soak, patience, jitter, share string
	dry := false
	cmd := &cobra.Command{
		Use:   "rollout RELEASE [--dry-run]",
		Short: "Bring a published release to the stations it is for, ring by ring",
		Long: `Bring a published release to the stations it is for, ring by ring: those of the
group lab first, then a few of mixed models and sites, then more. A station gets it
while its window is open (firmware.windows in bollard.yaml), and one of a site at once:
never the last one that works, where a site has several.

It halts by itself where more stations of a ring fail than --fail-limit allows, where
one reports InvalidSignature, or where those of a ring reconnect, have faults or failed
transactions more often while it soaks than those whose turn hasn't come; going on takes
approvals then. --dry-run shows who
takes part in which ring, and why others don't. Beginning takes the approval of
firmware.start for the first ring, and each further ring that of firmware.widen, which
can be given once the release rolls; a halt voids what wasn't used by then. No ring ends
before one of its stations runs the release.`,
		Args: cobra.ExactArgs(1),
	}
	f := cmd.Flags()
	f.BoolVar(&dry, "dry-run", false, "only show what it would do")
	f.StringVar(&rings, "rings", ringText(campaign.Rings()), "names and cumulative shares of the stations")
	f.StringVar(&in.Lab, "lab", "lab", "group whose stations are the first ring")
	f.StringVar(&in.Group, "group", "", "only stations of this group")
	f.StringVar(&soak, "soak", "24h", "pause between rings")
	f.StringVar(&patience, "patience", "24h", "a station that isn't done after this has failed, once no update of it runs, and one that isn't there is waited for as long")
	f.StringVar(&jitter, "jitter", "10m", "time over which downloads are spread")
	f.IntVar(&in.Rules.PerMinute, "per-minute", 60, "stations that begin in a minute")
	f.IntVar(&in.Rules.PerSite, "per-site", 1, "stations of one site at work at once; 0: no limit")
	f.StringVar(&share, "site-share", "50%", "share of a site's stations that may be at work at once, but one always may; 100%: no limit")
	f.StringVar(&limit, "fail-limit", "2%", "share of a ring that may fail")
	f.IntVar(&in.Rules.Sample, "sample", 0, "stations of a ring that must have come to an end before the next, however long that takes")
	f.StringVar(&success, "success", "99%", "share of a ring that must be shown to succeed (lower end of its 95% interval); a ring too small to show it must have no failure")
	cmd.RunE = c.do(func(ctx context.Context, args []string) error {
		in.Release = args[0]
		if err := readReleaseRules(&in, rings, limit, success, soak, patience, jitter, share); err != nil {
			return admin.Usagef("`bollard firmware rollout --help` shows how it is given", "%w", err)
		}
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

func readReleaseRules(in *admin.ReleaseRollout, rings, limit, success, soak, patience, jitter, share string) error {
	in.Rings = nil
	for one := range strings.SplitSeq(rings, ",") {
		name, text, _ := strings.Cut(one, "=")
		share, err := percent(text)
		if err != nil {
			return fmt.Errorf("--rings: %w", err)
		}
		in.Rings = append(in.Rings, campaign.Ring{Name: strings.TrimSpace(name), Share: share})
	}
	in.Rules.Waves = nil
	if err := readRules(&in.Rules, "100%", limit, success, "0", soak, patience); err != nil {
		return err
	}
	d, err := span(jitter)
	if err != nil {
		return fmt.Errorf("--jitter: %w", err)
	}
	in.Jitter = *d
	if in.SiteShare, err = percent(share); err != nil {
		return fmt.Errorf("--site-share: %w", err)
	}
	return nil
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
			if !p.Opens.IsZero() {
				opens = when(&p.Opens)
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
	if p.Why != "" {
		fmt.Fprintf(w, "reason: %s\n", p.Why)
	}
	if p.Asks != "" {
		fmt.Fprintf(w, "ring %s begins once it is approved: `bollard firmware approve %s --action widen --ring %s`\n", p.Asks, p.Release, p.Asks)
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
		t := newTable(w, "VERSION", "SINCE", "PHASE", "RING", "WAITING", "AT WORK", "DONE", "FAILED", "LEFT", "RELEASE")
		for _, r := range out.Rollouts {
			n := func(s rollout.State) string { return strconv.Itoa(r.Count[s]) }
			t.row(r.Version, when(&r.At), string(r.Phase), r.Ring, n(rollout.Waiting), n(rollout.Begun), n(rollout.Done), n(rollout.Failed), n(rollout.Left), r.Release)
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
