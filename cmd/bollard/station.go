package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bollard/admin"
	"bollard/fleet"
)

func (c *cli) stationCommand() *cobra.Command {
	return c.group("station", "Enrol, look at and change charging stations",
		c.stationAdd(), c.stationImport(), c.stationExport(), c.stationList(), c.stationShow(), c.stationRemove(),
		c.stationPassword(), c.stationRoots(), c.stationProfile(), c.stationRenew(), c.stationSECC(), c.stationTPM(), c.stationCheck(), c.stationEvents(), c.stationLog(), c.stationEnrolSecret(), c.stationGroup(),
		c.stationLost(), c.stationReplace(), c.stationDecommission())
}

func (c *cli) stationAdd() *cobra.Command {
	in := admin.Enrolment{}
	stdin := false
	cmd := &cobra.Command{
		Use:   "add ID --serial SN",
		Short: "Enrol one station; prints a generated password, once",
		Args:  cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			in.Identity = args[0]
			if in.Serial == "" {
				return admin.Usagef("it becomes the CN of the station's certificate", "--serial is missing")
			}
			if err := c.readPassword(stdin, &in.Password); err != nil {
				return err
			}
			out, err := call[admin.Enrolment, admin.Enrolled](ctx, c, "station.add", in)
			if err != nil {
				return err
			}
			write := func(w io.Writer) {
				fmt.Fprintf(w, "added %s, serial %s, security profile %d\n", out.Identity, out.Serial, out.Profile)
				if out.Password != "" {
					fmt.Fprintf(w, "password: %s\nIt is shown this once; `bollard station password %s` makes another.\n", out.Password, shellWord(out.Identity))
				}
			}
			if out.Password == "" {
				return c.print(out, write)
			}
			return c.printOnce(fmt.Sprintf("%s was added, but its password is lost", out.Identity),
				"`bollard station password "+shellWord(out.Identity)+"` makes another", out, write)
		}),
	}
	f := cmd.Flags()
	f.StringVar(&in.Serial, "serial", "", "serial number of the station (required)")
	f.IntVar(&in.Profile, "profile", 2, "security profile: 1, 2 or 3")
	f.StringVar(&in.Vendor, "vendor", "", "vendor")
	f.StringVar(&in.Model, "model", "", "model")
	f.StringVar(&in.Alias, "alias", "", "further serial number accepted as this station's CN")
	f.StringVar(&in.Group, "group", "", "group whose wants hold for it (bollard fleet)")
	f.StringVar(&in.Site, "site", "", "where it stands, for limits per site")
	f.StringVar(&in.Hardware, "hardware", "", "revision of its hardware, for firmware of certain ones")
	f.StringVar(&in.FactoryHash, "cert-sha256", "", "SHA-256 of the maker's certificate the station comes with")
	f.StringVar(&in.FactoryKey, "key-sha256", "", "SHA-256 of that certificate's public key, where it may be renewed by its maker")
	f.BoolVar(&in.OneTime, "one-time", false, "have the station replace the password at first contact by one nobody is told (A01)")
	f.BoolVar(&in.Reuse, "reuse", false, "the identity may be one that was decommissioned")
	f.BoolVar(&stdin, "password-stdin", false, "read the password from standard input (hex:… for raw bytes) instead of generating one")
	f.BoolVar(&in.NoPassword, "no-password", false, "set none: the back end tells it by adoption (backends[].adopt in bollard.yaml)")
	return cmd
}

// readPassword reads a station's password from standard input if asked to.
func (c *cli) readPassword(asked bool, into *admin.Secret) error {
	if !asked {
		return nil
	}
	line, err := secretLine(c.stdin)
	if err != nil {
		return err
	}
	password, err := stationPassword(line)
	if err != nil {
		return admin.Usagef("give the bytes as hex:A0B1…, or a password that doesn't start with hex:", "%w", err)
	}
	*into = password
	return nil
}

func (c *cli) stationList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the enrolled stations",
		Args:  cobra.NoArgs,
		RunE: c.do(func(ctx context.Context, _ []string) error {
			out, err := call[admin.None, admin.Stations](ctx, c, "station.list", admin.None{})
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) {
				t := newTable(w, "IDENTITY", "SERIAL", "VENDOR", "MODEL", "PROFILE", "OCPP", "SEEN", "LAST REFUSAL")
				for _, s := range out.Stations {
					profile := strconv.Itoa(s.SeenProfile)
					if s.SeenProfile == 0 {
						profile = "-"
					}
					if s.SeenProfile != s.WantedProfile {
						profile += " → " + strconv.Itoa(s.WantedProfile)
					}
					seen := when(s.SeenAt)
					if s.Online {
						seen = "online"
					}
					t.row(s.Identity, s.Serial, s.Vendor, s.Model, profile, s.Version, seen, refusal(s))
				}
				t.flush()
			})
		}),
	}
}

// refusal is the last refusal if the station hasn't been let in since.
func refusal(s admin.Station) string {
	if s.RefusedAt == nil || (s.SeenAt != nil && s.SeenAt.After(*s.RefusedAt)) {
		return ""
	}
	return s.LastRefusal
}

func (c *cli) stationShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Show all that is known of a station",
		Args:  cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			out, err := call[admin.StationRef, admin.StationDetail](ctx, c, "station.show", admin.StationRef{Identity: args[0]})
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) { writeStation(w, out) })
		}),
	}
}

func writeStation(w io.Writer, d admin.StationDetail) {
	s := d.Station
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%-14s %s\n", name, value)
		}
	}
	line("identity", s.Identity)
	line("serial", s.Serial)
	line("aliases", strings.Join(s.Aliases, ", "))
	line("vendor", s.Vendor)
	line("model", s.Model)
	line("group", s.Group)
	line("site", s.Site)
	line("hardware", s.Hardware)
	for _, secc := range s.SECCs {
		evse := ""
		if secc.EVSE > 0 {
			evse = fmt.Sprintf(", EVSE %d", secc.EVSE)
		}
		line("secc", secc.ID+evse)
	}
	if s.Backend != "" {
		line("back end", s.Backend+" wanted, "+cmp.Or(s.SeenBackend, "none")+" seen")
	}
	line("profile", fmt.Sprintf("wanted %d, seen %d, never below %d", s.WantedProfile, s.SeenProfile, s.FloorProfile))
	if s.LowerUntil != nil {
		line("coming down", "approved until "+when(s.LowerUntil))
	}
	line("password", map[bool]string{true: "set", false: "none"}[s.PasswordSet])
	line("factory cert", s.FactoryHash)
	line("factory key", s.FactoryKey)
	line("tpm", s.EK)
	if d.Quote != nil {
		line("quote", quoted(d.Quote))
	}
	if s.LostAt != nil {
		line("lost", when(s.LostAt)+": "+s.LostReason)
	}
	for _, check := range s.Warn {
		line("only warns", string(check))
	}
	if s.AllowExpired != nil {
		line("allow expired", "until "+when(s.AllowExpired))
	}
	if s.RenewWanted {
		line("renewal", "wanted")
	}
	if s.Pending {
		line("new password", "sent to the station; its next login decides")
	} else if s.RotateWanted {
		line("new password", "wanted")
	}
	line("still to come", s.PlanNote)
	for _, step := range d.Steps {
		next := "next " + when(&step.Next)
		if step.Stopped {
			next = "stopped"
		}
		line("step", fmt.Sprintf("%s, tried %d times, %s: %s", step.Step, step.Tries, next, step.Note))
	}
	for _, r := range d.Roots {
		line("root", fmt.Sprintf("%s %s, serial %s", r.Use, r.ID, r.Serial))
	}
	line("added", when(&s.CreatedAt))
	line("last seen", when(s.SeenAt))
	if s.RefusedAt != nil {
		line("last refusal", when(s.RefusedAt)+": "+s.LastRefusal)
	}
	if d.FailedAt != nil {
		line("no session", when(d.FailedAt)+": "+d.Failure)
	}
	if live := d.Session; live != nil {
		line("session", fmt.Sprintf("%s, OCPP %s, profile %d, security %s", live.ID, live.Version, live.Profile, live.Security))
		for _, note := range live.Notes {
			line("warning", note)
		}
	} else {
		line("session", "none")
	}
	if cert := d.Certificate; cert != nil {
		line("certificate", fmt.Sprintf("%s, expires %s", cert.Serial, when(&cert.NotAfter)))
		line("key in TPM", attestedBy(*cert))
	}
	for _, f := range d.Findings {
		line("finding", fmt.Sprintf("%s %s, %s, %d times since %s: %s", when(&f.Last), f.Name, f.Criticality, f.Count, when(&f.First), f.Reason))
	}
	for _, o := range d.Orders {
		text := fmt.Sprintf("%s %s %s", when(&o.CreatedAt), o.State, o.Serial)
		if o.SECC != "" {
			text += fmt.Sprintf(" (%s %s)", o.Type, o.SECC)
		}
		if o.Reason != "" {
			text += ": " + o.Reason
		}
		line("order", text)
	}
}

func (c *cli) stationRemove() *cobra.Command {
	return &cobra.Command{
		Use:   "remove ID",
		Short: "Forget a station, revoke its certificates, end its session",
		Args:  cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			if _, err := call[admin.StationRef, admin.None](ctx, c, "station.remove", admin.StationRef{Identity: args[0]}); err != nil {
				return err
			}
			return c.print(admin.StationRef{Identity: args[0]}, func(w io.Writer) {
				fmt.Fprintf(w, "removed %s and revoked its certificates\n", args[0])
			})
		}),
	}
}

func (c *cli) stationPassword() *cobra.Command {
	stdin, rotate := false, false
	cmd := &cobra.Command{
		Use:   "password ID",
		Short: "Set a station's password; prints a generated one, once",
		Args:  cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			if rotate {
				if stdin {
					return admin.Usagef("give one of them", "--rotate makes the password itself; --password-stdin gives one")
				}
				return c.rotatePassword(ctx, args[0])
			}
			in := admin.SetPassword{Identity: args[0]}
			if err := c.readPassword(stdin, &in.Password); err != nil {
				return err
			}
			out, err := call[admin.SetPassword, admin.NewPassword](ctx, c, "station.password", in)
			if err != nil {
				return err
			}
			return c.printOnce(fmt.Sprintf("the password of %s is changed, but couldn't be shown", out.Identity),
				"`bollard station password "+shellWord(out.Identity)+"` makes another", out, func(w io.Writer) {
					fmt.Fprintf(w, "the password of %s is changed\n", out.Identity)
					if out.Password != "" {
						fmt.Fprintf(w, "password: %s\nIt is shown this once.\n", out.Password)
					}
				})
		}),
	}
	cmd.Flags().BoolVar(&stdin, "password-stdin", false, "read the password from standard input (hex:… for raw bytes) instead of generating one")
	cmd.Flags().BoolVar(&rotate, "rotate", false, "have the station itself take a new, generated password over OCPP (A01); nobody is shown it")
	return cmd
}

func (c *cli) stationProfile() *cobra.Command {
	return &cobra.Command{
		Use:   "profile ID N",
		Short: "Set the security profile a station is to reach",
		Long: `Set the security profile a station is to reach. Never below one it was seen on,
with one exception: from 3 to 2, where the station has that way down (OCPP 2.x)
and enough people have approved it (bollard approval request station.downgrade).`,
		Args: cobra.ExactArgs(2),
		RunE: c.do(func(ctx context.Context, args []string) error {
			n, err := strconv.Atoi(args[1])
			if err != nil {
				return admin.Usagef("security profiles are 1, 2 and 3", "%q is no security profile", args[1])
			}
			out, err := call[admin.SetProfile, admin.Station](ctx, c, "station.profile", admin.SetProfile{Identity: args[0], Profile: n})
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) {
				fmt.Fprintf(w, "%s is to reach security profile %d; it was seen on %d\n", out.Identity, out.WantedProfile, out.SeenProfile)
			})
		}),
	}
}

func (c *cli) stationRenew() *cobra.Command {
	var allow time.Duration
	cmd := &cobra.Command{
		Use:   "renew ID",
		Short: "Ask a station for a new CSR, at once if it is connected",
		Args:  cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			out, err := call[admin.Renew, admin.Station](ctx, c, "station.renew", admin.Renew{Identity: args[0], AllowExpired: allow})
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) {
				if out.Online {
					fmt.Fprintf(w, "%s is asked for a new CSR now\n", out.Identity)
				} else {
					fmt.Fprintf(w, "%s is asked for a new CSR when it connects\n", out.Identity)
				}
				if out.AllowExpired != nil {
					fmt.Fprintf(w, "an expired certificate of its own is let in until %s\n", when(out.AllowExpired))
				}
			})
		}),
	}
	spanVar(cmd, &allow, "allow-expired", 0, "let the station's expired certificate in for so long, such as 48h")
	return cmd
}

func (c *cli) stationCheck() *cobra.Command {
	var names []string
	for _, check := range fleet.Checks() {
		names = append(names, string(check))
	}
	return &cobra.Command{
		Use:   "check ID CHECK warn|enforce",
		Short: "Let one check of a station only warn, or enforce it again",
		Long: "Let one check of a station only warn, or enforce it again. Every warning is recorded.\n\nChecks: " +
			strings.Join(names, ", ") + ".",
		Args: cobra.ExactArgs(3),
		RunE: c.do(func(ctx context.Context, args []string) error {
			if !slices.Contains(names, args[1]) {
				return admin.Usagef("checks are "+strings.Join(names, ", "), "there is no check %q", args[1])
			}
			if args[2] != "warn" && args[2] != "enforce" {
				return admin.Usagef("say warn or enforce", "a check can't be set to %q", args[2])
			}
			in := admin.SetCheck{Identity: args[0], Check: fleet.Check(args[1]), Warn: args[2] == "warn"}
			out, err := call[admin.SetCheck, admin.Station](ctx, c, "station.check", in)
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) {
				fmt.Fprintf(w, "%s: %s is set to %s\n", out.Identity, args[1], args[2])
			})
		}),
	}
}
