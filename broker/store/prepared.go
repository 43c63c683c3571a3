package store

import (
	"context"
	"database/sql"
	"errors"
	"sync"
)

// prepared are statements that are compiled once for each connection of a pool. Their texts are those of this package,
// so that there are few. A statement is first run as it is: in a transaction that may hold the only connection, nothing
// can be prepared for later ones. PostgreSQL's driver does all this by itself.
type prepared struct {
	db  *sql.DB
	mu  sync.RWMutex
	all map[string]*sql.Stmt // nil: is to be prepared before the next transaction
	new bool                 // there is one of those
}

func prepare(db *sql.DB) *prepared { return &prepared{db: db, all: map[string]*sql.Stmt{}} }

// ready prepares what earlier transactions asked for.
func (p *prepared) ready(ctx context.Context) {
	if p == nil {
		return
	}
	p.mu.RLock()
	idle := !p.new
	p.mu.RUnlock()
	if idle {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for query, s := range p.all {
		if s != nil {
			continue
		}
		s, err := p.db.PrepareContext(ctx, query)
		if err != nil {
			return // the transaction will meet the same, and say so
		}
		p.all[query] = s
	}
	p.new = false
}

// in gives a statement for a transaction; nil when it is not prepared yet.
func (p *prepared) in(ctx context.Context, t *sql.Tx, query string) *sql.Stmt {
	if p == nil {
		return nil
	}
	p.mu.RLock()
	s, known := p.all[query]
	p.mu.RUnlock()
	if s != nil {
		return t.StmtContext(ctx, s)
	}
	if !known {
		p.mu.Lock()
		p.all[query], p.new = nil, true
		p.mu.Unlock()
	}
	return nil
}

func (p *prepared) close() error {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, s := range p.all {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	return errors.Join(errs...)
}
