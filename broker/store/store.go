// Package store keeps a broker's nodes, objects and journal in an SQL database: SQLite in a file of its own, or
// PostgreSQL where several brokers are wanted. It is a package of its own so that the broker knows only what it asks of
// a store; storetest is what both engines must pass.
//
// There is one writer at a time: in each broker a goroutine takes all updates that wait, runs them one after the other
// and commits them at once, so that many callers share the cost of durability; of several brokers on one PostgreSQL the
// one that holds the writer's row writes. Updates are thereby serial without retries, and the journal's Seq has the
// order of commits, so that a reader who asks for what comes after n never misses what was committed late.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"

	"muster/broker"
)

// Store is a broker.Store in an SQL database.
type Store struct {
	engine
	read  *sql.DB
	write *sql.DB // of one connection
	// Of SQLite; nil where the driver prepares.
	reading, writing *prepared
	queue            chan *update
	quit             chan struct{}
	wg               sync.WaitGroup
}

var _ broker.Store = (*Store)(nil)

// engine is what SQLite and PostgreSQL do each in its own way.
type engine interface {
	// limit is the context of one transaction's statements.
	limit(context.Context) (context.Context, context.CancelFunc)
	// snapshot is the isolation of a reader who sees one state throughout.
	snapshot() sql.IsolationLevel
	// prepare keeps statements of a pool compiled; nil where its driver does.
	prepare(*sql.DB) *prepared
	// most is how many updates one commit takes.
	most() int
	// lock makes a transaction the only one that writes, and reads the revision of the objects.
	lock(context.Context, *sql.Tx) (revision int64, err error)
	// commit makes durable what the transaction did, and tells other brokers of the events that it appended.
	commit(context.Context, *sql.Tx, span) error
	// advance lets the next event follow the greatest Seq there is.
	advance(context.Context, *sql.Tx) error
	// busy says that an error comes of the database's condition, not of what was asked of it.
	busy(error) bool
	// again says that a transaction that ended with the error did nothing and may be run again.
	again(error) bool

	follow(ctx context.Context, s *Store, after int64, f func([]broker.Event) error) error
	Lead(ctx context.Context, f func(context.Context)) error
	close() error
}

// readers is the most connections that read at once.
const readers = 8

// span is what a transaction appended to the journal: all from first to last.
type span struct{ first, last int64 }

func (s *span) add(seq int64) {
	if s.first == 0 {
		s.first = seq
	}
	s.last = seq
}

func start(e engine, read, write *sql.DB) *Store {
	s := &Store{engine: e, read: read, write: write, reading: e.prepare(read), writing: e.prepare(write), queue: make(chan *update, 1024), quit: make(chan struct{})}
	s.wg.Go(s.writer)
	return s
}

// Close ends the writer after the updates that wait, and closes the database.
func (s *Store) Close() error {
	close(s.quit)
	s.wg.Wait()
	return errors.Join(s.reading.close(), s.writing.close(), s.read.Close(), s.write.Close(), s.engine.close())
}

// View implements broker.Store.
func (s *Store) View(ctx context.Context, f func(broker.Tx) error) error {
	ctx, cancel := s.limit(ctx)
	defer cancel()
	t, err := s.begin(ctx)
	if err != nil {
		return s.classed(fmt.Errorf("begin reading: %w", err))
	}
	defer t.Rollback()
	return s.classed(f(&tx{ctx: ctx, t: t, prepared: s.reading, revision: -1}))
}

// begin begins to read. Each connection of before a restart of the database fails once.
func (s *Store) begin(ctx context.Context) (t *sql.Tx, err error) {
	s.reading.ready(ctx)
	for range readers + 1 {
		if t, err = s.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true, Isolation: s.snapshot()}); err == nil || !s.again(err) {
			break
		}
	}
	return t, err
}

// Follow implements broker.Store.
func (s *Store) Follow(ctx context.Context, after int64, f func([]broker.Event) error) error {
	return s.follow(ctx, s, after, f)
}

// classed makes an error of the database's condition one that callers know.
func (s *Store) classed(err error) error {
	if err == nil || errors.Is(err, broker.ErrBusy) || !s.busy(err) {
		return err
	}
	return busy(err)
}

func busy(err error) error { return fmt.Errorf("the store: %w", errors.Join(broker.ErrBusy, err)) }
