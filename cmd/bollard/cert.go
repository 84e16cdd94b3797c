package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"bollard/admin"
)

func (c *cli) certCommand() *cobra.Command {
	return c.group("cert", "Look at issued and recorded certificates", c.certList(), c.certShow())
}

func (c *cli) certList() *cobra.Command {
	in := admin.CertificateFilter{}
	expiring := ""
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List certificates, newest first",
		Args:  cobra.NoArgs,
		RunE: c.do(func(ctx context.Context, _ []string) error {
			var err error
			if in.Expiring, err = filterSpan(expiring); err != nil {
				return err
			}
			out, err := call[admin.CertificateFilter, admin.Certificates](ctx, c, "cert.list", in)
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) {
				t := newTable(w, "SERIAL", "STATION", "PROFILE", "STATE", "EXPIRES", "SUBJECT")
				for _, cert := range out.Certificates {
					t.row(cert.Serial, cert.Station, cert.Profile, certificateState(cert), when(&cert.NotAfter), cert.Subject)
				}
				t.flush()
			})
		}),
	}
	f := cmd.Flags()
	f.StringVar(&in.Station, "station", "", "only those of this station")
	f.StringVar(&in.Profile, "profile", "", "only those of this profile")
	f.StringVar(&expiring, "expiring", "", "only those in force that expire within, such as 30d or 12h")
	return cmd
}

func certificateState(c admin.Certificate) string {
	state := c.State
	switch {
	case c.Reason != "":
		state += " (" + c.Reason + ")"
	case c.Expired:
		state = "expired"
	}
	if c.External {
		state += ", other CA"
	}
	return state
}

func (c *cli) certShow() *cobra.Command {
	onlyPEM := false
	cmd := &cobra.Command{
		Use:   "show SERIAL",
		Short: "Show one certificate's record",
		Args:  cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			out, err := call[admin.CertificateRef, admin.Certificate](ctx, c, "cert.show", admin.CertificateRef{Serial: args[0]})
			if err != nil {
				return err
			}
			if onlyPEM && out.PEM == "" {
				return admin.Refusedf("its state is "+out.State, "certificate %s was never signed", out.Serial)
			}
			return c.print(out, func(w io.Writer) {
				if onlyPEM {
					fmt.Fprint(w, out.PEM)
					return
				}
				writeCertificate(w, out)
			})
		}),
	}
	cmd.Flags().BoolVar(&onlyPEM, "pem", false, "print the certificate as PEM")
	return cmd
}

func writeCertificate(w io.Writer, c admin.Certificate) {
	for _, line := range [][2]string{
		{"serial", c.Serial},
		{"subject", c.Subject},
		{"issuer", c.Issuer},
		{"profile", c.Profile},
		{"station", c.Station},
		{"state", certificateState(c)},
		{"valid from", when(&c.NotBefore)},
		{"expires", when(&c.NotAfter)},
		{"issued", when(c.IssuedAt)},
		{"revoked", when(c.RevokedAt)},
		{"requested by", c.Requester},
		{"key SHA-256", c.KeyHash},
		{"key in TPM", attestedBy(c)},
	} {
		if line[1] != "" {
			fmt.Fprintf(w, "%-13s %s\n", line[0], line[1])
		}
	}
}

// attestedBy tells by what a key is known to be in its station's TPM.
func attestedBy(c admin.Certificate) string {
	if c.Attested == "" {
		return ""
	}
	return "attested by the key of certificate " + c.Attested
}
