package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"bollard/admin"
	"bollard/iso15118/message"
)

func (c *cli) contractCommand() *cobra.Command {
	cmd := c.group("contract", "Contracts of an e-mobility provider: who charges with which car",
		c.contractAdd(), c.contractList(), c.contractRevoke(), c.contractProvision())
	cmd.Long = `Contracts of an e-mobility provider: who charges with which car (ISO 15118).
The hierarchies mo and cps issue what cars get (mo-20 and cps-20 for ISO 15118-20);
cars prove themselves under oem or roots trusted for the use oem.`
	return cmd
}

func (c *cli) contractAdd() *cobra.Command {
	in, file := admin.AddContract{}, ""
	cmd := &cobra.Command{
		Use:   "add --emaid E --pcid P",
		Short: "Give an account a contract for a car",
		Args:  cobra.NoArgs,
		RunE: c.do(func(ctx context.Context, _ []string) error {
			if file != "" {
				var err error
				if in.Car, err = c.readInput(file); err != nil {
					return err
				}
			}
			out, err := call[admin.AddContract, admin.Contract](ctx, c, "contract.add", in)
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) {
				fmt.Fprintf(w, "contract %s: %s for %s\n", out.ID, out.EMAID, out.PCID)
			})
		}),
	}
	f := cmd.Flags()
	f.StringVar(&in.EMAID, "emaid", "", "account, such as NL-EXA-123456789")
	f.StringVar(&in.PCID, "pcid", "", "car, such as WP0TESTA00000001A3")
	f.StringVar(&file, "car", "", "PEM file with the car's provisioning certificate and the maker's sub-CAs: the answer is made ready")
	return cmd
}

func (c *cli) contractList() *cobra.Command {
	in, expiring := admin.ContractFilter{}, ""
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the contracts",
		Args:  cobra.NoArgs,
		RunE: c.do(func(ctx context.Context, _ []string) error {
			var err error
			if in.Expiring, err = filterSpan(expiring); err != nil {
				return err
			}
			out, err := call[admin.ContractFilter, admin.Contracts](ctx, c, "contract.list", in)
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) { writeContracts(w, out) })
		}),
	}
	cmd.Flags().StringVar(&expiring, "expiring", "", "only those in force whose certificates end within, such as 21d, and whose cars haven't fetched the next")
	return cmd
}

func writeContracts(w io.Writer, list admin.Contracts) {
	t := newTable(w, "EMAID", "PCID", "STATE", "SINCE", "END", "CERTIFICATES")
	for _, one := range list.Contracts {
		t.row(one.EMAID, one.PCID, one.State, when(&one.CreatedAt), when(one.EndsAt), fmt.Sprint(len(one.Certificates)))
	}
	t.flush()
}

func (c *cli) contractRevoke() *cobra.Command {
	in := admin.ContractRef{}
	cmd := &cobra.Command{
		Use:   "revoke EMAID",
		Short: "Cancel an account's contracts and revoke their certificates",
		Args:  cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			in.EMAID = args[0]
			out, err := call[admin.ContractRef, admin.Contracts](ctx, c, "contract.revoke", in)
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) { writeContracts(w, out) })
		}),
	}
	cmd.Flags().StringVar(&in.PCID, "pcid", "", "only the contract for this car")
	return cmd
}

func (c *cli) contractProvision() *cobra.Command {
	file, schema, raw, in := "", "", false, admin.Provision{}
	cmd := &cobra.Command{
		Use:   "provision --exi FILE",
		Short: "Answer a car's request for a contract certificate from a file, in hex",
		Long: `Answer a car's request for a contract certificate (CertificateInstallationReq,
CertificateUpdateReq) from a file with its EXI in hex, and print the answer in hex.
A failure is answered too, as cars expect it; the command ends with 1 then.`,
		Args: cobra.NoArgs,
		RunE: c.do(func(ctx context.Context, _ []string) error {
			if file == "" {
				return admin.Usagef("--exi names a file with hex; - is standard input", "--exi is missing")
			}
			data, err := c.readInput(file)
			if err != nil {
				return err
			}
			in.EXI = data
			if !raw {
				text := bytes.Join(bytes.Fields(data), nil)
				in.EXI = make([]byte, hex.DecodedLen(len(text)))
				if _, err := hex.Decode(in.EXI, text); err != nil {
					return admin.Failedf("--raw reads bytes as they are", "%s isn't hex: %w", file, err)
				}
			}
			switch schema {
			case "iso15118-2":
				in.Schema = message.Namespace2
			case "iso15118-20-common":
				in.Schema = message.Namespace20
			default:
				return admin.Usagef("iso15118-2 or iso15118-20-common", "--schema %q isn't one of a car's request", schema)
			}
			out, err := call[admin.Provision, admin.Provisioned](ctx, c, "contract.provision", in)
			if err != nil {
				return err
			}
			if len(out.EXI) > 0 {
				if err := c.print(out, func(w io.Writer) { fmt.Fprintln(w, hex.EncodeToString(out.EXI)) }); err != nil {
					return err
				}
			}
			if out.Reason != "" {
				return admin.Refusedf("the ledger has it as contract.refused", "no certificate was given (%s): %s", out.Code, out.Reason)
			}
			return nil
		}),
	}
	f := cmd.Flags()
	f.StringVar(&file, "exi", "", "file with the request; - is standard input")
	f.StringVar(&schema, "schema", "iso15118-2", "iso15118-2 or iso15118-20-common")
	f.BoolVar(&in.Update, "update", false, "it is a CertificateUpdateReq")
	f.BoolVar(&raw, "raw", false, "the file is the bytes themselves")
	return cmd
}
