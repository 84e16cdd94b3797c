package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bollard/admin"
	"bollard/firmware/inventory"
)

func (c *cli) firmwareReport() *cobra.Command {
	in, aware, stage := admin.ReportFirmware{}, "", ""
	cmd := &cobra.Command{
		Use:   "report --below RELEASE | --part NAME --before VERSION | --cve CVE --stage S",
		Short: "Say which stations run less than a release, or have a vulnerability",
		Long: `Say which stations run less than a release, or a release whose bill of materials has
a part below a version, by its name or package URL. With --cve it is what a report
under article 14 of the Cyber Resilience Act can say from here, at the stage
early-warning (24 hours), notification (72 hours) or final; what people have to add is
named. Affected is who runs less than a release whose record mends the vulnerability,
or has the part. Who runs what no release here is, is listed as unknown.`,
		Args: cobra.NoArgs,
		RunE: c.do(func(ctx context.Context, _ []string) error {
			if in.CVE == "" && (aware != "" || stage != string(inventory.EarlyWarning)) {
				return admin.Usagef("", "--stage and --aware go with --cve")
			}
			var err error
			if in.Aware, err = moment(aware); err != nil {
				return admin.Usagef("", "--aware: %w", err)
			}
			in.Stage = inventory.Stage(stage)
			out, err := call[admin.ReportFirmware, admin.FirmwareReport](ctx, c, "firmware.report", in)
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) {
				if out.Vulnerability != nil {
					writeVulnerability(w, out.Vulnerability)
					return
				}
				fmt.Fprintf(w, "%s: %d of %d stations, %d unknown\n", out.Answer.Asked, len(out.Answer.Below), out.Answer.Models, len(out.Answer.Unknown))
				writeNote(w, out.Answer.Note)
				writeRows(w, out.Answer.Below, out.Answer.Unknown, out.Answer.Unverified)
			})
		}),
	}
	f := cmd.Flags()
	f.StringVar(&in.Below, "below", "", "a release, by its ID, the beginning of it, or its version")
	f.StringVar(&in.Part, "part", "", "a part of bills of materials, by name or package URL")
	f.StringVar(&in.Before, "before", "", "the part's version from which on it is good")
	f.StringVar(&in.CVE, "cve", "", "id of a vulnerability")
	f.StringVar(&stage, "stage", string(inventory.EarlyWarning), "early-warning, notification or final")
	f.StringVar(&aware, "aware", "", "when it became known, as 2026-12-31 or RFC 3339; without it: now")
	return cmd
}

func writeNote(w io.Writer, note string) {
	if note != "" {
		fmt.Fprintln(w, note)
	}
}

func writeRows(w io.Writer, lists ...[]inventory.Row) {
	if len(slices.Concat(lists...)) == 0 {
		return
	}
	t := newTable(w, "STATION", "VENDOR", "MODEL", "VERSION", "RELEASE", "NOTE")
	for _, r := range slices.Concat(lists...) {
		version := r.Version
		if r.Unverified {
			version += " (not verified)"
		}
		t.row(r.ID, r.Vendor, r.Model, version, r.Release, r.Why)
	}
	t.flush()
}

func writeVulnerability(w io.Writer, r *inventory.Report) {
	due := "14 days after a correction is published, and none is yet"
	if !r.DueAt.IsZero() {
		due = r.DueAt.UTC().Format(time.RFC3339)
	}
	fmt.Fprintf(w, "%s, article %s: %s\n\nvulnerability  %s\nknown since    %s\ndue            %s\n", r.Regulation, r.Article, r.Stage, r.CVE, r.AwareAt.UTC().Format(time.RFC3339), due)
	fmt.Fprintf(w, "stations       %d: %d affected, %d mended, %d unknown\n", r.Stations, len(r.Affected), r.Mended, len(r.Unknown))
	writeNote(w, r.Note)
	for _, f := range r.Fixes {
		fmt.Fprintf(w, "mended by      %s %s %s, sequence %d, for %s, %s\n", f.Vendor, f.Component, f.Version, f.Sequence, strings.Join(f.Models, ", "), f.State)
	}
	for _, p := range r.People {
		fmt.Fprintf(w, "to be added    %s\n", p)
	}
	if len(r.Affected)+len(r.Unknown) > 0 {
		fmt.Fprintln(w)
	}
	writeRows(w, r.Affected, r.Unknown)
}
