package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"modernc.org/sqlite" // and the database/sql driver "sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"muster/broker"
)

// sqliteEngine is one file that one broker has open.
type sqliteEngine struct{ file *os.File }

// Open opens or makes the SQLite database DIR/muster.db. A directory that another broker has open is refused.
func Open(dir string) (*Store, error) {
	file, err := Lock(dir)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "muster.db")
	write, read, err := openSQLite(path)
	if err == nil {
		err = os.Chmod(path, 0o600)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open store %s: %w", path, err), write.Close(), read.Close(), file.Close())
	}
	return start(sqliteEngine{file}, read, write), nil
}

// OpenToRead opens the SQLite database in DIR beside a broker that may be running on it, for Backup.
func OpenToRead(dir string) (*Store, error) {
	path := filepath.Join(dir, "muster.db")
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	db := sqlitePool(path, 1, "deferred", "query_only(1)")
	if err := inTransaction(context.Background(), db, sqliteSchema.same); err != nil {
		return nil, errors.Join(fmt.Errorf("open store %s: %w", path, err), db.Close())
	}
	return start(sqliteEngine{}, db, db), nil
}

func openSQLite(path string) (write, read *sql.DB, err error) {
	// A commit empties the caches of all connections but its own (sqlite.org/walformat.html, 2.6): one that reads gains
	// nothing by a large one, and pays for freeing it.
	write, read = sqlitePool(path, 1, "immediate", "cache_size(-32768)"), sqlitePool(path, readers, "deferred", "cache_size(-2048)")
	return write, read, inTransaction(context.Background(), write, sqliteSchema.migrate)
}

func sqlitePool(path string, conns int, begin string, pragmas ...string) *sql.DB {
	q := url.Values{"_txlock": {begin}, "_pragma": append([]string{"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)",
		"wal_autocheckpoint(4000)"}, pragmas...)}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+q.Encode())
	if err != nil {
		panic(err) // only a driver that is not there, and it is imported above
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db
}

// limit lets statements end: they are short, and one that is cut off ends the batch of all others.
func (sqliteEngine) limit(context.Context) (context.Context, context.CancelFunc) {
	return context.Background(), func() {}
}

func (sqliteEngine) prepare(db *sql.DB) *prepared { return prepare(db) }

func (sqliteEngine) most() int { return 256 }

// snapshot needs no word: a transaction of SQLite is one.
func (sqliteEngine) snapshot() sql.IsolationLevel { return sql.LevelDefault }

func (sqliteEngine) lock(ctx context.Context, t *sql.Tx) (revision int64, err error) {
	err = t.QueryRowContext(ctx, "SELECT value FROM counters WHERE name = 'objects'").Scan(&revision)
	return revision, err
}

func (sqliteEngine) commit(_ context.Context, t *sql.Tx, _ span) error { return t.Commit() }

// advance has nothing to do: AUTOINCREMENT saw what was inserted.
func (sqliteEngine) advance(context.Context, *sql.Tx) error { return nil }

// sqliteBusy are the result codes of a disk or a lock that may be better later (sqlite.org/rescode.html).
var sqliteBusy = map[int]bool{sqlite3.SQLITE_FULL: true, sqlite3.SQLITE_IOERR: true, sqlite3.SQLITE_BUSY: true, sqlite3.SQLITE_LOCKED: true,
	sqlite3.SQLITE_READONLY: true, sqlite3.SQLITE_CANTOPEN: true, sqlite3.SQLITE_NOMEM: true}

func (sqliteEngine) busy(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && sqliteBusy[e.Code()&0xff]
}

func (sqliteEngine) again(error) bool { return false }

// follow has nobody to tell of: the file has one broker.
func (sqliteEngine) follow(ctx context.Context, _ *Store, _ int64, _ func([]broker.Event) error) error {
	<-ctx.Done()
	return nil
}

// Lead leads at once: the file has one broker.
func (sqliteEngine) Lead(ctx context.Context, f func(context.Context)) error {
	f(ctx)
	return nil
}

func (e sqliteEngine) close() error {
	if e.file == nil {
		return nil
	}
	return e.file.Close()
}
