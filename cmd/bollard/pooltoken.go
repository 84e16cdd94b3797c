package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"bollard/admin"
)

func (c *cli) poolCommand() *cobra.Command {
	cmd := c.group("pool", "The pool of contracts that others ask: who may; roots of others",
		c.poolRoots(),
		c.group("token", "Tokens of manufacturers, providers and operators who use the pool",
			c.poolTokenAdd(), c.poolTokenList(), c.poolTokenRevoke()))
	cmd.Long = `The pool of contracts that others ask over REST on listen.pki, in the shapes of
OPCP: manufacturers bring provisioning certificates, providers have contracts
made, operators of charging stations ask for the cars there (docs/pools.md).`
	return cmd
}

func (c *cli) poolTokenAdd() *cobra.Command {
	in := admin.AddPoolToken{}
	cmd := &cobra.Command{
		Use:   "add NAME --role oem|mo|cpo",
		Short: "Let an organisation use the pool; prints the client's secret, once",
		Long: `Let an organisation use the pool, by OAuth's client credentials: NAME is the
client ID, the secret is printed once. An oem brings provisioning certificates, a
mo has contracts made and ended: --only says of which cars (the first characters
of their PCIDs) or of which providers (NL-EXA). A cpo asks for cars at its stations,
and with --only DE*ABC enrols its stations' certificates toward cars over EST.`,
		Args: cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			in.Name = args[0]
			out, err := call[admin.AddPoolToken, admin.NewPoolToken](ctx, c, "pool.token.add", in)
			if err != nil {
				return err
			}
			return c.printOnce(fmt.Sprintf("the secret of %s is made, but lost", out.Name),
				"`bollard pool token revoke "+out.Name+"`, then make it again", out, func(w io.Writer) {
					fmt.Fprintf(w, "client_id: %s\nclient_secret: %s\nThe secret is shown this once.\n", out.Name, out.Secret)
				})
		}),
	}
	f := cmd.Flags()
	f.StringVar(&in.Role, "role", "", "oem, mo or cpo")
	f.StringSliceVar(&in.Only, "only", nil, "mo: its providers, such as NL-EXA; oem: how its cars' PCIDs begin, such as WP0; cpo: whose stations it enrols, such as DE*ABC")
	return cmd
}

func (c *cli) poolTokenList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List who may use the pool",
		Args:  cobra.NoArgs,
		RunE: c.do(func(ctx context.Context, _ []string) error {
			out, err := call[admin.None, admin.PoolTokens](ctx, c, "pool.token.list", admin.None{})
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) {
				t := newTable(w, "NAME", "ROLE", "ONLY", "STATE", "SINCE")
				for _, one := range out.Tokens {
					since := &one.CreatedAt
					if one.RevokedAt != nil {
						since = one.RevokedAt
					}
					t.row(one.Name, one.Role, strings.Join(one.Only, " "), one.State, when(since))
				}
				t.flush()
			})
		}),
	}
}

func (c *cli) poolTokenRevoke() *cobra.Command {
	return &cobra.Command{
		Use:   "revoke NAME",
		Short: "End a token, and every access token given for it, at once",
		Args:  cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			out, err := call[admin.PoolTokenRef, admin.PoolToken](ctx, c, "pool.token.revoke", admin.PoolTokenRef{Name: args[0]})
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) { fmt.Fprintf(w, "token %s is revoked\n", out.Name) })
		}),
	}
}
