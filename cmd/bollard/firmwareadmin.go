package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"bollard/admin"
	"bollard/firmware/bundle"
	"bollard/firmware/job"
)

func (c *cli) firmwareAdd() *cobra.Command {
	in := admin.AddRelease{}
	cmd := &cobra.Command{
		Use:   "add DELIVERY|DIR [--image FILE]",
		Short: "Take a manufacturer's release in: verified, but not published",
		Long: `Take a release in: the delivery that its manufacturer packed into one file
(bollard firmware pack), or a folder with ` + bundle.FileEnvelope + `, ` + bundle.FileCertificate + `,
what else the release names and, unless --image names it, the image.

Its signatures must be good, its signer's root trusted (ca trust add --use
manufacturer, or the own hierarchy of that name) and good for its vendor and models
(firmware.makers in bollard.yaml); of a manufacturer with metadata, that too. No
station gets it before it is approved and published. Of a release that is here
already only the image is taken in again, where it was lost or damaged.`,
		Args: cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			path, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			info, err := os.Stat(path)
			if err != nil {
				return admin.Usagef("give the folder that `bollard firmware sign --out` made, or a delivery of `bollard firmware pack`", "couldn't open the release: %w", err)
			}
			if in.Image != "" {
				if err := wantFile(in.Image); err != nil {
					return err
				}
				if in.Image, err = filepath.Abs(in.Image); err != nil {
					return err
				}
			}
			switch {
			case info.IsDir():
				in.Folder = path
			case in.Image != "":
				return admin.Usagef("", "a delivery has its image: --image is for a folder")
			default:
				in.Delivery = path
			}
			out, err := call[admin.AddRelease, admin.Release](ctx, c, "firmware.add", in)
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) { writeRelease(w, &out) })
		}),
	}
	cmd.Flags().StringVar(&in.Image, "image", "", "the image, if it isn't in DIR")
	return cmd
}

func (c *cli) firmwareList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List releases, newest first",
		Args:  cobra.NoArgs,
		RunE: c.do(func(ctx context.Context, _ []string) error {
			out, err := call[admin.None, admin.Releases](ctx, c, "firmware.list", admin.None{})
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) {
				t := newTable(w, "RELEASE", "STATE", "VENDOR", "COMPONENT", "VERSION", "SEQUENCE", "EXPIRES", "NOTE")
				for _, r := range out.Releases {
					note := r.Reason
					if note == "" {
						note = r.Fault
					}
					t.row(r.Release.ID, string(r.State), r.Release.Vendor, r.Release.Component, r.Release.Version, strconv.FormatUint(r.Release.Sequence, 10),
						when(&r.Release.Expires), note)
				}
				t.flush()
			})
		}),
	}
}

func (c *cli) firmwareShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show RELEASE",
		Short: "Show a release, by its ID, the beginning of it, or its version",
		Args:  cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			return c.release(ctx, "firmware.show", admin.ReleaseRef{Release: args[0]})
		}),
	}
}

// release runs an operation that answers with a release.
func (c *cli) release(ctx context.Context, operation string, in any) error {
	out, err := call[any, admin.Release](ctx, c, operation, in)
	if err != nil {
		return err
	}
	return c.print(out, func(w io.Writer) { writeRelease(w, &out) })
}

func writeRelease(w io.Writer, r *admin.Release) {
	if r.Again {
		fmt.Fprintln(w, "the release is here already: only its image was taken in again")
	}
	fmt.Fprintf(w, "release %s is %s\n", r.Release.ID, r.State)
	for _, note := range []string{r.Reason, r.Fault} {
		if note != "" {
			fmt.Fprintln(w, note)
		}
	}
	fmt.Fprintf(w, "%s %s %s, sequence %d, security epoch %d\n", r.Release.Vendor, r.Release.Component, r.Release.Version, r.Release.Sequence, r.Release.SecurityEpoch)
	for _, m := range r.Release.Models {
		fmt.Fprintf(w, "for %s %s %s\n", m.Vendor, m.Model, strings.Join(m.Hardware, " "))
	}
	if r.Release.PCRs != nil {
		fmt.Fprintf(w, "stations' TPMs show registers %s\n", strings.Trim(fmt.Sprint(r.Release.PCRs.Named()), "[]"))
	}
	fmt.Fprintf(w, "image %s, %d bytes, sha256 %s\nrecord sha256 %s\n", r.Release.File, r.Release.Size, r.Release.SHA256, r.Digest)
}

func (c *cli) firmwareUpdates() *cobra.Command {
	in := admin.UpdateFilter{}
	cmd := &cobra.Command{
		Use:   "updates [--station ID]",
		Short: "List the updates of stations, and what is fetched for them, newest first",
		Args:  cobra.NoArgs,
		RunE: c.do(func(ctx context.Context, _ []string) error {
			out, err := call[admin.UpdateFilter, admin.Updates](ctx, c, "firmware.updates", in)
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) {
				t := newTable(w, "STATION", "VERSION", "STATE", "STATUS", "SINCE", "RELEASE", "NOTE")
				for _, j := range out.Updates {
					note := j.Reason
					if len(j.Exceptions) > 0 {
						note = strings.TrimSpace("by exception: " + strings.Join(j.Exceptions, ", ") + ". " + note)
					}
					if j.Unsigned {
						note += " The station didn't verify it."
					}
					t.row(j.Station, j.Version, string(j.State), j.Status, when(&j.ChangedAt), j.Release, note)
				}
				t.flush()
				if len(out.Origins) == 0 {
					return
				}
				fmt.Fprintln(w)
				t = newTable(w, "FETCHED FROM", "LOCATION", "STATE", "BYTES", "OF", "SINCE", "IMAGE SHA256", "NOTE")
				for _, l := range out.Origins {
					size := ""
					if l.Size > 0 {
						size = strconv.FormatInt(l.Size, 10)
					}
					t.row(l.Where, l.Key[:12], string(l.State), strconv.FormatInt(l.Here, 10), size, when(&l.Changed), l.SHA256, l.Reason)
				}
				t.flush()
			})
		}),
	}
	cmd.Flags().StringVar(&in.Station, "station", "", "only those of this station")
	return cmd
}

// ending is a command that ends something of a station's update.
func (c *cli) ending(use, short, operation, done string) *cobra.Command {
	in := admin.EndUpdate{}
	cmd := &cobra.Command{
		Use:   use + " ID --reason TEXT",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			in.Station = args[0]
			out, err := call[admin.EndUpdate, job.Job](ctx, c, operation, in)
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) { fmt.Fprintf(w, "%s %s\n", out.Station, done) })
		}),
	}
	cmd.Flags().StringVar(&in.Reason, "reason", "", "why, for the ledger (required)")
	return cmd
}

func (c *cli) firmwareCancel() *cobra.Command {
	return c.ending("cancel", "End a station's update: it can't download any more", "firmware.cancel", "downloads no more; what it has, it may still install")
}

func (c *cli) firmwareClear() *cobra.Command {
	return c.ending("clear", "Let a station that installed what it didn't verify have updates again", "firmware.clear", "may have updates again")
}
