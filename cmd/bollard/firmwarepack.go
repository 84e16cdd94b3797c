package main

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"bollard/admin"
	"bollard/firmware/bundle"
	"bollard/firmware/tuf"
	"bollard/keys"
)

// opener opens a file of a delivery.
type opener = func() (io.ReadCloser, int64, error)

func openPath(path string) opener {
	return func() (io.ReadCloser, int64, error) {
		f, err := os.Open(path)
		if err != nil {
			return nil, 0, err
		}
		info, err := f.Stat()
		if err != nil {
			return nil, 0, errors.Join(err, f.Close())
		}
		return f, info.Size(), nil
	}
}

// packOptions are the flags of firmware pack.
type packOptions struct {
	image, out, metadata string
	keys                 []string
	valid                time.Duration
}

// packed is what firmware pack prints.
type packed struct {
	Release  string `json:"release"`
	Delivery string `json:"delivery"`
	Metadata string `json:"metadata,omitempty"`
}

func (c *cli) firmwarePack() *cobra.Command {
	o := packOptions{}
	cmd := &cobra.Command{
		Use:   "pack DIR --image FILE --out FILE [--metadata DIR --key URI…]",
		Short: "Pack a signed release and its image into one file, for an operator",
		Long: `Pack the folder that firmware sign made and its image into one file, a delivery that
an operator takes in with firmware add. Everything in it is verified first.

--metadata is the manufacturer's repository of metadata (firmware tuf init): the files
are entered there, signed by the keys given, as many as its root asks for, and the
metadata goes with the delivery. An operator who trusts the repository's first root
takes nothing that is older, expired or signed by fewer.`,
		Args: cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			if o.image == "" || o.out == "" {
				return admin.Usagef("", "--image and --out are needed")
			}
			if (o.metadata == "") != (len(o.keys) == 0) {
				return admin.Usagef("`bollard firmware tuf init` makes a repository", "--metadata and --key go together")
			}
			findings, err := c.checkBundle(ctx, o.image, args[0], bundle.Trust{At: time.Now()})
			if err != nil {
				return err
			}
			for _, f := range findings {
				if f.Err != nil {
					return admin.Refusedf("", "the release doesn't hold: %s: %w", f.Part, f.Err)
				}
			}
			out, err := c.pack(ctx, args[0], &o)
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) { fmt.Fprintf(w, "%s packed into %s\n", out.Release, out.Delivery) })
		}),
	}
	f := cmd.Flags()
	f.StringVar(&o.image, "image", "", "the image (required)")
	f.StringVar(&o.out, "out", "", "the delivery to make (required)")
	f.StringVar(&o.metadata, "metadata", "", "directory of the manufacturer's repository of metadata")
	f.StringArrayVar(&o.keys, "key", nil, "a key of the repository, softkms:…, pkcs11:…, tpmkms:…, vault:…, awskms:… or a PEM file; can be repeated")
	spanVar(cmd, &o.valid, "valid", 90*24*time.Hour, "how long the metadata is good")
	return cmd
}

func (c *cli) pack(ctx context.Context, dir string, o *packOptions) (packed, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return packed{}, admin.Usagef("", "couldn't open the release: %w", err)
	}
	defer func() { _ = root.Close() }() // it was only read
	b, err := bundle.Open(root.FS())
	if err != nil {
		return packed{}, admin.Usagef("", "couldn't open the release: %w", err)
	}
	if b.Release == nil { // it was there a moment ago
		return packed{}, errors.New("the release was changed while it was packed")
	}
	files := map[string]opener{b.Release.File: openPath(o.image)}
	for _, name := range bundle.Files() {
		if _, err := root.Lstat(name); err == nil {
			if files[name] != nil {
				return packed{}, admin.Refusedf("sign it under another --file", "the image is named as a file of the release, %s", name)
			}
			files[name] = openPath(filepath.Join(dir, name))
		}
	}
	if o.metadata != "" {
		if err := c.enter(ctx, b, files, o); err != nil {
			return packed{}, err
		}
	}
	f, err := os.OpenFile(o.out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return packed{}, admin.Usagef("give a file that isn't there", "couldn't make the delivery: %w", err)
	}
	err = bundle.WriteArchive(f, files)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return packed{}, errors.Join(err, os.Remove(o.out))
	}
	return packed{b.Release.ID, o.out, o.metadata}, nil
}

// enter has the metadata name a release's files, and go with them.
func (c *cli) enter(ctx context.Context, b *bundle.Bundle, files map[string]opener, o *packOptions) error {
	entered := map[string]tuf.File{}
	for name, open := range files {
		r, size, err := open()
		if err != nil {
			return fmt.Errorf("couldn't read %s: %w", name, err)
		}
		sum := sha256.New()
		_, err = io.Copy(sum, r)
		if err = errors.Join(err, r.Close()); err != nil {
			return fmt.Errorf("couldn't read %s: %w", name, err)
		}
		entered[b.Release.ID+"/"+name] = tuf.File{Size: size, SHA256: [sha256.Size]byte(sum.Sum(nil))}
	}
	k, signers, err := c.openSigners(ctx, o.keys)
	if err != nil {
		return err
	}
	defer func() { _ = k.Close() }() // nothing is left to lose
	repo, err := tuf.Open(o.metadata, rand.Reader)
	if err != nil {
		return err
	}
	defer func() { _ = repo.Close() }() // what was written is on disk
	now := time.Now()
	if err := repo.Publish(entered, signers, now.Add(o.valid), now); err != nil {
		return err
	}
	names, err := repo.Files()
	for _, name := range names {
		files[bundle.FolderMetadata+"/"+name] = openPath(filepath.Join(o.metadata, name))
	}
	return err
}

// openSigners opens keys; the keeper is to be closed when they aren't needed.
func (c *cli) openSigners(ctx context.Context, uris []string) (*keys.Keeper, []crypto.Signer, error) {
	k, err := c.firmwareKeeper(ctx)
	if err != nil {
		return nil, nil, err
	}
	var list []crypto.Signer
	for _, uri := range uris {
		s, err := openSigner(ctx, k, uri)
		if err != nil {
			return nil, nil, errors.Join(err, k.Close())
		}
		list = append(list, s)
	}
	return k, list, nil
}

// rootOptions are the flags that say what a root is to be.
type rootOptions struct {
	root, targets, online, old []string
	rootNeeded, targetsNeeded  int
	valid                      time.Duration
}

// madeRoot is what firmware tuf prints.
type madeRoot struct {
	File    string `json:"file"`
	Version int64  `json:"version"`
}

func (c *cli) firmwareTUF() *cobra.Command {
	return c.group("tuf", "A manufacturer's repository of metadata, in the form of The Update Framework",
		c.rootCommand("init DIR", "Begin a repository, and print its first root: what operators are to trust",
			func(dir string, roles tuf.Roles, signers []crypto.Signer) (int64, error) {
				return 1, tuf.Create(dir, roles, signers, rand.Reader)
			}),
		c.rootCommand("rotate DIR", "Put other keys in force: a new root, signed by those of the old one too",
			func(dir string, roles tuf.Roles, signers []crypto.Signer) (int64, error) {
				repo, err := tuf.Open(dir, rand.Reader)
				if err != nil {
					return 0, err
				}
				defer func() { _ = repo.Close() }() // what was written is on disk
				return repo.Rotate(roles, signers)
			}), c.draftCommand(), c.signCommand(), c.takeCommand())
}

func (c *cli) rootCommand(use, short string, do func(dir string, roles tuf.Roles, signers []crypto.Signer) (int64, error)) *cobra.Command {
	o := rootOptions{}
	cmd := &cobra.Command{
		Use:   use + " --root URI… --targets URI… --online URI",
		Short: short,
		Long: short + `. --root keys sign roots
and stay offline, --targets keys say which files a release has, --online keys that this
is the newest. Keys are key URIs (docs/keys.md) or PEM files, on P-256, made by firmware
key. rotate needs the keys of the root before by --old.`,
		Args: cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			if len(o.root) == 0 || len(o.targets) == 0 || len(o.online) == 0 {
				return admin.Usagef("`bollard firmware key` makes keys", "--root, --targets and --online are needed")
			}
			k, signers, err := c.openSigners(ctx, append(append(append(o.root[:len(o.root):len(o.root)], o.targets...), o.online...), o.old...))
			if err != nil {
				return err
			}
			defer func() { _ = k.Close() }() // nothing is left to lose
			var public []crypto.PublicKey
			for _, s := range signers {
				public = append(public, s.Public())
			}
			n, m := len(o.root), len(o.targets)
			roles := tuf.Roles{Root: public[:n], Targets: public[n : n+m], Online: public[n+m : n+m+len(o.online)],
				RootThreshold: o.rootNeeded, TargetThreshold: o.targetsNeeded, Expires: time.Now().Add(o.valid)}
			version, err := do(args[0], roles, append(signers[:n:n], signers[n+m+len(o.online):]...))
			if err != nil {
				return err
			}
			out := madeRoot{filepath.Join(args[0], tuf.FileRoot(version)), version}
			return c.print(out, func(w io.Writer) { fmt.Fprintln(w, out.File) })
		}),
	}
	o.on(cmd)
	cmd.Flags().StringArrayVar(&o.old, "old", nil, "a root key of the root before, for rotate; can be repeated")
	return cmd
}

// on are the flags of every command that makes a root.
func (o *rootOptions) on(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVar(&o.root, "root", nil, "a key that signs roots; can be repeated")
	f.StringArrayVar(&o.targets, "targets", nil, "a key that signs the list of files; can be repeated")
	f.StringArrayVar(&o.online, "online", nil, "a key that signs what is the newest; can be repeated")
	f.IntVar(&o.rootNeeded, "root-threshold", 1, "how many root keys a root takes")
	f.IntVar(&o.targetsNeeded, "targets-threshold", 1, "how many keys the list of files takes")
	spanVar(cmd, &o.valid, "valid", 5*365*24*time.Hour, "how long the root is good")
}
