package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"bollard/admin"
)

func (c *cli) stepCommand() *cobra.Command {
	cmd := c.group("step", "Certificates for the step CLI: whose one-time tokens count", c.stepAdd(), c.stepList(), c.stepRemove())
	cmd.Long = `Server certificates for the step CLI on listen.pki, by one-time tokens: a
provisioner signs them, with a key or with a certificate, for the names it was
added for (docs/step.md). Without a provisioner there is no such door.`
	return cmd
}

func (c *cli) stepAdd() *cobra.Command {
	in := admin.StepProvisioner{}
	var jwk, roots string
	cmd := &cobra.Command{
		Use:   "add NAME (--jwk FILE | --x5c FILE) --host NAME...",
		Short: "Let a provisioner sign one-time tokens for host names",
		Long: `Let a provisioner sign one-time tokens: NAME is what tokens have as issuer (iss).
With --jwk it has the private half of the JSON Web Key in FILE, such as
"step crypto jwk create pub.json priv.json" makes; the private one stays there.
With --x5c everybody signs who has a certificate for clients and signatures under
a root in FILE (PEM). --host says for which names: one to the letter, or
*.example.com for everything below one; Bollard's own names are nobody's, nor is
what a station is known by.`,
		Args: cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			in.Name = args[0]
			for path, into := range map[string]*[]byte{jwk: &in.JWK, roots: &in.Roots} {
				if path == "" {
					continue
				}
				var err error
				if *into, err = c.readInput(path); err != nil {
					return err
				}
			}
			out, err := call[admin.StepProvisioner, admin.ShownStepProvisioner](ctx, c, "step.add", in)
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) { fmt.Fprintf(w, "provisioner %s is added\n", out.Name) })
		}),
	}
	cmd.Flags().StringVar(&jwk, "jwk", "", "file with the public JSON Web Key that verifies its tokens")
	cmd.Flags().StringVar(&roots, "x5c", "", "file with the roots (PEM) of the certificates that sign its tokens")
	cmd.Flags().StringArrayVar(&in.Names, "host", nil, "a name its tokens may be for; several of them, if given several times")
	return cmd
}

func (c *cli) stepList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the provisioners",
		Args:  cobra.NoArgs,
		RunE: c.do(func(ctx context.Context, _ []string) error {
			out, err := call[admin.None, admin.StepProvisioners](ctx, c, "step.list", admin.None{})
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) {
				t := newTable(w, "NAME", "TYPE", "HOSTS", "REQUESTER", "SINCE")
				for _, p := range out.Provisioners {
					t.row(p.Name, p.Type, strings.Join(p.Names, " "), p.Requester, when(&p.CreatedAt))
				}
				t.flush()
			})
		}),
	}
}

func (c *cli) stepRemove() *cobra.Command {
	return &cobra.Command{
		Use:   "remove NAME",
		Short: "End a provisioner: its tokens are refused, its certificates don't renew",
		Long: `End a provisioner: its tokens are refused and its certificates don't renew over
step's protocol any more, at once and for good: one that is added under its name
later is another. What it got stays in force until it ends (cert list, ca revoke).`,
		Args: cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			out, err := call[admin.StepProvisionerRef, admin.ShownStepProvisioner](ctx, c, "step.remove", admin.StepProvisionerRef{Name: args[0]})
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) { fmt.Fprintf(w, "provisioner %s is removed\n", out.Name) })
		}),
	}
}
