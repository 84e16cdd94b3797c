package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"bollard/admin"
)

func (c *cli) keysCommand() *cobra.Command {
	return c.group("keys", "Move the keys of CAs", c.keysMigrate())
}

func (c *cli) keysMigrate() *cobra.Command {
	in, dir := admin.MigrateKeys{}, "."
	cmd := &cobra.Command{
		Use:   "migrate --to URI [--dry-run]",
		Short: "Issue with new keys that are kept elsewhere, such as in an HSM or Vault",
		Long: `Issue with new keys that are kept elsewhere, such as in an HSM or Vault. Keys don't move:
each CA below an own root gets a successor whose key is made at URI (a base as keys.uri in
bollard.yaml), certified by the same root, and the successor issues from then on. What was
issued stays good: its CA keeps its key where it is, and answers for it by OCSP and lists
until its own certificate ends. Nothing changes for stations and cars.

A root whose key is offline is asked by a file NAME.csr in --requests: a ceremony with
root: kept answers it (docs/ceremony.md), and bollard ca import-chain has the successor
issue. Until then all is as it was.

Cut off, the same command goes on. --dry-run says what would be done and, as the run
does, what isn't moved and why. Roots stay as they are (bollard ca rollover, ca
ceremony), and so do keys of TLS, SFTP and the ledger, which are files; keys.uri in
bollard.yaml says where OCSP signers and further CAs get theirs.`,
		Args: cobra.NoArgs,
		RunE: c.do(func(ctx context.Context, _ []string) error {
			if in.To == "" {
				return admin.Usagef("such as pkcs11:module-path=/usr/lib/…/MODULE.so;token=LABEL?pin-source=FILE (docs/keys.md)", "--to is missing")
			}
			out, err := call[admin.MigrateKeys, admin.Migrations](ctx, c, "keys.migrate", in)
			if err != nil {
				return err
			}
			var asked []askedFile
			for _, m := range out.Migrations {
				if m.Request == "" {
					continue
				}
				file, err := writeRequest(filepath.Join(dir, m.CAs[0].Next+".csr"), m.Request)
				if err != nil {
					return err
				}
				asked = append(asked, file)
			}
			return c.print(out, func(w io.Writer) { writeMigrations(w, out, in, asked) })
		}),
	}
	cmd.Flags().StringVar(&in.To, "to", "", "where the new keys are made (required)")
	cmd.Flags().BoolVar(&in.DryRun, "dry-run", false, "say what would be done, and do nothing")
	cmd.Flags().StringVar(&dir, "requests", dir, "folder of the requests to offline roots")
	return cmd
}

// askedFile is a request to an offline root.
type askedFile struct{ path, sha256 string }

// writeRequest writes a request. One for the same CA that is there already stays: people
// have agreed to its digest.
func writeRequest(path, text string) (askedFile, error) {
	data := []byte(text)
	err := writeNew(path, data)
	if errors.Is(err, fs.ErrExist) {
		if data, err = os.ReadFile(path); err != nil {
			return askedFile{}, fmt.Errorf("couldn't read %s: %w", path, err)
		}
		have, errHave := requestIn(data)
		want, errWant := requestIn([]byte(text))
		if err := errors.Join(errHave, errWant); err != nil || !bytes.Equal(have.RawSubjectPublicKeyInfo, want.RawSubjectPublicKeyInfo) || !bytes.Equal(have.RawSubject, want.RawSubject) {
			return askedFile{}, admin.Failedf("move it away, or give another folder as --requests; the same command goes on", "%s is there, and isn't the request", path)
		}
	}
	sum := sha256.Sum256(data)
	return askedFile{path, hex.EncodeToString(sum[:])}, err
}

// requestIn is a request in PEM that its key signed.
func requestIn(text []byte) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("it isn't a CSR in PEM")
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, err
	}
	return request, request.CheckSignature()
}

func writeMigrations(w io.Writer, out admin.Migrations, in admin.MigrateKeys, asked []askedFile) {
	did := "issues now; %s, whose key stays in %s, answers for what it issued"
	if in.DryRun {
		did = "would issue; %s, whose key stays in %s, would answer for what it issued"
	}
	moved := false
	for _, m := range out.Migrations {
		for _, one := range m.CAs {
			moved = true
			switch {
			case m.Root == "":
				fmt.Fprintf(w, "%s: %s "+did+"\n", m.Kind, one.Next, one.Name, one.Key)
			case in.DryRun:
				fmt.Fprintf(w, "%s: %s would get its key, and the offline root %s would be asked to certify it; %s issues until that is taken in\n", m.Kind, one.Next, m.Root, one.Name)
			default:
				fmt.Fprintf(w, "%s: %s has its key, and waits for its certificate by the offline root %s; %s issues until that is taken in\n", m.Kind, one.Next, m.Root, one.Name)
				fmt.Fprintf(w, "  request: %s\n  sha256: %s\n  a ceremony with `root: kept` certifies it at level 1, `bollard ca import-chain %s FILE` takes that in\n", asked[0].path, asked[0].sha256, m.Kind)
				asked = asked[1:]
			}
		}
		if m.Kept != "" {
			fmt.Fprintf(w, "%s: not moved: %s\n", m.Kind, m.Kept)
		}
	}
	if moved {
		fmt.Fprintf(w, "\nSet keys.uri in bollard.yaml to %s and restart the server: OCSP signers and further CAs get their keys there then.\n"+
			"Not moved: roots (bollard ca rollover), and the keys of TLS, SFTP and the ledger, which are files.\n", in.To)
	}
}
