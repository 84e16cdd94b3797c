package main

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"bollard/admin"
	"bollard/iso15118/tariff"
)

func (c *cli) tariffCommand() *cobra.Command {
	cmd := c.group("tariff", "Tariffs that cars verify: signed within charging profiles (ISO 15118)", c.tariffSign(), c.tariffDigest())
	cmd.Long = `Tariffs that cars verify: signed within charging profiles (ISO 15118).
A charging profile of OCPP 2.1 has digestValue for each schedule with a salesTariff,
absolutePriceSchedule or priceLevelSchedule, and one priceScheduleSignature over them.`
	return cmd
}

// idPrefix is a flag of both.
func idPrefix(cmd *cobra.Command, to *string) {
	cmd.Flags().StringVar(to, "id-prefix", tariff.IDPrefix, "what stations write before signatureId in the Id of an element")
}

func (c *cli) tariffSign() *cobra.Command {
	in := admin.SignTariff{}
	cmd := &cobra.Command{
		Use:   "sign FILE",
		Short: "Print a charging profile with digests and signature",
		Long: `Print a charging profile (JSON, ChargingProfileType of OCPP 2.1) with signatureId and
digestValue in each schedule that has a tariff, and priceScheduleSignature, made with
the key of MO sub-CA 2: of the hierarchy mo for a salesTariff (ISO 15118-2), of mo-20
for price schedules (ISO 15118-20). All else of the profile stays as it is. - is
standard input.`,
		Args: cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			profile, err := c.readProfile(args[0])
			if err != nil {
				return err
			}
			in.Profile = profile
			out, err := call[admin.SignTariff, admin.SignedTariff](ctx, c, "tariff.sign", in)
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) { fmt.Fprintf(w, "%s\n", out.Profile) })
		}),
	}
	idPrefix(cmd, &in.Prefix)
	return cmd
}

// digestedTariff is one tariff of a profile, as `tariff digest` tells of it.
type digestedTariff struct {
	Schedule    int    `json:"schedule"` // its place in chargingSchedule
	Element     string `json:"element"`
	ID          string `json:"id"`
	SignatureID uint32 `json:"signature_id"`
	Digest      string `json:"digest"` // digestValue
	EXI         string `json:"exi"`    // in hex
}

func (c *cli) tariffDigest() *cobra.Command {
	prefix := ""
	cmd := &cobra.Command{
		Use:   "digest FILE",
		Short: "Tell what is signed of a charging profile, and the digests",
		Long: `Tell what is signed of a charging profile (JSON, ChargingProfileType of OCPP 2.1): the
element of each tariff, its Id, and digestValue. --json has the EXI besides, of which the
digest is. Nothing is signed, and no data directory is needed. - is standard input.`,
		Args: cobra.ExactArgs(1),
		RunE: c.do(func(_ context.Context, args []string) error {
			profile, err := c.readProfile(args[0])
			if err != nil {
				return err
			}
			p, err := tariff.Read(profile, prefix)
			if err != nil {
				return err
			}
			var list []digestedTariff
			for _, s := range p.Schedules {
				list = append(list, digestedTariff{s.Place, s.Element.Local, s.Element.Attribute("Id"), s.SignatureID, base64.StdEncoding.EncodeToString(s.Digest), hex.EncodeToString(s.EXI)})
			}
			return c.print(list, func(w io.Writer) {
				t := newTable(w, "SCHEDULE", "ELEMENT", "ID", "DIGEST")
				for _, one := range list {
					t.row(fmt.Sprint(one.Schedule), one.Element, one.ID, one.Digest)
				}
				t.flush()
			})
		}),
	}
	idPrefix(cmd, &prefix)
	return cmd
}

// readProfile reads what can be sent on as JSON.
func (c *cli) readProfile(file string) (json.RawMessage, error) {
	data, err := c.readInput(file)
	if err == nil && !json.Valid(data) {
		err = admin.Usagef("give a ChargingProfileType of OCPP 2.1", "%s isn't JSON", file)
	}
	return data, err
}
