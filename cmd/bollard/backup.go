package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"bollard/admin"
	"bollard/backup"
	"bollard/internal/config"
	"bollard/keys"
)

// backupEnv holds the passphrase of backups.
const backupEnv = "BOLLARD_BACKUP_PASSPHRASE"

// madeBackup is what backup prints.
type madeBackup struct {
	File       string   `json:"file"`
	Files      int      `json:"files"`
	Checkpoint string   `json:"checkpoint,omitempty"` // signed
	Unsigned   string   `json:"unsigned,omitempty"`   // why there is none
	Missing    []string `json:"missing"`
}

func (c *cli) backupCommand() *cobra.Command {
	passphrase := ""
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Write everything of the data directory into one encrypted file",
		Long: `Write everything of the data directory into one file, encrypted to a passphrase
(format age): database, keys, configuration. It works beside a running server.
The file is read back before it gets its name; nothing is overwritten.

The passphrase comes from the environment variable BOLLARD_BACKUP_PASSPHRASE,
from --passphrase-file, or as one line from standard input. Keep it where the
file isn't. Keys in a hardware security module, Vault or AWS are not in a
backup; those of a TPM open in that TPM alone.`,
		Args: cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			out, err := c.backup(ctx, args[0], passphrase)
			if err != nil {
				return explainBackup(err)
			}
			return c.print(out, func(w io.Writer) {
				fmt.Fprintf(w, "%s holds %d files; it was read back and is whole\n", out.File, out.Files)
				for _, missing := range out.Missing {
					fmt.Fprintf(w, "NOT in the backup: %s\n", missing)
				}
				if out.Unsigned != "" {
					fmt.Fprintf(w, "no checkpoint to keep: %s\n", out.Unsigned)
				} else {
					fmt.Fprintf(w, "checkpoint to keep elsewhere:\n\n%s", out.Checkpoint)
				}
			})
		}),
	}
	cmd.Flags().StringVar(&passphrase, "passphrase-file", "", "file with the passphrase in one line, mode 0600")
	return cmd
}

func (c *cli) backup(ctx context.Context, file, passphraseFile string) (madeBackup, error) {
	to, err := filepath.Abs(file)
	if err != nil {
		return madeBackup{}, err
	}
	if err := c.refuseInside(to); err != nil {
		return madeBackup{}, err
	}
	// Before anything is asked for or made: a name that is taken.
	if _, err := os.Lstat(to); err == nil {
		return madeBackup{}, fmt.Errorf("couldn't write %s: %w", file, backup.ErrExists)
	}
	secret, err := c.backupPassphrase(passphraseFile)
	if err != nil {
		return madeBackup{}, err
	}
	out := madeBackup{File: file, Missing: []string{}}
	err = c.withOperations(ctx, func(ctx context.Context, v admin.Invoker) error {
		places, err := admin.Call[admin.None, keyPlaces](ctx, v, "keys.show", admin.None{})
		if err != nil {
			return err
		}
		cfg, err := loadConfig(c.data)
		if err != nil {
			return err
		}
		copied, err := admin.Call[admin.None, snapshot](ctx, v, "backup.snapshot", admin.None{})
		if err != nil {
			return err
		}
		path := filepath.Join(c.data, filepath.Base(copied.File))
		m, err := backup.Create(ctx, backup.CreateConfig{
			Dir: c.data, Database: databaseName, Arrivals: []string{uploadsName, depotName}, Snapshot: path, To: to, Passphrase: secret, WorkFactor: c.backupCost,
			Manifest: backup.Manifest{
				MadeAt: copied.MadeAt, Version: version(), Organisation: cfg.Organisation,
				Checkpoint: copied.Checkpoint, Missing: outside(places, cfg, c.data),
			},
		})
		out.Files, out.Checkpoint, out.Unsigned = len(m.Files), copied.Signed, copied.Unsigned
		out.Missing = append(out.Missing, m.Missing...)
		return errors.Join(err, removeCopy(path))
	})
	return out, err
}

// removeCopy removes what a backup was made from. After an hour another backup may have:
// it was open until then.
func removeCopy(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// outside lists the CA keys and the files bollard.yaml names that a backup of
// the directory can't hold.
func outside(places keyPlaces, cfg *config.File, dir string) []string {
	if full, err := filepath.Abs(dir); err == nil {
		dir = full
	}
	inside := func(path string) bool {
		rel, err := filepath.Rel(dir, path)
		return err == nil && filepath.IsLocal(rel)
	}
	var list []string
	for _, k := range places.Keys {
		_, path, _ := strings.Cut(k.URI, ":")
		path = strings.TrimPrefix(path, "path=")
		switch {
		case k.HSM:
			advice := "back that up with its own tools"
			if strings.HasPrefix(k.URI, keys.SchemeTPM+":") {
				advice = "what is in the backup of it opens there alone, and it is lost with this machine"
			}
			list = append(list, fmt.Sprintf("the key of %s: it is in %s (%s); %s", k.Name, keys.Holder(k.URI), k.URI, advice))
		case filepath.IsAbs(path) && !inside(path):
			list = append(list, fmt.Sprintf("the key of %s: it is outside the data directory (%s)", k.Name, path))
		}
	}
	for _, f := range cfg.NamedFiles() {
		path := f.Name
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		if !inside(path) {
			list = append(list, fmt.Sprintf("the file of %s: it is outside the data directory (%s)", f.Key, path))
		}
	}
	return list
}

// refuseInside keeps backups out of what they back up.
func (c *cli) refuseInside(to string) error {
	dir, err := filepath.Abs(c.data)
	if err != nil {
		return err
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	parent := filepath.Dir(to)
	if real, err := filepath.EvalSymlinks(parent); err == nil {
		parent = real
	}
	if rel, err := filepath.Rel(dir, parent); err == nil && filepath.IsLocal(rel) {
		return admin.Usagef("a backup belongs on another machine: give a path outside", "%s is inside the data directory", to)
	}
	return nil
}

// backupPassphrase comes from a file, the environment or standard input.
func (c *cli) backupPassphrase(file string) ([]byte, error) {
	switch {
	case file != "":
		return secretFile(file)
	case os.Getenv(backupEnv) != "":
		return []byte(os.Getenv(backupEnv)), nil
	}
	fmt.Fprintln(c.stderr, "passphrase of the backup, one line on standard input:")
	return secretLine(c.stdin)
}

// explainBackup adds what to do next.
func explainBackup(err error) error {
	for _, known := range []struct {
		is   error
		hint string
	}{
		{backup.ErrExists, "give another name: a backup never replaces one"},
		{backup.ErrShort, "every key is in the file: `openssl rand -base64 24` makes a good one"},
		{backup.ErrPassphrase, "try the right passphrase; if it is right, the file was changed or isn't a backup: take another copy"},
		{backup.ErrDamaged, "nothing was restored; take another copy of the file, or an older backup"},
	} {
		if errors.Is(err, known.is) {
			return admin.Refusedf(known.hint, "%w", err)
		}
	}
	return err
}
