package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bollard/admin"
	"bollard/ca"
	"bollard/internal/config"
)

// poolRoot is a root certificate that a pool of others lists.
type poolRoot struct {
	Type    string `json:"type"`
	Subject string `json:"subject"`
	SHA256  string `json:"sha256"`
	Fault   string `json:"fault,omitempty"` // why it can't be trusted
	PEM     string `json:"pem"`
}

func (c *cli) poolRoots() *cobra.Command {
	kind := ""
	cmd := &cobra.Command{
		Use:   "roots NAME --type V2G|MO|OEM",
		Short: "Print the root certificates that a pool of others lists, to be trusted",
		Long: `Print the root certificates that a pool of others lists (NAME under contracts.pools), as
PEM with what to compare by another way. Nothing is trusted by that:

  bollard pool roots exa --type V2G > roots.pem      # read it, and take out what you don't want
  bollard ca trust add --use v2g roots.pem`,
		Args: cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			if kind = strings.ToUpper(kind); kind != "V2G" && kind != "MO" && kind != "OEM" {
				return admin.Usagef("roots are trusted for one use each", "--type is V2G, MO or OEM")
			}
			list, err := c.rootsOfPool(ctx, args[0], kind)
			if err != nil {
				return err
			}
			out := struct {
				Roots []poolRoot `json:"roots"`
			}{list}
			return c.print(out, func(w io.Writer) {
				for _, root := range list {
					if root.Fault != "" {
						fmt.Fprintf(w, "# %s: %s\n", root.SHA256, root.Fault)
						continue
					}
					fmt.Fprintf(w, "# %s\n# SHA-256 %s\n%s", root.Subject, root.SHA256, root.PEM)
				}
			})
		}),
	}
	cmd.Flags().StringVar(&kind, "type", "", "V2G, MO or OEM")
	return cmd
}

func (c *cli) rootsOfPool(ctx context.Context, name, kind string) ([]poolRoot, error) {
	cfg, err := loadConfig(c.data)
	if err != nil {
		return nil, err
	}
	var at *config.ContractPool
	for i := range cfg.Contracts.Pools {
		if cfg.Contracts.Pools[i].Name == name {
			at = &cfg.Contracts.Pools[i]
		}
	}
	if at == nil {
		return nil, admin.Usagef("contracts.pools in bollard.yaml names them", "there is no pool %q", name)
	}
	_, client, err := contractPool(c.data, *at)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	roots, err := client.Roots(ctx)
	if err != nil {
		return nil, admin.Failedf("`bollard doctor` looks at the configuration", "couldn't ask pool %s: %w", name, err)
	}
	list := []poolRoot{}
	for _, r := range roots {
		if r.Type != kind {
			continue
		}
		sum := sha256.Sum256(r.Certificate.Raw)
		one := poolRoot{Type: r.Type, Subject: fmt.Sprintf("%q", r.Certificate.Subject.String()), SHA256: hex.EncodeToString(sum[:]),
			PEM: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate.Raw}))}
		if err := ca.CheckRoot(r.Certificate, time.Now()); err != nil {
			one.Fault = fmt.Sprintf("%q", err.Error())
		}
		list = append(list, one)
	}
	return list, nil
}
