package broker

import (
	"context"

	"muster/boot"
)

// Journal writes sightings as keepSightings does.
func (b *Broker) Journal(ctx context.Context, batch ...boot.Sighting) error {
	return b.journal(ctx, batch)
}
