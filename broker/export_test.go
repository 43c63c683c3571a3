package broker

import (
	"context"
	"time"

	"muster/agent/facts"
	"muster/boot"
)

// Told are the facts of a node whose agent told these.
func Told(f *facts.Facts) Facts {
	told, err := Found(f)
	if err != nil {
		panic(err) // a struct of texts and numbers
	}
	return told
}

// Journal writes sightings as keepSightings does.
func (b *Broker) Journal(ctx context.Context, batch ...boot.Sighting) error {
	return b.journal(ctx, batch)
}

// Expire looks for waits that are over, as keepDeadlines does.
func (b *Broker) Expire(ctx context.Context) error { return b.expire(ctx) }

// SettleBusy gives up what an earlier broker had under way, as one that begins to lead does.
func (b *Broker) SettleBusy(ctx context.Context) error { return b.settleBusy(ctx) }

// Walk takes a stored node along edges of the table, as a broker that is stopped in the middle leaves it.
func (b *Broker) Walk(ctx context.Context, id string, verbs ...Verb) error {
	return b.update(ctx, func(tx Tx) ([]string, error) {
		n, err := tx.Node(id)
		if err != nil {
			return nil, err
		}
		events, err := b.walk(n, "test", "", verbs...)
		if err != nil {
			return nil, err
		}
		return nil, b.change(tx, n, events...)
	})
}

// Forget goes through the journal as keepJournal does.
func (b *Broker) Forget(ctx context.Context) (int, error) { return b.forget(ctx) }

// Learned waits until the broker knows a MAC.
func (b *Broker) Learned(ctx context.Context, m boot.MAC) bool {
	for {
		rung := b.bell.hear("")
		if b.Known(m) {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-rung:
		}
	}
}

// Phases folds events as Timeline does.
func Phases(events []Event, n *Node, at time.Time) ([]Phase, *Stay, int) {
	r := &run{at: -1}
	for i := range events {
		r.see(&events[i])
	}
	return r.phases(), r.now(n, at), r.boots
}

// TakeTurns begins what waits for a repo, as keepDeadlines does.
func (b *Broker) TakeTurns(ctx context.Context) error { return b.takeTurns(ctx) }
