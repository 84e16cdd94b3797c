package main

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"bollard/admin"
	"bollard/firmware/tuf"
)

// draftCommand drafts a root whose keys nobody has together.
func (c *cli) draftCommand() *cobra.Command {
	o, out := rootOptions{}, ""
	cmd := &cobra.Command{
		Use:   "draft DIR --root FILE… --targets FILE… --online FILE --out FILE",
		Short: "Draft the first root of a repository, or its next, for keepers who sign elsewhere",
		Long: `Draft the first root of a repository that isn't there yet, or the next one of DIR. No
private key is opened: keys are PEM files, the CSR that firmware key printed or a public
key, on P-256. Each keeper of a root key signs the draft where the key is (firmware tuf
sign), and firmware tuf take puts it in force.`,
		Args: cobra.ExactArgs(1),
		RunE: c.do(func(_ context.Context, args []string) error {
			if len(o.root) == 0 || len(o.targets) == 0 || len(o.online) == 0 || out == "" {
				return admin.Usagef("`bollard firmware key` prints a CSR of the key it makes", "--root, --targets, --online and --out are needed")
			}
			roles := tuf.Roles{RootThreshold: o.rootNeeded, TargetThreshold: o.targetsNeeded, Expires: time.Now().Add(o.valid)}
			for files, into := range map[*[]string]*[]crypto.PublicKey{&o.root: &roles.Root, &o.targets: &roles.Targets, &o.online: &roles.Online} {
				for _, file := range *files {
					key, err := publicKey(file)
					if err != nil {
						return err
					}
					*into = append(*into, key)
				}
			}
			text, err := tuf.Draft(args[0], roles)
			if err != nil {
				return err
			}
			return c.putNew(out, text, "draft")
		}),
	}
	o.on(cmd)
	cmd.Flags().StringVar(&out, "out", "", "the draft to make (required)")
	return cmd
}

// signCommand signs a draft where the key is.
func (c *cli) signCommand() *cobra.Command {
	key, out, bytes := "", "", false
	cmd := &cobra.Command{
		Use:   "sign DRAFT (--key URI --out FILE | --print)",
		Short: "Sign a drafted root, on the machine that has the key",
		Long: `Sign a drafted root (firmware tuf draft) with one key, and say the SHA-256 of what was
signed: all keepers' has to be the same. --print prints the bytes that are signed, for
another program: ECDSA with SHA-256 in ASN.1, such as "openssl dgst -sha256 -sign KEY".`,
		Args: cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			if bytes == (key != "" || out != "") || (key == "") != (out == "") {
				return admin.Usagef("", "give --key and --out, or --print")
			}
			draft, err := c.readInput(args[0])
			if err != nil {
				return err
			}
			payload, err := tuf.Payload(draft)
			if err != nil {
				return err
			}
			if bytes {
				_, err := c.stdout.Write(payload)
				return err
			}
			k, signers, err := c.openSigners(ctx, []string{key})
			if err != nil {
				return err
			}
			defer func() { _ = k.Close() }() // nothing is left to lose
			signature, err := tuf.Sign(draft, signers[0], rand.Reader)
			if err != nil {
				return err
			}
			return c.putNew(out, signature, fmt.Sprintf("signature over SHA-256 %x", sha256.Sum256(payload)))
		}),
	}
	f := cmd.Flags()
	f.StringVar(&key, "key", "", "the key, softkms:…, pkcs11:…, tpmkms:…, vault:…, awskms:… or a PEM file")
	f.StringVar(&out, "out", "", "the signature to make")
	f.BoolVar(&bytes, "print", false, "print the bytes to be signed")
	return cmd
}

// takeCommand puts a draft in force.
func (c *cli) takeCommand() *cobra.Command {
	var files []string
	cmd := &cobra.Command{
		Use:   "take DIR DRAFT --signature FILE…",
		Short: "Put a drafted root in force with the signatures of its keepers",
		Long: `Put a drafted root in force, the first of a repository or its next, with as many
signatures as it asks for, and the root before it. Whose each is is found out; one that
is of no such key, or over another draft, is refused.`,
		Args: cobra.ExactArgs(2),
		RunE: c.do(func(_ context.Context, args []string) error {
			draft, err := c.readInput(args[1])
			if err != nil {
				return err
			}
			var signatures [][]byte
			for _, file := range files {
				signature, err := c.readInput(file)
				if err != nil {
					return err
				}
				signatures = append(signatures, signature)
			}
			version, err := tuf.Take(args[0], draft, signatures)
			if err != nil {
				return admin.Refusedf("", "%w", err)
			}
			out := madeRoot{filepath.Join(args[0], tuf.FileRoot(version)), version}
			return c.print(out, func(w io.Writer) { fmt.Fprintln(w, out.File) })
		}),
	}
	cmd.Flags().StringArrayVar(&files, "signature", nil, "a file that firmware tuf sign made; can be repeated")
	return cmd
}

// madeFile is a file that was made, and what it is.
type madeFile struct {
	File string `json:"file"`
	What string `json:"what"`
}

// putNew writes a file that isn't there.
func (c *cli) putNew(path string, text []byte, what string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return admin.Usagef("give a file that isn't there", "couldn't make the %s: %w", what, err)
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	out := madeFile{path, what}
	return c.print(out, func(w io.Writer) { fmt.Fprintf(w, "%s: %s\n", out.File, out.What) })
}

// publicKey reads a key's CSR, which proves that its keeper has it, or a public key.
func publicKey(path string) (crypto.PublicKey, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	switch {
	case block != nil && block.Type == "CERTIFICATE REQUEST":
		request, err := requestIn(text)
		if err != nil {
			return nil, admin.Usagef("", "couldn't read the CSR %s: %w", path, err)
		}
		return request.PublicKey, nil
	case block != nil && block.Type == "PUBLIC KEY":
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, admin.Usagef("", "couldn't read the public key %s: %w", path, err)
		}
		return key, nil
	}
	return nil, admin.Usagef("", "%s has neither a CSR nor a public key in PEM", path)
}
