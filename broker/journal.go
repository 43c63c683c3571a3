package broker

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// A JournalQuery chooses events; what is empty chooses all.
type JournalQuery struct {
	Range string // of the nodes that there are now (package noderange)
	After int64  // only with a greater seq
	Limit int    // if 0, 1000
	Who   string
	Kinds []string
	Since time.Time
}

// MaxEvents is the most events of one answer.
const MaxEvents = 10_000

// maxJournalScan is the most events that one answer looks at.
const maxJournalScan = 50_000

// ReadJournal gives events, and the seq up to which it looked: the next question goes on from there, and the end is where it
// rises no more. With follow it waits until ctx ends for the first event that is wanted.
func (b *Broker) ReadJournal(ctx context.Context, q JournalQuery, follow bool) (events []Event, next int64, err error) {
	q.Limit = cmp.Or(q.Limit, 1000)
	if q.Limit < 0 || q.Limit > MaxEvents {
		return nil, 0, invalid("limit %d: want 1 to %d", q.Limit, MaxEvents)
	}
	var ids []string
	if q.Range != "" {
		err := b.cfg.Store.View(ctx, func(tx Tx) error {
			s, err := b.selectNodes(tx, q.Range)
			ids = s.IDs
			return err
		})
		if err != nil {
			return nil, 0, err
		}
	}
	for next = q.After; ; {
		rung := b.bell.hear("")
		from := next
		err = b.cfg.Store.View(context.WithoutCancel(ctx), func(tx Tx) error {
			events, next, err = q.read(ctx, tx, ids, from)
			return err
		})
		if err != nil || len(events) > 0 || !follow || ctx.Err() != nil {
			return events, next, err
		}
		if next > from {
			continue // there may be more behind what nobody wanted
		}
		select {
		case <-ctx.Done():
			return nil, next, nil
		case <-rung:
		}
	}
}

// read looks at events after one.
func (q *JournalQuery) read(ctx context.Context, tx Tx, ids []string, after int64) (found []Event, next int64, err error) {
	const batch = 1000
	f := EventFilter{Limit: min(batch, max(q.Limit, 100)), After: after}
	if len(ids) == 1 {
		f.Node = ids[0]
	}
	only := map[string]bool{}
	for _, id := range ids {
		only[id] = true
	}
	for scanned := 0; scanned < maxJournalScan && ctx.Err() == nil; {
		events, err := tx.Events(f)
		if err != nil {
			return nil, after, err
		}
		for _, e := range events {
			f.After = e.Seq
			if q.wants(&e, only) {
				found = append(found, e)
			}
			if len(found) == q.Limit {
				return found, f.After, nil
			}
		}
		if scanned += len(events); len(events) < f.Limit {
			break
		}
	}
	return found, f.After, nil
}

func (q *JournalQuery) wants(e *Event, only map[string]bool) bool {
	return (len(only) == 0 || only[e.Node]) && (q.Who == "" || e.Who == q.Who) &&
		(len(q.Kinds) == 0 || slices.Contains(q.Kinds, e.Kind)) && !e.Time.Before(q.Since)
}

// LastSeq is the seq of the newest event.
func (b *Broker) LastSeq(ctx context.Context) (last int64, err error) {
	err = b.cfg.Store.View(ctx, func(tx Tx) error {
		last, err = lastSeq(tx)
		return err
	})
	return last, err
}

// lastSeq finds the end of the journal in a few steps of growing and then halving width.
func lastSeq(tx Tx) (last int64, err error) {
	for step, growing := int64(1), true; step > 0; {
		events, err := tx.Events(EventFilter{After: last + step - 1, Limit: 1})
		switch {
		case err != nil:
			return 0, err
		case len(events) > 0:
			last = events[0].Seq
			if growing {
				step *= 2
				continue
			}
		default:
			growing = false
		}
		step /= 2
	}
	return last, nil
}
