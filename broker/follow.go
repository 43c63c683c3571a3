package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// keepFollowing takes what other brokers on the store do, as they do it. When the store is away it goes on from where
// it was.
func (b *Broker) keepFollowing(ctx context.Context) {
	b.keepTrying(ctx, "follow other brokers", func(ctx context.Context) error {
		return b.cfg.Store.Follow(ctx, b.heard, func(events []Event) error { return b.heed(ctx, events) })
	})
}

// keepLeading does, in one broker of all on the store, what one does for all.
func (b *Broker) keepLeading(ctx context.Context) {
	b.keepTrying(ctx, "lead", func(ctx context.Context) error { return b.cfg.Store.Lead(ctx, b.lead) })
}

func (b *Broker) lead(ctx context.Context) {
	b.cfg.Log.Debug("this broker leads")
	if err := b.settleBusy(ctx); err != nil && ctx.Err() == nil {
		b.cfg.Log.Error("give up what was under way", "err", err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { b.keepDeadlines(ctx) })
	wg.Go(func() { b.keepJournal(ctx) })
	wg.Go(func() { b.keepHooks(ctx) })
	wg.Wait()
}

// keepTrying calls f again when it ends before ctx does, later each time it fails at once: brokers that lost one store
// do not return to it in step.
func (b *Broker) keepTrying(ctx context.Context, what string, f func(context.Context) error) {
	const soon, late = 100 * time.Millisecond, 5 * time.Second
	for pause := soon; ; pause = min(2*pause, late) {
		began := time.Now()
		err := f(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > late {
			pause = soon
		}
		b.cfg.Log.Warn("again", "what", what, "in", pause, "err", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause/2 + rand.N(pause/2)):
		}
	}
}

// heed brings this broker up to date with events of the journal, and wakes who waits for them.
func (b *Broker) heed(ctx context.Context, events []Event) error {
	var touched []string
	met := map[string]bool{}
	for _, e := range events {
		touched = append(touched, e.Node)
		if e.Kind == EventAdded || e.Kind == EventRegistered || e.Kind == EventFacts {
			met[e.Node] = true
		}
		if e.Data[retriedHook] != "" {
			b.hookRetries.Add(1)
		}
	}
	var newer *catalog
	err := b.cfg.Store.View(ctx, func(tx Tx) (err error) {
		if newer, err = b.newer(tx); err != nil {
			return err
		}
		return b.meet(tx, met)
	})
	if err != nil {
		return fmt.Errorf("take what other brokers did: %w", err)
	}
	b.install(newer)
	b.heard = events[len(events)-1].Seq
	b.bell.wake(touched)
	return nil
}

// meet learns the MACs of nodes whose agents spoke to other brokers.
func (b *Broker) meet(tx Tx, ids map[string]bool) error {
	for id := range ids {
		n, err := orNil(tx.Node(id))
		if err != nil {
			return err
		}
		if n != nil {
			b.known.learn(n)
		}
	}
	return nil
}

// newer is the catalog of the store when this broker has another; else nil.
func (b *Broker) newer(tx Tx) (*catalog, error) {
	now, err := tx.Revision()
	if err != nil || now == b.cat.Load().revision {
		return nil, err
	}
	return b.loadCatalog(tx)
}

// install puts a catalog in force that another broker made, between two updates of this one.
func (b *Broker) install(cat *catalog) {
	if cat == nil {
		return
	}
	b.catMu.Lock()
	defer b.catMu.Unlock()
	if b.cat.Load().revision < cat.revision {
		b.cat.Store(cat)
	}
}

// current is for the begin of an update: it decides by the objects as they are in its transaction, whoever changed them.
// What this broker changes itself is no update's of the same commit: replaceCatalog runs alone.
func (b *Broker) current(tx Tx) error {
	cat, err := b.newer(tx)
	if cat != nil && err == nil {
		b.cat.Store(cat)
	}
	return err
}

// meetKey tells when this broker derives its tokens from another server.key than the last one that started on the
// store: it was replaced, or a second broker was started without it. What is kept of the key tells nothing of it.
func (b *Broker) meetKey(tx Tx) error {
	mine := Object{Kind: "Server", Name: "key", Doc: []byte(`"` + b.cfg.Key.mac("same", "", 0) + `"`)}
	last, err := tx.Object(mine.Kind, mine.Name)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if bytes.Equal(last.Doc, mine.Doc) {
		return nil
	}
	if err == nil {
		e := &Event{Time: b.now(), Kind: EventKey, Who: "broker", Text: "server.key is another one than that of the broker that started before: " +
			"what one of them lets boot, the other refuses; unless the key was replaced, copy it"}
		b.cfg.Log.Warn(e.Text)
		if err := tx.Append(e); err != nil {
			return err
		}
	}
	return tx.PutObject(mine)
}
