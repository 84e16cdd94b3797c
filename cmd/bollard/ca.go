package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"bollard/admin"
	"bollard/ca"
)

func (c *cli) caCommand() *cobra.Command {
	return c.group("ca", "Look at the certificate authority, issue and revoke, trust outside roots",
		c.caShow(), c.caRoot(), c.caIssue(), c.caRevoke(), c.caCRL(), c.caCreate(), c.caRequest(), c.caImport(), c.caImportList(), c.caChains(), c.caRemoveChain(), c.caRenew(), c.caRollover(), c.caCeremony(), c.caMount(), c.caAcceptClock(),
		c.group("trust", "Outside roots, such as the maker's of factory-installed station certificates",
			c.trustAdd(), c.trustList(), c.trustRemove()))
}

func (c *cli) caShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show",
		Short: "Show the hierarchies: roots and issuing CAs",
		Args:  cobra.NoArgs,
		RunE: c.do(func(ctx context.Context, _ []string) error {
			out, err := call[admin.None, admin.Hierarchies](ctx, c, "ca.show", admin.None{})
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) {
				t := newTable(w, "KIND", "PROFILE", "SUBJECT", "SERIAL", "EXPIRES")
				for _, h := range out.Hierarchies {
					for _, cert := range h.Certificates {
						t.row(h.Kind, cert.Profile, cert.Subject, cert.Serial, when(&cert.NotAfter))
					}
				}
				t.flush()
			})
		}),
	}
}

func (c *cli) caRoot() *cobra.Command {
	in := admin.KindRef{}
	cmd := &cobra.Command{
		Use:   "root KIND",
		Short: "Print a hierarchy's root as PEM, for stations to trust",
		Long:  "Print a hierarchy's root as PEM, for stations to trust. KIND: " + strings.Join(admin.Kinds(), ", ") + ".",
		Args:  cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			in.Kind = args[0]
			return c.printPEM(ctx, "ca.root", in)
		}),
	}
	cmd.Flags().BoolVar(&in.Installable, "installable", false, "what stations install as their root: for manufacturer, the signing issuer's own certificate")
	return cmd
}

func (c *cli) caCRL() *cobra.Command {
	return &cobra.Command{
		Use:   "crl KIND",
		Short: "Sign and print a hierarchy's certificate revocation list as PEM",
		Args:  cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			return c.printPEM(ctx, "ca.crl", admin.KindRef{Kind: args[0]})
		}),
	}
}

func (c *cli) printPEM(ctx context.Context, operation string, in admin.KindRef) error {
	out, err := call[admin.KindRef, admin.PEM](ctx, c, operation, in)
	if err != nil {
		return err
	}
	return c.print(out, func(w io.Writer) { fmt.Fprint(w, out.PEM) })
}

func (c *cli) caIssue() *cobra.Command {
	in := admin.Issue{}
	file := ""
	cmd := &cobra.Command{
		Use:   "issue --profile P --csr FILE",
		Short: "Issue a certificate for the key of a CSR and print the chain as PEM",
		Long: `Issue a certificate for the key of a CSR and print the chain as PEM, leaf first.
The CSR gives its key and the proof of possession; names come from the flags.`,
		Args: cobra.NoArgs,
		RunE: c.do(func(ctx context.Context, _ []string) error {
			if file == "" {
				return admin.Usagef("--csr names a PEM or DER file; - is standard input", "--csr is missing")
			}
			var err error
			if in.CSR, err = c.readInput(file); err != nil {
				return err
			}
			out, err := call[admin.Issue, admin.Issued](ctx, c, "ca.issue", in)
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) { fmt.Fprint(w, out.PEM) })
		}),
	}
	f := cmd.Flags()
	f.StringVar(&in.Profile, "profile", "", "profile: "+strings.Join(ca.Profiles(), ", "))
	f.StringVar(&file, "csr", "", "file with the CSR, PEM or DER; - is standard input")
	f.StringVar(&in.Station, "station", "", "station and SECC profiles: identity of an enrolled station")
	f.StringVar(&in.Name, "name", "", "profiles of ISO 15118: identifier of the SECC or EVSE, or the car's PCID")
	f.StringSliceVar(&in.DNS, "dns", nil, "server profiles: DNS names; the first is the CN")
	f.StringSliceVar(&in.IPs, "ip", nil, "server profiles: IP addresses")
	return cmd
}

func (c *cli) caRevoke() *cobra.Command {
	in, file := admin.Revoke{}, ""
	cmd := &cobra.Command{
		Use:   "revoke (SERIAL | --certificate FILE) --reason REASON",
		Short: "Revoke a certificate and end the session that uses it",
		Long: `Revoke a certificate and end the session that uses it. SERIAL is of a certificate on
record (bollard cert list). One of another CA that stations come with under a root of bollard
ca trust add --use station needn't be: --certificate takes the certificate itself, in PEM,
puts it on record and lets nobody in with it.`,
		Args: cobra.MaximumNArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			if (len(args) == 1) == (file != "") {
				return admin.Usagef("`bollard cert list` shows the serials", "give a serial number, or --certificate")
			}
			if file != "" {
				data, err := c.readInput(file)
				if err != nil {
					return err
				}
				in.Certificate = &admin.File{Name: file, Data: data}
			} else {
				in.Serial = args[0]
			}
			if in.Reason == "" {
				return admin.Usagef("such as keyCompromise, superseded, cessationOfOperation (RFC 5280 §5.3.1)", "--reason is missing")
			}
			out, err := call[admin.Revoke, admin.Certificate](ctx, c, "ca.revoke", in)
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) {
				fmt.Fprintf(w, "revoked %s (%s) since %s: %s\n", out.Serial, out.Subject, when(out.RevokedAt), out.Reason)
			})
		}),
	}
	cmd.Flags().StringVar(&file, "certificate", "", "file with the certificate, in place of its serial number; - is standard input")
	cmd.Flags().StringVar(&in.Reason, "reason", "", "reason by its RFC 5280 name, such as keyCompromise")
	return cmd
}

func (c *cli) trustAdd() *cobra.Command {
	in := admin.AddTrust{}
	cmd := &cobra.Command{
		Use:   "add --use USE FILE",
		Short: "Trust the roots of a PEM file for one use",
		Long:  "Trust the roots of a PEM file for one use: " + strings.Join(ca.AnchorUses(), ", ") + ".",
		Args:  cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			if in.Use == "" {
				return admin.Usagef("uses are "+strings.Join(ca.AnchorUses(), ", "), "--use is missing")
			}
			in.File = args[0]
			var err error
			if in.PEM, err = c.readInput(args[0]); err != nil {
				return err
			}
			out, err := call[admin.AddTrust, admin.Anchors](ctx, c, "ca.trust.add", in)
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) { writeAnchors(w, out) })
		}),
	}
	cmd.Flags().StringVar(&in.Use, "use", "", "what the roots are trusted for")
	return cmd
}

func (c *cli) trustList() *cobra.Command {
	in := admin.TrustFilter{}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the trusted outside roots",
		Args:  cobra.NoArgs,
		RunE: c.do(func(ctx context.Context, _ []string) error {
			out, err := call[admin.TrustFilter, admin.Anchors](ctx, c, "ca.trust.list", in)
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) { writeAnchors(w, out) })
		}),
	}
	cmd.Flags().StringVar(&in.Use, "use", "", "only roots trusted for this")
	return cmd
}

func writeAnchors(w io.Writer, list admin.Anchors) {
	t := newTable(w, "USE", "SHA-256", "SUBJECT", "EXPIRES")
	for _, a := range list.Anchors {
		t.row(a.Use, a.Hash, a.Subject, when(&a.NotAfter))
	}
	t.flush()
}

func (c *cli) trustRemove() *cobra.Command {
	use := ""
	cmd := &cobra.Command{
		Use:   "remove HASH",
		Short: "Trust an outside root no longer",
		Args:  cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			in := admin.RemoveTrust{Use: use, Hash: args[0]}
			var out admin.Anchor
			err := c.withOperations(ctx, func(ctx context.Context, v admin.Invoker) error {
				if in.Use == "" {
					only, err := onlyUse(ctx, v, in.Hash)
					if err != nil {
						return err
					}
					in.Use = only
				}
				var err error
				out, err = admin.Call[admin.RemoveTrust, admin.Anchor](ctx, v, "ca.trust.remove", in)
				return err
			})
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) {
				fmt.Fprintf(w, "%s (%s) is no longer trusted for %s\n", out.Subject, out.Hash, out.Use)
			})
		}),
	}
	cmd.Flags().StringVar(&use, "use", "", "what it is trusted for (needed if that is more than one thing)")
	return cmd
}

// onlyUse finds what a root is trusted for, if that is one thing.
func onlyUse(ctx context.Context, v admin.Invoker, hash string) (string, error) {
	list, err := admin.Call[admin.TrustFilter, admin.Anchors](ctx, v, "ca.trust.list", admin.TrustFilter{})
	if err != nil {
		return "", err
	}
	var uses []string
	for _, a := range list.Anchors {
		if strings.HasPrefix(a.Hash, strings.ToLower(hash)) && !slices.Contains(uses, a.Use) {
			uses = append(uses, a.Use)
		}
	}
	switch len(uses) {
	case 0:
		return "", fmt.Errorf("%w: %s", ca.ErrUnknownAnchor, hash)
	case 1:
		return uses[0], nil
	}
	return "", admin.Usagef("say --use "+strings.Join(uses, " or --use "), "the root is trusted for more than one thing")
}
