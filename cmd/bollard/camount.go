package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"bollard/admin"
)

func (c *cli) caMount() *cobra.Command {
	in := admin.MountCA{}
	file, use := "", false
	cmd := &cobra.Command{
		Use:   "mount csms --uri URI --csr FILE | mount csms --use",
		Short: "Issue through a PKI mount of a HashiCorp Vault",
		Long: `Issue through a PKI mount of a HashiCorp Vault (docs/vault-ca.md), in two steps.

With --uri and --csr the root here certifies the key that the mount made, and prints the
certificate for the mount to take (vault write MOUNT/intermediate/set-signed). Repeated,
it is the same one; with another request or URI one that doesn't issue yet is revoked.
With --use the mount issues from then on, if it shows that certificate and issues the
first one, of the OCSP signer, just as it is asked to. The CA before it answers for what
it issued.`,
		Args: cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			in.Kind = args[0]
			switch {
			case use && (in.URI != "" || file != ""):
				return admin.Usagef("certify the mount first, then run it with --use alone", "--use goes with neither --uri nor --csr")
			case use:
				out, err := call[admin.KindRef, admin.MountedCA](ctx, c, "ca.use-mount", admin.KindRef{Kind: in.Kind})
				if err != nil {
					return err
				}
				return c.print(out, func(w io.Writer) {
					fmt.Fprintf(w, "%s: %s (%s, until %s) issues now, in Vault\n", out.Kind, out.Subject, out.Serial, when(&out.NotAfter))
				})
			case in.URI == "" || file == "":
				return admin.Usagef("or run it with --use, once the mount has its certificate", "--uri and --csr are missing")
			}
			var err error
			if in.CSR, err = c.readInput(file); err != nil {
				return err
			}
			out, err := call[admin.MountCA, admin.PEM](ctx, c, "ca.mount", in)
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) { fmt.Fprint(w, out.PEM) })
		}),
	}
	f := cmd.Flags()
	f.StringVar(&in.URI, "uri", "", "of the mount, and how to log in: vault-pki:…")
	f.StringVar(&file, "csr", "", "file with the request that the mount made, PEM or DER; - is standard input")
	f.BoolVar(&use, "use", false, "issue with the mount that was certified")
	return cmd
}
