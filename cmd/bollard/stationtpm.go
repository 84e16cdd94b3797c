package main

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"bollard/admin"
	"bollard/tpm/attest"
)

func (c *cli) stationTPM() *cobra.Command {
	file, none := "", false
	cmd := &cobra.Command{
		Use:   "tpm ID [--ek FILE | --none]",
		Short: "Show and change by which TPM a station is known",
		Long: `Show and change the endorsement key by which a station's TPM 2.0 is known. Only that TPM
gets a certificate for its attestation key at /attestation/ of the PKI listener, in the
hierarchy that bollard ca create attestation makes.

A station without one may come with any TPM whose endorsement certificate leads to a
root of bollard ca trust add --use tpm, and is known by that from then on.`,
		Args: cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			in := admin.StationTPM{Identity: args[0]}
			if file != "" && none {
				return admin.Usagef("such as --ek ek.pem", "give one of --ek and --none")
			}
			if file != "" || none {
				in.EK = new(string)
			}
			if file != "" {
				ek, err := readEK(file)
				if err != nil {
					return err
				}
				*in.EK = ek.Hash()
			}
			out, err := call[admin.StationTPM, admin.Station](ctx, c, "station.tpm", in)
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) {
				if out.EK == "" {
					fmt.Fprintf(w, "%s is known by no TPM\n", out.Identity)
					return
				}
				fmt.Fprintf(w, "%s is known by the TPM with endorsement key %s\n", out.Identity, out.EK)
			})
		}),
	}
	cmd.Flags().StringVar(&file, "ek", "", "file with the endorsement key or its certificate, PEM or DER")
	cmd.Flags().BoolVar(&none, "none", false, "no TPM: the station was taken out of one, or got another")
	return cmd
}

func readEK(file string) (attest.EK, error) {
	data, err := readFile(file)
	if err != nil {
		return attest.EK{}, err
	}
	ek, err := parseEK(file, data)
	if err != nil {
		return ek, admin.Usagef("", "%w", err)
	}
	return ek, nil
}

// parseEK reads an endorsement key or its certificate, PEM or DER, of a file.
func parseEK(file string, data []byte) (attest.EK, error) {
	if block, _ := pem.Decode(data); block != nil {
		data = block.Bytes
	}
	cert, err := attest.ParseEKCertificate(data)
	if err == nil {
		return attest.NewEK(cert.PublicKey)
	}
	ek, err := attest.ParseEK(data)
	if errors.Is(err, attest.ErrMalformed) {
		return ek, fmt.Errorf("%.80s holds neither a public key nor a certificate (tpm2_createek -f pem writes one)", file)
	}
	return ek, err
}
