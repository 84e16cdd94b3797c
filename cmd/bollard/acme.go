package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bollard/admin"
)

func (c *cli) acmeCommand() *cobra.Command {
	cmd := c.group("acme", "Certificates over ACME: who may ask", c.acmeToken(), c.acmeVoid(), c.acmeAccounts(), c.acmeRevoke())
	cmd.Long = `Certificates over ACME (RFC 8555) on listen.pki, for the names that acme.names in
bollard.yaml lists: an account needs a token, which is good for one (docs/acme.md).`
	return cmd
}

func (c *cli) acmeToken() *cobra.Command {
	in := admin.ACMEToken{}
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Make a token for one ACME account; prints its key, once",
		Long: `Make a token for one ACME account: the key identifier and the HMAC key of an
external account binding, as lego (--eab --kid --hmac) and certbot (--eab-kid
--eab-hmac-key) take them. The key is printed once. With --name the account may
order those names alone.`,
		Args: cobra.NoArgs,
		RunE: c.do(func(ctx context.Context, _ []string) error {
			out, err := call[admin.ACMEToken, admin.NewACMEToken](ctx, c, "acme.token", in)
			if err != nil {
				return err
			}
			return c.printOnce("the token is made, but its key is lost", "`bollard acme token` makes another", out, func(w io.Writer) {
				fmt.Fprintf(w, "kid: %s\nhmac: %s\nThe key is shown this once, holds until %s and for one account.\n", out.ID, out.Key, when(&out.Until))
			})
		}),
	}
	cmd.Flags().StringArrayVar(&in.Names, "name", nil, "a name the account may order; several of them, if given several times; none: all of acme.names")
	spanVar(cmd, &in.Valid, "valid", 24*time.Hour, "for how long, 1m to 2160h")
	return cmd
}

func (c *cli) acmeVoid() *cobra.Command {
	return &cobra.Command{
		Use:   "void KID",
		Short: "End a token that no account was made with, such as one that leaked",
		Args:  cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			out, err := call[admin.ACMETokenRef, admin.ACMETokenRef](ctx, c, "acme.void", admin.ACMETokenRef{ID: args[0]})
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) { fmt.Fprintf(w, "token %s is void\n", out.ID) })
		}),
	}
}

func (c *cli) acmeAccounts() *cobra.Command {
	return &cobra.Command{
		Use:   "accounts",
		Short: "List the ACME accounts",
		Args:  cobra.NoArgs,
		RunE: c.do(func(ctx context.Context, _ []string) error {
			out, err := call[admin.None, admin.ACMEAccounts](ctx, c, "acme.accounts", admin.None{})
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) {
				t := newTable(w, "ID", "DOOR", "STATE", "NAMES", "SINCE")
				for _, a := range out.Accounts {
					t.row(a.ID, a.Door, a.State, strings.Join(a.Names, " "), when(&a.CreatedAt))
				}
				t.flush()
			})
		}),
	}
}

func (c *cli) acmeRevoke() *cobra.Command {
	return &cobra.Command{
		Use:   "revoke ACCOUNT",
		Short: "End an ACME account; its certificates stay (ca revoke)",
		Args:  cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			out, err := call[admin.ACMEAccountRef, admin.ACMEAccount](ctx, c, "acme.revoke", admin.ACMEAccountRef{ID: args[0]})
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) { fmt.Fprintf(w, "account %s is revoked\n", out.ID) })
		}),
	}
}
