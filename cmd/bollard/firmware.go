package main

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bollard/admin"
	"bollard/firmware/bundle"
	"bollard/keys"
	"bollard/ledger"
)

func (c *cli) firmwareCommand() *cobra.Command {
	return c.group("firmware", "Sign releases of firmware, publish them, and follow the updates of stations",
		c.firmwareKey(), c.firmwareSign(), c.firmwareVerify(), c.firmwareLog(), c.firmwareTUF(), c.firmwarePack(),
		c.firmwareAdd(), c.firmwareList(), c.firmwareShow(), c.firmwareApprove(), c.firmwarePublish(), c.firmwareSupersede(), c.firmwareWithdraw(), c.firmwareRevoke(), c.firmwareRemove(),
		c.firmwareRollout(), c.firmwareRollouts(),
		c.rolloutDecision("halt", "Let no further station begin, and no back end's request for the release through", ""),
		c.rolloutDecision("resume", "Go on with a halted rollout, once enough people approved it", `Go on with a halted rollout, once enough people approved it
(`+"`bollard firmware approve RELEASE --action resume`"+`). The failures so far are accepted then; as many more halt it again.`),
		c.firmwareReport(), c.firmwareUpdates(), c.firmwareCancel(), c.firmwareClear())
}

// firmwareKeeper opens keys without a configuration: a manufacturer signs where
// no server is.
func (c *cli) firmwareKeeper(ctx context.Context) (*keys.Keeper, error) {
	return keys.New(keys.Config{Dir: filepath.Join(c.data, keysName), Passphrase: keyPassphrase(ctx, c.data, ""), PIN: hsmPIN()})
}

// openSigner opens the key behind a URI, or in a PEM file.
func openSigner(ctx context.Context, k *keys.Keeper, key string) (keys.Signer, error) {
	for _, scheme := range keys.Schemes() {
		if strings.HasPrefix(key, scheme+":") {
			return k.Open(ctx, key, keys.RoleFirmware)
		}
	}
	return k.OpenFile(ctx, key, keys.RoleFirmware)
}

func (c *cli) firmwareKey() *cobra.Command {
	algorithm, organisation, name := "", "", ""
	cmd := &cobra.Command{
		Use:   "key URI --org NAME --name NAME",
		Short: "Make a key that signs firmware, and print its CSR",
		Long: `Make a key that signs firmware, and print its CSR. URI is softkms:PATH, a file
(encrypted if ` + passphraseEnv + ` is set), or pkcs11:…, tpmkms:…, vault:… or awskms:…, where it
never leaves (docs/keys.md). A key is never overwritten. The certificate for it
comes from the manufacturer's authority, such as

  bollard ca issue --profile firmware-signing --csr FILE`,
		Args: cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			if organisation == "" || name == "" {
				return admin.Usagef("the manufacturer, and a name such as product line and key generation", "--org and --name are needed")
			}
			if alg := keys.Algorithm(algorithm); alg != keys.P256 && alg != keys.RSA3072 {
				return admin.Usagef("p256, which every station verifies, or rsa3072", "--algorithm %.40q doesn't sign firmware", algorithm)
			}
			k, err := c.firmwareKeeper(ctx)
			if err != nil {
				return err
			}
			defer func() { _ = k.Close() }() // nothing is left to lose
			signer, err := k.Create(ctx, args[0], keys.RoleFirmware, keys.Algorithm(algorithm))
			if err != nil {
				return err
			}
			der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
				Subject: pkix.Name{Organization: []string{organisation}, CommonName: name},
			}, signer)
			if err != nil {
				return fmt.Errorf("couldn't sign the CSR: %w", err)
			}
			custody, err := k.Custody(ctx, args[0], keys.RoleFirmware)
			if err != nil { // the key is there: its CSR is printed all the same
				custody = keys.Custody{Holder: keys.Holder(args[0]), Exportable: "not known: " + err.Error()}
			}
			fmt.Fprintf(c.stderr, "the key is in %s; exportable: %s\n", custody.Holder, custody.Exportable)
			out := admin.PEM{PEM: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))}
			return c.print(out, func(w io.Writer) { fmt.Fprint(w, out.PEM) })
		}),
	}
	f := cmd.Flags()
	f.StringVar(&algorithm, "algorithm", string(keys.P256), "p256 or rsa3072")
	f.StringVar(&organisation, "org", "", "the manufacturer: O of the CSR")
	f.StringVar(&name, "name", "", "CN of the CSR, such as product line and key generation")
	return cmd
}

// checkedPart is a line of firmware verify.
type checkedPart struct {
	Part  string `json:"part"`
	Holds bool   `json:"holds"`
	Note  string `json:"note"` // what holds, or why not
}

type checkedBundle struct {
	Holds bool          `json:"holds"`
	Parts []checkedPart `json:"parts"`
}

func (c *cli) firmwareVerify() *cobra.Command {
	dir, trust, logKey, witnesses, needed := "", "", "", []string(nil), 0
	cmd := &cobra.Command{
		Use:   "verify IMAGE --release DIR [--trust ROOT.pem]",
		Short: "Verify an image against its release, and say which part doesn't hold",
		Long: `Verify an image against its release, and say which part doesn't hold. --trust is a
file with the manufacturer's roots; without it nobody vouches for the signing
certificate. --log-key is the verifier key of a transparency log the release has to be
in, proven by its checkpoint, and --witness-key one that has to have cosigned that, or, of
several, as many as --witnesses says. The exit code is 0 only if everything holds.`,
		Args: cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			if dir == "" {
				return admin.Usagef("the directory that `bollard firmware sign --out` made", "--release is missing")
			}
			believed := bundle.Trust{At: time.Now()}
			var err error
			if trust != "" {
				if believed.Roots, err = c.readCertificates(trust); err != nil {
					return err
				}
			}
			if logKey != "" {
				if believed.Log, err = ledger.NewVerifier(logKey); err != nil {
					return admin.Usagef("", "--log-key: %w", err)
				}
			}
			for _, key := range witnesses {
				w, err := ledger.NewVerifier(key)
				if err != nil || believed.Log == nil {
					return admin.Usagef("a witness cosigns the checkpoint of a log: give its --log-key too", "--witness-key %.80q isn't to be used: %v", key, err)
				}
				believed.Witnesses = append(believed.Witnesses, w)
			}
			if believed.Needed = needed; needed < 0 || needed > len(witnesses) {
				return admin.Usagef("", "--witnesses %d: %d keys are given", needed, len(witnesses))
			}
			findings, err := c.checkBundle(ctx, args[0], dir, believed)
			if err != nil {
				return err
			}
			out := checkedBundle{Holds: true}
			failed := []string{}
			for _, f := range findings {
				part := checkedPart{Part: f.Part, Holds: f.Err == nil, Note: f.Note}
				if f.Err != nil {
					part.Note, out.Holds = f.Err.Error(), false
					failed = append(failed, f.Part)
				}
				out.Parts = append(out.Parts, part)
			}
			err = c.print(out, func(w io.Writer) {
				t := newTable(w, "HOLDS", "PART", "NOTE")
				for _, p := range out.Parts {
					t.row(map[bool]string{true: "yes", false: "NO"}[p.Holds], p.Part, p.Note)
				}
				t.flush()
			})
			if err == nil && !out.Holds {
				err = admin.Refusedf("don't install it", "the release doesn't hold: %s", strings.Join(failed, ", "))
			}
			return err
		}),
	}
	cmd.Flags().StringVar(&dir, "release", "", "directory of the release")
	cmd.Flags().StringVar(&trust, "trust", "", "PEM file with the manufacturer's roots")
	cmd.Flags().StringVar(&logKey, "log-key", "", "verifier key of the log the release has to be in")
	cmd.Flags().StringArrayVar(&witnesses, "witness-key", nil, "verifier key of a witness that must have cosigned the log's checkpoint; can be repeated")
	cmd.Flags().IntVar(&needed, "witnesses", 0, "how many of the witnesses must have; without it all")
	return cmd
}

func (c *cli) checkBundle(ctx context.Context, path, dir string, trust bundle.Trust) ([]bundle.Finding, error) {
	if err := wantFile(path); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, admin.Usagef("", "couldn't open the release: %w", err)
	}
	defer root.Close()
	b, err := bundle.Open(root.FS())
	if err != nil {
		return nil, admin.Usagef("", "%w", err)
	}
	bar := c.progress("reading " + filepath.Base(path))
	image, err := bundle.Measure(ctx, path, b.Wanted(), bar.show)
	bar.end()
	if err != nil {
		return nil, err
	}
	return b.Check(ctx, image, trust), nil
}

// readCertificates reads the certificates of a PEM file, or one in DER.
func (c *cli) readCertificates(path string) ([]*x509.Certificate, error) {
	text, err := c.readInput(path)
	if err != nil {
		return nil, err
	}
	var list []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, admin.Usagef("give certificates in PEM", "%s holds a %s", path, block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, admin.Usagef("", "couldn't read a certificate of %s: %w", path, err)
		}
		list = append(list, cert)
	}
	if len(list) == 0 {
		cert, err := x509.ParseCertificate(text)
		if err != nil {
			return nil, admin.Usagef("give certificates in PEM", "%s holds no certificate", path)
		}
		list = append(list, cert)
	}
	return list, nil
}
