package broker

import (
	"context"

	"muster/boot"
)

// Journal writes sightings as keepSightings does.
func (b *Broker) Journal(ctx context.Context, batch ...boot.Sighting) error {
	return b.journal(ctx, batch)
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
