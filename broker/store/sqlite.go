// Package store keeps a broker's nodes, objects and journal in SQLite. It is a package of its own so that the broker
// knows only what it asks of a store, and another engine can stand beside this one; storetest is what both must pass.
//
// One goroutine writes. It takes all updates that wait, runs each in a savepoint of one transaction, and commits
// them with one fsync (WAL, synchronous=FULL), so that many callers share the cost of durability.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"

	_ "modernc.org/sqlite" // the database/sql driver "sqlite"

	"muster/broker"
)

// SQLite is a broker.Store in one file.
type SQLite struct {
	read  *sql.DB
	write *sql.DB
	queue chan *update
	quit  chan struct{}
	wg    sync.WaitGroup
	lock  *os.File
}

var _ broker.Store = (*SQLite)(nil)

type update struct {
	ctx  context.Context
	f    func(broker.Tx) error
	done chan error
}

// schemaVersion is the version of the tables; a newer file is refused.
const schemaVersion = 2

const schema = `
CREATE TABLE IF NOT EXISTS nodes (
	id TEXT PRIMARY KEY, num INTEGER NOT NULL, state TEXT NOT NULL, policy TEXT NOT NULL, doc BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS nodes_state ON nodes(state);
CREATE INDEX IF NOT EXISTS nodes_policy ON nodes(policy) WHERE policy != '';
CREATE TABLE IF NOT EXISTS keys (
	kind TEXT NOT NULL, value TEXT NOT NULL, node TEXT NOT NULL, PRIMARY KEY (kind, value)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS keys_node ON keys(node);
CREATE TABLE IF NOT EXISTS shared_keys (
	kind TEXT NOT NULL, value TEXT NOT NULL, node TEXT NOT NULL, PRIMARY KEY (kind, value, node)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS shared_keys_node ON shared_keys(node);
CREATE TABLE IF NOT EXISTS objects (
	kind TEXT NOT NULL, name TEXT NOT NULL, doc BLOB NOT NULL, PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
	seq INTEGER PRIMARY KEY AUTOINCREMENT, node TEXT NOT NULL, doc BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS events_node ON events(node, seq);
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
`

// fillShared finds the serials of nodes that were written before version 2.
const fillShared = `INSERT OR IGNORE INTO shared_keys
	SELECT 'serial', json_extract(CAST(doc AS TEXT), '$.keys.serial'), id FROM nodes
	WHERE coalesce(json_extract(CAST(doc AS TEXT), '$.keys.serial'), '') != ''`

// Open opens or makes the database DIR/muster.db. A directory that another broker has open is refused.
func Open(dir string) (*SQLite, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	s := &SQLite{queue: make(chan *update, 1024), quit: make(chan struct{}), lock: lock}
	path := filepath.Join(dir, "muster.db")
	if s.write, err = open(path, 1, "immediate"); err == nil {
		if err = migrate(s.write); err == nil {
			s.read, err = open(path, 4, "deferred")
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open store %s: %w", path, err), s.closeFiles())
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("open store: %w", err), s.closeFiles())
	}
	s.wg.Go(s.writer)
	return s, nil
}

func open(path string, conns int, begin string) (*sql.DB, error) {
	q := url.Values{"_txlock": {begin}, "_pragma": {"journal_mode(WAL)", "synchronous(FULL)", "busy_timeout(10000)", "foreign_keys(1)"}}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+q.Encode())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(conns)
	return db, db.Ping()
}

func migrate(db *sql.DB) error {
	var version int
	if err := db.QueryRow("PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if version > schemaVersion {
		return fmt.Errorf("the file has schema version %d, this muster knows up to %d: use a newer muster", version, schemaVersion)
	}
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.Exec(schema); err != nil {
		return err
	}
	if version == 1 {
		if _, err := tx.Exec(fillShared); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(fmt.Sprintf("PRAGMA user_version = %d", schemaVersion)); err != nil {
		return err
	}
	return tx.Commit()
}

// Close ends the writer after the updates that wait, and closes the files.
func (s *SQLite) Close() error {
	close(s.quit)
	s.wg.Wait()
	return s.closeFiles()
}

func (s *SQLite) closeFiles() error {
	var errs []error
	for _, db := range []*sql.DB{s.read, s.write} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(append(errs, s.lock.Close())...)
}

// View implements broker.Store.
func (s *SQLite) View(ctx context.Context, f func(broker.Tx) error) error {
	t, err := s.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return fmt.Errorf("begin reading: %w", err)
	}
	defer t.Rollback()
	return f(&tx{t})
}

// Update implements broker.Store.
func (s *SQLite) Update(ctx context.Context, f func(broker.Tx) error) error {
	u := &update{ctx: ctx, f: f, done: make(chan error, 1)}
	select {
	case s.queue <- u:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.quit:
		return errors.New("the store is closed")
	}
	select {
	case err := <-u.done:
		return err
	case <-s.quit:
		// The writer answers all it took before it ends.
		s.wg.Wait()
		select {
		case err := <-u.done:
			return err
		default:
			return errors.New("the store is closed")
		}
	}
}

// batchSize is the most updates in one commit.
const batchSize = 256

func (s *SQLite) writer() {
	for {
		select {
		case u := <-s.queue:
			s.commit(append([]*update{u}, s.waiting()...))
		case <-s.quit:
			if rest := s.waiting(); len(rest) > 0 {
				s.commit(rest)
				continue
			}
			return
		}
	}
}

func (s *SQLite) waiting() []*update {
	var more []*update
	for len(more) < batchSize-1 {
		select {
		case u := <-s.queue:
			more = append(more, u)
		default:
			return more
		}
	}
	return more
}

// commit runs the updates in one transaction. Nobody hears of success before the commit is on disk.
func (s *SQLite) commit(batch []*update) {
	results := make([]error, len(batch))
	err := s.inTransaction(func(t *sql.Tx) error {
		for i, u := range batch {
			if results[i] = u.ctx.Err(); results[i] != nil {
				continue
			}
			failed, fatal := savepoint(t, u.f)
			if fatal != nil {
				return fatal
			}
			results[i] = failed
		}
		return nil
	})
	for i, u := range batch {
		if err != nil {
			u.done <- fmt.Errorf("write to the store: %w", errors.Join(broker.ErrBusy, err))
			continue
		}
		u.done <- results[i]
	}
}

func (s *SQLite) inTransaction(f func(*sql.Tx) error) error {
	t, err := s.write.Begin()
	if err != nil {
		return err
	}
	defer t.Rollback()
	if err := f(t); err != nil {
		return err
	}
	return t.Commit()
}

// savepoint runs one update so that its failure undoes only its own changes.
func savepoint(t *sql.Tx, f func(broker.Tx) error) (failed, fatal error) {
	if _, err := t.Exec("SAVEPOINT one"); err != nil {
		return nil, err
	}
	if failed = f(&tx{t}); failed != nil {
		if _, err := t.Exec("ROLLBACK TO one"); err != nil {
			return failed, err
		}
	}
	_, fatal = t.Exec("RELEASE one")
	return failed, fatal
}
