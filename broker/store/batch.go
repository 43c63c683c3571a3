package store

import (
	"context"
	"errors"

	"muster/broker"
)

type update struct {
	ctx  context.Context
	f    func(broker.Tx) error
	done chan error
}

var errClosed = errors.New("the store is closed")

// Update implements broker.Store.
func (s *Store) Update(ctx context.Context, f func(broker.Tx) error) error {
	u := &update{ctx: ctx, f: f, done: make(chan error, 1)}
	select {
	case s.queue <- u:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.quit:
		return errClosed
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
			return errClosed
		}
	}
}

func (s *Store) writer() {
	for {
		select {
		case u := <-s.queue:
			s.commitAll(append([]*update{u}, s.waiting()...))
		case <-s.quit:
			if rest := s.waiting(); len(rest) > 0 {
				s.commitAll(rest)
				continue
			}
			return
		}
	}
}

func (s *Store) waiting() []*update {
	var more []*update
	for len(more) < s.most()-1 {
		select {
		case u := <-s.queue:
			more = append(more, u)
		default:
			return more
		}
	}
	return more
}

// tries is how often a transaction is run that the database gave up.
const tries = 3

// commitAll runs the updates in one transaction. Nobody hears of success before the commit is on disk.
func (s *Store) commitAll(batch []*update) {
	results, err := s.try(batch)
	for n := 1; n < tries && s.again(err); n++ {
		results, err = s.try(batch)
	}
	for i, u := range batch {
		if err != nil {
			u.done <- busy(err)
			continue
		}
		u.done <- s.classed(results[i])
	}
}

func (s *Store) try(batch []*update) (results []error, err error) {
	ctx, cancel := s.limit(context.Background())
	defer cancel()
	s.writing.ready(ctx)
	t, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer t.Rollback()
	revision, err := s.lock(ctx, t)
	if err != nil {
		return nil, err
	}
	var done span
	for _, u := range batch {
		failed := u.ctx.Err()
		if failed == nil {
			x := &tx{ctx: ctx, t: t, prepared: s.writing, revision: revision, appended: done, kept: map[string]kept{}}
			if failed, err = savepoint(x, u.f); err != nil {
				return nil, err
			}
			if failed == nil {
				revision, done = x.revision, x.appended
			}
		}
		results = append(results, failed)
	}
	return results, s.commit(ctx, t, done)
}

// savepoint runs one update so that its failure undoes only its own changes.
func savepoint(x *tx, f func(broker.Tx) error) (failed, fatal error) {
	if _, err := x.exec("SAVEPOINT one"); err != nil {
		return nil, err
	}
	if failed = f(x); failed != nil {
		if _, err := x.exec("ROLLBACK TO one"); err != nil {
			return failed, errors.Join(err, failed)
		}
	}
	_, fatal = x.exec("RELEASE one")
	return failed, fatal
}
