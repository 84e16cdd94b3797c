package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"github.com/mattn/go-sqlite3" // registers "sqlite3"
)

// applicationID marks a database as Bollard's ("Boll"), so that a file of
// another program is never migrated by mistake.
const applicationID = 0x426f6c6c

// checkLimit is the file size up to which the whole structure is checked when
// opening; beyond it that would delay a start by more than a few seconds.
const checkLimit = 256 << 20

// prepareFile makes sure path is a file only its owner can read, creating it
// if need be. What SQLite creates beside it takes over the mode.
func prepareFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		return f.Close()
	}
	if !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("couldn't create database (does its directory exist, and may this user write there?): %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("couldn't look at database: %w", err)
	}
	if info.IsDir() {
		return fmt.Errorf("database %s is a directory: give the path of a file", path)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("database %s is not a regular file: give the path of a file", path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		if err := os.Chmod(path, 0o600); err != nil {
			return fmt.Errorf("couldn't keep other users from reading the database: %w", err)
		}
	}
	if f, err = os.OpenFile(path, os.O_RDWR, 0); err != nil {
		return fmt.Errorf("couldn't open database for writing (may this user write it, and is the file system writable?): %w", err)
	}
	return errors.Join(checkHeader(f, path, info.Size()), f.Close())
}

// checkHeader refuses what can't be a database of ours before SQLite touches it.
func checkHeader(f io.ReaderAt, path string, size int64) error {
	if size == 0 {
		return nil
	}
	header := make([]byte, 100)
	if n, err := f.ReadAt(header, 0); n < len(header) {
		return corrupt(path, fmt.Errorf("only %d bytes: %w", n, err))
	}
	if !bytes.HasPrefix(header, []byte("SQLite format 3\x00")) {
		return fmt.Errorf("%s is not a Bollard database: give another path or restore a backup", path)
	}
	// The number at 68 is the application id; it is zero until the first
	// checkpoint, so only another program's is judged here.
	if id := binary.BigEndian.Uint32(header[68:]); id != 0 && id != applicationID {
		return foreign(path)
	}
	return nil
}

func corrupt(path string, err error) error {
	return fmt.Errorf("database %s is corrupt: stop here, keep a copy of it and its -wal file, and restore a backup: %w", path, err)
}

func foreign(path string) error {
	return fmt.Errorf("%s is another program's database: give another path", path)
}

// inspect judges the database on a connection that changes nothing unless the
// file is new; then it marks it as ours.
func inspect(ctx context.Context, path string) error {
	db, err := sql.Open("sqlite3", dsn(path, url.Values{"_busy_timeout": {"5000"}, "_synchronous": {"FULL"}}))
	if err != nil {
		return fmt.Errorf("couldn't open database %s: %w", path, err)
	}
	db.SetMaxOpenConns(1)
	conn, err := db.Conn(ctx)
	if err != nil {
		return errors.Join(explain(path, err), db.Close())
	}
	if err = inspectWith(ctx, conn, path); err == nil {
		err = explain(path, errors.Join(keepLog(conn), emptyLog(ctx, conn)))
	}
	return errors.Join(err, conn.Close(), db.Close())
}

// keepLog has the files of the write-ahead log stay where a connection is the last to
// close: a database that has none can't even be read once the disk is full, since what
// they take up at the start is no longer to be had.
func keepLog(conn *sql.Conn) error {
	return conn.Raw(func(c any) error {
		return c.(*sqlite3.SQLiteConn).SetFileControlInt("main", sqlite3.SQLITE_FCNTL_PERSIST_WAL, 1)
	})
}

// emptyLog has the log be empty after that, when all of it is in the database: what was
// removed there is gone here, too, and the database's file alone is whole. Before the
// end it would make the log grow anew after each time it is moved.
func emptyLog(ctx context.Context, conn *sql.Conn) error {
	var limit int
	return conn.QueryRowContext(ctx, "PRAGMA journal_size_limit = 0").Scan(&limit)
}

func inspectWith(ctx context.Context, db *sql.Conn, path string) error {
	var id, tables int64
	if err := db.QueryRowContext(ctx, "PRAGMA application_id").Scan(&id); err != nil {
		return explain(path, err)
	}
	if err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM sqlite_schema").Scan(&tables); err != nil {
		return explain(path, err)
	}
	switch {
	case id == 0 && tables == 0:
		if _, err := db.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d", applicationID)); err != nil {
			return explain(path, err)
		}
	case id != applicationID:
		return foreign(path)
	}
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("couldn't look at database: %w", err)
	}
	if info.Size() > checkLimit {
		return nil
	}
	var verdict string
	if err := db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict); err != nil {
		return explain(path, err)
	}
	if verdict != "ok" {
		return corrupt(path, errors.New(verdict))
	}
	return nil
}

// statements is how many prepared statements a connection keeps: more than the
// store has of any frequent kind. Preparing costs as much as running.
const statements = "64"

// openWriter opens the one connection that writes. FULL syncs the log at every
// commit: what was acknowledged survives a power cut.
func openWriter(ctx context.Context, path string) (*sql.DB, error) {
	db, err := sql.Open("sqlite3", dsn(path, url.Values{
		"_journal_mode":    {"WAL"},
		"_synchronous":     {"FULL"},
		"_busy_timeout":    {"5000"},
		"_foreign_keys":    {"on"},
		"_txlock":          {"immediate"},
		"_secure_delete":   {"on"}, // a secret that is removed is gone
		"_stmt_cache_size": {statements},
		"_mutex":           {"no"}, // database/sql gives a connection to one caller at a time
	}))
	if err != nil {
		return nil, fmt.Errorf("couldn't open database %s: %w", path, err)
	}
	db.SetMaxOpenConns(1)
	var mode string
	if err := db.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode); err != nil {
		return nil, errors.Join(explain(path, err), db.Close())
	}
	if mode != "wal" {
		return nil, errors.Join(fmt.Errorf("database %s can't use a write-ahead log (journal mode %s): put it on a local file system", path, mode), db.Close())
	}
	return db, nil
}

// readerCache is in KiB (negative, as SQLite has it), a quarter of SQLite's own:
// what is read often is few rows, and the operating system has the file.
const readerCache = "-512"

// openReaders opens the pool for reading, which can't write.
func openReaders(ctx context.Context, path string) (*sql.DB, error) {
	db, err := sql.Open("sqlite3", dsn(path, url.Values{
		"mode":             {"ro"},
		"_query_only":      {"on"},
		"_cache_size":      {readerCache},
		"_busy_timeout":    {"5000"},
		"_stmt_cache_size": {statements},
		"_mutex":           {"no"},
	}))
	if err != nil {
		return nil, fmt.Errorf("couldn't open database %s: %w", path, err)
	}
	db.SetMaxOpenConns(readers)
	db.SetMaxIdleConns(readers)
	if err := openAll(ctx, db); err != nil {
		return nil, errors.Join(explain(path, err), db.Close())
	}
	return db, nil
}

// openAll fills the pool at once, the write-ahead log's descriptors too, which
// SQLite opens with the first read: a flood of sockets may leave none later.
func openAll(ctx context.Context, db *sql.DB) error {
	for range readers {
		conn, err := db.Conn(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }() // to the pool, once all are open
		var tables int
		if err := conn.QueryRowContext(ctx, "SELECT COUNT(*) FROM sqlite_schema").Scan(&tables); err != nil {
			return err
		}
	}
	return nil
}

// dsn is an SQLite URI, escaped so that a "?" or "#" in the path stays part of it.
func dsn(path string, params url.Values) string {
	u := url.URL{Path: filepath.ToSlash(path)}
	return "file:" + u.EscapedPath() + "?" + params.Encode()
}
