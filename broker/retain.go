package broker

import (
	"context"
	"time"
)

// forgetEvery is how often the journal is looked through, and forgetStep how many events one transaction looks at:
// check-ins go on between.
const (
	forgetEvery = 6 * time.Hour
	forgetStep  = 1000
)

// keepJournal forgets what is older than the operator wants to keep.
func (b *Broker) keepJournal(ctx context.Context) {
	if b.cfg.KeepEvents <= 0 {
		return
	}
	t := time.NewTicker(forgetEvery)
	defer t.Stop()
	for {
		if gone, err := b.forget(ctx); gone > 0 || err != nil && ctx.Err() == nil {
			b.cfg.Log.Info("forget old events", "count", gone, "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// forget goes through the old part of the journal once.
func (b *Broker) forget(ctx context.Context) (gone int, err error) {
	before := b.now().Add(-b.cfg.KeepEvents)
	for after := int64(0); ; {
		var next int64
		var n int
		err := b.cfg.Store.Update(ctx, func(tx Tx) (err error) {
			next, n, err = tx.Forget(after, forgetStep, before)
			return err
		})
		if err != nil {
			return gone, err
		}
		if gone += n; next == 0 {
			return gone, nil
		}
		after = next
	}
}
