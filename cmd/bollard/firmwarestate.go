package main

import (
	"context"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"bollard/admin"
	"bollard/firmware/catalogue"
)

// firmwareActions are what people approve of a release, as --action has them.
func firmwareActions() string {
	var names []string
	for _, a := range catalogue.Actions() {
		names = append(names, strings.TrimPrefix(string(a), "firmware."))
	}
	return strings.Join(names, ", ")
}

func (c *cli) firmwareApprove() *cobra.Command {
	in, plan := admin.ApproveRelease{}, planFlags{}
	statement, signature := false, ""
	cmd := &cobra.Command{
		Use:   "approve RELEASE [--action A] [--ring R [--rollout ID] | --station ID] [--print | --signature FILE]",
		Short: "Ask people to approve an action on a release, or add a signature",
		Long: `Ask the people of bollard.yaml to approve an action on a release: its publication,
unless --action names another (` + firmwareActions() + `).
start is about one --ring of a rollout with the options of "firmware rollout": what was
approved begins, and nothing else. widen is about one --ring of the --rollout that runs.
Both stand in the statement in words. downgrade, force and unsigned are exceptions for one
--station, which its back end's next request uses up. --print prints the statement to sign, --signature
adds what a person made of it:

  bollard firmware approve RELEASE --print > statement
  ssh-keygen -Y sign -n bollard-approval -f KEY statement
  bollard firmware approve RELEASE --signature statement.sig

A certificate's key signs by openssl cms. How many it takes says approvals in
bollard.yaml for the action, such as firmware.publish; docs/approvals.md has the rest.`,
		Args: cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			in.Release = args[0]
			in.Action = "firmware." + strings.TrimPrefix(in.Action, "firmware.")
			if statement && signature != "" {
				return admin.Usagef("", "--print and --signature don't go together")
			}
			switch {
			case in.Action == string(catalogue.ActionStart):
				out, err := plan.read()
				if err != nil {
					return err
				}
				in.Plan = &out
			case plan.given():
				return admin.Usagef("", "only --action start takes the options of a rollout")
			}
			if signature != "" {
				var err error
				if in.Signature, err = c.readInput(signature); err != nil {
					return err
				}
			}
			out, err := call[admin.ApproveRelease, admin.Approval](ctx, c, "firmware.approve", in)
			if err != nil {
				return err
			}
			if statement {
				_, err := io.WriteString(c.stdout, out.Statement)
				return err
			}
			return c.print(out, func(w io.Writer) { writeApproval(w, &out) })
		}),
	}
	f := cmd.Flags()
	f.StringVar(&in.Action, "action", "publish", firmwareActions())
	f.StringVar(&in.Ring, "ring", "", "the ring that start or widen is about")
	f.StringVar(&in.Rollout, "rollout", "", "the rollout that widen is about, as 'bollard firmware rollouts' lists it; without it the only one of the release")
	f.StringVar(&in.Station, "station", "", "the station that an exception is for: downgrade, force, unsigned")
	plan.on(cmd)
	spanVar(cmd, &in.Valid, "valid", 0, "how long the request can be signed and used, such as 12h; without it 72h")
	f.StringVar(&in.Reason, "reason", "", "why, for the ledger; of a new request")
	f.StringVar(&in.Person, "author", "", "who asks, where several share an account: approves nothing then")
	f.BoolVar(&statement, "print", false, "print the statement, byte for byte as it is to be signed")
	f.StringVar(&signature, "signature", "", "file with a person's signature, - for standard input")
	return cmd
}

func (c *cli) firmwarePublish() *cobra.Command {
	return &cobra.Command{
		Use:   "publish RELEASE",
		Short: "Let an approved release go to stations whose back ends ask for it",
		Args:  cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			return c.release(ctx, "firmware.publish", admin.ReleaseRef{Release: args[0]})
		}),
	}
}

func (c *cli) firmwareSupersede() *cobra.Command {
	in := admin.SupersedeRelease{}
	cmd := &cobra.Command{
		Use:   "supersede RELEASE --by NEWER",
		Short: "Put a newer published release in a release's place: updates to it begin no more",
		Args:  cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			if in.Release = args[0]; in.By == "" {
				return admin.Usagef("a published release for all of its models", "--by is missing")
			}
			return c.release(ctx, "firmware.supersede", in)
		}),
	}
	cmd.Flags().StringVar(&in.By, "by", "", "the newer release (required)")
	return cmd
}

// endRelease is a command that ends a release.
func (c *cli) endRelease(use, short, long, operation string) *cobra.Command {
	in := admin.EndRelease{}
	cmd := &cobra.Command{
		Use:   use + " RELEASE --reason TEXT",
		Short: short,
		Long:  short + long,
		Args:  cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			in.Release = args[0]
			return c.release(ctx, operation, in)
		}),
	}
	cmd.Flags().StringVar(&in.Reason, "reason", "", "why, for the ledger (required)")
	return cmd
}

func (c *cli) firmwareWithdraw() *cobra.Command {
	return c.endRelease("withdraw", "Take a release back: updates to it begin no more", ". Those that\nbegan go on.", "firmware.withdraw")
}

func (c *cli) firmwareRemove() *cobra.Command {
	return c.endRelease("remove", "Delete the image of a release that is over", `. That is one which
is superseded, withdrawn or revoked, ten years after its publication (firmware.keep in
bollard.yaml, if longer), or which was never published. Its record, signatures and
papers stay.`, "firmware.remove")
}

func (c *cli) firmwareRevoke() *cobra.Command {
	return c.endRelease("revoke", "End a release for good: no station gets it any more", `. Updates to it
that aren't over are cancelled, and downloads break off; what a station has, it may
still install.`, "firmware.revoke")
}
