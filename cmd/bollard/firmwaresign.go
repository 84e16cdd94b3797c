package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bollard/admin"
	"bollard/firmware/bundle"
	"bollard/firmware/release"
	"bollard/firmware/signing"
)

// signOptions are the flags of firmware sign as they were given.
type signOptions struct {
	release                    release.Release
	key, cert, out, selfCheck  string
	models, hardware, dialects []string
	requires                   []string
	notBefore, expires         string
	reboot                     time.Duration
	sbom, pcrs, log, logSigner string
	logKey, logToken, logTrust string
	witnesses                  []string
	build                      bundle.Build
	ocppOnly                   bool
	sha512, md5                bool
}

// signedBundle is what firmware sign prints.
type signedBundle struct {
	Release  string    `json:"release"`
	Digest   string    `json:"digest"`
	Dir      string    `json:"dir"`
	SHA256   string    `json:"sha256"`
	Dialects []string  `json:"dialects"`
	Expires  time.Time `json:"expires"`
	Log      string    `json:"log"`
	Warnings []string  `json:"warnings,omitempty"`
}

func (c *cli) firmwareSign() *cobra.Command {
	var o signOptions
	cmd := &cobra.Command{
		Use:   "sign IMAGE --key URI|FILE --cert FILE --vendor V --model M --version X --sequence N --out DIR",
		Short: "Sign a release of an image, as stations and installers verify it",
		Long: `Sign a release of an image, as stations and installers verify it. The image is read
once; nothing but files and the key is needed. DIR must not exist and is made whole
or not at all, after every signature was verified again, those for OCPP by
openssl too.

image.sig is what OCPP carries, with signing-cert.pem beside it; release.json says for
whom the image is, and release.dsse.json is the same, signed. docs/firmware.md has
what each file is for.`,
		Args: cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			cfg, err := o.config(c, args[0])
			if err != nil {
				return err
			}
			k, err := c.firmwareKeeper(ctx)
			if err != nil {
				return err
			}
			defer func() { _ = k.Close() }() // nothing is left to lose
			if cfg.Signer, err = openSigner(ctx, k, o.key); err != nil {
				return err
			}
			switch {
			case overHTTP(o.log):
				log, err := c.remoteLog(&o, &cfg)
				if err != nil {
					return err
				}
				if cfg.Cosign, err = cosigners(o.witnesses, log); err != nil {
					return err
				}
			case o.log != "":
				log, err := openFirmwareLog(ctx, k, o.log, o.logSigner, &cfg)
				if err != nil {
					return err
				}
				defer func() { _ = log.Close() }() // what it took is on disk
				if cfg.Cosign, err = cosigners(o.witnesses, log); err != nil {
					return err
				}
			}
			bar := c.progress("reading " + filepath.Base(cfg.Image))
			cfg.Progress = bar.show
			r, err := signing.Sign(ctx, cfg)
			bar.end()
			if err != nil {
				return err
			}
			return c.printSigned(r, cfg.Out)
		}),
	}
	o.flags(cmd)
	return cmd
}

func (o *signOptions) flags(cmd *cobra.Command) {
	r, f := &o.release, cmd.Flags()
	f.StringVar(&o.key, "key", "", "key: softkms:…, pkcs11:…, tpmkms:…, vault:…, awskms:…, or a PEM file")
	f.StringVar(&o.cert, "cert", "", "PEM file with the key's certificate, and those of CAs above it, if any")
	f.StringVar(&o.out, "out", "", "directory to make")
	f.StringVar(&r.Vendor, "vendor", "", "the manufacturer, as BootNotification has it")
	f.StringArrayVar(&o.models, "model", nil, "a model as BootNotification has it; can be repeated")
	f.StringArrayVar(&o.hardware, "hardware", nil, "a revision of the hardware it is for; can be repeated; without it: any")
	f.StringVar(&r.Component, "component", "firmware", "what of the station is replaced")
	f.StringVar(&r.Version, "version", "", "as BootNotification shows it once installed")
	f.Uint64Var(&r.Sequence, "sequence", 0, "number of the release, higher than any before of the component")
	f.Uint64Var(&r.SecurityEpoch, "epoch", 0, "security epoch: who has run one goes below it no more")
	f.Uint64Var(&r.MinFrom, "min-from", 0, "lowest sequence it can be installed over")
	f.Uint64Var(&r.MaxFrom, "max-from", 0, "highest sequence it can be installed over")
	f.StringArrayVar(&o.requires, "requires", nil, "COMPONENT=SEQUENCE that must be installed first; can be repeated")
	f.StringVar(&r.File, "file", "", "the image's name in download URLs; without it the name it has")
	f.StringSliceVar(&o.dialects, "dialect", nil, "forms of signature, the first for image.sig: "+dialectNames())
	f.StringVar(&o.notBefore, "not-before", "", "when it can be installed, as 2026-12-31 or RFC 3339; without it: now")
	f.StringVar(&o.expires, "expires", "", "until when it can be installed; without it a year, or the certificate's end")
	f.BoolVar(&r.SecurityOnly, "security-only", false, "it mends faults and changes nothing else")
	f.BoolVar(&r.LegalRelevant, "legal-relevant", false, "it concerns metrology, and needs an approval of its own")
	spanVar(cmd, &o.reboot, "reboot", 0, "expected downtime, such as 90s")
	f.StringSliceVar(&r.CVEsFixed, "cve", nil, "ids of vulnerabilities it mends")
	f.StringVar(&r.Supersedes, "supersedes", "", "id of the release it takes the place of")
	f.StringSliceVar(&r.Revokes, "revokes", nil, "ids of releases that must not be installed any more")
	f.StringVar(&r.Notes, "notes", "", "for people")
	f.StringVar(&o.sbom, "sbom", "", "bill of materials, CycloneDX in JSON; it is checked")
	f.StringVar(&o.pcrs, "pcrs", "", `JSON file with what stations' TPMs show that run it, such as {"sha256": {"8": ["HEX"]}}; see docs/tpm.md`)
	f.StringVar(&o.build.Builder, "builder", "", "URI of who built the image: with --source and --commit, provenance is signed (SLSA v1)")
	f.StringVar(&o.build.Type, "build-type", "https://slsa.dev/container-based-build/v0.1", "URI of how it was built")
	f.StringVar(&o.build.Source, "source", "", "URI of the repository it was built from")
	f.StringVar(&o.build.Commit, "commit", "", "commit it was built from, in hex")
	f.StringVar(&o.log, "log", "", "directory of the transparency log to enter it into, or its URL; see bollard firmware log")
	f.StringVar(&o.logSigner, "log-signer", "", "the log's key: softkms:…; of a directory")
	f.StringVar(&o.logKey, "log-key", "", "the log's verifier key; of a URL")
	f.StringVar(&o.logToken, "log-token-file", "", "file with the token that lets enter releases; of a URL")
	f.StringVar(&o.logTrust, "log-trust", "", "PEM file of roots for the URL; without it the system's")
	f.StringArrayVar(&o.witnesses, "witness", nil, "URL,KEY of a witness that has to cosign the log's checkpoint; can be repeated")
	f.BoolVar(&o.ocppOnly, "ocpp-only", false, "make no CMS: then the certificate's extendedKeyUsage needs codeSigning only")
	f.BoolVar(&o.sha512, "sha512", false, "record the image's SHA-512 too")
	f.BoolVar(&o.md5, "md5", false, "record its MD5 too, the checksum of PublishFirmware")
	f.StringVar(&o.selfCheck, "self-check", "openssl", "who verifies the signatures besides Bollard: openssl, or none where it isn't installed")
}

// overHTTP says whether a log is named by a URL.
func overHTTP(log string) bool {
	return strings.HasPrefix(log, "https://") || strings.HasPrefix(log, "http://")
}

func dialectNames() string {
	var names []string
	for _, d := range release.Dialects() {
		names = append(names, string(d))
	}
	return strings.Join(names, ", ")
}

// config reads the flags.
func (o *signOptions) config(c *cli, image string) (signing.Config, error) {
	if err := wantFile(image); err != nil {
		return signing.Config{}, err
	}
	cfg := signing.Config{Image: image, Out: o.out, Clock: time.Now, Random: rand.Reader}
	for _, flag := range []struct{ name, value string }{{"key", o.key}, {"cert", o.cert}, {"out", o.out}, {"vendor", o.release.Vendor}, {"version", o.release.Version}} {
		if flag.value == "" {
			return cfg, admin.Usagef("`bollard firmware sign --help` shows what each is", "--%s is missing", flag.name)
		}
	}
	if len(o.models) == 0 || o.release.Sequence == 0 {
		return cfg, admin.Usagef("the model to the letter as BootNotification has it; a number higher than any release before", "--model and --sequence are needed")
	}
	var err error
	if cfg.Chain, err = c.readCertificates(o.cert); err != nil {
		return cfg, err
	}
	for _, name := range o.dialects {
		d, err := release.ParseDialect(name)
		if err != nil {
			return cfg, admin.Usagef("OCPP's ECSchnorr has no implementation anywhere", "--dialect: %w", err)
		}
		cfg.Dialects = append(cfg.Dialects, d)
	}
	if cfg.Release, err = o.record(image); err != nil {
		return cfg, err
	}
	if o.sbom != "" {
		if cfg.SBOM, err = readSBOM(o.sbom); err != nil {
			return cfg, err
		}
	}
	if o.build.Builder != "" || o.build.Source != "" || o.build.Commit != "" {
		if err := o.build.CheckBuild(); err != nil {
			return cfg, admin.Usagef("give --builder, --source and --commit", "%w", err)
		}
		cfg.Build = &o.build
	}
	if (o.log == "" || overHTTP(o.log)) != (o.logSigner == "") {
		return cfg, admin.Usagef("`bollard firmware log create` makes both", "--log and --log-signer go together, but where --log is a URL")
	}
	if !overHTTP(o.log) && o.logKey+o.logToken+o.logTrust != "" {
		return cfg, admin.Usagef("", "--log-key, --log-token-file and --log-trust are for a log whose --log is a URL")
	}
	if o.log == "" && len(o.witnesses) > 0 {
		return cfg, admin.Usagef("", "a witness cosigns the checkpoint of a log: give --log too")
	}
	cfg.OCPPOnly = o.ocppOnly
	cfg.Digests.SHA512, cfg.Digests.MD5 = o.sha512, o.md5
	cfg.OpenSSL, err = o.checker()
	return cfg, err
}

func (o *signOptions) record(image string) (release.Release, error) {
	r := o.release
	if r.File == "" {
		r.File = filepath.Base(image)
	}
	for _, m := range o.models {
		r.Models = append(r.Models, release.Model{Vendor: r.Vendor, Model: m, Hardware: slices.Clone(o.hardware)})
	}
	for _, q := range o.requires {
		component, digits, _ := strings.Cut(q, "=")
		sequence, err := strconv.ParseUint(digits, 10, 64)
		if err != nil {
			return r, admin.Usagef("such as modem=7", "--requires %.80q isn't COMPONENT=SEQUENCE", q)
		}
		r.Requires = append(r.Requires, release.Requirement{Component: component, Sequence: sequence})
	}
	if o.pcrs != "" {
		text, err := readFile(o.pcrs)
		if err != nil {
			return r, err
		}
		if r.PCRs, err = release.ParseRegisters(text); err != nil {
			return r, admin.Usagef("docs/firmware.md has an example", "--pcrs %s: %w", o.pcrs, err)
		}
	}
	if o.reboot < 0 {
		return r, admin.Usagef("", "--reboot is negative")
	}
	r.Reboot = uint64(o.reboot.Round(time.Second) / time.Second)
	var err, other error
	r.NotBefore, err = moment(o.notBefore)
	r.Expires, other = moment(o.expires)
	if err := errors.Join(err, other); err != nil {
		return r, admin.Usagef("", "--not-before, --expires: %w", err)
	}
	return r, nil
}

// moment reads a day or an instant; zero if nothing is said.
func moment(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if at, err := time.Parse(layout, text); err == nil {
			return at.UTC().Truncate(time.Second), nil
		}
	}
	return time.Time{}, fmt.Errorf("%.40q is neither a day such as 2026-12-31 nor RFC 3339", text)
}

// checker finds the program that verifies besides Bollard.
func (o *signOptions) checker() (string, error) {
	switch o.selfCheck {
	case "none":
		return "", nil
	case "openssl":
	default:
		return "", admin.Usagef("openssl or none", "--self-check %.40q is unknown", o.selfCheck)
	}
	path, err := exec.LookPath("openssl")
	if err != nil {
		return "", admin.Failedf("install openssl, or give --self-check none to have Bollard alone verify what it signs", "couldn't find openssl, which verifies the signatures: %w", err)
	}
	return path, nil
}

func (c *cli) printSigned(r *release.Release, dir string) error {
	digest, err := r.Digest()
	if err != nil {
		return err
	}
	out := signedBundle{Release: r.ID, Digest: digest, Dir: dir, SHA256: r.SHA256, Expires: r.Expires, Log: r.Log, Warnings: r.Warnings}
	for _, s := range r.Signatures {
		out.Dialects = append(out.Dialects, string(s.Dialect))
	}
	for _, w := range out.Warnings {
		fmt.Fprintln(c.stderr, "warning: "+w)
	}
	return c.print(out, func(w io.Writer) {
		fmt.Fprintf(w, "release  %s\ndigest   %s\nsha256   %s\nsigned   %s\nexpires  %s\nlog      %s\nbundle   %s\n",
			out.Release, out.Digest, out.SHA256, strings.Join(out.Dialects, ", "), when(&out.Expires), out.Log, out.Dir)
	})
}
