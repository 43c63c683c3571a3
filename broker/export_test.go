package broker

import (
	"context"
	"time"

	"muster/boot"
)

// Journal writes sightings as keepSightings does.
func (b *Broker) Journal(ctx context.Context, batch ...boot.Sighting) error {
	return b.journal(ctx, batch)
}

// Phases folds events as Timeline does.
func Phases(events []Event, n *Node, at time.Time) ([]Phase, *Stay, int) {
	r := &run{at: -1}
	for i := range events {
		r.see(&events[i])
	}
	return r.phases(), r.now(n, at), r.boots
}
