package store

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrate brings the schema up to what this binary knows, each step in a
// transaction of its own. A newer schema is refused: an old binary would not
// keep what the new one promised.
func migrate(ctx context.Context, db *sql.DB, path string, clock func() time.Time) error {
	steps, err := steps()
	if err != nil {
		return fmt.Errorf("couldn't read the embedded schema: %w", err)
	}
	if err := found(ctx, db, steps); err != nil {
		return fmt.Errorf("couldn't make the schema: %w", explain(path, err))
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, nil, goose.WithDisableGlobalRegistry(true), goose.WithTableName(versionTable), goose.WithGoMigrations(steps...),
		// Steps are independent of each other; branches that each added one meet
		// in databases that have the later number already.
		goose.WithAllowOutofOrder(true))
	if err != nil {
		return fmt.Errorf("couldn't read the embedded schema: %w", err)
	}
	have, know, err := provider.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("couldn't read the schema version: %w", explain(path, err))
	}
	if have > know {
		return fmt.Errorf("database %s has schema version %d, this bollard knows up to %d: use the newer bollard that wrote it, or restore a backup from before", path, have, know)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("couldn't migrate the database from schema version %d to %d: %w", have, know, explain(path, err))
	}
	if err := plantTree(ctx, db, clock); err != nil {
		return fmt.Errorf("couldn't migrate the ledger of database %s: %w", path, explain(path, err))
	}
	return nil
}

// versionTable is where goose notes the steps that were taken.
const versionTable = goose.DefaultTablename

// found makes the schema of a database that has nothing in it yet: all steps in one
// transaction, which is synced once. Every command on a new directory waits for it.
func found(ctx context.Context, db *sql.DB, steps []*goose.Migration) error {
	var tables int
	if err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM sqlite_schema").Scan(&tables); err != nil || tables > 0 {
		return err
	}
	taken, err := database.NewStore(database.DialectSQLite3, versionTable)
	if err != nil {
		return err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // nothing to undo after Commit
	if err := taken.CreateVersionTable(ctx, tx); err != nil {
		return err
	}
	if err := taken.Insert(ctx, tx, database.InsertRequest{Version: 0}); err != nil { // goose's mark of its own table
		return err
	}
	for _, step := range steps {
		if err := step.UpFnContext(ctx, tx); err != nil {
			return fmt.Errorf("step %d: %w", step.Version, err)
		}
		if err := taken.Insert(ctx, tx, database.InsertRequest{Version: step.Version}); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// steps are the embedded files, each as one script: SQLite takes all of its
// statements at once. goose's own reader, which splits them, takes a buffer of
// 4 MiB in hand for every line; making a database cost more in it than in SQLite.
func steps() ([]*goose.Migration, error) {
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	list := make([]*goose.Migration, 0, len(names))
	for _, name := range names {
		version, err := goose.NumericComponent(name)
		if err != nil {
			return nil, err
		}
		text, err := migrations.ReadFile(name)
		if err != nil {
			return nil, err
		}
		up, _, _ := strings.Cut(string(text), "-- +goose Down")
		list = append(list, goose.NewGoMigration(version, &goose.GoFunc{RunTx: func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, up)
			return err
		}}, nil))
	}
	return list, nil
}
