package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"bollard/admin"
	"bollard/backup"
	"bollard/ca"
	"bollard/internal/config"
	"bollard/internal/failpoint"
	"bollard/ledger"
	"bollard/store"
)

// restoringSuffix names the directory a backup is unpacked and judged in,
// beside the one it becomes.
const restoringSuffix = ".restoring"

// restoredBackup is what restore prints.
type restoredBackup struct {
	Data       string    `json:"data"`
	MadeAt     time.Time `json:"made_at"`
	Version    string    `json:"version"`
	Entries    uint64    `json:"entries"`
	Checkpoint string    `json:"checkpoint"`
	Lost       uint64    `json:"lost_entries,omitempty"` // up to the checkpoint given
	// GivenUp are the origins of checkpoints given that are of other restores of a backup.
	GivenUp []string `json:"given_up,omitempty"`
	Missing []string `json:"missing"`
	// Ended is what it doesn't go on with by itself.
	Ended store.Ended `json:"ended"`
}

func (c *cli) restoreCommand() *cobra.Command {
	passphrase, checkpoint := "", []string(nil)
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Put a backup in place as a new data directory",
		Long: `Put a backup in place as a new data directory (--data, which must not exist or
be empty). Everything is checked before the directory appears: the file, the
database, the whole ledger, and that keys and certificates belong together.
If anything fails, nothing is left.

CRL numbers go on above every number used before. Certificates issued after
the backup aren't on record: each is recorded again when its station connects
with it. Revocations, stations and passwords of that time are lost: revoke
and add them again before serving. Rollouts that ran are halted; one-time
secrets, ACME tokens and approvals that weren't used are void.

The passphrase comes as for backup. Encrypted keys need their own passphrase
too (BOLLARD_KEY_PASSPHRASE or keys.passphrase_file), keys in a hardware
security module the token.`,
		Args: cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			kept, err := readCheckpoints(checkpoint)
			if err != nil {
				return err
			}
			// Before anything is asked for: a file that isn't there.
			if err := wantFile(args[0]); err != nil {
				return err
			}
			secret, err := c.backupPassphrase(passphrase)
			if err != nil {
				return err
			}
			out, err := restore(ctx, args[0], c.data, secret, kept)
			if err != nil {
				return explainBackup(err)
			}
			return c.print(out, func(w io.Writer) { out.write(w) })
		}),
	}
	f := cmd.Flags()
	f.StringVar(&passphrase, "passphrase-file", "", "file with the passphrase in one line, mode 0600")
	f.StringArrayVar(&checkpoint, "checkpoint", nil, "file with the newest checkpoint kept elsewhere: says how much the backup lacks")
	return cmd
}

func (r restoredBackup) write(w io.Writer) {
	fmt.Fprintf(w, "%s is the backup of %s (bollard %s): %d ledger entries, unbroken; keys and certificates belong together\n", r.Data, when(&r.MadeAt), r.Version, r.Entries)
	if r.Lost > 0 {
		fmt.Fprintf(w, "the checkpoint given is %d entries newer: what they recorded is lost\n", r.Lost)
	}
	for _, origin := range r.GivenUp {
		fmt.Fprintf(w, "a checkpoint given is of another restore of a backup, %s: what was recorded there is lost\n", origin)
	}
	for _, missing := range r.Missing {
		fmt.Fprintf(w, "NOT from the backup: %s\n", missing)
	}
	fmt.Fprintf(w, "\nBefore `bollard serve --data %s`:\n", shellWord(r.Data))
	fmt.Fprintf(w, "  revoke again what was revoked since then, firmware releases too, and add the stations added since then\n")
	if r.Ended.Rollouts > 0 {
		fmt.Fprintf(w, "  look at the %d rollouts that ran, which are halted: resume those that should go on\n", r.Ended.Rollouts)
	}
	if r.Ended.Secrets > 0 {
		fmt.Fprintf(w, "  make the %d one-time secrets and ACME tokens again that weren't used yet: they may have been since then, and are void\n", r.Ended.Secrets)
	}
	fmt.Fprintf(w, "  make sure that the old server never runs again: two would issue beside each other\n")
	fmt.Fprintf(w, "checkpoint to keep elsewhere:\n\n%s", r.Checkpoint)
}

// restore unpacks beside the target, judges everything there, and renames: the
// target is absent or whole at every moment.
func restore(ctx context.Context, file, target string, secret []byte, kept []ledger.Note) (restoredBackup, error) {
	dir, err := filepath.Abs(target)
	if err != nil {
		return restoredBackup{}, err
	}
	if err := refuseTarget(dir); err != nil {
		return restoredBackup{}, err
	}
	staging := dir + restoringSuffix
	lock, err := stage(staging)
	if err != nil {
		return restoredBackup{}, err
	}
	defer lock.release()
	out, err := fillAndJudge(ctx, file, staging, secret, kept)
	if err == nil {
		failpoint.Hit("restore.judged")
		err = appear(staging, dir)
	}
	if err != nil {
		return restoredBackup{}, errors.Join(err, os.RemoveAll(staging))
	}
	failpoint.Hit("restore.in-place")
	out.Data = target
	return out, nil
}

func refuseTarget(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("couldn't look into %s: %w", dir, err)
	case len(entries) > 0:
		return admin.Refusedf("give another --data, or move that directory away; nothing was changed", "%s exists and isn't empty", dir)
	}
	var own, parent unix.Stat_t
	if err := errors.Join(unix.Stat(dir, &own), unix.Stat(filepath.Dir(dir), &parent)); err != nil {
		return fmt.Errorf("couldn't look at %s: %w", dir, err)
	}
	if own.Dev != parent.Dev {
		return mountPoint(dir)
	}
	return nil
}

// mountPoint refuses a directory that a rename can't replace, and beside which there may be
// no room.
func mountPoint(dir string) error {
	return admin.Refusedf("give a directory below it, such as "+filepath.Join(dir, "data")+", and move what is in it up then; nothing was changed",
		"%s is a mount point: a restored directory takes the place of an empty one whole, and can't take that of a mounted one", dir)
}

// stage makes the directory to unpack in and empties it of what a killed
// restore left. The lock keeps a second one out, and moves along.
func stage(staging string) (*dirLock, error) {
	if err := os.MkdirAll(filepath.Dir(staging), 0o700); err != nil {
		return nil, fmt.Errorf("couldn't make the directory: %w", err)
	}
	if err := os.Mkdir(staging, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("couldn't make the directory: %w", err)
	}
	if err := checkPrivate(staging); err != nil {
		return nil, err
	}
	lock, err := tryLock(staging)
	if errors.Is(err, errLocked) {
		return nil, admin.Refusedf("wait for it", "another restore works in %s", staging)
	}
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(staging)
	for _, e := range entries {
		if err == nil && e.Name() != lockName {
			err = os.RemoveAll(filepath.Join(staging, e.Name()))
		}
	}
	if err != nil {
		lock.release()
		return nil, fmt.Errorf("couldn't clear %s: %w", staging, err)
	}
	return lock, nil
}

func fillAndJudge(ctx context.Context, file, staging string, secret []byte, kept []ledger.Note) (restoredBackup, error) {
	m, err := backup.Unpack(ctx, file, secret, staging)
	if err != nil {
		return restoredBackup{}, err
	}
	failpoint.Hit("restore.unpacked")
	path := filepath.Join(staging, configName)
	text, err := os.ReadFile(path)
	if err != nil {
		return restoredBackup{}, fmt.Errorf("%w: %w", backup.ErrDamaged, err)
	}
	// Files it names elsewhere may not be there yet; serve looks for them.
	cfg, err := config.Parse(path, text)
	if err != nil {
		return restoredBackup{}, err
	}
	if _, err := openSealer(filepath.Join(staging, sealName)); err != nil {
		return restoredBackup{}, err
	}
	db, err := store.Open(ctx, store.Config{Path: filepath.Join(staging, databaseName), Clock: time.Now})
	if err != nil {
		return restoredBackup{}, err
	}
	out, err := judge(ctx, db, cfg, staging, m, kept)
	return out, errors.Join(err, db.Close())
}

// judge checks a restored directory and marks it as one.
func judge(ctx context.Context, db *store.Store, cfg *config.File, dir string, m backup.Manifest, kept []ledger.Note) (restoredBackup, error) {
	out := restoredBackup{MadeAt: m.MadeAt, Version: m.Version, Missing: append([]string{}, m.Missing...)}
	if err := db.CheckIntegrity(ctx); err != nil {
		return out, err
	}
	// 1. The ledger is whole, ends where the backup says, and continues the
	// checkpoints kept elsewhere, but for what the backup lacks.
	head, err := ledger.ParseCheckpoint(m.Checkpoint)
	if err != nil {
		return out, fmt.Errorf("%w: its manifest: %w", backup.ErrDamaged, err)
	}
	epochs, err := db.Epochs(ctx)
	if err != nil {
		return out, err
	}
	against := admin.VerifyLedger{}
	for _, n := range kept {
		later := n.Later(epochs)
		if later {
			out.GivenUp = append(out.GivenUp, n.Origin)
		}
		if n.Size <= head.Size {
			if !later { // else it parted from this one before its end, nobody knows where
				against.Checkpoints = append(against.Checkpoints, n.Signed)
			}
			continue
		}
		var lost *ledger.CheckpointError
		if err := n.Judge(head.Size, db.TreeHashes(ctx), epochs); errors.As(err, &lost) && lost.Problem == ledger.Foreign && !later {
			return out, admin.Refusedf("give the checkpoint of the ledger that was backed up", "%w", err)
		}
		out.Lost = max(out.Lost, n.Size-head.Size)
	}
	state, err := admin.VerifyStored(ctx, db, against)
	if err != nil {
		return out, err
	}
	if state.Entries != head.Size || state.Root != head.Root {
		return out, fmt.Errorf("%w: its ledger doesn't end at the checkpoint of its manifest", backup.ErrDamaged)
	}
	// 2. The clock is right: CRL numbers and validity depend on it.
	now := time.Now().UTC()
	if now.Before(m.MadeAt.Add(-5 * time.Minute)) {
		return out, fmt.Errorf("%w: it is before the backup was made, %s", ca.ErrClock, when(&m.MadeAt))
	}
	// 3. Every CA key is there and is the one of its certificate.
	keeper, err := openKeeper(ctx, dir, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return out, err
	}
	authority, err := ca.New(ctx, ca.Config{Store: db, Organisation: cfg.Organisation, Country: cfg.Country, Curves20: curves20(cfg), Keeper: keeper, Clock: time.Now})
	if err == nil {
		err = authority.CheckKeys(ctx)
	}
	if err == nil {
		out.Ended, err = breakOff(ctx, db, ca.Restoration{BackedUp: m.MadeAt, Restored: now}, head, kept)
	}
	if err == nil {
		var signed ledger.Note
		signed, err = newNotary(db, keeper, cfg).Checkpoint(ctx)
		out.Entries, out.Checkpoint = signed.Size, signed.Signed
	}
	return out, errors.Join(err, keeper.Close())
}

// breakOff records that the ledger has a gap here. What it told others since
// the backup can't be told again: it goes on under another origin, so that the
// checkpoints of the old one stay what they were.
func breakOff(ctx context.Context, db *store.Store, r ca.Restoration, head ledger.Checkpoint, kept []ledger.Note) (store.Ended, error) {
	actor := admin.OperatorName(os.Geteuid())
	epochs, err := db.Epochs(ctx)
	if err != nil {
		return store.Ended{}, err
	}
	var events []ledger.Event
	if n := len(epochs); n > 0 {
		next, err := epochs[n-1].Next(head.Size, strings.ToLower(rand.Text()[:8]), kept...)
		if err != nil {
			return store.Ended{}, err
		}
		events = append(events, next.Event(actor))
	}
	events = append(events, ledger.Event{Kind: "backup.restored", Subject: "database", Actor: actor, Data: map[string]string{
		"made_at": r.BackedUp.UTC().Format(time.RFC3339), "entries": strconv.FormatUint(head.Size, 10), "root": head.Root.String(),
	}})
	return db.MarkRestored(ctx, r, events...)
}

// appear renames the judged directory. rename(2) replaces an empty directory
// and nothing else.
func appear(staging, dir string) error {
	if err := syncDir(staging); err != nil {
		return err
	}
	if err := unix.Rename(staging, dir); errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EXDEV) { // a bind mount
		return mountPoint(dir)
	} else if err != nil {
		return fmt.Errorf("couldn't put %s in place: %w", dir, err)
	}
	return syncDir(filepath.Dir(dir))
}

// readCheckpoints reads signed checkpoints, each the last thing in a file, so
// that the output of `ledger checkpoint` or `backup` serves as it is.
func readCheckpoints(files []string) ([]ledger.Note, error) {
	var list []ledger.Note
	for _, file := range files {
		text, err := readFile(file)
		if err != nil {
			return nil, err
		}
		n, err := ledger.ParseNote(string(text))
		if err != nil {
			return nil, admin.Usagef("give what `bollard ledger checkpoint` or `bollard backup` printed", "couldn't read the checkpoint in %s: %w", file, err)
		}
		list = append(list, n)
	}
	return list, nil
}

// holds refuses a database that doesn't continue the checkpoints: it was set
// back to an older state, as by a copy of a disk, or is another one.
func (a *app) holds(ctx context.Context, kept []ledger.Note) error {
	const hint = "a directory set back without `bollard restore` would use serial and CRL numbers again: restore the newest backup with it, then keep a new checkpoint"
	if len(kept) == 0 {
		return nil
	}
	tree, err := a.store.Tree(ctx)
	if err != nil {
		return err
	}
	epochs, err := a.store.Epochs(ctx)
	if err != nil {
		return err
	}
	for _, n := range kept {
		if err := n.Judge(tree.Size(), a.store.TreeHashes(ctx), epochs); err != nil {
			return admin.Refusedf(hint, "the data directory isn't, or is an older state of, what was last seen elsewhere: %w", err)
		}
	}
	return nil
}
