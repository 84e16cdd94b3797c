package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bollard/admin"
	"bollard/fleet"
	"bollard/internal/rollout"
)

func (c *cli) fleetCommand() *cobra.Command {
	cmd := c.group("fleet", "What is wanted of groups of stations and single ones, and rollouts that bring it about",
		c.fleetWant(), c.fleetGroups(), c.fleetPlan(), c.fleetRun(), c.fleetList(), c.fleetStatus(),
		c.fleetDecision("pause", "Let no further station begin; those at work go on"),
		c.fleetDecision("resume", "Go on with a paused or halted rollout; a halted one needs --reason"),
		c.fleetDecision("cancel", "End a rollout; stations whose turn hadn't come stay as they are"))
	cmd.Long = `Say what is wanted of a group of stations, or of one, see what differs, and bring
it about in waves. A wanted state does nothing by itself: plan shows what a rollout would
change, run begins one, and a running server goes on with it, after a crash too.`
	return cmd
}

func (c *cli) fleetWant() *cobra.Command {
	var in admin.Want
	var match, password, life, certificate, backend, source, quotes, attested string
	var roots []string
	profile := 0
	cmd := &cobra.Command{
		Use:   "want --group GROUP|--station ID [--profile 3] …",
		Short: "Say what is wanted of a group or a station; flags left out stay as they are",
		Long: `Say what is wanted of a group of stations, or of a single one; flags left out
stay as they are, an empty value or 0 withdraws the want. A station is of the
group of its label (station group), else of the first by name that --match fits,
else of the group named default. What is wanted of a station itself stands in
place of the same want of its group.`,
		Args: cobra.NoArgs,
	}
	f := cmd.Flags()
	f.StringVar(&in.Group, "group", "", "name of the group")
	f.StringVar(&in.Station, "station", "", "identity of one station, instead of a group")
	f.StringVar(&match, "match", "", "stations without a label: vendor=…,model=…,backend=… with * and ?")
	f.IntVar(&profile, "profile", 0, "security profile: 1, 2 or 3")
	f.StringVar(&password, "password-age", "", "older passwords are changed, such as 90d")
	f.StringVar(&life, "certificate-life", "", "longest validity of certificates, such as 180d")
	f.StringVar(&certificate, "certificate-type", "", "station, or combined for one of both uses (2.x)")
	f.StringArrayVar(&roots, "root", nil, "USE for Bollard's own root, or USE=FILE; repeat for several")
	f.StringVar(&backend, "backend", "", "name of a back end")
	f.StringVar(&source, "time-source", "", "ClockCtrlr.TimeSource of 2.x stations, such as NTP,Heartbeat")
	f.StringVar(&quotes, "quotes", "", "how often a station's TPM has to show that it runs what was delivered, such as 24h (docs/tpm.md)")
	f.StringVar(&attested, "attested", "", "yes: certificates for keys alone that the station's TPM made, from now on; of groups by label, since vendor and model may be a station's own word (docs/tpm.md); no: in spite of its group")
	f.BoolVar(&in.Remove, "remove", false, "forget the group, or what is the station's own; stations stay as they are")
	cmd.RunE = c.do(func(ctx context.Context, _ []string) error {
		if (in.Group == "") == (in.Station == "") {
			return admin.Usagef("stations are labelled with a group by `bollard station group`", "give --group or --station")
		}
		var err error
		for name, read := range map[string]func() error{
			"match": func() error { in.Match, err = groupMatch(match); return err },
			"profile": func() error {
				in.Profile = &profile
				return nil
			},
			"password-age":     func() error { in.PasswordAge, err = span(password); return err },
			"certificate-life": func() error { in.CertificateLife, err = span(life); return err },
			"certificate-type": func() error { in.CertificateType = &certificate; return nil },
			"root":             func() error { in.Roots, err = groupRoots(roots); return err },
			"backend":          func() error { in.Backend = &backend; return nil },
			"time-source":      func() error { in.TimeSource = &source; return nil },
			"quotes":           func() error { in.Quotes, err = span(quotes); return err },
			"attested":         func() error { in.Attested = &attested; return nil },
		} {
			if !f.Changed(name) {
				continue
			}
			if err := read(); err != nil {
				return admin.Usagef("`bollard fleet want --help` shows how it is given", "--%s: %w", name, err)
			}
		}
		out, err := call[admin.Want, admin.Wanted](ctx, c, "fleet.want", in)
		if err != nil {
			return err
		}
		return c.print(out, func(w io.Writer) {
			switch {
			case in.Remove && in.Station != "":
				fmt.Fprintf(w, "what is wanted of %s is what is wanted of its group\n", out.Station)
			case in.Remove:
				fmt.Fprintf(w, "group %s is forgotten\n", out.Name)
			case in.Station != "":
				writeOwn(w, out.Station, &out.Wants)
			default:
				writeGroup(w, &out.Group)
			}
		})
	})
	return cmd
}

func groupMatch(text string) (*fleet.GroupMatch, error) {
	var m fleet.GroupMatch
	for pair := range strings.SplitSeq(text, ",") {
		if pair = strings.TrimSpace(pair); pair == "" {
			continue
		}
		name, pattern, ok := strings.Cut(pair, "=")
		into := map[string]*string{"vendor": &m.Vendor, "model": &m.Model, "backend": &m.Backend}[name]
		if !ok || into == nil {
			return nil, fmt.Errorf("%.40q isn't vendor=…, model=… or backend=…", pair)
		}
		*into = pattern
	}
	return &m, nil
}

func groupRoots(list []string) (*[]admin.GroupRoot, error) {
	roots := []admin.GroupRoot{}
	for _, text := range list {
		use, file, named := strings.Cut(text, "=")
		root := admin.GroupRoot{Use: use}
		if named {
			data, err := readFile(file)
			if err != nil {
				return nil, err
			}
			root.PEM = string(data)
		}
		if use != "" {
			roots = append(roots, root)
		}
	}
	return &roots, nil
}

func writeGroup(w io.Writer, g *fleet.Group) {
	fmt.Fprintf(w, "group %s\n", g.Name)
	writeWant(w, "match vendor", g.Match.Vendor)
	writeWant(w, "match model", g.Match.Model)
	writeWant(w, "match back end", g.Match.Backend)
	writeWants(w, &g.Wants)
}

func writeOwn(w io.Writer, station string, wants *fleet.Wants) {
	fmt.Fprintf(w, "station %s, in place of what is wanted of its group\n", station)
	writeWants(w, wants)
}

func writeWant(w io.Writer, name, value string) {
	if value != "" {
		fmt.Fprintf(w, "  %-17s %s\n", name, value)
	}
}

func writeWants(w io.Writer, wants *fleet.Wants) {
	length := func(d time.Duration) string {
		if d == 0 {
			return ""
		}
		return strconv.FormatFloat(d.Hours()/24, 'f', -1, 64) + "d"
	}
	if wants.Profile > 0 {
		writeWant(w, "profile", strconv.Itoa(wants.Profile))
	}
	writeWant(w, "password age", length(wants.PasswordAge))
	writeWant(w, "certificate life", length(wants.CertificateLife))
	writeWant(w, "certificate type", wants.CertificateType)
	for _, r := range wants.Roots {
		writeWant(w, "root", r.Use+map[bool]string{true: ", own", false: ", from a file"}[r.Own])
	}
	writeWant(w, "back end", wants.Backend)
	writeWant(w, "time source", wants.TimeSource)
	if wants.Quotes > 0 {
		writeWant(w, "quotes", "every "+wants.Quotes.String())
	}
	writeWant(w, "attested keys", wants.Attested)
}

func (c *cli) fleetGroups() *cobra.Command {
	return &cobra.Command{
		Use:   "groups",
		Short: "List the groups and what is wanted of them, and of single stations",
		Args:  cobra.NoArgs,
		RunE: c.do(func(ctx context.Context, _ []string) error {
			out, err := call[admin.None, admin.Groups](ctx, c, "fleet.groups", admin.None{})
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) {
				for i := range out.Groups {
					writeGroup(w, &out.Groups[i])
				}
				for _, st := range out.Stations {
					writeOwn(w, st.Station, &st.Wants)
				}
			})
		}),
	}
}

// scopeFlags are those of plan and run.
func scopeFlags(cmd *cobra.Command, in *admin.FleetScope) func() error {
	only := ""
	cmd.Flags().StringVar(&in.Group, "group", "", "only stations of this group")
	cmd.Flags().StringVar(&in.Station, "station", "", "only this station")
	cmd.Flags().StringVar(&only, "only", "", fmt.Sprintf("only these changes, with commas between: %v", fleet.Changes()))
	cmd.Flags().BoolVar(&in.Renew, "renew", false, "renew every certificate made before now")
	return func() error {
		for name := range strings.SplitSeq(only, ",") {
			if name = strings.TrimSpace(name); name == "" {
				continue
			}
			if !slices.Contains(fleet.Changes(), fleet.Change(name)) {
				return admin.Usagef(fmt.Sprintf("changes are %v", fleet.Changes()), "there is no change %.40q", name)
			}
			in.Only = append(in.Only, fleet.Change(name))
		}
		return nil
	}
}

func (c *cli) fleetPlan() *cobra.Command {
	var in admin.FleetScope
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Dry run: show which stations differ from what is wanted, and how",
		Args:  cobra.NoArgs,
	}
	read := scopeFlags(cmd, &in)
	cmd.RunE = c.do(func(ctx context.Context, _ []string) error {
		if err := read(); err != nil {
			return err
		}
		out, err := call[admin.FleetScope, admin.FleetPlan](ctx, c, "fleet.plan", in)
		if err != nil {
			return err
		}
		return c.print(out, func(w io.Writer) {
			t := newTable(w, "STATION", "GROUP", "CHANGE", "WANTED", "SEEN", "NOTE")
			for _, p := range out.Stations {
				for _, d := range p.Drift {
					t.row(p.Station, p.Group, string(d.Change), d.Wanted, d.Seen, d.Unable)
				}
			}
			t.flush()
			fmt.Fprintf(w, "%d stations would be changed; %d differ in what can't be changed now\n", out.Changed, out.Unable)
		})
	})
	return cmd
}

func (c *cli) fleetRun() *cobra.Command {
	var in admin.FleetRun
	var waves, limit, success, spread, soak, patience string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Begin a rollout of what plan shows",
		Long: `Begin a rollout of what plan shows: in waves, with jitter, within limits. It
halts by itself where more stations of a wave fail than --fail-limit allows; one
that fails is left on what it was seen with. Stations that aren't connected keep
their turn until they are.`,
		Args: cobra.NoArgs,
	}
	read := scopeFlags(cmd, &in.FleetScope)
	f := cmd.Flags()
	f.StringVar(&waves, "waves", "1%,10%,100%", "cumulative shares of the stations")
	f.StringVar(&spread, "spread", "0", "time over which the beginnings are spread, such as 3d")
	f.StringVar(&soak, "soak", "1h", "pause between waves")
	f.StringVar(&patience, "patience", "2h", "a station that isn't done after this has failed")
	f.IntVar(&in.Rules.PerMinute, "per-minute", 60, "stations that begin in a minute")
	f.IntVar(&in.Rules.PerSite, "per-site", 1, "stations of one site at work at once; 0: no limit")
	f.StringVar(&limit, "fail-limit", "5%", "share of a wave that may fail")
	f.IntVar(&in.Rules.Sample, "sample", 0, "stations of a wave that must have come to an end before the next, however long that takes")
	f.StringVar(&success, "success", "0", "share of a wave that must be shown to succeed (lower end of its 95% interval); a wave too small to show it must have no failure")
	cmd.RunE = c.do(func(ctx context.Context, _ []string) error {
		if err := read(); err != nil {
			return err
		}
		if err := readRules(&in.Rules, waves, limit, success, spread, soak, patience); err != nil {
			return admin.Usagef("`bollard fleet run --help` shows how it is given", "%w", err)
		}
		out, err := call[admin.FleetRun, admin.Rollout](ctx, c, "fleet.run", in)
		if err != nil {
			return err
		}
		return c.print(out, func(w io.Writer) { writeRollout(w, &out) })
	})
	return cmd
}

func readRules(r *rollout.Rules, waves, limit, success, spread, soak, patience string) error {
	for text := range strings.SplitSeq(waves, ",") {
		share, err := percent(text)
		if err != nil {
			return fmt.Errorf("--waves: %w", err)
		}
		r.Waves = append(r.Waves, share)
	}
	var err error
	if r.FailLimit, err = percent(limit); err != nil {
		return fmt.Errorf("--fail-limit: %w", err)
	}
	if r.Bound, err = percent(success); err != nil {
		return fmt.Errorf("--success: %w", err)
	}
	for _, one := range []struct {
		name, text string
		into       *time.Duration
	}{{"spread", spread, &r.Spread}, {"soak", soak, &r.Soak}, {"patience", patience, &r.Patience}} {
		d, err := span(one.text)
		if err != nil {
			return fmt.Errorf("--%s: %w", one.name, err)
		}
		*one.into = *d
	}
	return nil
}

// percent reads a share such as 5% or 0.05.
func percent(text string) (float64, error) {
	number, percents := strings.CutSuffix(strings.TrimSpace(text), "%")
	share, err := strconv.ParseFloat(number, 64)
	if percents {
		share /= 100
	}
	if err != nil || !(share >= 0 && share <= 1) {
		return 0, fmt.Errorf("%.20q is no share such as 5%% or 0.05", text)
	}
	return share, nil
}

func (c *cli) fleetList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the rollouts, newest first",
		Args:  cobra.NoArgs,
		RunE: c.do(func(ctx context.Context, _ []string) error {
			out, err := call[admin.None, admin.Rollouts](ctx, c, "fleet.list", admin.None{})
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) {
				t := newTable(w, "ROLLOUT", "SINCE", "OF", "PHASE", "WAVE", "WAITING", "AT WORK", "DONE", "FAILED", "LEFT")
				for _, r := range out.Rollouts {
					n := func(s rollout.State) string { return strconv.Itoa(r.Count[s]) }
					t.row(r.ID, when(&r.At), cmp.Or(r.Station, r.Group), string(r.Phase), fmt.Sprintf("%d of %d", r.Wave, r.Waves),
						n(rollout.Waiting), n(rollout.Begun), n(rollout.Done), n(rollout.Failed), n(rollout.Left))
				}
				t.flush()
			})
		}),
	}
}

func (c *cli) fleetStatus() *cobra.Command {
	return &cobra.Command{
		Use:   "status [ROLLOUT]",
		Short: "Show how far a rollout is, the newest if none is named, and whose turn it is",
		Args:  cobra.MaximumNArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			out, err := call[admin.RolloutRef, admin.Rollout](ctx, c, "fleet.status", admin.RolloutRef{ID: strings.Join(args, "")})
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) {
				writeRollout(w, &out)
				t := newTable(w, "STATION", "WAVE", "STATE", "SINCE", "NOTE")
				for _, s := range out.Stations {
					if s.State == rollout.Done || s.State == rollout.Waiting && out.Phase != rollout.Halted && s.Wave > out.Wave {
						continue // the many that need no look
					}
					t.row(s.Station, strconv.Itoa(s.Wave), string(s.State), when(&s.At), s.Note)
				}
				t.flush()
			})
		}),
	}
}

func (c *cli) fleetDecision(name, short string) *cobra.Command {
	var in admin.RolloutRef
	cmd := &cobra.Command{
		Use:   name + " ROLLOUT",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			if in.ID = args[0]; in.ID == "" {
				return admin.Usagef("`bollard fleet list` shows them", "%w", errors.New("the rollout is missing"))
			}
			out, err := call[admin.RolloutRef, admin.Rollout](ctx, c, "fleet."+name, in)
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) { writeRollout(w, &out) })
		}),
	}
	cmd.Flags().StringVar(&in.Reason, "reason", "", "why, for the ledger")
	return cmd
}

func writeRollout(w io.Writer, r *admin.Rollout) {
	fmt.Fprintf(w, "rollout %s is %s in wave %d of %d since %s\n", r.ID, r.Phase, r.Wave, r.Waves, when(&r.At))
	if r.Why != "" {
		fmt.Fprintf(w, "reason: %s\n", r.Why)
	}
	fmt.Fprintf(w, "%d waiting, %d at work, %d done, %d failed, %d left\n", r.Count[rollout.Waiting], r.Count[rollout.Begun],
		r.Count[rollout.Done], r.Count[rollout.Failed], r.Count[rollout.Left])
}

func (c *cli) stationGroup() *cobra.Command {
	var group, site, hardware string
	cmd := &cobra.Command{
		Use:   "group ID [GROUP] [--site SITE] [--hardware REVISION]",
		Short: "Label a station with its group (\"\" for none), say where it stands and of which revision it is",
		Args:  cobra.RangeArgs(1, 2),
	}
	cmd.Flags().StringVar(&site, "site", "", "where it stands, for limits per site")
	cmd.Flags().StringVar(&hardware, "hardware", "", "revision of its hardware, for firmware of certain ones")
	cmd.RunE = c.do(func(ctx context.Context, args []string) error {
		in := admin.StationGroup{Identity: args[0]}
		if len(args) == 2 {
			group = args[1]
			in.Group = &group
		}
		if cmd.Flags().Changed("site") {
			in.Site = &site
		}
		if cmd.Flags().Changed("hardware") {
			in.Hardware = &hardware
		}
		out, err := call[admin.StationGroup, admin.Station](ctx, c, "station.group", in)
		if err != nil {
			return err
		}
		return c.print(out, func(w io.Writer) {
			fmt.Fprintf(w, "%s: group %q, site %q", out.Identity, out.Group, out.Site)
			if out.Hardware != "" {
				fmt.Fprintf(w, ", hardware %q", out.Hardware)
			}
			fmt.Fprintln(w)
		})
	})
	return cmd
}
