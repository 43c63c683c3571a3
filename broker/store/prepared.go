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
	db    *sql.DB
	mu    sync.RWMutex
	all   map[string]*sql.Stmt // nil: it was asked for
	asked []string             // to be prepared before the next transaction
}

func prepare(db *sql.DB) *prepared { return &prepared{db: db, all: map[string]*sql.Stmt{}} }

// ready prepares what earlier transactions asked for. It waits for a connection, and so must keep nobody waiting who may
// hold the last one.
func (p *prepared) ready(ctx context.Context) {
	if p == nil {
		return
	}
	p.mu.RLock()
	idle := len(p.asked) == 0
	p.mu.RUnlock()
	if idle {
		return
	}
	p.mu.Lock()
	asked := p.asked
	p.asked = nil
	p.mu.Unlock()
	for i, query := range asked {
		s, err := p.db.PrepareContext(ctx, query)
		p.mu.Lock()
		if err != nil {
			p.asked = append(p.asked, asked[i:]...)
			p.mu.Unlock()
			return // the transaction will meet the same, and say so
		}
		p.all[query] = s
		p.mu.Unlock()
	}
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
		p.ask(query)
	}
	return nil
}

func (p *prepared) ask(query string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.all[query]; !known {
		p.all[query] = nil
		p.asked = append(p.asked, query)
	}
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
