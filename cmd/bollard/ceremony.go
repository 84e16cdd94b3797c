package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"bollard/admin"
	"bollard/ca/ceremony"
	"bollard/keys"
	"bollard/store"
)

// ceremonyOptions are the flags of a ceremony.
type ceremonyOptions struct {
	dir      string
	present  []string
	rehearse bool
	keys     string
}

func (c *cli) caCeremony() *cobra.Command {
	o := ceremonyOptions{}
	cmd := &cobra.Command{
		Use:   "ceremony SCRIPT --dir DIR --present ROLE…",
		Short: "Make an offline root, and certify CAs with it, by a script and before witnesses",
		Long: `Make an offline root, and certify CAs with it, by a script and before witnesses: on a
machine of its own, which needs neither server nor network (docs/ceremony.md). DIR keeps
the root's records, and its key if that is a file; what is made goes into a folder in it,
with a transcript that the root's key signs. Cut off, the same command goes on.

--rehearse does all of it in a folder of its own, with keys in files that are deleted at
the end, or in the token that --keys names; the root's name says that it is a rehearsal.

The passphrase of key files and the PIN of a token come from the environment, as for
bollard init.`,
		Args: cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			result, err := c.ceremony(ctx, args[0], o)
			if err != nil {
				return err
			}
			return c.print(result, func(w io.Writer) {
				for _, name := range result.Files {
					fmt.Fprintln(w, filepath.Join(o.dir, result.Folder, name))
				}
			})
		}),
	}
	f := cmd.Flags()
	f.StringVar(&o.dir, "dir", "", "the root's own folder, made if it isn't there (required)")
	f.StringArrayVar(&o.present, "present", nil, "a role of the script that is present; once for each")
	f.BoolVar(&o.rehearse, "rehearse", false, "do it for practice, with a root that nobody is to trust")
	f.StringVar(&o.keys, "keys", "", "with --rehearse: where its key is made (default softkms:), such as a token of SoftHSM")
	cmd.AddCommand(c.ceremonyVerify(), c.ceremonyRecord())
	return cmd
}

// ceremony holds the root's folder for as long as it works in it.
func (c *cli) ceremony(ctx context.Context, path string, o ceremonyOptions) (ceremony.Result, error) {
	var none ceremony.Result
	switch {
	case o.dir == "":
		return none, admin.Usagef("it keeps the root's records: on the medium that goes into the safe", "--dir is missing")
	case o.keys != "" && !o.rehearse:
		return none, admin.Usagef("the script says where the root's key is", "--keys is for --rehearse")
	case o.rehearse && o.keys == "":
		o.keys = keys.SchemeSoft + ":"
	}
	text, err := readFile(path)
	if err != nil {
		return none, err
	}
	script, err := ceremony.ParseScript(path, text)
	if err != nil {
		return none, err
	}
	if err := makeDir(o.dir); err != nil {
		return none, err
	}
	lock, err := tryLock(o.dir)
	if errors.Is(err, errLocked) {
		return none, admin.Refusedf("wait for its end", "another ceremony is under way in %s", o.dir)
	}
	if err != nil {
		return none, err
	}
	defer lock.release()
	if _, err := os.Stat(filepath.Join(o.dir, configName)); err == nil {
		return none, admin.Refusedf("give a folder of its own", "%s is the data directory of a server", o.dir)
	}
	return c.ceremonyIn(ctx, filepath.Dir(path), script, o)
}

// ceremonyIn runs a ceremony in a folder whose lock the caller holds.
func (c *cli) ceremonyIn(ctx context.Context, beside string, script *ceremony.Script, o ceremonyOptions) (result ceremony.Result, err error) {
	inputs, err := os.OpenRoot(beside)
	if err != nil {
		return result, err
	}
	defer inputs.Close()
	dir, err := os.OpenRoot(o.dir)
	if err != nil {
		return result, err
	}
	defer dir.Close()
	passphrase := keyPassphrase(ctx, o.dir, "")
	keyDir, err := filepath.Abs(filepath.Join(o.dir, keysName))
	if err != nil {
		return result, err
	}
	keysThere := true
	if _, err := dir.Lstat(keysName); errors.Is(err, fs.ErrNotExist) {
		keysThere = false
	} else if err != nil {
		return result, err
	}
	log := quietLog(c.stderr)
	keeper, err := keys.New(keys.Config{Dir: keyDir, Passphrase: passphrase, PIN: hsmPIN(), Log: log})
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, keeper.Close()) }()
	db, err := store.Open(ctx, store.Config{Path: filepath.Join(o.dir, databaseName), Clock: time.Now, Log: log})
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	result, err = ceremony.Run(ctx, ceremony.Config{
		Script: script, Inputs: inputs, Dir: dir, Store: db, Keeper: keeper, KeyBase: o.keys, Encrypted: passphrase != nil,
		Rehearsal: o.rehearse, KeysThere: keysThere, Present: o.present, Program: version(), Actor: admin.OperatorName(os.Geteuid()), Clock: time.Now, Log: log,
		Say: func(line string) { fmt.Fprintln(c.stderr, line) },
	})
	if err != nil || !o.rehearse {
		return result, err
	}
	// What was only for practice is nobody's root.
	return result, dir.RemoveAll(keysName)
}

func (c *cli) ceremonyVerify() *cobra.Command {
	return &cobra.Command{
		Use:   "verify TRANSCRIPT [FILE…]",
		Short: "Verify a ceremony's transcript, and files that it made, without a server",
		Long: `Verify a ceremony's transcript: that the key of the root it tells of signed all of it, and
that the ledger in it is whole; and that files, by their names, are those that were made.
Whether the root is the one to believe, whoever was present knows.`,
		Args: cobra.MinimumNArgs(1),
		RunE: c.do(func(_ context.Context, args []string) error {
			data, err := c.readInput(args[0])
			if err != nil {
				return err
			}
			t, err := ceremony.ReadTranscript(data)
			if err != nil {
				return admin.Refusedf("the transcript comes first, as the ceremony made it, and files that it made behind it", "%s: %w", args[0], err)
			}
			for _, file := range args[1:] {
				data, err := c.readInput(file)
				if err != nil {
					return err
				}
				if err := t.CheckOutput(filepath.Base(file), data); err != nil {
					return admin.Refusedf("", "%s: %w", file, err)
				}
			}
			return c.print(t, func(w io.Writer) { writeTranscript(w, *t) })
		}),
	}
}

func (c *cli) ceremonyRecord() *cobra.Command {
	return &cobra.Command{
		Use:   "record TRANSCRIPT",
		Short: "Record in the ledger here that a root was made in a ceremony",
		Long: `Record in the ledger here that a root was made, or signed, in a ceremony. The transcript
is verified, and its root has to count here already (bollard ca trust add, bollard ca
import-chain); that of a rehearsal is refused.`,
		Args: cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			data, err := c.readInput(args[0])
			if err != nil {
				return err
			}
			out, err := call[admin.Ceremony, ceremony.Transcript](ctx, c, "ca.ceremony", admin.Ceremony{Transcript: data, File: args[0]})
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) { writeTranscript(w, out) })
		}),
	}
}

func writeTranscript(w io.Writer, t ceremony.Transcript) {
	what := "ceremony"
	if t.Rehearsal {
		what = "rehearsal"
	}
	fmt.Fprintf(w, "%s %q of %s, %s to %s\nsha256 %s\nscript %s\npresent: %s\nthe root's key is in %s; exportable: %s\n",
		what, t.Title, t.Hierarchy, when(&t.Began), when(&t.Ended), t.Digest, t.Script, t.Roles, t.Holder, t.Exportable)
	for _, o := range t.Outputs {
		fmt.Fprintf(w, "%s  %s: %s\n", o.SHA256, o.File, o.What)
	}
}
