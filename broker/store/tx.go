package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"muster/broker"
)

// tx is a broker.Tx in one SQL transaction. Its statements are of the SQL that both engines speak.
type tx struct {
	ctx      context.Context
	t        *sql.Tx
	prepared *prepared
	revision int64 // of the objects, in an update
	appended span
	kept     map[string]kept // in an update: the nodes that were read or put in it
}

var _ broker.Tx = (*tx)(nil)

func (x *tx) exec(query string, args ...any) (sql.Result, error) {
	if s := x.prepared.in(x.ctx, x.t, query); s != nil {
		return s.ExecContext(x.ctx, args...)
	}
	return x.t.ExecContext(x.ctx, query, args...)
}

func (x *tx) query(query string, args ...any) (*sql.Rows, error) {
	if s := x.prepared.in(x.ctx, x.t, query); s != nil {
		return s.QueryContext(x.ctx, args...)
	}
	return x.t.QueryContext(x.ctx, query, args...)
}

func (x *tx) row(query string, args ...any) *sql.Row {
	if s := x.prepared.in(x.ctx, x.t, query); s != nil {
		return s.QueryRowContext(x.ctx, args...)
	}
	return x.t.QueryRowContext(x.ctx, query, args...)
}

func missing(what string, err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("%s: %w", what, broker.ErrNotFound)
	}
	return fmt.Errorf("read %s: %w", what, err)
}

func (x *tx) Counter(name string) (n int64, err error) {
	err = x.row("INSERT INTO counters(name, value) VALUES ($1, 1) ON CONFLICT (name) DO UPDATE SET value = counters.value + 1 RETURNING value", name).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count %s: %w", name, err)
	}
	return n, nil
}

func (x *tx) deleteOne(what, query string, args ...any) error {
	r, err := x.exec(query, args...)
	if err != nil {
		return fmt.Errorf("delete %s: %w", what, err)
	}
	if n, err := r.RowsAffected(); err != nil || n == 0 {
		return errors.Join(err, fmt.Errorf("%s: %w", what, broker.ErrNotFound))
	}
	return nil
}
