package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// postgres is a database that several brokers share.
type postgres struct {
	config *pgx.ConnConfig
	self   string // names this broker in notifications
}

// transactionTime is the longest that a transaction may take, the wait for the writer's lock included. A broker that is
// frozen in the middle of one loses it after half of that, and another writes.
const transactionTime = 20 * time.Second

// Connect opens a PostgreSQL database, of version 13 at least, and makes the tables that are missing. The URL is in no
// error: it may hold a password.
func Connect(ctx context.Context, url string) (*Store, error) {
	return connect(ctx, url, migratePostgres)
}

// ConnectToRead opens a PostgreSQL database beside the brokers that run on it, for Backup.
func ConnectToRead(ctx context.Context, url string) (*Store, error) {
	return connect(ctx, url, postgresSchema.same)
}

func connect(ctx context.Context, url string, prepare func(context.Context, *sql.Tx) error) (*Store, error) {
	if !strings.HasPrefix(url, "postgres://") && !strings.HasPrefix(url, "postgresql://") {
		return nil, errors.New("store URL: want postgres://USER@HOST/DATABASE, or postgres:///DATABASE?host=/run/postgresql for a socket")
	}
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, errors.New("store URL: it can not be read (and is not shown, for the password in it): want postgres://USER@HOST:PORT/DATABASE")
	}
	p := &postgres{config: configure(config), self: rand.Text()}
	write, read := p.pool(1), p.pool(readers)
	ctx, cancel := p.limit(ctx)
	defer cancel()
	if err = p.check(ctx, write); err == nil {
		err = inTransaction(ctx, write, prepare)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open store %s at %s: %w", config.Database, config.Host, err), write.Close(), read.Close())
	}
	return start(p, read, write), nil
}

// configure bounds what a lost or frozen broker can hold up. What is acknowledged stays, whatever the role's default.
func configure(c *pgx.ConnConfig) *pgx.ConnConfig {
	c.ConnectTimeout = 5 * time.Second
	half := fmt.Sprint((transactionTime / 2).Milliseconds())
	for name, value := range map[string]string{
		"application_name":                    "muster",
		"synchronous_commit":                  "on",
		"lock_timeout":                        half,
		"idle_in_transaction_session_timeout": half,
		"tcp_keepalives_idle":                 "10",
		"tcp_keepalives_interval":             "5",
		"tcp_keepalives_count":                "3",
	} {
		c.RuntimeParams[name] = value
	}
	return c
}

func (p *postgres) pool(conns int) *sql.DB {
	db := stdlib.OpenDB(*p.config)
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db
}

// check refuses a server that can not keep what the broker promises.
func (p *postgres) check(ctx context.Context, db *sql.DB) error {
	var version int
	var fsync string
	err := db.QueryRowContext(ctx, "SELECT current_setting('server_version_num')::int, current_setting('fsync')").Scan(&version, &fsync)
	switch {
	case err != nil:
		return err
	case version < 130000:
		return fmt.Errorf("PostgreSQL %d is too old: 13 or newer is needed", version/10000)
	case fsync != "on":
		return errors.New("the server runs with fsync = off, and loses in a power cut what was acknowledged: turn it on")
	}
	return nil
}

// migrateLock keeps brokers that start together from making the same tables. ("muster" in ASCII)
const migrateLock = 0x6d7573746572

func migratePostgres(ctx context.Context, t *sql.Tx) error {
	_, err := t.ExecContext(ctx, fmt.Sprintf(`SELECT pg_advisory_xact_lock(%d);
		CREATE TABLE IF NOT EXISTS schema_version (version INT NOT NULL);
		INSERT INTO schema_version SELECT 0 WHERE NOT EXISTS (SELECT FROM schema_version)`, migrateLock))
	if err != nil {
		return err
	}
	return postgresSchema.migrate(ctx, t)
}

func (p *postgres) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, transactionTime)
}

func (p *postgres) prepare(*sql.DB) *prepared { return nil }

// most keeps a transaction below the 64 subtransactions that a server's process remembers in memory (PGPROC_MAX_CACHED_SUBXIDS).
func (p *postgres) most() int { return 60 }

func (p *postgres) snapshot() sql.IsolationLevel { return sql.LevelRepeatableRead }

// lock waits for the row that one writer holds. The statements after it, at read committed, see all that its earlier
// holders committed. Tables of a newer muster, made while this one runs, are left alone.
func (p *postgres) lock(ctx context.Context, t *sql.Tx) (revision int64, err error) {
	var version int
	err = t.QueryRowContext(ctx, "SELECT version, value FROM counters, schema_version WHERE name = 'objects' FOR UPDATE OF counters").Scan(&version, &revision)
	if err == nil && version != len(postgresSchema.steps) {
		err = fmt.Errorf("the database has schema version %d by now, this muster writes version %d: use the newer muster here too", version, len(postgresSchema.steps))
	}
	return revision, err
}

// commit tells other brokers with the commit. When its answer is lost, the server is asked what became of it.
func (p *postgres) commit(ctx context.Context, t *sql.Tx, appended span) error {
	var said string
	if appended.last != 0 {
		said = notice{p.self, appended}.String()
	}
	var xid, told sql.NullString
	err := t.QueryRowContext(ctx, "SELECT pg_current_xact_id_if_assigned()::text, CASE WHEN $1 != '' THEN pg_notify('"+channel+"', $1)::text END", said).Scan(&xid, &told)
	if err != nil {
		return err
	}
	if err = t.Commit(); err == nil || !xid.Valid || !broken(err) {
		return err
	}
	return p.outcome(xid.String, err)
}

func (p *postgres) advance(ctx context.Context, t *sql.Tx) error {
	_, err := t.ExecContext(ctx, "SELECT setval(pg_get_serial_sequence('events', 'seq'), max(seq)) FROM events HAVING max(seq) > 0")
	return err
}

// outcome says what became of a transaction whose commit was not answered.
func (p *postgres) outcome(xid string, cause error) error {
	ctx, cancel := context.WithTimeout(context.Background(), transactionTime/2)
	defer cancel()
	for {
		switch status, err := p.status(ctx, xid); {
		case err != nil:
			return unanswered{errors.Join(cause, err)}
		case status == "committed":
			return nil
		case status == "aborted":
			return errAborted
		}
		select {
		case <-ctx.Done():
			return unanswered{cause}
		case <-time.After(50 * time.Millisecond): // the server has not seen yet that we went
		}
	}
}

func (p *postgres) status(ctx context.Context, xid string) (status string, err error) {
	c, err := pgx.ConnectConfig(ctx, p.config.Copy())
	if err != nil {
		return "", err
	}
	defer c.Close(ctx)
	err = c.QueryRow(ctx, "SELECT pg_xact_status($1::text::xid8)", xid).Scan(&status)
	return status, err
}

// unanswered is a commit that may have come through.
type unanswered struct{ error }

func (u unanswered) Error() string { return "the commit was not answered: " + u.error.Error() }
func (u unanswered) Unwrap() error { return u.error }

var errAborted = errors.New("the connection was lost before the commit")

// busyCodes are the classes and codes of a server's condition (PostgreSQL, appendix A).
var busyCodes = []string{
	"08",    // connection exception
	"25006", // read only: a standby
	"25P03", // idle in transaction for too long
	"40",    // rolled back: deadlock, serialization
	"53",    // no space, memory or connections left
	"55P03", // lock not available
	"57",    // shut down, starting, cancelled
	"58",    // I/O error
}

// busy takes what is no answer of the server as its absence.
func (p *postgres) busy(err error) bool {
	var answer *pgconn.PgError
	if !errors.As(err, &answer) {
		return broken(err)
	}
	return slices.ContainsFunc(busyCodes, func(code string) bool { return strings.HasPrefix(answer.Code, code) })
}

// broken says that the connection is lost, or was never there.
func broken(err error) bool {
	var answer *pgconn.PgError
	var refused *pgconn.ConnectError
	var network net.Error
	switch {
	case errors.As(err, &answer):
		return strings.HasPrefix(answer.Code, "08") || strings.HasPrefix(answer.Code, "57P") || answer.Code == "25P03"
	case errors.As(err, &refused), errors.As(err, &network):
		return true
	}
	return slices.ContainsFunc([]error{driver.ErrBadConn, sql.ErrConnDone, net.ErrClosed, io.EOF, io.ErrUnexpectedEOF, pgconn.ErrConnClosed}, func(e error) bool {
		return errors.Is(err, e)
	})
}

// again leaves a server alone that can not be reached: it would only be asked more often.
func (p *postgres) again(err error) bool {
	var refused *pgconn.ConnectError
	if errors.As(err, &refused) {
		return false
	}
	var answer *pgconn.PgError
	if errors.As(err, &answer) && strings.HasPrefix(answer.Code, "40") || errors.Is(err, errAborted) {
		return true
	}
	var lost unanswered
	return broken(err) && !errors.As(err, &lost) && !errors.Is(err, context.DeadlineExceeded)
}

func (p *postgres) close() error { return nil }
